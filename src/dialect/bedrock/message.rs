//! Turns as Converse's messages: which block goes where, what is put together, what is lost.
//!
//! Converse wants the user first, the roles in turn, tool results before all else in their message, a text beside every document, and no
//! empty text. Truth: Amazon Bedrock API reference, "Message", "ContentBlock"; the service's own refusals.

use std::borrow::Cow;

use super::block::Planner;
use super::part::Part;
use crate::chat::{Block, Request, Role, Turn};
use crate::json::At;

/// What is sent of a request's turns.
#[derive(Debug)]
pub struct Conversation<'r> {
    pub system: Vec<Part<'r>>,
    pub messages: Vec<Message<'r>>,
}

#[derive(Debug)]
pub struct Message<'r> {
    pub speaker: Speaker,
    pub parts: Vec<Part<'r>>,
    pub at: At,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    User,
    Assistant,
}

pub fn plan<'r>(request: &'r Request<'_>, planner: &mut Planner<'_>) -> Conversation<'r> {
    let (front, rest) = split_system(&request.turns);
    let mut conversation = Conversation { system: Vec::new(), messages: Vec::new() };
    for turn in front {
        planner.turn(turn);
        system(&turn.blocks, &mut conversation.system, planner);
    }
    for turn in rest {
        planner.turn(turn);
        let (speaker, parts) = one(turn, rest.len() == 1, planner);
        conversation.push(Message { speaker, parts, at: turn.at });
    }
    conversation.begin_with_user(planner);
    for message in &mut conversation.messages {
        message.results_first(planner);
        message.text_beside_documents(planner);
    }
    if let Some(cache) = request.cache
        && let Some(last) = conversation.messages.last_mut()
    {
        planner.cache_point(Some(cache), &mut last.parts);
    }
    conversation
}

/// System turns in front go to their own place. Where there is nothing else, the last one is what the model shall answer.
fn split_system<'t, 'a>(turns: &'t [Turn<'a>]) -> (&'t [Turn<'a>], &'t [Turn<'a>]) {
    let front = turns.iter().take_while(|turn| matches!(turn.role, Role::System | Role::Developer)).count();
    let front = if front == turns.len() { front.saturating_sub(1) } else { front };
    turns.split_at(front)
}

fn system<'r>(blocks: &'r [Block<'_>], parts: &mut Vec<Part<'r>>, planner: &mut Planner<'_>) {
    for block in blocks {
        match block {
            Block::Text(text) => planner.text(text, parts),
            Block::Native(native) => planner.native(native, parts),
            other => planner.losses.dropped(other.at(), ""),
        }
    }
}

/// One turn's speaker and blocks. `only`: there is no other, so a system turn is the question itself.
fn one<'r>(turn: &'r Turn<'_>, only: bool, planner: &mut Planner<'_>) -> (Speaker, Vec<Part<'r>>) {
    let mut parts = Vec::new();
    let speaker = match turn.role {
        Role::User => {
            planner.user_blocks(&turn.blocks, &mut parts);
            Speaker::User
        }
        Role::Assistant => {
            planner.assistant_blocks(&turn.blocks, &mut parts);
            Speaker::Assistant
        }
        Role::System | Role::Developer => {
            planner.losses.changed(turn.at, "role");
            system(&turn.blocks, &mut parts, planner);
            if !only {
                parts.iter_mut().for_each(wrap);
            }
            Speaker::User
        }
    };
    (speaker, parts)
}

/// A system text in the middle of a conversation keeps its place, in words that say what it is.
fn wrap(part: &mut Part<'_>) {
    if let Part::Text(text) = part {
        *text = Cow::Owned(format!("<system>{text}</system>"));
    }
}

// === impl Conversation ===

impl<'r> Conversation<'r> {
    fn push(&mut self, message: Message<'r>) {
        if message.parts.is_empty() {
            return;
        }
        match self.messages.last_mut() {
            Some(last) if last.speaker == message.speaker => last.parts.extend(message.parts),
            _ => self.messages.push(message),
        }
    }

    fn begin_with_user(&mut self, planner: &mut Planner<'_>) {
        if let Some(first) = self.messages.first().filter(|first| first.speaker == Speaker::Assistant) {
            let at = first.at;
            planner.losses.changed(at, "");
            let parts = vec![Part::Text(Cow::Borrowed("(the conversation goes on)"))];
            self.messages.insert(0, Message { speaker: Speaker::User, parts, at });
        }
    }

    /// The model called a tool, and that turn does not begin with its thoughts: Claude then refuses to think on.
    pub fn thoughts_missing(&self) -> bool {
        let last = self.messages.iter().rev().find(|message| message.speaker == Speaker::Assistant);
        last.is_some_and(|message| {
            let called = message.parts.iter().any(|part| matches!(part, Part::ToolUse { .. }));
            let thought = matches!(message.parts.first(), Some(Part::Reasoning { .. } | Part::Redacted(_)));
            called && !thought
        })
    }

    /// Whether there are calls or results, with which a tool configuration must come.
    pub fn uses_tools(&self) -> bool {
        let mut parts = self.messages.iter().flat_map(|message| &message.parts);
        parts.any(|part| matches!(part, Part::ToolUse { .. } | Part::ToolResult { .. }))
    }
}

// === impl Message ===

impl Message<'_> {
    fn results_first(&mut self, planner: &mut Planner<'_>) {
        let Some(other) = self.parts.iter().position(|part| !follows_result(part)) else { return };
        let behind = self.parts.get(other..).unwrap_or_default();
        if self.speaker == Speaker::Assistant || !behind.iter().any(Part::is_tool_result) {
            return;
        }
        planner.losses.changed(self.at, "");
        let (mut results, mut others) = (Vec::new(), Vec::new());
        let mut behind_result = false;
        for part in std::mem::take(&mut self.parts) {
            behind_result = part.is_tool_result() || (behind_result && matches!(part, Part::CachePoint(_)));
            if behind_result { results.push(part) } else { others.push(part) }
        }
        results.append(&mut others);
        self.parts = results;
    }

    /// "If you include a ContentBlock with a document field in the array, you must also include a ContentBlock with a text field."
    fn text_beside_documents(&mut self, planner: &mut Planner<'_>) {
        let has_text = self.parts.iter().any(|part| matches!(part, Part::Text(_)));
        if !has_text && self.parts.iter().any(Part::is_document) {
            planner.losses.changed(self.at, "");
            self.parts.push(Part::Text(Cow::Borrowed("(see document)")));
        }
    }
}

fn follows_result(part: &Part<'_>) -> bool {
    part.is_tool_result() || matches!(part, Part::CachePoint(_))
}
