//! Cohere's `POST /v2/chat`, whole and streamed (Cohere API reference, "Chat (v2)"; order of events from recorded traffic).

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Choice, Finish, Format, Question, Say, Tool, Usage, count as tokens};
use super::chat::done;
use super::fault::Fault;
use super::grammar;
use super::inquiry::{Task, Vendor};
use super::reply::Reply;
use super::scenario::Scenario;

const MEMBERS: [&str; 22] = [
    "citation_options",
    "documents",
    "frequency_penalty",
    "k",
    "logprobs",
    "max_tokens",
    "messages",
    "model",
    "p",
    "presence_penalty",
    "priority",
    "raw_prompting",
    "response_format",
    "safety_mode",
    "seed",
    "stop_sequences",
    "stream",
    "strict_tools",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
];

pub(super) fn chat(task: &Task<'_>) -> Result<Reply, Fault> {
    let answer = question(task)?.answer();
    let writer = Writer { task, id: task.shared.identifier(""), answer };
    if task.is_set("stream") {
        let (frames, error) = writer.frames();
        return Ok(task.scenario.stream(frames, error, task.shared.options.pace));
    }
    grammar::whole(task, &writer.whole())
}

fn bad(message: impl Into<String>) -> Fault {
    grammar::fault(Vendor::Cohere, 400, format!("invalid request: {}", message.into()))
}

// === reading the question ===

fn question(task: &Task<'_>) -> Result<Question, Fault> {
    grammar::check_members(Vendor::Cohere, task.body, &MEMBERS)?;
    if task.body.get("temperature").and_then(Value::as_f64).is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return Err(grammar::bad_temperature(Vendor::Cohere));
    }
    let mut question = Question {
        input_tokens: 3 + task.body.get("tools").map_or(0, |tools| tokens(&tools.to_string())),
        tools: tools(task)?,
        choice: match task.text("tool_choice") {
            None => Choice::Free,
            Some("REQUIRED") => Choice::Must,
            Some("NONE") => Choice::Never,
            Some(_) => return Err(bad("tool_choice must be one of: REQUIRED, NONE")),
        },
        format: format(task)?,
        max_tokens: task.number("max_tokens"),
        stop: strings(task.body.get("stop_sequences")),
        long: task.scenario == Scenario::Long,
        reasoning_tokens: task.scenario.reasoning_tokens(),
        thinks: task.body.pointer("/thinking/type").and_then(Value::as_str) == Some("enabled"),
        ..Question::default()
    };
    let messages = match task.body.get("messages") {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(_) | None => return Err(bad("messages must be a list with at least one message")),
    };
    let mut waiting = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        hear(&mut question, message, at, &mut waiting)?;
    }
    match waiting.as_slice() {
        [] => Ok(question),
        [id, ..] => Err(bad(format!("tool call {id} has no result"))),
    }
}

/// Takes one message in; `waiting` are the calls that have no result yet.
fn hear(question: &mut Question, message: &Value, at: usize, waiting: &mut Vec<String>) -> Result<(), Fault> {
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    let said = text(message.get("content").unwrap_or(&Value::Null));
    question.input_tokens += 3 + tokens(&said);
    question.tool_result = None;
    if let Some(id) = waiting.first().filter(|_| role != "tool") {
        return Err(bad(format!("tool call {id} has no result")));
    }
    match role {
        "user" if said.is_empty() && message.get("content").is_none_or(|content| !content.is_array()) => {
            return Err(bad(format!("the message at index {at} must have content")));
        }
        "user" => question.said = said,
        "system" => {}
        "assistant" => {
            let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for call in calls {
                question.input_tokens += tokens(&call.to_string());
                waiting.push(call.get("id").and_then(Value::as_str).unwrap_or_default().to_owned());
            }
            if calls.is_empty() && message.get("content").is_none() {
                return Err(bad(format!("the message at index {at} must have at least one of content and tool_calls")));
            }
        }
        "tool" => {
            let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
            let place = waiting.iter().position(|waiting| waiting == id);
            let place =
                place.ok_or_else(|| bad(format!("tool_call_id {id} was not found in the tool calls before")))?;
            waiting.remove(place);
            question.tool_result = Some(said);
        }
        other => {
            return Err(bad(format!(
                "invalid role {other:?} at index {at}: must be one of user, assistant, system, tool"
            )));
        }
    }
    Ok(())
}

/// A string, or the text of its parts; a document counts with its data.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| match part.pointer("/document/data") {
                Some(Value::String(data)) => Some(data.clone()),
                Some(data) => Some(data.to_string()),
                None => part.get("text").and_then(Value::as_str).map(str::to_owned),
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn tools(task: &Task<'_>) -> Result<Vec<Tool>, Fault> {
    let tools = task.body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let read = tools.enumerate().map(|(at, tool)| {
        let function = tool.get("function").unwrap_or(&Value::Null);
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| bad(format!("tools[{at}].function.name must be specified")))?;
        let parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({ "type": "object" }));
        Ok(Tool { name: name.to_owned(), parameters })
    });
    read.collect()
}

fn format(task: &Task<'_>) -> Result<Format, Fault> {
    let Some(format) = task.body.get("response_format") else { return Ok(Format::Text) };
    match format.get("type").and_then(Value::as_str) {
        None | Some("text") => Ok(Format::Text),
        Some("json_object") if task.body.get("tools").is_some() => {
            Err(bad("response_format and tools cannot be used together"))
        }
        Some("json_object") => Ok(format.get("json_schema").cloned().map_or(Format::Json, Format::Schema)),
        Some(_) => Err(bad("response_format.type must be one of: text, json_object")),
    }
}

// === writing the answer ===

struct Writer<'a> {
    task: &'a Task<'a>,
    id: String,
    answer: Answer,
}

impl Writer<'_> {
    fn whole(&self) -> Value {
        let mut message = json!({ "role": "assistant" });
        let mut content = Vec::new();
        if !self.answer.thought.is_empty() {
            content.push(json!({ "type": "thinking", "thinking": self.answer.thought.concat() }));
        }
        match &self.answer.say {
            Say::Text(pieces) => content.push(json!({ "type": "text", "text": pieces.concat() })),
            Say::Call { name, arguments } => {
                message["tool_plan"] = json!(plan(name));
                message["tool_calls"] = json!([self.call(name, &arguments.concat())]);
            }
        }
        if !content.is_empty() {
            message["content"] = json!(content);
        }
        self.ended(json!({ "id": self.id, "message": message }), self.reason())
    }

    /// The events of the answer, and those that end it when it fails half-way.
    fn frames(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let message = json!({ "role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": [] });
        let start = json!({ "id": self.id, "type": "message-start", "delta": { "message": message } });
        let mut events = vec![start];
        let mut index = 0;
        if !self.answer.thought.is_empty() {
            content(&mut events, index, "thinking", &self.answer.thought);
            index += 1;
        }
        match &self.answer.say {
            Say::Text(pieces) => content(&mut events, index, "text", pieces),
            Say::Call { name, arguments } => {
                let calls = |calls: Value| json!({ "message": { "tool_calls": calls } });
                let plan = json!({ "message": { "tool_plan": plan(name) } });
                events.push(json!({ "type": "tool-plan-delta", "delta": plan }));
                let call = self.call(name, "");
                events.push(json!({ "type": "tool-call-start", "index": 0, "delta": calls(call) }));
                for piece in arguments {
                    let delta = calls(json!({ "function": { "arguments": piece } }));
                    events.push(json!({ "type": "tool-call-delta", "index": 0, "delta": delta }));
                }
                events.push(json!({ "type": "tool-call-end", "index": 0 }));
            }
        }
        let end = |delta: Value| json!({ "type": "message-end", "delta": delta });
        events.push(end(self.ended(json!({}), self.reason())));
        let mut failed = json!({ "error": grammar::overloaded(Vendor::Cohere).message });
        failed = self.ended(failed, "ERROR");
        let mut frames: Vec<Bytes> = events.iter().map(frame).collect();
        frames.push(done());
        (frames, vec![frame(&end(failed))])
    }

    fn call(&self, name: &str, arguments: &str) -> Value {
        let id = format!("{name}_{}", self.id.get(..12).unwrap_or_default());
        json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
    }

    fn reason(&self) -> &'static str {
        match (self.answer.finish, &self.answer.stopped_by) {
            (Finish::Stop, None) => "COMPLETE",
            (Finish::Stop, Some(_)) => "STOP_SEQUENCE",
            (Finish::Length, _) => "MAX_TOKENS",
            (Finish::ToolCall, _) => "TOOL_CALL",
        }
    }

    fn ended(&self, mut document: Value, reason: &str) -> Value {
        document["finish_reason"] = json!(reason);
        if self.task.scenario.reports_usage() {
            document["usage"] = billed(&self.answer.usage);
        }
        document
    }
}

/// What the model says before it calls.
fn plan(name: &str) -> String {
    format!("I will use the {name} tool.")
}

fn content(events: &mut Vec<Value>, index: usize, kind: &str, pieces: &[String]) {
    let message = |content: Value| json!({ "message": { "content": content } });
    let start = message(json!({ "type": kind, kind: "" }));
    events.push(json!({ "type": "content-start", "index": index, "delta": start }));
    for piece in pieces {
        events.push(json!({ "type": "content-delta", "index": index, "delta": message(json!({ kind: piece })) }));
    }
    events.push(json!({ "type": "content-end", "index": index }));
}

fn billed(usage: &Usage) -> Value {
    let mut tokens = json!({ "input_tokens": usage.input, "output_tokens": usage.output });
    if usage.reasoning > 0 {
        tokens["reasoning_tokens"] = json!(usage.reasoning);
    }
    let billed = json!({ "input_tokens": usage.input, "output_tokens": usage.output });
    json!({ "billed_units": billed, "tokens": tokens, "cached_tokens": usage.cached })
}

fn frame(event: &Value) -> Bytes {
    grammar::event(event["type"].as_str().unwrap_or_default(), event)
}
