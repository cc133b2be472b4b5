//! Counts with a meaning, so that two numbers side by side cannot be swapped.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

/// Model tokens, as a provider bills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct PicoUsdPerToken(pub i64);

/// An amount: 1e-9 USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
pub struct NanoUsd(pub i64);

/// An amount before it is rounded: 1e-12 USD. Shown as US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PicoUsd(pub i128);

// === impl PicoUsdPerToken ===

impl PicoUsdPerToken {
    /// What so many tokens cost, rounded up: an estimate never says less than the bill.
    pub fn of(self, tokens: Tokens) -> NanoUsd {
        PicoUsd(i128::from(self.0) * i128::from(tokens.0)).rounded_up()
    }
}

// === impl PicoUsd ===

impl PicoUsd {
    /// To what can be booked; what is more than that is the most that can be.
    pub fn rounded_up(self) -> NanoUsd {
        let nano = self.0.div_euclid(1000) + i128::from(self.0.rem_euclid(1000) > 0);
        NanoUsd(i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl From<NanoUsd> for PicoUsd {
    fn from(nano: NanoUsd) -> PicoUsd {
        PicoUsd(i128::from(nano.0) * 1000)
    }
}

impl fmt::Display for PicoUsd {
    /// The shortest text that is exact: `0.00125`, `3`, `-0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ONE: u128 = 1_000_000_000_000;
        let (whole, rest) = (self.0.unsigned_abs() / ONE, self.0.unsigned_abs() % ONE);
        let sign = if self.0 < 0 { "-" } else { "" };
        let fraction = format!("{rest:012}");
        match fraction.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            fraction => write!(f, "{sign}{whole}.{fraction}"),
        }
    }
}

impl serde::Serialize for PicoUsd {
    /// As text: a number of JSON is a float for most who read it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_shown_to_its_last_digit() {
        for (pico, text) in [
            (0, "0"),
            (1, "0.000000000001"),
            (1_250_000_000, "0.00125"),
            (3_000_000_000_000, "3"),
            (-500_000_000_000, "-0.5"),
            (i128::MIN, "-170141183460469231731687303.715884105728"),
        ] {
            assert_eq!(PicoUsd(pico).to_string(), text);
        }
    }

    #[test]
    fn amounts_are_rounded_up_and_saturate() {
        for (pico, nano) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2), (-1, 0), (-1000, -1)] {
            assert_eq!(PicoUsd(pico).rounded_up(), NanoUsd(nano), "{pico}");
        }
        assert_eq!(PicoUsd(i128::MAX).rounded_up(), NanoUsd(i64::MAX));
        assert_eq!(PicoUsd(i128::MIN).rounded_up(), NanoUsd(i64::MIN));
        assert_eq!(PicoUsdPerToken(i64::MAX).of(Tokens(u64::MAX)), NanoUsd(i64::MAX));
        assert_eq!(PicoUsdPerToken(18_750).of(Tokens(3)), NanoUsd(57));
    }
}
