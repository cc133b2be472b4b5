//! `POST /completions`, whole and streamed: the legacy API (API reference, "Completions").

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Finish, Question, Say, Usage, count};
use super::chat::{choices, done, event, stop};
use super::fault::Fault;
use super::inquiry::Task;
use super::now;
use super::reply::Reply;
use super::scenario::Scenario;

/// `max_tokens` when the request has none (API reference).
const DEFAULT_TOKENS: u64 = 16;

pub(super) fn answer(task: &Task<'_>) -> Result<Reply, Fault> {
    task.check_sampling()?;
    let prompts = prompts(task.body.get("prompt"))?;
    let number = choices(task)?;
    let long = task.scenario == Scenario::Long;
    let max_tokens = task.number("max_tokens").or((!long).then_some(DEFAULT_TOKENS));
    let mut texts: Vec<(Vec<String>, &str)> = Vec::new();
    let mut usage = Usage::default();
    for (prompt, tokens) in &prompts {
        let question = Question { said: prompt.clone(), max_tokens, stop: stop(task), long, ..Question::default() };
        let answer = question.answer();
        usage.input += tokens;
        usage.output += answer.usage.output * number;
        let mut pieces = match answer.say {
            Say::Text(pieces) => pieces,
            Say::Call { .. } => Vec::new(),
        };
        if task.is_set("echo") {
            pieces.insert(0, prompt.clone());
        }
        let finish = if answer.finish == Finish::Length { "length" } else { "stop" };
        texts.extend((0..number).map(|_| (pieces.clone(), finish)));
    }
    let usage = task.scenario.reports_usage().then(|| usage.completion());
    let base = json!({
        "id": task.shared.identifier("cmpl-"), "object": "text_completion", "created": now(), "model": task.model
    });
    if task.is_set("stream") {
        let frames = frames(task, &base, &texts, usage);
        let error = vec![event(&Fault::server_error().body())];
        return Ok(task.scenario.stream(frames, error, task.shared.options.pace));
    }
    let choice = |(index, (pieces, finish)): (usize, &(Vec<String>, &str))| json!({ "text": pieces.concat(), "index": index, "logprobs": null, "finish_reason": finish });
    let mut document = base;
    document["choices"] = texts.iter().enumerate().map(choice).collect();
    if let Some(usage) = usage {
        document["usage"] = usage;
    }
    Ok(task.scenario.whole(&document))
}

/// The last piece of each choice carries its finish reason.
fn frames(task: &Task<'_>, base: &Value, texts: &[(Vec<String>, &str)], usage: Option<Value>) -> Vec<Bytes> {
    let asked = task.body.pointer("/stream_options/include_usage").and_then(Value::as_bool) == Some(true);
    let usage = usage.filter(|_| asked);
    let mut frames = Vec::new();
    for (index, (pieces, finish)) in texts.iter().enumerate() {
        let last = pieces.len().saturating_sub(1);
        let empty = [String::new()];
        let pieces = if pieces.is_empty() { empty.as_slice() } else { pieces };
        for (at, piece) in pieces.iter().enumerate() {
            let finish = (at == last).then_some(finish);
            let mut chunk = base.clone();
            chunk["choices"] = json!([{ "text": piece, "index": index, "logprobs": null, "finish_reason": finish }]);
            if usage.is_some() {
                chunk["usage"] = Value::Null;
            }
            frames.push(event(&chunk));
        }
    }
    if let Some(usage) = usage {
        let mut chunk = base.clone();
        chunk["choices"] = json!([]);
        chunk["usage"] = usage;
        frames.push(event(&chunk));
    }
    frames.push(done());
    frames
}

/// Every prompt with its tokens: a string, strings, token numbers or lists of them.
fn prompts(prompt: Option<&Value>) -> Result<Vec<(String, u64)>, Fault> {
    let one = |prompt: &Value| match prompt {
        Value::String(text) => Ok((text.clone(), count(text))),
        Value::Array(tokens) if tokens.iter().all(Value::is_u64) => {
            Ok((format!("{} tokens", tokens.len()), tokens.len() as u64))
        }
        other => Err(Fault::wrong_type("prompt", "a string or an array of tokens", other)),
    };
    match prompt {
        None | Some(Value::Null) => Err(Fault::missing("prompt")),
        Some(Value::Array(some)) if !some.is_empty() && !some.iter().all(Value::is_u64) => {
            some.iter().map(one).collect()
        }
        Some(prompt) => Ok(vec![one(prompt)?]),
    }
}
