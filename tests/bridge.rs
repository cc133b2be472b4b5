//! Recorded traffic of real providers, said in every other dialect: nothing is lost in silence.
//!
//! Each recorded request of a dialect that clients speak is written in each dialect that providers speak: every text in it is in
//! what is sent, or its path is in the ledger. Each recorded answer is written in each dialect that clients speak and read again, whole and
//! as a stream: what it says is the same. The collection is `TOLLGATE_CORPUS`, or `../shared/corpus` beside the project; without it the
//! trimmed exchanges in `tests/fixtures/corpus` run alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine;
use bytes::Bytes;
use serde_json::Value;
use tollgate::chat::{Block, Choice, Dialect, Event, Fold, Format, Losses, Response, StopReason, Usage, unfold};
use tollgate::dialect::adapt::{Undo, adapt};
use tollgate::dialect::frame::Cutter;
use tollgate::dialect::undo::Undoing;
use tollgate::dialect::{Frame, Framing, Manners, Operation, Origin, ReplyTo, StreamForm, To, inbound, outbound};
use tollgate::json::{Node, Paths};

/// Dialects that clients speak.
const CLIENTS: [Operation; 4] =
    [Operation::ChatCompletions, Operation::Responses, Operation::Messages, Operation::GenerateContent];

/// Shorter texts are words of a dialect (`user`, `function`, `object`): they are translated, not carried.
const SHORTEST: usize = 14;

struct Exchange {
    id: String,
    dialect: Dialect,
    model: String,
    /// The request's JSON text.
    request: Option<Vec<u8>>,
    status: u16,
    reply: Reply,
}

enum Reply {
    Whole(Vec<u8>),
    Stream(Vec<u8>),
    None,
}

// === reading the corpus ===

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("TOLLGATE_CORPUS").map(PathBuf::from);
    let found = [named, Some(root.join("../shared/corpus"))]
        .into_iter()
        .flatten()
        .map(|folder| folder.join("exchanges"))
        .find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("no corpus beside the project: only the fixtures are read");
    }
    std::iter::once(root.join("tests/fixtures/corpus")).chain(found).collect()
}

fn exchanges() -> Vec<Exchange> {
    let mut found = Vec::new();
    for folder in folders() {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).expect("the folder can be read").map(|e| e.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        found.extend(paths.iter().filter_map(|path| exchange(path)));
    }
    found
}

fn exchange(path: &Path) -> Option<Exchange> {
    let text = std::fs::read_to_string(path).expect("a file of the corpus");
    let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let api = file["api"].as_str()?;
    let dialect = match api.split_once('.')? {
        ("cohere", "chat") => Dialect::Cohere,
        ("bedrock", "converse" | "converse-stream") => Dialect::Bedrock,
        ("gemini", "generateContent" | "streamGenerateContent") => Dialect::Gemini,
        ("anthropic", "messages") | ("vertex", "anthropic-rawPredict") => Dialect::Anthropic,
        (_, "chat") => Dialect::OpenAiChat,
        (_, "responses") => Dialect::OpenAiResponses,
        _ => return None,
    };
    let response = &file["response"];
    let reply = if dialect == Dialect::Gemini
        && !response["body_json"]["candidates"].is_array()
        && response["body_text"].as_str().is_none_or(|t| !t.contains("data:"))
    {
        // a stream as an array, which is not how we ask
        Reply::None
    } else if let Some(text) = response["body_text"].as_str() {
        Reply::Stream(text.as_bytes().to_vec())
    } else if let Some(binary) = response["body_base64"].as_str() {
        Reply::Stream(base64::engine::general_purpose::STANDARD.decode(binary).expect("base64"))
    } else if !response["body_json"].is_null() {
        Reply::Whole(response["body_json"].to_string().into_bytes())
    } else {
        Reply::None
    };
    let url = file["request"]["url"].as_str().unwrap_or_default();
    let in_path = url.split(['/', ':', '?']).find(|s| s.starts_with("gemini") || s.contains("claude"));
    Some(Exchange {
        id: file["id"].as_str()?.to_owned(),
        dialect,
        model: file["request"]["body"]["model"].as_str().or(in_path).unwrap_or("some-model").to_owned(),
        request: file["request"]["body"].is_object().then(|| file["request"]["body"].to_string().into_bytes()),
        status: u16::try_from(response["status"].as_u64()?).ok()?,
        reply,
    })
}

// === requests ===

/// A model of the target's own, so that what it can do is what a user of that target would have.
fn model_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "gpt-5.1",
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::Gemini => "gemini-2.5-pro",
        Dialect::Bedrock => "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        Dialect::Cohere => "command-a-03-2025",
    }
}

fn operation_of(dialect: Dialect) -> Option<Operation> {
    CLIENTS.into_iter().find(|o| o.dialect() == Some(dialect))
}

/// A request said in another dialect: what is sent, the paths lost, and whether it may not be sent at all.
fn said(exchange: &Exchange, to: Dialect) -> (Vec<u8>, Vec<String>, bool) {
    let body = exchange.request.as_deref().expect("a request");
    let inbound = operation_of(exchange.dialect).and_then(inbound).expect("a dialect of clients");
    let node = Node::parse(body).unwrap_or_else(|e| panic!("{}: {e}", exchange.id));
    let mut request = inbound.decode_request(node).unwrap_or_else(|e| panic!("{}: {e:?}", exchange.id));
    let manners = Manners { max_completion_tokens: true, developer_role: true, ..Manners::default() };
    let outbound = outbound(to);
    let mut losses = Losses::default();
    let model = if exchange.dialect == to { exchange.model.as_str() } else { model_of(to) };
    adapt(&mut request, &outbound.abilities(model, &manners), &mut losses);
    let encoded = outbound.encode_request(&request, &To { model, manners: &manners });
    losses.merge(encoded.losses);
    let mut paths = Paths::new(body);
    let mut known = BTreeSet::new();
    every_path(&serde_json::from_slice(body).expect("JSON"), "", &mut known);
    let places = losses
        .iter()
        .map(|loss| {
            let base = paths.of(loss.at);
            let dot = if base.is_empty() || loss.member.is_empty() { "" } else { "." };
            let place = format!("{base}{dot}{}", loss.member);
            // a member told in another dialect's spelling (`signature` for `thoughtSignature`) tells of its block
            if known.contains(&place) || base.is_empty() { place } else { base }
        })
        .collect();
    let essential = losses.iter().any(|loss| loss.how == tollgate::chat::How::Essential);
    (encoded.body, places, essential)
}

/// Every text of a JSON document with its path. A text that is itself a JSON object is read on.
fn texts(value: &Value, path: &str, out: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => match serde_json::from_str::<Value>(text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => texts(&inner, path, out),
            _ => out.push((path.to_owned(), text.clone())),
        },
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| texts(item, &format!("{path}[{n}]"), out));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                texts(member, &format!("{path}{dot}{name}"), out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn every_path(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    out.insert(path.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| every_path(item, &format!("{path}[{n}]"), out));
        }
        Value::Object(members) => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                every_path(member, &format!("{path}{dot}{name}"), out);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Words of a dialect that are long enough to look like somebody's text; they are translated.
const WORDS: [&str; 5] = [
    "application/json",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "vertex-2023-10-16",
    "bedrock-2023-05-31",
];

/// Members whose text is the dialect's plumbing: an id that pairs things, a name of the model. Checked by other means.
fn plumbing(path: &str) -> bool {
    let last = path.rsplit(['.', ']']).next().unwrap_or_default();
    // a schema's name is a label for the caller's own code
    let label = path.ends_with("format.name") || path.ends_with("json_schema.name");
    label
        || matches!(
            last,
            "model"
                | "id"
                | "tool_call_id"
                | "call_id"
                | "tool_use_id"
                | "media_type"
                | "mimeType"
                | "mime_type"
                | "type"
        )
}

#[test]
fn no_text_of_a_request_is_lost_in_silence() {
    let (mut pairs, mut checked) = (0, 0);
    let mut silent: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for exchange in exchanges() {
        if exchange.request.is_none() || operation_of(exchange.dialect).is_none() || exchange.status >= 400 {
            continue;
        }
        let request: Value = serde_json::from_slice(exchange.request.as_deref().expect("there")).expect("JSON");
        let mut there = Vec::new();
        texts(&request, "", &mut there);
        for to in Dialect::ALL {
            let (body, lost, essential) = said(&exchange, to);
            pairs += 1;
            if essential {
                continue;
            }
            let sent: Value = serde_json::from_slice(&body)
                .unwrap_or_else(|e| panic!("{} to {to}: {e}: {}", exchange.id, String::from_utf8_lossy(&body)));
            let mut arrived = Vec::new();
            texts(&sent, "", &mut arrived);
            let all: String = arrived.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
            for (path, text) in &there {
                if text.len() < SHORTEST || plumbing(path) || WORDS.contains(&text.as_str()) {
                    continue;
                }
                checked += 1;
                // of a data URL the data arrives, in whatever form the target has
                let text = text.rsplit_once(";base64,").map_or(text.as_str(), |(_, data)| data).trim();
                // base64 has two alphabets
                let standard = text.replace('-', "+").replace('_', "/");
                let told = lost.iter().any(|place| !place.is_empty() && path.starts_with(place.as_str()));
                if !told && !all.contains(text) && !all.contains(&standard) {
                    let short: String = text.chars().take(60).collect();
                    silent
                        .entry(format!("{} to {to}", exchange.dialect))
                        .or_default()
                        .insert(format!("{}: {path}: {short:?}", exchange.id));
                }
            }
        }
    }
    eprintln!("{pairs} requests translated, {checked} texts looked for");
    assert!(pairs > 0);
    assert!(silent.is_empty(), "{silent:#?}");
}

// === answers ===

fn origin(exchange: &Exchange) -> Origin<'_> {
    Origin { model: &exchange.model }
}

fn cut(dialect: Dialect, body: &[u8], mut each: impl FnMut(Frame<'_>)) {
    let mut cutter = Cutter::new(outbound(dialect).framing());
    cutter
        .push(Bytes::copy_from_slice(body), |frame| {
            each(frame);
            Ok(())
        })
        .expect("recorded frames are whole");
    cutter
        .finish(|frame| {
            each(frame);
            Ok(())
        })
        .expect("recorded streams are whole");
}

/// The words of a recorded answer.
fn words(exchange: &Exchange) -> Option<Response<'static>> {
    let codec = outbound(exchange.dialect);
    match &exchange.reply {
        Reply::Whole(body) => {
            let node = Node::parse_reply(body).unwrap_or_else(|e| panic!("{}: {e}", exchange.id));
            let response =
                codec.decode_response(node, &origin(exchange)).unwrap_or_else(|e| panic!("{}: {e:?}", exchange.id));
            let mut fold = Fold::new(exchange.dialect);
            unfold(response).into_iter().for_each(|event| fold.push(event));
            Some(fold.finish())
        }
        Reply::Stream(body) => {
            let fold = folded(exchange.dialect, body, &exchange.model, &exchange.id);
            if fold.error.is_some() {
                return None;
            }
            Some(fold.finish())
        }
        Reply::None => None,
    }
}

/// A stream's bytes, read and folded.
fn folded(dialect: Dialect, body: &[u8], model: &str, id: &str) -> Fold {
    let mut decoder = outbound(dialect).stream_decoder(&Origin { model });
    let mut fold = Fold::new(dialect);
    cut(dialect, body, |frame| {
        let mut events = Vec::new();
        decoder.push(frame, &mut events).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        events.into_iter().for_each(|event| fold.push(event));
    });
    if fold.error.is_none() {
        let mut events = Vec::new();
        decoder.finish(&mut events).unwrap_or_else(|e| panic!("{id}: {e:?}"));
        events.into_iter().for_each(|event| fold.push(event));
        assert!(fold.ended, "{id}: no end");
    }
    assert_eq!(fold.faults, Vec::<String>::new(), "{id}");
    fold
}

/// What an answer says to its reader, in a form that two dialects can be compared by.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    thought: String,
    refusal: String,
    calls: Vec<(String, Value)>,
    stop: &'static str,
    usage: Option<[u64; 3]>,
    seals: Vec<String>,
}

fn said_by(response: &Response<'_>) -> Said {
    let empty = Choice::default();
    let choice = response.choices.first().unwrap_or(&empty);
    let mut said = Said {
        text: String::new(),
        thought: String::new(),
        refusal: String::new(),
        calls: Vec::new(),
        stop: "none",
        usage: response.usage.map(|u: Usage| [u.input.0, u.cache_read.0, u.output.0]),
        seals: Vec::new(),
    };
    for block in &choice.blocks {
        match block {
            Block::Text(text) => {
                said.text.push_str(&text.text);
                said.seals.extend(text.seal.iter().map(|s| s.raw.to_string()));
            }
            Block::Thinking(thinking) => {
                for thought in &thinking.thoughts {
                    said.thought.push_str(&thought.text);
                }
                said.seals.extend(thinking.seal.iter().map(|s| s.raw.to_string()));
            }
            Block::Refusal(refusal) => said.refusal.push_str(&refusal.text),
            Block::ToolCall(call) => {
                let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
                let arguments =
                    serde_json::from_str(arguments).unwrap_or_else(|_| Value::String(call.arguments.to_string()));
                said.calls.push((call.name.to_string(), arguments));
                said.seals.extend(call.seal.iter().map(|s| s.raw.to_string()));
            }
            Block::Media(_)
            | Block::ToolResult(_)
            | Block::ServerCall(_)
            | Block::ServerResult(_)
            | Block::Native(_) => {}
        }
    }
    said.thought = said.thought.split_whitespace().collect();
    said.stop = match choice.stop.as_ref().map(|s| &s.reason) {
        None => "none",
        Some(StopReason::Length | StopReason::ContextWindow) => "length",
        Some(StopReason::ToolUse) => "tools",
        Some(StopReason::ContentFilter | StopReason::Refusal) => "filter",
        Some(StopReason::MalformedCall) => "malformed",
        Some(StopReason::End | StopReason::Sequence | StopReason::Pause | StopReason::Other(_)) => "end",
    };
    said
}

const REPLY: ReplyTo<'static> = ReplyTo {
    id: "0190a1b2-0000-7000-8000-000000000000",
    model: "some-model",
    created: 1_700_000_000,
    stream_usage: true,
    form: StreamForm::Sse,
    echo: "",
};

/// What may differ between what a provider said and what a client reads, by design.
fn forgiven(source: &Response<'_>, client: Dialect, wanted: &mut Said, got: &mut Said) {
    // Anthropic and Gemini have no part for a refusal: it is the answer's text
    if !wanted.refusal.is_empty() && matches!(client, Dialect::Anthropic | Dialect::Gemini) {
        wanted.text.push_str(&std::mem::take(&mut wanted.refusal));
    }
    // a stop the client's dialect has no word for ends the answer
    if wanted.stop == "malformed" || (wanted.stop == "none" && got.stop == "end") {
        wanted.stop = got.stop;
    }
    // responses have no stop for a refusal: its part says that there was one
    if wanted.refusal.is_empty() && wanted.stop == "filter" && client == Dialect::OpenAiResponses {
        got.refusal.clear();
    }
    // free text for a tool's arguments has no place where only objects are; nobody there asks for it
    for ((_, wanted), (_, got)) in wanted.calls.iter_mut().zip(&mut got.calls) {
        if wanted.is_string() && got.is_object() && matches!(client, Dialect::Anthropic | Dialect::Gemini) {
            *got = got["input"].as_str().or(got["INVALID_JSON"].as_str()).unwrap_or_default().into();
        }
    }
    // a sound has no place in Anthropic's answers: a word stands there for it, and the ledger has it
    if got.text == "[audio omitted]" && wanted.text.is_empty() {
        got.text.clear();
    }
    // `null` is no argument
    for (_, arguments) in wanted.calls.iter_mut().chain(&mut got.calls) {
        if arguments.is_null() {
            *arguments = serde_json::json!({});
        }
    }
    // Anthropic's clients need numbers where a provider gave none
    if wanted.usage.is_none() {
        got.usage = None;
    }
    // thoughts shown and sealed twice over (a seal in front of the part that carries it) are compared as a set
    wanted.seals.retain(|s| !s.is_empty());
    got.seals.retain(|s| !s.is_empty());
    wanted.seals.sort();
    wanted.seals.dedup();
    got.seals.sort();
    got.seals.dedup();
    // a text's signature comes last in a stream, where Anthropic's clients would take it for the answer: it is in the ledger there
    if client == Dialect::Anthropic {
        let of_texts = |raw: &String| {
            source
                .choices
                .iter()
                .flat_map(|c| &c.blocks)
                .any(|b| matches!(b, Block::Text(text) if text.seal.as_ref().is_some_and(|seal| seal.raw == *raw)))
        };
        wanted.seals.retain(|raw| !of_texts(raw));
        got.seals.retain(|raw| !of_texts(raw));
    }
}

#[test]
fn an_answer_says_the_same_in_every_client_s_dialect_whole_and_streamed() {
    let mut differ: Vec<String> = Vec::new();
    let (mut whole, mut streamed) = (0, 0);
    for exchange in exchanges().into_iter().filter(|e| e.status < 300) {
        let Some(response) = words(&exchange) else { continue };
        for operation in CLIENTS {
            let client = operation.dialect().expect("a conversation");
            let codec = inbound(operation).expect("clients speak it");
            let mut compare = |form: &str, read: Response<'_>| {
                let (mut wanted, mut got) = (said_by(&response), said_by(&read));
                forgiven(&response, client, &mut wanted, &mut got);
                if wanted != got {
                    differ.push(format!("{} ({form}) to {client}:\n  said {wanted:?}\n  read {got:?}", exchange.id));
                }
            };
            let encoded = codec.encode_response(&response, &REPLY);
            let node = Node::parse(&encoded.body).unwrap_or_else(|e| {
                panic!("{} to {client}: {e}: {}", exchange.id, String::from_utf8_lossy(&encoded.body))
            });
            let read = outbound(client).decode_response(node, &Origin { model: "some-model" });
            compare("whole", read.unwrap_or_else(|e| panic!("{} to {client}: {e:?}", exchange.id)));
            whole += 1;

            let mut encoder = codec.stream_encoder(&REPLY);
            let mut out = Vec::new();
            let mut undoing = Undoing::new(Undo::default());
            let mut events: Vec<Event<'_>> = Vec::new();
            unfold(response.clone()).into_iter().for_each(|event| undoing.push(event, &mut events));
            events.into_iter().for_each(|event| encoder.push(event, &mut out));
            assert_eq!(outbound(client).framing(), Framing::Sse);
            let fold = folded(client, &out, "some-model", &format!("{} streamed to {client}", exchange.id));
            compare("streamed", fold.finish());
            streamed += 1;
        }
    }
    eprintln!("{whole} answers written whole, {streamed} streamed");
    assert!(whole > 0);
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

#[test]
fn a_format_the_target_has_is_never_emulated() {
    // so that the emulation in words stays the exception
    for dialect in [Dialect::OpenAiChat, Dialect::OpenAiResponses, Dialect::Gemini] {
        let manners = Manners::default();
        let abilities = outbound(dialect).abilities(model_of(dialect), &manners);
        assert!(abilities.json_schema, "{dialect}");
        let mut request = tollgate::chat::Request::new(Dialect::OpenAiChat);
        request.format = Some(tollgate::chat::Param { value: Format::Json, at: tollgate::json::At::NOWHERE });
        assert!(adapt(&mut request, &abilities, &mut Losses::default()).is_empty());
    }
}

/// A body of many small things, for each dialect of clients.
fn crowd(operation: Operation, count: usize) -> String {
    let list = |each: &dyn Fn(usize) -> String| (0..count).map(each).collect::<Vec<_>>().join(",");
    match operation {
        Operation::ChatCompletions => {
            let calls = list(&|n| {
                format!(
                    r#"{{"role":"assistant","tool_calls":[{{"id":"a.{n}","type":"function","function":{{"name":"f.{n}","arguments":"{{}}"}}}}]}},{{"role":"tool","tool_call_id":"a.{n}","content":"x"}}"#
                )
            });
            let tools = list(&|n| format!(r#"{{"type":"function","function":{{"name":"f.{n}"}}}}"#));
            let allowed = list(&|n| format!(r#"{{"type":"function","function":{{"name":"f.{n}"}}}}"#));
            format!(
                r#"{{"model":"m","messages":[{calls}],"tools":[{tools}],"tool_choice":{{"type":"allowed_tools","allowed_tools":{{"mode":"auto","tools":[{allowed}]}}}}}}"#
            )
        }
        Operation::Responses => {
            let calls = list(&|n| {
                format!(
                    r#"{{"type":"function_call","call_id":"a.{n}","name":"f.{n}","arguments":"{{}}"}},{{"type":"function_call_output","call_id":"a.{n}","output":"x"}}"#
                )
            });
            format!(r#"{{"model":"m","input":[{calls}]}}"#)
        }
        Operation::GenerateContent => {
            let calls = list(&|n| {
                format!(
                    r#"{{"role":"model","parts":[{{"functionCall":{{"name":"f.{n}","args":{{}}}}}}]}},{{"role":"user","parts":[{{"functionResponse":{{"name":"f.{n}","response":{{}}}}}}]}}"#
                )
            });
            format!(r#"{{"contents":[{calls}]}}"#)
        }
        _ => {
            let calls = list(&|n| {
                format!(
                    r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"a.{n}","name":"f.{n}","input":{{}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"a.{n}","content":"x"}}]}}"#
                )
            });
            let tools = list(&|n| format!(r#"{{"name":"f.{n}","input_schema":{{"type":"object"}}}}"#));
            format!(r#"{{"model":"m","max_tokens":1,"messages":[{calls}],"tools":[{tools}]}}"#)
        }
    }
}

#[test]
fn a_crowd_of_small_things_takes_no_more_than_its_size() {
    for operation in CLIENTS {
        let dialect = operation.dialect().expect("a conversation");
        for to in Dialect::ALL {
            let took = [1_000, 4_000].map(|count| {
                let exchange = Exchange {
                    id: "a crowd".to_owned(),
                    dialect,
                    model: "m".to_owned(),
                    request: Some(crowd(operation, count).into_bytes()),
                    status: 200,
                    reply: Reply::None,
                };
                let begun = std::time::Instant::now();
                said(&exchange, to);
                begun.elapsed()
            });
            // four times as many: sixteen times as long would be quadratic
            assert!(took[1] < took[0] * 10 + std::time::Duration::from_millis(300), "{dialect} to {to}: {took:?}");
        }
    }
}
