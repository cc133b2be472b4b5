//! Who is calling: a virtual key, compared by its keyed hash, or a token of an issuer's (`jwt`). A failed check never becomes some
//! default identity.
//!
//! The key is taken as `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`; two that differ are refused, since the provider's SDK and
//! we could mean different ones. The hash lookup reveals nothing by its timing that the hash does not: the pepper is secret.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderName};

use super::jwt::{self, Issuers};
use crate::config::keyring::{Found, Keyring};
use crate::config::keys;
use crate::config::snapshot::{Key, Keys};
use crate::error::{Error, Kind, Result};

/// Addresses whose wrong keys are remembered before old ones are forgotten.
const TRACKED: usize = 100_000;
/// While keys cannot be read.
const COME_BACK: Duration = Duration::from_secs(5);

/// Counts wrong keys per address. Carries over a reload; a changed limit starts anew.
pub struct Failures {
    per_minute: u32,
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    blocked: DashMap<IpAddr, Instant>,
    clock: DefaultClock,
}

/// Whose keys and tokens are known.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub keys: &'a Keys,
    pub keyring: &'a Keyring,
    pub issuers: &'a Issuers,
}

/// Who was let in.
#[derive(Debug, Clone)]
pub enum Caller {
    Key(Arc<Key>),
    /// No key is configured; only loopback is listened on.
    Open,
}

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
enum Shown<'a> {
    Key(&'a str),
    /// A token, and the header that is for nothing else, when it stood in one.
    Token(&'a str, Option<&'a HeaderName>),
}

/// The caller of a request, or why there is none. `now` tells the time keys expire by; it is asked for those that do.
pub async fn caller(
    known: &Known<'_>,
    failures: &Failures,
    headers: &HeaderMap,
    client: Option<IpAddr>,
    now: impl Fn() -> jiff::Timestamp,
) -> Result<Caller> {
    let Known { keys, keyring, issuers } = known;
    if keys.open {
        return Ok(Caller::Open);
    }
    if let Some(client) = client {
        failures.check(client)?;
    }
    let (checked, guess) = match shown(keys, headers) {
        Ok(Shown::Key(key)) => {
            let key = by_value(keys, keyring, key, now);
            let guess = key.as_ref().is_err_and(|error| error.kind == Kind::Unauthorized);
            (key, guess)
        }
        Ok(Shown::Token(token, header)) => {
            let caller = issuers.caller(&keys.issuers, header, token, now()).await;
            let guess = caller.as_ref().is_err_and(|refusal| refusal.is_a_guess());
            (caller.map_err(Error::from), guess)
        }
        Err(error) => (Err(error), true),
    };
    if checked.is_err()
        && guess
        && let Some(client) = client
    {
        failures.count(client);
    }
    checked.map(Caller::Key)
}

/// A header that an issuer has for its own goes first: whoever put it there stands between the client and us.
fn shown<'a>(keys: &'a Keys, headers: &'a HeaderMap) -> Result<Shown<'a>> {
    for header in keys.issuers.iter().filter_map(|issuer| issuer.header.as_ref()) {
        let mut values = headers.get_all(header).iter();
        let Some(value) = values.next() else { continue };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        let text =
            text.ok_or_else(|| unauthorized("The token's header is there twice, or holds unusual characters."))?;
        let text = text.trim();
        return Ok(Shown::Token(text.strip_prefix("Bearer ").unwrap_or(text), Some(header)));
    }
    let key = presented(headers)?;
    let by_key_or_token = keys.issuers.iter().any(|issuer| issuer.header.is_none());
    Ok(if by_key_or_token && jwt::looks_like(key) { Shown::Token(key, None) } else { Shown::Key(key) })
}

/// The key a request shows.
fn presented(headers: &HeaderMap) -> Result<&str> {
    let mut found: Option<&str> = None;
    for name in ["authorization", "x-api-key", "x-goog-api-key"] {
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| unauthorized("The API key holds characters no key has."))?.trim();
            let key = match name {
                "authorization" => match text.split_once(' ') {
                    Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => key.trim_start(),
                    _ => return Err(unauthorized("The Authorization header must read: Bearer YOUR_KEY.")),
                },
                _ => text,
            };
            if found.is_some_and(|other| other != key) {
                return Err(unauthorized("Two different API keys were sent; send one."));
            }
            found = Some(key);
        }
    }
    match found {
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(unauthorized("You didn't provide an API key. Send it as: Authorization: Bearer YOUR_KEY.")),
    }
}

/// Those of the file first.
fn by_value(keys: &Keys, keyring: &Keyring, presented: &str, now: impl Fn() -> jiff::Timestamp) -> Result<Arc<Key>> {
    // one of ours, mistyped: no need to look
    if keys::checksum_ok(presented) == Some(false) {
        return Err(unauthorized("Incorrect API key provided."));
    }
    let hash = keys::hash(&keys.pepper, presented);
    let key = match keys.by_hash.get(&hash) {
        Some(key) => Arc::clone(key),
        None => match keyring.find(&hash, keys.stale) {
            Found::Key(key) => key,
            Found::Nobody => return Err(unauthorized("Incorrect API key provided.")),
            Found::Unknown => return Err(unreadable()),
        },
    };
    in_force(&key, now)?;
    Ok(key)
}

/// Whether a key that is known opens anything.
pub fn in_force(key: &Key, now: impl Fn() -> jiff::Timestamp) -> Result<()> {
    if key.revoked {
        return Err(unauthorized(format!("API key \"{}\" has been revoked.", key.name)).code("key_revoked"));
    }
    if key.expires.is_some_and(|at| at <= now()) {
        return Err(unauthorized(format!("API key \"{}\" has expired.", key.name)).code("key_expired"));
    }
    Ok(())
}

/// Nobody is let in by what may have been changed meanwhile.
fn unreadable() -> Error {
    let kind = Kind::Overloaded { retry_after: COME_BACK };
    Error::new(kind, "The API key cannot be looked up at present; try again.").code("keys_unavailable")
}

fn unauthorized(say: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(Kind::Unauthorized, say)
}

// === impl Failures ===

impl Failures {
    /// `per_minute` 0: no limit.
    pub fn new(per_minute: u32) -> Self {
        let limiter = NonZeroU32::new(per_minute).map(|n| RateLimiter::keyed(Quota::per_minute(n)));
        Failures { per_minute, limiter, blocked: DashMap::new(), clock: DefaultClock::default() }
    }

    pub fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Refuse an address that has used up its guesses, before its key is looked at: a right guess among wrong ones gets no
    /// other answer.
    fn check(&self, client: IpAddr) -> Result<()> {
        if self.blocked.is_empty() {
            return Ok(());
        }
        let network = network(client);
        let Some(until) = self.blocked.get(&network).map(|until| *until) else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.blocked.remove(&network);
            return Ok(());
        }
        Err(Error::new(
            Kind::RateLimited { retry_after: left },
            "Too many requests with a wrong API key from your address; wait before you try again.",
        )
        .code("too_many_failures"))
    }

    /// Note a wrong key. Whoever exceeds the quota is blocked until it allows the next one.
    fn count(&self, client: IpAddr) {
        let Some(limiter) = &self.limiter else { return };
        if limiter.len() > TRACKED {
            limiter.retain_recent();
        }
        let network = network(client);
        if let Err(not_until) = limiter.check_key(&network) {
            let now = Instant::now();
            if self.blocked.len() > TRACKED {
                self.blocked.retain(|_, until| *until > now);
            }
            self.blocked.insert(network, now + not_until.wait_time_from(self.clock.now()));
        }
    }
}

/// One IPv6 customer holds a /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}
