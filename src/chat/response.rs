//! What is answered, whole.

use std::borrow::Cow;

use super::{Block, Dialect, Extra, Usage};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// Whose words the `extra` members are.
    pub dialect: Dialect,
    /// The provider's id of the answer.
    pub id: Option<Cow<'a, str>>,
    /// The model that answered, as the provider names it.
    pub model: Option<Cow<'a, str>>,
    /// Unix seconds.
    pub created: Option<u64>,
    pub choices: Vec<Choice<'a>>,
    pub usage: Option<Usage>,
    pub service_tier: Option<Cow<'a, str>>,
    pub extra: Extra<'a>,
}

/// One answer of possibly several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice<'a> {
    pub blocks: Vec<Block<'a>>,
    pub stop: Option<Stop<'a>>,
    /// Of the answer's text, token by token.
    pub logprobs: Vec<Logprob<'a>>,
    pub extra: Extra<'a>,
}

/// Why the answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop<'a> {
    pub reason: StopReason<'a>,
    /// The stop sequence that was met.
    pub sequence: Option<Cow<'a, str>>,
    /// The provider's explanation, for a refusal or a filter.
    pub detail: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason<'a> {
    /// The model had said all.
    End,
    /// `max_tokens` was reached.
    Length,
    Sequence,
    /// It waits for its tools.
    ToolUse,
    /// A filter of the provider stopped it.
    ContentFilter,
    /// The model, or a classifier beside it, declined.
    Refusal,
    /// A long turn was paused by the provider and can be continued (Anthropic `pause_turn`).
    Pause,
    /// The context window was full.
    ContextWindow,
    /// The model's tool call could not be read.
    MalformedCall,
    /// The provider's own word.
    Other(Cow<'a, str>),
}

/// One token and how likely it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logprob<'a> {
    pub token: Cow<'a, str>,
    /// Natural logarithm, the number's own text.
    pub logprob: Cow<'a, str>,
    /// UTF-8 bytes of the token as a JSON array, where the provider gives them.
    pub bytes: Option<Cow<'a, str>>,
    /// The most likely tokens at this place; empty inside of one.
    pub top: Vec<Logprob<'a>>,
}

// === impl Response ===

impl Response<'_> {
    pub fn new(dialect: Dialect) -> Self {
        Response {
            dialect,
            id: None,
            model: None,
            created: None,
            choices: Vec::new(),
            usage: None,
            service_tier: None,
            extra: Extra::default(),
        }
    }
}

// === impl Stop ===

impl<'a> Stop<'a> {
    pub fn new(reason: StopReason<'a>) -> Self {
        Stop { reason, sequence: None, detail: None }
    }
}
