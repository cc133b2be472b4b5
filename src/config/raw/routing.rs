//! An entry of `models` as typed, and how long and how often a call is tried.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{At, Percent, Period, Price, RetryWord, or_off, short_form};

#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// For the TCP connection. Default: `5s`.
    pub connect: Option<At<Period>>,
    /// For the TLS handshake. Default: the same as a `connect` written beside it, else `5s`.
    pub tls: Option<At<Period>>,
    /// From the end of the request to the reply's headers. Default: `5m`, since reasoning models think first.
    pub first_byte: Option<At<Period>>,
    /// From the end of the request to the first output of a stream; of a whole answer, to its end. Default: `10m`.
    pub first_token: Option<At<Period>>,
    /// Between two pieces of the reply. Default: `2m`.
    pub idle: Option<At<Period>>,
    /// One write to a provider that does not read. Default: `30s`.
    pub write: Option<At<Period>>,
    /// For the whole call, all tries and waits included. Default: `10m`.
    pub total: Option<At<Period>>,
}

#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tries in all, the first one included. Default: one for each target.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: Option<u32>,
    /// What is worth another try: `connect` (no connection), `timeout` (no answer in time), `broken` (an answer that breaks off), a
    /// status such as `429`, or `4xx`, `5xx`. Default: `[connect, timeout, broken, 408, 409, 429, 5xx]`.
    pub on: Option<Vec<At<RetryWord>>>,
    /// The first wait before a target is tried again; it doubles from then on. Default: `250ms`.
    pub backoff: Option<At<Period>>,
    /// The longest of these waits. Default: `8s`.
    pub max_backoff: Option<At<Period>>,
    /// Share of the calls that may be tried again at a target that has already failed them. Default: `10%`.
    pub budget: Option<Percent>,
}

#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = or_off)]
pub struct Breaker {
    #[schemars(skip)]
    pub off: Option<String>,
    /// Failures in a row that open it. Default: 5. `0`: none do.
    #[schemars(range(max = 1_000_000))]
    pub failures: Option<u32>,
    /// How long it stays open; a provider's own `Retry-After` counts where it is longer. Default: `30s`.
    pub cooldown: Option<At<Period>>,
    /// Calls let through at once to find out whether it works again; so many successes in a row close it. Default: 1.
    #[schemars(range(min = 1, max = 1_000))]
    pub probes: Option<u32>,
    /// Or the share of failures within a window opens it; `off`: it does not. Default: `off`.
    pub rate: Option<FailureRate>,
}

#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = or_off)]
pub struct FailureRate {
    #[schemars(skip)]
    pub off: Option<String>,
    /// Share of failures that opens the breaker. Default: `50%`.
    pub percent: Option<At<Percent>>,
    /// The time that is looked at. Default: `60s`.
    pub window: Option<At<Period>>,
    /// Fewer calls than these say nothing. Default: 20.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLoss {
    /// The call is made; the client reads what was left out in `x-tollgate-dropped`. What would change the question is refused all
    /// the same.
    Report,
    /// The call is refused.
    Refuse,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Model {
    /// `provider/model` (a name under `providers`, and that provider's own name for the model), or the name of another entry, which
    /// this one is then another name of.
    pub target: Option<At<String>>,
    /// Instead of `target`: several of them.
    pub targets: Option<At<Vec<At<Target>>>>,
    /// In which order the targets are tried. Default: `priority`.
    pub strategy: Option<Strategy>,
    /// What keeps a conversation at the target that has its prefix in its cache: `off`, `prefix` (what stays the same from turn to
    /// turn), `session` (what the client calls its session), or `{header: NAME}`. Default: `off`.
    pub affinity: Option<Affinity>,
    /// Deadlines for this model.
    pub timeouts: Option<Timeouts>,
    /// How often a call for this model is tried.
    pub retry: Option<Retry>,
    /// When a target of this model is left alone for a while, or `off`.
    pub breaker: Option<Breaker>,
    /// What happens when a call for this model cannot be translated whole. Default: `on_loss` at the top.
    pub on_loss: Option<OnLoss>,
    /// A second target is asked when the first takes long: `{after: p95}`, `{after: 2s}`, or `off`. Default: `off`.
    pub hedge: Option<Hedge>,
    /// Models that are asked instead when every target must refuse.
    pub fallback: Option<Fallback>,
    /// `true`: a chat stream that breaks after output began is taken up by the next target. Default: `false`.
    #[serde(rename = "continue")]
    pub resume: Option<bool>,
    /// What becomes of a provider's answer when the client leaves before its end. Default: `cancel`.
    pub disconnect: Option<Disconnect>,
    /// What its targets can do, over what is known of them.
    pub info: Option<Info>,
    /// What its targets cost, over what is known of them.
    pub price: Option<At<Price>>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Disconnect {
    /// The provider is left too. Of a stream what came is booked; of a whole answer the worst case.
    Cancel,
    /// It is read to its end, for a minute at most, and booked as the provider tells it.
    Drain,
    /// The provider is left, and the worst case is booked.
    Estimate,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Target {
    /// `provider/model`, or the name of another entry, whose targets then stand here.
    #[schemars(required)]
    pub model: Option<At<String>>,
    /// 1 is tried first. Default: 1.
    #[schemars(range(min = 1, max = 1_000))]
    pub priority: Option<u32>,
    /// Share of the calls among targets of one priority. Default: 1. `0`: only when nothing else is left.
    #[schemars(range(max = 1_000_000))]
    pub weight: Option<At<u32>>,
    /// Deadlines for this target.
    pub timeouts: Option<Timeouts>,
    /// When this target is left alone for a while, or `off`.
    pub breaker: Option<Breaker>,
    /// What it can do, over what is known of it.
    pub info: Option<Info>,
    /// What it costs, over what is known of it.
    pub price: Option<At<Price>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By their priority; those of one priority take turns by weight.
    Priority,
    /// By weight, whatever the priority.
    Weighted,
    /// The cheapest for this call first.
    Cost,
    /// The one that answers soonest first.
    Latency,
    /// The one with the fewest calls in flight first.
    LeastBusy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    pub word: Option<String>,
    pub header: Option<At<String>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Hedge {
    /// A duration, or `p95`: the 95th percentile of the first target's own time to first token.
    #[schemars(required)]
    pub after: Option<At<String>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Asked when the request is too long for every target: the name of an entry, or `provider/model`. Default: none.
    pub context_length: Option<At<String>>,
    /// Asked when a provider's content filter refuses. Default: none.
    pub content_filter: Option<At<String>>,
}

#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Info {
    /// Tokens of input and output together.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub context: Option<u64>,
    /// Tokens of output.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_output: Option<u64>,
    /// Whether it takes images.
    pub vision: Option<bool>,
    /// Whether it takes audio.
    pub audio: Option<bool>,
    /// Whether it takes documents (PDF).
    pub documents: Option<bool>,
    /// Whether it calls tools.
    pub tools: Option<bool>,
    /// Whether its answer can be held to a JSON schema.
    pub json_schema: Option<bool>,
    /// Whether it can be told to think first.
    pub reasoning: Option<bool>,
}

// === impl Affinity ===

impl JsonSchema for Affinity {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Affinity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"enum": ["off", "prefix", "session"]},
            {
                "type": "object",
                "properties": {
                    "header": {"type": "string", "description": "The request header that names the conversation."}
                },
                "required": ["header"],
                "additionalProperties": false
            }
        ]})
    }
}
