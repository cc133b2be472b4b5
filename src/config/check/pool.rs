//! Several endpoints behind one provider: where they are, how calls are shared among them, and when one is left out.

use std::time::Duration;

use super::Checker;
use super::auth::Entry;
use super::base_url::base_url;
use crate::config::error::Place;
use crate::config::policy::{Balance, Ejection, Health, Pool, PoolEndpoint};
use crate::config::raw::{self, At};
use crate::config::snapshot::BaseUrl;

const MOST_ENDPOINTS: usize = 1_000;

/// The keys of an entry that this file reads.
pub(super) struct Typed {
    pub endpoints: Option<At<Vec<At<raw::Endpoint>>>>,
    pub balance: Option<At<raw::Balance>>,
    pub health: Option<At<raw::Health>>,
    pub ejection: Option<At<raw::Ejection>>,
    pub slow_start: Option<At<raw::Period>>,
    /// Where the other way to say it stands.
    pub base_url: Option<Place>,
}

impl Checker<'_> {
    /// `None`: the provider has one address.
    pub(super) fn pool(&mut self, typed: Typed, vendors: Option<&BaseUrl>, entry: &Entry<'_>) -> Option<Pool> {
        let path = entry.path;
        let Some(list) = typed.endpoints else {
            self.nothing_to_pool(&typed, path);
            return None;
        };
        if typed.base_url.is_some() {
            let message = format!("{path} has both \"base_url\" and \"endpoints\": remove one");
            self.faults.wrong(list.place, path, message);
        }
        let pool = Pool {
            endpoints: self.endpoints(&list, vendors, entry),
            balance: match typed.balance.map(|at| at.value) {
                Some(raw::Balance::RoundRobin) => Balance::RoundRobin,
                None | Some(raw::Balance::P2c) => Balance::P2c,
                Some(raw::Balance::LeastBusy) => Balance::LeastBusy,
                Some(raw::Balance::Hash) => Balance::Hash,
            },
            health: typed.health.and_then(|at| self.health(at.value, &format!("{path}.health"))),
            ejection: self.ejection(typed.ejection.map(|at| at.value), &format!("{path}.ejection")),
            slow_start: typed.slow_start.map_or(Duration::from_secs(30), |at| at.value.0),
        };
        (!pool.endpoints.is_empty()).then_some(pool)
    }

    fn nothing_to_pool(&mut self, typed: &Typed, path: &str) {
        let keys = [
            ("balance", typed.balance.as_ref().map(|at| at.place)),
            ("health", typed.health.as_ref().map(|at| at.place)),
            ("ejection", typed.ejection.as_ref().map(|at| at.place)),
            ("slow_start", typed.slow_start.as_ref().map(|at| at.place)),
        ];
        for (name, place) in keys {
            let Some(place) = place else { continue };
            let message =
                format!("{path}.{name} needs \"endpoints\": write them instead of a \"base_url\", or remove it");
            self.faults.missing(place, path, message);
        }
    }

    fn endpoints(
        &mut self,
        list: &At<Vec<At<raw::Endpoint>>>,
        vendors: Option<&BaseUrl>,
        entry: &Entry<'_>,
    ) -> Vec<PoolEndpoint> {
        let path = format!("{}.endpoints", entry.path);
        if list.value.is_empty() && !entry.missing_env {
            let message =
                format!("{path} is empty: write for example \"[http://10.0.0.1:8000, http://10.0.0.2:8000]\"");
            self.faults.missing(list.place, &path, message);
        }
        if list.value.len() > MOST_ENDPOINTS {
            self.faults.wrong(list.place, &path, format!("{path} has more than {MOST_ENDPOINTS}: make two providers"));
            return Vec::new();
        }
        let mut found: Vec<PoolEndpoint> = Vec::with_capacity(list.value.len());
        for (n, at) in list.value.iter().enumerate() {
            let Some(url) = &at.value.url else { continue };
            let mut base = match base_url(&url.value) {
                Ok(base) => base,
                Err(why) => {
                    self.faults.wrong(url.place, &path, format!("{path}[{n}] {why}"));
                    continue;
                }
            };
            if base.path.is_empty()
                && let Some(vendors) = vendors
            {
                base.path = vendors.path.clone();
            }
            self.like_the_first(url, &base, found.first().map(|first| &first.base), &path);
            if found.iter().any(|other| (&other.base.host, other.base.port) == (&base.host, base.port)) {
                self.faults.wrong(url.place, &path, format!("{path}: {} is written twice: remove one", url.quoted()));
            } else {
                found.push(PoolEndpoint { base, weight: at.value.weight.unwrap_or(1) });
            }
        }
        found
    }

    fn like_the_first(&mut self, at: &At<String>, base: &BaseUrl, first: Option<&BaseUrl>, path: &str) {
        let Some(first) = first else { return };
        let scheme = |base: &BaseUrl| if base.tls { "https" } else { "http" };
        if base.tls != first.tls {
            let message = format!(
                "{path}: {} is {}, but the first one is {}: write the same scheme for all",
                at.quoted(),
                scheme(base),
                scheme(first)
            );
            self.faults.wrong(at.place, path, message);
        }
        if base.path != first.path {
            let shown = |path: &str| if path.is_empty() { "/".to_owned() } else { path.to_owned() };
            let message = format!(
                "{path}: {} has the path {}, but the first one has {}: write the same path for all",
                at.quoted(),
                shown(&base.path),
                shown(&first.path)
            );
            self.faults.wrong(at.place, path, message);
        }
    }

    fn health(&mut self, typed: raw::Health, path: &str) -> Option<Health> {
        let at = typed.path?;
        if !at.value.starts_with('/') || !at.value.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            let message = format!("{path}.path: {} is not a path: begin it with \"/\", without spaces", at.quoted());
            self.faults.wrong(at.place, path, message);
        }
        Some(Health {
            path: at.value.into(),
            interval: self.deadline_or(typed.interval.as_ref(), &format!("{path}.interval"), 10),
            timeout: self.deadline_or(typed.timeout.as_ref(), &format!("{path}.timeout"), 2),
            healthy: typed.healthy.unwrap_or(2),
            unhealthy: typed.unhealthy.unwrap_or(3),
        })
    }

    fn ejection(&mut self, typed: Option<raw::Ejection>, path: &str) -> Ejection {
        let default = Ejection::default();
        let Some(raw::Ejection { off, failures, time, max }) = typed else { return default };
        if off.is_some() {
            return Ejection { failures: 0, ..default };
        }
        if let Some(at) = &time {
            self.not_zero(at, &format!("{path}.time"));
        }
        Ejection {
            failures: failures.unwrap_or(default.failures),
            time: time.map_or(default.time, |at| at.value.0),
            max_percent: max.map_or(default.max_percent, |share| share.0),
        }
    }

    fn deadline_or(&mut self, typed: Option<&At<raw::Period>>, path: &str, default_seconds: u64) -> Duration {
        let Some(at) = typed else { return Duration::from_secs(default_seconds) };
        self.not_zero(at, path);
        at.value.0
    }
}
