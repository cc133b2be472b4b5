//! The configuration file as typed. Field docs are the descriptions in the JSON Schema; `conf/tollgate.yaml` shows each one.
//!
//! Nothing is judged here beyond types: defaults, references and ranges are `check`'s business. A struct's first field is what
//! its short form stands for (see `decode`). Kept free of `Serialize`: this holds secrets.

mod route;

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

pub use super::decode::{At, Map, OneOrMany};
use super::secret::Secret;
use super::units;
pub use route::{Route, RouteMatch};

/// Tollgate's configuration file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Data port: where clients send their requests. `address:port`, or `{address, tls}`, or a list of those. Default:
    /// `127.0.0.1:4000`. Without any key in `keys`, only loopback addresses are allowed.
    pub listen: Option<OneOrMany<At<Listener>>>,
    /// Admin port: `/metrics`, `/healthz`, `/readyz` and `/api/*`. `off`, or `{listen, token}`.
    pub admin: Option<At<Admin>>,
    /// Limits and deadlines of the data port.
    pub server: Option<Server>,
    /// The access log and the program's own log.
    pub log: Option<Log>,
    /// Deadlines of a call to a provider; a provider or a model may have its own.
    pub timeouts: Option<Timeouts>,
    /// Who answers: name to provider.
    pub providers: Option<Map<Provider>>,
    /// Where paths of the OpenAI API go that Tollgate does not read (files, audio, images, ...).
    pub opaque: Option<Opaque>,
    /// What clients may ask for in `model`: name to `provider/model`.
    pub models: Option<Map<Model>>,
    /// Calls that go to another model than they ask for. The first that matches is applied.
    pub routes: Option<Vec<At<Route>>>,
    /// `true`: only the names under `models` are served; `provider/model` is refused. Default: `false`.
    pub strict: Option<bool>,
    /// What happens when a call is translated for a provider that cannot be told all of it; a model may have its own.
    /// Default: `report`.
    pub on_loss: Option<OnLoss>,
    /// The virtual keys that clients show. Without any, everybody on this machine is let in (loopback only).
    pub keys: Option<Vec<At<Key>>>,
    /// How virtual keys are kept and how wrong ones are slowed down.
    pub auth: Option<Auth>,
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

#[derive(Debug, Default, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeouts {
    /// For the TCP connection, and again for TLS. Default: `5s`.
    pub connect: Option<At<Period>>,
    /// From the end of the request to the reply's headers. Default: `5m`, since reasoning models think first.
    pub first_byte: Option<At<Period>>,
    /// Between two pieces of the reply. Default: `2m`.
    pub idle: Option<At<Period>>,
    /// For the whole call. Default: `10m`.
    pub total: Option<At<Period>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The vendor, a name of `conf/providers.yaml`; `openai` for anything OpenAI-compatible. Default: the entry's own name.
    pub kind: Option<At<String>>,
    /// Where its API begins, e.g. `http://127.0.0.1:11434/v1`. Default: the vendor's.
    pub base_url: Option<At<String>>,
    /// The credential. Required where the vendor wants one, except with a `base_url` of your own. Bedrock: an API key instead of
    /// AWS credentials. Default there: `AWS_BEARER_TOKEN_BEDROCK`.
    pub api_key: Option<At<Secret>>,
    /// Azure only: the `api-version` of each call. Default: `2024-10-21`.
    pub api_version: Option<At<String>>,
    /// Bedrock only: the AWS region, e.g. `us-east-1`. Default: `AWS_REGION`, then `AWS_DEFAULT_REGION`.
    pub region: Option<At<String>>,
    /// Bedrock only: a profile of the AWS configuration files. Without it and without `access_key_id`: the usual AWS chain
    /// (environment, profile, web identity, container, instance).
    pub profile: Option<At<String>>,
    /// Bedrock only: an AWS access key, with `secret_access_key`.
    pub access_key_id: Option<At<Secret>>,
    /// Bedrock only: the secret of `access_key_id`.
    pub secret_access_key: Option<At<Secret>>,
    /// Bedrock only: the session token of temporary AWS credentials. They are not renewed.
    pub session_token: Option<At<Secret>>,
    /// Vertex only: the Google Cloud project.
    pub project: Option<At<String>>,
    /// Vertex only: the location, e.g. `us-east5`. Default: `global`.
    pub location: Option<At<String>>,
    /// Vertex only: a JSON key file (of a service account, or of a user as gcloud writes it). Default: Google's application default
    /// credentials (`GOOGLE_APPLICATION_CREDENTIALS`, gcloud's file, the metadata server).
    pub credentials: Option<At<String>>,
    /// Extra headers on each call; they may hold credentials.
    pub headers: Option<Map<At<Secret>>>,
    /// HTTP version. Default: `auto`.
    pub http: Option<Http>,
    /// PEM bundle with the only authorities accepted for this provider. Default: the system's.
    pub ca: Option<At<String>>,
    /// HTTP proxy (`http://host:port`), or `off`. Default: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    pub proxy: Option<At<Secret>>,
    /// Deadlines for this provider.
    pub timeouts: Option<Timeouts>,
    /// Variables without which this provider is shown as not configured, instead of being an error.
    pub required_env: Option<Vec<At<String>>>,
    /// Whether usage comes at the end of a chat stream. Default: the vendor's.
    pub stream_usage: Option<StreamUsage>,
    /// Paths of operations below `base_url` where they are not the vendor's; `../` in front leaves its last part. `off`: not
    /// offered. `{model}` stands for the model, `{name}` for its part behind the last slash. Operations: `chat_completions`,
    /// `completions`, `embeddings`, `responses`, `messages`, `count_message_tokens`, `generate_content`, `count_content_tokens`,
    /// `embed_content`, `converse`, `invoke`, `cohere_chat`, `cohere_embed`, `rerank`, `ollama_embed`.
    pub paths: Option<Map<At<String>>>,
    /// The same for calls that are answered as a stream, where they have another path.
    pub stream_paths: Option<Map<At<String>>>,
    /// Operations that a conversation in another dialect may be translated to, best first. Default: the vendor's.
    pub bridge: Option<Vec<At<String>>>,
    /// How its spelling of a dialect differs. What is not written is as the vendor's.
    pub manners: Option<Manners>,
    /// Values of a client's `anthropic-beta` header that are sent on; `*` stands for any characters. Default: the vendor's.
    pub betas: Option<Vec<At<String>>>,
    /// How the credential is sent: `bearer`, `none`, `{header: NAME}`, or `{entra: ..}`. Default: the vendor's.
    pub auth: Option<ProviderAuth>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderAuth {
    pub scheme: Option<At<String>>,
    pub header: Option<At<String>>,
    pub entra: Option<At<Entra>>,
}

/// A token of Microsoft Entra ID.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Entra {
    /// `managed_identity`: the machine's own identity. With `client_id`: the one of that id.
    pub identity: Option<At<String>>,
    /// Directory (tenant) id.
    pub tenant: Option<At<String>>,
    /// Application (client) id.
    pub client_id: Option<At<String>>,
    /// The application's secret.
    pub client_secret: Option<At<Secret>>,
    /// Instead of a secret: a file with a token that Entra trusts (workload identity). Read each time.
    pub federated_token_file: Option<At<String>>,
    /// Where tokens come from. Default: `https://login.microsoftonline.com`.
    pub authority: Option<At<String>>,
    /// What the token is for. Default: `https://cognitiveservices.azure.com/.default`.
    pub scope: Option<At<String>>,
}

/// How a vendor's spelling of a dialect differs from the dialect's own.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manners {
    /// Chat completions: `max_completion_tokens` instead of `max_tokens`.
    pub max_completion_tokens: Option<bool>,
    /// Chat completions: the role `developer` is known.
    pub developer_role: Option<bool>,
    /// Chat completions: a `response_format` of type `json_schema` is not known.
    pub no_json_schema: Option<bool>,
    /// Chat completions: parts, messages and tools may bear Anthropic's `cache_control`.
    pub cache_control: Option<bool>,
    /// Chat completions: `reasoning: {effort, max_tokens, ..}` instead of `reasoning_effort`.
    pub reasoning_object: Option<bool>,
    /// Chat completions: how an assistant's thinking goes back to the vendor.
    pub thinking: Option<ThinkingForm>,
    /// Anthropic messages: the model is in the path, and this stands in the body as `anthropic_version`.
    pub anthropic_version: Option<String>,
    /// Gemini: Vertex's spelling.
    pub vertex: Option<bool>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingForm {
    /// In `reasoning_content`.
    ReasoningContent,
    /// In `reasoning`.
    Reasoning,
    /// As content parts of type `thinking`.
    Parts,
    /// Not at all.
    Nowhere,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum Http {
    /// HTTP/2 where the provider offers it over TLS.
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1 only.
    #[serde(rename = "1")]
    One,
    /// HTTP/2 only.
    #[serde(rename = "2")]
    Two,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamUsage {
    /// When asked by `stream_options.include_usage`.
    Ask,
    /// Always, and it may refuse to be asked.
    Always,
    /// It has no such thing.
    Never,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
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
pub struct Opaque {
    /// A name under `providers`. Default: the first provider of kind `openai`.
    pub provider: Option<At<String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Model {
    /// `provider/model`: a name under `providers`, and that provider's own name for the model.
    #[schemars(required)]
    pub target: Option<At<String>>,
    /// Deadlines for this model.
    pub timeouts: Option<Timeouts>,
    /// What happens when a call for this model cannot be translated whole. Default: `on_loss` at the top.
    pub on_loss: Option<OnLoss>,
}

#[derive(Debug, Deserialize, JsonSchema)]
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
    /// Fixed tags of each call: `team`, `project`, `agent`, `user`, ...
    pub tags: Option<Map<At<String>>>,
    /// `true`: refused, but still known by name. Default: `false`.
    pub revoked: Option<bool>,
    /// Refused from this time on (RFC 3339, e.g. `2030-01-01T00:00:00Z`). Default: never.
    pub expires: Option<At<String>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Secret that key hashes are made with, at least 16 characters. Default: a random one per process, which is enough for
    /// `key` but not for `hash`.
    pub pepper: Option<At<Secret>>,
    /// Wrong keys from one address in a minute before it gets 429. Default: 60. `0`: no limit.
    pub failures_per_minute: Option<u32>,
}

/// A duration as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

/// A number of bytes as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// The JSON Schema of the file (2020-12).
pub fn schema() -> Schema {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>()
}

/// A struct that may be written as the text of its first field.
fn short_form(schema: &mut Schema) {
    let long = std::mem::take(schema);
    *schema = json_schema!({"anyOf": [{"type": "string"}, long]});
}

// === impl Period, Size, Secret ===

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
inline_schema!(Secret, "Secret", {"type": "string", "format": "secret"});

impl JsonSchema for ProviderAuth {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "ProviderAuth".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut entra = generator.subschema_for::<Entra>();
        entra.insert(
            "description".into(),
            "A token of Microsoft Entra ID instead of a key: `managed_identity`, or keys.".into(),
        );
        json_schema!({"anyOf": [
            {"enum": ["bearer", "none"]},
            {
                "type": "object",
                "properties": {
                    "header": {"type": "string", "description": "The header that carries the credential."},
                    "entra": entra
                },
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": false
            }
        ]})
    }
}
