//! A key that is made while the gateway runs, as typed: the words of a key of the file, without those that say who it is and how long it lasts.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Caps, KeyBudget, KeyLimits, Map, OneOrMany};

/// What a key may do.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyWords {
    /// Models this key may use; `*` stands for any characters.
    pub models: Option<Vec<At<String>>>,
    /// Whether this key may use paths that Tollgate does not read.
    pub opaque: Option<bool>,
    /// Where calls wait for a provider, keys get turns in this proportion.
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: Option<u32>,
    /// Fixed tags of each call.
    pub tags: Option<Map<At<String>>>,
    /// How much it may use.
    pub limits: Option<At<KeyLimits>>,
    /// What it may spend: one budget, or a list of them that must all have enough.
    pub budget: Option<OneOrMany<At<KeyBudget>>>,
    /// What one call may be at most.
    pub caps: Option<Caps>,
}
