//! What is left, for the headers of an answer; and every budget as it stands, for the admin port and gauges.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;

use super::Quotas;
use super::counters::Whom;
use crate::config::quota::{Measure, Rule, Rules, Who};
use crate::units::NanoUsd;

/// Of all rates that a caller is under, the tightest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// `None`: there is no limit.
    pub requests: Option<Left>,
    pub tokens: Option<Left>,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub limit: u64,
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

/// A budget.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Shown {
    /// Of its rule: stable over reloads and replicas.
    pub id: u64,
    /// `budget of user=ada per month`.
    pub name: String,
    /// The same without a caller's own words: fit for a metric's label, and the same for many.
    pub label: String,
    /// `key=ci`, `team=search`.
    pub subject: String,
    pub spent: NanoUsd,
    /// Put aside for running calls.
    pub held: NanoUsd,
    pub ceiling: NanoUsd,
    /// `per month`, `in 30d`, `in all`.
    pub period: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    pub shadow: bool,
}

// === impl Quotas ===

impl Quotas {
    /// What is left of the limits of a call, for `x-ratelimit-*`. Of several, the one with the least left.
    pub fn standing(&self, rules: &Rules, who: &Who<'_>) -> Standing {
        let mut standing = Standing::default();
        let now = self.inner.clock.now();
        for rule in rules.of_call(who).into_iter().filter(|rule| !rule.shadow) {
            let place = match rule.of {
                Measure::Requests => &mut standing.requests,
                Measure::Tokens => &mut standing.tokens,
                Measure::Concurrency | Measure::Usd => continue,
            };
            let left = match self.inner.counters.find(rule, Whom { who, provider: None }) {
                None => Left { limit: count(rule.amount), remaining: count(size(rule)), reset: Duration::ZERO },
                Some(counter) => {
                    let stand = counter.stand(now);
                    Left {
                        limit: count(rule.amount),
                        remaining: count(size(rule).saturating_sub(stand.used)),
                        reset: Duration::from_micros(stand.resets.map_or(0, count)),
                    }
                }
            };
            if place.is_none_or(|tightest| (left.remaining, left.limit) < (tightest.remaining, tightest.limit)) {
                *place = Some(left);
            }
        }
        standing
    }

    /// Every budget that was used in its period, and those at the top that are for somebody named, used or not.
    pub fn show(&self) -> Vec<Shown> {
        let now = self.inner.clock.now();
        let mut shown = Vec::new();
        self.inner.counters.each(|counter| {
            let stand = counter.stand(now);
            let rule = &stand.rule;
            if rule.of != Measure::Usd {
                return;
            }
            let subject = counter.subject_text(rule);
            shown.push(Shown {
                id: rule.id,
                name: rule.name_for(&subject),
                label: rule.name.to_string(),
                subject,
                spent: NanoUsd(stand.used),
                held: NanoUsd(stand.held),
                ceiling: NanoUsd(rule.amount),
                period: rule.window.period(),
                resets_at: stand.resets.and_then(|at| Timestamp::from_microsecond(at).ok()),
                shadow: rule.shadow,
            });
        });
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }

    /// The rules that are in force from now on: at the start, and after each reload. Budgets for somebody named get their counters, so that they are
    /// shown from the beginning.
    pub fn adopt(&self, rules: &Rules) {
        let now = self.inner.clock.now();
        self.inner.counters.each(|counter| counter.pinned.store(false, Ordering::Relaxed));
        for rule in rules.all.iter().filter(|rule| rule.of == Measure::Usd && rule.scope.is_one()) {
            let counter = self.inner.of_values(rule, &[], now);
            counter.adopt(rule, now);
            counter.pinned.store(true, Ordering::Relaxed);
            self.inner.changed(&counter, now);
        }
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn size(rule: &Rule) -> i64 {
    super::bucket::Rate::of(rule).map_or(rule.amount, |rate| rate.size)
}
