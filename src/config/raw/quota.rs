//! Limits, budgets and caps as typed: on a key, and at the top over whom they `match`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Allowance, At, Dollars, Map, OneOrMany, Percent, Span};

/// What one key may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyLimits {
    /// Calls a minute. Each of these limits is a bucket of that size that fills up evenly.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rpm: Option<u64>,
    /// Calls an hour.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rph: Option<u64>,
    /// Calls a day.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rpd: Option<u64>,
    /// Tokens a minute, of input and output together.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tpm: Option<u64>,
    /// Tokens an hour.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tph: Option<u64>,
    /// Tokens a day.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tpd: Option<u64>,
    /// Calls at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u64>,
    /// Calls that may come in one go: the size of the bucket of the shortest of `rpm`, `rph`, `rpd`. Default: that limit.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<At<u64>>,
    /// What holds while replicas cannot reach the counters they share. Default: `local`.
    pub on_outage: Option<OnOutage>,
    /// `true`: counted and told, never refused. Default: `false`.
    pub shadow: Option<bool>,
}

/// What a key may use, where it does not stand in the file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyTerms {
    /// How much it may use.
    pub limits: Option<At<KeyLimits>>,
    /// What it may spend: one budget, or a list of them that must all have enough.
    pub budget: Option<OneOrMany<At<KeyBudget>>>,
    /// What one call may be at most.
    pub caps: Option<Caps>,
}

/// A limit that is shared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Whom it is for: tags by name (`team: search`), `key`, `model` (as asked for, `*` is any run of characters), `provider`. All must fit.
    /// A value that is `*` alone: each value has a limit of its own. Default: everybody together.
    #[serde(rename = "match")]
    pub matches: Option<Map<At<String>>>,
    /// Calls a minute. Each of these limits is a bucket of that size that fills up evenly.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rpm: Option<u64>,
    /// Calls an hour.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rph: Option<u64>,
    /// Calls a day.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rpd: Option<u64>,
    /// Tokens a minute, of input and output together.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tpm: Option<u64>,
    /// Tokens an hour.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tph: Option<u64>,
    /// Tokens a day.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tpd: Option<u64>,
    /// Calls at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u64>,
    /// Calls that may come in one go: the size of the bucket of the shortest of `rpm`, `rph`, `rpd`. Default: that limit.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub burst: Option<At<u64>>,
    /// What holds while replicas cannot reach the counters they share. Default: `local`.
    pub on_outage: Option<OnOutage>,
    /// `true`: counted and told, never refused. Default: `false`.
    pub shadow: Option<bool>,
}

/// What one key may spend.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyBudget {
    /// US dollars: a ceiling that is never passed.
    #[schemars(required)]
    pub usd: Option<At<Dollars>>,
    /// `day`, `week` (from Monday), `month`, `lifetime`, or `{rolling: 30d}`: the last so much time.
    #[schemars(required)]
    pub per: Option<At<Per>>,
    /// Percents at which an event is sent, once a period. Default: `[80, 95]`.
    pub soft: Option<OneOrMany<At<Percent>>>,
    /// The time zone in which days, weeks and months begin, e.g. `Europe/Berlin`. Default: `UTC`.
    pub zone: Option<At<String>>,
    /// What holds while replicas cannot reach the counters they share. Default: `closed`.
    pub on_outage: Option<OnOutage>,
    /// What may still be spent then when it is `closed`: a share (`1%`) or US dollars (`0.50`). Default: 1 %, at most a dollar.
    pub allowance: Option<At<Allowance>>,
    /// `true`: counted and told, never refused. Default: `false`.
    pub shadow: Option<bool>,
}

/// A budget that is shared.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Whom it is for, as in `limits`. Default: everybody together.
    #[serde(rename = "match")]
    pub matches: Option<Map<At<String>>>,
    /// US dollars: a ceiling that is never passed.
    #[schemars(required)]
    pub usd: Option<At<Dollars>>,
    /// `day`, `week` (from Monday), `month`, `lifetime`, or `{rolling: 30d}`: the last so much time.
    #[schemars(required)]
    pub per: Option<At<Per>>,
    /// Percents at which an event is sent, once a period. Default: `[80, 95]`.
    pub soft: Option<OneOrMany<At<Percent>>>,
    /// The time zone in which days, weeks and months begin, e.g. `Europe/Berlin`. Default: `UTC`.
    pub zone: Option<At<String>>,
    /// What holds while replicas cannot reach the counters they share. Default: `closed`.
    pub on_outage: Option<OnOutage>,
    /// What may still be spent then when it is `closed`: a share (`1%`) or US dollars (`0.50`). Default: 1 %, at most a dollar.
    pub allowance: Option<At<Allowance>>,
    /// `true`: counted and told, never refused. Default: `false`.
    pub shadow: Option<bool>,
}

/// What one call may be at most; a larger one is refused.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Caps {
    /// Tokens of input, and of output as far as is asked for.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub tokens: Option<u64>,
    /// US dollars, in the worst case.
    pub usd: Option<At<Dollars>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnOutage {
    /// Each replica goes on with its share.
    Local,
    /// Nothing is refused.
    Open,
    /// Everything is; of a budget, after its `allowance`.
    Closed,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Per {
    pub word: Option<String>,
    pub rolling: Option<At<Span>>,
}

// === impl Per ===

impl JsonSchema for Per {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Per".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut rolling = generator.subschema_for::<Span>();
        rolling.insert("description".into(), "The last so much time: hours or days, e.g. `24h` or `30d`.".into());
        json_schema!({"anyOf": [
            {"enum": ["day", "week", "month", "lifetime"]},
            {
                "type": "object",
                "properties": {"rolling": rolling},
                "required": ["rolling"],
                "additionalProperties": false
            }
        ]})
    }
}
