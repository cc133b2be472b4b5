//! What is made of refusals that say nothing of a limit: a pause, and a pace or a number of calls at once that is found by trying.
//!
//! A 429 is taken as a limit of calls in time, a 503 or 529 as one of calls at once. Both are cut back a little below what was served, come back
//! to that quickly, and then ask for more slowly (additive increase, multiplicative decrease).

use std::time::{Duration, Instant};

use super::bucket::seconds;
use super::flights::Number;

/// Of what was served before a refusal, so much is asked for after it.
const BACK: f64 = 0.92;
/// A refusal after so many successes may be chance, and costs only so much.
const RARE: f64 = 30.0;
/// Or so many seconds' successes.
const RARE_TIME: f64 = 3.0;
const BACK_A_LITTLE: f64 = 0.97;
/// And so much more a second, once that is reached; faster the longer nothing is refused (see `eager`).
const MORE: f64 = 0.01;
/// A place more in so many seconds, once as many are taken as were served; faster likewise, and where there are many places.
const PLACE: f64 = 10.0;
const SLOWEST: f64 = 1.0 / 30.0;
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A provider's own `Retry-After` is not believed for longer; then a call asks again.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Without a refusal, and with nobody held back, what was found is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub struct Adapt {
    pace: Option<Pace>,
    room: Option<Room>,
    closed_until: Option<Instant>,
    /// Rounds of refusals since the last success.
    streak: u32,
    /// Calls before it were let through before the last cut: that they are refused too is no news.
    cut: Number,
    cut_at: Option<Instant>,
    tally: Tally,
}

/// Calls a second.
#[derive(Debug)]
struct Pace {
    rate: f64,
    /// What was served when it was last cut.
    peak: f64,
    /// The peak was measured between two refusals, not guessed.
    measured: bool,
    level: f64,
    at: Instant,
    cut_at: Instant,
    good: u32,
    grown: Instant,
    bound: bool,
    bound_at: Instant,
}

/// Calls at once.
#[derive(Debug)]
struct Room {
    limit: f64,
    /// What was served when it was last cut, and the time before that.
    peak: f64,
    before: f64,
    /// The peak lies between successes and refusals: it is not just that nothing worked for a while.
    measured: bool,
    cut_at: Instant,
    /// How often as many succeeded as are let through at once, since it is back at its peak.
    rounds: f64,
    grown: Instant,
    bound: bool,
    bound_at: Instant,
}

/// Successes a second, lately.
#[derive(Debug, Default)]
struct Tally {
    since: Option<Instant>,
    count: u32,
    last: f64,
}

/// A refusal.
#[derive(Debug, Clone, Copy)]
pub struct Refused {
    pub status: u16,
    pub number: Number,
    /// What is known of the limits explains it.
    pub explained: bool,
    pub retry_after: Option<Duration>,
    /// The refused call included.
    pub in_flight: u32,
    /// The number of the next call.
    pub next: Number,
}

// === impl Adapt ===

impl Adapt {
    /// How long until the next call may go. Notes that somebody is held back, if so.
    pub fn hold(&mut self, now: Instant) -> Duration {
        if let Some(pace) = &mut self.pace {
            if !pace.bound && now.saturating_duration_since(pace.bound_at.max(pace.cut_at)) > FORGOTTEN {
                self.pace = None;
            } else if !pace.wait(0.0, now).is_zero() {
                (pace.bound, pace.bound_at) = (true, now);
            }
        }
        self.wait(0, now)
    }

    pub fn wait(&self, ahead: u64, now: Instant) -> Duration {
        let closed = self.closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        closed.max(self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.wait(ahead as f64, now)))
    }

    pub fn take(&mut self, now: Instant) {
        if let Some(pace) = &mut self.pace {
            pace.settle(now);
            pace.level -= 1.0;
        }
    }

    pub fn give(&mut self, now: Instant) {
        if let Some(pace) = &mut self.pace {
            pace.settle(now);
            pace.level += 1.0;
        }
    }

    /// Calls at once.
    pub fn room(&self) -> Option<u32> {
        self.room.as_ref().map(|room| (room.limit as u32).max(1))
    }

    /// A call was held back because so many are under way.
    pub fn crowded(&mut self, now: Instant) {
        if let Some(room) = &mut self.room {
            (room.bound, room.bound_at) = (true, now);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.pace.is_none() && self.room.is_none() && self.closed_until.is_none()
    }

    pub fn succeeded(&mut self, number: Number, now: Instant) {
        self.tally.count(now);
        if !self.is_older(number, now) {
            self.streak = 0;
        }
        if let Some(pace) = &mut self.pace {
            pace.succeeded(now);
        }
        if let Some(room) = &mut self.room {
            if room.bound {
                room.grow(now);
            } else if now.saturating_duration_since(room.bound_at) > FORGOTTEN {
                self.room = None;
            }
        }
    }

    pub fn refused(&mut self, refused: Refused, now: Instant) {
        let closed = self.closed_until;
        if let Some(asked) = refused.retry_after {
            self.close(asked.min(LONGEST_ASKED), now);
        }
        let again = self.is_older(refused.number, now);
        if refused.status != 429 {
            self.crowd(&refused, again, now);
        }
        if again {
            return;
        }
        (self.cut, self.cut_at) = (refused.next, Some(now));
        self.streak = self.streak.saturating_add(1);
        // a refusal that the limits explain needs nothing else, unless they go on explaining it
        if refused.status == 429 && (!refused.explained || self.streak > 3) {
            let recent = self.tally.recent(now);
            let pause = self.cut_pace(recent, closed, now);
            if refused.retry_after.is_none() {
                self.close(pause, now);
            }
        }
    }

    /// Whether a call was let through before the last cut. Of one without a number that is likely for a while.
    fn is_older(&self, number: Number, now: Instant) -> bool {
        let Some(cut_at) = self.cut_at else { return false };
        if number == 0 { now.saturating_duration_since(cut_at) < PAUSE } else { number < self.cut }
    }

    fn cut_pace(&mut self, recent: f64, closed: Option<Instant>, now: Instant) -> Duration {
        let Some(pace) = &mut self.pace else {
            self.pace = Some(Pace::new(recent.max(1.0), now));
            return PAUSE;
        };
        if f64::from(pace.good) >= (pace.rate * RARE_TIME).max(RARE) {
            pace.cut_a_little(now);
            return Duration::ZERO;
        }
        pace.cut(closed, now);
        match self.streak {
            0 | 1 => seconds(2.0 / pace.rate).clamp(PAUSE / 20, PAUSE),
            more => PAUSE.saturating_mul(1 << (more - 2).min(8)).min(LONGEST_PAUSE),
        }
    }

    fn crowd(&mut self, refused: &Refused, again: bool, now: Instant) {
        let served = f64::from(refused.in_flight.saturating_sub(1)).max(1.0);
        match &mut self.room {
            Some(room) => room.cut(served, again, self.streak == 0, now),
            None => self.room = Some(Room::new(served, now)),
        }
    }

    fn close(&mut self, pause: Duration, now: Instant) {
        let until = now + pause;
        self.closed_until = Some(self.closed_until.map_or(until, |before| before.max(until)));
    }
}

// === impl Pace ===

impl Pace {
    fn new(served: f64, now: Instant) -> Self {
        let rate = served * BACK;
        Pace {
            rate,
            peak: served,
            measured: false,
            level: 0.0,
            at: now,
            cut_at: now,
            good: 0,
            grown: now,
            bound: true,
            bound_at: now,
        }
    }

    fn wait(&self, ahead: f64, now: Instant) -> Duration {
        let level = self.level + self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        let missing = ahead + 1.0 - level.min(self.burst());
        if missing <= 1e-6 { Duration::ZERO } else { seconds(missing / self.rate) }
    }

    /// A fifth of a second's calls may go together, once one has succeeded: until then one at a time.
    fn burst(&self) -> f64 {
        if self.good == 0 { 1.0 } else { (self.rate * 0.2).max(1.0) }
    }

    fn settle(&mut self, now: Instant) {
        let grown = self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + grown).min(self.burst());
        self.at = self.at.max(now);
    }

    /// Refused again. What was served since the last time is what the provider gives, if anything was.
    fn cut(&mut self, closed: Option<Instant>, now: Instant) {
        let since = closed.map_or(self.cut_at, |until| until.clamp(self.cut_at, now));
        let elapsed = now.saturating_duration_since(since).as_secs_f64().max(0.05);
        if self.good == 0 {
            self.rate = (self.rate / 2.0).max(SLOWEST);
        } else {
            self.peak = (f64::from(self.good) / elapsed).clamp(self.rate * 0.4, self.rate);
            self.rate = (self.peak * BACK).max(SLOWEST);
            self.measured = true;
        }
        (self.good, self.level) = (0, 0.0);
        (self.at, self.cut_at, self.grown, self.bound_at) = (now, now, now, now);
    }

    fn cut_a_little(&mut self, now: Instant) {
        self.settle(now);
        self.rate *= BACK_A_LITTLE;
        self.peak = self.rate / BACK;
        self.measured = true;
        (self.good, self.level) = (0, 0.0);
        (self.cut_at, self.grown, self.bound_at) = (now, now, now);
    }

    fn succeeded(&mut self, now: Instant) {
        self.good = self.good.saturating_add(1);
        let most = (2.0 / self.rate).max(1.0);
        let passed = now.saturating_duration_since(self.grown).as_secs_f64().min(most);
        self.settle(now);
        self.grown = now;
        if std::mem::take(&mut self.bound) {
            let back = self.peak * BACK;
            self.rate = if self.rate < back {
                (self.rate * passed.min(1.0).exp2()).min(back)
            } else if self.measured {
                self.rate + self.peak * MORE * passed * eager(self.cut_at, now)
            } else {
                self.rate * (passed / 2.0).min(0.5).exp2()
            };
        }
    }
}

// === impl Room ===

impl Room {
    fn new(served: f64, now: Instant) -> Self {
        Room {
            limit: (served * BACK).max(1.0),
            peak: served,
            before: served,
            measured: false,
            cut_at: now,
            rounds: 0.0,
            grown: now,
            bound: true,
            bound_at: now,
        }
    }

    /// So many were served when one was refused. `again`: one of those that came with the last refused one; each says more exactly how many it
    /// is. `worked`: something has succeeded since the last cut.
    fn cut(&mut self, served: f64, again: bool, worked: bool, now: Instant) {
        // more are under way than are let through now: refused for what was let through before, it says no more than the last one
        let again = again || served >= self.limit + 1.0;
        let served = served.min(self.limit.max(1.0));
        if !again {
            (self.before, self.measured) = (self.peak, worked);
        }
        self.peak = served;
        self.limit = if again { served } else { (served * BACK).max(1.0) };
        // it fell by more than half at once: that is a fault of the provider's rather than its limit
        self.measured &= self.peak >= self.before / 2.0;
        self.rounds = 0.0;
        (self.cut_at, self.grown, self.bound_at) = (now, now, now);
    }

    /// One success: twice as many each round up to what was served before, or as long as that is not known.
    fn grow(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.grown).as_secs_f64().min(PLACE);
        (self.grown, self.bound) = (now, false);
        if !self.measured {
            self.limit += 1.0;
        } else if self.limit < self.peak {
            self.limit = (self.limit + 1.0).min(self.peak);
        } else {
            // nor sooner than in eight rounds, so that few are refused where calls take long
            let round = 1.0 / self.limit.max(1.0);
            self.rounds += round;
            let large = (self.limit / 20.0).max(1.0);
            let by_rounds = round * large * (0.125 + self.rounds * self.rounds / 1024.0).min(1.0);
            let by_time = passed * (self.limit * MORE).max(1.0 / PLACE) * eager(self.cut_at, now);
            self.limit += by_time.min(by_rounds);
        }
    }
}

/// How much faster more is asked for when nothing has been refused for long: what a provider gives may have grown manifold.
fn eager(since: Instant, now: Instant) -> f64 {
    let tens = now.saturating_duration_since(since).as_secs_f64() / 10.0;
    1.0 + (tens * tens).min(100.0)
}

// === impl Tally ===

impl Tally {
    fn count(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        if elapsed >= 2.0 {
            self.last = f64::from(self.count) / elapsed;
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
    }

    fn recent(&self, now: Instant) -> f64 {
        let elapsed = self.since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        if elapsed < 1.0 && self.last > 0.0 { self.last } else { f64::from(self.count) / elapsed.max(1.0) }
    }
}
