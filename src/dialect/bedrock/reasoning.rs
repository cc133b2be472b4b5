//! How much a model shall think, in the words of its own vendor: they stand in `additionalModelRequestFields`.
//!
//! Truth: Anthropic, "Extended thinking" (`thinking.type`, `budget_tokens`), "Adaptive thinking", "Effort"; Amazon Nova 2 User Guide,
//! "Extended thinking"; Amazon Bedrock User Guide, "OpenAI models".

use super::model::{Family, Version};
use crate::chat::{Dialect, Effort, Losses, Param, Reasoning, Request};
use crate::json::{At, Writer};

/// Smallest budget that Claude takes.
const LEAST_BUDGET: u64 = 1_024;
const HAS_THINKING: Version = Version(3, 7);
/// From here on the model finds its own budget, guided by an effort.
const HAS_ADAPTIVE: Version = Version(4, 6);
/// From here on a budget is refused.
const ONLY_ADAPTIVE: Version = Version(4, 7);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// Nothing is said.
    Unsaid,
    ClaudeOff,
    ClaudeBudget(u64),
    /// And whether thoughts are shown; `None`: as the model does by itself.
    ClaudeAdaptive {
        effort: Option<&'static str>,
        display: Option<&'static str>,
    },
    /// No thoughts in their own right, but so much care with the answer.
    ClaudeEffort(&'static str),
    Nova(Option<&'static str>),
    OpenAi(&'static str),
}

/// Whether the rest of the request lets a Claude model think.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// A call of a tool is forced.
    pub forced: bool,
    /// The turn that called the tools has lost its thoughts, which only a model with a budget insists on.
    pub thoughts_missing: bool,
}

pub fn plan(request: &Request<'_>, family: Family, circumstances: Circumstances, losses: &mut Losses) -> Thinking {
    let Some(Param { value, at }) = &request.reasoning else { return Thinking::Unsaid };
    // thoughts always come with their signatures, which is what `encrypted` asks for
    let Reasoning { enabled, effort, budget, adaptive: _, summary, encrypted: _ } = value;
    let off = *enabled == Some(false) || *effort == Some(Effort::None) || *budget == Some(0);
    match family {
        Family::Claude(version) => claude(request, version, off, circumstances, losses),
        Family::Nova(2) => {
            told_summary(summary.as_deref(), *at, losses);
            if off { Thinking::Nova(None) } else { Thinking::Nova(Some(near(value, Words::High, *at, losses))) }
        }
        Family::OpenAi => {
            told_summary(summary.as_deref(), *at, losses);
            if off {
                // it cannot be told not to think
                losses.changed(*at, "");
                return Thinking::OpenAi("low");
            }
            Thinking::OpenAi(near(value, Words::High, *at, losses))
        }
        _ if off => Thinking::Unsaid,
        _ => {
            losses.dropped(*at, "");
            Thinking::Unsaid
        }
    }
}

fn claude(
    request: &Request<'_>,
    version: Version,
    off: bool,
    circumstances: Circumstances,
    losses: &mut Losses,
) -> Thinking {
    let Some(Param { value, at }) = &request.reasoning else { return Thinking::Unsaid };
    let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = value;
    let known = version != Version(0, 0);
    if known && version < HAS_THINKING {
        if !off {
            losses.dropped(*at, "");
        }
        return Thinking::Unsaid;
    }
    if off {
        // a model too new or too old to be known says nothing of its own accord, as far as we know
        return if known { Thinking::ClaudeOff } else { Thinking::Unsaid };
    }
    // Anthropic's own effort is not a wish for thoughts, everybody else's is
    let asked = *enabled == Some(true)
        || *adaptive
        || budget.is_some()
        || (effort.is_some() && request.dialect != Dialect::Anthropic);
    let can_adapt = !known || version >= HAS_ADAPTIVE;
    if !asked {
        return match effort {
            Some(_) if can_adapt => Thinking::ClaudeEffort(claude_effort(value, version, *at, losses)),
            Some(_) => {
                losses.dropped(*at, "effort");
                Thinking::Unsaid
            }
            None => Thinking::Unsaid,
        };
    }
    let by_budget = match budget {
        Some(_) => known && version < ONLY_ADAPTIVE || !known && !adaptive,
        None => !can_adapt,
    };
    if circumstances.forced || (circumstances.thoughts_missing && by_budget) {
        losses.changed(*at, "");
        return if known && version >= HAS_ADAPTIVE { Thinking::ClaudeOff } else { Thinking::Unsaid };
    }
    if !by_budget {
        let said = effort.is_some() || budget.is_some();
        let display = match summary.as_deref() {
            Some("none") => Some("omitted"),
            Some(_) => Some("summarized"),
            None => None,
        };
        let effort = said.then(|| claude_effort(value, version, *at, losses));
        return Thinking::ClaudeAdaptive { effort, display };
    }
    if summary.as_deref() == Some("none") {
        losses.dropped(*at, "summary");
    }
    claude_budget(request, losses)
}

/// A budget must leave something of the answer's length.
fn claude_budget(request: &Request<'_>, losses: &mut Losses) -> Thinking {
    let Some(Param { value, at }) = &request.reasoning else { return Thinking::Unsaid };
    if value.budget.is_some() && value.effort.is_some() {
        losses.dropped(*at, "effort");
    }
    let wanted = match (value.budget, &value.effort) {
        (Some(budget), _) => budget,
        (None, effort) => {
            if value.adaptive {
                losses.changed(*at, "");
            }
            effort.as_ref().unwrap_or(&Effort::Medium).budget()
        }
    };
    let most = request.max_output.as_ref().map_or(u64::MAX, |max| max.value.saturating_sub(1));
    if most < LEAST_BUDGET {
        losses.changed(*at, "");
        return Thinking::Unsaid;
    }
    let budget = wanted.clamp(LEAST_BUDGET, most);
    if budget != wanted && value.budget.is_some() {
        losses.changed(*at, "budget_tokens");
    }
    Thinking::ClaudeBudget(budget)
}

fn claude_effort(reasoning: &Reasoning<'_>, version: Version, at: At, losses: &mut Losses) -> &'static str {
    let words = if version >= ONLY_ADAPTIVE { Words::MaxAndXHigh } else { Words::Max };
    near(reasoning, words, at, losses)
}

/// The words of an effort that a model knows: from `low` up to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    High,
    Max,
    MaxAndXHigh,
}

/// The nearest word. From a budget it is a guess.
fn near(reasoning: &Reasoning<'_>, words: Words, at: At, losses: &mut Losses) -> &'static str {
    let guessed = reasoning.budget.map(Effort::of_budget);
    let effort = reasoning.effort.as_ref().or(guessed.as_ref()).unwrap_or(&Effort::Medium);
    let word = match (effort, words) {
        (Effort::None | Effort::Minimal | Effort::Low, _) => "low",
        (Effort::Medium | Effort::Other(_), _) => "medium",
        (Effort::High, _) => "high",
        (Effort::XHigh, Words::MaxAndXHigh) => "xhigh",
        (Effort::XHigh, _) => "high",
        (Effort::Max, Words::High) => "high",
        (Effort::Max, _) => "max",
    };
    let exact = reasoning.effort.as_ref().is_some_and(|effort| effort.word() == word) && reasoning.budget.is_none();
    if !exact {
        losses.changed(at, "");
    }
    word
}

/// Nova and gpt-oss show what they show.
fn told_summary(summary: Option<&str>, at: At, losses: &mut Losses) {
    if summary == Some("none") {
        losses.dropped(at, "summary");
    }
}

// === impl Thinking ===

impl Thinking {
    /// Claude refuses most sampling parameters beside thoughts, Nova beside its highest effort.
    pub fn forbids_sampling(self) -> bool {
        matches!(self, Thinking::ClaudeBudget(_) | Thinking::ClaudeAdaptive { .. } | Thinking::Nova(Some("high")))
    }

    pub fn is_said(self) -> bool {
        self != Thinking::Unsaid
    }

    /// Members of `additionalModelRequestFields`.
    pub fn write(self, w: &mut Writer<'_>) {
        match self {
            Thinking::Unsaid => {}
            Thinking::ClaudeOff => write_thinking("disabled", None, None, w),
            Thinking::ClaudeBudget(budget) => write_thinking("enabled", Some(budget), None, w),
            Thinking::ClaudeAdaptive { effort, display } => {
                write_thinking("adaptive", None, display, w);
                if let Some(effort) = effort {
                    write_effort(effort, w);
                }
            }
            Thinking::ClaudeEffort(effort) => write_effort(effort, w),
            Thinking::Nova(effort) => {
                w.name("reasoningConfig").object();
                w.name("type").string(if effort.is_some() { "enabled" } else { "disabled" });
                w.string_if("maxReasoningEffort", effort);
                w.end_object();
            }
            Thinking::OpenAi(effort) => w.name("reasoning_effort").string(effort),
        }
    }
}

fn write_thinking(kind: &str, budget: Option<u64>, display: Option<&str>, w: &mut Writer<'_>) {
    w.name("thinking").object();
    w.name("type").string(kind);
    w.number_if("budget_tokens", budget);
    w.string_if("display", display);
    w.end_object();
}

fn write_effort(effort: &str, w: &mut Writer<'_>) {
    w.name("output_config").object();
    w.name("effort").string(effort);
    w.end_object();
}
