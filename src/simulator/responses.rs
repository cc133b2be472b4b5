//! `POST /responses`, whole and streamed (API reference, "Responses", "Streaming events"). Nothing is stored:
//! `previous_response_id` is accepted and means nothing.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Format, Question, Say, Tool, count};
use super::chat::choice;
use super::fault::Fault;
use super::inquiry::Task;
use super::now;
use super::reply::Reply;
use super::scenario::Scenario;

pub(super) fn answer(task: &Task<'_>) -> Result<Reply, Fault> {
    task.check_sampling()?;
    let answer = question(task)?.answer();
    let prefix = match answer.say {
        Say::Text(_) => "msg_",
        Say::Call { .. } => "fc_",
    };
    let writer = Writer {
        task,
        id: task.shared.identifier("resp_"),
        item: task.shared.identifier(prefix),
        call: task.shared.identifier("call_"),
        created: now(),
        answer,
    };
    if task.is_set("stream") {
        let (frames, error) = writer.frames();
        return Ok(task.scenario.stream(frames, error, task.shared.options.pace));
    }
    Ok(task.scenario.whole(&writer.response(Stage::Finished)))
}

// === reading the question ===

fn question(task: &Task<'_>) -> Result<Question, Fault> {
    let mut question = Question {
        input_tokens: 3 + task.text("instructions").map_or(0, count),
        tools: tools(task)?,
        choice: choice(task.body.get("tool_choice")),
        format: format(task.body.pointer("/text/format")),
        max_tokens: task.number("max_output_tokens"),
        long: task.scenario == Scenario::Long,
        reasoning_tokens: task.scenario.reasoning_tokens(),
        ..Question::default()
    };
    if let Some(tools) = task.body.get("tools") {
        question.input_tokens += count(&tools.to_string());
    }
    match task.body.get("input") {
        None | Some(Value::Null) => return Err(Fault::missing("input")),
        Some(Value::String(text)) => {
            question.input_tokens += 3 + count(text);
            question.said = text.clone();
        }
        Some(Value::Array(items)) => items.iter().for_each(|item| hear(&mut question, item)),
        Some(other) => return Err(Fault::wrong_type("input", "a string or an array of input items", other)),
    }
    Ok(question)
}

/// Takes one input item in.
fn hear(question: &mut Question, item: &Value) {
    question.tool_result = None;
    match item.get("type").and_then(Value::as_str) {
        None | Some("message") => {
            let text = text(item.get("content").unwrap_or(&Value::Null));
            question.input_tokens += 3 + count(&text);
            if item.get("role").and_then(Value::as_str) == Some("user") {
                question.said = text;
            }
        }
        Some("function_call_output") => {
            let text = text(item.get("output").unwrap_or(&Value::Null));
            question.input_tokens += 3 + count(&text);
            question.tool_result = Some(text);
        }
        Some(_) => question.input_tokens += count(&item.to_string()),
    }
}

/// A string, or the text of its parts.
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

/// The functions among the tools; OpenAI's own tools are not simulated.
fn tools(task: &Task<'_>) -> Result<Vec<Tool>, Fault> {
    let Some(Value::Array(tools)) = task.body.get("tools") else { return Ok(Vec::new()) };
    let functions =
        tools.iter().enumerate().filter(|(_, tool)| tool.get("type").and_then(Value::as_str) == Some("function"));
    let read = functions.map(|(at, tool)| {
        let name =
            tool.get("name").and_then(Value::as_str).ok_or_else(|| Fault::missing(&format!("tools[{at}].name")))?;
        let parameters = tool.get("parameters").cloned().unwrap_or_else(|| json!({ "type": "object" }));
        Ok(Tool { name: name.to_owned(), parameters })
    });
    read.collect()
}

fn format(format: Option<&Value>) -> Format {
    match format.and_then(|format| format.get("type")).and_then(Value::as_str) {
        Some("json_object") => Format::Json,
        Some("json_schema") => {
            format.and_then(|format| format.get("schema")).cloned().map_or(Format::Json, Format::Schema)
        }
        Some(_) | None => Format::Text,
    }
}

// === writing the answer ===

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Started,
    Finished,
    Failed,
}

struct Writer<'a> {
    task: &'a Task<'a>,
    id: String,
    item: String,
    call: String,
    created: u64,
    answer: Answer,
}

impl Writer<'_> {
    /// The response object; what the request set is repeated in it.
    fn response(&self, stage: Stage) -> Value {
        let task = self.task;
        let asked = |name: &str, otherwise: Value| match task.body.get(name) {
            Some(value) if !value.is_null() => value.clone(),
            Some(_) | None => otherwise,
        };
        let cut = self.answer.finish == Finish::Length;
        let (status, output) = match stage {
            Stage::Started => ("in_progress", json!([])),
            Stage::Failed => ("failed", json!([])),
            Stage::Finished => (if cut { "incomplete" } else { "completed" }, json!([self.output(true)])),
        };
        let finished = stage == Stage::Finished;
        let usage = (finished && task.scenario.reports_usage()).then(|| self.answer.usage.response());
        let error = (stage == Stage::Failed)
            .then(|| json!({ "code": "server_error", "message": Fault::server_error().message }));
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "completed_at": (finished && !cut).then(now),
            "error": error,
            "incomplete_details": (finished && cut).then(|| json!({ "reason": "max_output_tokens" })),
            "instructions": asked("instructions", Value::Null),
            "max_output_tokens": asked("max_output_tokens", Value::Null),
            "max_tool_calls": asked("max_tool_calls", Value::Null),
            "model": task.model,
            "output": output,
            "parallel_tool_calls": asked("parallel_tool_calls", json!(true)),
            "previous_response_id": asked("previous_response_id", Value::Null),
            "prompt_cache_key": asked("prompt_cache_key", Value::Null),
            "reasoning": asked("reasoning", json!({ "effort": null, "summary": null })),
            "safety_identifier": asked("safety_identifier", Value::Null),
            "service_tier": "default",
            "store": asked("store", json!(true)),
            "temperature": asked("temperature", json!(1.0)),
            "text": asked("text", json!({ "format": { "type": "text" }, "verbosity": "medium" })),
            "tool_choice": asked("tool_choice", json!("auto")),
            "tools": asked("tools", json!([])),
            "top_logprobs": asked("top_logprobs", json!(0)),
            "top_p": asked("top_p", json!(1.0)),
            "truncation": asked("truncation", json!("disabled")),
            "usage": usage,
            "user": asked("user", Value::Null),
            "metadata": asked("metadata", json!({}))
        })
    }

    /// The output item, empty at first.
    fn output(&self, finished: bool) -> Value {
        let status = match (finished, self.answer.finish) {
            (false, _) => "in_progress",
            (true, Finish::Length) => "incomplete",
            (true, Finish::Stop | Finish::ToolCall) => "completed",
        };
        match &self.answer.say {
            Say::Text(pieces) => {
                let content = if finished { json!([part(&pieces.concat())]) } else { json!([]) };
                json!({ "id": self.item, "type": "message", "status": status, "content": content, "role": "assistant" })
            }
            Say::Call { name, arguments } => {
                let arguments = if finished { arguments.concat() } else { String::new() };
                json!({
                    "id": self.item, "type": "function_call", "status": status,
                    "arguments": arguments, "call_id": self.call, "name": name
                })
            }
        }
    }

    /// The events of the answer, and those that end it when it fails half-way.
    fn frames(&self) -> (Vec<Bytes>, Vec<Bytes>) {
        let mut events = vec![
            json!({ "type": "response.created", "response": self.response(Stage::Started) }),
            json!({ "type": "response.in_progress", "response": self.response(Stage::Started) }),
            json!({ "type": "response.output_item.added", "output_index": 0, "item": self.output(false) }),
        ];
        match &self.answer.say {
            Say::Text(pieces) => self.text_events(pieces, &mut events),
            Say::Call { arguments, .. } => self.call_events(arguments, &mut events),
        }
        events.push(json!({ "type": "response.output_item.done", "output_index": 0, "item": self.output(true) }));
        let last = if self.answer.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
        events.push(json!({ "type": last, "response": self.response(Stage::Finished) }));

        let middle = (events.len() / 2).max(1);
        let message = Fault::server_error().message;
        let error = [
            json!({ "type": "error", "code": "server_error", "message": message, "param": null }),
            json!({ "type": "response.failed", "response": self.response(Stage::Failed) }),
        ];
        (numbered(events, 0), numbered(error.to_vec(), middle))
    }

    fn text_events(&self, pieces: &[String], events: &mut Vec<Value>) {
        let text = pieces.concat();
        let event = |kind: &str, key: &str, value: Value| {
            let place = json!({ "type": kind, "item_id": self.item, "output_index": 0, "content_index": 0 });
            with(place, key, value)
        };
        events.push(event("response.content_part.added", "part", part("")));
        for piece in pieces {
            let delta = event("response.output_text.delta", "delta", json!(piece));
            events.push(with(delta, "logprobs", json!([])));
        }
        events.push(with(event("response.output_text.done", "text", json!(text)), "logprobs", json!([])));
        events.push(event("response.content_part.done", "part", part(&text)));
    }

    fn call_events(&self, arguments: &[String], events: &mut Vec<Value>) {
        let Say::Call { name, .. } = &self.answer.say else { return };
        let place = |kind: &str| json!({ "type": kind, "item_id": self.item, "output_index": 0 });
        for piece in arguments {
            events.push(with(place("response.function_call_arguments.delta"), "delta", json!(piece)));
        }
        let done = with(place("response.function_call_arguments.done"), "arguments", json!(arguments.concat()));
        events.push(with(done, "name", json!(name)));
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text })
}

fn with(mut event: Value, key: &str, value: Value) -> Value {
    event[key] = value;
    event
}

/// Frames with an event name and the running number.
fn numbered(events: Vec<Value>, first: usize) -> Vec<Bytes> {
    let frame = |(number, event): (usize, Value)| {
        let event = with(event, "sequence_number", json!(number));
        let name = event.get("type").and_then(Value::as_str).unwrap_or_default();
        Bytes::from(format!("event: {name}\ndata: {event}\n\n"))
    };
    (first..).zip(events).map(frame).collect()
}
