//! The scripts, and how a question becomes arguments and an answer numbers.

use ::redis::{RedisResult, Script, ScriptInvocation};

use super::connection::Connection;
use super::lease::{Answer, Ask, oldest};
use super::{Line, Shared};
use crate::config::quota::{Measure, Rule, Window};
use crate::quota::bucket::Rate;
use crate::quota::clock::Now;
use crate::quota::period::period;

/// A counter is kept for some days behind its period, so that what comes late is booked where it belongs.
const KEPT: i64 = 3 * 24 * 3600 * 1000;
/// Leases of calls at once of a replica that is not heard of.
const SLOTS_TTL: i64 = 30_000;

pub struct Scripts {
    lease: Script,
    rate: Script,
    beat: Script,
}

/// What a beat says.
#[derive(Debug)]
pub struct Beat {
    pub generation: String,
    pub replicas: i64,
}

// === impl Scripts ===

impl Scripts {
    pub fn new() -> Self {
        Scripts {
            lease: Script::new(include_str!("lua/lease.lua")),
            rate: Script::new(include_str!("lua/rate.lua")),
            beat: Script::new(include_str!("lua/beat.lua")),
        }
    }

    /// `None`: it was asked too late, something newer was said meanwhile.
    pub async fn ask(
        &self,
        connection: &mut Connection,
        shared: &Shared,
        line: &Line,
        rule: &Rule,
        ask: &Ask,
        now: Now,
    ) -> RedisResult<Option<Answer>> {
        let said: Vec<i64> = connection.run(&self.question(shared, line, rule, ask, now)).await?;
        Ok(answer(rule, &said))
    }

    pub fn question(&self, shared: &Shared, line: &Line, rule: &Rule, ask: &Ask, now: Now) -> ScriptInvocation<'_> {
        match Rate::of(rule) {
            Some(rate) => self.rate(shared, line, rate, ask),
            None => self.lease(shared, line, rule, ask, now),
        }
    }

    pub async fn beat(
        &self,
        connection: &mut Connection,
        shared: &Shared,
        lane: usize,
        closing: bool,
    ) -> RedisResult<Beat> {
        let mut script = self.beat.key(shared.mark(lane));
        script.arg(&shared.me).arg(generation()).arg(quarantine(shared)).arg(u8::from(closing));
        let (generation, replicas) = connection.run(&script).await?;
        Ok(Beat { generation, replicas })
    }

    fn rate(&self, shared: &Shared, line: &Line, rate: Rate, ask: &Ask) -> ScriptInvocation<'_> {
        let mut script = self.rate.key(shared.name(line, 0));
        script.key(shared.mark(line.lane)).arg(&shared.me);
        for number in [rate.amount, rate.every, rate.size, ask.give, ask.need, ask.want, ask.least] {
            script.arg(number);
        }
        script
    }

    fn lease(&self, shared: &Shared, line: &Line, rule: &Rule, ask: &Ask, now: Now) -> ScriptInvocation<'_> {
        let money = rule.of == Measure::Usd;
        let (ttl, expire, first, slice) = match &rule.window {
            Window::Rolling(time) => {
                let running = period(&rule.window, now.wall);
                let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 2);
                (millis, millis.saturating_add(KEPT), oldest(*time, running), running.begins)
            }
            Window::Calendar { .. } => (0, (ask.ends - now.wall).max(0) / 1000 + KEPT, 0, 0),
            Window::Lifetime => (0, 0, 0, 0),
            Window::Now | Window::Rate { .. } => (SLOTS_TTL, SLOTS_TTL * 2, 0, 0),
        };
        let soft: Vec<String> = rule.soft.iter().map(|percent| part(rule.amount, *percent).to_string()).collect();
        let mut script = self.lease.key(shared.name(line, ask.period));
        script.key(shared.mark(line.lane)).arg(&shared.me).arg(ask.sequence);
        for number in [rule.amount, ask.floor, ask.need, ask.want, ask.least] {
            script.arg(number);
        }
        script.arg(u8::from(ask.met)).arg(ask.known).arg(generation()).arg(quarantine(shared));
        script.arg(ttl).arg(expire).arg(first).arg(slice).arg(u8::from(money)).arg(soft.join(","));
        for (begins, sum) in &ask.settled {
            script.arg(*begins).arg(*sum);
        }
        script
    }
}

pub fn answer(rule: &Rule, said: &[i64]) -> Option<Answer> {
    match said {
        [granted, left, wait] => {
            Some(Answer { granted: *granted, spent: *left, room: *left, wait: *wait, ..Answer::default() })
        }
        [granted, spent, used, room, quiet, frees, passed @ ..] => Some(Answer {
            granted: *granted,
            spent: *spent,
            used: *used,
            room: *room,
            wait: 0,
            quiet: *quiet == 1,
            frees: (*frees >= 0).then_some(*frees),
            passed: passed
                .iter()
                .filter_map(|place| rule.soft.get(usize::try_from(place - 1).ok()?).copied())
                .collect(),
        }),
        _ => None,
    }
}

/// Rounded up: a percent is passed when all of it is spent.
fn part(amount: i64, percent: u8) -> i64 {
    i64::try_from((i128::from(amount) * i128::from(percent) + 99) / 100).unwrap_or(i64::MAX)
}

fn quarantine(shared: &Shared) -> u64 {
    u64::try_from(shared.settings.quarantine.as_millis()).unwrap_or(u64::MAX)
}

/// For the server, if it has none.
fn generation() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_default())
}
