//! What a dialect has to be able to do, from either side.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::frame::{Frame, Framing};
use crate::chat::{Event, Losses, Request, Response, Usage};
use crate::error::{Error, Refused};
use crate::json::{Node, Wrong};

/// A dialect that clients speak: requests are read, answers are written.
pub trait Inbound: Sync {
    /// Read a request. What is not understood is kept (`extra`, `Native`), what cannot be is refused. `model` and `stream` stay as they are
    /// in [`Request::new`] where the dialect has them in the path.
    fn decode_request<'a>(&self, body: Node<'a>) -> Result<Request<'a>, Wrong>;

    /// What of a request no word of the bridge can say, so that no encoder will book it. Nothing, in nearly every dialect.
    fn unsaid(&self, _body: &Node<'_>) -> Losses {
        Losses::default()
    }

    /// What of the request stands again in the answer: JSON members, separated by commas. Empty where nothing does.
    fn echo(&self, _request: &Request<'_>) -> String {
        String::new()
    }

    fn encode_response(&self, response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded;

    fn stream_encoder(&self, to: &ReplyTo<'_>) -> Box<dyn StreamEncoder>;
}

/// A dialect that providers speak: requests are written, answers are read.
pub trait Outbound: Sync {
    fn abilities(&self, model: &str, manners: &Manners) -> Abilities;

    /// Every field of the request is in the body or in the losses.
    fn encode_request(&self, request: &Request<'_>, to: &To<'_>) -> Encoded;

    fn decode_response<'a>(&self, reply: Node<'a>, from: &Origin<'_>) -> Result<Response<'a>, Wrong>;

    fn framing(&self) -> Framing;

    fn stream_decoder(&self, from: &Origin<'_>) -> Box<dyn StreamDecoder>;

    /// What a reply of status 400 and up means. `body` may be anything: half JSON, an HTML page, nothing.
    fn decode_error(&self, status: u16, body: &[u8]) -> Refusal;
}

pub trait StreamDecoder: Send {
    /// Read one event. Keeps the order that `chat::event` describes. Never panics; after an `Err` it is not used again.
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled>;

    /// The stream has ended: what is still due (`Close`, `Stop`, `End`), nothing when `End` was said. `Err`: it broke off before its end.
    fn finish(&mut self, out: &mut Vec<Event<'static>>) -> Result<(), Garbled>;
}

pub trait StreamEncoder: Send {
    /// Write what an event is in this dialect: none, one or several whole frames. Legal for every order that `chat::event` allows.
    /// `Event::Error` and `Event::End` end the stream as its dialect does.
    fn push(&mut self, event: Event<'_>, out: &mut Vec<u8>);

    /// What could not be said.
    fn losses(&self) -> &Losses;

    /// What keeps a silent stream open.
    fn heartbeat(&self) -> &'static [u8] {
        b": keep-alive\n\n"
    }
}

/// Watches a stream that is forwarded as it is.
pub trait Tap: Send {
    /// Look at a frame on its way. What comes back goes to the client: the frame itself, nearly always.
    fn see(&mut self, frame: Bytes) -> Option<Bytes>;

    fn seen(&self) -> &Seen;

    /// The event that tells the client, in place, that its stream broke.
    fn broken(&self, error: &Error) -> Bytes;
}

/// What a tap has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub usage: Option<Usage>,
    /// Frames with output, which is near enough to one a token.
    pub output_frames: u64,
    /// The first frame with text, a tool call or reasoning has passed.
    pub output_began: bool,
    /// Why the answer stopped has been told.
    pub finished: bool,
    /// The event that ends a stream has passed: what comes after is not a broken stream.
    pub ended: bool,
    /// The provider sent an error event.
    pub failed: bool,
}

/// A body, and what is not in it.
#[derive(Debug, Default)]
pub struct Encoded {
    pub body: Vec<u8>,
    pub losses: Losses,
}

/// Who is asked.
#[derive(Debug, Clone, Copy)]
pub struct To<'a> {
    /// The provider's own name for the model. Dialects that have it in the path do not write it.
    pub model: &'a str,
    pub manners: &'a Manners,
}

/// Who answered.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    pub model: &'a str,
}

/// Who is answered, and what a reply needs that no provider said.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo<'a> {
    /// Of the call: stands in for an id the provider did not give.
    pub id: &'a str,
    /// The model as the client asked for it, where the provider does not say which one answered.
    pub model: &'a str,
    /// Unix seconds, where the provider gives no time.
    pub created: u64,
    /// The client wants usage at the end of a stream.
    pub stream_usage: bool,
    pub form: StreamForm,
    /// See [`Inbound::echo`].
    pub echo: &'a str,
}

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamForm {
    Sse,
    /// One JSON array that grows (Gemini without `alt=sse`).
    Array,
}

/// How a vendor's spelling of a dialect differs from the dialect's own. Data, from the table of vendors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manners {
    /// Chat completions: `max_completion_tokens` (OpenAI, Azure) instead of `max_tokens`.
    pub max_completion_tokens: bool,
    /// Chat completions: the role `developer` is known (OpenAI, Azure); elsewhere it is written `system`.
    pub developer_role: bool,
    /// Chat completions: `response_format` of type `json_schema` is not known.
    pub no_json_schema: bool,
    /// Chat completions: parts, messages and tools may bear Anthropic's `cache_control` (OpenRouter, LiteLLM).
    pub cache_control: bool,
    /// Chat completions: `reasoning: {effort, max_tokens, enabled, exclude}` instead of `reasoning_effort` (OpenRouter).
    pub reasoning_object: bool,
    /// Chat completions: how an assistant's thinking goes back to the vendor.
    pub thinking: ThinkingForm,
    /// Anthropic messages: the model is in the path, and this stands in the body as `anthropic_version` (Vertex).
    pub anthropic_version: Option<Box<str>>,
    /// Gemini: Vertex's spelling (`labels`, no `responseJsonSchema` where it has none, `gs:` addresses).
    pub vertex: bool,
    /// Bedrock: where its models are, for the ARN of one that is named by its id.
    pub region: Option<Box<str>>,
}

/// Where an assistant message of chat completions holds what the model thought, when it goes back to the vendor. Vendors that know none of
/// these refuse them as unknown members.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ThinkingForm {
    /// `reasoning_content` (DeepSeek, Z.ai, most others).
    #[default]
    ReasoningContent,
    /// `reasoning` (Groq, vLLM).
    Reasoning,
    /// Content parts of type `thinking` (Mistral).
    Parts,
    /// Nowhere (OpenAI, Azure).
    Nowhere,
}

/// What a model at the other end can do natively. What it cannot is emulated in words, before the encoder sees them
/// (`dialect::adapt`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Output that follows a JSON schema.
    pub json_schema: bool,
    /// Output that is some JSON object.
    pub json_object: bool,
    /// Tools with free text for arguments.
    pub custom_tools: bool,
    /// Longest tool name, in bytes.
    pub tool_name: usize,
    /// Tool names and call ids are letters, digits, `_` and `-` only.
    pub plain_names: bool,
}

/// What a provider's error says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Refused,
    /// The provider's words for the caller, without what identifies the operator's account. Empty when it had none.
    pub message: Cow<'static, str>,
    /// From the body (Google's `RetryInfo`); a header's is read by the gateway.
    pub retry_after: Option<Duration>,
    /// The member at fault, in the provider's dialect.
    pub param: Option<String>,
    /// The provider's own machine-readable word.
    pub code: Option<String>,
}

/// A provider's answer that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbled {
    /// For the log: what was expected. Holds nothing of the content.
    pub what: Cow<'static, str>,
}

// === impl Garbled ===

impl Garbled {
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Garbled { what: what.into() }
    }
}

impl From<Wrong> for Garbled {
    fn from(wrong: Wrong) -> Self {
        Garbled { what: wrong.what }
    }
}

impl From<crate::json::ScanError> for Garbled {
    fn from(error: crate::json::ScanError) -> Self {
        Garbled { what: error.to_string().into() }
    }
}
