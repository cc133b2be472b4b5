//! The dialect against recorded traffic, and against the words of other dialects.
//!
//! The corpus lies beside the project (`TOLLGATE_CORPUS`, or `../shared/corpus`); without it these tests say so in a line and pass.

mod answers;
mod foreign;
mod requests;
mod streams;

use std::path::PathBuf;

use serde_json::Value;

use crate::dialect::codec::{Manners, ReplyTo, StreamForm};

/// One recorded exchange.
struct Exchange {
    id: String,
    api: String,
    /// Of the path.
    model: String,
    vertex: bool,
    request: Option<Value>,
    status: u64,
    /// As it came; of recordings that were parsed, printed again.
    reply: String,
    is_json: bool,
}

/// The recordings of the APIs whose names begin so. Empty without the corpus.
fn exchanges(api: &str) -> Vec<Exchange> {
    let files = files("exchanges");
    let all = files.iter().filter_map(exchange).filter(|exchange| exchange.api.starts_with(api));
    all.collect()
}

fn files(folder: &str) -> Vec<Value> {
    let corpus = std::env::var_os("TOLLGATE_CORPUS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(corpus.join(folder)) else {
        println!("skipped: no corpus at {}", corpus.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

fn exchange(file: &Value) -> Option<Exchange> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (request, response) = (&file["request"], &file["response"]);
    let url = text(&request["url"]).unwrap_or_default();
    let model = url.split("models/").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
    Some(Exchange {
        id: text(&file["id"])?,
        api: text(&file["api"])?,
        model: model.to_owned(),
        vertex: file["provider"] == "vertex",
        request: Some(request["body"].clone()).filter(|body| !body.is_null()),
        status: response["status"].as_u64()?,
        reply: text(&response["body_text"]).or_else(|| Some(response.get("body_json")?.to_string()))?,
        is_json: response.get("body_json").is_some(),
    })
}

fn manners(vertex: bool) -> Manners {
    Manners { vertex, ..Manners::default() }
}

fn reply_to(form: StreamForm) -> ReplyTo<'static> {
    ReplyTo { id: "call-1", model: "asked-for", created: 1, stream_usage: true, form, echo: "" }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(bytes)))
}

/// Words printed without the places they were read at.
fn placeless(words: &impl std::fmt::Debug) -> String {
    let printed = format!("{words:#?}");
    let lines = printed.lines().collect::<Vec<_>>();
    let mut kept = Vec::new();
    let mut skip = 0;
    for line in lines {
        if skip > 0 {
            skip -= 1;
        } else if line.trim_start().ends_with("At(") {
            // the number and the bracket
            skip = 2;
        } else {
            kept.push(line);
        }
    }
    kept.join("\n")
}
