//! How long and how often a call is tried: deadlines, tries, breakers, queues. What is written is laid over what was there.

use std::time::Duration;

use super::Checker;
use crate::config::error::{nearest, quote};
use crate::config::policy::{Admission, BreakerPolicy, FailureRate, Hedge, HedgeAfter, Retry, RetryOn};
use crate::config::raw::{self, At};
use crate::config::snapshot::Timeouts;
use crate::config::units;

impl Checker<'_> {
    /// `base`, with what is written on top.
    pub(super) fn timeouts(&mut self, base: Timeouts, typed: Option<&raw::Timeouts>, path: &str) -> Timeouts {
        self.judge_timeouts(typed, path);
        lay_timeouts(base, typed)
    }

    pub(super) fn judge_timeouts(&mut self, typed: Option<&raw::Timeouts>, path: &str) {
        let Some(raw::Timeouts { connect, tls, first_byte, first_token, idle, write, total }) = typed else { return };
        for (name, value) in [
            ("connect", connect),
            ("tls", tls),
            ("first_byte", first_byte),
            ("first_token", first_token),
            ("idle", idle),
            ("write", write),
            ("total", total),
        ] {
            if let Some(at) = value {
                self.not_zero(at, &format!("{path}.{name}"));
            }
        }
    }

    pub(super) fn not_zero(&mut self, period: &At<raw::Period>, path: &str) {
        if period.value.0.is_zero() {
            let message = format!("{path}: a deadline of zero lets nothing through: make it longer");
            self.faults.wrong(period.place, path, message);
        }
    }

    pub(super) fn breaker(&mut self, base: BreakerPolicy, typed: Option<&raw::Breaker>, path: &str) -> BreakerPolicy {
        self.judge_breaker(typed, path);
        lay_breaker(base, typed)
    }

    pub(super) fn judge_breaker(&mut self, typed: Option<&raw::Breaker>, path: &str) {
        let Some(typed) = typed else { return };
        if let Some(at) = &typed.cooldown {
            self.not_zero(at, &format!("{path}.cooldown"));
        }
        let Some(rate) = &typed.rate else { return };
        if let Some(at) = &rate.window {
            self.not_zero(at, &format!("{path}.rate.window"));
        }
        if let Some(at) = &rate.percent
            && at.value.0 == 0
        {
            let path = format!("{path}.rate.percent");
            let message = format!("{path}: no failure at all would open it: write 1% to 100%, or \"rate: off\"");
            self.faults.wrong(at.place, &path, message);
        }
    }

    pub(super) fn retry(&mut self, base: &Retry, typed: Option<&raw::Retry>, path: &str) -> Retry {
        let Some(raw::Retry { attempts, on, backoff, max_backoff, budget }) = typed else { return base.clone() };
        let period = |typed: &Option<At<raw::Period>>, base| typed.as_ref().map_or(base, |at| at.value.0);
        let retry = Retry {
            attempts: attempts.or(base.attempts),
            on: match on {
                Some(list) => list.iter().filter_map(|at| self.retry_on(at, &format!("{path}.on"))).collect(),
                None => base.on.clone(),
            },
            backoff: period(backoff, base.backoff),
            max_backoff: period(max_backoff, base.max_backoff),
            budget: budget.map_or(base.budget, |share| share.0),
        };
        if retry.max_backoff < retry.backoff
            && let Some(at) = max_backoff.as_ref().or(backoff.as_ref())
        {
            let message = format!(
                "{path}.max_backoff ({}) is less than {path}.backoff ({}): raise the one or lower the other",
                units::show_duration(retry.max_backoff),
                units::show_duration(retry.backoff)
            );
            self.faults.wrong(at.place, path, message);
        }
        retry
    }

    fn retry_on(&mut self, at: &At<raw::RetryWord>, path: &str) -> Option<RetryOn> {
        const WORDS: [&str; 5] = ["connect", "timeout", "broken", "4xx", "5xx"];
        let text = at.value.0.trim();
        Some(match text {
            "connect" => RetryOn::Connect,
            "timeout" => RetryOn::Timeout,
            "broken" => RetryOn::Broken,
            "4xx" => RetryOn::Class(4),
            "5xx" => RetryOn::Class(5),
            _ => match text.parse::<u16>() {
                Ok(status) if (400..=599).contains(&status) => RetryOn::Status(status),
                parsed => {
                    let advice = match nearest(text, WORDS).filter(|_| parsed.is_err()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => "write connect, timeout, broken, a status from 400 to 599, 4xx or 5xx".to_owned(),
                    };
                    let message = format!("{path}: {} is not a failure: {advice}", quote(text));
                    self.faults.wrong(at.place, path, message);
                    return None;
                }
            },
        })
    }

    /// `None`: off.
    pub(super) fn hedge(&mut self, typed: &raw::Hedge, path: &str) -> Option<Hedge> {
        let at = typed.after.as_ref()?;
        let after = match at.value.trim() {
            "off" => return None,
            "p95" => HedgeAfter::P95,
            text => match units::duration(text) {
                Ok(Duration::ZERO) => {
                    let message = format!(
                        "{path}: after no time at all every call would be made twice: make it longer, or write \"off\""
                    );
                    self.faults.wrong(at.place, path, message);
                    return None;
                }
                Ok(period) => HedgeAfter::Fixed(period),
                Err(_) => {
                    let message = format!(
                        "{path}: {} is neither \"p95\" nor a duration: write for example \"p95\" or \"2s\", or \"off\"",
                        at.quoted()
                    );
                    self.faults.wrong(at.place, path, message);
                    return None;
                }
            },
        };
        Some(Hedge { after })
    }

    /// `path`: that of the queue.
    pub(super) fn admission(
        &mut self,
        limits: Option<&raw::Limits>,
        queue: Option<&raw::Queue>,
        path: &str,
    ) -> Admission {
        let mut admission = Admission::default();
        if let Some(raw::Limits { rpm, tpm, concurrency }) = limits {
            admission = Admission { rpm: *rpm, tpm: *tpm, concurrency: *concurrency, ..admission };
        }
        if let Some(raw::Queue { off, depth, timeout }) = queue {
            if let Some(at) = timeout {
                self.not_zero(at, &format!("{path}.timeout"));
                admission.timeout = at.value.0;
            }
            admission.depth = if off.is_some() { 0 } else { depth.unwrap_or(admission.depth) };
        }
        admission
    }
}

/// Where `connect` is written without `tls`, it counts for both.
pub(super) fn lay_timeouts(base: Timeouts, typed: Option<&raw::Timeouts>) -> Timeouts {
    let Some(raw::Timeouts { connect, tls, first_byte, first_token, idle, write, total }) = typed else { return base };
    let pick = |typed: &Option<At<raw::Period>>, base| typed.as_ref().map_or(base, |at| at.value.0);
    Timeouts {
        connect: pick(connect, base.connect),
        tls: pick(tls, pick(connect, base.tls)),
        first_byte: pick(first_byte, base.first_byte),
        first_token: pick(first_token, base.first_token),
        idle: pick(idle, base.idle),
        write: pick(write, base.write),
        total: pick(total, base.total),
    }
}

pub(super) fn lay_breaker(base: BreakerPolicy, typed: Option<&raw::Breaker>) -> BreakerPolicy {
    let Some(raw::Breaker { off, failures, cooldown, probes, rate }) = typed else { return base };
    if off.is_some() {
        return BreakerPolicy { failures: 0, rate: None, ..base };
    }
    BreakerPolicy {
        failures: failures.unwrap_or(base.failures),
        rate: match rate {
            None => base.rate,
            Some(raw::FailureRate { off: Some(_), .. }) => None,
            Some(typed) => Some(lay_rate(base.rate, typed)),
        },
        cooldown: cooldown.as_ref().map_or(base.cooldown, |at| at.value.0),
        probes: probes.unwrap_or(base.probes),
    }
}

fn lay_rate(base: Option<FailureRate>, typed: &raw::FailureRate) -> FailureRate {
    let base = base.unwrap_or(FailureRate { percent: 50, window: Duration::from_secs(60), minimum: 20 });
    let raw::FailureRate { off: _, percent, window, minimum } = typed;
    FailureRate {
        percent: percent.as_ref().map_or(base.percent, |at| at.value.0),
        window: window.as_ref().map_or(base.window, |at| at.value.0),
        minimum: minimum.unwrap_or(base.minimum),
    }
}
