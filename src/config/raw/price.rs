//! Prices as typed: those of a model or a target, the key `prices`, and a file of prices (`conf/models.yaml` is one).

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{At, Info, Map, OneOrMany, Usd};

/// What a model costs, in US dollars per million tokens, six decimals at most.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Only in a file of prices: the names it holds for.
    #[serde(rename = "for")]
    #[schemars(skip)]
    pub names: Option<Vec<String>>,
    /// US dollars per million tokens of input, e.g. `2.50`.
    pub input: Option<Usd>,
    /// The same for input that the provider had in its cache. Default: as `input`.
    pub cached_input: Option<Usd>,
    /// For input that is written to a cache, for five minutes or where there is one such price only. Default: as `input`.
    pub cache_write_5m: Option<Usd>,
    /// For input that is written to a cache for an hour. Default: as `cache_write_5m`.
    pub cache_write_1h: Option<Usd>,
    /// The same for output. `0` for embeddings.
    pub output: Option<Usd>,
    /// For output that is thought and not shown. Default: as `output`.
    pub reasoning: Option<Usd>,
    /// For audio that goes in. Default: as `input`.
    pub audio_input: Option<Usd>,
    /// For audio that comes out. Default: as `output`.
    pub audio_output: Option<Usd>,
    /// For images that go in, where these tokens are counted apart. Default: as `input`.
    pub image_input: Option<Usd>,
    /// For images that come out, where these tokens are counted apart. Default: as `output`.
    pub image_output: Option<Usd>,
    /// Per thousand images that are made, where they are not paid by token.
    pub images: Option<Usd>,
    /// Per thousand calls, whatever they are about. Default: no such fee.
    pub requests: Option<Usd>,
    /// Per thousand tools that the provider runs itself (web searches). Without it, a call with one has no price.
    pub tool_calls: Option<Usd>,
    /// Per thousand searches (rerank).
    pub searches: Option<Usd>,
    /// What each token of a call costs once its prompt is longer.
    pub above: Option<At<Vec<At<PriceStep>>>>,
    /// What tokens cost in other service tiers.
    pub services: Option<At<Vec<At<PriceStep>>>>,
    /// So many percent more for the tokens of a call that asks to stay in a region (`inference_geo`). Default: such a call has no price.
    #[schemars(range(max = 100))]
    pub in_region: Option<u32>,
}

/// Rates that count instead of the others.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceStep {
    /// Under `services`: `flex`, `priority`, `batch` or `fast`.
    pub tier: Option<PriceService>,
    /// For calls whose prompt has more tokens than these. Under `services` the default is 0.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub tokens: Option<u64>,
    /// US dollars per million tokens of input.
    pub input: Option<Usd>,
    /// Default: as `input`.
    pub cached_input: Option<Usd>,
    /// Default: dearer than `input` by as much as it is otherwise.
    pub cache_write_5m: Option<Usd>,
    /// Default: dearer than `input` by as much as it is otherwise.
    pub cache_write_1h: Option<Usd>,
    /// US dollars per million tokens of output.
    pub output: Option<Usd>,
    /// Default: dearer than `output` by as much as it is otherwise.
    pub reasoning: Option<Usd>,
    /// Default: dearer than `input` by as much as it is otherwise.
    pub audio_input: Option<Usd>,
    /// Default: dearer than `output` by as much as it is otherwise.
    pub audio_output: Option<Usd>,
    /// Default: dearer than `input` by as much as it is otherwise.
    pub image_input: Option<Usd>,
    /// Default: dearer than `output` by as much as it is otherwise.
    pub image_output: Option<Usd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriceService {
    Flex,
    Priority,
    Batch,
    Fast,
}

/// Where prices come from beside the table that is compiled in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Files of prices: of Tollgate's own form, LiteLLM's `model_prices_and_context_window.json`, or models.dev's `api.json`. Of several that
    /// price a model the last counts. Default: none.
    pub files: Option<Vec<At<String>>>,
    /// What happens to calls whose price is not known. Those of keys with a budget are refused in any case. Default: `allow`.
    pub unpriced: Option<Unpriced>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unpriced {
    /// They are made, and counted as unpriced.
    Allow,
    /// The same, with a warning in the log.
    Warn,
    /// They are refused.
    Refuse,
}

/// A file of prices.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceFile {
    pub version: Option<At<String>>,
    /// By kind of provider.
    pub kinds: Option<Map<PriceKind>>,
    /// By name of a provider of the configuration.
    pub providers: Option<Map<PriceKind>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceKind {
    pub like: Option<At<String>>,
    pub also: Option<Vec<String>>,
    pub source: Option<String>,
    pub tool_calls: Option<Usd>,
    #[schemars(range(max = 100))]
    pub in_region: Option<u32>,
    pub rows: Option<Vec<At<PriceRow>>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    #[serde(rename = "match")]
    #[schemars(required)]
    pub patterns: Option<OneOrMany<At<String>>>,
    pub like: Option<At<String>>,
    pub info: Option<Info>,
    pub prices: Option<OneOrMany<At<PriceFor>>>,
    #[schemars(range(max = 100))]
    pub regional: Option<u32>,
    pub checked: Option<String>,
}

/// A price, and the names it holds for.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct PriceFor(pub Price);

/// The JSON Schema of a file of prices.
pub fn schema() -> Schema {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<PriceFile>()
}

// === impl PriceFor ===

impl JsonSchema for PriceFor {
    fn schema_name() -> Cow<'static, str> {
        "PriceFor".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Price::json_schema(generator);
        let names = json_schema!({"type": "array", "items": {"type": "string"}});
        if let Some(properties) = schema.get_mut("properties").and_then(|properties| properties.as_object_mut()) {
            properties.insert("for".to_owned(), names.to_value());
        }
        schema
    }
}
