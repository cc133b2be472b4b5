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

/// A rate: 1e-12 USD a token, exact: $0.01875 per million tokens is 18 750.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PicoUsdPerToken(pub i64);

/// An amount: 1e-9 USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
pub struct NanoUsd(pub i64);

impl PicoUsdPerToken {
    /// What so many tokens cost, rounded up: an estimate never says less than the bill.
    pub fn of(self, tokens: Tokens) -> NanoUsd {
        let pico = i128::from(self.0) * i128::from(tokens.0);
        NanoUsd(i64::try_from(pico.div_euclid(1000) + i128::from(pico.rem_euclid(1000) > 0)).unwrap_or(i64::MAX))
    }
}
