//! Databases that are locked or away, disks that are full, files that are torn: nothing is lost, and who cannot be served is told at once.

use super::*;
