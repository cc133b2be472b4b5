//! What is promised of the codec, on made-up words and on recorded traffic.
//!
//! With `TOLLGATE_DUMP` naming a directory, every body that is encoded here is also written there, for `tests/clients/bedrock_wire.py`
//! to validate against botocore's model.

mod corpus;
mod reader;
mod request;
mod stream;

use std::io::Write;
use std::path::PathBuf;

use serde_json::Value;

use super::Bedrock;
use crate::chat::{Losses, Request};
use crate::dialect::codec::{Manners, Outbound, To};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "us.amazon.nova-2-lite-v1:0";

/// The body, checked to be JSON without nulls, and the losses.
fn encode(request: &Request<'_>, model: &str) -> (Value, Losses) {
    let manners = Manners::default();
    let encoded = Bedrock.encode_request(request, &To { model, manners: &manners });
    let body: Value = serde_json::from_slice(&encoded.body).expect("a body is JSON");
    dump(model, &encoded.body);
    (body, encoded.losses)
}

fn dump(model: &str, body: &[u8]) {
    let line = format!("{{\"modelId\":{},\"body\":{}}}\n", Value::from(model), String::from_utf8_lossy(body));
    dump_to("requests.jsonl", line.as_bytes());
}

/// Behind what the file already holds.
fn dump_to(name: &str, bytes: &[u8]) {
    let Some(directory) = std::env::var_os("TOLLGATE_DUMP").map(PathBuf::from) else { return };
    let mut file = std::fs::File::options().create(true).append(true).open(directory.join(name)).unwrap();
    file.write_all(bytes).unwrap();
}

/// `how member` of each loss, in order.
fn booked(losses: &Losses) -> Vec<String> {
    losses.iter().map(|loss| format!("{} {}", loss.how.label(), loss.member).trim().to_owned()).collect()
}

/// The recorded traffic, or `None` where it is not: told in one line.
fn corpus(folder: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TOLLGATE_CORPUS")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let folder = root.join(folder);
    if !folder.is_dir() {
        println!("skipped: no recorded traffic at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Items whose file name begins so, sorted.
fn items(folder: &str, prefix: &str) -> Vec<(String, Value)> {
    let Some(folder) = corpus(folder) else { return Vec::new() };
    let mut items: Vec<(String, Value)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix))
        .map(|path| {
            let item = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), item)
        })
        .collect();
    items.sort_by(|a, b| a.0.cmp(&b.0));
    items
}

/// The model in a recorded address.
fn model_of(item: &Value) -> String {
    let url = item["request"]["url"].as_str().unwrap_or_default();
    let path = url.split("/model/").nth(1).unwrap_or_default();
    path.split("/converse").next().unwrap_or_default().replace("%3A", ":").replace("%2F", "/")
}
