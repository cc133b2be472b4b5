//! What the configuration says about where a call goes and how long it is tried: the parts of a model's and a provider's entry that
//! routing and the exchange loop read. Checked and complete: a default has been put in wherever nothing was written.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::snapshot::{BaseUrl, OnLoss, Pattern, Provider, Timeouts};
use super::tariff::Tariff;
use crate::id::ModelName;

/// What clients may ask for: one target, or a group of them.
#[derive(Debug)]
pub struct Model {
    /// May hold one `*` (`gpt-*`): then it answers for every name that fits, and the same run of characters takes the place of the `*`
    /// in its targets' names.
    pub name: ModelName,
    /// Never empty. In the order of the file; a target that names another entry stands here as that entry's targets.
    pub targets: Vec<Arc<ModelTarget>>,
    pub strategy: Strategy,
    pub affinity: Affinity,
    pub policy: Arc<Policy>,
    pub on_loss: OnLoss,
    /// Shown by `GET /v1/models`. Wildcards never are.
    pub listed: bool,
}

/// How long and how often a call is tried. That of models that are not listed is the default, with `retry` of the top.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    pub retry: Retry,
    pub hedge: Option<Hedge>,
    pub fallback: Fallback,
    /// A chat stream that breaks after output began is taken up by the next target (`continue: true`).
    pub resume: bool,
    pub disconnect: Disconnect,
    /// The whole call, all attempts and waits included: what the model itself says. `None`: the first target's own (`timeouts.total`, which
    /// is then its provider's or the top's).
    pub total: Option<Duration>,
}

/// One place where a model can be had.
#[derive(Debug)]
pub struct ModelTarget {
    pub provider: Arc<Provider>,
    /// The provider's own name for it; may hold one `*` in a wildcard entry.
    pub upstream: Arc<str>,
    /// 1 is tried first.
    pub priority: u32,
    /// Share of the calls among targets of one priority. 0: only when nothing else is left.
    pub weight: u32,
    pub timeouts: Timeouts,
    pub breaker: BreakerPolicy,
    pub info: Info,
    /// What it costs. `None`: nobody knows, or its name holds a `*`.
    pub tariff: Option<Arc<Tariff>>,
}

/// How targets of one priority are ordered. Priorities always come first, but for `Cost` and `Latency`, which look at all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// In the order of their priority; those of one priority take turns by weight.
    #[default]
    Priority,
    /// By weight, whatever the priority.
    Weighted,
    /// The cheapest for this call by the price table. Targets without a price come last.
    Cost,
    /// Of two drawn at random the one with the smaller product of time to first token (EWMA) and calls in flight; then the others.
    Latency,
    /// The one with the fewest calls in flight.
    LeastBusy,
}

/// What keeps a conversation at the target that has its prefix in its cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Affinity {
    #[default]
    Off,
    /// The part of the request that stays the same from turn to turn: system prompt, tools, first turn.
    Prefix,
    /// What the client calls its session: `x-session-id`, `session_id`, `prompt_cache_key`, Anthropic's `metadata.user_id`, `user`.
    Session,
    Header(HeaderName),
}

/// How often a call is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Tries in all, the first one included. `None`: one for each target. A target is tried again only after all others.
    pub attempts: Option<u32>,
    pub on: Vec<RetryOn>,
    /// The first wait before a target is tried again; it doubles from then on, and is drawn from the upper half at random.
    pub backoff: Duration,
    pub max_backoff: Duration,
    /// Share of the calls that may be tried again at a target that has already failed them, in percent.
    pub budget: u8,
}

/// A failure that is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryOn {
    /// No connection, no name, no handshake, no credential.
    Connect,
    /// No header section, no first token in time.
    Timeout,
    /// The connection broke, or what came was no answer.
    Broken,
    Status(u16),
    /// 4: every 4xx, 5: every 5xx.
    Class(u8),
}

/// What becomes of a provider's answer when the client leaves before its end, and what is booked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disconnect {
    /// The provider is left too. Of a stream what came is booked; of a whole answer, which the provider may have finished, the worst case.
    #[default]
    Cancel,
    /// It is read to its end, for a minute at most, and booked as the provider tells it.
    Drain,
    /// The provider is left, and the worst case is booked.
    Estimate,
}

/// A second target is asked when the first takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    pub after: HedgeAfter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// The 95th percentile of the target's own time to first token, once there are enough to know it.
    P95,
    Fixed(Duration),
}

/// Models that are asked instead when every target must refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallback {
    pub context_length: Option<ModelName>,
    pub content_filter: Option<ModelName>,
}

/// When a target is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it; 0: never.
    pub failures: u32,
    /// Or the share of failures within a window.
    pub rate: Option<FailureRate>,
    /// How long it stays open. The provider's own `Retry-After` counts where it is longer.
    pub cooldown: Duration,
    /// Calls let through at once while half open; so many successes in a row close it.
    pub probes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureRate {
    /// 1 to 100.
    pub percent: u8,
    pub window: Duration,
    /// Fewer calls than these say nothing.
    pub minimum: u32,
}

/// What a model can do. `None`: not known, and then it is not passed over for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Info {
    /// Tokens of input and output together.
    pub context: Option<u64>,
    pub max_output: Option<u64>,
    pub vision: Option<bool>,
    pub audio: Option<bool>,
    pub documents: Option<bool>,
    pub tools: Option<bool>,
    pub json_schema: Option<bool>,
    pub reasoning: Option<bool>,
}

/// What a provider's account may take, and who waits when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// What the account may; where it is not written it is learned from the provider's own headers.
    pub rpm: Option<u32>,
    pub tpm: Option<u64>,
    pub concurrency: Option<u32>,
    /// Calls that may wait for one model of it; 0: none.
    pub depth: u32,
    /// The longest wait.
    pub timeout: Duration,
}

/// Several endpoints that serve the same models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Never empty. All have the same path.
    pub endpoints: Vec<PoolEndpoint>,
    pub balance: Balance,
    pub health: Option<Health>,
    pub ejection: Ejection,
    /// How long an endpoint that is new or has recovered takes to get its whole share.
    pub slow_start: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolEndpoint {
    pub base: BaseUrl,
    pub weight: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    RoundRobin,
    /// Of two drawn at random the less loaded one.
    #[default]
    P2c,
    LeastBusy,
    /// By the call's affinity key (rendezvous hash, bounded load).
    Hash,
}

/// A question that is asked of each endpoint again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// From the root of the host.
    pub path: Arc<str>,
    pub interval: Duration,
    pub timeout: Duration,
    /// So many good answers (2xx, 3xx) in a row bring it back.
    pub healthy: u32,
    /// So many bad ones take it out.
    pub unhealthy: u32,
}

/// When an endpoint is taken out for what calls meet there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row; 0: never.
    pub failures: u32,
    pub time: Duration,
    /// At most this share of the endpoints is out at once, in percent.
    pub max_percent: u8,
}

// === defaults ===

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: None,
            on: vec![
                RetryOn::Connect,
                RetryOn::Timeout,
                RetryOn::Broken,
                RetryOn::Status(408),
                RetryOn::Status(409),
                RetryOn::Status(429),
                RetryOn::Class(5),
            ],
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(8),
            budget: 10,
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        BreakerPolicy { failures: 5, rate: None, cooldown: Duration::from_secs(30), probes: 1 }
    }
}

impl Default for Admission {
    fn default() -> Self {
        Admission { rpm: None, tpm: None, concurrency: None, depth: 100, timeout: Duration::from_secs(10) }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection { failures: 5, time: Duration::from_secs(30), max_percent: 50 }
    }
}

impl Retry {
    /// Whether a status is worth another try.
    pub fn covers_status(&self, status: u16) -> bool {
        self.on.iter().any(|on| match on {
            RetryOn::Status(one) => *one == status,
            RetryOn::Class(class) => status / 100 == u16::from(*class),
            RetryOn::Connect | RetryOn::Timeout | RetryOn::Broken => false,
        })
    }
}

impl Info {
    /// What it says, and where it says nothing, the other one's.
    pub fn over(self, other: Info) -> Info {
        Info {
            context: self.context.or(other.context),
            max_output: self.max_output.or(other.max_output),
            vision: self.vision.or(other.vision),
            audio: self.audio.or(other.audio),
            documents: self.documents.or(other.documents),
            tools: self.tools.or(other.tools),
            json_schema: self.json_schema.or(other.json_schema),
            reasoning: self.reasoning.or(other.reasoning),
        }
    }
}

impl Model {
    /// Whether its name stands for many.
    pub fn pattern(&self) -> Option<Pattern> {
        self.name.as_str().contains('*').then(|| Pattern::new(self.name.as_str()))
    }
}
