//! From a plan to an answer that has begun: target after target until one of them has output, each asked in its own words. Nothing of a
//! target that failed reaches the client; while it waits, a stream's client is kept alive.
//!
//! ```text
//! next target -> breaker -> gate -> words (asking) -> attempt -> begun | judged: told, elsewhere, again
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::asking::{self, Asked, Question};
use super::attempt::{self, Begun, Class, Failed, How, Lost, Ready};
use super::billing::{self, Bill};
use super::exchange::{self, client_gone};
use super::flow::{self, Heartbeat};
use super::proxy::Shared;
use super::{bridge, splice};
use crate::balance;
use crate::call::{Call, Tried};
use crate::config::policy::{Disconnect, HedgeAfter};
use crate::dialect;
use crate::dialect::envelope::Envelope;
use crate::error::{Error, Kind, Refused, Result};
use crate::route::{Gauge, Gauges, Plan, Target};
use crate::upstream::gate::{Claim, Ticket};
use crate::upstream::retry::backoff;
use crate::upstream::track::{Flight, Name, Track, Tracks};

/// A caller's own time limit ends a call so much sooner than we do: it is told by its SDK what it expects to be told.
const BEHIND: Duration = Duration::from_millis(100);

/// How a pursuit ended.
pub enum Pursued {
    Begun(Box<Begun>),
    /// The provider's own refusal, for a client of its dialect.
    Refused(Box<ResponseHeader>, Bytes, Error),
}

/// A call on its way through its plan.
pub struct Chase<'a> {
    shared: &'a Shared,
    question: &'a Question<'a>,
    envelope: &'a Envelope,
    plan: &'a Plan,
    deadline: Instant,
    tries: Vec<Try>,
    /// How many tries are left.
    left: u32,
    /// The body holds what another provider signed.
    packed: bool,
    /// The failure that is told when none is left.
    worst: Option<Box<Failed>>,
    /// Why no target could be asked, if none was.
    closed: Option<Error>,
}

/// What became of a target so far.
#[derive(Debug, Clone, Copy, Default)]
struct Try {
    asked: u32,
    /// Not to be asked again by this call.
    spent: bool,
    not_before: Option<Instant>,
}

/// The client, before its answer.
pub struct Client<'a> {
    question: &'a Question<'a>,
    /// It has the header section of a stream already: to keep it alive something had to be said.
    pub opened: bool,
    heartbeat: Option<Heartbeat>,
}

/// What is known of targets, for the plan.
pub struct Known<'a> {
    pub tracks: &'a Tracks,
    pub tokens: u64,
    pub now: Instant,
}

// === impl Known ===

impl Gauges for Known<'_> {
    fn gauge(&self, target: &Target) -> Gauge {
        let Some(track) = self.tracks.get(target.id) else { return Gauge::default() };
        let rates = track.gate.rates(self.now);
        let share = |left: Option<u64>, limit: Option<u64>| match (left, limit) {
            (Some(left), Some(limit)) if limit > 0 => Some(left as f32 / limit as f32),
            _ => None,
        };
        let requests = share(rates.requests_left, rates.requests_limit);
        let tokens = share(rates.tokens_left, rates.tokens_limit);
        Gauge {
            in_flight: track.in_flight(),
            first_token: track.first_token(),
            refused: track.breaker.refuses(&target.breaker, self.now),
            wait: track.gate.wait(&target.provider.admission, self.tokens, self.now),
            left: match (requests, tokens) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

/// Tokens of a request, near enough for a queue.
pub fn estimate(envelope: &Envelope) -> u64 {
    envelope.body.len() as u64 / 4
}

// === impl Chase ===

impl<'a> Chase<'a> {
    pub fn new(shared: &'a Shared, question: &'a Question<'a>, envelope: &'a Envelope, plan: &'a Plan) -> Self {
        let targets = u32::try_from(plan.targets.len()).unwrap_or(u32::MAX);
        let own = plan.targets.first().map_or(Duration::ZERO, |target| target.timeouts.total);
        let own = question.started + plan.policy.total.unwrap_or(own);
        Chase {
            shared,
            question,
            envelope,
            plan,
            deadline: question.deadline.map_or(own, |callers| callers.min(own)),
            tries: vec![Try::default(); plan.targets.len()],
            left: plan.policy.retry.attempts.unwrap_or(targets),
            packed: asking::may_be_packed(envelope),
            worst: None,
            closed: None,
        }
    }

    /// Ask until an answer has begun. `Err` was not told to the client yet.
    pub async fn run(mut self, session: &mut Session, call: &mut Call, client: &mut Client<'_>) -> Result<Pursued> {
        while let Some(ready) = self.ready(session, call, client).await? {
            match self.ask(session, call, client, ready).await? {
                Ok(begun) => return Ok(Pursued::Begun(Box::new(begun))),
                Err(()) if self.left == 0 || self.is_callers() => break,
                Err(()) => {}
            }
        }
        self.give_up()
    }

    fn is_callers(&self) -> bool {
        self.worst.as_ref().is_some_and(|worst| worst.class() == Class::Caller)
    }

    /// What is told when no target is left.
    fn give_up(self) -> Result<Pursued> {
        match (self.worst.map(|worst| *worst), self.closed) {
            (Some(Failed { verbatim: Some((head, body)), error, .. }), _) => {
                Ok(Pursued::Refused(Box::new(head), body, error))
            }
            (Some(worst), _) => Err(worst.error),
            (None, Some(closed)) => Err(closed),
            (None, None) => Err(Error::internal("No target was asked.")),
        }
    }

    /// The next target that may be asked now, asked about with its own words. `None`: none is left.
    async fn ready(
        &mut self,
        session: &mut Session,
        call: &mut Call,
        client: &mut Client<'_>,
    ) -> Result<Option<Ready>> {
        while let Some((index, wait)) = self.next(Instant::now()) {
            if Instant::now() + wait >= self.deadline {
                return Ok(None);
            }
            let target = &self.plan.targets[index];
            let track = track(self.shared, target);
            if !self.may_ask(index, &track) {
                continue;
            }
            if !wait.is_zero() {
                call.waited += wait;
                client.wait(session, call, tokio::time::sleep(wait)).await?;
            }
            let Some(asked) = self.words(session, index) else { continue };
            let begun = Instant::now();
            let claim = self.claim(call);
            let entered = client.wait(session, call, track.gate.enter(&target.provider.admission, claim)).await;
            call.waited += begun.elapsed();
            match entered? {
                Ok(ticket) => {
                    if ticket.position > 0 {
                        call.queued = Some((ticket.position, ticket.waited));
                    }
                    let Some(flight) = self.admit(index, target, &track) else { continue };
                    // waits for shared counters at most, and those for some milliseconds
                    match self.bill(call, &asked).await {
                        Ok(bill) => return Ok(Some(self.go(call, index, asked, flight, ticket, bill))),
                        Err(error) => self.unpaid(call, index, flight, error),
                    }
                }
                Err(full) => {
                    self.tries[index].spent = true;
                    let error = Error::new(
                        Kind::RateLimited { retry_after: full.retry_after },
                        "The provider's rate limit is used up, and as many calls as may are waiting for it.",
                    );
                    self.close(error.code("upstream_queue_full"));
                    call.tried.push(Tried::new(&target.provider.name, &target.model, "queue_full".into()));
                }
            }
        }
        Ok(None)
    }

    /// What the try may cost, put aside and written down.
    async fn bill(&self, call: &Call, asked: &Asked) -> Result<Bill> {
        let input = billing::tokens_of(self.envelope.body.len() as u64);
        Bill::open(self.shared, call, asked, self.question.most.as_ref(), input, Instant::now()).await
    }

    /// A budget or a limit stands in the way of a try: another target may be cheaper.
    fn unpaid(&mut self, call: &mut Call, index: usize, mut flight: Flight, error: Error) {
        flight.neutral();
        self.tries[index].spent = true;
        let target = &self.plan.targets[index];
        call.tried.push(Tried::new(&target.provider.name, &target.model, error.kind.label().into()));
        self.close(error);
    }

    /// Everything is there: the try begins.
    fn go(&mut self, call: &mut Call, index: usize, asked: Asked, flight: Flight, ticket: Ticket, bill: Bill) -> Ready {
        if self.tries[index].asked == 0 {
            flight.track.retries.deposit(self.plan.policy.retry.budget);
        }
        self.tries[index].asked += 1;
        self.left = self.left.saturating_sub(1);
        call.attempts += 1;
        call.provider = Some(asked.target.provider.name.clone());
        call.upstream_model = Some(asked.target.model.clone());
        call.lane = Some(asked.lane);
        Ready { index, asked, flight, ticket, bill }
    }

    /// Which target is next, and how long to wait for it. Those not asked yet come first, in the plan's order.
    fn next(&self, now: Instant) -> Option<(usize, Duration)> {
        if let Some(index) = self.tries.iter().position(|t| t.asked == 0 && !t.spent) {
            return Some((index, Duration::ZERO));
        }
        let open = self.tries.iter().enumerate().filter(|(_, t)| !t.spent);
        let (index, again) = open.min_by_key(|(_, t)| t.not_before)?;
        Some((index, again.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))))
    }

    /// Whether it is worth finding words for a target: its breaker is not open, and another try at it is within the budget.
    fn may_ask(&mut self, index: usize, track: &Track) -> bool {
        let now = Instant::now();
        let again = self.tries[index].asked > 0;
        if again && (self.plan.policy.retry.budget == 0 || !track.retries.withdraw(now)) {
            self.tries[index].spent = true;
            return false;
        }
        let refused = track.breaker.refuses(&self.plan.targets[index].breaker, now);
        if let Some(wait) = refused {
            self.left_alone(index, wait);
        }
        refused.is_none()
    }

    /// The breaker's leave.
    fn admit(&mut self, index: usize, target: &Target, track: &Arc<Track>) -> Option<Flight> {
        match track.admit(&target.breaker, Instant::now()) {
            Ok(flight) => Some(flight),
            Err(wait) => {
                self.left_alone(index, wait);
                None
            }
        }
    }

    fn left_alone(&mut self, index: usize, wait: Duration) {
        self.tries[index].spent = true;
        let kind = Kind::UpstreamRefused { status: 503, reason: Refused::Overloaded, retry_after: Some(wait) };
        let say = "The providers of this model fail at the moment and are left alone for a while.";
        self.close(Error::new(kind, say).code("breaker_open"));
    }

    /// The question in the target's words. What cannot be said to one may be said to another.
    fn words(&mut self, session: &Session, index: usize) -> Option<Asked> {
        let target = &self.plan.targets[index];
        let headers = &session.req_header().headers;
        match Asked::new(self.question, headers, self.envelope, target, self.packed, self.plan.affinity) {
            Ok(asked) => Some(asked),
            Err(error) => {
                self.tries[index].spent = true;
                self.remember(Failed::new(How::Unasked, error));
                None
            }
        }
    }

    fn claim(&self, call: &Call) -> Claim {
        let key = call.key.as_ref();
        Claim {
            // by its name, which a reload leaves as it is
            key: key.map_or(0, |key| {
                let mut hash = balance::Hash::new(0);
                hash.bytes(key.name.as_str().as_bytes());
                hash.finish()
            }),
            weight: key.map_or(1, |key| key.weight),
            tokens: estimate(self.envelope),
            deadline: self.deadline,
        }
    }

    /// Ask one target, or two where a hedge is wanted. `Ok(Err)`: judged, go on.
    async fn ask(
        &mut self,
        session: &mut Session,
        call: &mut Call,
        client: &mut Client<'_>,
        ready: Ready,
    ) -> Result<Result<Begun, ()>> {
        let after = match self.plan.policy.hedge.map(|hedge| hedge.after) {
            None => None,
            Some(HedgeAfter::Fixed(after)) => Some(after),
            Some(HedgeAfter::P95) => ready.flight.track.first_token_p95(),
        };
        let ended = match after {
            None => {
                let mut begun = std::pin::pin!(attempt::begin(self.shared, self.question, ready, self.deadline));
                let waited = client.wait(session, call, begun.as_mut()).await;
                if waited.is_err() && call.disconnect == Disconnect::Drain {
                    // nobody waits for it but the ledger
                    if let Ok(Ok(begun)) = tokio::time::timeout(flow::FOR_NOBODY, begun).await {
                        exchange::unheard(call, begun).await;
                    }
                }
                waited?
            }
            Some(after) => Box::pin(self.hedge(session, call, client, ready, after)).await?,
        };
        Ok(ended.map_err(|failed| self.judge(call, *failed)))
    }

    /// Ask a second target when the first takes long; the one that begins first answers, the other is given up.
    async fn hedge(
        &mut self,
        session: &mut Session,
        call: &mut Call,
        client: &mut Client<'_>,
        ready: Ready,
        after: Duration,
    ) -> Result<Result<Begun, Box<Lost>>> {
        let (shared, question, deadline) = (self.shared, self.question, self.deadline);
        let mut first = std::pin::pin!(attempt::begin(shared, question, ready, deadline));
        let early = client.wait(session, call, tokio::time::timeout(after, first.as_mut())).await?;
        if let Ok(ended) = early {
            return Ok(ended);
        }
        let Some(second) = self.spare(session, call).await else {
            return client.wait(session, call, first).await;
        };
        let mut second = std::pin::pin!(attempt::begin(shared, question, second, deadline));
        let both = async {
            tokio::select! {
                ended = &mut first => (ended, true),
                ended = &mut second => (ended, false),
            }
        };
        let (ended, was_first) = client.wait(session, call, both).await?;
        let lost = match ended {
            Ok(begun) => {
                shared.metrics.hedges.with_label_values(&[if was_first { "first" } else { "second" }]).inc();
                return Ok(Ok(begun));
            }
            Err(lost) => lost,
        };
        self.judge(call, *lost);
        if was_first { client.wait(session, call, second).await } else { client.wait(session, call, first).await }
    }

    /// A target for a hedge: one that was not asked and need not be waited for.
    async fn spare(&mut self, session: &Session, call: &mut Call) -> Option<Ready> {
        if self.left == 0 {
            return None;
        }
        while let Some(index) = self.tries.iter().position(|t| t.asked == 0 && !t.spent) {
            let target = &self.plan.targets[index];
            let track = track(self.shared, target);
            if !self.may_ask(index, &track) {
                continue;
            }
            let Some(asked) = self.words(session, index) else { continue };
            let now = Instant::now();
            let claim = Claim { deadline: now, ..self.claim(call) };
            let entered = tokio::time::timeout(Duration::ZERO, track.gate.enter(&target.provider.admission, claim));
            let Ok(Ok(ticket)) = entered.await else { return None };
            let flight = self.admit(index, target, &track)?;
            match self.bill(call, &asked).await {
                Ok(bill) => return Some(self.go(call, index, asked, flight, ticket, bill)),
                Err(error) => self.unpaid(call, index, flight, error),
            }
        }
        None
    }

    /// What follows from a failure.
    fn judge(&mut self, call: &mut Call, lost: Lost) {
        let Lost { index, failed, target } = lost;
        call.waited += failed.seen.waited;
        let since_start = failed.begun.map_or(Duration::ZERO, |begun| begun.saturating_duration_since(call.started));
        call.first_byte = failed.seen.first_byte.map(|after| since_start + after);
        call.upstream_request_id.clone_from(&failed.seen.upstream_request_id);
        call.tried.push(Tried::new(&target.provider.name, &target.model, failed.short()));
        let again = failed.class() == Class::Transient && self.worth_another(&failed);
        let Some(tried) = self.tries.get_mut(index) else { return };
        tried.spent = !again;
        if again {
            let retry = &self.plan.policy.retry;
            let wait = backoff(retry, tried.asked, balance::mix(self.question.seed ^ u64::from(call.attempts)));
            let asked_for = failed.retry_after().unwrap_or_default();
            // longer than we would wait: the caller is told instead
            tried.spent = asked_for > retry.max_backoff;
            tried.not_before = Some(Instant::now() + wait.max(asked_for));
        } else if failed.class() == Class::Transient {
            // not to be tried again, says the configuration: anywhere
            self.left = 0;
        }
        self.shared.metrics.failovers.with_label_values(&[target.provider.name.as_str(), failed.label()]).inc();
        self.remember(failed);
    }

    /// Whether the configuration wants another try after this.
    fn worth_another(&self, failed: &Failed) -> bool {
        use crate::config::policy::RetryOn;
        let on = &self.plan.policy.retry;
        match failed.how {
            How::Unasked => false,
            How::Connect => on.on.contains(&RetryOn::Connect),
            How::Timeout => on.on.contains(&RetryOn::Timeout),
            How::Broken => on.on.contains(&RetryOn::Broken),
            How::Refused(status) => on.covers_status(status),
        }
    }

    /// Of several failures one is told.
    fn remember(&mut self, failed: Box<Failed>) {
        self.worst = Some(Failed::worse(self.worst.take(), failed));
    }

    /// No leave: the soonest one is told.
    fn close(&mut self, error: Error) {
        let sooner = |error: &Error| error.kind.retry_after().unwrap_or(u64::MAX);
        if self.closed.as_ref().is_none_or(|closed| sooner(&error) < sooner(closed)) {
            self.closed = Some(error);
        }
    }
}

fn track(shared: &Shared, target: &Target) -> Arc<Track> {
    shared.tracks.of(target.id, || Name {
        provider: target.provider.name.as_str().into(),
        account: target.provider.account,
        model: target.model.clone(),
    })
}

// === impl Client ===

impl<'a> Client<'a> {
    /// `every`: how often a silent stream gets a word; zero: never.
    pub fn new(question: &'a Question<'a>, every: Duration) -> Self {
        let beats = question.stream && !every.is_zero();
        Client { question, opened: false, heartbeat: beats.then(|| Heartbeat::new(every)) }
    }

    /// Wait for something while the client is there; a stream's client hears that we are.
    pub async fn wait<T>(
        &mut self,
        session: &mut Session,
        call: &mut Call,
        what: impl Future<Output = T>,
    ) -> Result<T> {
        let mut what = std::pin::pin!(what);
        loop {
            let beat = async {
                match &mut self.heartbeat {
                    Some(heartbeat) => heartbeat.timer.as_mut().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = &mut what => return Ok(done),
                gone = session.downstream_session.read_body_or_idle(true) => return Err(client_gone(gone)),
                () = beat => {}
            }
            if self.heartbeat.as_mut().is_some_and(Heartbeat::due) {
                self.beat(session, call).await?;
            }
        }
    }

    async fn beat(&mut self, session: &mut Session, call: &mut Call) -> Result<()> {
        if !self.opened {
            let head = || -> pingora::Result<ResponseHeader> {
                let mut head = ResponseHeader::build_no_case(200, Some(16))?;
                head.insert_header(http::header::CONTENT_TYPE, bridge::media_type(self.question.form))?;
                head.insert_header(http::header::CACHE_CONTROL, "no-cache")?;
                Ok(head)
            };
            flow::stream_head(session, call, head().map_err(flow::broken_head)?).await?;
            self.opened = true;
        }
        let alive = match dialect::inbound(self.question.inquiry.operation) {
            Some(inbound) => Bytes::from_static(inbound.stream_encoder(&self.question.reply_to()).heartbeat()),
            None => splice::HEARTBEAT.clone(),
        };
        flow::write(session, call, Some(alive), false).await
    }
}

/// When the caller itself gives up: what OpenAI's and Anthropic's SDKs say of their own timeouts, in seconds.
pub fn callers_deadline(headers: &HeaderMap) -> Option<Duration> {
    ["x-stainless-timeout", "x-stainless-read-timeout"].iter().find_map(|name| {
        let seconds = headers.get(*name)?.to_str().ok()?.trim().parse::<f64>().ok()?;
        let own = Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero())?;
        Some(own.saturating_add(BEHIND))
    })
}
