//! From items to turns: what the model said in one breath (reasoning, a message, calls) is one turn of the assistant, as other dialects
//! have it; `encode_request` makes the same items of it again.

use super::item::Item;
use crate::chat::{Block, Extra, Role, Thinking, Turn};
use crate::json::At;

/// Collects items.
#[derive(Debug, Default)]
pub struct Turns<'a> {
    turns: Vec<Turn<'a>>,
    /// The last turn is the assistant's and further items may join it.
    open: bool,
    /// It holds a message already: the next one begins a turn of its own.
    has_message: bool,
}

/// Whether an item only this dialect knows is the caller's word: the output of a tool it ran, an approval it gave.
pub fn said_by_caller(kind: &str) -> bool {
    kind.ends_with("_output") || matches!(kind, "mcp_approval_response" | "additional_tools")
}

// === impl Turns ===

impl<'a> Turns<'a> {
    pub fn push(&mut self, item: Item<'a>) {
        match item {
            Item::Message { role: Role::Assistant, blocks, at, extra } => {
                if !self.open || self.has_message {
                    self.begin(Role::Assistant, at);
                }
                if let Some(turn) = self.turns.last_mut() {
                    turn.blocks.extend(blocks);
                    turn.extra.0.extend(extra.0);
                }
                (self.open, self.has_message) = (true, true);
            }
            Item::Message { role, blocks, at, extra } => {
                self.turns.push(Turn { role, name: None, blocks, at, extra });
                self.open = false;
            }
            Item::Blocks { role: Role::Assistant, blocks, at } => {
                if !self.open {
                    self.begin(Role::Assistant, at);
                }
                if let Some(turn) = self.turns.last_mut() {
                    turn.blocks.extend(blocks);
                }
            }
            Item::Blocks { role, blocks, at } => {
                self.turns.push(Turn { role, name: None, blocks, at, extra: Extra::default() });
                self.open = false;
            }
            Item::SealBehind { seal, at } => self.seal(seal, at),
            Item::Stored(member) => {
                let at = member.at;
                let extra = Extra(vec![member]);
                self.turns.push(Turn { role: Role::User, name: None, blocks: Vec::new(), at, extra });
                self.open = false;
            }
        }
    }

    pub fn into_turns(self) -> Vec<Turn<'a>> {
        self.turns
    }

    fn begin(&mut self, role: Role, at: At) {
        self.turns.push(Turn { role, name: None, blocks: Vec::new(), at, extra: Extra::default() });
        (self.open, self.has_message) = (true, false);
    }

    fn seal(&mut self, seal: crate::chat::Seal<'a>, at: At) {
        let last = self.turns.last_mut().filter(|turn| turn.role == Role::Assistant);
        match last.and_then(|turn| turn.blocks.last_mut()) {
            Some(Block::Text(block)) => block.seal = Some(seal),
            Some(Block::ToolCall(block)) => block.seal = Some(seal),
            Some(Block::Media(block)) => block.seal = Some(seal),
            _ => {
                let thinking = Thinking {
                    thoughts: Vec::new(),
                    seal: Some(seal),
                    redacted: false,
                    id: None,
                    at,
                    extra: Extra::default(),
                };
                self.push(Item::Blocks { role: Role::Assistant, blocks: vec![Block::Thinking(thinking)], at });
            }
        }
    }
}
