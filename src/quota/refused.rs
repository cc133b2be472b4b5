//! Why a call may not pass, in numbers and in words a stranger may read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::quota::{Measure, Rule};

/// A counter's no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct No {
    /// Microseconds until asking again can succeed. `None`: waiting does not help.
    pub wait: Option<i64>,
    /// Calls, tokens or nano dollars; of a budget, what is spent.
    pub used: i64,
    /// Of a budget: put aside for running calls.
    pub held: i64,
    /// When a budget begins anew, in microseconds since 1970.
    pub resets: Option<i64>,
    /// Nobody could be asked.
    pub outage: bool,
}

/// A refused call or attempt. Of several rules that refuse, the one that does so longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub why: Why,
    /// `budget of user=ada per month`; `caps of key=ci`.
    pub name: Box<str>,
    /// The same without a caller's own words: fit for a metric's label.
    pub label: Arc<str>,
    pub of: Measure,
    /// Calls, tokens or nano dollars.
    pub limit: i64,
    /// What is counted already. Of a budget: spent.
    pub used: i64,
    /// Of a budget: put aside for running calls.
    pub held: i64,
    pub wanted: i64,
    /// How long until the same call passes, if nobody else asks meanwhile; exact for rates and budgets that are spent, a second where running calls
    /// stand in the way. `None`: waiting does not help.
    pub retry_after: Option<Duration>,
    /// When the budget begins anew.
    pub resets_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A rate or a number of calls at once.
    Limit,
    /// There is not enough money left.
    Budget,
    /// The call alone is larger than a call of this key may be.
    Cap,
    /// There is no price, and somebody's budget would pay.
    Unpriced,
    /// The counters that replicas share cannot be reached, and the rule is `closed` then.
    Outage,
}

// === impl Why ===

impl Why {
    /// Metric label and log field.
    pub fn label(self) -> &'static str {
        match self {
            Why::Limit => "limit",
            Why::Budget => "budget",
            Why::Cap => "cap",
            Why::Unpriced => "unpriced",
            Why::Outage => "outage",
        }
    }
}

// === impl Refused ===

impl Refused {
    pub(super) fn by(rule: &Rule, subject: &str, wanted: i64, no: No) -> Self {
        let why = match rule.of {
            _ if no.outage => Why::Outage,
            Measure::Usd => Why::Budget,
            Measure::Requests | Measure::Tokens | Measure::Concurrency => Why::Limit,
        };
        Refused {
            why,
            name: rule.name_for(subject).into(),
            label: Arc::clone(&rule.name),
            of: rule.of,
            limit: rule.amount,
            used: no.used,
            held: no.held,
            wanted,
            retry_after: no.wait.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
            resets_at: no.resets.and_then(|at| Timestamp::from_microsecond(at).ok()),
        }
    }

    /// Nothing that waiting would help with.
    pub(super) fn never(why: Why, name: String, label: &Arc<str>, of: Measure, limit: i64, wanted: i64) -> Self {
        Refused {
            why,
            name: name.into(),
            label: Arc::clone(label),
            of,
            limit,
            used: 0,
            held: 0,
            wanted,
            retry_after: None,
            resets_at: None,
        }
    }
}

/// For the client.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { name, of, .. } = self;
        let text = |number| of.text(number);
        match self.why {
            Why::Cap => {
                return write!(
                    f,
                    "The call is too large: it may take {}, and the {name} allow {} for one call.",
                    text(self.wanted),
                    text(self.limit)
                );
            }
            Why::Unpriced => {
                return write!(f, "The model has no price, so the {name} cannot pay for it.");
            }
            Why::Outage => {
                return write!(f, "The {name} cannot be looked up at the moment; try again later.");
            }
            Why::Limit if self.wanted > self.limit => {
                return write!(
                    f,
                    "The call needs {}, more than the {name} ever lets through at once ({}).",
                    text(self.wanted),
                    text(self.limit)
                );
            }
            Why::Limit => write!(f, "The limit is reached: {name} is {}.", text(self.limit))?,
            Why::Budget => {
                write!(
                    f,
                    "The {name} has no money for this call: {} of {} are spent",
                    text(self.used),
                    text(self.limit)
                )?;
                if self.held > 0 {
                    write!(f, ", {} are put aside for running calls", text(self.held))?;
                }
                write!(f, ", and it may cost {}.", text(self.wanted))?;
                if let Some(at) = self.resets_at {
                    // to the second: nobody waits for less
                    let at = at.round(jiff::Unit::Second).unwrap_or(at);
                    write!(f, " It resets at {at}.")?;
                }
            }
        }
        match self.retry_after {
            Some(wait) if self.why == Why::Limit => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                write!(f, " Try again in {seconds} s.")
            }
            Some(_) | None => Ok(()),
        }
    }
}
