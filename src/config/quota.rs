//! Limits and budgets as checked: what may be used (`Rule`), by whom (`Scope`), and how they are found for a call (`Rules`).
//!
//! Owns no counter: what has been used is `crate::quota`'s business. A rule's `id` says what it counts and for whom, and nothing of how much is
//! allowed, so that what is counted outlives a reload, a restart and the way between replicas.

mod index;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

pub use index::Rules;

use super::snapshot::{Key, Pattern};
use super::units::{show_dollars, show_span};
use crate::units::NanoUsd;

/// One ceiling: of a limit that is written with several (`rpm`, `tpm`), each is a rule of its own.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Stable over reloads, processes and versions: made from the scope, what is counted, and the window.
    pub id: u64,
    /// `budget of team=search per month`, `rpm of key=*`: a closed set, fit for a metric's label.
    pub name: Arc<str>,
    pub scope: Scope,
    pub of: Measure,
    /// Calls, tokens, or nano US dollars.
    pub amount: i64,
    pub window: Window,
    /// Percents of a budget at which somebody is told; ascending, 1 to 100.
    pub soft: Box<[u8]>,
    pub on_outage: OnOutage,
    /// What a budget that is `closed` may still spend while the shared counters cannot be reached, over all replicas: nano US dollars.
    pub allowance: i64,
    /// Counted and told, never refused.
    pub shadow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure {
    Requests,
    Tokens,
    Concurrency,
    Usd,
}

/// Over which time an amount is meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Window {
    /// A bucket of `burst` that fills up evenly, by the amount in each `every`.
    Rate {
        every: Duration,
        burst: i64,
    },
    /// At once.
    Now,
    Calendar {
        unit: Unit,
        zone: TimeZone,
    },
    /// The last so much time.
    Rolling(Duration),
    /// Never begins anew.
    Lifetime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Day,
    /// From Monday.
    Week,
    Month,
}

/// What a rule does while the counters that replicas share cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnOutage {
    /// Each replica goes on with its share.
    Local,
    /// Nothing is refused.
    Open,
    /// Everything is; of a budget, after the allowance.
    Closed,
}

/// Whom a rule is for. All that is written must fit. [`One::Each`]: each value has a counter of its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scope {
    /// Written on a key itself, for that key alone. `key` is [`One::Each`] then, so that keys with the same rules share them.
    pub own: bool,
    pub key: Option<One>,
    /// What the client asked for.
    pub model: Option<Models>,
    /// Who is asked: only known attempt by attempt.
    pub provider: Option<One>,
    /// By name.
    pub tags: Box<[(Arc<str>, One)]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum One {
    Each,
    Is(Arc<str>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Models {
    Each,
    Like(Pattern),
}

/// What is written on one key.
#[derive(Debug, Clone, Default)]
pub struct Own {
    pub limits: Box<[Arc<Rule>]>,
    pub budgets: Box<[Arc<Rule>]>,
    pub caps: Caps,
}

/// What one call may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// Input, and output as far as it is asked for.
    pub tokens: Option<u64>,
    /// In the worst case.
    pub usd: Option<NanoUsd>,
}

/// Who calls, and for what.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// `None` in open mode.
    pub key: Option<&'a Key>,
    /// Those of the key and those of the call.
    pub tags: &'a [(Arc<str>, Arc<str>)],
    /// As the client asked for it.
    pub model: &'a str,
}

// === impl Rule ===

impl Rule {
    /// With an `id` and a `name`; everything but who, what, how much and for how long is as by default.
    pub fn new(scope: Scope, of: Measure, amount: i64, window: Window) -> Self {
        let mut rule = Rule {
            id: 0,
            name: "".into(),
            scope,
            of,
            amount,
            window,
            soft: Box::new([]),
            on_outage: if of == Measure::Usd { OnOutage::Closed } else { OnOutage::Local },
            allowance: 0,
            shadow: false,
        };
        rule.id = rule.identity();
        rule.name = rule.name_for(&rule.scope.to_text()).into();
        if of == Measure::Usd {
            // 1 %, and a dollar at most
            rule.allowance = (amount / 100).min(1_000_000_000);
        }
        rule
    }

    /// The name with somebody in it: `budget of user=ada per month`.
    pub fn name_for(&self, subject: &str) -> String {
        let letter = match self.of {
            Measure::Requests => 'r',
            Measure::Tokens => 't',
            Measure::Concurrency => return format!("concurrency of {subject}"),
            Measure::Usd => return format!("budget of {subject} {}", self.window.period()),
        };
        format!("{letter}p{} of {subject}", self.window.period())
    }

    /// The amount as people read it: `$50`, `600 calls`.
    pub fn amount_text(&self) -> String {
        self.of.text(self.amount)
    }

    fn identity(&self) -> u64 {
        let of = match self.of {
            Measure::Requests => "requests",
            Measure::Tokens => "tokens",
            Measure::Concurrency => "concurrency",
            Measure::Usd => "usd",
        };
        let own = if self.scope.own { "own" } else { "shared" };
        // no text can hold the separator: it is a control character
        let text = format!("1\u{1f}{own}\u{1f}{of}\u{1f}{}\u{1f}{}", self.window.period(), self.scope.identity());
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
    }
}

// === impl Measure, Window, Unit ===

impl Measure {
    /// A number with its unit.
    pub fn text(self, number: i64) -> String {
        let unit = match self {
            Measure::Usd => return format!("${}", show_dollars(NanoUsd(number))),
            Measure::Tokens => "token",
            Measure::Requests | Measure::Concurrency => "call",
        };
        if number == 1 { format!("{number} {unit}") } else { format!("{number} {unit}s") }
    }
}

impl Window {
    /// As it stands in names: `m`, `h`, `d` for rates; `per month`, `in 24h`, `in all` for budgets.
    pub fn period(&self) -> String {
        match self {
            Window::Rate { every, .. } => match every.as_secs() {
                3600 => "h",
                86_400 => "d",
                _ => "m",
            }
            .to_owned(),
            Window::Now => "at once".to_owned(),
            Window::Calendar { unit, .. } => format!("per {}", unit.name()),
            Window::Rolling(time) => format!("in {}", show_span(*time)),
            Window::Lifetime => "in all".to_owned(),
        }
    }
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
        }
    }
}

// === impl Scope ===

impl Scope {
    /// What is written on a key itself.
    pub fn of_key() -> Self {
        Scope { own: true, key: Some(One::Each), ..Scope::default() }
    }

    pub fn fits(&self, who: &Who<'_>, provider: Option<&str>) -> bool {
        let named = match (&self.provider, provider) {
            (None, _) | (Some(One::Each), Some(_)) => true,
            (Some(One::Is(name)), Some(provider)) => **name == *provider,
            (Some(_), None) => false,
        };
        named && self.fits_somewhere(who)
    }

    /// Whether it fits with one provider or another.
    pub fn fits_somewhere(&self, who: &Who<'_>) -> bool {
        let is = |one: Option<&One>, value: Option<&str>| match (one, value) {
            (None, _) | (Some(One::Each), Some(_)) => true,
            (Some(One::Is(name)), Some(value)) => **name == *value,
            (Some(_), None) => false,
        };
        is(self.key.as_ref(), who.key.map(|key| key.name.as_str()))
            && match &self.model {
                None | Some(Models::Each) => true,
                Some(Models::Like(pattern)) => pattern.matches(who.model),
            }
            && self.tags.iter().all(|(name, one)| is(Some(one), tag(who, name)))
    }

    /// The values that have a counter of their own, in an order that stays: key, model, provider, tags.
    pub fn values<'a>(&self, who: &Who<'a>, provider: Option<&'a str>, mut see: impl FnMut(&'a str)) {
        if self.key == Some(One::Each) {
            see(who.key.map_or("", |key| key.name.as_str()));
        }
        if self.model == Some(Models::Each) {
            see(who.model);
        }
        if self.provider == Some(One::Each) {
            see(provider.unwrap_or_default());
        }
        for (name, one) in &self.tags {
            if *one == One::Each {
                see(tag(who, name).unwrap_or_default());
            }
        }
    }

    /// Whether it is for somebody named, with one counter.
    pub fn is_one(&self) -> bool {
        let each = |one: &One| *one == One::Each;
        !(self.key.as_ref().is_some_and(each)
            || self.provider.as_ref().is_some_and(each)
            || self.model == Some(Models::Each)
            || self.tags.iter().any(|(_, one)| each(one)))
    }

    /// The values of [`Scope::values`] put where they belong: `key=ci`, `team=search user=ada`. `everybody`, where nothing is written.
    pub fn text_with<'a>(&self, mut values: impl Iterator<Item = &'a str>) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: &str| {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{name}={value}");
        };
        let mut one = |name: &str, one: &One, values: &mut dyn Iterator<Item = &'a str>| match one {
            One::Is(value) => add(name, value),
            One::Each => add(name, values.next().unwrap_or("*")),
        };
        if let Some(key) = &self.key {
            one("key", key, &mut values);
        }
        match &self.model {
            None => {}
            Some(Models::Each) => one("model", &One::Each, &mut values),
            Some(Models::Like(pattern)) => one("model", &One::Is(pattern.as_str().into()), &mut values),
        }
        if let Some(provider) = &self.provider {
            one("provider", provider, &mut values);
        }
        for (name, value) in &self.tags {
            one(name, value, &mut values);
        }
        if text.is_empty() { "everybody".to_owned() } else { text }
    }

    fn to_text(&self) -> String {
        self.text_with(std::iter::empty())
    }

    /// No two scopes have the same.
    fn identity(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<&str>| {
            let each = if value.is_none() { "each" } else { "is" };
            let _ = write!(text, "{name}\u{1e}{each}\u{1e}{}\u{1f}", value.unwrap_or_default());
        };
        let value = |one: &One| match one {
            One::Each => None,
            One::Is(value) => Some(Arc::clone(value)),
        };
        if let Some(key) = &self.key {
            add("1 key", value(key).as_deref());
        }
        match &self.model {
            None => {}
            Some(Models::Each) => add("2 model", None),
            Some(Models::Like(pattern)) => add("2 model", Some(pattern.as_str())),
        }
        if let Some(provider) = &self.provider {
            add("3 provider", value(provider).as_deref());
        }
        for (name, one) in &self.tags {
            add(&format!("4 {name}"), value(one).as_deref());
        }
        text
    }
}

/// The first value of a tag.
fn tag<'a>(who: &Who<'a>, name: &str) -> Option<&'a str> {
    who.tags.iter().find(|(tag, _)| **tag == *name).map(|(_, value)| &**value)
}
