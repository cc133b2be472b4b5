//! Anthropic's `POST /v1/messages`, whole and streamed, and `/v1/messages/count_tokens` (Claude API reference, "Messages",
//! "Streaming messages"; wording of refusals from recorded traffic).
//!
//! What it refuses are the mistakes a translation could make: members it does not know (unless an `anthropic-beta` is named,
//! which may know them), results without their calls, thoughts whose signature is not the one that was given.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Choice, Finish, Format, Question, Say, Tool, Usage, count as tokens, signature};
use super::fault::Fault;
use super::grammar;
use super::inquiry::{Task, Vendor};
use super::reply::Reply;
use super::scenario::Scenario;

const MEMBERS: [&str; 23] = [
    "cache_control",
    "container",
    "context_management",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user_profile_id",
];
const LEAST_BUDGET: u64 = 1024;

pub(super) fn messages(task: &Task<'_>) -> Result<Reply, Fault> {
    let max_tokens = task.number("max_tokens").ok_or_else(|| bad("max_tokens: Field required"))?;
    let question = Question { max_tokens: Some(max_tokens), ..question(task)? };
    let writer = Writer {
        task,
        id: task.shared.identifier("msg_01"),
        call: task.shared.identifier("toolu_01"),
        is_silent: task.body.pointer("/thinking/display").and_then(Value::as_str) == Some("omitted"),
        answer: question.answer(),
    };
    if task.is_set("stream") {
        let error = grammar::body(&grammar::overloaded(Vendor::Anthropic), Vendor::Anthropic);
        let error = json!({ "type": "error", "error": error["error"] });
        return Ok(task.scenario.stream(writer.frames(), vec![frame(&error)], task.shared.options.pace));
    }
    grammar::whole(task, &writer.message(writer.blocks(), true))
}

pub(super) fn count(task: &Task<'_>) -> Result<Reply, Fault> {
    Ok(Reply::json(StatusCode::OK, &json!({ "input_tokens": question(task)?.input_tokens })))
}

fn bad(message: impl Into<String>) -> Fault {
    grammar::fault(Vendor::Anthropic, 400, message)
}

// === reading the question ===

fn question(task: &Task<'_>) -> Result<Question, Fault> {
    if task.inquiry.text("anthropic-beta").is_none() {
        grammar::check_members(Vendor::Anthropic, task.body, &MEMBERS)?;
    }
    let messages = match task.body.get("messages") {
        Some(Value::Array(messages)) if messages.is_empty() => {
            return Err(bad("messages: at least one message is required"));
        }
        Some(Value::Array(messages)) => messages,
        Some(_) => return Err(bad("messages: Input should be a valid list")),
        None => return Err(bad("messages: Field required")),
    };
    let tools = tools(task)?;
    let format = task.body.pointer("/output_config/format").or_else(|| task.body.get("output_format"));
    let mut question = Question {
        input_tokens: 3 + text(task.body.get("system")).map_or(0, |system| tokens(&system)),
        choice: choice(task)?,
        format: format.map_or(Ok(Format::Text), schema)?,
        stop: strings(task.body.get("stop_sequences")),
        long: task.scenario == Scenario::Long,
        reasoning_tokens: task.scenario.reasoning_tokens(),
        thinks: thinks(task)?,
        marked: task.body.to_string().contains("\"cache_control\":{"),
        tools,
        ..Question::default()
    };
    if let Some(tools) = task.body.get("tools") {
        question.input_tokens += tokens(&tools.to_string());
    }
    check_temperature(task)?;
    let mut waiting = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        waiting = hear(&mut question, message, at, &waiting)?;
    }
    if let [first, ..] = waiting.as_slice() {
        return Err(no_result(messages.len() - 1, first));
    }
    check_thoughts(task, messages)?;
    Ok(question)
}

/// Takes one message in; which calls it leaves open.
fn hear(question: &mut Question, message: &Value, at: usize, waiting: &[String]) -> Result<Vec<String>, Fault> {
    let role = message.get("role").and_then(Value::as_str);
    let role = role.ok_or_else(|| bad(format!("messages.{at}.role: Field required")))?;
    let content = message.get("content").ok_or_else(|| bad(format!("messages.{at}.content: Field required")))?;
    question.tool_result = None;
    let said = text(Some(content)).unwrap_or_default();
    question.input_tokens += 3 + tokens(&said);
    match role {
        "user" => question.said = said,
        "assistant" | "system" => {}
        other => {
            return Err(bad(format!("messages.{at}.role: Input should be 'user' or 'assistant', but got '{other}'")));
        }
    }
    let mut calls = Vec::new();
    let mut results = Vec::new();
    for (number, block) in content.as_array().into_iter().flatten().enumerate() {
        let place = format!("messages.{at}.content.{number}");
        let word = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match block.get("type").and_then(Value::as_str) {
            None => return Err(bad(format!("{place}.type: Field required"))),
            Some("text") if word("text").is_empty() => {
                return Err(bad("messages: text content blocks must be non-empty"));
            }
            Some("tool_use") => {
                if !block.get("input").is_some_and(Value::is_object) {
                    return Err(bad(format!("{place}.tool_use.input: Input should be a valid dictionary")));
                }
                question.input_tokens += tokens(&block.to_string());
                calls.push(word("id").to_owned());
            }
            Some("tool_result") => {
                let id = word("tool_use_id").to_owned();
                if !waiting.contains(&id) {
                    return Err(bad(format!(
                        "{place}: unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must \
                         have a corresponding `tool_use` block in the previous message."
                    )));
                }
                results.push(id);
                let result = text(block.get("content")).unwrap_or_default();
                question.input_tokens += tokens(&result);
                question.tool_result = Some(result);
            }
            Some("thinking") if word("signature") != signature(word("thinking")) && !word("thinking").is_empty() => {
                return Err(bad(format!("{place}: Invalid `signature` in `thinking` block")));
            }
            Some(_) => {}
        }
    }
    match waiting.iter().find(|id| !results.contains(id)) {
        Some(id) => Err(no_result(at.saturating_sub(1), id)),
        None => Ok(calls),
    }
}

fn no_result(at: usize, id: &str) -> Fault {
    bad(format!(
        "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {id}. Each `tool_use` block \
         must have a corresponding `tool_result` block in the next message."
    ))
}

/// A string, or the text of its blocks; `None` where there is nothing.
fn text(content: Option<&Value>) -> Option<String> {
    match content? {
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) => {
            let texts = blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str));
            Some(texts.collect::<Vec<_>>().join("\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The caller's own tools; Anthropic's are accepted and never called.
fn tools(task: &Task<'_>) -> Result<Vec<Tool>, Fault> {
    let mut read = Vec::new();
    for (at, tool) in task.body.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if !matches!(tool.get("type").and_then(Value::as_str), None | Some("custom")) {
            continue;
        }
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
        if name.is_empty() || name.len() > 128 || !name.chars().all(is_plain) {
            let message = format!("tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'");
            return Err(bad(message));
        }
        let schema = tool.get("input_schema");
        let schema = schema.ok_or_else(|| bad(format!("tools.{at}.custom.input_schema: Field required")))?;
        if schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(bad(format!("tools.{at}.custom.input_schema.type: Input should be 'object'")));
        }
        read.push(Tool { name: name.to_owned(), parameters: schema.clone() });
    }
    Ok(read)
}

fn choice(task: &Task<'_>) -> Result<Choice, Fault> {
    let Some(choice) = task.body.get("tool_choice") else { return Ok(Choice::Free) };
    if !task.body.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty()) {
        return Err(bad("tool_choice: may only be specified while providing tools"));
    }
    match choice.get("type").and_then(Value::as_str) {
        Some("auto") => Ok(Choice::Free),
        Some("any") => Ok(Choice::Must),
        Some("none") => Ok(Choice::Never),
        Some("tool") => {
            let name = choice.get("name").and_then(Value::as_str);
            name.map(|name| Choice::Named(name.to_owned())).ok_or_else(|| bad("tool_choice.tool.name: Field required"))
        }
        Some(_) | None => Err(bad("tool_choice: Input should be 'auto', 'any', 'tool' or 'none'")),
    }
}

fn schema(format: &Value) -> Result<Format, Fault> {
    let schema = format.get("schema").ok_or_else(|| bad("output_config.format.schema: Field required"))?;
    let is_object = schema.get("type").and_then(Value::as_str) == Some("object");
    if is_object && schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        let message =
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false";
        return Err(bad(message));
    }
    Ok(Format::Schema(schema.clone()))
}

fn thinks(task: &Task<'_>) -> Result<bool, Fault> {
    let Some(thinking) = task.body.get("thinking") else { return Ok(false) };
    match thinking.get("type").and_then(Value::as_str) {
        Some("disabled") => Ok(false),
        Some("adaptive") => Ok(true),
        Some("enabled") => {
            let budget = thinking.get("budget_tokens").and_then(Value::as_u64);
            let budget = budget.ok_or_else(|| bad("thinking.enabled.budget_tokens: Field required"))?;
            if budget < LEAST_BUDGET {
                let message = "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024";
                return Err(bad(message));
            }
            if task.number("max_tokens").is_some_and(|most| most <= budget) {
                return Err(bad("`max_tokens` must be greater than `thinking.budget_tokens`."));
            }
            let forced = task.body.pointer("/tool_choice/type").and_then(Value::as_str);
            if matches!(forced, Some("any" | "tool")) {
                return Err(bad("Thinking may not be enabled when tool_choice forces tool use."));
            }
            if task.body.get("temperature").and_then(Value::as_f64).is_some_and(|value| value != 1.0) {
                return Err(bad("`temperature` may only be set to 1 when thinking is enabled."));
            }
            Ok(true)
        }
        Some(_) | None => Err(bad("thinking: Input tag should be 'adaptive', 'disabled' or 'enabled'")),
    }
}

/// A call that is answered now must come with the thoughts before it, where the model was told to think.
fn check_thoughts(task: &Task<'_>, messages: &[Value]) -> Result<(), Fault> {
    let [.., call, _] = messages else { return Ok(()) };
    let enabled = task.body.pointer("/thinking/type").and_then(Value::as_str) == Some("enabled");
    let kinds: Vec<&str> = call
        .get("content")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|block| block.get("type").and_then(Value::as_str))
        .collect();
    match kinds.as_slice() {
        [first, ..]
            if enabled && kinds.contains(&"tool_use") && !matches!(*first, "thinking" | "redacted_thinking") =>
        {
            Err(bad(format!(
                "messages.{}.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{first}`. When `thinking` is \
                 enabled, a final `assistant` message must start with a thinking block.",
                messages.len() - 2
            )))
        }
        _ => Ok(()),
    }
}

fn check_temperature(task: &Task<'_>) -> Result<(), Fault> {
    match task.body.get("temperature") {
        None => Ok(()),
        Some(value) => match value.as_f64() {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(()),
            Some(_) => Err(grammar::bad_temperature(Vendor::Anthropic)),
            None => Err(bad("temperature: Input should be a valid number")),
        },
    }
}

// === writing the answer ===

struct Writer<'a> {
    task: &'a Task<'a>,
    id: String,
    call: String,
    /// Thoughts are wanted without their text.
    is_silent: bool,
    answer: Answer,
}

impl Writer<'_> {
    fn message(&self, content: Vec<Value>, finished: bool) -> Value {
        let reason = match (self.answer.finish, &self.answer.stopped_by) {
            (Finish::Stop, None) => "end_turn",
            (Finish::Stop, Some(_)) => "stop_sequence",
            (Finish::Length, _) => "max_tokens",
            (Finish::ToolCall, _) => "tool_use",
        };
        let mut message = json!({
            "model": self.task.model,
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "stop_reason": finished.then_some(reason),
            "stop_sequence": self.answer.stopped_by.as_ref().filter(|_| finished),
            "stop_details": null
        });
        if self.task.scenario.reports_usage() {
            let usage = &self.answer.usage;
            message["usage"] = billed(&Usage { output: if finished { usage.output } else { 1 }, ..*usage });
            message["usage"]["cache_creation"] =
                json!({ "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 });
            message["usage"]["service_tier"] = json!("standard");
        }
        message
    }

    /// The thoughts and what is said, whole. Empty text makes no block.
    fn blocks(&self) -> Vec<Value> {
        let mut blocks = Vec::new();
        if !self.answer.thought.is_empty() {
            let thought = self.answer.thought.concat();
            let signature = signature(&thought);
            let shown = if self.is_silent { String::new() } else { thought };
            blocks.push(json!({ "type": "thinking", "thinking": shown, "signature": signature }));
        }
        match &self.answer.say {
            Say::Text(pieces) if pieces.is_empty() => {}
            Say::Text(pieces) => blocks.push(json!({ "type": "text", "text": pieces.concat() })),
            Say::Call { name, arguments } => {
                let input: Value = serde_json::from_str(&arguments.concat()).unwrap_or_else(|_| json!({}));
                blocks.push(json!({
                    "type": "tool_use", "id": self.call, "name": name, "input": input, "caller": { "type": "direct" }
                }));
            }
        }
        blocks
    }

    fn frames(&self) -> Vec<Bytes> {
        let start = json!({ "type": "message_start", "message": self.message(Vec::new(), false) });
        let mut events = vec![start];
        for (index, block) in self.blocks().into_iter().enumerate() {
            self.block_events(index, block, &mut events);
            if index == 0 {
                // behind the first block's start
                events.insert(2, json!({ "type": "ping" }));
            }
        }
        let whole = self.message(Vec::new(), true);
        let mut last = json!({
            "type": "message_delta",
            "delta": { "stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"], "stop_details": null }
        });
        if self.task.scenario.reports_usage() {
            last["usage"] = billed(&self.answer.usage);
        }
        events.push(last);
        events.push(json!({ "type": "message_stop" }));
        events.iter().map(frame).collect()
    }

    fn block_events(&self, index: usize, mut block: Value, events: &mut Vec<Value>) {
        let delta = |delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        let mut deltas = Vec::new();
        if block["type"] == "thinking" {
            let pieces = self.answer.thought.iter().filter(|_| !self.is_silent);
            deltas.extend(pieces.map(|piece| delta(json!({ "type": "thinking_delta", "thinking": piece }))));
            deltas.push(delta(json!({ "type": "signature_delta", "signature": block["signature"] })));
            block["thinking"] = json!("");
            block["signature"] = json!("");
        } else {
            match &self.answer.say {
                Say::Text(pieces) => {
                    deltas.extend(pieces.iter().map(|piece| delta(json!({ "type": "text_delta", "text": piece }))));
                    block["text"] = json!("");
                }
                Say::Call { arguments, .. } => {
                    let pieces = [String::new()].into_iter().chain(arguments.iter().cloned());
                    let piece = |piece| delta(json!({ "type": "input_json_delta", "partial_json": piece }));
                    deltas.extend(pieces.map(piece));
                    block["input"] = json!({});
                }
            }
        }
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        events.extend(deltas);
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
}

/// Anthropic tells cached tokens apart from the others.
fn billed(usage: &Usage) -> Value {
    let mut billed = json!({
        "input_tokens": usage.input - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output
    });
    if usage.reasoning > 0 {
        billed["output_tokens_details"] = json!({ "thinking_tokens": usage.reasoning });
    }
    billed
}

fn frame(event: &Value) -> Bytes {
    grammar::event(event["type"].as_str().unwrap_or_default(), event)
}
