//! Recorded exchanges, read where they lie.

use std::path::PathBuf;

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

/// All of them; none, and a line that says so, where there is no corpus.
pub fn exchanges() -> Vec<Exchange> {
    let Some(folder) = folder() else {
        println!("skipped: no corpus of recorded traffic");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let found: Vec<Exchange> = paths
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(".responses-")))
        .map(|path| read(&std::fs::read_to_string(path).unwrap()))
        .collect();
    assert!(!found.is_empty());
    found
}

fn folder() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let root = std::env::var_os("TOLLGATE_CORPUS").map_or(root, PathBuf::from);
    Some(root.join("exchanges")).filter(|folder| folder.is_dir())
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
