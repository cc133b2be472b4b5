//! Undo in an answer what `adapt` did to its request: whole, or event by event.

use std::borrow::Cow;
use std::collections::HashMap;

use super::adapt::{Answer, Undo};
use crate::chat::{Block, CallKind, Choice, Delta, Event, Open, Response, Stop, StopReason, Text};
use crate::json::Node;

/// Most text held back while it is not known whether it is the answer, or of a tool call that has to be taken apart.
const HELD: usize = 4 * 1024 * 1024;

// === a whole answer ===

impl Undo {
    /// In a whole answer.
    pub fn response(&self, response: &mut Response<'_>) {
        if self.is_empty() {
            return;
        }
        for choice in &mut response.choices {
            self.choice(choice);
        }
    }

    fn choice(&self, choice: &mut Choice<'_>) {
        if let Some(answer) = &self.answer {
            let called = choice.blocks.iter().position(|b| matches!(b, Block::ToolCall(c) if *c.name == *answer.name));
            if let Some(at) = called
                && let Block::ToolCall(call) = &choice.blocks[at]
            {
                let text = answer.text(&call.arguments);
                // the answer stands alone: what was said around it is not JSON
                choice.blocks.retain(|b| match b {
                    Block::Text(_) => false,
                    Block::ToolCall(call) => *call.name != *answer.name,
                    _ => true,
                });
                choice.blocks.push(Block::Text(Text::new(text)));
                end(&mut choice.stop, choice.blocks.iter().any(|b| matches!(b, Block::ToolCall(_))));
            }
        }
        for block in &mut choice.blocks {
            let Block::ToolCall(call) = block else { continue };
            if self.custom.iter().any(|name| **name == *call.name) {
                call.kind = CallKind::Custom;
                call.arguments = Cow::Owned(member(&call.arguments, "input"));
            }
            if let Some(name) = self.original(&call.name) {
                call.name = Cow::Owned(name.to_owned());
            }
        }
    }

    fn original(&self, sent: &str) -> Option<&str> {
        self.renamed.iter().find(|(s, _)| **s == *sent).map(|(_, original)| &**original)
    }
}

impl Answer {
    fn text(&self, arguments: &str) -> String {
        match arguments {
            "" => "{}".to_owned(),
            _ if self.wrapped => member(arguments, "value"),
            text => text.to_owned(),
        }
    }
}

/// A member of an object's text: a string's own text, of anything else its JSON. What cannot be read stays as it is.
fn member(object: &str, name: &str) -> String {
    Node::parse_reply(object.as_bytes())
        .ok()
        .and_then(|node| node.object().ok()?.take_raw(name))
        .map_or_else(|| object.to_owned(), |node| node.as_str().map_or_else(|| node.raw.to_owned(), str::to_owned))
}

/// Nobody waits for tools any more.
fn end(stop: &mut Option<Stop<'_>>, tools: bool) {
    if let Some(stop) = stop
        && stop.reason == StopReason::ToolUse
        && !tools
    {
        stop.reason = StopReason::End;
    }
}

// === event by event ===

/// Undoes as the events come. Where nothing was adapted, events pass untouched.
#[derive(Debug)]
pub struct Undoing {
    undo: Undo,
    choices: HashMap<u32, State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the next block that goes out.
    next: u32,
    blocks: HashMap<u32, Part>,
    /// The answer's tool was called: its arguments are the answer.
    answered: bool,
    tools: bool,
    /// Texts that go out only when no such call comes.
    held: Vec<String>,
}

/// What becomes of an incoming block.
#[derive(Debug)]
enum Part {
    Pass(u32),
    /// The arguments of the answer's tool go out as text.
    Answer(u32),
    /// Arguments that are taken apart when they are whole; `answer`: they become the answer's text.
    Whole {
        out: u32,
        text: String,
        answer: bool,
    },
    /// Text that is held back.
    Held(usize),
    /// Not shown.
    Dropped,
}

// === impl Undoing ===

impl Undoing {
    pub fn new(undo: Undo) -> Self {
        Undoing { undo, choices: HashMap::new() }
    }

    /// What an event becomes: none, one or several.
    pub fn push<'e>(&mut self, event: Event<'e>, out: &mut Vec<Event<'e>>) {
        if self.undo.is_empty() {
            out.push(event);
            return;
        }
        match event {
            Event::Open { choice, block, open } => self.open(choice, block, open, out),
            Event::Delta { choice, block, delta } => self.delta(choice, block, delta, out),
            Event::Close { choice, block } => self.close(choice, block, out),
            Event::Stop { choice, stop } => {
                let state = self.choices.entry(choice).or_default();
                state.release(choice, out);
                let mut stop = Some(stop);
                if state.answered {
                    end(&mut stop, state.tools);
                }
                out.extend(stop.map(|stop| Event::Stop { choice, stop }));
            }
            other @ (Event::Start(_)
            | Event::Usage(_)
            | Event::Extra { .. }
            | Event::Ping
            | Event::Error(_)
            | Event::End) => out.push(other),
        }
    }

    fn open<'e>(&mut self, choice: u32, block: u32, open: Open<'e>, out: &mut Vec<Event<'e>>) {
        let undo = &self.undo;
        let state = self.choices.entry(choice).or_default();
        let (part, open) = match open {
            Open::Text if undo.answer.is_some() => {
                state.held.push(String::new());
                (Part::Held(state.held.len() - 1), None)
            }
            Open::ToolCall { name, .. } if undo.answer.as_ref().is_some_and(|a| *a.name == *name) => {
                if state.answered {
                    (Part::Dropped, None)
                } else {
                    state.answered = true;
                    state.held.clear();
                    let at = state.number();
                    let wrapped = undo.answer.as_ref().is_some_and(|a| a.wrapped);
                    let part = if wrapped {
                        Part::Whole { out: at, text: String::new(), answer: true }
                    } else {
                        Part::Answer(at)
                    };
                    (part, Some((at, Open::Text)))
                }
            }
            Open::ToolCall { id, name, kind, item_id } => {
                state.tools = true;
                let at = state.number();
                let custom = undo.custom.iter().any(|n| **n == *name);
                let name = undo.original(&name).map_or(name, |original| Cow::Owned(original.to_owned()));
                if custom {
                    let open = Open::ToolCall { id, name, kind: CallKind::Custom, item_id };
                    (Part::Whole { out: at, text: String::new(), answer: false }, Some((at, open)))
                } else {
                    (Part::Pass(at), Some((at, Open::ToolCall { id, name, kind, item_id })))
                }
            }
            open => {
                let at = state.number();
                (Part::Pass(at), Some((at, open)))
            }
        };
        state.blocks.insert(block, part);
        out.extend(open.map(|(block, open)| Event::Open { choice, block, open }));
    }

    fn delta<'e>(&mut self, choice: u32, block: u32, delta: Delta<'e>, out: &mut Vec<Event<'e>>) {
        let Some(state) = self.choices.get_mut(&choice) else { return };
        match (state.blocks.get_mut(&block), delta) {
            (Some(Part::Pass(block)), delta) => out.push(Event::Delta { choice, block: *block, delta }),
            (Some(Part::Answer(block)), Delta::Arguments(text)) => {
                out.push(Event::Delta { choice, block: *block, delta: Delta::Text(text) });
            }
            (Some(Part::Whole { text, .. }), Delta::Arguments(more)) if text.len() + more.len() <= HELD => {
                text.push_str(&more);
            }
            (Some(Part::Held(at)), Delta::Text(more)) => {
                if let Some(text) = state.held.get_mut(*at)
                    && text.len() + more.len() <= HELD
                {
                    text.push_str(&more);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, choice: u32, block: u32, out: &mut Vec<Event<'_>>) {
        let Some(state) = self.choices.get_mut(&choice) else { return };
        match state.blocks.remove(&block) {
            Some(Part::Pass(block) | Part::Answer(block)) => out.push(Event::Close { choice, block }),
            Some(Part::Whole { out: block, text, answer }) => {
                let delta = if answer {
                    Delta::Text(Cow::Owned(member(&text, "value")))
                } else {
                    Delta::Arguments(Cow::Owned(member(&text, "input")))
                };
                out.push(Event::Delta { choice, block, delta });
                out.push(Event::Close { choice, block });
            }
            Some(Part::Held(_) | Part::Dropped) | None => {}
        }
    }
}

// === impl State ===

impl State {
    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    /// No answer's tool was called: the texts were the answer.
    fn release(&mut self, choice: u32, out: &mut Vec<Event<'_>>) {
        if self.answered {
            return;
        }
        for text in std::mem::take(&mut self.held) {
            let block = self.number();
            out.push(Event::Open { choice, block, open: Open::Text });
            out.push(Event::Delta { choice, block, delta: Delta::Text(Cow::Owned(text)) });
            out.push(Event::Close { choice, block });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Dialect, Fold};

    fn undo() -> Undo {
        Undo {
            answer: Some(Answer { name: "json_answer".into(), wrapped: false }),
            custom: vec!["shell".into()],
            renamed: vec![("a_b".into(), "a.b".into())],
        }
    }

    fn call(block: u32, name: &'static str, pieces: &[&'static str]) -> Vec<Event<'static>> {
        let open = Open::ToolCall { id: "1".into(), name: name.into(), kind: CallKind::Function, item_id: None };
        let mut events = vec![Event::Open { choice: 0, block, open }];
        events.extend(pieces.iter().map(|p| Event::Delta { choice: 0, block, delta: Delta::Arguments((*p).into()) }));
        events.push(Event::Close { choice: 0, block });
        events
    }

    fn text(block: u32, text: &'static str) -> Vec<Event<'static>> {
        vec![
            Event::Open { choice: 0, block, open: Open::Text },
            Event::Delta { choice: 0, block, delta: Delta::Text(text.into()) },
            Event::Close { choice: 0, block },
        ]
    }

    /// The answer, undone event by event; and folded first and undone whole. Both must be the same.
    fn both(undo: &Undo, parts: impl Fn() -> Vec<Event<'static>>) -> Response<'static> {
        let end = || vec![Event::Stop { choice: 0, stop: Stop::new(StopReason::ToolUse) }, Event::End];
        let (mut undoing, mut stream, mut whole) =
            (Undoing::new(undo.clone()), Fold::new(Dialect::Anthropic), Fold::new(Dialect::Anthropic));
        let mut out = Vec::new();
        for event in parts().into_iter().chain(end()) {
            undoing.push(event, &mut out);
        }
        out.into_iter().for_each(|event| stream.push(event));
        parts().into_iter().chain(end()).for_each(|event| whole.push(event));
        assert_eq!(stream.faults, Vec::<String>::new());
        let mut whole = whole.finish();
        undo.response(&mut whole);
        let stream = stream.finish();
        assert_eq!(stream, whole);
        stream
    }

    fn texts(response: &Response<'_>) -> Vec<String> {
        response.choices[0]
            .blocks
            .iter()
            .map(|b| match b {
                Block::Text(t) => t.text.to_string(),
                Block::ToolCall(c) => format!("{}({:?} {})", c.name, c.kind, c.arguments),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_answer_s_tool_becomes_the_answer() {
        let parts = || [text(0, "Sure: "), call(1, "json_answer", &["{\"a\"", ":1}"])].concat_events();
        let answer = both(&undo(), parts);
        assert_eq!(texts(&answer), ["{\"a\":1}"]);
        assert_eq!(answer.choices[0].stop.as_ref().unwrap().reason, StopReason::End);
    }

    #[test]
    fn other_tools_and_plain_text_stay() {
        let answer = both(&undo(), || call(0, "a_b", &["{}"]));
        assert_eq!(texts(&answer), ["a.b(Function {})"]);
        assert_eq!(answer.choices[0].stop.as_ref().unwrap().reason, StopReason::ToolUse);
        assert_eq!(texts(&both(&undo(), || text(0, "no"))), ["no"]);
        let answer = both(&undo(), || call(0, "shell", &["{\"inp", "ut\":\"ls -l\\n\"}"]));
        assert_eq!(texts(&answer), ["shell(Custom ls -l\n)"]);
    }

    #[test]
    fn a_wrapped_answer_is_unwrapped() {
        let wrapped = Undo { answer: Some(Answer { name: "json_answer".into(), wrapped: true }), ..Undo::default() };
        let answer = both(&wrapped, || call(0, "json_answer", &["{\"value\":", "[1, 2.0]}"]));
        assert_eq!(texts(&answer), ["[1, 2.0]"]);
    }

    trait Concat {
        fn concat_events(self) -> Vec<Event<'static>>;
    }

    impl<const N: usize> Concat for [Vec<Event<'static>>; N] {
        fn concat_events(self) -> Vec<Event<'static>> {
            self.into_iter().flatten().collect()
        }
    }
}
