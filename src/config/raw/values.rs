//! What one value may be: durations, sizes, shares, prices, secrets. How a text is read is `units`' business.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::config::secret::Secret;
use crate::config::units;
use crate::units::{NanoUsd, PicoUsdPerToken};

/// A duration as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

/// A number of bytes as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// A share in percent as typed: 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(pub u8);

/// US dollars per million tokens as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usd(pub PicoUsdPerToken);

/// US dollars as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dollars(pub NanoUsd);

/// A part of a budget as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    Share(u8),
    Usd(NanoUsd),
}

/// A time over which something is summed up, as typed: hours or days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A failure that is worth another try, as typed: a word, a status, or a class of statuses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct RetryWord(pub String);

// === impl Period, Size, Percent, Usd, Dollars, Allowance, Span, RetryWord, Secret ===

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        units::duration(&text).map(Period).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        units::size(&text).map(Size).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        units::percent(&text).map(Percent).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        units::price(&text).map(Usd).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        units::dollars(&text).map(Dollars).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Allowance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let read = if text.trim_end().ends_with('%') {
            units::percent(&text).map(Allowance::Share)
        } else {
            units::dollars(&text).map(Allowance::Usd)
        };
        read.map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        units::span(&text).map(Span).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

macro_rules! inline_schema {
    ($type:ty, $name:literal, $($schema:tt)*) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($($schema)*)
            }
        }
    };
}

inline_schema!(Period, "Period", {"type": ["string", "integer"], "format": "duration"});
inline_schema!(Size, "Size", {"type": ["string", "integer"], "format": "size"});
inline_schema!(Percent, "Percent", {"type": ["string", "integer"], "format": "percentage"});
inline_schema!(Usd, "Usd", {"type": ["string", "number"], "format": "price"});
inline_schema!(Dollars, "Dollars", {"type": ["string", "number"], "format": "dollars"});
inline_schema!(Allowance, "Allowance", {"type": ["string", "number"], "format": "allowance"});
inline_schema!(Span, "Span", {"type": "string", "format": "span"});
inline_schema!(RetryWord, "RetryWord", {
    "type": ["string", "integer"],
    "pattern": "^(connect|timeout|broken|[45][0-9][0-9]|[45]xx)$",
    "minimum": 400,
    "maximum": 599
});
inline_schema!(Secret, "Secret", {"type": "string", "format": "secret"});
