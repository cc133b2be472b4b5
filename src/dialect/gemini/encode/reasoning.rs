//! How much the model thinks: a level since Gemini 3, a budget in 2.5.

use crate::chat::{Dialect, Effort, Losses, Param, Reasoning};
use crate::dialect::gemini::model::Thinks;
use crate::json::Writer;

/// `thinkingConfig`, as it will be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Thinking {
    pub budget: Option<i64>,
    pub level: Option<String>,
    pub include: Option<bool>,
}

// === impl Thinking ===

impl Thinking {
    /// As the client wrote it, in this dialect.
    pub fn native(reasoning: &Reasoning<'_>) -> Thinking {
        let Reasoning { enabled: _, effort, budget, adaptive, summary, encrypted: _ } = reasoning;
        Thinking {
            budget: match (adaptive, budget) {
                (true, _) => Some(-1),
                (false, budget) => budget.map(|tokens| i64::try_from(tokens).unwrap_or(i64::MAX)),
            },
            level: effort.as_ref().map(|effort| effort.word().to_ascii_uppercase()),
            include: summary.as_deref().map(|summary| summary != "none"),
        }
    }

    /// As another dialect's words come nearest.
    pub fn of(asked: &Param<Reasoning<'_>>, dialect: Dialect, thinks: Thinks, losses: &mut Losses) -> Thinking {
        // Gemini always sends its thinking along, sealed
        let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = &asked.value;
        let off = *enabled == Some(false) || *effort == Some(Effort::None) || *budget == Some(0);
        let mut thinking = match thinks {
            Thinks::Never => {
                if !off {
                    losses.dropped(asked.at, "");
                }
                return Thinking::default();
            }
            Thinks::Budget { least, most, stops } => {
                let wanted = match (off, budget, effort, adaptive) {
                    (true, ..) => Some(0),
                    (false, Some(tokens), ..) => Some(*tokens),
                    (false, None, Some(effort), _) => Some(effort.budget()),
                    (false, None, None, true) => {
                        return Thinking { budget: Some(-1), ..Thinking::shown(asked, dialect) };
                    }
                    (false, None, None, false) => None,
                };
                Thinking {
                    budget: wanted.map(|tokens| {
                        // Flash can be told not to think; Pro cannot
                        let fit = if tokens == 0 && stops { 0 } else { tokens.clamp(least, most) };
                        if fit != tokens {
                            losses.changed(asked.at, "budget");
                        }
                        i64::try_from(fit).unwrap_or(i64::MAX)
                    }),
                    ..Self::default()
                }
            }
            Thinks::Level { minimal } => {
                let wanted = match (off, effort, budget) {
                    (true, ..) => Some(Effort::None),
                    (false, Some(effort), _) => Some(effort.clone()),
                    (false, None, Some(tokens)) => {
                        losses.changed(asked.at, "budget");
                        Some(Effort::of_budget(*tokens))
                    }
                    // how much is the model's affair unless said
                    (false, None, None) => None,
                };
                let level = wanted.and_then(|effort| level(&effort, minimal, asked, losses));
                Thinking { level: level.map(str::to_owned), ..Self::default() }
            }
        };
        if !off {
            thinking.include = Thinking::shown(asked, dialect).include;
        } else if summary.is_some() {
            thinking.include = Some(false);
        }
        thinking
    }

    /// Whether the client shows thinking: some ask for it, others have always shown what thinking they asked for.
    fn shown(asked: &Param<Reasoning<'_>>, dialect: Dialect) -> Thinking {
        let Reasoning { enabled, effort, budget, adaptive, summary, encrypted: _ } = &asked.value;
        let thinks = *enabled == Some(true) || effort.is_some() || budget.is_some() || *adaptive;
        let include = match (summary.as_deref(), dialect) {
            (Some("none"), _) => Some(false),
            (Some(_), _) => Some(true),
            (None, Dialect::OpenAiResponses) => None,
            // an effort alone does not show it
            (None, Dialect::Anthropic) => (*enabled == Some(true) || budget.is_some() || *adaptive).then_some(true),
            (None, _) => thinks.then_some(true),
        };
        Thinking { include, ..Thinking::default() }
    }

    pub fn is_empty(&self) -> bool {
        *self == Thinking::default()
    }

    pub fn write(&self, w: &mut Writer<'_>) {
        if let Some(budget) = self.budget {
            w.name("thinkingBudget").signed(budget);
        }
        w.string_if("thinkingLevel", self.level.as_deref());
        w.boolean_if("includeThoughts", self.include);
    }
}

fn level(
    effort: &Effort<'_>,
    minimal: bool,
    asked: &Param<Reasoning<'_>>,
    losses: &mut Losses,
) -> Option<&'static str> {
    let least = if minimal { "MINIMAL" } else { "LOW" };
    let (level, same) = match effort {
        // it never stops thinking altogether
        Effort::None => (least, false),
        Effort::Minimal => (least, minimal),
        Effort::Low => ("LOW", true),
        Effort::Medium => ("MEDIUM", true),
        Effort::High => ("HIGH", true),
        Effort::XHigh | Effort::Max => ("HIGH", false),
        Effort::Other(_) => {
            losses.dropped(asked.at, "effort");
            return None;
        }
    };
    if !same {
        losses.changed(asked.at, "effort");
    }
    Some(level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::gemini::model::Model;
    use crate::json::At;

    fn of(reasoning: Reasoning<'_>, dialect: Dialect, model: &str) -> (Thinking, usize) {
        let mut losses = Losses::default();
        let asked = Param { value: reasoning, at: At::NOWHERE };
        (Thinking::of(&asked, dialect, Model::of(model).thinks, &mut losses), losses.count)
    }

    fn effort(effort: Effort<'static>) -> Reasoning<'static> {
        Reasoning { effort: Some(effort), ..Reasoning::default() }
    }

    fn level(level: &str) -> Thinking {
        Thinking { level: Some(level.to_owned()), include: Some(true), budget: None }
    }

    fn budget(tokens: i64) -> Thinking {
        Thinking { budget: Some(tokens), include: Some(true), level: None }
    }

    #[test]
    fn an_effort_is_a_level_or_a_budget_by_the_model() {
        let chat = Dialect::OpenAiChat;
        assert_eq!(of(effort(Effort::High), chat, "gemini-3-pro-preview"), (level("HIGH"), 0));
        assert_eq!(of(effort(Effort::Minimal), chat, "gemini-3-flash-preview"), (level("MINIMAL"), 0));
        assert_eq!(of(effort(Effort::Minimal), chat, "gemini-3-pro-preview"), (level("LOW"), 1));
        assert_eq!(of(effort(Effort::Low), chat, "gemini-2.5-flash"), (budget(1_024), 0));
        assert_eq!(of(effort(Effort::Max), chat, "gemini-2.5-flash"), (budget(24_576), 1));
        assert_eq!(of(effort(Effort::High), chat, "gemini-2.0-flash"), (Thinking::default(), 1));
    }

    #[test]
    fn no_thinking_is_as_little_as_the_model_can() {
        let none = || effort(Effort::None);
        let off = |budget| Thinking { budget: Some(budget), ..Thinking::default() };
        assert_eq!(of(none(), Dialect::OpenAiChat, "gemini-2.5-flash"), (off(0), 0));
        assert_eq!(of(none(), Dialect::OpenAiChat, "gemini-2.5-flash-lite"), (off(0), 0));
        assert_eq!(of(none(), Dialect::OpenAiChat, "gemini-2.5-pro"), (off(128), 1));
        assert_eq!(of(none(), Dialect::OpenAiChat, "gemini-2.0-flash"), (Thinking::default(), 0));
        let minimal = Thinking { level: Some("MINIMAL".to_owned()), ..Thinking::default() };
        let disabled = Reasoning { enabled: Some(false), ..Reasoning::default() };
        assert_eq!(of(disabled, Dialect::Anthropic, "gemini-3-flash-preview"), (minimal, 1));
    }

    #[test]
    fn thoughts_are_included_for_clients_that_show_them() {
        let enabled = Reasoning { enabled: Some(true), budget: Some(10_000), ..Reasoning::default() };
        assert_eq!(of(enabled.clone(), Dialect::Anthropic, "gemini-2.5-pro"), (budget(10_000), 0));
        assert_eq!(of(enabled, Dialect::Anthropic, "gemini-3-pro-preview"), (level("MEDIUM"), 1));
        let (responses, _) = of(effort(Effort::Low), Dialect::OpenAiResponses, "gemini-3-pro-preview");
        assert_eq!(responses.include, None);
        let summary = Reasoning { summary: Some("auto".into()), ..effort(Effort::Low) };
        assert_eq!(of(summary, Dialect::OpenAiResponses, "gemini-3-pro-preview"), (level("LOW"), 0));
        let adaptive = Reasoning { adaptive: true, enabled: Some(true), ..Reasoning::default() };
        assert_eq!(of(adaptive, Dialect::Anthropic, "gemini-2.5-flash"), (budget(-1), 0));
    }
}
