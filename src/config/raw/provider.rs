//! An entry of `providers` as typed: an address or several, a credential or several, and manners.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{At, Breaker, Map, Percent, Period, Timeouts, or_off, short_form};
use crate::config::secret::Secret;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The vendor, a name of `conf/providers.yaml`; `openai` for anything OpenAI-compatible. Default: the entry's own name.
    pub kind: Option<At<String>>,
    /// Where its API begins, e.g. `http://127.0.0.1:11434/v1`. Default: the vendor's.
    pub base_url: Option<At<String>>,
    /// Instead of `base_url`: several endpoints that serve the same models. All have the same scheme and path.
    pub endpoints: Option<At<Vec<At<Endpoint>>>>,
    /// With `endpoints`: which one a call goes to. Default: `p2c`.
    pub balance: Option<At<Balance>>,
    /// With `endpoints`: a question that is asked of each again and again. Default: none.
    pub health: Option<At<Health>>,
    /// With `endpoints`: when one is taken out for what calls meet there, or `off`.
    pub ejection: Option<At<Ejection>>,
    /// With `endpoints`: how long one that is new or has recovered takes to get its whole share. Default: `30s`. `0`: at once.
    pub slow_start: Option<At<Period>>,
    /// The credential. Required where the vendor wants one, except with a `base_url` of your own. Bedrock: an API key instead of
    /// AWS credentials. Default there: `AWS_BEARER_TOKEN_BEDROCK`.
    pub api_key: Option<At<Secret>>,
    /// Instead of `api_key`: several credentials, that share the calls.
    pub api_keys: Option<At<Vec<At<Secret>>>>,
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
    /// When a model of this provider is left alone for a while, or `off`.
    pub breaker: Option<Breaker>,
    /// What each of its credentials may take. What is not written is learned from the provider's own headers.
    pub limits: Option<Limits>,
    /// Where calls wait when the limits are reached, or `off`.
    pub queue: Option<Queue>,
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Endpoint {
    /// Where its API begins, e.g. `http://10.0.0.1:8000`. Without a path: the vendor's own, mostly `/v1`.
    #[schemars(required)]
    pub url: Option<At<String>>,
    /// Share of the calls. Default: 1.
    #[schemars(range(min = 1, max = 1_000))]
    pub weight: Option<u32>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// Of two drawn at random the less loaded one.
    P2c,
    /// The one with the fewest calls in flight.
    LeastBusy,
    /// By the conversation (a model's `affinity`), so that one endpoint keeps its prefix.
    Hash,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = short_form)]
pub struct Health {
    /// What is asked for with GET, from the root of the host, e.g. `/health`. 2xx and 3xx are good answers.
    #[schemars(required)]
    pub path: Option<At<String>>,
    /// How often. Default: `10s`.
    pub interval: Option<At<Period>>,
    /// The longest wait for an answer. Default: `2s`.
    pub timeout: Option<At<Period>>,
    /// So many good answers in a row bring an endpoint back. Default: 2.
    #[schemars(range(min = 1, max = 100))]
    pub healthy: Option<u32>,
    /// So many bad ones take it out. Default: 3.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = or_off)]
pub struct Ejection {
    #[schemars(skip)]
    pub off: Option<String>,
    /// Failures in a row that take an endpoint out. Default: 5. `0`: never.
    #[schemars(range(max = 1_000_000))]
    pub failures: Option<u32>,
    /// How long it stays out. Default: `30s`.
    pub time: Option<At<Period>>,
    /// At most this share of the endpoints is out at once. Default: `50%`.
    pub max: Option<Percent>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls a minute.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub rpm: Option<u32>,
    /// Tokens a minute, of input and output together.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub tpm: Option<u64>,
    /// Calls at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = or_off)]
pub struct Queue {
    #[schemars(skip)]
    pub off: Option<String>,
    /// Calls that may wait for one model. Default: 100. `0`: none.
    #[schemars(range(max = 1_000_000))]
    pub depth: Option<u32>,
    /// The longest wait. Default: `10s`.
    pub timeout: Option<At<Period>>,
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

// === impl ProviderAuth ===

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
