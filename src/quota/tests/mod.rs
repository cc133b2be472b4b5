//! Limits and budgets as calls meet them.

mod here;
mod property;
mod server;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::clock::Clock;
use super::{Attempt, CallHold, CostHold, Quotas, Refused, Want, Where, Who};
use crate::config::snapshot::Key;
use crate::config::{Environment, Snapshot, load_str};
use crate::units::{NanoUsd, Tokens};

/// Noon of a Thursday in the middle of a month.
const NOON: &str = "2026-05-14T12:00:00Z";
const DOLLAR: i64 = 1_000_000_000;

struct World {
    quotas: Quotas,
    clock: Clock,
    snapshot: Snapshot,
}

fn snapshot(text: &str) -> Snapshot {
    let text = format!("providers: {{a: {{kind: vllm}}, b: {{kind: vllm}}}}\n{text}");
    match load_str("c.yaml", &text, &Environment::of([("PATH", "/bin")])) {
        Ok(checked) => checked.into_snapshot(1),
        Err(errors) => panic!("{errors:#?}"),
    }
}

fn micros(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

fn usd(dollars: f64) -> NanoUsd {
    #[expect(clippy::cast_possible_truncation, reason = "small sums of a test")]
    NanoUsd((dollars * 1e9).round() as i64)
}

/// A key of the configuration, by its name.
fn key<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Arc<Key> {
    snapshot.keys.by_hash.values().find(|key| key.name.as_str() == name).expect("a key of that name")
}

impl World {
    fn new(text: &str) -> Self {
        Self::at(text, NOON)
    }

    fn at(text: &str, time: &str) -> Self {
        let clock = Clock::held(micros(time));
        let quotas = Quotas::with_clock(Where::Here, clock.clone()).unwrap();
        World { quotas, clock, snapshot: snapshot(text) }
    }

    fn who<'a>(&'a self, name: &str) -> Who<'a> {
        let key = key(&self.snapshot, name);
        Who { key: Some(key), tags: &key.tags, model: "gpt" }
    }

    fn call(&self, who: &Who<'_>, tokens: u64) -> Result<CallHold, Refused> {
        now(self.quotas.admit_call(&self.snapshot.quotas, who, Want { tokens: Tokens(tokens), input: Tokens(tokens) }))
    }

    fn attempt(&self, who: &Who<'_>, cost: NanoUsd) -> Result<CostHold, Refused> {
        self.attempt_at(who, "a", Some(cost))
    }

    fn attempt_at(&self, who: &Who<'_>, provider: &str, cost: Option<NanoUsd>) -> Result<CostHold, Refused> {
        let attempt = Attempt { provider, tokens: Tokens(10), cost };
        now(self.quotas.admit_attempt(&self.snapshot.quotas, who, attempt))
    }

    fn spent(&self, name: &str) -> (NanoUsd, NanoUsd) {
        let shown = self.quotas.show();
        let found = shown.iter().find(|shown| shown.name == name);
        let found = found.unwrap_or_else(|| panic!("no {name} in {shown:#?}"));
        (found.spent, found.held)
    }

    fn wait(&self, seconds: f64) {
        self.clock.advance(Duration::from_secs_f64(seconds));
    }
}

/// On one node nobody waits for anything.
fn now<T>(future: impl Future<Output = T>) -> T {
    use futures_util::FutureExt;
    future.now_or_never().expect("ready at once")
}
