//! What is told of spending: sums of the ledger, one call's arithmetic, a period at other prices, budgets as they stand.
//!
//! The types are what is read, at the admin port and at the command line: a member's name is a promise (docs/usage.md). Money is told twice: as US
//! dollars in an exact decimal text, and as whole 1e-9 dollars. Asks the ledger and reckons with the meter; writes nothing.

pub mod ask;
mod budget;
mod explain;
mod reprice;
mod usage;

pub use budget::{BudgetShown, Budgets};
pub use explain::{Attempt, Basis, Explained, explain};
pub use reprice::{Change, Repriced, reprice};
pub use usage::{Row, Usage, usage};

use crate::units::{NanoUsd, PicoUsd};

/// US dollars, to the last digit.
fn usd(nano: NanoUsd) -> PicoUsd {
    PicoUsd::from(nano)
}
