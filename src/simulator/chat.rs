//! `POST /chat/completions`, whole and streamed (API reference, "Chat").

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Choice, Finish, Format, Question, Say, Tool, Usage, count};
use super::fault::Fault;
use super::inquiry::{Task, Vendor};
use super::now;
use super::reply::Reply;

/// More choices than this are refused, as by OpenAI.
const MOST_CHOICES: u64 = 128;

pub(super) fn answer(task: &Task<'_>) -> Result<Reply, Fault> {
    task.check_sampling()?;
    let question = question(task)?;
    let choices = choices(task)?;
    let answer = question.answer();
    let usage = Usage { output: answer.usage.output * choices, ..answer.usage };
    let writer = Writer {
        task,
        id: task.shared.identifier("chatcmpl-"),
        call: task.shared.identifier("call_"),
        created: now(),
        answer,
        logprobs: task.is_set("logprobs"),
        usage: task.scenario.reports_usage().then(|| usage.completion()),
    };
    if task.is_set("stream") {
        let frames = writer.frames(choices);
        let error = vec![event(&Fault::server_error().body())];
        return Ok(task.scenario.stream(frames, error, task.shared.options.pace));
    }
    Ok(task.scenario.whole(&writer.whole(choices)))
}

/// A frame of a stream of chat completions: data only, no event name.
pub(super) fn event(document: &Value) -> Bytes {
    Bytes::from(format!("data: {document}\n\n"))
}

pub(super) fn done() -> Bytes {
    Bytes::from_static(b"data: [DONE]\n\n")
}

/// `n`, one by default.
pub(super) fn choices(task: &Task<'_>) -> Result<u64, Fault> {
    match task.body.get("n") {
        None | Some(Value::Null) => Ok(1),
        Some(value) => match value.as_u64() {
            Some(number @ 1..=MOST_CHOICES) => Ok(number),
            Some(_) | None => {
                Err(Fault::bad(format!("Invalid 'n': expected 1 to {MOST_CHOICES}, but got {value} instead."))
                    .param("n")
                    .code("invalid_value"))
            }
        },
    }
}

/// `stop`: a string or some.
pub(super) fn stop(task: &Task<'_>) -> Vec<String> {
    match task.body.get("stop") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(_) | None => Vec::new(),
    }
}

// === reading the question ===

fn question(task: &Task<'_>) -> Result<Question, Fault> {
    let messages = match task.body.get("messages") {
        None | Some(Value::Null) => return Err(Fault::missing("messages")),
        Some(Value::Array(messages)) if messages.is_empty() => {
            let message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array \
                 instead.";
            return Err(Fault::bad(message).param("messages").code("empty_array"));
        }
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(Fault::wrong_type("messages", "an array of objects", other)),
    };
    let mut question = Question {
        input_tokens: 3,
        tools: tools(task)?,
        choice: choice(task.body.get("tool_choice")),
        format: format(task)?,
        max_tokens: task.number("max_completion_tokens").or_else(|| task.number("max_tokens")),
        stop: stop(task),
        long: task.scenario == super::scenario::Scenario::Long,
        reasoning_tokens: task.scenario.reasoning_tokens(),
        ..Question::default()
    };
    if let Some(tools) = task.body.get("tools") {
        question.input_tokens += count(&tools.to_string());
    }
    for (at, message) in messages.iter().enumerate() {
        let role = message
            .get("role")
            .and_then(Value::as_str)
            .ok_or_else(|| Fault::missing(&format!("messages[{at}].role")))?;
        let text = text(message.get("content").unwrap_or(&Value::Null));
        question.input_tokens +=
            3 + count(&text) + message.get("tool_calls").map_or(0, |calls| count(&calls.to_string()));
        question.tool_result = None;
        match role {
            "user" => question.said = text,
            "tool" | "function" => question.tool_result = Some(text),
            "system" | "developer" | "assistant" => {}
            other => {
                let message = format!(
                    "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and \
                     'developer'."
                );
                return Err(Fault::bad(message).param(format!("messages[{at}].role")).code("invalid_value"));
            }
        }
    }
    Ok(question)
}

/// The text of a message: a string, or its text parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn tools(task: &Task<'_>) -> Result<Vec<Tool>, Fault> {
    let Some(Value::Array(tools)) = task.body.get("tools") else { return Ok(Vec::new()) };
    let mut read = Vec::new();
    for (at, tool) in tools.iter().enumerate() {
        let Some(function) = tool.get("function") else { continue };
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| Fault::missing(&format!("tools[{at}].function.name")))?;
        let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({ "type": "object" }));
        read.push(Tool { name: name.to_owned(), parameters });
    }
    Ok(read)
}

/// `tool_choice`, in the shape of chat completions or of responses.
pub(super) fn choice(choice: Option<&Value>) -> Choice {
    match choice {
        Some(Value::String(word)) if word == "none" => Choice::Never,
        Some(Value::String(word)) if word == "required" => Choice::Must,
        Some(object @ Value::Object(_)) => {
            let name = object.pointer("/function/name").or_else(|| object.get("name")).and_then(Value::as_str);
            name.map_or(Choice::Free, |name| Choice::Named(name.to_owned()))
        }
        Some(_) | None => Choice::Free,
    }
}

fn format(task: &Task<'_>) -> Result<Format, Fault> {
    let Some(format) = task.body.get("response_format") else { return Ok(Format::Text) };
    match format.get("type").and_then(Value::as_str) {
        Some("json_object") => Ok(Format::Json),
        Some("json_schema") => {
            let schema = format.get("json_schema").ok_or_else(|| Fault::missing("response_format.json_schema"))?;
            Ok(schema.get("schema").cloned().map_or(Format::Json, Format::Schema))
        }
        Some(_) | None => Ok(Format::Text),
    }
}

// === writing the answer ===

struct Writer<'a> {
    task: &'a Task<'a>,
    id: String,
    call: String,
    created: u64,
    answer: Answer,
    logprobs: bool,
    /// `None` from a model that does not report it.
    usage: Option<Value>,
}

impl Writer<'_> {
    fn whole(&self, choices: u64) -> Value {
        let (content, calls, pieces) = match &self.answer.say {
            Say::Text(pieces) => (Value::String(pieces.concat()), None, pieces.as_slice()),
            Say::Call { name, arguments } => {
                let function = json!({ "name": name, "arguments": arguments.concat() });
                (Value::Null, Some(json!([{ "id": self.call, "type": "function", "function": function }])), &[] as &[_])
            }
        };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null, "annotations": [] });
        if let Some(calls) = calls {
            message["tool_calls"] = calls;
        }
        let choice = |index: u64| {
            let mut choice = json!({
                "index": index,
                "message": message,
                "logprobs": self.logprobs_of(pieces),
                "finish_reason": finish(self.answer.finish)
            });
            if self.task.vendor == Vendor::Azure {
                choice["content_filter_results"] = safe();
            }
            choice
        };
        let mut document = self.envelope("chat.completion");
        document["choices"] = (0..choices).map(choice).collect();
        if self.task.vendor == Vendor::Azure {
            document["prompt_filter_results"] = json!([{ "prompt_index": 0, "content_filter_results": safe() }]);
        }
        if let Some(usage) = &self.usage {
            document["usage"] = usage.clone();
        }
        document
    }

    /// Role, pieces, finish; then usage for those who asked for it; then the end.
    fn frames(&self, choices: u64) -> Vec<Bytes> {
        let mut frames = Vec::new();
        if self.task.vendor == Vendor::Azure {
            let results = json!([{ "prompt_index": 0, "content_filter_results": safe() }]);
            let first = json!({
                "choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": results
            });
            frames.push(event(&first));
        }
        let none = Value::Null;
        let mut deltas = Vec::new();
        match &self.answer.say {
            Say::Text(pieces) => {
                deltas.push((json!({ "role": "assistant", "content": "", "refusal": null }), none.clone()));
                for piece in pieces {
                    deltas.push((json!({ "content": piece }), self.logprobs_of(std::slice::from_ref(piece))));
                }
            }
            Say::Call { name, arguments } => {
                let function = json!({ "name": name, "arguments": "" });
                let call = json!([{ "index": 0, "id": self.call, "type": "function", "function": function }]);
                let first = json!({ "role": "assistant", "content": null, "tool_calls": call, "refusal": null });
                deltas.push((first, none.clone()));
                for piece in arguments {
                    let call = json!([{ "index": 0, "function": { "arguments": piece } }]);
                    deltas.push((json!({ "tool_calls": call }), none.clone()));
                }
            }
        }
        for (delta, logprobs) in &deltas {
            frames.extend((0..choices).map(|index| self.chunk(index, delta, logprobs, &none)));
        }
        let finish = json!(finish(self.answer.finish));
        frames.extend((0..choices).map(|index| self.chunk(index, &json!({}), &none, &finish)));
        if self.wants_usage() {
            let mut last = self.envelope("chat.completion.chunk");
            last["choices"] = json!([]);
            last["usage"] = self.usage.clone().unwrap_or_default();
            frames.push(event(&last));
        }
        frames.push(done());
        frames
    }

    fn chunk(&self, index: u64, delta: &Value, logprobs: &Value, finish: &Value) -> Bytes {
        let mut chunk = self.envelope("chat.completion.chunk");
        let mut choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        if self.task.vendor == Vendor::Azure {
            choice["content_filter_results"] = json!({});
        }
        chunk["choices"] = json!([choice]);
        if self.wants_usage() {
            chunk["usage"] = Value::Null;
        }
        event(&chunk)
    }

    fn envelope(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.task.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated"
        })
    }

    fn wants_usage(&self) -> bool {
        let asked = self.task.body.pointer("/stream_options/include_usage").and_then(Value::as_bool);
        asked == Some(true) && self.usage.is_some()
    }

    fn logprobs_of(&self, pieces: &[String]) -> Value {
        if !self.logprobs || pieces.is_empty() {
            return Value::Null;
        }
        let top = self.task.number("top_logprobs").unwrap_or(0) > 0;
        let token = |piece: &String| {
            let token = json!({ "token": piece, "logprob": -0.5, "bytes": piece.as_bytes() });
            let mut whole = token.clone();
            whole["top_logprobs"] = if top { json!([token]) } else { json!([]) };
            whole
        };
        json!({ "content": pieces.iter().map(token).collect::<Vec<_>>(), "refusal": null })
    }
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCall => "tool_calls",
    }
}

/// What Azure's content filter says of harmless text.
fn safe() -> Value {
    let safe = json!({ "filtered": false, "severity": "safe" });
    json!({ "hate": safe, "self_harm": safe, "sexual": safe, "violence": safe })
}
