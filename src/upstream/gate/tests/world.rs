//! Upstreams that are limited in different ways, and clients that ask for more than they give, on a held clock.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::super::{Claim, Gate, clock};
use crate::config::policy::Admission;

/// What limits an upstream, and what it says of that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Nothing.
    Free,
    /// A bucket of requests and one of tokens a minute, told in every answer.
    Told { rpm: f64, tpm: f64 },
    /// The same, told in Anthropic's way: by RFC 3339, in whole seconds.
    ToldInSeconds { rpm: f64, tpm: f64 },
    /// So many within each minute, told with the end of it.
    Window { limit: u32 },
    /// A bucket with room for `burst` that says nothing but 429.
    Silent { rate: f64, burst: f64 },
    /// The same, with `retry-after` in whole seconds.
    RetryAfter { rate: f64, burst: f64 },
    /// 503 when more than so many are under way.
    AtOnce { most: u32 },
    /// Nothing, but for ten seconds a minute it answers so.
    Outage { status: u16 },
}

pub struct Upstream {
    pub kind: Kind,
    begun: Instant,
    requests: f64,
    tokens: f64,
    at: Instant,
    under_way: u32,
    /// It counts so many times what the gate is told.
    pub counts: f64,
    chance: u64,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub retry_after: Option<Duration>,
}

/// Of one kind of client.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub key: u64,
    pub weight: u32,
    /// Calls a second.
    pub rate: f64,
    pub from: f64,
    pub to: f64,
    pub tokens: (u64, u64),
    pub deadline: f64,
}

#[derive(Debug, Default, Clone)]
pub struct Figures {
    pub asked: u32,
    pub good: u32,
    /// By the upstream.
    pub refused: u32,
    /// By the gate: at once, and after waiting.
    pub full: u32,
    pub full_late: u32,
    pub longest: Duration,
    /// When each good one was let through, in seconds.
    pub let_through: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Learns {
    FromTicket,
    FromGate,
}

impl Upstream {
    pub fn new(kind: Kind) -> Self {
        let now = clock();
        let (requests, tokens) = match kind {
            Kind::Told { rpm, tpm } | Kind::ToldInSeconds { rpm, tpm } => (rpm, tpm),
            Kind::Window { limit } => (f64::from(limit), 0.0),
            Kind::Silent { burst, .. } | Kind::RetryAfter { burst, .. } => (burst, 0.0),
            Kind::Free | Kind::AtOnce { .. } | Kind::Outage { .. } => (0.0, 0.0),
        };
        Upstream { kind, begun: now, requests, tokens, at: now, under_way: 0, counts: 1.0, chance: 7 }
    }

    pub fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.chance >> 33) as f64 / (1u64 << 31) as f64
    }

    pub fn ask(&mut self, tokens: u64) -> Reply {
        let now = clock();
        let passed = (now - self.at).as_secs_f64();
        let tokens = tokens as f64 * self.counts;
        let ok = match self.kind {
            Kind::Free => true,
            Kind::Outage { .. } => (now - self.begun).as_secs() % 60 < 50,
            Kind::Told { rpm, tpm } | Kind::ToldInSeconds { rpm, tpm } => {
                self.requests = (self.requests + passed * rpm / 60.0).min(rpm);
                self.tokens = (self.tokens + passed * tpm / 60.0).min(tpm);
                let ok = self.requests >= 1.0 && self.tokens >= tokens;
                if ok {
                    self.requests -= 1.0;
                    self.tokens -= tokens;
                }
                ok
            }
            Kind::Window { limit } => {
                let window = |at: Instant| (at - self.begun).as_secs() / 60;
                if window(now) != window(self.at) {
                    self.requests = f64::from(limit);
                }
                let ok = self.requests >= 1.0;
                self.requests -= if ok { 1.0 } else { 0.0 };
                ok
            }
            Kind::Silent { rate, burst } | Kind::RetryAfter { rate, burst } => {
                self.requests = (self.requests + passed * rate).min(burst);
                let ok = self.requests >= 1.0;
                self.requests -= if ok { 1.0 } else { 0.0 };
                ok
            }
            Kind::AtOnce { most } => {
                let ok = self.under_way < most;
                self.under_way += u32::from(ok);
                ok
            }
        };
        self.at = now;
        self.reply(ok, tokens)
    }

    pub fn ended(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    fn reply(&self, ok: bool, cost: f64) -> Reply {
        let status = if ok { 200 } else { 429 };
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: String| {
            headers.insert(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(&value).unwrap());
        };
        let mut retry_after = None;
        match self.kind {
            Kind::Told { rpm, tpm } => {
                let ms = |used: f64, limit: f64| format!("{}ms", (used / limit * 60_000.0).round());
                put("x-ratelimit-limit-requests", rpm.to_string());
                put("x-ratelimit-limit-tokens", tpm.to_string());
                put("x-ratelimit-remaining-requests", self.requests.floor().to_string());
                put("x-ratelimit-remaining-tokens", self.tokens.floor().to_string());
                put("x-ratelimit-reset-requests", ms(rpm - self.requests, rpm));
                put("x-ratelimit-reset-tokens", ms(tpm - self.tokens, tpm));
                if !ok {
                    let wait = ((1.0 - self.requests) / rpm).max((cost - self.tokens) / tpm) * 60.0;
                    retry_after = Some(Duration::from_secs_f64(wait.max(0.0).ceil()));
                }
            }
            Kind::ToldInSeconds { rpm, tpm } => {
                let wall = 1_750_000_000.0 + (self.at - self.begun).as_secs_f64();
                let time = |at: f64| jiff::Timestamp::from_second(at as i64).unwrap();
                let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&time(wall)).unwrap();
                put("date", date);
                for (thing, left, limit) in [("requests", self.requests, rpm), ("tokens", self.tokens, tpm)] {
                    let name = |what| format!("anthropic-ratelimit-{thing}-{what}");
                    put(&name("limit"), limit.to_string());
                    put(&name("remaining"), left.floor().to_string());
                    put(&name("reset"), time(wall + (limit - left) / limit * 60.0).to_string());
                }
                if !ok {
                    retry_after = Some(Duration::from_secs(1));
                }
            }
            Kind::Window { limit } => {
                let left = 60.0 - (self.at - self.begun).as_secs_f64() % 60.0;
                put("ratelimit-limit", format!("{limit};w=60"));
                put("ratelimit-remaining", self.requests.floor().to_string());
                put("ratelimit-reset", left.ceil().to_string());
                if !ok {
                    retry_after = Some(Duration::from_secs_f64(left.ceil()));
                }
            }
            Kind::RetryAfter { rate, .. } if !ok => {
                retry_after = Some(Duration::from_secs_f64(((1.0 - self.requests) / rate).ceil()));
            }
            Kind::Free | Kind::Silent { .. } | Kind::RetryAfter { .. } => {}
            Kind::Outage { status } => return Reply { status: if ok { 200 } else { status }, headers, retry_after },
            Kind::AtOnce { .. } => return Reply { status: if ok { 200 } else { 503 }, headers, retry_after },
        }
        Reply { status, headers, retry_after }
    }
}

/// Let every load run against one gate and one upstream. The answers take `lasting` (from, to) seconds.
pub async fn run(
    upstream: Upstream,
    admission: Admission,
    loads: &[Load],
    lasting: (f64, f64),
    learns: Learns,
) -> BTreeMap<u64, Figures> {
    let gate = Rc::new(Gate::default());
    let upstream = Rc::new(RefCell::new(upstream));
    let figures: Rc<RefCell<BTreeMap<u64, Figures>>> = Rc::default();
    let under_way = Rc::new(Cell::new(0u32));
    let begun = tokio::time::Instant::now();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut callers = Vec::new();
            for load in loads.iter().copied() {
                let (gate, upstream, figures, under_way) =
                    (gate.clone(), upstream.clone(), figures.clone(), under_way.clone());
                callers.push(tokio::task::spawn_local(async move {
                    let calls = ((load.to - load.from) * load.rate) as u64;
                    for n in 0..calls {
                        let at = begun + Duration::from_secs_f64(load.from + n as f64 / load.rate);
                        tokio::time::sleep_until(at).await;
                        under_way.set(under_way.get() + 1);
                        let call = one(
                            gate.clone(),
                            upstream.clone(),
                            figures.clone(),
                            admission,
                            load,
                            lasting,
                            learns,
                            begun,
                        );
                        let under_way = under_way.clone();
                        tokio::task::spawn_local(async move {
                            call.await;
                            under_way.set(under_way.get() - 1);
                        });
                    }
                }));
            }
            for caller in callers {
                caller.await.unwrap();
            }
            for _ in 0..10_000 {
                if under_way.get() == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await;
    assert_eq!(under_way.get(), 0, "a call was lost");
    let rates = gate.rates(clock());
    assert_eq!((rates.in_flight, rates.waiting), (0, 0));
    let figures = figures.borrow().clone();
    for of in figures.values() {
        assert_eq!(of.asked, of.good + of.refused + of.full + of.full_late, "{of:?}");
    }
    figures
}

#[expect(clippy::too_many_arguments, reason = "one call knows all of its world")]
async fn one(
    gate: Rc<Gate>,
    upstream: Rc<RefCell<Upstream>>,
    figures: Rc<RefCell<BTreeMap<u64, Figures>>>,
    admission: Admission,
    load: Load,
    lasting: (f64, f64),
    learns: Learns,
    begun: tokio::time::Instant,
) {
    let since = clock();
    let (tokens, delay, lasts) = {
        let mut up = upstream.borrow_mut();
        let tokens = load.tokens.0 + ((load.tokens.1 - load.tokens.0) as f64 * up.chance()) as u64;
        (tokens, 0.01 + 0.04 * up.chance(), lasting.0 + (lasting.1 - lasting.0) * up.chance())
    };
    let deadline = since + Duration::from_secs_f64(load.deadline);
    let claim = Claim { key: load.key, weight: load.weight, tokens, deadline };
    let entered = gate.enter(&admission, claim).await;
    let waited = clock() - since;
    let note = |change: &dyn Fn(&mut Figures)| change(figures.borrow_mut().entry(load.key).or_default());
    note(&|of| {
        of.asked += 1;
        of.longest = of.longest.max(waited);
    });
    let ticket = match entered {
        Ok(ticket) => ticket,
        Err(full) => {
            assert!(full.retry_after > Duration::ZERO && full.depth <= admission.depth, "{full:?}");
            let late = waited >= Duration::from_millis(50);
            note(&|of| if late { of.full_late += 1 } else { of.full += 1 });
            return;
        }
    };
    let let_through = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs_f64(delay)).await;
    let reply = upstream.borrow_mut().ask(tokens);
    tokio::time::sleep(Duration::from_secs_f64(delay)).await;
    match learns {
        Learns::FromTicket => ticket.learn(&reply.headers, reply.status, reply.retry_after, clock()),
        Learns::FromGate => gate.learn(&reply.headers, reply.status, reply.retry_after, clock()),
    }
    let good = reply.status == 200;
    if good {
        tokio::time::sleep(Duration::from_secs_f64(lasts)).await;
        upstream.borrow_mut().ended();
    }
    drop(ticket);
    note(&|of| {
        if good {
            of.good += 1;
            of.let_through.push(let_through);
        } else {
            of.refused += 1;
        }
    });
}
