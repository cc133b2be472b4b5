//! What the real APIs took, the simulated ones take: recorded requests that were answered.

use std::path::PathBuf;

use super::*;

fn exchanges() -> Option<Vec<Value>> {
    let folder = match std::env::var_os("TOLLGATE_CORPUS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
    };
    let entries = std::fs::read_dir(folder.join("exchanges")).ok()?;
    let read = |entry: io::Result<std::fs::DirEntry>| {
        let text = std::fs::read(entry.expect("an entry").path()).expect("a file");
        serde_json::from_slice::<Value>(&text).expect("an exchange is JSON")
    };
    Some(entries.map(read).collect())
}

/// The path of a recorded URL at the simulator.
fn path(api: &str, url: &str) -> String {
    let (_, path) = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).unwrap_or_default();
    match api.split_once('.') {
        // Vertex keeps the same models elsewhere
        Some(("gemini", _)) => format!("/v1beta/models/{}", path.rsplit('/').next().unwrap_or_default()),
        _ => format!("/{path}"),
    }
}

#[tokio::test]
async fn recorded_requests_are_taken_by_the_simulated_api() {
    let Some(exchanges) = exchanges() else {
        println!("the corpus is not here: nothing was compared");
        return;
    };
    let apis = [
        "anthropic.messages",
        "anthropic.count_tokens",
        "gemini.generateContent",
        "gemini.streamGenerateContent",
        "gemini.countTokens",
        "gemini.embedContent",
        "bedrock.converse",
        "bedrock.converse-stream",
        "cohere.chat",
    ];
    let bench = Bench::new().await;
    let mut taken = 0;
    let mut refused = Vec::new();
    for exchange in &exchanges {
        let api = exchange["api"].as_str().unwrap_or_default();
        let api = if apis.contains(&api) {
            api.to_owned()
        } else {
            format!("{}.{api}", exchange["provider"].as_str().unwrap_or_default())
        };
        let Some(url) = exchange.pointer("/request/url").and_then(Value::as_str) else { continue };
        if !apis.contains(&api.as_str()) || exchange["response"]["status"] != 200 {
            continue;
        }
        let heard = bench.post(&path(&api, url), &exchange["request"]["body"]).await;
        match heard.status {
            200 => taken += 1,
            _ => refused.push(format!("{}: {}", exchange["id"], String::from_utf8_lossy(&heard.wire))),
        }
    }
    // the signatures of real thoughts are not the simulator's
    refused.retain(|refusal| !refusal.contains("Invalid `signature`"));
    assert!(refused.is_empty(), "{taken} taken, but {refused:#?}");
    println!("{taken} recorded requests were taken");
    assert!(taken > 100, "{taken}");
}
