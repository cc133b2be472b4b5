//! How much the model thinks, said the way the model at hand takes it: a budget, an effort, or nothing.
//!
//! What a client of this dialect wrote for this model is written again. For others: effort where the model knows it (together with `adaptive`
//! thinking), else a budget, of which an effort takes half of `max_tokens` at most. A forced tool and a budget exclude each other: the tool wins, because
//! structured output may rest on it.
//! Truth: platform.claude.com/docs, "Thinking", "Extended thinking" (`budget_tokens` at least 1,024 and less than `max_tokens`; not with
//! forced tools; a turn that waits for tools begins with a thought), "Effort".

use std::borrow::Cow;

use super::model::{Efforts, Model, Off, Thinks};
use crate::chat::{Effort, Losses, Param, Reasoning};
use crate::json::At;

/// Least thinking budget the API takes.
const LEAST_BUDGET: u64 = 1_024;

/// What is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan<'r> {
    pub mode: Mode,
    /// `output_config.effort`.
    pub effort: Option<Cow<'r, str>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// No `thinking` member.
    #[default]
    Silent,
    Disabled,
    BetweenTools,
    Adaptive {
        display: Option<Display>,
    },
    Enabled {
        budget: Option<u64>,
        display: Option<Display>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    Summarized,
    Omitted,
}

/// What the rest of the request says to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// Written in this dialect,
    pub own: bool,
    /// and for this model.
    pub as_written: bool,
    pub model: Option<Model>,
    /// A tool is forced.
    pub forced: bool,
    /// [`super::turns::thoughtless_calls`].
    pub thoughtless: bool,
    /// `max_tokens` as the client set it, or the model's own limit.
    pub most: Option<u64>,
}

// === impl Plan ===

impl<'r> Plan<'r> {
    pub(super) fn of(reasoning: Option<&'r Param<Reasoning<'_>>>, around: Around, losses: &mut Losses) -> Plan<'r> {
        let Some(Param { value, at }) = reasoning else { return Plan::default() };
        let mut plan = if around.as_written { own(value) } else { foreign(value, *at, around, losses) };
        if let Mode::Enabled { budget, .. } = &mut plan.mode {
            let refused = around.forced || around.thoughtless;
            let refused = refused && (around.model.is_some() || !around.as_written);
            if refused || around.most.is_some_and(|most| !around.as_written && most <= LEAST_BUDGET) {
                losses.dropped(*at, "");
                plan.mode = Mode::Silent;
            } else if let (Some(wanted), false) = (budget, around.as_written) {
                let fitting = (*wanted).min(around.most.unwrap_or(u64::MAX) - 1).max(LEAST_BUDGET);
                if fitting != *wanted {
                    losses.changed(*at, "");
                    *wanted = fitting;
                }
            }
        }
        plan
    }

    /// Whether thoughts come before the answer, for certain.
    pub(super) fn budgeted(&self) -> bool {
        matches!(self.mode, Mode::Enabled { .. })
    }

    pub(super) fn thinks(&self) -> bool {
        matches!(self.mode, Mode::Enabled { .. } | Mode::Adaptive { .. })
    }
}

fn own<'r>(reasoning: &'r Reasoning<'_>) -> Plan<'r> {
    // `encrypted` is no word of this dialect: signatures always come
    let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = reasoning;
    let display = display(summary.as_deref());
    let mode = match (enabled, adaptive) {
        (Some(false), _) => Mode::Disabled,
        (_, true) => Mode::Adaptive { display },
        (Some(true), false) => Mode::Enabled { budget: *budget, display },
        (None, false) => Mode::Silent,
    };
    Plan { mode, effort: effort.as_ref().map(|effort| Cow::Borrowed(effort.word())) }
}

fn foreign<'r>(reasoning: &'r Reasoning<'_>, at: At, around: Around, losses: &mut Losses) -> Plan<'r> {
    let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = reasoning;
    let off = *enabled == Some(false) || *effort == Some(Effort::None) || *budget == Some(0);
    if off {
        return turned_off(around.model, at, losses);
    }
    if enabled.is_none() && effort.is_none() && budget.is_none() && !adaptive {
        // only how thoughts are shown: whether there are any stays the model's default
        if summary.is_some() {
            losses.dropped(at, "summary");
        }
        return Plan::default();
    }
    let thinks = around.model.map_or(Thinks::Budget, Model::thinks);
    let efforts = around.model.map_or(Efforts::None, Model::efforts);
    let hides = around.model.is_some_and(Model::hides_thoughts);
    let display = display(summary.as_deref()).filter(|display| hides || *display == Display::Omitted);
    let effort = match (effort, budget) {
        (Some(effort), _) => Some(effort.clone()),
        // a budget is the nearer word where it is taken
        (None, Some(_)) if matches!(thinks, Thinks::Budget | Thinks::Both) => None,
        (None, Some(budget)) => {
            losses.changed(at, "");
            Some(Effort::of_budget(*budget))
        }
        (None, None) => None,
    };
    let mode = match thinks {
        // in this dialect an effort alone does not say to think
        _ if around.own && enabled.is_none() => Mode::Silent,
        Thinks::Never => {
            losses.dropped(at, "");
            return Plan::default();
        }
        Thinks::Both if budget.is_some() => Mode::Enabled { budget: *budget, display },
        Thinks::Both | Thinks::Adaptive | Thinks::Always => Mode::Adaptive { display },
        Thinks::Budget => {
            if *adaptive {
                losses.changed(at, "");
            }
            let half = around.most.unwrap_or(u64::MAX) / 2;
            let guessed = || effort.as_ref().unwrap_or(&Effort::Medium).budget().min(half).max(LEAST_BUDGET);
            Mode::Enabled { budget: Some(budget.unwrap_or_else(guessed)), display }
        }
    };
    Plan { mode, effort: effort.and_then(|effort| word(&effort, efforts, at, losses)).map(Cow::Borrowed) }
}

fn turned_off<'r>(model: Option<Model>, at: At, losses: &mut Losses) -> Plan<'r> {
    let mode = match model.map_or(Off::Disabled, Model::off) {
        Off::Silence => Mode::Silent,
        Off::Disabled => Mode::Disabled,
        Off::BetweenTools => Mode::BetweenTools,
        Off::Impossible => {
            losses.changed(at, "");
            return Plan { mode: Mode::Silent, effort: Some(Cow::Borrowed("low")) };
        }
    };
    Plan { mode, effort: None }
}

/// The nearest effort that the model knows.
fn word(effort: &Effort<'_>, efforts: Efforts, at: At, losses: &mut Losses) -> Option<&'static str> {
    if efforts == Efforts::None {
        // said as a budget
        return None;
    }
    let (word, exact) = match (effort, efforts) {
        (Effort::Low, _) => ("low", true),
        (Effort::Medium, _) => ("medium", true),
        (Effort::High, _) => ("high", true),
        (Effort::XHigh, Efforts::All) => ("xhigh", true),
        (Effort::Max, Efforts::All | Efforts::NoXHigh) => ("max", true),
        (Effort::XHigh, Efforts::NoXHigh) => ("max", false),
        (Effort::XHigh | Effort::Max, Efforts::ToHigh | Efforts::None) => ("high", false),
        (Effort::Minimal | Effort::None, _) => ("low", false),
        (Effort::Other(_), _) => {
            losses.dropped(at, "");
            return None;
        }
    };
    if !exact {
        losses.changed(at, "");
    }
    Some(word)
}

fn display(summary: Option<&str>) -> Option<Display> {
    Some(if summary? == "none" { Display::Omitted } else { Display::Summarized })
}

// === impl Display ===

impl Display {
    pub(super) fn word(self) -> &'static str {
        match self {
            Display::Summarized => "summarized",
            Display::Omitted => "omitted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(model: &str, reasoning: Reasoning<'static>, around: Around) -> (Plan<'static>, usize) {
        let mut losses = Losses::default();
        let reasoning = Box::leak(Box::new(Param { value: reasoning, at: At::new(7) }));
        let plan = Plan::of(Some(reasoning), Around { model: Model::of(model), ..around }, &mut losses);
        (plan, losses.count)
    }

    const AROUND: Around =
        Around { own: false, as_written: false, model: None, forced: false, thoughtless: false, most: None };

    fn effort(effort: Effort<'static>) -> Reasoning<'static> {
        Reasoning { effort: Some(effort), ..Reasoning::default() }
    }

    fn budget(tokens: u64) -> Mode {
        Mode::Enabled { budget: Some(tokens), display: None }
    }

    #[test]
    fn an_effort_is_said_the_way_the_model_takes_it() {
        let adaptive = Mode::Adaptive { display: None };
        for (model, asked, mode, word, losses) in [
            ("claude-sonnet-4-5", Effort::High, budget(24_576), None, 0),
            ("claude-opus-4-5", Effort::Max, budget(32_768), Some("high"), 1),
            ("claude-opus-4-6", Effort::XHigh, adaptive, Some("max"), 1),
            ("claude-opus-4-7", Effort::XHigh, adaptive, Some("xhigh"), 0),
            ("claude-opus-5", Effort::Minimal, adaptive, Some("low"), 1),
            ("claude-3-5-haiku-latest", Effort::High, Mode::Silent, None, 1),
            ("claude-sonnet-4-5", Effort::None, Mode::Disabled, None, 0),
            ("claude-sonnet-5-5", Effort::None, Mode::BetweenTools, None, 0),
            ("claude-fable-5", Effort::None, Mode::Silent, Some("low"), 1),
            ("some-other-model", Effort::Low, budget(1_024), None, 0),
        ] {
            let (plan, count) = plan(model, effort(asked.clone()), AROUND);
            assert_eq!((plan.mode, plan.effort.as_deref(), count), (mode, word, losses), "{model} {asked:?}");
        }
    }

    #[test]
    fn a_budget_leaves_room_for_the_answer() {
        let asked = |tokens| Reasoning { enabled: Some(true), budget: Some(tokens), ..Reasoning::default() };
        let most = |most| Around { most: Some(most), ..AROUND };
        for (tokens, around, mode, losses) in [
            (2_000, most(4_000), budget(2_000), 0),
            (9_000, most(4_000), budget(3_999), 1),
            (100, most(4_000), budget(1_024), 1),
            (2_000, most(1_024), Mode::Silent, 1),
            (2_000, Around { forced: true, ..AROUND }, Mode::Silent, 1),
            (2_000, Around { thoughtless: true, ..AROUND }, Mode::Silent, 1),
        ] {
            let (plan, count) = plan("claude-sonnet-4-5", asked(tokens), around);
            assert_eq!((plan.mode, count), (mode, losses), "{tokens} {around:?}");
        }
        let (on_newer, count) = plan("claude-opus-5", asked(20_000), Around { forced: true, ..AROUND });
        assert_eq!((on_newer.mode, on_newer.effort.as_deref()), (Mode::Adaptive { display: None }, Some("high")));
        assert_eq!(count, 1);
    }

    #[test]
    fn what_was_written_for_another_model_is_said_in_this_one_s_way() {
        let elsewhere = Around { own: true, ..AROUND };
        let asked =
            |adaptive| Reasoning { enabled: Some(true), adaptive, effort: Some(Effort::High), ..Reasoning::default() };
        assert_eq!(plan("claude-sonnet-4-5", asked(true), elsewhere).0.mode, budget(24_576));
        let budgeted = Reasoning { budget: Some(9_000), effort: None, ..asked(false) };
        let (moved, count) = plan("claude-opus-5", budgeted.clone(), elsewhere);
        assert_eq!((moved.mode, moved.effort.as_deref(), count), (Mode::Adaptive { display: None }, Some("medium"), 1));
        let (kept, count) = plan("claude-opus-5", budgeted, Around { as_written: true, ..elsewhere });
        assert_eq!((kept.mode, count), (budget(9_000), 0));
        let (alone, _) = plan("claude-opus-4-6", effort(Effort::Low), elsewhere);
        assert_eq!((alone.mode, alone.effort.as_deref()), (Mode::Silent, Some("low")));
    }

    #[test]
    fn thoughts_are_shown_when_the_client_asks_for_them() {
        let asked = |word: &'static str| Reasoning { summary: Some(word.into()), ..effort(Effort::High) };
        let shown = |model, word| match plan(model, asked(word), AROUND).0.mode {
            Mode::Adaptive { display } | Mode::Enabled { display, .. } => display,
            _ => None,
        };
        assert_eq!(shown("claude-opus-5", "auto"), Some(Display::Summarized));
        assert_eq!(shown("claude-opus-5", "none"), Some(Display::Omitted));
        // shown anyway
        assert_eq!(shown("claude-sonnet-4-5", "detailed"), None);
    }
}
