//! The checked configuration: immutable, shared, swapped as a whole.
//!
//! Only `config::check` makes a `Snapshot`. A request loads it once and keeps it until its record is written. Everything that
//! can be decided before a request comes is decided here: a base URL is split, a header value is built, a key is hashed.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::condition::Rule;
use super::events::EventsConfig;
use super::issuer::Issuer;
use super::policy::{Admission, BreakerPolicy, Model, Policy, Pool};
use super::prices::{Prices, Unpriced};
use super::quota;
use super::secret::Secret;
use super::store::StoreConfig;
use crate::dialect::{Manners, Operation};
use crate::id::{KeyName, ModelName, ProviderName};

/// One generation of the configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts up from 1 with each accepted load.
    pub generation: u64,
    pub loaded_at: jiff::Timestamp,
    /// Data listeners; a change takes effect at the next start (certificates: at once).
    pub listen: Vec<Listener>,
    pub admin: Admin,
    pub server: Server,
    pub log: Log,
    pub providers: BTreeMap<ProviderName, Arc<Provider>>,
    /// Where the opaque paths of the OpenAI API (files, audio, ...) go: `opaque.provider`, else the only or first
    /// provider of kind `openai`; `None` when there is none.
    pub opaque: Option<Arc<Provider>>,
    pub models: HashMap<ModelName, Arc<Model>>,
    /// Entries whose name holds a `*`, the one with the most other characters first.
    pub wildcards: Vec<Arc<Model>>,
    /// For models that are not listed.
    pub policy: Arc<Policy>,
    /// Names in the order of the file, for `GET /v1/models`.
    pub model_order: Vec<ModelName>,
    /// In the order in which they are tried.
    pub rules: Vec<Rule>,
    /// Only listed models; `provider/model` is refused.
    pub strict: bool,
    /// For models that are not listed.
    pub on_loss: OnLoss,
    /// What was opened at the start stays open: a change takes effect at the next one.
    pub store: Arc<StoreConfig>,
    /// The same of where events go.
    pub events: Arc<EventsConfig>,
    /// Of models that no entry names.
    pub prices: Arc<Prices>,
    /// What happens to calls whose price is not known.
    pub unpriced: Unpriced,
    pub keys: Keys,
    /// Limits and budgets, but for those written on a key.
    pub quotas: Arc<quota::Rules>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub address: SocketAddr,
    pub tls: Option<TlsFiles>,
}

/// PEM files of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// When set, clients must show a certificate signed by one of these (mutual TLS).
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `None`: no admin port (`admin: off`).
    pub listen: Option<SocketAddr>,
    /// For `/api/*`. `None` is allowed on loopback only, and then `/api/*` is open.
    pub token: Option<Secret>,
}

/// The shell's limits and deadlines. See `conf/tollgate.yaml` for each default and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Worker threads of the data port; default: the cores this process may use.
    pub threads: usize,
    /// Largest request body that is read whole (splice lane), in bytes.
    pub body_limit: usize,
    /// All request bytes held in memory at once, over all calls.
    pub buffer_limit: usize,
    /// Open client connections, in total and from one address.
    pub connections: usize,
    pub connections_per_address: usize,
    /// From accept to the first byte.
    pub first_byte_timeout: Duration,
    /// From the first byte (or the previous answer, plus `keepalive_timeout`) to the end of the header section.
    pub header_timeout: Duration,
    /// For the whole request body.
    pub body_timeout: Duration,
    /// Slowest acceptable upload once 5 s have passed, bytes a second.
    pub body_min_rate: u64,
    /// One write to a client that does not read.
    pub write_timeout: Duration,
    /// Idle connection between requests.
    pub keepalive_timeout: Duration,
    /// After this age a connection is closed at the end of its current request.
    pub connection_age: Duration,
    /// SIGTERM: how long running calls may take to end.
    pub drain_timeout: Duration,
    /// A comment is sent on a silent event stream this often, so that proxies keep it open. Zero: never.
    pub heartbeat: Duration,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Host names this gateway answers to; empty: any well-formed one.
    pub hosts: Vec<String>,
    /// UNIX socket over which listeners are handed to the next process (SIGQUIT).
    pub upgrade_socket: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub access: AccessLog,
    /// `tracing-subscriber` filter, e.g. `info` or `tollgate=debug,warn`.
    pub level: String,
    pub format: LogFormat,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    Off,
    Stdout,
    Stderr,
    File(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Text,
    Json,
}

/// Who answers: an address, a credential and manners. It knows no JSON.
#[derive(Debug, Clone)]
pub struct Provider {
    pub name: ProviderName,
    /// A row of `conf/providers.yaml`, or `openai` for anything OpenAI-compatible.
    pub kind: Arc<str>,
    pub base: BaseUrl,
    pub auth: AuthScheme,
    /// The key, where one is sent as it is. `None` for the schemes whose credentials are fetched (`upstream::credential`).
    pub credential: Option<Secret>,
    /// Header with the credential, ready to send (marked sensitive). `None` without a `credential`.
    pub credential_header: Option<(HeaderName, HeaderValue)>,
    /// What it offers, by model: the first that fits counts, and the last one fits every model. Never empty; see
    /// [`Provider::offer`].
    pub offers: Vec<Offer>,
    /// Query added to every call that does not come with its own (`api-version=...`), without `?`.
    pub query: Option<Arc<str>>,
    /// Extra headers on each call.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers of its dialect, sent unless the client's own is forwarded (`anthropic-version`).
    pub default_headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the client that mean something to this provider, beside those that every provider gets.
    pub forward: Vec<HeaderName>,
    pub stream_usage: StreamUsage,
    pub http: HttpVersion,
    /// PEM bundle of the only authorities accepted for this provider; `None`: the system's.
    pub ca: Option<Arc<[u8]>>,
    /// HTTP proxy to go through (`host:port`), from the config or the environment.
    pub proxy: Option<ProxyServer>,
    pub timeouts: Timeouts,
    /// For models that are not listed.
    pub breaker: BreakerPolicy,
    /// Its rate limits, and who waits for them.
    pub admission: Admission,
    /// Its address is the vendor's own: what is known of the vendor's models holds for its.
    pub at_vendor: bool,
    /// Where it has several endpoints; `base` is the first of them then.
    pub pool: Option<Pool>,
    /// Which of the entry's credentials this one is, from 0.
    pub account: usize,
    /// The same provider with the entry's other credentials: complete in themselves, but for this list.
    pub accounts: Vec<Arc<Provider>>,
    /// Variables named in `required_env` that are not set: the provider is shown, calls to it are refused.
    pub missing_env: Vec<String>,
    /// Keys the connection pool, so that tenants, credentials and authorities never share a connection. With several endpoints it says
    /// nothing of them, so that it stays the same when one comes or goes: who pools connections must add the endpoint's address.
    pub pool_key: u64,
}

/// What a provider does for some models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    pub models: Vec<Pattern>,
    /// Path (from the root of the host) and query per operation. `{model}` stands for the percent-encoded provider's model name,
    /// `{name}` for its part behind the last slash.
    pub paths: BTreeMap<Operation, Arc<str>>,
    /// The same for calls that are answered as a stream, where it is another path.
    pub stream_paths: BTreeMap<Operation, Arc<str>>,
    /// Operations that a conversation in another dialect may be translated to, best first. All of them are in `paths`.
    pub bridge: Vec<Operation>,
    pub manners: Manners,
    /// Values of a client's `anthropic-beta` that are sent on.
    pub betas: Vec<Pattern>,
}

/// `https://host:port/path`, split once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    pub tls: bool,
    /// Host as in the URL, lower case, without brackets; the SNI and the name that is resolved. Never empty.
    pub host: Arc<str>,
    pub port: u16,
    /// `host` or `host:port` when the port is not the scheme's own.
    pub authority: HeaderValue,
    /// Without a trailing slash: empty or `/v1`.
    pub path: Arc<str>,
}

/// How a provider is shown who asks. The variants with data are also the identity under which fetched credentials are kept over
/// reloads.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AuthScheme {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `NAME: KEY`.
    Header(HeaderName),
    None,
    /// Each call is signed (AWS Signature Version 4).
    Aws(Aws),
    /// A bearer token of Google's.
    Google(Google),
    /// A bearer token of Microsoft Entra ID.
    Entra(Entra),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aws {
    pub region: Arc<str>,
    pub source: AwsSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AwsSource {
    Keys {
        access_key_id: Secret,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// A profile of the AWS configuration files.
    Profile(Arc<str>),
    /// Environment, profile, web identity, container, instance.
    Chain,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Google {
    /// The content of a JSON key file.
    Key(Secret),
    /// Application default credentials.
    Default,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entra {
    /// What the token is for, e.g. `https://cognitiveservices.azure.com/.default`.
    pub scope: Arc<str>,
    pub source: EntraSource,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntraSource {
    Application {
        /// `https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`.
        token_url: Arc<str>,
        client_id: Arc<str>,
        proof: EntraProof,
    },
    ManagedIdentity {
        /// `None`: the machine's only one.
        client_id: Option<Arc<str>>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntraProof {
    Secret(Secret),
    /// A file with a token that Entra trusts; somebody else renews it.
    TokenFile(PathBuf),
}

/// What happens when a call is translated for a provider that cannot be told all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnLoss {
    /// The call is made and the loss is told, unless it would change the question.
    #[default]
    Report,
    Refuse,
}

/// Whether a provider reports usage at the end of a chat stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamUsage {
    /// When asked by `stream_options.include_usage`.
    Ask,
    /// Always; it may refuse to be asked.
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpVersion {
    Http1,
    /// HTTP/2 only (with prior knowledge where there is no TLS).
    Http2,
    /// By ALPN over TLS; HTTP/1.1 where there is no TLS.
    Auto,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyServer {
    pub host: Arc<str>,
    pub port: u16,
    /// `Proxy-Authorization`, when the URL carried credentials.
    pub authorization: Option<Secret>,
}

/// Deadlines of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP.
    pub connect: Duration,
    pub tls: Duration,
    /// From the end of the request to the reply's header section.
    pub first_byte: Duration,
    /// From the end of the request to the first output of a stream; of a whole answer, to its end.
    pub first_token: Duration,
    /// Between two reads of the reply.
    pub idle: Duration,
    /// One write to a provider that does not read.
    pub write: Duration,
    /// The whole call.
    pub total: Duration,
}

/// The virtual keys. Only hashes are kept.
#[derive(Debug)]
pub struct Keys {
    /// HMAC-SHA256 key for the hashes.
    pub pepper: Secret,
    /// It stands in the file: what was hashed with it is found again after a restart.
    pub lasting: bool,
    pub by_hash: HashMap<[u8; 32], Arc<Key>>,
    /// Whose tokens are taken in the place of a key.
    pub issuers: Vec<Arc<Issuer>>,
    /// How old what is known of keys that were made while running may be.
    pub stale: Duration,
    /// Neither a key nor an issuer nor a pepper is configured: every caller is let in, and only loopback is listened on.
    pub open: bool,
    /// Wrong keys from one address in a minute before it gets 429; 0: no limit.
    pub failures_per_minute: u32,
}

#[derive(Debug)]
pub struct Key {
    pub name: KeyName,
    /// `None`: every model. Otherwise exact names and `*` patterns.
    pub models: Option<Vec<Pattern>>,
    /// Whether the opaque lane is open to this key. Default: only when `models` is not restricted.
    pub opaque: bool,
    /// Where calls wait for a provider, keys get turns in this proportion.
    pub weight: u32,
    pub revoked: bool,
    pub expires: Option<jiff::Timestamp>,
    /// Fixed tags: `team`, `project`, `agent`, `user`, ...
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// Names of the tags a request may add; `None`: any that are not fixed.
    pub request_tags: Option<Vec<Pattern>>,
    /// Its own limits, budgets and caps. Keys with the same share them.
    pub own: Option<Arc<quota::Own>>,
}

/// A name where `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

// === impl Snapshot ===

impl Snapshot {
    /// Every provider with each of its credentials.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.providers.values().flat_map(|provider| std::iter::once(provider).chain(&provider.accounts))
    }
}

// === impl Provider ===

impl Provider {
    /// What it does for a model (the provider's own name). `None` for a model no offer fits, which the checked configuration
    /// rules out.
    pub fn offer(&self, model: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.models.iter().any(|pattern| pattern.matches(model)))
    }
}

// === impl Pattern ===

impl Pattern {
    pub fn new(text: &str) -> Self {
        Pattern(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every name that `other` fits, fits this one too: its own `*` must stand where this one has one.
    pub fn covers(&self, other: &Pattern) -> bool {
        self.matches(&other.0)
    }

    /// Linear in the name for each `*`; no backtracking beyond the last star.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n, mut star) = (0, 0, None);
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(byte) if *byte == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match star {
                    Some((at, from)) => {
                        star = Some((at, from + 1));
                        p = at + 1;
                        n = from + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|b| *b == b'*')
    }
}

// === impl Key ===

impl Key {
    pub fn allows_model(&self, name: &str) -> bool {
        match &self.models {
            None => true,
            Some(patterns) => patterns.iter().any(|p| p.matches(name)),
        }
    }
}

// === impl Timeouts ===

impl Default for Timeouts {
    /// A reasoning model may think for minutes before its first byte; the official SDKs give up after ten.
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            tls: Duration::from_secs(5),
            first_byte: Duration::from_secs(300),
            first_token: Duration::from_secs(600),
            idle: Duration::from_secs(120),
            write: Duration::from_secs(30),
            total: Duration::from_secs(600),
        }
    }
}
