//! Several endpoints that serve the same models: which of them takes a call, and which are left out.
//!
//! An endpoint is known by the provider's pool key and its host and port, so that a reload keeps what is known of it; those that come
//! and go do so at once, and a call under way at one that went ends undisturbed. Left out are those whose health checks fail
//! (`pool::health`) and those where calls failed (ejection: as Envoy's outlier detection knows it). When all are out, all are used: to
//! refuse every call would be worse. Which one is chosen among the rest: `pool::choose`.

mod choose;
mod endpoint;
pub mod health;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use self::choose::Candidate;
pub use self::endpoint::{Condition, EndpointShown};
use self::endpoint::{Endpoint, Turn, WHOLE_SHARE};
use super::peers::Origin;
use crate::balance;
use crate::config::policy::{self, Balance, Ejection, Health};
use crate::config::snapshot::{BaseUrl, Provider};

/// The endpoints of one provider.
pub struct Pool {
    shape: ArcSwap<Shape>,
    /// Counts up from a random number: chance for those who need some.
    seed: AtomicU64,
    /// Held while a turn is taken.
    turns: Mutex<()>,
    /// Held while it is decided whether one more may be left out.
    ejecting: Mutex<()>,
}

/// As configured at present.
struct Shape {
    provider: Arc<Provider>,
    members: Vec<Member>,
    balance: Balance,
    health: Option<Health>,
    ejection: Ejection,
    slow_start: Duration,
}

struct Member {
    endpoint: Arc<Endpoint>,
    weight: u32,
}

/// A call's place at an endpoint, counted until it is dropped.
pub struct Seat {
    pool: Arc<Pool>,
    pub endpoint: Arc<Endpoint>,
}

// === impl Pool ===

impl Pool {
    pub fn new(provider: &Arc<Provider>, policy: &policy::Pool, now: Instant) -> Self {
        Pool {
            shape: ArcSwap::from_pointee(Shape::new(provider, policy, None, now)),
            seed: AtomicU64::new(RandomState::new().build_hasher().finish()),
            turns: Mutex::new(()),
            ejecting: Mutex::new(()),
        }
    }

    /// As configured from now on.
    pub fn reshape(&self, provider: &Arc<Provider>, policy: &policy::Pool, now: Instant) {
        let before = self.shape.load_full();
        self.shape.store(Arc::new(Shape::new(provider, policy, Some(&before), now)));
    }

    /// A place for a call, other than at those `tried`. `None`: all were.
    pub fn seat(self: &Arc<Self>, affinity: Option<u64>, tried: &[u64], now: Instant) -> Option<Seat> {
        let shape = self.shape.load();
        let mut among = shape.candidates(tried, now, |endpoint| endpoint.is_usable(now));
        if among.is_empty() {
            among = shape.candidates(tried, now, |_| true);
        }
        let seed = self.random();
        let chosen = {
            let by_turn = shape.balance == Balance::RoundRobin;
            let _turn = by_turn.then(|| self.turns.lock().unwrap_or_else(PoisonError::into_inner));
            choose::choose(shape.balance, &among, affinity, seed)?.place
        };
        let endpoint = Arc::clone(&shape.members.get(chosen)?.endpoint);
        endpoint.enter();
        Some(Seat { pool: Arc::clone(self), endpoint })
    }

    /// Whether there is one beside those `tried`.
    pub fn has_beside(&self, tried: &[u64]) -> bool {
        self.shape.load().members.iter().any(|member| !tried.contains(&member.endpoint.id))
    }

    pub fn shown(&self, now: Instant) -> Vec<EndpointShown> {
        self.shape.load().members.iter().map(|member| member.endpoint.shown(now)).collect()
    }

    fn failed(&self, endpoint: &Endpoint, why: &str, now: Instant) {
        let shape = self.shape.load();
        let policy = &shape.ejection;
        let failures = endpoint.failed(why);
        if policy.failures == 0 || failures < policy.failures {
            return;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if !endpoint.is_usable(now) {
            return;
        }
        let out = shape.members.iter().filter(|member| !member.endpoint.is_usable(now)).count();
        if (out + 1) * 100 > usize::from(policy.max_percent) * shape.members.len() {
            return;
        }
        let time = endpoint.eject(policy, now);
        let name = &shape.provider.name;
        tracing::warn!(
            "provider {name}: endpoint {} is left out for {time:?} after {failures} failures in a row: {why}",
            endpoint.origin.name()
        );
    }

    fn checked(&self, endpoint: &Endpoint, policy: &Health, found: Result<(), &str>, now: Instant) {
        let turn = endpoint.checked(policy, found, now);
        let shape = self.shape.load();
        let (provider, name) = (&shape.provider.name, endpoint.origin.name());
        match (turn, found) {
            (None, _) => {}
            (Some(Turn::Out), Err(why)) => tracing::warn!("provider {provider}: endpoint {name} is unhealthy: {why}"),
            (Some(_), _) => tracing::info!("provider {provider}: endpoint {name} is healthy again"),
        }
    }

    fn random(&self) -> u64 {
        balance::mix(self.seed.fetch_add(1, Ordering::Relaxed))
    }
}

// === impl Shape ===

impl Shape {
    fn new(provider: &Arc<Provider>, policy: &policy::Pool, before: Option<&Shape>, now: Instant) -> Self {
        let member = |typed: &policy::PoolEndpoint| {
            let id = identity(provider.pool_key, &typed.base);
            let known = before.and_then(|shape| shape.members.iter().find(|member| member.endpoint.id == id));
            let endpoint = match known {
                Some(member) => Arc::clone(&member.endpoint),
                None => {
                    let origin = Arc::new(Origin::new(provider, &typed.base, id));
                    let endpoint = Endpoint::new(id, identity(0, &typed.base), origin, now);
                    if before.is_some() {
                        endpoint.grow(now);
                    }
                    Arc::new(endpoint)
                }
            };
            if policy.health.is_none() {
                endpoint.forget_health(now);
            }
            Member { endpoint, weight: typed.weight }
        };
        Shape {
            provider: Arc::clone(provider),
            members: policy.endpoints.iter().map(member).collect(),
            balance: policy.balance,
            health: policy.health.clone(),
            ejection: policy.ejection,
            slow_start: policy.slow_start,
        }
    }

    fn candidates(&self, tried: &[u64], now: Instant, may: impl Fn(&Endpoint) -> bool) -> Vec<Candidate<'_>> {
        let members = self.members.iter().enumerate();
        let fit = members.filter(|(_, member)| !tried.contains(&member.endpoint.id) && may(&member.endpoint));
        let mut among: Vec<Candidate<'_>> = Vec::with_capacity(self.members.len());
        among.extend(fit.map(|(place, Member { endpoint, weight })| {
            let share = endpoint.share(self.slow_start, now);
            Candidate {
                place,
                key: endpoint.key,
                // beyond a million a weight says nothing more
                weight: (*weight).min(1_000_000) * share,
                growing: share < WHOLE_SHARE,
                in_flight: endpoint.in_flight(),
                latency: endpoint.latency(now),
                credit: &endpoint.credit,
            }
        }));
        // a weight of nothing: only when there is nothing else
        if among.iter().any(|candidate| candidate.weight > 0) {
            among.retain(|candidate| candidate.weight > 0);
        }
        among
    }
}

/// The same in every generation of the configuration and in every process.
fn identity(of: u64, base: &BaseUrl) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    (of, base.tls, &base.host, base.port).hash(&mut hasher);
    hasher.finish()
}

// === impl Seat ===

impl Seat {
    /// An answer began. A status of the server's own fault counts as a failure, and being told to slow down (429) does not.
    pub fn answered(&self, status: u16, took: Option<Duration>) {
        match status {
            500.. => self.failed(format_args!("status {status}")),
            400..=499 => self.endpoint.succeeded(None),
            _ => self.endpoint.succeeded(took),
        }
    }

    /// No connection, no answer, or a broken one.
    pub fn failed(&self, why: impl fmt::Display) {
        self.pool.failed(&self.endpoint, &why.to_string(), Instant::now());
    }

    pub fn has_beside(&self, tried: &[u64]) -> bool {
        self.pool.has_beside(tried)
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a seat at {}", self.endpoint.origin.name())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.endpoint.leave(Instant::now());
    }
}
