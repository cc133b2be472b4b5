//! Bedrock's `POST /model/{model}/converse`, `/converse-stream` and `/count-tokens` (Amazon Bedrock Runtime API reference;
//! wording of refusals from recorded traffic). Signatures are not checked, only that there is one.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Choice, Finish, Format, Question, Say, Tool, Usage, count as tokens, said, signature};
use super::eventstream::{self, event};
use super::fault::Fault;
use super::grammar;
use super::inquiry::{Task, Vendor};
use super::reply::Reply;
use super::scenario::Scenario;

const MEMBERS: [&str; 12] = [
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "guardrailConfig",
    "inferenceConfig",
    "messages",
    "outputConfig",
    "performanceConfig",
    "promptVariables",
    "requestMetadata",
    "serviceTier",
    "system",
    "toolConfig",
];
const INFERENCE: [&str; 4] = ["maxTokens", "stopSequences", "temperature", "topP"];
/// What `sim-filter` answers.
const FILTERED: &str = "Sorry, the model cannot answer this question.";

pub(super) fn converse(task: &Task<'_>) -> Result<Reply, Fault> {
    let writer = writer(task)?;
    let content = writer.blocks();
    let document = writer.ended(json!({ "output": { "message": { "role": "assistant", "content": content } } }));
    grammar::whole(task, &document)
}

pub(super) fn converse_stream(task: &Task<'_>) -> Result<Reply, Fault> {
    let frames = writer(task)?.frames();
    let message = json!({ "message": grammar::overloaded(Vendor::Bedrock).message });
    let error = vec![eventstream::exception("serviceUnavailableException", &message)];
    let reply = task.scenario.stream(frames, error, task.shared.options.pace);
    Ok(Reply { headers: vec![("content-type".to_owned(), eventstream::CONTENT_TYPE.to_owned())], ..reply })
}

pub(super) fn count(task: &Task<'_>) -> Result<Reply, Fault> {
    let body = task.body.pointer("/input/converse");
    let body = body.ok_or_else(|| bad("The input field must be one of: converse, invokeModel."))?;
    let question = question(task, body)?;
    Ok(Reply::json(StatusCode::OK, &json!({ "inputTokens": question.input_tokens })))
}

fn bad(message: impl Into<String>) -> Fault {
    grammar::fault(Vendor::Bedrock, 400, message)
}

fn writer<'a>(task: &'a Task<'a>) -> Result<Writer<'a>, Fault> {
    let mut answer = question(task, task.body)?.answer();
    if task.scenario == Scenario::ContentFilter {
        answer = Answer { say: Say::Text(vec![FILTERED.to_owned()]), finish: Finish::Stop, ..answer };
    }
    Ok(Writer { task, call: task.shared.identifier("tooluse_"), answer })
}

// === reading the question ===

fn question(task: &Task<'_>, body: &Value) -> Result<Question, Fault> {
    grammar::check_members(Vendor::Bedrock, body, &MEMBERS)?;
    let inference = body.get("inferenceConfig").unwrap_or(&Value::Null);
    grammar::check_members(Vendor::Bedrock, inference, &INFERENCE)?;
    if inference.get("temperature").and_then(Value::as_f64).is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        return Err(grammar::bad_temperature(Vendor::Bedrock));
    }
    let mut question = Question {
        input_tokens: 3,
        tools: tools(body)?,
        choice: choice(body),
        format: format(body)?,
        max_tokens: inference.get("maxTokens").and_then(Value::as_u64),
        stop: strings(inference.get("stopSequences")),
        long: task.scenario == Scenario::Long,
        reasoning_tokens: task.scenario.reasoning_tokens(),
        thinks: thinks(body),
        marked: body.to_string().contains("\"cachePoint\":{"),
        ..Question::default()
    };
    for part in ["system", "toolConfig"] {
        question.input_tokens += body.get(part).map_or(0, |part| tokens(&part.to_string()));
    }
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if messages.first().is_none_or(|first| first.get("role").and_then(Value::as_str) != Some("user")) {
        let message = "A conversation must start with a user message. Try again with a conversation that starts with a user \
             message.";
        return Err(bad(message));
    }
    let mut before = "";
    let mut waiting = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
        // a guardrail looks before the turns are looked at (recorded traffic)
        if !matches!(role, "user" | "assistant") || (role == before && body.get("guardrailConfig").is_none()) {
            let message = "A conversation must alternate between user and assistant roles. Make sure the conversation \
                 alternates between user and assistant roles and try again.";
            return Err(bad(message));
        }
        before = role;
        waiting = hear(&mut question, message, at, &waiting)?;
    }
    let uses_tools = body.to_string().contains("\"toolUse\":{") || body.to_string().contains("\"toolResult\":{");
    if uses_tools && body.get("toolConfig").is_none() {
        let message = "The toolConfig field must be defined when using toolUse and toolResult content blocks.";
        return Err(bad(message));
    }
    match waiting.as_slice() {
        [first, ..] => Err(no_result(messages.len(), first)),
        [] => Ok(question),
    }
}

/// Takes one message in; which calls it leaves open.
fn hear(question: &mut Question, message: &Value, at: usize, waiting: &[String]) -> Result<Vec<String>, Fault> {
    let blocks = message.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if blocks.is_empty() {
        return Err(bad(format!(
            "The content field in the Message object at messages.{at} is empty. Add a ContentBlock object to the content field \
             and try again."
        )));
    }
    question.tool_result = None;
    let mut texts = Vec::new();
    let (mut calls, mut results) = (Vec::new(), Vec::new());
    for (number, block) in blocks.iter().enumerate() {
        let id = |pointer: &str| block.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        question.input_tokens += tokens(&block.to_string());
        if let Some(text) = block.get("text").and_then(Value::as_str) {
            if text.is_empty() {
                return Err(bad(format!(
                    "The text field in the ContentBlock object at messages.{at}.content.{number} is blank. Add text to the text \
                     field, and try again."
                )));
            }
            texts.push(text);
        } else if let Some(call) = block.get("toolUse") {
            if !call.get("input").is_some_and(Value::is_object) {
                let place = format!("messages.{at}.content.{number}.toolUse.input");
                return Err(bad(format!("The format of the value at {place} is invalid. Provide a json object.")));
            }
            calls.push(id("/toolUse/toolUseId"));
        } else if let Some(result) = block.get("toolResult") {
            results.push(id("/toolResult/toolUseId"));
            question.tool_result = Some(result_text(result));
        }
    }
    if results.iter().any(|result| !waiting.contains(result)) {
        return Err(bad(format!(
            "The number of toolResult blocks at messages.{at}.content exceeds the number of toolUse blocks of previous turn."
        )));
    }
    if message.get("role").and_then(Value::as_str) == Some("user") {
        question.said = said(texts.into_iter());
    }
    match waiting.iter().find(|call| !results.contains(call)) {
        Some(call) => Err(no_result(at, call)),
        None => Ok(calls),
    }
}

fn no_result(at: usize, id: &str) -> Fault {
    bad(format!("Expected toolResult blocks at messages.{at}.content for the following Ids: {id}"))
}

/// The text of a tool's result, or its JSON.
fn result_text(result: &Value) -> String {
    let blocks = result.get("content").and_then(Value::as_array).into_iter().flatten();
    let texts = blocks.filter_map(|block| match block.get("text").and_then(Value::as_str) {
        Some(text) => Some(text.to_owned()),
        None => block.get("json").map(Value::to_string),
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn tools(body: &Value) -> Result<Vec<Tool>, Fault> {
    let Some(config) = body.get("toolConfig") else { return Ok(Vec::new()) };
    let tools = config.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if tools.is_empty() {
        return Err(bad("The toolConfig.tools field must have at least one tool."));
    }
    let mut read = Vec::new();
    for (at, spec) in tools.iter().enumerate().filter_map(|(at, tool)| Some((at, tool.get("toolSpec")?))) {
        let name = spec.get("name").and_then(Value::as_str).unwrap_or_default();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
            return Err(bad(format!(
                "Value '{name}' at 'toolConfig.tools.{}.member.toolSpec.name' failed to satisfy constraint: Member must satisfy \
                 regular expression pattern: [a-zA-Z0-9_-]+",
                at + 1
            )));
        }
        let schema = spec.pointer("/inputSchema/json").unwrap_or(&Value::Null);
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(bad(format!(
                "The value at toolConfig.tools.{at}.toolSpec.inputSchema.json.type must be one of the following: object."
            )));
        }
        read.push(Tool { name: name.to_owned(), parameters: schema.clone() });
    }
    Ok(read)
}

fn choice(body: &Value) -> Choice {
    let Some(choice) = body.pointer("/toolConfig/toolChoice") else { return Choice::Free };
    match choice.pointer("/tool/name").and_then(Value::as_str) {
        Some(name) => Choice::Named(name.to_owned()),
        None if choice.get("any").is_some() => Choice::Must,
        None => Choice::Free,
    }
}

/// The schema is a text.
fn format(body: &Value) -> Result<Format, Fault> {
    let Some(format) = body.pointer("/outputConfig/textFormat") else { return Ok(Format::Text) };
    let schema = format.pointer("/structure/jsonSchema/schema").and_then(Value::as_str);
    let schema = schema.and_then(|schema| serde_json::from_str(schema).ok());
    schema
        .map(Format::Schema)
        .ok_or_else(|| bad("The value at outputConfig.textFormat.structure.jsonSchema.schema is invalid."))
}

/// Claude's `thinking`, and what it and Nova call reasoning.
fn thinks(body: &Value) -> bool {
    ["thinking", "reasoning_config", "reasoningConfig"].iter().any(|name| {
        let kind = body.get("additionalModelRequestFields").and_then(|fields| fields.get(name)?.get("type"));
        matches!(kind.and_then(Value::as_str), Some("enabled" | "adaptive"))
    })
}

// === writing the answer ===

struct Writer<'a> {
    task: &'a Task<'a>,
    call: String,
    answer: Answer,
}

impl Writer<'_> {
    fn blocks(&self) -> Vec<Value> {
        let mut blocks = Vec::new();
        if !self.answer.thought.is_empty() {
            let thought = self.answer.thought.concat();
            let text = json!({ "text": thought, "signature": signature(&thought) });
            blocks.push(json!({ "reasoningContent": { "reasoningText": text } }));
        }
        match &self.answer.say {
            Say::Text(pieces) if pieces.is_empty() => {}
            Say::Text(pieces) => blocks.push(json!({ "text": pieces.concat() })),
            Say::Call { name, arguments } => {
                let input: Value = serde_json::from_str(&arguments.concat()).unwrap_or_else(|_| json!({}));
                blocks.push(json!({ "toolUse": { "toolUseId": self.call, "name": name, "input": input } }));
            }
        }
        blocks
    }

    fn reason(&self) -> &'static str {
        match (self.answer.finish, &self.answer.stopped_by) {
            _ if self.task.scenario == Scenario::ContentFilter => "content_filtered",
            (Finish::Stop, None) => "end_turn",
            (Finish::Stop, Some(_)) => "stop_sequence",
            (Finish::Length, _) => "max_tokens",
            (Finish::ToolCall, _) => "tool_use",
        }
    }

    fn ended(&self, mut document: Value) -> Value {
        document["stopReason"] = json!(self.reason());
        document["metrics"] = json!({ "latencyMs": 12 });
        if self.task.scenario.reports_usage() {
            document["usage"] = billed(&self.answer.usage);
        }
        document
    }

    fn frames(&self) -> Vec<Bytes> {
        let mut frames = vec![event("messageStart", &json!({ "role": "assistant" }))];
        let mut index = 0;
        if !self.answer.thought.is_empty() {
            let thought = self.answer.thought.concat();
            let texts = self.answer.thought.iter().map(|piece| json!({ "text": piece }));
            let parts = texts.chain([json!({ "signature": signature(&thought) })]);
            block(&mut frames, index, parts.map(|part| json!({ "reasoningContent": part })));
            index += 1;
        }
        match &self.answer.say {
            Say::Text(pieces) => block(&mut frames, index, pieces.iter().map(|piece| json!({ "text": piece }))),
            Say::Call { name, arguments } => {
                let start = json!({ "toolUse": { "toolUseId": self.call, "name": name } });
                let start = json!({ "contentBlockIndex": index, "start": start });
                frames.push(event("contentBlockStart", &start));
                block(&mut frames, index, arguments.iter().map(|piece| json!({ "toolUse": { "input": piece } })));
            }
        }
        frames.push(event("messageStop", &json!({ "stopReason": self.reason() })));
        let mut metadata = json!({ "metrics": { "latencyMs": 12 } });
        if self.task.scenario.reports_usage() {
            metadata["usage"] = billed(&self.answer.usage);
        }
        frames.push(event("metadata", &metadata));
        frames
    }
}

/// The deltas of a block and its end. Only a tool call has a start (recorded traffic).
fn block(frames: &mut Vec<Bytes>, index: usize, deltas: impl Iterator<Item = Value>) {
    let delta = |delta| event("contentBlockDelta", &json!({ "contentBlockIndex": index, "delta": delta }));
    frames.extend(deltas.map(delta));
    frames.push(event("contentBlockStop", &json!({ "contentBlockIndex": index })));
}

/// Cached tokens are told apart from the others; the total has both.
fn billed(usage: &Usage) -> Value {
    let mut billed = json!({
        "inputTokens": usage.input - usage.cached,
        "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output,
        "serverToolUsage": {}
    });
    if usage.cached > 0 {
        billed["cacheReadInputTokens"] = json!(usage.cached);
        billed["cacheWriteInputTokens"] = json!(0);
    }
    billed
}
