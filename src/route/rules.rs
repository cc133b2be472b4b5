//! The operator's rules: which of them a call meets first. How they are written and checked is `config::condition`'s and
//! `config::check::rule`'s business.

use std::cell::OnceCell;

use super::needs::{Body, Need};
use super::{Ask, Unclear};
use crate::config::condition::{Match, Rule, Subject};
use crate::config::snapshot::Pattern;

/// The first rule that matches. Costs nothing when there are none; the body is read only for a condition that asks for it.
pub(super) fn first<'a>(ask: &Ask<'a>, body: &Body<'_>, unclear: &mut Vec<Unclear>) -> Option<&'a Rule> {
    let subject = OnceCell::new();
    ask.snapshot.rules.iter().find(|rule| {
        let Some(condition) = rule.when.as_ref().filter(|_| matches(&rule.matches, ask)) else {
            return rule.when.is_none() && matches(&rule.matches, ask);
        };
        let subject = if condition.reads_body() { subject.get_or_init(|| of_body(ask, body)) } else { &of_head(ask) };
        condition.holds(subject).unwrap_or_else(|why| {
            unclear.push(Unclear { rule: rule.name.clone(), why });
            false
        })
    })
}

/// Whether everything fits that a rule names.
fn matches(rule: &Match, ask: &Ask<'_>) -> bool {
    let Match { model, key, header, tag, path } = rule;
    let fits = |patterns: &[Pattern], text: &str| patterns.is_empty() || any(patterns, text);
    fits(model, ask.model)
        && fits(path, ask.path)
        && (key.is_empty() || ask.key.is_some_and(|k| any(key, k.name.as_str())))
        && tag.iter().all(|(name, patterns)| {
            let tags = ask.key.iter().flat_map(|k| &k.tags);
            tags.filter(|(tag, _)| tag == name).any(|(_, value)| any(patterns, value))
        })
        && header.iter().all(|(name, patterns)| {
            let values = ask.headers.get_all(name).into_iter();
            values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok()).any(|value| any(patterns, value))
        })
}

fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(text))
}

// === what a condition sees ===

fn of_head<'a>(ask: &Ask<'a>) -> Subject<'a> {
    Subject {
        model: ask.model,
        operation: ask.operation.name(),
        path: ask.path,
        stream: ask.stream,
        headers: ask.headers,
        key: ask.key,
        tokens: 0,
        needs: Vec::new(),
        tools: Vec::new(),
    }
}

fn of_body<'a>(ask: &Ask<'a>, body: &Body<'_>) -> Subject<'a> {
    let needs = body.needs();
    Subject { tokens: needs.input.0, needs: needs.all().map(Need::word).collect(), tools: body.tools(), ..of_head(ask) }
}
