//! All limits of one target side by side: those its replies tell of and those of our configuration. A call passes when each has room for it.

use std::time::{Duration, Instant};

use super::Rates;
use super::bucket::{Bucket, Refill};
use super::rates::{Dim, Said, Span};
use crate::config::policy::Admission;

/// A configured limit passes so much of itself at once after a pause; over longer spans it holds exactly. Providers count by the minute and tolerate
/// that much (a twelfth), and a client's handful of parallel calls is not torn apart.
const BURST: Duration = Duration::from_secs(5);
/// A limit that no reply has told of for so long is no longer believed in.
const FORGOTTEN: Duration = Duration::from_secs(600);
const MINUTE: f64 = 60.0;
/// What limits are for, in seconds.
const PERIODS: [f64; 4] = [1.0, MINUTE, 3600.0, 24.0 * 3600.0];
/// A provider may count so many times our estimate.
const MOST_SCALE: f64 = 8.0;

#[derive(Debug)]
pub struct Limits {
    all: Vec<Limit>,
    /// What our estimates of tokens are multiplied with: more than 1 after refusals that they should have prevented.
    scale: f64,
}

#[derive(Debug)]
struct Limit {
    dim: Dim,
    bucket: Bucket,
    /// When a reply last told of it.
    seen: Instant,
}

/// Calls and their tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub calls: u64,
    pub tokens: u64,
}

/// Which call a reply answers, as far as we know.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Since it was let through; at most, where it is not known which one it was.
    pub age: Duration,
    /// What was let through that the provider may not have counted when it wrote this. `None`: not known.
    pub missing: Option<Load>,
    pub tokens: u64,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Limits { all: Vec::new(), scale: 1.0 }
    }
}

impl Limits {
    pub fn configure(&mut self, admission: &Admission, now: Instant) {
        self.own(Dim::OwnRequests, admission.rpm.map(f64::from), now);
        self.own(Dim::OwnTokens, admission.tpm.map(|tpm| tpm as f64), now);
    }

    fn own(&mut self, dim: Dim, per_minute: Option<f64>, now: Instant) {
        let at = self.all.iter().position(|limit| limit.dim == dim);
        let Some(per_minute) = per_minute.filter(|n| *n > 0.0) else {
            if let Some(at) = at {
                self.all.swap_remove(at);
            }
            return;
        };
        let rate = per_minute / MINUTE;
        let burst = (rate * BURST.as_secs_f64()).max(1.0);
        let refill = Refill::Steady { rate };
        match at.and_then(|at| self.all.get_mut(at)) {
            Some(limit) => limit.bucket.become_of(burst, refill, now),
            None => self.all.push(Limit { dim, bucket: Bucket::new(burst, burst, refill, now), seen: now }),
        }
    }

    /// How long until a call can pass, when `ahead` passes before it.
    pub fn wait(&self, ahead: Load, tokens: u64, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        for limit in self.valid(now) {
            let cost = self.cost(limit.dim, Load { calls: 1, tokens });
            longest = longest.max(limit.bucket.wait(self.cost(limit.dim, ahead), cost, now));
        }
        longest
    }

    pub fn take(&mut self, tokens: u64, now: Instant) {
        self.change(tokens, |bucket, cost| bucket.take(cost, now));
    }

    pub fn give(&mut self, tokens: u64, now: Instant) {
        self.change(tokens, |bucket, cost| bucket.give(cost, now));
    }

    fn change(&mut self, tokens: u64, apply: impl Fn(&mut Bucket, f64)) {
        for at in 0..self.all.len() {
            let Some(dim) = self.all.get(at).map(|limit| limit.dim) else { continue };
            let cost = self.cost(dim, Load { calls: 1, tokens });
            if let Some(limit) = self.all.get_mut(at) {
                apply(&mut limit.bucket, cost);
            }
        }
    }

    /// Whether tokens run out before calls do, with calls of this size.
    pub fn bound_by_tokens(&self, tokens: f64, now: Instant) -> bool {
        let slowest = |of_tokens: bool| {
            let rates = self.valid(now).filter(|limit| is_tokens(limit.dim) == of_tokens).map(|limit| {
                let rate = match limit.bucket.refill() {
                    Refill::Steady { rate } => rate,
                    Refill::Window { period, .. } => limit.bucket.limit() / period.as_secs_f64().max(0.1),
                };
                rate / if of_tokens { (tokens * self.scale * self.share(limit.dim)).max(1.0) } else { 1.0 }
            });
            rates.fold(f64::INFINITY, f64::min)
        };
        slowest(true) < slowest(false)
    }

    /// What a reply says. True: it says of a limit that the call it answers did not fit into what is left.
    pub fn hear(&mut self, said: &[Said], asked: &Asked, refused: bool, now: Instant) -> bool {
        self.all.retain(|limit| limit.is_valid(now));
        let expected = self.wait(Load::default(), asked.tokens, now).is_zero();
        let mut short = false;
        let mut short_of_tokens = false;
        for said in said {
            self.hear_one(said, asked, now);
            let limit = self.all.iter().find(|limit| limit.dim == said.dim).map_or(0.0, |limit| limit.bucket.limit());
            if let Some(left) = said.left.filter(|_| limit >= 1.0) {
                let need = self.cost(said.dim, Load { calls: 1, tokens: asked.tokens });
                // a tenth: our estimate of tokens is one
                let need = if is_tokens(said.dim) { need.max(limit / 10.0) } else { need };
                short |= left < need;
                short_of_tokens |= is_tokens(said.dim) && left < need;
            }
        }
        if !refused {
            self.scale = 1.0 + (self.scale - 1.0) * 0.998;
        } else if short_of_tokens && expected {
            self.scale = (self.scale * 1.25).min(MOST_SCALE);
        }
        short
    }

    fn hear_one(&mut self, said: &Said, asked: &Asked, now: Instant) {
        let known = self.all.iter().position(|limit| limit.dim == said.dim);
        let before = known.and_then(|at| self.all.get(at)).map(|limit| limit.bucket);
        // without a limit, what is left at a time from which on there will be more is all we know
        let guess = said.left.filter(|_| said.reset.is_some_and(|reset| !reset.is_zero())).map(|left| left.max(1.0));
        let Some(limit) = said.limit.or(before.map(|b| b.limit())).or(guess).filter(|limit| *limit >= 1.0) else {
            return;
        };
        let left = said.left.map(|left| left.min(limit));
        let refill = refill(said, limit, left, before, now);
        let Some(known) = known.and_then(|at| self.all.get_mut(at)) else {
            let bucket = Bucket::new(limit, left.unwrap_or(limit), refill, now);
            self.all.push(Limit { dim: said.dim, bucket, seen: now });
            return;
        };
        known.seen = now;
        if (known.bucket.limit(), known.bucket.refill()) != (limit, refill) {
            known.bucket.become_of(limit, refill, now);
        }
        if let Some(left) = left {
            let missing = asked.missing.map(|missing| self.cost(said.dim, missing));
            if let Some(known) = self.all.iter_mut().find(|limit| limit.dim == said.dim) {
                known.bucket.hear(left, missing, asked.age, now);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The tightest of each kind, those that the provider tells of first.
    pub fn show(&self, rates: &mut Rates, now: Instant) {
        let tightest = |learned: &[Dim], own: Dim| {
            let full = |limit: &&Limit| limit.bucket.level(now) / limit.bucket.limit();
            let told = self.valid(now).filter(|limit| learned.contains(&limit.dim));
            let rank = |limit: &Limit| learned.iter().position(|dim| *dim == limit.dim);
            let order = |a: &&Limit, b: &&Limit| full(a).total_cmp(&full(b)).then_with(|| rank(a).cmp(&rank(b)));
            told.min_by(order).or_else(|| self.valid(now).find(|limit| limit.dim == own))
        };
        let spans = [Span::Short, Span::Hour, Span::Day];
        let requests = tightest(&spans.map(Dim::Requests), Dim::OwnRequests);
        let [short, hour, day] = spans.map(Dim::Tokens);
        let tokens = tightest(&[short, hour, day, Dim::InputTokens, Dim::OutputTokens], Dim::OwnTokens);
        let left = |limit: &Limit| limit.bucket.level(now).max(0.0) as u64;
        rates.requests_limit = requests.map(|limit| limit.stands_for() as u64);
        rates.requests_left = requests.map(left);
        rates.tokens_limit = tokens.map(|limit| limit.stands_for() as u64);
        rates.tokens_left = tokens.map(left);
        let resets = [requests, tokens].into_iter().flatten().map(|limit| limit.bucket.reset(now));
        rates.reset_ms = resets.max().map(|reset| u64::try_from(reset.as_millis()).unwrap_or(u64::MAX));
    }

    fn valid(&self, now: Instant) -> impl Iterator<Item = &Limit> {
        self.all.iter().filter(move |limit| limit.is_valid(now))
    }

    fn cost(&self, dim: Dim, load: Load) -> f64 {
        match dim {
            Dim::Requests(_) | Dim::OwnRequests => load.calls as f64,
            Dim::OwnTokens => load.tokens as f64,
            Dim::Tokens(_) | Dim::InputTokens | Dim::OutputTokens => load.tokens as f64 * self.scale * self.share(dim),
        }
    }

    /// An estimate is of input and output together: where the two are limited apart, each is taken to get its limit's share.
    fn share(&self, dim: Dim) -> f64 {
        let of = |dim| self.all.iter().find(|limit| limit.dim == dim).map_or(0.0, |limit| limit.bucket.limit());
        let (input, output) = match dim {
            Dim::InputTokens | Dim::OutputTokens => (of(Dim::InputTokens), of(Dim::OutputTokens)),
            _ => return 1.0,
        };
        let own = if dim == Dim::InputTokens { input } else { output };
        if own > 0.0 { own / (input + output) } else { 1.0 }
    }
}

impl Limit {
    fn is_valid(&self, now: Instant) -> bool {
        is_own(self.dim) || now.saturating_duration_since(self.seen) < FORGOTTEN
    }

    /// For status: of our own the limit a minute, not the burst.
    fn stands_for(&self) -> f64 {
        match (is_own(self.dim), self.bucket.refill()) {
            (true, Refill::Steady { rate }) => (rate * MINUTE).round(),
            _ => self.bucket.limit(),
        }
    }
}

fn is_own(dim: Dim) -> bool {
    matches!(dim, Dim::OwnRequests | Dim::OwnTokens)
}

fn is_tokens(dim: Dim) -> bool {
    matches!(dim, Dim::Tokens(_) | Dim::InputTokens | Dim::OutputTokens | Dim::OwnTokens)
}

/// How a limit fills up. Where the time until it is whole fits to a bucket that fills a whole limit in a second, a minute, an hour or a day, it is
/// one; a longer time that fits to none is the end of a window; with nothing to go by it stays what it was, and begins as a limit a minute.
fn refill(said: &Said, limit: f64, left: Option<f64>, before: Option<Bucket>, now: Instant) -> Refill {
    if said.steady {
        return Refill::Steady { rate: limit / MINUTE };
    }
    let told = said.period.map(|period| period.as_secs_f64().max(1.0));
    let used = left.map_or(0.0, |left| limit - left);
    if let Some(reset) = said.reset.map(|reset| reset.as_secs_f64()).filter(|reset| used >= 1.0 && *reset >= 0.004) {
        let period = limit * reset / used;
        if let Some(period) = PERIODS.into_iter().find(|p| (0.667..1.5).contains(&(period / p))) {
            return Refill::Steady { rate: limit / period };
        }
        if reset >= 1.0 {
            let last = match before.map(|b| b.refill()) {
                Some(Refill::Window { period, .. }) => period.as_secs_f64(),
                _ => MINUTE,
            };
            let period = super::bucket::seconds(told.unwrap_or(last).max(reset));
            return Refill::Window { end: now + super::bucket::seconds(reset), period };
        }
    }
    match (told, before.map(|b| (b.limit(), b.refill()))) {
        (Some(period), None | Some((_, Refill::Steady { .. }))) => Refill::Steady { rate: limit / period },
        (_, Some((_, window @ Refill::Window { .. }))) => window,
        (None, Some((old, Refill::Steady { rate }))) => Refill::Steady { rate: rate * limit / old },
        (None, None) => Refill::Steady { rate: limit / MINUTE },
    }
}
