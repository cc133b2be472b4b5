//! Counts with a meaning, so that two numbers side by side cannot be swapped.

use std::iter::Sum;
use std::ops::AddAssign;

/// Model tokens, as a provider bills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
pub struct Tokens(pub u64);

impl AddAssign for Tokens {
    fn add_assign(&mut self, other: Tokens) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl Sum for Tokens {
    fn sum<I: Iterator<Item = Tokens>>(tokens: I) -> Tokens {
        tokens.fold(Tokens(0), |mut sum, t| {
            sum += t;
            sum
        })
    }
}
