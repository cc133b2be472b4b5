//! `routes:` as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Map, OneOrMany};

/// Sends some calls to another model than they ask for. The first that matches is applied, once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Shown by `tollgate explain` and in logs. Default: `routes[0]`, by its place.
    pub name: Option<At<String>>,
    /// Which calls: all that is written must fit; of a list, one; `*` stands for any characters. Default: every call.
    #[serde(rename = "match")]
    pub matches: Option<RouteMatch>,
    /// And only where this CEL expression is true. It may use `request.model`, `request.operation`, `request.path`, `request.stream`,
    /// `request.headers`, `request.tokens` (of the input, estimated), `request.needs` (`vision`, `audio`, `documents`, `tools`,
    /// `json_schema`, `reasoning`), `request.tools` (names), `key.name` and `key.tags`. Where it cannot be evaluated, the route does not match.
    pub when: Option<At<String>>,
    /// What the call is answered by: a name under `models`, or `provider/model`. A key must be allowed the name its client asked for, not this one.
    #[schemars(required)]
    pub model: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteMatch {
    /// What the client asked for; it need not be an entry.
    pub model: Option<OneOrMany<At<String>>>,
    /// Names of virtual keys.
    pub key: Option<OneOrMany<At<String>>>,
    /// Header fields of the call, but for those with credentials.
    pub header: Option<Map<OneOrMany<At<String>>>>,
    /// Tags of the virtual key.
    pub tag: Option<Map<OneOrMany<At<String>>>>,
    /// Paths of the call, e.g. `/v1/messages*`.
    pub path: Option<OneOrMany<At<String>>>,
}
