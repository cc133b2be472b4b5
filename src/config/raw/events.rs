//! `events` as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Secret};

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Sent by POST, signed.
    pub webhook: Option<At<EventsWebhook>>,
    /// Added to a stream of Redis or Valkey.
    pub redis: Option<At<EventsRedis>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsWebhook {
    /// `https://..` or `http://..`.
    #[schemars(required)]
    pub url: Option<At<Secret>>,
    /// What bodies are signed with, at least 16 characters: HMAC-SHA256 over `TIME.BODY`, in the header `x-tollgate-signature`.
    #[schemars(required)]
    pub secret: Option<At<Secret>>,
    /// What is told of. Default: `[budget]`.
    pub on: Option<Vec<EventKind>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsRedis {
    /// `redis://..` or `rediss://..`.
    #[schemars(required)]
    pub url: Option<At<Secret>>,
    /// Its key. Default: `tollgate:events`.
    pub stream: Option<At<String>>,
    /// What is told of. Default: `[budget]`.
    pub on: Option<Vec<EventKind>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A budget has passed one of its soft percents.
    Budget,
    /// A try was booked.
    Cost,
}
