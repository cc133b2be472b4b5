//! A process is killed at random moments, fifty times: what it was told is reserved or settled is in the ledger, once.

use super::*;
