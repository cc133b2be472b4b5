//! How the gateway and those behind it are: for operators (`GET /api/status`, `tollgate status`), for a key (`GET /api/v1/status`), and the
//! gauges that `/metrics` shows.
//!
//! The types are what is read: a member's name is a promise (docs/operations.md, "Status"). It asks nobody anything: what is told here is
//! what calls have met.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::proxy::Shared;
use super::spending::{self, LedgerStatus};
use crate::config::Snapshot;
use crate::config::policy::Model;
use crate::config::snapshot::{Key, Pattern, Provider};
use crate::route::{self, Listed};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::OTHER_MODEL;
use crate::upstream::breaker::Phase;
use crate::upstream::track::{Shown, Track, Tracks};
use crate::upstream::{Condition, EndpointShown};

/// Of the targets that only clients name so many are shown of a provider: those with the most failures.
const UNLISTED: usize = 100;

/// Everything, for operators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub state: State,
    /// Of the configuration that runs, and when it was loaded.
    pub generation: u64,
    pub loaded_at: jiff::Timestamp,
    pub uptime_s: u64,
    /// Requests being answered.
    pub in_flight: u64,
    pub ledger: LedgerStatus,
    /// The counters that replicas share can be reached; always, where they are in this process.
    pub counters_connected: bool,
    /// By name.
    pub providers: Vec<ProviderStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Starting,
    Ready,
    Draining,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderStatus {
    pub name: String,
    pub kind: String,
    /// All variables of its `required_env` are set.
    pub configured: bool,
    /// Those that are not.
    pub missing_env: Vec<String>,
    /// Credentials; `account` counts them from 0.
    pub accounts: usize,
    /// Of a pool, for each account.
    pub endpoints: Vec<EndpointStatus>,
    /// Those of the configuration, whether they were asked or not, then those that only clients have named.
    pub targets: Vec<TargetStatus>,
    /// So many of the latter are left out.
    pub more_targets: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    pub account: usize,
    /// `host:port`.
    pub endpoint: String,
    /// `healthy`, `unhealthy`, `ejected`, `unknown`.
    pub state: Cow<'static, str>,
    pub since: jiff::Timestamp,
    pub ejected_for_ms: u64,
    pub in_flight: u32,
    /// From a request to the header section of its answer.
    pub mean_ms: Option<u64>,
    pub last_error: Option<LastError>,
}

/// A provider, one of its accounts, and a model there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetStatus {
    pub account: usize,
    /// The provider's own name for it.
    pub model: String,
    /// Some entry of `models` has it as a target.
    pub listed: bool,
    pub breaker: Breaker,
    pub in_flight: u32,
    /// Tries since the start, and how many failed.
    pub calls: u64,
    pub failures: u64,
    /// Share of the tries that failed within the last minute, 0 to 1.
    pub error_rate: Option<f64>,
    pub first_token_ms: FirstToken,
    pub rate_limit: RateLimit,
    pub last_error: Option<LastError>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// `closed`, `half_open`, `open`.
    pub state: Cow<'static, str>,
    /// Until calls are let through again.
    pub reopens_in_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstToken {
    pub mean: Option<u64>,
    pub p95: Option<u64>,
}

/// As configured, or as the provider says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    pub requests_limit: Option<u64>,
    pub requests_left: Option<u64>,
    pub tokens_limit: Option<u64>,
    pub tokens_left: Option<u64>,
    /// Until what is left is whole again.
    pub reset_ms: Option<u64>,
    /// Calls in its queue.
    pub waiting: u32,
}

/// Sanitised: no secret, no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    pub at: jiff::Timestamp,
    pub what: String,
}

/// What a key may know: names that it may use and whether they work. Nothing of other callers, no error's text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyStatus<'a> {
    pub state: State,
    /// `None`: open mode.
    pub key: Option<&'a str>,
    /// In the order of the configuration.
    pub models: Vec<ModelHealth<'a>>,
    /// Those that this key's calls can reach, by name.
    pub providers: Vec<ProviderHealth<'a>>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelHealth<'a> {
    pub name: &'a str,
    pub health: Health,
    /// Until one of its targets may be asked again; only when none may now.
    pub retry_after_ms: Option<u64>,
    pub providers: Vec<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProviderHealth<'a> {
    pub name: &'a str,
    pub health: Health,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All its targets may be asked.
    Up,
    /// Some may not.
    Degraded,
    /// None may now.
    Down,
    /// None ever may: credentials are missing.
    NotConfigured,
}

// === for operators ===

/// `ready`: the data port accepts calls.
pub fn status(shared: &Shared, ready: bool) -> Status {
    let snapshot = shared.live.load();
    let now = Instant::now();
    let mut targets = targets(&snapshot, &shared.tracks, now);
    let provider = |provider: &Arc<Provider>| {
        let (targets, more_targets) = targets.remove(provider.name.as_str()).unwrap_or_default();
        ProviderStatus {
            name: provider.name.to_string(),
            kind: provider.kind.to_string(),
            configured: provider.missing_env.is_empty(),
            missing_env: provider.missing_env.clone(),
            accounts: 1 + provider.accounts.len(),
            endpoints: endpoints(shared, provider)
                .map(|(account, shown)| EndpointStatus::new(account, shown))
                .collect(),
            targets,
            more_targets,
        }
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: state(shared, ready),
        generation: snapshot.generation,
        loaded_at: snapshot.loaded_at,
        uptime_s: shared.started.elapsed().as_secs(),
        in_flight: u64::try_from(shared.connections.calls()).unwrap_or(0),
        ledger: spending::ledger(shared),
        counters_connected: shared.quotas.is_connected(),
        providers: snapshot.providers.values().map(provider).collect(),
    }
}

fn state(shared: &Shared, ready: bool) -> State {
    match (shared.connections.draining(), ready) {
        (true, _) => State::Draining,
        (false, false) => State::Starting,
        (false, true) => State::Ready,
    }
}

/// By provider: what is shown, and how many are not.
fn targets(snapshot: &Snapshot, tracks: &Tracks, now: Instant) -> BTreeMap<String, (Vec<TargetStatus>, usize)> {
    let listed = route::listed(snapshot);
    let mut found: BTreeMap<String, (Vec<TargetStatus>, usize)> = BTreeMap::new();
    for (id, Listed { provider, model }) in &listed {
        let shown = tracks.get(*id).map(|track| track.shown(now));
        let one = TargetStatus::new(provider.account, model, true, shown);
        found.entry(provider.name.to_string()).or_default().0.push(one);
    }
    for track in tracks.all() {
        if listed.contains_key(&track.id) {
            continue;
        }
        let Some(provider) = asked_at(snapshot, &track) else { continue };
        let one = TargetStatus::new(provider.account, &track.name.model, false, Some(track.shown(now)));
        found.entry(provider.name.to_string()).or_default().0.push(one);
    }
    for (targets, more) in found.values_mut() {
        targets.sort_by(|a, b| (b.listed, &a.model, a.account).cmp(&(a.listed, &b.model, b.account)));
        let named = targets.iter().filter(|target| target.listed).count();
        *more = (targets.len() - named).saturating_sub(UNLISTED);
        if *more > 0 {
            let mut worst = targets.split_off(named);
            worst.sort_by(|a, b| (b.failures, b.calls, &a.model).cmp(&(a.failures, a.calls, &b.model)));
            worst.truncate(UNLISTED);
            targets.append(&mut worst);
        }
    }
    found
}

/// The account that a track is of, as it is configured now: its place may have changed.
fn asked_at<'a>(snapshot: &'a Snapshot, track: &Track) -> Option<&'a Arc<Provider>> {
    let provider = snapshot.providers.get(&*track.name.provider)?;
    let mut accounts = std::iter::once(provider).chain(&provider.accounts);
    accounts.find(|provider| route::identity(provider, &track.name.model) == track.id)
}

fn endpoints<'a>(
    shared: &'a Shared,
    provider: &'a Arc<Provider>,
) -> impl Iterator<Item = (usize, EndpointShown)> + use<'a> {
    let accounts = std::iter::once(provider).chain(&provider.accounts);
    accounts.flat_map(|account| shared.upstreams.shown(account).into_iter().map(|shown| (account.account, shown)))
}

// === for a key ===

/// `key`: `None` in open mode.
pub fn of_key<'a>(shared: &Shared, snapshot: &'a Snapshot, key: Option<&'a Key>) -> KeyStatus<'a> {
    let now = Instant::now();
    let mut by_provider: BTreeMap<&str, Vec<Option<Duration>>> = BTreeMap::new();
    let listed = snapshot.model_order.iter().filter_map(|name| snapshot.models.get(name));
    let allowed = listed.filter(|model| model.listed && key.is_none_or(|key| key.allows_model(model.name.as_str())));
    let mut models = Vec::new();
    for model in allowed {
        let mut busy = Vec::new();
        let mut providers = Vec::new();
        for target in &model.targets {
            let name = target.provider.name.as_str();
            let waits: Vec<Option<Duration>> = std::iter::once(&target.provider)
                .chain(&target.provider.accounts)
                .map(|provider| wait(shared, provider, target.upstream.as_ref(), &target.breaker, now))
                .collect();
            busy.extend(waits.iter().copied());
            by_provider.entry(name).or_default().extend(waits);
            if !providers.contains(&name) {
                providers.push(name);
            }
        }
        let (health, retry_after_ms) = health(&busy);
        models.push(ModelHealth { name: model.name.as_str(), health, retry_after_ms, providers });
    }
    let providers = snapshot.providers.values().filter(|provider| {
        by_provider.contains_key(provider.name.as_str()) || key.is_none_or(|key| reaches(snapshot, key, provider))
    });
    let providers = providers.map(|provider| {
        let own = by_provider.get(provider.name.as_str()).map_or(&[][..], Vec::as_slice);
        let health = if provider.missing_env.is_empty() { health(own).0 } else { Health::NotConfigured };
        ProviderHealth { name: provider.name.as_str(), health }
    });
    KeyStatus {
        state: state(shared, true),
        key: key.map(|key| key.name.as_str()),
        providers: providers.collect(),
        models,
    }
}

/// How long its breaker refuses calls; `None`: nobody could ask it.
fn wait(
    shared: &Shared,
    provider: &Provider,
    model: &str,
    breaker: &crate::config::policy::BreakerPolicy,
    now: Instant,
) -> Option<Duration> {
    let track = shared.tracks.get(route::identity(provider, model));
    let refused = track.and_then(|track| track.breaker.refuses(breaker, now)).unwrap_or_default();
    provider.missing_env.is_empty().then_some(refused)
}

fn health(waits: &[Option<Duration>]) -> (Health, Option<u64>) {
    let free = waits.iter().filter(|wait| wait.is_some_and(|wait| wait.is_zero())).count();
    match waits.iter().flatten().min() {
        None if !waits.is_empty() => (Health::NotConfigured, None),
        _ if free == waits.len() => (Health::Up, None),
        _ if free > 0 => (Health::Degraded, None),
        least => (Health::Down, least.map(|least| millis(*least).max(1))),
    }
}

/// Whether a call of this key can come to a provider that none of its listed models has.
fn reaches(snapshot: &Snapshot, key: &Key, provider: &Provider) -> bool {
    let allows = |name: &str| key.models.as_ref().is_none_or(|patterns| patterns.iter().any(|p| overlap(p, name)));
    let has = |model: &Arc<Model>| model.targets.iter().any(|target| target.provider.name == provider.name);
    key.opaque
        || (!snapshot.strict && allows(&format!("{}/*", provider.name)))
        || snapshot.wildcards.iter().any(|model| has(model) && allows(model.name.as_str()))
}

/// Whether some name fits both. Looks at what stands before the first `*` and behind the last one, which is all there is to most patterns.
fn overlap(one: &Pattern, other: &str) -> bool {
    let one = one.as_str();
    let ends = |text: &'_ str| -> Option<(usize, usize)> { Some((text.find('*')?, text.rfind('*')? + 1)) };
    match (ends(one), ends(other)) {
        (None, _) => Pattern::new(other).matches(one),
        (_, None) => Pattern::new(one).matches(other),
        (Some((a, b)), Some((c, d))) => {
            let meet = |x: &str, y: &str| x.starts_with(y) || y.starts_with(x);
            let meet_behind = |x: &str, y: &str| x.ends_with(y) || y.ends_with(x);
            meet(&one[..a], &other[..c]) && meet_behind(&one[b..], &other[d..])
        }
    }
}

// === gauges ===

/// Set what is true now. Label values come from the configuration: targets that only clients name are `other`, together.
pub fn set_gauges(shared: &Shared, metrics: &Metrics) {
    spending::set_gauges(shared, metrics);
    let snapshot = shared.live.load();
    let listed = route::listed(&snapshot);
    let now = Instant::now();
    // state (the worst), in flight, waiting
    let mut found: HashMap<(&str, usize, &str), (i64, i64, i64)> = HashMap::new();
    for track in shared.tracks.all() {
        let known = listed.get(&track.id).map(|listed| (&listed.provider, &*listed.model));
        let Some((provider, model)) = known.or_else(|| Some((asked_at(&snapshot, &track)?, OTHER_MODEL))) else {
            continue;
        };
        let phase = match track.breaker.phase(now).0 {
            Phase::Closed => 0,
            Phase::HalfOpen => 1,
            Phase::Open => 2,
        };
        let (state, in_flight, waiting) = found.entry((provider.name.as_str(), provider.account, model)).or_default();
        *state = phase.max(*state);
        *in_flight += i64::from(track.in_flight());
        *waiting += i64::from(track.gate.rates(now).waiting);
    }
    for ((provider, account, model), (state, in_flight, waiting)) in found {
        let account = account.to_string();
        let labels = [provider, &account, model];
        metrics.breaker_state.with_label_values(&labels).set(state);
        metrics.target_in_flight.with_label_values(&labels).set(in_flight);
        metrics.queue_waiting.with_label_values(&labels).set(waiting);
    }
    for provider in snapshot.providers.values() {
        let mut up: BTreeMap<String, bool> = BTreeMap::new();
        for (_, shown) in endpoints(shared, provider) {
            let is_out = matches!(shown.state, Condition::Unhealthy | Condition::Ejected);
            *up.entry(shown.endpoint).or_insert(true) &= !is_out;
        }
        for (endpoint, is_up) in up {
            metrics.endpoint_up.with_label_values(&[provider.name.as_str(), &endpoint]).set(i64::from(is_up));
        }
    }
}

// === impl EndpointStatus, TargetStatus ===

impl EndpointStatus {
    fn new(account: usize, shown: EndpointShown) -> Self {
        let EndpointShown { endpoint, state, in_flight, ewma_ms, ejected_for_ms, last_error, last_error_at, since } =
            shown;
        EndpointStatus {
            account,
            endpoint,
            state: state.label().into(),
            since,
            ejected_for_ms,
            in_flight,
            mean_ms: ewma_ms,
            last_error: last_error_at.zip(last_error).map(|(at, what)| LastError { at, what }),
        }
    }
}

impl TargetStatus {
    /// `shown`: `None` for one that was never asked.
    fn new(account: usize, model: &str, listed: bool, shown: Option<Shown>) -> Self {
        let Some(shown) = shown else {
            return TargetStatus {
                account,
                model: model.to_owned(),
                listed,
                breaker: Breaker { state: Phase::Closed.label().into(), reopens_in_ms: None },
                in_flight: 0,
                calls: 0,
                failures: 0,
                error_rate: None,
                first_token_ms: FirstToken::default(),
                rate_limit: RateLimit::default(),
                last_error: None,
            };
        };
        TargetStatus {
            account,
            model: model.to_owned(),
            listed,
            breaker: Breaker { state: shown.state.into(), reopens_in_ms: shown.reopens_in_ms },
            in_flight: shown.in_flight,
            calls: shown.calls,
            failures: shown.failures,
            error_rate: shown.error_rate,
            first_token_ms: FirstToken { mean: shown.first_token_ms.mean, p95: shown.first_token_ms.p95 },
            rate_limit: RateLimit {
                requests_limit: shown.rates.requests_limit,
                requests_left: shown.rates.requests_left,
                tokens_limit: shown.rates.tokens_limit,
                tokens_left: shown.rates.tokens_left,
                reset_ms: shown.rates.reset_ms,
                waiting: shown.rates.waiting,
            },
            last_error: shown.last_error.map(|last| LastError { at: last.at, what: last.what.into() }),
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_some_name_fits_both_overlap() {
        for (one, other, meet) in [
            ("gpt-*", "openai/*", false),
            ("openai/gpt-*", "openai/*", true),
            ("*", "openai/*", true),
            ("open*", "openai/*", true),
            ("openai/gpt-5", "openai/*", true),
            ("openrouter/x", "openai/*", false),
            ("*-mini", "gpt-*", true),
            ("claude-*", "gpt-*", false),
            ("gpt-4o", "gpt-*", true),
        ] {
            assert_eq!(overlap(&Pattern::new(one), other), meet, "{one} {other}");
        }
    }

    #[test]
    fn a_model_is_down_only_when_none_of_its_targets_may_be_asked() {
        let second = Some(Duration::from_secs(1));
        let free = Some(Duration::ZERO);
        for (waits, told) in [
            (vec![free, free], (Health::Up, None)),
            (vec![free, second], (Health::Degraded, None)),
            (vec![free, None], (Health::Degraded, None)),
            (vec![second, Some(Duration::from_millis(20)), None], (Health::Down, Some(20))),
            (vec![None], (Health::NotConfigured, None)),
            (vec![], (Health::Up, None)),
        ] {
            assert_eq!(health(&waits), told, "{waits:?}");
        }
    }
}
