//! Gemini's `POST /v1beta/models/{model}:{action}` (ai.google.dev/api: "Generating content", "Counting tokens", "Embeddings";
//! wording of refusals from recorded traffic): content whole, as server-sent events and as the list that a stream is without
//! `alt=sse`; token counts; embeddings.
//!
//! Members are known in both of Google's spellings, `maxOutputTokens` and `max_output_tokens`.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::answer::{Answer, Choice, Finish, Format, Question, Say, Tool, Usage, count as tokens, signature};
use super::chat::event;
use super::embeddings::vector;
use super::fault::Fault;
use super::grammar;
use super::inquiry::{Task, Vendor};
use super::reply::Reply;
use super::scenario::Scenario;

const MEMBERS: [&str; 10] = [
    "cachedContent",
    "contents",
    "generationConfig",
    "labels",
    "model",
    "safetySettings",
    "serviceTier",
    "systemInstruction",
    "toolConfig",
    "tools",
];
/// Members of a part, all but what it is of: one of the others must be there.
const ABOUT: [&str; 4] = ["thought", "thoughtSignature", "videoMetadata", "mediaResolution"];
/// Values of an embedding that does not say how many it wants, and the most there are.
const DIMENSIONS: u64 = 3072;
/// More candidates than this are refused.
const MOST_CANDIDATES: u64 = 8;

pub(super) fn generate(task: &Task<'_>) -> Result<Reply, Fault> {
    let writer = writer(task)?;
    grammar::whole(task, &writer.whole())
}

/// With `alt=sse` an event each, else the elements of one list.
pub(super) fn stream(task: &Task<'_>) -> Result<Reply, Fault> {
    let documents = writer(task)?.chunks();
    let error = grammar::body(&grammar::overloaded(Vendor::Gemini), Vendor::Gemini);
    let pace = task.shared.options.pace;
    if task.inquiry.asked("alt") == Some("sse") {
        let frames = documents.iter().map(event).collect();
        return Ok(task.scenario.stream(frames, vec![event(&error)], pace));
    }
    let element =
        |(at, document): (usize, &Value)| Bytes::from(format!("{}{document:#}", if at == 0 { "[" } else { ",\r\n" }));
    let end = Bytes::from_static(b"\n]");
    let mut frames: Vec<Bytes> = documents.iter().enumerate().map(element).collect();
    frames.push(end.clone());
    let reply = task.scenario.stream(frames, vec![element((1, &error)), end], pace);
    let headers = vec![("content-type".to_owned(), "application/json; charset=UTF-8".to_owned())];
    Ok(Reply { headers, ..reply })
}

pub(super) fn count(task: &Task<'_>) -> Result<Reply, Fault> {
    let body = get(task.body, "generateContentRequest").unwrap_or(task.body);
    let total = question(task, body)?.input_tokens;
    let details = json!([{ "modality": "TEXT", "tokenCount": total }]);
    Ok(Reply::json(StatusCode::OK, &json!({ "totalTokens": total, "promptTokensDetails": details })))
}

pub(super) fn embed(task: &Task<'_>) -> Result<Reply, Fault> {
    grammar::whole(task, &json!({ "embedding": embedding(task.body)? }))
}

pub(super) fn embed_batch(task: &Task<'_>) -> Result<Reply, Fault> {
    let requests = task.body.get("requests").and_then(Value::as_array).filter(|requests| !requests.is_empty());
    let requests = requests.ok_or_else(|| unspecified("BatchEmbedContentsRequest.requests"))?;
    let embeddings = requests.iter().map(embedding).collect::<Result<Vec<_>, _>>()?;
    grammar::whole(task, &json!({ "embeddings": embeddings }))
}

fn embedding(request: &Value) -> Result<Value, Fault> {
    let content = request.get("content").ok_or_else(|| unspecified("EmbedContentRequest.content"))?;
    let dimensions = match get(request, "outputDimensionality") {
        None => DIMENSIONS,
        Some(value) => value
            .as_u64()
            .filter(|number| (1..=DIMENSIONS).contains(number))
            .ok_or_else(|| bad(format!("output_dimensionality must be between 1 and {DIMENSIONS}.")))?,
    };
    Ok(json!({ "values": vector(&text(content), dimensions as usize) }))
}

fn bad(message: impl Into<String>) -> Fault {
    grammar::fault(Vendor::Gemini, 400, message)
}

fn unspecified(name: &str) -> Fault {
    let last = name.rsplit('.').next().unwrap_or_default();
    bad(format!("* {name}: {last} is not specified\n"))
}

/// A member in either spelling.
fn get<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.get(snake(name))).filter(|value| !value.is_null())
}

fn snake(name: &str) -> String {
    let letter = |letter: char| {
        let head = letter.is_ascii_uppercase().then_some('_');
        head.into_iter().chain([letter.to_ascii_lowercase()])
    };
    name.chars().flat_map(letter).collect()
}

fn writer<'a>(task: &'a Task<'a>) -> Result<Writer<'a>, Fault> {
    let candidates = get(task.body, "generationConfig").and_then(|config| get(config, "candidateCount"));
    let candidates = match candidates.map(Value::as_u64) {
        None => 1,
        Some(Some(number @ 1..=MOST_CANDIDATES)) => number,
        Some(_) => return Err(bad(format!("candidateCount must be between 1 and {MOST_CANDIDATES}."))),
    };
    Ok(Writer {
        task,
        id: task.shared.identifier(""),
        answer: question(task, task.body)?.answer(),
        is_third: is_third(task.model),
        candidates,
    })
}

/// Gemini 3 gives its calls ids, and wants its signatures back.
fn is_third(model: &str) -> bool {
    model.starts_with("gemini-3")
}

// === reading the question ===

fn question(task: &Task<'_>, body: &Value) -> Result<Question, Fault> {
    let known: Vec<String> = MEMBERS.iter().flat_map(|name| [(*name).to_owned(), snake(name)]).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    grammar::check_members(Vendor::Gemini, body, &known)?;
    let config = get(body, "generationConfig").unwrap_or(&Value::Null);
    let number = |name: &str| get(config, name).and_then(Value::as_f64);
    if number("temperature").is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err(grammar::bad_temperature(Vendor::Gemini));
    }
    let system = get(body, "systemInstruction").map(text).unwrap_or_default();
    let mut question = Question {
        input_tokens: 3 + tokens(&system) + body.get("tools").map_or(0, |tools| tokens(&tools.to_string())),
        tools: tools(body)?,
        choice: choice(body),
        format: format(config)?,
        max_tokens: get(config, "maxOutputTokens").and_then(Value::as_u64),
        stop: strings(get(config, "stopSequences")),
        long: task.scenario == Scenario::Long,
        reasoning_tokens: task.scenario.reasoning_tokens(),
        thinks: thinks(config),
        marked: get(body, "cachedContent").is_some(),
        ..Question::default()
    };
    let contents = match body.get("contents") {
        Some(Value::Array(contents)) if !contents.is_empty() => contents,
        Some(_) | None => return Err(unspecified("GenerateContentRequest.contents")),
    };
    let mut waiting = 0;
    for (at, content) in contents.iter().enumerate() {
        waiting = hear(&mut question, content, at, waiting, is_third(task.model))?;
    }
    Ok(question)
}

/// Takes one content in; how many calls it leaves open.
fn hear(question: &mut Question, content: &Value, at: usize, waiting: usize, signed: bool) -> Result<usize, Fault> {
    let role = content.get("role").and_then(Value::as_str).unwrap_or("user");
    if !matches!(role, "user" | "model" | "function") {
        return Err(bad("Please use a valid role: user, model."));
    }
    let parts = content.get("parts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if parts.is_empty() {
        let place = format!("GenerateContentRequest.contents[{at}].parts");
        return Err(bad(format!("* {place}: contents.parts must not be empty.\n")));
    }
    question.tool_result = None;
    let (mut calls, mut results) = (0, 0);
    for (number, part) in parts.iter().enumerate() {
        let about = |name: &String| ABOUT.iter().any(|about| name == about || *name == snake(about));
        if part.as_object().is_none_or(|part| part.keys().all(about)) {
            let place = format!("GenerateContentRequest.contents[{at}].parts[{number}].data");
            return Err(bad(format!("* {place}: required oneof field 'data' must have one initialized field\n")));
        }
        question.input_tokens += tokens(&part.to_string());
        if get(part, "functionCall").is_some() {
            calls += 1;
            if signed && calls == 1 && get(part, "thoughtSignature").is_none() {
                return Err(bad(format!(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work \
                     correctly, and missing thought_signature may lead to degraded model performance. Additional data, function \
                     call in contents {at}, position {number}."
                )));
            }
        }
        if let Some(result) = get(part, "functionResponse") {
            results += 1;
            question.tool_result = Some(told(result.get("response").unwrap_or(&Value::Null)));
        }
    }
    if results != waiting {
        let message = "Please ensure that the number of function response parts is equal to the number of function call parts \
             of the function call turn.";
        return Err(bad(message));
    }
    if role != "model" {
        question.said = text(content);
    }
    Ok(calls)
}

/// The text of a content's parts, without thoughts.
fn text(content: &Value) -> String {
    let parts = content.get("parts").and_then(Value::as_array).into_iter().flatten();
    let said = parts.filter(|part| part.get("thought").and_then(Value::as_bool) != Some(true));
    said.filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().join("\n")
}

/// What a function's response says: its members are the caller's own, these are usual.
fn told(response: &Value) -> String {
    let usual = ["output", "result", "content", "error"].iter().find_map(|name| response.get(name));
    match usual.unwrap_or(response) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The functions among the tools; Google's own tools are not simulated.
fn tools(body: &Value) -> Result<Vec<Tool>, Fault> {
    let mut read = Vec::new();
    for (at, tool) in body.get("tools").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let functions = get(tool, "functionDeclarations").and_then(Value::as_array).into_iter().flatten();
        for (number, function) in functions.enumerate() {
            let name = function.get("name").and_then(Value::as_str).unwrap_or_default();
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.' | ':');
            let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
            if !begins || name.len() > 128 || !name.chars().all(is_plain) {
                return Err(bad(format!(
                    "* GenerateContentRequest.tools[{at}].function_declarations[{number}].name: Invalid function name. Must start \
                     with a letter or an underscore. Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), \
                     or dashes (-), with a maximum length of 128.\n"
                )));
            }
            let schema = get(function, "parametersJsonSchema").or_else(|| function.get("parameters")).cloned();
            let parameters = schema.unwrap_or_else(|| json!({ "type": "object" }));
            read.push(Tool { name: name.to_owned(), parameters });
        }
    }
    Ok(read)
}

fn choice(body: &Value) -> Choice {
    let config = get(body, "toolConfig").and_then(|config| get(config, "functionCallingConfig"));
    let allowed = strings(config.and_then(|config| get(config, "allowedFunctionNames"))).into_iter().next();
    match config.and_then(|config| config.get("mode")).and_then(Value::as_str) {
        Some("NONE") => Choice::Never,
        Some("ANY") => allowed.map_or(Choice::Must, Choice::Named),
        Some(_) | None => Choice::Free,
    }
}

fn format(config: &Value) -> Result<Format, Fault> {
    let is_json = get(config, "responseMimeType").and_then(Value::as_str) == Some("application/json");
    let schema = get(config, "responseJsonSchema").or_else(|| get(config, "responseSchema"));
    match schema {
        Some(_) if !is_json => {
            let place = "GenerateContentRequest.generation_config.response_schema";
            Err(bad(format!("* {place}: only allowed when response_mime_type is application/json\n")))
        }
        Some(schema) => Ok(Format::Schema(schema.clone())),
        None if is_json => Ok(Format::Json),
        None => Ok(Format::Text),
    }
}

fn thinks(config: &Value) -> bool {
    let Some(thinking) = get(config, "thinkingConfig") else { return false };
    let shown = get(thinking, "includeThoughts").and_then(Value::as_bool) == Some(true);
    shown && get(thinking, "thinkingBudget").and_then(Value::as_i64) != Some(0)
}

// === writing the answer ===

struct Writer<'a> {
    task: &'a Task<'a>,
    id: String,
    answer: Answer,
    is_third: bool,
    candidates: u64,
}

impl Writer<'_> {
    fn whole(&self) -> Value {
        let mut parts = Vec::new();
        if !self.answer.thought.is_empty() {
            parts.push(json!({ "text": self.answer.thought.concat(), "thought": true }));
        }
        let mut last = match &self.answer.say {
            Say::Text(pieces) => json!({ "text": pieces.concat() }),
            Say::Call { name, arguments } => self.call(name, &arguments.concat()),
        };
        self.seal(&mut last);
        parts.push(last);
        self.response(&parts, true, self.answer.usage)
    }

    /// A part a chunk, each with what was spent so far; a call is never cut.
    fn chunks(&self) -> Vec<Value> {
        let start = Usage { output: 0, reasoning: 0, ..self.answer.usage };
        let mut chunks = Vec::new();
        for (at, piece) in self.answer.thought.iter().enumerate() {
            let spent = at as u64 + 1;
            let part = json!({ "text": piece, "thought": true });
            chunks.push(self.response(&[part], false, Usage { output: spent, reasoning: spent, ..start }));
        }
        let mut last = match &self.answer.say {
            Say::Text(pieces) => {
                for (at, piece) in pieces.iter().enumerate() {
                    let reasoning = self.answer.usage.reasoning;
                    let usage = Usage { output: reasoning + at as u64 + 1, reasoning, ..start };
                    chunks.push(self.response(&[json!({ "text": piece })], false, usage));
                }
                json!({ "text": "" })
            }
            Say::Call { name, arguments } => self.call(name, &arguments.concat()),
        };
        self.seal(&mut last);
        chunks.push(self.response(&[last], true, self.answer.usage));
        chunks
    }

    /// Gemini signs the part behind its thoughts; the third signs every call.
    fn seal(&self, part: &mut Value) {
        let is_call = part.get("functionCall").is_some();
        if !self.answer.thought.is_empty() || (self.is_third && is_call) {
            part["thoughtSignature"] = json!(signature(&self.answer.thought.concat()));
        }
    }

    fn call(&self, name: &str, arguments: &str) -> Value {
        let args: Value = serde_json::from_str(arguments).unwrap_or_else(|_| json!({}));
        let mut call = json!({ "name": name, "args": args });
        if self.is_third {
            call["id"] = json!(self.id.get(..8));
        }
        json!({ "functionCall": call })
    }

    fn response(&self, parts: &[Value], finished: bool, usage: Usage) -> Value {
        let mut response = json!({ "modelVersion": self.task.model, "responseId": self.id });
        if self.task.scenario.reports_usage() {
            response["usageMetadata"] = spent(&Usage { output: usage.output * self.candidates, ..usage });
        }
        if self.task.scenario == Scenario::ContentFilter {
            response["promptFeedback"] = json!({ "blockReason": "PROHIBITED_CONTENT" });
            return response;
        }
        let candidate = |index: u64| {
            let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": index });
            if finished {
                let cut = self.answer.finish == Finish::Length;
                candidate["finishReason"] = json!(if cut { "MAX_TOKENS" } else { "STOP" });
            }
            if finished && self.answer.finish == Finish::ToolCall {
                candidate["finishMessage"] = json!("Model generated function call(s).");
            }
            candidate
        };
        response["candidates"] = (0..self.candidates).map(candidate).collect();
        response
    }
}

/// Cached tokens are part of the prompt's; thoughts are told apart from the candidates.
fn spent(usage: &Usage) -> Value {
    let mut spent = json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.input + usage.output,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": usage.input }]
    });
    if usage.reasoning > 0 {
        spent["thoughtsTokenCount"] = json!(usage.reasoning);
    }
    if usage.cached > 0 {
        spent["cachedContentTokenCount"] = json!(usage.cached);
        spent["cacheTokensDetails"] = json!([{ "modality": "TEXT", "tokenCount": usage.cached }]);
    }
    spent
}
