//! Callers who show a token of an issuer's (`auth.jwt`) in the place of a key: RFC 7519, verified as RFC 8725 asks.
//!
//! Owns the issuers' keys: they are fetched beside the calls (`watch`), and a call waits only when it shows a key that nobody has seen, once in half
//! a minute. While an issuer is down its last keys serve, for a bounded time; then its tokens are refused, never waved through. A token is
//! neither logged nor kept: what is remembered of it is its hash. Who a caller is stands in `claims`, what a token is in `token`.

mod claims;
mod fetch;
mod keyset;
mod known;
mod refusal;
mod signature;
mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::HeaderName;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use self::fetch::Http;
use self::keyset::KeySet;
use self::known::{Fingerprint, Known, Verified};
use self::token::{Header, Parts};
use crate::config::issuer::{Issuer, KeySource};
use crate::config::snapshot::Key;
use crate::json::{Members, Node};

pub use refusal::Refusal;
pub use token::looks_like;

/// The issuers of one process, their keys, and the tokens seen.
pub struct Issuers {
    entries: ArcSwap<Vec<Arc<Entry>>>,
    known: Known,
    http: Http,
    /// Something is to be fetched before its time.
    wake: Notify,
    pace: Pace,
}

/// How often, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two fetches for the sake of unknown keys.
    pub floor: Duration,
    /// A call waits so long for one.
    pub patience: Duration,
    /// A whole fetch, discovery included.
    pub fetch: Duration,
    /// After a failure; twice as long after each other one, up to `most_pause`.
    pub pause: Duration,
    pub most_pause: Duration,
}

/// One issuer's keys. Kept over a reload by what they are.
struct Entry {
    source: KeySource,
    refresh: AtomicU64,
    set: ArcSwapOption<KeySet>,
    flight: Mutex<Flight>,
    /// Counts the fetches that have ended.
    landed: watch::Sender<u64>,
}

struct Flight {
    under_way: bool,
    next: Instant,
    /// The last fetch for the sake of an unknown key.
    wanted: Option<Instant>,
    failures: u32,
}

// === impl Pace ===

impl Default for Pace {
    fn default() -> Self {
        Pace {
            floor: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            fetch: Duration::from_secs(10),
            pause: Duration::from_secs(1),
            most_pause: Duration::from_secs(60),
        }
    }
}

// === impl Issuers ===

impl Default for Issuers {
    fn default() -> Self {
        Issuers::new(Pace::default())
    }
}

impl Issuers {
    pub fn new(pace: Pace) -> Self {
        signature::install();
        Issuers {
            entries: ArcSwap::default(),
            known: Known::default(),
            http: Http::default(),
            wake: Notify::new(),
            pace,
        }
    }

    /// From now on these are configured: the keys of others are forgotten, those of new ones fetched.
    pub fn follow(&self, issuers: &[Arc<Issuer>]) {
        self.entries.rcu(|entries| {
            let mut kept: Vec<_> = entries.iter().filter(|entry| entry.serves(issuers)).cloned().collect();
            for issuer in issuers {
                match kept.iter().find(|entry| entry.source == issuer.source) {
                    Some(entry) => entry.refresh.store(millis(issuer.refresh), Ordering::Relaxed),
                    None => kept.push(Arc::new(Entry::new(issuer))),
                }
            }
            kept
        });
        self.wake.notify_one();
    }

    /// Who calls with this token. `header`: where it stood, when not where keys stand.
    pub async fn caller(
        &self,
        issuers: &[Arc<Issuer>],
        header: Option<&HeaderName>,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Key>, Refusal> {
        let print: Fingerprint = Sha256::digest(token.as_bytes()).into();
        if let Some(key) = self.seen(&print, issuers, header, now) {
            return Ok(key);
        }
        // seldom, and large: the futures of calls need no room for it
        Box::pin(self.first_seen(print, issuers, header, token, now)).await
    }

    async fn first_seen(
        &self,
        print: Fingerprint,
        issuers: &[Arc<Issuer>],
        header: Option<&HeaderName>,
        token: &str,
        now: Timestamp,
    ) -> Result<Arc<Key>, Refusal> {
        let parts = Parts::cut(token)?;
        let (head, claims) = (parts.header()?, parts.claims()?);
        let maker =
            claims.get("iss").and_then(Node::as_str).ok_or(Refusal::untrusted("it does not say who issued it"))?;
        let mut worst = Refusal::untrusted("its issuer is not known here");
        for issuer in issuers.iter().filter(|i| i.header.as_ref() == header && *i.source.issuer == *maker) {
            match self.verified(issuer, &parts, &head, &claims, now).await {
                Ok(verified) => {
                    let key = Arc::clone(&verified.key);
                    self.known.put(print, verified);
                    return Ok(key);
                }
                Err(refusal) => worst = worst.max(refusal),
            }
        }
        Err(worst)
    }

    /// Fetch the keys that are due, and wait until it is done.
    pub async fn refresh(&self) {
        let (due, _) = self.due(Instant::now());
        futures_util::future::join_all(due.iter().map(|entry| self.fetch(Arc::clone(entry)))).await;
    }

    /// Keep the keys fresh, until the process ends.
    pub async fn watch(&self) {
        let mut flights = FuturesUnordered::new();
        loop {
            let (due, next) = self.due(Instant::now());
            flights.extend(due.into_iter().map(|entry| self.fetch(entry)));
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.wake.notified() => {}
                Some(()) = flights.next(), if !flights.is_empty() => {}
            }
        }
    }

    /// A token that was verified before, if it still holds.
    fn seen(
        &self,
        print: &Fingerprint,
        issuers: &[Arc<Issuer>],
        header: Option<&HeaderName>,
        now: Timestamp,
    ) -> Option<Arc<Key>> {
        let verified = self.known.get(print)?;
        let current = issuers.iter().any(|issuer| Arc::ptr_eq(issuer, &verified.issuer));
        let same_place = verified.issuer.header.as_ref() == header;
        let holds = verified.key.expires.is_some_and(|end| now < end);
        let same_keys =
            self.entry(&verified.issuer).fresh(&verified.issuer, now).is_some_and(|set| set.epoch == verified.epoch);
        if current && same_place && holds && same_keys {
            return Some(verified.key);
        }
        // another snapshot may still take it; whoever is right puts it back
        self.known.forget(print);
        None
    }

    async fn verified(
        &self,
        issuer: &Arc<Issuer>,
        parts: &Parts<'_>,
        head: &Header,
        claims: &Members<'_>,
        now: Timestamp,
    ) -> Result<Verified, Refusal> {
        if !issuer.algorithms.contains(&head.algorithm) {
            return Err(Refusal::untrusted("its signature is of a kind that is not taken"));
        }
        let set = self.keys_for(issuer, head, now).await?;
        let signed = set
            .fitting(head.algorithm, head.kid.as_deref())
            .any(|key| signature::verifies(parts.signature, parts.signed, &key.key, head.algorithm));
        if !signed {
            return Err(Refusal::untrusted("its signature is wrong"));
        }
        let key = Arc::new(claims::caller(claims, issuer, now)?);
        Ok(Verified { key, issuer: Arc::clone(issuer), epoch: set.epoch })
    }

    /// A set with a key that such a token could be signed with.
    async fn keys_for(&self, issuer: &Issuer, head: &Header, now: Timestamp) -> Result<Arc<KeySet>, Refusal> {
        let entry = self.entry(issuer);
        let fits = |set: &Arc<KeySet>| set.fitting(head.algorithm, head.kid.as_deref()).next().is_some();
        let set = entry.fresh(issuer, now);
        if let Some(set) = set.filter(|set| fits(set)) {
            return Ok(set);
        }
        if let Some(mut landed) = entry.want(self.pace.floor) {
            self.wake.notify_one();
            // whether it landed in time or not: what is there now counts
            let _ = timeout(self.pace.patience, landed.changed()).await;
        }
        match entry.fresh(issuer, now) {
            Some(set) if fits(&set) => Ok(set),
            Some(_) => Err(Refusal::UnknownKey),
            None => Err(Refusal::Unavailable),
        }
    }

    fn entry(&self, issuer: &Issuer) -> Arc<Entry> {
        let find = |entries: &[Arc<Entry>]| entries.iter().find(|entry| entry.source == issuer.source).cloned();
        if let Some(entry) = find(&self.entries.load()) {
            return entry;
        }
        // a reload that nobody has told of yet
        let new = Arc::new(Entry::new(issuer));
        self.entries.rcu(|entries| match find(entries) {
            Some(_) => Vec::clone(entries),
            None => entries.iter().cloned().chain([Arc::clone(&new)]).collect(),
        });
        find(&self.entries.load()).unwrap_or(new)
    }

    /// Those whose time has come, now under way, and when the next one's comes.
    fn due(&self, now: Instant) -> (Vec<Arc<Entry>>, Instant) {
        let mut next = now + Duration::from_secs(3600);
        let mut due = Vec::new();
        for entry in self.entries.load().iter() {
            let mut flight = entry.flight();
            if flight.under_way {
                continue;
            }
            if flight.next <= now {
                flight.under_way = true;
                due.push(Arc::clone(entry));
            } else {
                next = next.min(flight.next);
            }
        }
        (due, next)
    }

    async fn fetch(&self, entry: Arc<Entry>) {
        let text = match timeout(self.pace.fetch, self.http.keys(&entry.source)).await {
            Ok(text) => text,
            Err(_) => Err(format!("no answer within {} s", self.pace.fetch.as_secs_f32())),
        };
        let before = entry.set.load_full();
        let read = text.and_then(|text| Ok(KeySet::read(&text, Timestamp::now(), before.as_deref())?));
        let issuer = &entry.source.issuer;
        let wait = match read {
            Ok(set) => {
                if before.is_none_or(|before| before.epoch != set.epoch) {
                    tracing::info!("issuer {issuer}: {} keys that can verify its tokens", set.len());
                }
                entry.set.store(Some(Arc::new(set)));
                entry.flight().failures = 0;
                Duration::from_millis(entry.refresh.load(Ordering::Relaxed))
            }
            Err(why) => {
                let still = before.map_or_else(String::new, |set| format!("; those of {} still serve", set.fetched));
                tracing::warn!("issuer {issuer}: its keys could not be had: {why}{still}");
                let mut flight = entry.flight();
                flight.failures = flight.failures.saturating_add(1);
                let doubled = self.pace.pause.saturating_mul(1 << (flight.failures - 1).min(16));
                doubled.min(self.pace.most_pause)
            }
        };
        {
            let mut flight = entry.flight();
            flight.under_way = false;
            flight.next = Instant::now() + wait;
        }
        entry.landed.send_modify(|count| *count += 1);
    }
}

// === impl Entry ===

impl Entry {
    fn new(issuer: &Issuer) -> Self {
        Entry {
            source: issuer.source.clone(),
            refresh: AtomicU64::new(millis(issuer.refresh)),
            set: ArcSwapOption::empty(),
            flight: Mutex::new(Flight { under_way: false, next: Instant::now(), wanted: None, failures: 0 }),
            landed: watch::Sender::new(0),
        }
    }

    fn serves(&self, issuers: &[Arc<Issuer>]) -> bool {
        issuers.iter().any(|issuer| issuer.source == self.source)
    }

    /// The keys, unless they are too old to be trusted.
    fn fresh(&self, issuer: &Issuer, now: Timestamp) -> Option<Arc<KeySet>> {
        self.set.load_full().filter(|set| now.duration_since(set.fetched).as_secs_f64() <= issuer.stale.as_secs_f64())
    }

    /// A fetch to wait for: one that is under way, or a new one when the last of its sort is long ago. While the issuer cannot be asked the
    /// watch tries at its own pace.
    fn want(&self, floor: Duration) -> Option<watch::Receiver<u64>> {
        let mut flight = self.flight();
        let now = Instant::now();
        // marked as seen: only a fetch that ends from now on counts
        let landed = self.landed.subscribe();
        if flight.under_way || (self.set.load().is_none() && flight.failures == 0) {
            return Some(landed);
        }
        if flight.failures > 0 || flight.wanted.is_some_and(|last| now.duration_since(last) < floor) {
            return None;
        }
        flight.wanted = Some(now);
        flight.next = now;
        Some(landed)
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // a few numbers, whole between any two statements
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
