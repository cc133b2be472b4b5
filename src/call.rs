//! One client request through its life: the only mutable thing in a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::chat::{How, Usage};
use crate::config::Snapshot;
use crate::config::policy::Disconnect;
use crate::config::snapshot::Key;
use crate::dialect::{Grammar, Operation};
use crate::error::{Error, Kind};
use crate::id::{ProviderName, RequestId};
use crate::units::{NanoUsd, Tokens};

/// What is known of a call so far. Made when its header section has come; read once by the record when it has ended.
#[derive(Debug)]
pub struct Call {
    pub id: RequestId,
    pub started: Instant,
    /// The configuration this call runs under, from its first byte to its record.
    pub snapshot: Arc<Snapshot>,
    pub client: Option<IpAddr>,
    /// `None` before authentication, and in open mode.
    pub key: Option<Arc<Key>>,
    /// Where the request brought some: those of the key and its own.
    pub own_tags: Option<Arc<[Tag]>>,
    pub method: http::Method,
    /// Which row of the router answered.
    pub route: &'static str,
    pub operation: Option<Operation>,
    /// In whose words the client reads errors.
    pub grammar: Grammar,
    pub lane: Option<Lane>,
    /// As the client asked for it.
    pub model: Option<Box<str>>,
    /// Whether `model` is an entry of the config, and so may be a metric's label.
    pub model_listed: bool,
    pub provider: Option<ProviderName>,
    pub upstream_model: Option<Arc<str>>,
    pub upstream_request_id: Option<Box<str>>,
    pub attempts: u32,
    /// The targets that failed before the one that answered, or all of them.
    pub tried: Vec<Tried>,
    /// Place in a provider's queue when the call came to it, and how long it stood there.
    pub queued: Option<(u32, Duration)>,
    pub stream: bool,
    /// Sent to the client; 0 when nothing was.
    pub status: u16,
    pub error: Option<Failed>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub usage: Option<Usage>,
    /// What its tries cost. Each of them knows it, so that one that is given up is counted too.
    pub spent: Arc<Spent>,
    pub disconnect: Disconnect,
    /// What is left of the caller's limits, for the answer's header section.
    pub limit_fields: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Tokens of an answer whose end did not tell them, by the size of what came.
    pub output_estimate: Tokens,
    /// What a translation could not carry.
    pub losses: Lost,
    /// The answer's numbers are ours, not the provider's.
    pub estimated: bool,
    pub output_frames: u64,
    /// Since `started`.
    pub first_byte: Option<Duration>,
    pub first_token: Option<Duration>,
    /// Spent waiting for the client or the provider; the rest is ours.
    pub waited: Duration,
}

/// A tag and its value.
pub type Tag = (Arc<str>, Arc<str>);

/// How a body is carried to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The client's bytes, patched in place.
    Splice,
    /// Said again in another dialect.
    Bridge,
    /// Bytes in, bytes out.
    Opaque,
    /// Answered here.
    Local,
}

/// The cost of a call's tries so far.
#[derive(Debug, Default)]
pub struct Spent {
    nano: AtomicI64,
    tries: AtomicU32,
    /// Of which nobody knows what they cost.
    unpriced: AtomicU32,
    /// Whose numbers are ours.
    estimated: AtomicU32,
}

/// The losses of a call, by their JSON paths.
#[derive(Debug, Default)]
pub struct Lost {
    /// `messages[0].name`; of a reply, `reply.choices[1]`.
    pub places: Vec<(String, How)>,
    /// All of them, those without a place in the list included.
    pub count: usize,
}

/// A target that did not answer.
#[derive(Debug)]
pub struct Tried {
    pub provider: ProviderName,
    pub model: Arc<str>,
    /// `503`, `timeout`, `queue_full`.
    pub what: String,
}

/// Why a call failed, for the record.
#[derive(Debug)]
pub struct Failed {
    pub kind: Kind,
    /// For the log only; holds no secret and no content.
    pub detail: String,
}

// === impl Call ===

impl Call {
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Call {
            id: RequestId::generate(),
            started: Instant::now(),
            snapshot,
            client: None,
            key: None,
            own_tags: None,
            method: http::Method::GET,
            route: "none",
            operation: None,
            grammar: Grammar::OpenAi,
            lane: None,
            model: None,
            model_listed: false,
            provider: None,
            upstream_model: None,
            upstream_request_id: None,
            attempts: 0,
            tried: Vec::new(),
            queued: None,
            stream: false,
            status: 0,
            error: None,
            bytes_in: 0,
            bytes_out: 0,
            usage: None,
            spent: Arc::default(),
            disconnect: Disconnect::Cancel,
            limit_fields: Vec::new(),
            output_estimate: Tokens(0),
            losses: Lost::default(),
            estimated: false,
            output_frames: 0,
            first_byte: None,
            first_token: None,
            waited: Duration::ZERO,
        }
    }

    /// Remember the first failure: what follows from it is not news.
    pub fn fail(&mut self, error: &Error) {
        if self.error.is_none() {
            let detail = match &error.why {
                Some(why) => format!("{}: {why}", error.say),
                None => error.say.to_string(),
            };
            self.error = Some(Failed { kind: error.kind, detail });
        }
    }

    /// By which limits, budgets and reports tell calls apart.
    pub fn tags(&self) -> &[Tag] {
        match (&self.own_tags, &self.key) {
            (Some(tags), _) => tags,
            (None, Some(key)) => &key.tags,
            (None, None) => &[],
        }
    }

    /// Our own share of the time so far.
    pub fn overhead(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
    }

    pub fn operation_name(&self) -> &'static str {
        self.operation.map_or(self.route, Operation::name)
    }
}

// === impl Spent ===

impl Spent {
    /// A try was booked. `None`: nobody knows what it cost.
    pub fn add(&self, cost: Option<NanoUsd>, estimated: bool) {
        self.tries.fetch_add(1, Relaxed);
        self.estimated.fetch_add(u32::from(estimated), Relaxed);
        match cost {
            Some(NanoUsd(nano)) => {
                let _ = self.nano.try_update(Relaxed, Relaxed, |sum| Some(sum.saturating_add(nano)));
            }
            None => {
                self.unpriced.fetch_add(1, Relaxed);
            }
        }
    }

    /// Of all tries. `None`: there was none, or nobody knows what one of them cost.
    pub fn cost(&self) -> Option<NanoUsd> {
        let known = self.tries.load(Relaxed) > 0 && !self.is_unpriced();
        known.then(|| NanoUsd(self.nano.load(Relaxed)))
    }

    pub fn is_unpriced(&self) -> bool {
        self.unpriced.load(Relaxed) > 0
    }

    pub fn is_estimated(&self) -> bool {
        self.estimated.load(Relaxed) > 0
    }
}

// === impl Tried ===

impl Tried {
    pub fn new(provider: &ProviderName, model: &Arc<str>, what: String) -> Self {
        Tried { provider: provider.clone(), model: Arc::clone(model), what }
    }
}

// === impl Lane ===

impl Lane {
    pub fn name(self) -> &'static str {
        match self {
            Lane::Splice => "splice",
            Lane::Bridge => "bridge",
            Lane::Opaque => "opaque",
            Lane::Local => "local",
        }
    }
}
