//! The configuration file as typed. Field docs are the descriptions in the JSON Schema; `conf/tollgate.yaml` shows each one.
//!
//! Nothing is judged here beyond types: defaults, references and ranges are `check`'s business. A struct's first field is what
//! its short form stands for (see `decode`). Kept free of `Serialize`: this holds secrets. Beside this file: `jwt`, `provider`, `routing`
//! (models, and how long and how often a call is tried), `values` (what one value may be).

mod events;
mod jwt;
pub mod price;
mod provider;
mod quota;
mod route;
mod routing;
mod store;
mod stored;
mod values;

use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

pub use super::decode::{At, Map, OneOrMany};
use super::secret::Secret;
pub use events::{EventKind, Events, EventsRedis, EventsWebhook};
pub use jwt::Jwt;
pub use price::{Price, PriceService, PriceStep, Prices, Unpriced};
pub use provider::{
    Balance, Ejection, Endpoint, Entra, Health, Http, Limits, Manners, Provider, ProviderAuth, Queue, StreamUsage,
    ThinkingForm,
};
pub use quota::{Budget, Caps, KeyBudget, KeyLimits, KeyTerms, Limit, OnOutage, Per};
pub use route::{Route, RouteMatch};
pub use routing::{
    Affinity, Breaker, Disconnect, FailureRate, Fallback, Hedge, Info, Model, OnLoss, Retry, Strategy, Target, Timeouts,
};
pub use store::{Store, StoreDurability};
pub use stored::KeyWords;
pub use values::{Allowance, Dollars, Percent, Period, RetryWord, Size, Span, Usd};

/// Tollgate's configuration file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Data port: where clients send their requests. `address:port`, or `{address, tls}`, or a list of those. Default:
    /// `127.0.0.1:4000`. Without `keys`, `auth.jwt` and `auth.pepper`, only loopback addresses are allowed.
    pub listen: Option<OneOrMany<At<Listener>>>,
    /// Admin port: `/metrics`, `/healthz`, `/readyz` and `/api/*`. `off`, or `{listen, token}`.
    pub admin: Option<At<Admin>>,
    /// Limits and deadlines of the data port.
    pub server: Option<Server>,
    /// The access log and the program's own log.
    pub log: Option<Log>,
    /// Deadlines of a call to a provider; a provider, a model or a target may have its own.
    pub timeouts: Option<Timeouts>,
    /// How often a call is tried; a model may have its own.
    pub retry: Option<Retry>,
    /// When a target that fails is left alone for a while, or `off`; a provider, a model or a target may have its own.
    pub breaker: Option<Breaker>,
    /// Who answers: name to provider.
    pub providers: Option<Map<Provider>>,
    /// Where paths of the OpenAI API go that Tollgate does not read (files, audio, images, ...).
    pub opaque: Option<Opaque>,
    /// What clients may ask for in `model`: name to `provider/model`, to the name of another entry, or to a group of them. One `*` in the
    /// name stands for any characters, and for the same ones in the targets.
    pub models: Option<Map<Model>>,
    /// Where prices come from, and what happens to calls without one.
    pub prices: Option<Prices>,
    /// Calls that go to another model than they ask for. The first that matches is applied.
    pub routes: Option<Vec<At<Route>>>,
    /// `true`: only the names under `models` are served; `provider/model` is refused. Default: `false`.
    pub strict: Option<bool>,
    /// What happens when a call is translated for a provider that cannot be told all of it; a model may have its own.
    /// Default: `report`.
    pub on_loss: Option<OnLoss>,
    /// Where it is written down what calls cost: `sqlite:FILE`, `postgres://..`, `redis://..` (for the counters), `off`, or
    /// `{ledger, counters, ..}`. Read at the start. Default: `off`; where there is a budget, `sqlite:tollgate.db`, so
    /// that it does not begin anew at each start.
    pub store: Option<At<Store>>,
    /// Who is told of budgets that run low, and of what calls cost. Read at the start. Default: nobody.
    pub events: Option<Events>,
    /// The virtual keys that clients show. Without any, and without `auth.jwt` and `auth.pepper`, everybody on this machine is let in (loopback only).
    pub keys: Option<Vec<At<Key>>>,
    /// How virtual keys are kept, how wrong ones are slowed down, and whose tokens are taken in their place.
    pub auth: Option<Auth>,
    /// How much may be used, over keys, tags, models and providers. What one key may use can also stand on the key.
    pub limits: Option<Vec<At<Limit>>>,
    /// What may be spent, over keys, tags, models and providers. What one key may spend can also stand on the key.
    pub budgets: Option<Vec<At<Budget>>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Listener {
    /// IP address and port, e.g. `0.0.0.0:4000` or `[::1]:4000`.
    #[schemars(required)]
    pub address: Option<At<String>>,
    /// Serve TLS with these files.
    pub tls: Option<Tls>,
}

/// PEM files, relative to the folder of this file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, leaf first.
    #[schemars(required)]
    pub cert: Option<At<String>>,
    /// Private key of the leaf.
    #[schemars(required)]
    pub key: Option<At<String>>,
    /// Authorities of client certificates; when set, a client must show one (mutual TLS).
    pub client_ca: Option<At<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Admin {
    /// IP address and port, or `off`. Default: `127.0.0.1:4001`.
    pub listen: Option<At<String>>,
    /// Token for `/api/*`, at least 16 characters. Without one the admin port must be on loopback, and `/api/*` is open.
    pub token: Option<At<Secret>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Worker threads. Default: the cores this process may use.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u32>,
    /// Largest request body that is read whole. Default: `32MB`.
    pub body_limit: Option<At<Size>>,
    /// Request bytes held in memory at once, over all calls. Default: `512MB`.
    pub buffer_limit: Option<At<Size>>,
    /// Open client connections. Default: 20000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: Option<u32>,
    /// Open connections from one address. Default: 10000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_per_address: Option<u32>,
    /// From the connection to its first byte. Default: `5s`.
    pub first_byte_timeout: Option<At<Period>>,
    /// From the first byte to the end of the headers. Default: `10s`.
    pub header_timeout: Option<At<Period>>,
    /// For the whole request body. Default: `60s`.
    pub body_timeout: Option<At<Period>>,
    /// Slowest upload after the first 5 seconds, per second. Default: `1KB`. `0`: no limit.
    pub body_min_rate: Option<At<Size>>,
    /// One write to a client that does not read. Default: `60s`.
    pub write_timeout: Option<At<Period>>,
    /// Idle connection between requests. Default: `60s`.
    pub keepalive_timeout: Option<At<Period>>,
    /// After this age a connection is closed at the end of its request. Default: `1h`.
    pub connection_age: Option<At<Period>>,
    /// How long running calls may take to end after SIGTERM. Default: `300s`.
    pub drain_timeout: Option<At<Period>>,
    /// How often a silent event stream gets a comment, so that proxies keep it open. Default: `15s`. `0`: never.
    pub heartbeat: Option<At<Period>>,
    /// Peers (addresses or CIDR blocks) whose `X-Forwarded-For` is believed. Default: none.
    pub trusted_proxies: Option<Vec<At<String>>>,
    /// Host names this gateway answers to. Default: any.
    pub hosts: Option<Vec<At<String>>>,
    /// UNIX socket over which listeners are handed to the next process (SIGQUIT). Default: `upgrade.sock` in systemd's
    /// runtime folder, else `tollgate-upgrade.sock` in the user's (`XDG_RUNTIME_DIR`), else `/run/tollgate/upgrade.sock`.
    pub upgrade_socket: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// One line per call: `stdout`, `stderr`, `off`, or a file. Default: `stdout`.
    pub access: Option<At<String>>,
    /// Level or filter of the program's own log (on stderr), e.g. `info` or `tollgate=debug,warn`. Default: `info`.
    pub level: Option<At<String>>,
    /// How lines look. Default: `auto`.
    pub format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opaque {
    /// A name under `providers`. Default: the first provider of kind `openai`.
    pub provider: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Shown in logs and metrics.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// The key itself: 16 or more printable ASCII characters without spaces. Only its hash is kept.
    pub key: Option<At<Secret>>,
    /// Instead of `key`: `hmac-sha256:` and 64 hex digits, made with `auth.pepper`.
    pub hash: Option<At<Secret>>,
    /// Models this key may use; `*` stands for any characters. Default: all.
    pub models: Option<Vec<At<String>>>,
    /// Whether this key may use paths that Tollgate does not read. Default: only when `models` is not written.
    pub opaque: Option<bool>,
    /// Where calls wait for a provider, keys get turns in this proportion. Default: 1.
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: Option<u32>,
    /// Fixed tags of each call: `team`, `project`, `agent`, `user`, ...
    pub tags: Option<Map<At<String>>>,
    /// Tags that a request may add (`x-tollgate-tags`, `metadata`, `user`); `*` stands for any characters. Those under `tags` stay as they are.
    /// Default: all others.
    pub request_tags: Option<Vec<At<String>>>,
    /// How much it may use.
    pub limits: Option<At<KeyLimits>>,
    /// What it may spend: one budget, or a list of them that must all have enough.
    pub budget: Option<OneOrMany<At<KeyBudget>>>,
    /// What one call may be at most.
    pub caps: Option<Caps>,
    /// `true`: refused, but still known by name. Default: `false`.
    pub revoked: Option<bool>,
    /// Refused from this time on (RFC 3339, e.g. `2030-01-01T00:00:00Z`). Default: never.
    pub expires: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Secret that key hashes are made with, at least 16 characters. Default: a random one per process, which is enough for
    /// `key` but not for `hash`, nor for keys that are made while running.
    pub pepper: Option<At<Secret>>,
    /// Wrong keys from one address in a minute before it gets 429. Default: 60. `0`: no limit.
    pub failures_per_minute: Option<u32>,
    /// How long keys that were made while running (`tollgate keys new`) go on to be taken while the store cannot be read. Default: `1h`.
    pub keys_stale: Option<At<Period>>,
    /// Who issues JSON Web Tokens that are taken in the place of a key, and what their claims mean.
    pub jwt: Option<Vec<At<Jwt>>>,
}

/// The JSON Schema of the file (2020-12).
pub fn schema() -> Schema {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>()
}

/// The same for a key that is made while running. Its definitions are those of the whole.
pub(super) fn key_words_schema() -> Schema {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<KeyWords>()
}

/// The same for what a key may use, alone. Its definitions are those of the whole.
pub(super) fn key_terms_schema() -> Schema {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<KeyTerms>()
}

/// A struct that may be written as the text of its first field.
fn short_form(schema: &mut Schema) {
    let long = std::mem::take(schema);
    *schema = json_schema!({"anyOf": [{"type": "string"}, long]});
}

/// A struct that may be written as `off`. Its first field takes the word, and is no key of its own.
fn or_off(schema: &mut Schema) {
    let long = std::mem::take(schema);
    *schema = json_schema!({"anyOf": [{"enum": ["off"]}, long]});
}
