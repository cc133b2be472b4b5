//! Recorded exchanges, read where they lie.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// One exchange of an API named `*.responses`.
pub struct Exchange {
    pub id: String,
    pub request: Option<Value>,
    pub status: u64,
    /// Of a whole reply.
    pub reply: Option<Value>,
    /// Of a stream: the bytes.
    pub stream: Option<String>,
}

/// All of them, and what other gateways' tests hold of this API; none, and a line that says so, where there is no corpus.
pub fn exchanges() -> Vec<Exchange> {
    let Some(root) = root() else {
        println!("skipped: no corpus of recorded traffic");
        return Vec::new();
    };
    let mut found: Vec<Exchange> =
        texts(&root.join("exchanges"), ".responses-").iter().map(|text| read(text)).collect();
    assert!(!found.is_empty());
    found.extend(texts(&root.join("translation_pairs"), "").iter().filter_map(|text| read_pair(text)));
    found
}

fn texts(folder: &Path, part: &str) -> Vec<String> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

fn root() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let root = std::env::var_os("TOLLGATE_CORPUS").map_or(root, PathBuf::from);
    Some(root).filter(|root| root.join("exchanges").is_dir())
}

/// Of a pair, the side that was written in this dialect by a client or a provider.
fn read_pair(text: &str) -> Option<Exchange> {
    let mut value: Value = serde_json::from_str(text).unwrap();
    let kind = value["kind"].as_str()?.to_owned();
    let side = if kind == "request" { "inbound_api" } else { "upstream_api" };
    (value[side] == "openai.responses").then_some(())?;
    let mut exchange =
        Exchange { id: value["id"].as_str()?.to_owned(), request: None, status: 200, reply: None, stream: None };
    match &*kind {
        "request" => exchange.request = Some(value["input"]["json"].take()),
        "response" => exchange.reply = Some(value["input"]["json"].take()),
        "response_stream" => exchange.stream = value["input"]["text"].as_str().map(str::to_owned),
        _ => return None,
    }
    Some(exchange)
}

fn read(text: &str) -> Exchange {
    let mut value: Value = serde_json::from_str(text).unwrap();
    let request = match value["request"]["body"].take() {
        Value::String(text) => serde_json::from_str(&text).ok(),
        Value::Null => None,
        body => Some(body),
    };
    let response = &mut value["response"];
    Exchange {
        status: response["status"].as_u64().unwrap(),
        reply: Some(response["body_json"].take()).filter(|body| !body.is_null()),
        stream: response["body_text"].as_str().map(str::to_owned),
        request,
        id: value["id"].as_str().unwrap().to_owned(),
    }
}
