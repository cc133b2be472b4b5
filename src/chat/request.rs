//! What is asked.

use std::borrow::Cow;

use super::{Block, Cache, Dialect, Extra, Json, Param, Tool, ToolChoice};
use crate::json::At;

/// One call. A parameter that is `None` was not written: no default is filled in before an encoder needs one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who wrote it: `extra` members and native blocks go back only to this one.
    pub dialect: Dialect,
    /// As the client asked for it; empty where the dialect has it in the path.
    pub model: Cow<'a, str>,
    pub stream: bool,
    /// The client wants the usage at the end of a stream (chat completions ask for it; elsewhere always true).
    pub stream_usage: bool,
    /// System and developer turns stand where they were written; nearly always in front.
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub tool_choice: Option<Param<ToolChoice<'a>>>,
    pub parallel_tool_calls: Option<Param<bool>>,
    pub format: Option<Param<Format<'a>>>,
    /// `low`, `medium`, `high`: how long answers are.
    pub verbosity: Option<Param<Cow<'a, str>>>,
    pub reasoning: Option<Param<Reasoning<'a>>>,
    /// Most tokens of the answer, thinking included.
    pub max_output: Option<Param<u64>>,
    /// Numbers are their own text.
    pub temperature: Option<Param<Cow<'a, str>>>,
    pub top_p: Option<Param<Cow<'a, str>>>,
    pub top_k: Option<Param<Cow<'a, str>>>,
    pub presence_penalty: Option<Param<Cow<'a, str>>>,
    pub frequency_penalty: Option<Param<Cow<'a, str>>>,
    pub seed: Option<Param<Cow<'a, str>>>,
    pub stop: Option<Param<Vec<Cow<'a, str>>>>,
    /// Answers asked for; 1 when absent.
    pub n: Option<Param<u64>>,
    /// Log probabilities of the tokens chosen.
    pub logprobs: Option<Param<bool>>,
    /// And of so many alternatives.
    pub top_logprobs: Option<Param<u64>>,
    /// `text`, `audio`, `image`: what the answer may be made of.
    pub modalities: Option<Param<Vec<Cow<'a, str>>>>,
    /// `auto`, `default`, `flex`, `priority`, `standard_only`, ... in the writer's own words.
    pub service_tier: Option<Param<Cow<'a, str>>>,
    /// An opaque id of the end user.
    pub user: Option<Param<Cow<'a, str>>>,
    /// An object of strings, as it was written.
    pub metadata: Option<Param<Json<'a>>>,
    /// Whether the provider may keep the answer for later (chat completions and responses).
    pub store: Option<Param<bool>>,
    /// Which prompts share a cache (OpenAI's `prompt_cache_key`).
    pub cache_key: Option<Param<Cow<'a, str>>>,
    /// A mark on the request as a whole: cache up to the last block.
    pub cache: Option<Cache>,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    pub role: Role,
    /// The participant's name, where the dialect has one.
    pub name: Option<Cow<'a, str>>,
    pub blocks: Vec<Block<'a>>,
    pub at: At,
    pub extra: Extra<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    System,
    Developer,
    /// Also speaks for the tools: their results are blocks of the user's turns.
    User,
    Assistant,
}

/// What the answer's text must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format<'a> {
    Text,
    /// Any JSON object.
    Json,
    Schema(Schema<'a>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema<'a> {
    pub name: Option<Cow<'a, str>>,
    pub description: Option<Cow<'a, str>>,
    /// The JSON schema as it was written.
    pub schema: Json<'a>,
    pub strict: Option<bool>,
}

/// How much the model thinks. Dialects say it as an effort or as a budget; what was not said is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reasoning<'a> {
    /// `Some(false)`: do not think at all.
    pub enabled: Option<bool>,
    pub effort: Option<Effort<'a>>,
    /// Tokens.
    pub budget: Option<u64>,
    /// The model decides how much (Anthropic's `adaptive`, Gemini's budget -1).
    pub adaptive: bool,
    /// `auto`, `concise`, `detailed`; Gemini's `includeThoughts` is `auto`; `none` hides them.
    pub summary: Option<Cow<'a, str>>,
    /// Encrypted reasoning is wanted in the answer (responses: `include`).
    pub encrypted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effort<'a> {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
    Other(Cow<'a, str>),
}

// === impl Request ===

impl<'a> Request<'a> {
    pub fn new(dialect: Dialect) -> Self {
        Request {
            dialect,
            model: Cow::Borrowed(""),
            stream: false,
            stream_usage: true,
            turns: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            format: None,
            verbosity: None,
            reasoning: None,
            max_output: None,
            temperature: None,
            top_p: None,
            top_k: None,
            presence_penalty: None,
            frequency_penalty: None,
            seed: None,
            stop: None,
            n: None,
            logprobs: None,
            top_logprobs: None,
            modalities: None,
            service_tier: None,
            user: None,
            metadata: None,
            store: None,
            cache_key: None,
            cache: None,
            extra: Extra::default(),
        }
    }
}

// === impl Turn ===

impl<'a> Turn<'a> {
    pub fn new(role: Role, blocks: Vec<Block<'a>>) -> Self {
        Turn { role, name: None, blocks, at: At::NOWHERE, extra: Extra::default() }
    }
}

// === impl Effort ===

impl<'a> Effort<'a> {
    /// The words OpenAI, Anthropic and Gemini share.
    pub fn from_word(word: Cow<'a, str>) -> Self {
        match &*word {
            "none" => Effort::None,
            "minimal" => Effort::Minimal,
            "low" => Effort::Low,
            "medium" => Effort::Medium,
            "high" => Effort::High,
            "xhigh" => Effort::XHigh,
            "max" => Effort::Max,
            _ => Effort::Other(word),
        }
    }

    pub fn word(&self) -> &str {
        match self {
            Effort::None => "none",
            Effort::Minimal => "minimal",
            Effort::Low => "low",
            Effort::Medium => "medium",
            Effort::High => "high",
            Effort::XHigh => "xhigh",
            Effort::Max => "max",
            Effort::Other(word) => word,
        }
    }

    /// A thinking budget of about this effort, in tokens (the figures of Google's OpenAI-compatibility table, "Thinking", extended upwards).
    pub fn budget(&self) -> u64 {
        match self {
            Effort::None => 0,
            Effort::Minimal | Effort::Low => 1_024,
            Effort::Medium | Effort::Other(_) => 8_192,
            Effort::High => 24_576,
            Effort::XHigh | Effort::Max => 32_768,
        }
    }

    /// The effort a budget comes nearest to: the reverse of [`Effort::budget`].
    pub fn of_budget(tokens: u64) -> Effort<'static> {
        match tokens {
            0 => Effort::None,
            1..=2_048 => Effort::Low,
            2_049..=16_384 => Effort::Medium,
            16_385.. => Effort::High,
        }
    }
}
