//! The task that talks to the server, and how a call waits for what it brings.
//!
//! It is rung for counters that have used up their slice, and looks at all that it has on its list in each beat: what was spent is reported, what is
//! not needed is given back. One question a counter is under way, so that those who wait for the same share an answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::{Backoff, Connection};
use super::lease::{Answer, Ask};
use super::script::{Beat, Scripts};
use super::{Lane, Shared};
use crate::config::quota::Rule;
use crate::quota::Inner;
use crate::quota::counter::{Counter, Took};
use crate::quota::purse::Slip;
use crate::quota::refused::No;

const BEAT: Duration = Duration::from_millis(500);
/// Questions under way at once; more wait their turn.
const FLIGHTS: usize = 512;
/// In so many beats, budgets that are only shown are looked at.
const LOOK: u32 = 20;
/// For giving back at the end.
const CLOSING: Duration = Duration::from_secs(1);

/// A claim that its slice cannot serve: ring, and wait for the answer, but not for long.
/// `deadline`: of all that one call waits for; set by the first.
pub async fn wait(
    inner: &Inner,
    counter: &Arc<Counter>,
    rule: &Arc<Rule>,
    want: i64,
    deadline: &mut Option<Instant>,
) -> Result<Slip, No> {
    let (Some(shared), Some(line)) = (&inner.shared, &counter.line) else { return Ok(0) };
    let deadline = *deadline.get_or_insert_with(|| Instant::now() + shared.settings.patience);
    loop {
        let mut bell = std::pin::pin!(line.bell().notified());
        // before looking, so that no ring is missed
        bell.as_mut().enable();
        match counter.take(rule, want, inner.clock.now(), shared.link(line)) {
            Took::Taken(slip) => return Ok(slip),
            Took::No(no) => return Err(no),
            Took::Ask => shared.ring(counter),
        }
        if tokio::time::timeout_at(deadline, bell).await.is_err() {
            let alone = super::lease::Link { up: false, ..shared.link(line) };
            return match counter.take(rule, want, inner.clock.now(), alone) {
                Took::Taken(slip) => Ok(slip),
                Took::No(no) => Err(no),
                // nobody is asked when nobody can be
                Took::Ask => Err(No { wait: None, used: 0, held: 0, resets: None, outage: true }),
            };
        }
    }
}

/// Does not end. A second one listens in vain.
pub async fn run(inner: &Arc<Inner>, shared: &Shared) {
    let rings = shared.rings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let Some(rings) = rings else { return std::future::pending().await };
    // given back when this is dropped, so that another may go on
    let mut rings = Listening { shared, rings: Some(rings) };
    let scripts = Scripts::new();
    let mut worker = Worker {
        inner,
        shared,
        scripts: &scripts,
        listed: Vec::new(),
        queue: VecDeque::new(),
        flights: FuturesUnordered::new(),
        connection: None,
        connecting: None,
        backoff: Backoff::new(),
        beats: 0,
    };
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    worker.connect(Duration::ZERO);
    loop {
        let Some(receiver) = &mut rings.rings else { return };
        tokio::select! {
            rung = receiver.recv() => match rung {
                Some(counter) => worker.rung(&counter),
                None => return,
            },
            Some(landed) = worker.flights.next(), if !worker.flights.is_empty() => worker.landed(landed),
            connected = connected(&mut worker.connecting) => worker.connected(connected),
            _ = beat.tick() => worker.beat(),
        }
    }
}

/// Gives back all that is free, and says goodbye.
pub async fn close(inner: &Arc<Inner>, shared: &Shared) {
    let closing = async {
        let mut connection = shared.target.connect().await.ok()?;
        let scripts = Scripts::new();
        let mut counters = Vec::new();
        inner.counters.each(|counter| counters.push(Arc::clone(counter)));
        for counter in &counters {
            counter.with_lease(|_, lease| lease.close());
            let now = inner.clock.now();
            let (Some(line), Some((rule, ask))) = (&counter.line, counter.ask(now)) else { continue };
            let answer = scripts.ask(&mut connection, shared, line, &rule, &ask, now).await.ok()?;
            counter.hear(&ask, answer.as_ref(), now);
        }
        for lane in 0..shared.lanes.len() {
            scripts.beat(&mut connection, shared, lane, true).await.ok()?;
        }
        Some(())
    };
    if !matches!(tokio::time::timeout(CLOSING, closing).await, Ok(Some(()))) {
        tracing::warn!("budgets and limits: what this replica holds could not be given back to the shared counters");
    }
}

struct Worker<'a> {
    inner: &'a Arc<Inner>,
    shared: &'a Shared,
    scripts: &'a Scripts,
    /// Counters with something that the server does not know, or a lease.
    listed: Vec<Arc<Counter>>,
    queue: VecDeque<Flight>,
    flights: FuturesUnordered<Pin<Box<dyn Future<Output = Landed> + Send + 'a>>>,
    connection: Option<Connection>,
    connecting: Option<Connecting>,
    backoff: Backoff,
    beats: u32,
}

type Connecting = Pin<Box<dyn Future<Output = ::redis::RedisResult<Connection>> + Send>>;

enum Flight {
    Ask { counter: Arc<Counter>, rule: Arc<Rule>, ask: Box<Ask> },
    Beat { lane: usize },
}

enum Landed {
    Ask { counter: Arc<Counter>, ask: Box<Ask>, answer: Result<Option<Answer>, String> },
    Beat { lane: usize, beat: Result<Beat, String> },
}

struct Listening<'a> {
    shared: &'a Shared,
    rings: Option<mpsc::UnboundedReceiver<Arc<Counter>>>,
}

async fn connected(connecting: &mut Option<Connecting>) -> ::redis::RedisResult<Connection> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

// === impl Worker ===

impl<'a> Worker<'a> {
    fn rung(&mut self, counter: &Arc<Counter>) {
        let Some(line) = &counter.line else { return };
        line.ringing.store(false, Ordering::Release);
        if !line.listed.swap(true, Ordering::AcqRel) {
            self.listed.push(Arc::clone(counter));
        }
        self.look(counter);
    }

    /// Asks what the counter wants to ask.
    fn look(&mut self, counter: &Arc<Counter>) {
        let Some(line) = &counter.line else { return };
        if !self.lane(line.lane).is_some_and(|lane| lane.up.load(Ordering::Acquire)) {
            return;
        }
        if let Some((rule, ask)) = counter.ask(self.inner.clock.now()) {
            self.fly(Flight::Ask { counter: Arc::clone(counter), rule, ask: Box::new(ask) });
        }
    }

    fn fly(&mut self, flight: Flight) {
        let Some(connection) = self.connection.clone().filter(|_| self.flights.len() < FLIGHTS) else {
            return self.queue.push_back(flight);
        };
        let (inner, shared, scripts) = (self.inner, self.shared, self.scripts);
        self.flights.push(Box::pin(flight.run(inner, shared, scripts, connection)));
    }

    fn landed(&mut self, landed: Landed) {
        match landed {
            Landed::Ask { counter, ask, answer } => {
                let now = self.inner.clock.now();
                match answer {
                    Ok(answer) => {
                        let passed = counter.hear(&ask, answer.as_ref(), now);
                        self.inner.tell(&counter, &passed, now);
                        // who came meanwhile
                        self.look(&counter);
                    }
                    Err(why) => {
                        // first the lane: who is woken must see that it is down
                        self.down(counter.line.as_ref().map_or(0, |line| line.lane), &why);
                        counter.hear(&ask, None, now);
                    }
                }
            }
            Landed::Beat { lane, beat: Ok(beat) } => self.up(lane, beat),
            Landed::Beat { lane, beat: Err(why) } => self.down(lane, &why),
        }
        if let Some(next) = self.queue.pop_front() {
            self.fly(next);
        }
    }

    fn up(&mut self, lane: usize, beat: Beat) {
        let Some(known) = self.lane(lane) else { return };
        known.replicas.store(beat.replicas.max(1), Ordering::Relaxed);
        let mut generation = known.generation.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = generation.replace(beat.generation.clone());
        drop(generation);
        if before.is_some_and(|before| before != beat.generation) {
            tracing::warn!("the shared counters have lost their memory; telling them what is known here");
            self.tell_again(lane);
        }
        if !known.up.swap(true, Ordering::AcqRel) {
            self.backoff = Backoff::new();
            tracing::info!("shared counters are reached");
        }
    }

    fn down(&mut self, lane: usize, why: &str) {
        let Some(known) = self.lane(lane) else { return };
        if known.up.swap(false, Ordering::AcqRel) {
            tracing::warn!("shared counters cannot be reached ({why}); limits and budgets follow their on_outage");
        }
        let none = self.shared.lanes.iter().all(|lane| !lane.up.load(Ordering::Acquire));
        if none && self.connecting.is_none() {
            self.connection = None;
            let pause = self.backoff.next();
            self.connect(pause);
            self.give_up();
        }
    }

    /// What is not under way yet will not be.
    fn give_up(&mut self) {
        let now = self.inner.clock.now();
        for flight in std::mem::take(&mut self.queue) {
            if let Flight::Ask { counter, ask, .. } = flight {
                counter.hear(&ask, None, now);
            }
        }
    }

    fn connect(&mut self, pause: Duration) {
        let target = self.shared.target.clone();
        self.connecting = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            target.connect().await
        }));
    }

    fn connected(&mut self, connected: ::redis::RedisResult<Connection>) {
        self.connecting = None;
        match connected {
            Ok(connection) => {
                self.connection = Some(connection);
                self.beat_lanes();
            }
            Err(error) => {
                tracing::debug!("shared counters: {}", told(&error));
                let pause = self.backoff.next();
                self.connect(pause);
            }
        }
    }

    fn beat(&mut self) {
        if self.connection.is_some() {
            self.beat_lanes();
        }
        self.beats = self.beats.wrapping_add(1);
        let now = self.inner.clock.now();
        if self.beats.is_multiple_of(LOOK) {
            self.inner.counters.each(|counter| {
                if counter.pinned.load(Ordering::Relaxed) {
                    counter.with_lease(|_, lease| lease.look());
                    self.shared.ring(counter);
                }
            });
        }
        let listed = std::mem::take(&mut self.listed);
        for counter in &listed {
            counter.with_lease(|_, lease| lease.beat());
            self.look(counter);
        }
        self.listed = listed;
        self.listed.retain(|counter| !counter.unlist(now));
    }

    fn beat_lanes(&mut self) {
        for lane in 0..self.shared.lanes.len() {
            self.fly(Flight::Beat { lane });
        }
    }

    fn tell_again(&mut self, lane: usize) {
        let mut forgotten = Vec::new();
        self.inner.counters.each(|counter| {
            if counter.line.as_ref().is_some_and(|line| line.lane == lane) {
                forgotten.push(Arc::clone(counter));
            }
        });
        for counter in forgotten {
            if counter.with_lease(|rule, lease| lease.lost(rule)).unwrap_or(false) {
                self.shared.ring(&counter);
            }
        }
    }

    fn lane(&self, lane: usize) -> Option<&'a Lane> {
        self.shared.lanes.get(lane)
    }
}

// === impl Flight ===

impl Flight {
    async fn run(self, inner: &Inner, shared: &Shared, scripts: &Scripts, mut connection: Connection) -> Landed {
        let patience = shared.settings.patience;
        match self {
            Flight::Ask { counter, rule, ask } => {
                let Some(line) = &counter.line else { return Landed::Ask { counter, ask, answer: Ok(None) } };
                let now = inner.clock.now();
                let asking = scripts.ask(&mut connection, shared, line, &rule, &ask, now);
                let answer = in_time(patience, asking).await;
                Landed::Ask { counter, ask, answer }
            }
            Flight::Beat { lane } => {
                let beat = in_time(patience, scripts.beat(&mut connection, shared, lane, false)).await;
                Landed::Beat { lane, beat }
            }
        }
    }
}

async fn in_time<T>(patience: Duration, asking: impl Future<Output = ::redis::RedisResult<T>>) -> Result<T, String> {
    match tokio::time::timeout(patience, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(told(&error)),
        Err(_elapsed) => Err(format!("no answer in {} ms", patience.as_millis())),
    }
}

/// Its code or its kind: the text may hold what was sent.
fn told(error: &::redis::RedisError) -> String {
    error.code().map_or_else(|| format!("{:?}", error.kind()), str::to_owned)
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let mut rings = self.shared.rings.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *rings = self.rings.take();
    }
}
