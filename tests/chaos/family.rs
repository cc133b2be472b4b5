//! What a provider of each dialect says when it is well: a whole answer, a stream in its parts, an error.
//!
//! Small literals, each in the form of recorded traffic (`shared/corpus`: openai.chat-028, openai.responses-036, anthropic.messages-021,
//! gemini.streamGenerateContent-010, bedrock.converse-stream-014, cohere.chat-015).

use serde_json::{Value, json};

use super::wire;

/// The dialects that providers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Chat,
    Responses,
    Anthropic,
    Gemini,
    Bedrock,
    Cohere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Whole,
    Streamed,
}

/// An answer's text, in three deltas.
pub type Words = [&'static str; 3];

/// The first target's.
pub const FIRST: Words = ["Gr\u{fc}\u{df}e aus ", "\u{6771}\u{4eac} und \u{6f22}", "\u{1f389} one two three."];
/// The second target's.
pub const SECOND: Words = ["The second ", "sp\u{e9}aks: ", "\u{1f600} four five."];
/// That of an answer nobody asked for.
pub const POISON: Words = ["POISON ", "for somebody ", "else."];

/// The provider's key, and a value of its own headers: neither may reach a client.
pub const KEY: &str = "sk-chaos-secret-0123456789";
pub const PRIVATE: &str = "upstream-private";
/// The provider's name of the model.
pub const MODEL: &str = "great-1";

/// A stream in its parts, each a list of frames.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Its life cycle begins: nothing that a reader would miss.
    pub opening: Vec<Vec<u8>>,
    pub output: Vec<Vec<u8>>,
    /// Why it stopped.
    pub finish: Vec<Vec<u8>>,
    /// What ends it. Empty where the finish does (Gemini).
    pub end: Vec<Vec<u8>>,
}

pub const FAMILIES: [Family; 6] =
    [Family::Chat, Family::Responses, Family::Anthropic, Family::Gemini, Family::Bedrock, Family::Cohere];

// === impl Family ===

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::Chat => "chat",
            Family::Responses => "responses",
            Family::Anthropic => "anthropic",
            Family::Gemini => "gemini",
            Family::Bedrock => "bedrock",
            Family::Cohere => "cohere",
        }
    }

    /// An entry of `providers`.
    pub fn provider(self, address: std::net::SocketAddr) -> String {
        let at = format!("base_url: 'http://{address}/at-{}'", self.name());
        match self {
            Family::Chat => {
                format!("{{kind: openai, {at}, api_key: {KEY}, bridge: [chat_completions], paths: {{responses: off}}}}")
            }
            Family::Responses => {
                format!("{{kind: openai, {at}, api_key: {KEY}, bridge: [responses], paths: {{chat_completions: off}}}}")
            }
            Family::Bedrock => format!(
                "{{kind: bedrock, {at}, region: us-east-1, access_key_id: AKIDCHAOS, secret_access_key: {KEY}}}"
            ),
            Family::Anthropic | Family::Gemini | Family::Cohere => {
                format!("{{kind: {}, {at}, api_key: {KEY}}}", self.name())
            }
        }
    }

    /// The second target of a group: one that speaks another dialect.
    pub fn other(self) -> Family {
        match self {
            Family::Chat => Family::Anthropic,
            Family::Responses => Family::Gemini,
            Family::Anthropic => Family::Bedrock,
            Family::Gemini => Family::Cohere,
            Family::Bedrock => Family::Chat,
            Family::Cohere => Family::Responses,
        }
    }

    pub fn is_sse(self) -> bool {
        self != Family::Bedrock
    }

    pub fn content_type(self, mode: Mode) -> &'static str {
        match (mode, self) {
            (Mode::Whole, _) => "application/json",
            (Mode::Streamed, Family::Bedrock) => "application/vnd.amazon.eventstream",
            (Mode::Streamed, _) => "text/event-stream; charset=utf-8",
        }
    }

    /// A whole answer.
    pub fn whole(self, words: &Words) -> Vec<u8> {
        let text = words.concat();
        let answer = match self {
            Family::Chat => json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1_773_345_539, "model": MODEL,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null}, "logprobs": null, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16},
            }),
            Family::Responses => response("completed", Some(&text)),
            Family::Anthropic => json!({
                "id": "msg_01", "type": "message", "role": "assistant", "model": MODEL,
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
                "usage": {"input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 9},
            }),
            Family::Gemini => gemini(Some(&text), true),
            Family::Bedrock => json!({
                "metrics": {"latencyMs": 249}, "stopReason": "end_turn",
                "output": {"message": {"role": "assistant", "content": [{"text": text}]}},
                "usage": {"inputTokens": 7, "outputTokens": 9, "totalTokens": 16},
            }),
            Family::Cohere => json!({
                "id": "c1", "finish_reason": "COMPLETE",
                "message": {"role": "assistant", "content": [{"type": "text", "text": text}]},
                "usage": {"billed_units": {"input_tokens": 7, "output_tokens": 9}, "tokens": {"input_tokens": 7, "output_tokens": 9}},
            }),
        };
        answer.to_string().into_bytes()
    }

    /// A stream.
    pub fn stream(self, words: &Words) -> Parts {
        match self {
            Family::Chat => chat_stream(words),
            Family::Responses => responses_stream(words),
            Family::Anthropic => anthropic_stream(words),
            Family::Gemini => Parts {
                opening: vec![data(&gemini(Some(""), false))],
                output: words.iter().map(|word| data(&gemini(Some(word), false))).collect(),
                finish: vec![data(&gemini(None, true))],
                end: vec![],
            },
            Family::Bedrock => bedrock_stream(words),
            Family::Cohere => cohere_stream(words),
        }
    }

    /// What keeps a silent stream open, in this dialect.
    pub fn ping(self) -> Vec<u8> {
        match self {
            Family::Anthropic => named(&json!({"type": "ping"})),
            // there is none: an event of a kind to come
            Family::Bedrock => aws("event", "keepAlive", &json!({})),
            _ => b": ping\n\n".to_vec(),
        }
    }

    /// An error as an event of a stream, the `number`th from 0.
    pub fn error_event(self, number: usize) -> Vec<u8> {
        match self {
            Family::Chat => {
                data(&self.error(500, "server_error", "The server had an error while processing your request"))
            }
            Family::Responses => named(&json!({
                "type": "error", "code": "server_error", "message": "The server had an error", "param": null, "sequence_number": number
            })),
            Family::Anthropic => named(&self.error(529, "overloaded_error", "Overloaded")),
            Family::Gemini => data(&self.error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")),
            Family::Bedrock => aws(
                "exception",
                "throttlingException",
                &json!({"message": "Too many tokens, please wait before trying again."}),
            ),
            Family::Cohere => data(&json!({"message": "internal server error"})),
        }
    }

    /// An error's body. `word`: the dialect's own word for its kind; Google's status or OpenAI's code.
    pub fn error(self, status: u16, word: &str, message: &str) -> Value {
        match self {
            Family::Chat | Family::Responses => {
                json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": word}})
            }
            Family::Anthropic => {
                json!({"type": "error", "error": {"type": word, "message": message}, "request_id": "req_1"})
            }
            Family::Gemini => json!({"error": {"code": status, "message": message, "status": word}}),
            Family::Bedrock => json!({"message": message}),
            Family::Cohere => json!({"id": "e1", "message": message}),
        }
    }
}

impl Parts {
    /// All frames.
    pub fn all(&self) -> Vec<Vec<u8>> {
        [&self.opening[..], &self.output, &self.finish, &self.end].concat()
    }

    /// The first `n` deltas, with what comes before.
    pub fn until(&self, n: usize) -> Vec<Vec<u8>> {
        [&self.opening, &self.output[..n]].concat()
    }
}

// === frames ===

/// An event without a name.
fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

/// An event whose name is its `type`.
fn named(value: &Value) -> Vec<u8> {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().expect("a type")).into_bytes()
}

/// A message of Converse's stream; `what`: `event` or `exception`.
fn aws(what: &str, name: &str, payload: &Value) -> Vec<u8> {
    let kind = format!(":{what}-type");
    let headers = [(&*kind, name), (":content-type", "application/json"), (":message-type", what)];
    wire::message(&headers, payload.to_string().as_bytes())
}

// === each dialect ===

fn chat_stream(words: &Words) -> Parts {
    let chunk = |delta: Value, finish: Value| {
        data(&json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_773_345_539, "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null,
        }))
    };
    let usage = data(&json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_773_345_539, "model": MODEL, "choices": [],
        "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16},
    }));
    Parts {
        opening: vec![chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null)],
        output: words.iter().map(|word| chunk(json!({"content": word}), Value::Null)).collect(),
        finish: vec![chunk(json!({}), json!("stop")), usage],
        end: vec![b"data: [DONE]\n\n".to_vec()],
    }
}

fn response(status: &str, text: Option<&str>) -> Value {
    let output = text.map(|text| {
        json!({"id": "msg_1", "type": "message", "status": "completed", "role": "assistant",
               "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}]})
    });
    let usage = text.map(|_| {
        json!({"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 9,
               "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 16})
    });
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_776_481_268, "status": status, "error": null, "incomplete_details": null,
        "instructions": null, "max_output_tokens": null, "model": MODEL, "output": output.map_or_else(Vec::new, |item| vec![item]),
        "parallel_tool_calls": true, "previous_response_id": null, "store": true, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled",
        "usage": usage, "metadata": {},
    })
}

fn responses_stream(words: &Words) -> Parts {
    let text = words.concat();
    let mut number = 0;
    let mut event = |mut value: Value| {
        value["sequence_number"] = number.into();
        number += 1;
        named(&value)
    };
    let item = |status: &str, content: Value| json!({"id": "msg_1", "type": "message", "status": status, "content": content, "role": "assistant"});
    let part = |text: &str| json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
    let at = json!({"content_index": 0, "item_id": "msg_1", "output_index": 0, "logprobs": []});
    let with = |kind: &str, name: &str, value: Value| {
        let mut event = at.clone();
        event["type"] = kind.into();
        event[name] = value;
        event
    };
    Parts {
        opening: vec![
            event(json!({"type": "response.created", "response": response("in_progress", None)})),
            event(json!({"type": "response.in_progress", "response": response("in_progress", None)})),
            event(
                json!({"type": "response.output_item.added", "item": item("in_progress", json!([])), "output_index": 0}),
            ),
            event(with("response.content_part.added", "part", part(""))),
        ],
        output: words.iter().map(|word| event(with("response.output_text.delta", "delta", (*word).into()))).collect(),
        finish: vec![
            event(with("response.output_text.done", "text", text.as_str().into())),
            event(with("response.content_part.done", "part", part(&text))),
            event(
                json!({"type": "response.output_item.done", "item": item("completed", json!([part(&text)])), "output_index": 0}),
            ),
        ],
        end: vec![event(json!({"type": "response.completed", "response": response("completed", Some(&text))}))],
    }
}

fn anthropic_stream(words: &Words) -> Parts {
    let start = json!({"type": "message_start", "message": {
        "id": "msg_01", "type": "message", "role": "assistant", "model": MODEL, "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1},
    }});
    let delta =
        |word: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}});
    Parts {
        opening: vec![
            named(&start),
            named(&json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})),
            named(&json!({"type": "ping"})),
        ],
        output: words.iter().map(|word| named(&delta(word))).collect(),
        finish: vec![
            named(&json!({"type": "content_block_stop", "index": 0})),
            named(
                &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 9}}),
            ),
        ],
        end: vec![named(&json!({"type": "message_stop"}))],
    }
}

fn gemini(text: Option<&str>, last: bool) -> Value {
    let mut candidate = json!({"content": {"role": "model"}, "index": 0});
    if let Some(text) = text {
        candidate["content"]["parts"] = json!([{"text": text}]);
    }
    if last {
        candidate["finishReason"] = "STOP".into();
    }
    json!({
        "candidates": [candidate], "modelVersion": MODEL, "responseId": "r1",
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 9, "totalTokenCount": 16},
    })
}

fn bedrock_stream(words: &Words) -> Parts {
    let delta = |word: &str| json!({"contentBlockIndex": 0, "delta": {"text": word}, "p": "abcd"});
    Parts {
        opening: vec![aws("event", "messageStart", &json!({"role": "assistant", "p": "abcdefgh"}))],
        output: words.iter().map(|word| aws("event", "contentBlockDelta", &delta(word))).collect(),
        finish: vec![
            aws("event", "contentBlockStop", &json!({"contentBlockIndex": 0})),
            aws("event", "messageStop", &json!({"stopReason": "end_turn"})),
        ],
        end: vec![aws(
            "event",
            "metadata",
            &json!({"metrics": {"latencyMs": 613}, "usage": {"inputTokens": 7, "outputTokens": 9, "totalTokens": 16}}),
        )],
    }
}

fn cohere_stream(words: &Words) -> Parts {
    let delta =
        |word: &str| json!({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": word}}}});
    let start = json!({"id": "c1", "type": "message-start", "delta": {"message": {
        "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}}});
    let end = json!({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {
        "billed_units": {"input_tokens": 7, "output_tokens": 9}, "tokens": {"input_tokens": 7, "output_tokens": 9}}}});
    Parts {
        opening: vec![
            named(&start),
            named(
                &json!({"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}),
            ),
        ],
        output: words.iter().map(|word| named(&delta(word))).collect(),
        finish: vec![named(&json!({"type": "content-end", "index": 0}))],
        end: vec![named(&end), b"data: [DONE]\n\n".to_vec()],
    }
}
