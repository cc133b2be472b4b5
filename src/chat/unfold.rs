//! From a whole answer to the events it could have come in: for a client that streams and a provider that did not.

use super::{Block, Delta, Event, Open, Response, Start};

/// The events of an answer, in the order that `chat::event` describes.
pub fn unfold(response: Response<'_>) -> Vec<Event<'_>> {
    let Response { dialect, id, model, created, choices, usage, service_tier, extra } = response;
    let mut events = vec![Event::Start(Start { id, model, created, service_tier })];
    for (choice, answer) in (0u32..).zip(choices) {
        let mut logprobs = Some(answer.logprobs);
        for (block, content) in (0u32..).zip(answer.blocks) {
            match content {
                Block::Text(text) => {
                    events.push(Event::Open { choice, block, open: Open::Text });
                    let mut part = |delta| events.push(Event::Delta { choice, block, delta });
                    part(Delta::Text(text.text));
                    if let Some(logprobs) = logprobs.take().filter(|l| !l.is_empty()) {
                        part(Delta::Logprobs(logprobs));
                    }
                    text.citations.into_iter().for_each(|citation| part(Delta::Citation(citation)));
                    text.seal.into_iter().for_each(|seal| part(Delta::Seal(seal)));
                }
                Block::Refusal(refusal) => {
                    events.push(Event::Open { choice, block, open: Open::Refusal });
                    events.push(Event::Delta { choice, block, delta: Delta::Refusal(refusal.text) });
                }
                Block::Thinking(thinking) => {
                    let open = Open::Thinking { redacted: thinking.redacted, id: thinking.id };
                    events.push(Event::Open { choice, block, open });
                    let mut part = |delta| events.push(Event::Delta { choice, block, delta });
                    for (n, thought) in (0u32..).zip(thinking.thoughts) {
                        part(Delta::Thought { part: n, summary: thought.summary, text: thought.text });
                    }
                    thinking.seal.into_iter().for_each(|seal| part(Delta::Seal(seal)));
                }
                Block::ToolCall(call) => {
                    let open = Open::ToolCall { id: call.id, name: call.name, kind: call.kind, item_id: call.item_id };
                    events.push(Event::Open { choice, block, open });
                    let mut part = |delta| events.push(Event::Delta { choice, block, delta });
                    call.seal.into_iter().for_each(|seal| part(Delta::Seal(seal)));
                    part(Delta::Arguments(call.arguments));
                }
                whole @ (Block::Media(_)
                | Block::ToolResult(_)
                | Block::ServerCall(_)
                | Block::ServerResult(_)
                | Block::Native(_)) => events.push(Event::Open { choice, block, open: Open::Whole(whole) }),
            }
            events.push(Event::Close { choice, block });
        }
        events.extend(answer.stop.map(|stop| Event::Stop { choice, stop }));
        // facts of the answer as a whole, from here on: those of later choices say whose they are
        events.extend(answer.extra.0.into_iter().map(|m| {
            let name = if choice == 0 { m.name } else { format!("{}[{choice}]", m.name).into() };
            Event::Extra { dialect, name, json: m.json }
        }));
    }
    events.extend(usage.map(Event::Usage));
    events.extend(extra.0.into_iter().map(|m| Event::Extra { dialect, name: m.name, json: m.json }));
    events.push(Event::End);
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Choice, Dialect, Fold, Stop, StopReason, Text, Usage};

    #[test]
    fn an_answer_unfolded_folds_into_itself() {
        let mut response = Response::new(Dialect::Anthropic);
        response.id = Some("msg_1".into());
        response.usage = Some(Usage::default());
        response.choices.push(Choice {
            blocks: vec![Block::text("a"), Block::Text(Text::new("b"))],
            stop: Some(Stop::new(StopReason::End)),
            ..Choice::default()
        });
        let mut fold = Fold::new(Dialect::Anthropic);
        unfold(response.clone()).into_iter().for_each(|event| fold.push(event));
        assert!(fold.ended && fold.faults.is_empty());
        assert_eq!(fold.finish(), response);
    }
}
