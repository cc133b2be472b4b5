//! Recorded traffic of real providers, replayed through the gateway: what goes up and what comes down is what was recorded.
//!
//! Nine trimmed exchanges in `tests/fixtures/corpus` (each names its source and licence) always run. The large collection runs where it
//! is found: `TOLLGATE_CORPUS`, or `../shared/corpus` beside the project. Expectations are computed here from the recording, with
//! a JSON library and string search, never with the gateway's own code.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tollgate::simulator::{Options, Part, Reply};

use crate::support::{Gateway, KEY, Upstream, client, upstream_with};

/// Each has a simulated provider of its own, so that its record is read without a lock between workers.
const WORKERS: usize = 3;
/// Ways in which a recorded stream is cut into pieces, each drawn from the exchange's own name.
const PATTERNS: u64 = 20;
/// What the gateway puts into a chat request to learn the usage of a stream.
const ASK: &str = r#""stream_options":{"include_usage":true},"#;
/// Fields of a recorded reply that belonged to its own connection.
const FRAMING: [&str; 6] =
    ["content-length", "transfer-encoding", "content-encoding", "connection", "date", "keep-alive"];

/// A request and its reply, as recorded.
struct Exchange {
    id: String,
    path: &'static str,
    model: String,
    /// The request's JSON text.
    body: String,
    /// Where the model's name stands in it, quotes included.
    model_at: std::ops::Range<usize>,
    status: StatusCode,
    headers: Vec<(String, String)>,
    reply: Bytes,
    events: bool,
}

#[derive(Deserialize)]
struct File<'a> {
    id: String,
    api: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
    #[serde(borrow)]
    response: Response<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status: u16,
    headers: BTreeMap<String, Value>,
    #[serde(borrow)]
    body_json: Option<&'a RawValue>,
    body_text: Option<String>,
}

/// What the access log should say of a call.
type Usage = Option<[u64; 4]>;

// === reading the corpus ===

/// The collection of the machine, if it has one.
fn collection() -> Option<PathBuf> {
    let named = std::env::var_os("TOLLGATE_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    [named, Some(beside)].into_iter().flatten().map(|folder| folder.join("exchanges")).find(|folder| folder.is_dir())
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/corpus")
}

/// The exchanges of a folder that speak OpenAI's dialect and name a model.
fn exchanges(folder: &Path) -> Vec<Exchange> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    paths.sort();
    paths.iter().filter_map(|path| read(path)).collect()
}

fn read(path: &Path) -> Option<Exchange> {
    let text = std::fs::read_to_string(path).expect("a file of the corpus");
    let file: File<'_> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (vendor, api) = file.api.split_once('.')?;
    if ["cohere", "anthropic", "bedrock", "vertex"].contains(&vendor) {
        return None;
    }
    let path = match api {
        "chat" | "openai-chat" => "/chat/completions",
        "completions" => "/completions",
        "embeddings" => "/embeddings",
        "responses" => "/responses",
        _ => return None,
    };
    let body = file.request?.body?.get().to_owned();
    let (model, model_at) = {
        let members: BTreeMap<&str, &RawValue> = serde_json::from_str(&body).expect("a recorded request is an object");
        // a stored prompt may stand in for the model; there is nothing to route by then
        let model = members.get("model")?.get();
        let at = model.as_ptr() as usize - body.as_ptr() as usize;
        (serde_json::from_str::<String>(model).ok()?, at..at + model.len())
    };
    let headers = file.response.headers.iter().filter(|(name, _)| !FRAMING.contains(&&*name.to_ascii_lowercase()));
    let headers: Vec<(String, String)> = headers
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), value.as_str()?.to_owned())))
        .filter(|(_, value)| http::HeaderValue::from_str(value).is_ok())
        .collect();
    let events = file.response.body_text.is_some();
    let reply = match (file.response.body_text, file.response.body_json) {
        (Some(text), _) => Bytes::from(text),
        (None, Some(json)) => Bytes::from(json.get().to_owned()),
        (None, None) => return None,
    };
    let status = StatusCode::from_u16(file.response.status).expect("a status");
    Some(Exchange { id: file.id, path, model, body, model_at, status, headers, reply, events })
}

// === what should be ===

impl Exchange {
    fn asks(&self, member: &str) -> bool {
        let body: Value = serde_json::from_str(&self.body).expect("JSON");
        match member {
            "stream" => body["stream"] == true,
            _ => body["stream_options"]["include_usage"] == true,
        }
    }

    fn usage_is_optional(&self) -> bool {
        matches!(self.path, "/chat/completions" | "/completions")
    }

    /// The body with another name for the model.
    fn body_for(&self, model: &str) -> String {
        let mut body = self.body.clone();
        body.replace_range(self.model_at.clone(), &format!("\"{model}\""));
        body
    }

    /// The body without `stream_options`, and the recording of what a client that never asked for usage would have got.
    fn without_asking(&self) -> Option<Exchange> {
        if !self.asks("include_usage") || !self.usage_is_optional() || !self.events {
            return None;
        }
        let members: BTreeMap<&str, &RawValue> = serde_json::from_str(&self.body).ok()?;
        let body: Vec<String> = members
            .iter()
            .filter(|(name, _)| **name != "stream_options")
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        let body = format!("{{{}}}", body.join(", "));
        let at = body.find(&format!("\"model\": {:?}", self.model))? + "\"model\": ".len();
        Some(Exchange {
            id: format!("{}.unasked", self.id),
            model_at: at..at + self.model.len() + 2,
            body,
            model: self.model.clone(),
            headers: self.headers.clone(),
            reply: self.reply.clone(),
            ..*self
        })
    }

    /// The recorded reply in these pieces, each a chunk of its own.
    fn reply_in(&self, pieces: &[Bytes]) -> Reply {
        let mut reply = Reply::new(self.status);
        reply.headers = self.headers.clone();
        if !reply.headers.iter().any(|(name, _)| name == "content-type") {
            let kind = if self.events { "text/event-stream" } else { "application/json" };
            reply = reply.header("content-type", kind);
        }
        pieces.iter().fold(reply, |reply, piece| reply.part(Part::Bytes(piece.clone())))
    }

    /// Pseudo-random pieces, from none cut to many cut; the same ones in every run.
    fn pattern(&self, number: u64) -> Vec<Bytes> {
        let mut state = self.id.bytes().fold(number + 1, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)) | 1;
        let mut draw = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state % below.max(1) as u64).expect("below a usize")
        };
        let most = [1, 2, 3, 5, 8, 40, 200][draw(7)];
        let mut cuts: BTreeSet<usize> = (0..most).map(|_| draw(self.reply.len())).collect();
        cuts.extend([0, self.reply.len()]);
        let cuts: Vec<usize> = cuts.into_iter().collect();
        cuts.windows(2).map(|at| self.reply.slice(at[0]..at[1])).collect()
    }

    /// What the provider must receive for `sent`.
    fn expected_upstream(&self, stream: bool, asks_usage: bool) -> String {
        if stream && !asks_usage && self.usage_is_optional() {
            return format!("{{{ASK}{}", self.body.strip_prefix('{').expect("an object"));
        }
        self.body.clone()
    }

    fn expected_reply(&self) -> Vec<u8> {
        if self.events && self.usage_is_optional() && self.asks("stream") && !self.asks("include_usage") {
            return withdrawn(std::str::from_utf8(&self.reply).expect("recorded as text")).into_bytes();
        }
        self.reply.to_vec()
    }

    fn expected_usage(&self) -> Usage {
        if self.status.as_u16() >= 400 {
            return None;
        }
        let text = std::str::from_utf8(&self.reply).expect("recorded as text");
        if !self.events {
            return counts(&serde_json::from_str::<Value>(text).expect("JSON")["usage"]);
        }
        let events = data_of(text);
        if self.path == "/responses" {
            let ends = ["response.completed", "response.incomplete", "response.failed"];
            let end = events.iter().rfind(|event| ends.iter().any(|name| event["type"] == *name))?;
            return counts(&end["response"]["usage"]);
        }
        let found = |event: &Value| counts(&event["usage"]).or_else(|| counts(&event["x_groq"]["usage"]));
        events.iter().rev().find_map(found)
    }
}

/// `usage` as `[input, cached, output, reasoning]`.
fn counts(usage: &Value) -> Usage {
    let either = |names: [&str; 2]| names.iter().find_map(|name| usage[*name].as_u64());
    let of = |names: [&str; 2], member: &str| names.iter().find_map(|name| usage[*name][member].as_u64()).unwrap_or(0);
    let input = either(["prompt_tokens", "input_tokens"])?;
    let output = either(["completion_tokens", "output_tokens"]).unwrap_or(0);
    let cached = of(["prompt_tokens_details", "input_tokens_details"], "cached_tokens");
    // Mistral says it beside
    let cached = cached.max(usage["num_cached_tokens"].as_u64().unwrap_or(0));
    let reasoning = of(["completion_tokens_details", "output_tokens_details"], "reasoning_tokens");
    // xAI and Gemini count reasoning beside the output; the total shows it
    let total = usage["total_tokens"].as_u64().unwrap_or(input + output);
    let beside = total.saturating_sub(input + output);
    let (output, reasoning) = (output + beside, reasoning.max(beside));
    Some([input, cached.min(input), output, reasoning.min(output)])
}

/// The frames of a stream, with their ends.
fn frames(text: &str) -> Vec<&str> {
    let end = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    text.split_inclusive(end).collect()
}

fn data_of(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

/// The stream without what the gateway asked for: the frame that has usage and no choices, and `"usage": null` in the others.
fn withdrawn(text: &str) -> String {
    let keep = |frame: &&str| {
        data_of(frame)
            .first()
            .is_none_or(|event| !(event["usage"].is_object() && event["choices"].as_array().is_some_and(Vec::is_empty)))
    };
    frames(text).into_iter().filter(keep).map(without_null_usage).collect()
}

fn without_null_usage(frame: &str) -> String {
    let Some(event) = data_of(frame).into_iter().next() else { return frame.to_owned() };
    if event.get("usage") != Some(&Value::Null) {
        return frame.to_owned();
    }
    let mut wanted = event;
    wanted.as_object_mut().expect("it has members").remove("usage");
    // whichever comma goes with it, the rest stays as it was; only one of these leaves the right JSON
    for spelling in [",\"usage\":null", ",\"usage\": null", ", \"usage\": null", "\"usage\":null,", "\"usage\": null, "]
    {
        for (at, _) in frame.match_indices(spelling) {
            let cut = [&frame[..at], &frame[at + spelling.len()..]].concat();
            if data_of(&cut).first() == Some(&wanted) {
                return cut;
            }
        }
    }
    panic!("the test cannot take usage out of {frame}");
}

// === playing it ===

struct Stage {
    gateway: Gateway,
    client: reqwest::Client,
    /// One per worker, and one for calls under the model's own name.
    upstreams: Vec<Upstream>,
    /// By request id.
    expected: std::sync::Mutex<HashMap<String, Usage>>,
}

/// Providers `p0`, `p1`, ... with the alias `alias-N` each; and every model under its own name at provider `up`.
async fn stage(items: &[Exchange]) -> Stage {
    let mut upstreams = Vec::new();
    for _ in 0..=WORKERS {
        upstreams.push(upstream_with(Options { most_calls: 4, ..Options::default() }).await);
    }
    let provider = |name: &str, at: usize| {
        let address = upstreams[at].address;
        format!("  {name}: {{kind: openai, base_url: \"http://{address}/{name}/v1\", api_key: upstream-key}}\n")
    };
    let mut yaml = format!("keys: [{{name: test, key: {KEY}}}]\nproviders:\n{}", provider("up", WORKERS));
    for number in 0..items.len() {
        yaml.push_str(&provider(&format!("p{number}"), number % WORKERS));
    }
    yaml.push_str("models:\n");
    for (number, item) in items.iter().enumerate() {
        yaml.push_str(&format!("  alias-{number}: \"p{number}/{}\"\n", item.model));
    }
    for model in items.iter().map(|item| &item.model).collect::<BTreeSet<_>>() {
        yaml.push_str(&format!("  \"{model}\": \"up/{model}\"\n"));
    }
    Stage { gateway: Gateway::start(&yaml, &[]).await, client: client(), upstreams, expected: Default::default() }
}

impl Stage {
    /// One call. `sent` is the body; `None` among the pieces' owners means the reply comes whole, with its length.
    async fn play(&self, item: &Exchange, call: Played<'_>) -> Result<(), String> {
        let Played { id, provider, upstream, sent, pieces } = call;
        let upstream = &self.upstreams[upstream];
        let reply = match &pieces {
            Some(pieces) => item.reply_in(pieces),
            None => {
                item.reply_in(std::slice::from_ref(&item.reply)).header("content-length", &item.reply.len().to_string())
            }
        };
        upstream.simulator.replies_at(&format!("/{provider}/v1{}", item.path), [reply]);
        self.expected.lock().expect("no panic holds it").insert(id.clone(), item.expected_usage());
        let answer = self
            .client
            .post(self.gateway.url(&format!("/v1{}", item.path)))
            .bearer_auth(KEY)
            .header("content-type", "application/json")
            .header("x-request-id", &id)
            .body(sent)
            .send()
            .await
            .map_err(|e| format!("no answer: {e}"))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let got = answer.bytes().await.map_err(|e| format!("the answer broke off: {e}"))?;

        let call = upstream.record().last().ok_or("nothing reached the provider")?;
        let wanted = item.expected_upstream(item.asks("stream"), item.asks("include_usage"));
        if call.body != wanted.as_bytes() {
            return Err(format!("upstream got\n{}\nnot\n{wanted}", String::from_utf8_lossy(&call.body)));
        }
        if status != item.status {
            return Err(format!("status {status}, recorded {}: {}", item.status, String::from_utf8_lossy(&got)));
        }
        if headers["x-request-id"] != id.as_str() {
            return Err(format!("request id {:?}", headers["x-request-id"]));
        }
        let wanted = item.expected_reply();
        if got != wanted {
            let (got, wanted) = (String::from_utf8_lossy(&got), String::from_utf8_lossy(&wanted));
            return Err(format!("the client got\n{got}\nnot\n{wanted}"));
        }
        Ok(())
    }

    /// Whether each line of the access log has the usage of its recording.
    async fn check_log(&self) -> Vec<String> {
        let expected = self.expected.lock().expect("no panic holds it").clone();
        let begun = Instant::now();
        let path = self.gateway.folder().join("access.log");
        while std::fs::read_to_string(&path).map_or(0, |text| text.lines().count()) < expected.len() {
            assert!(begun.elapsed() < Duration::from_secs(10), "not every call is in the log");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut seen = BTreeSet::new();
        let mut failures = Vec::new();
        for line in self.gateway.log() {
            let id = line["request_id"].as_str().expect("an id").to_owned();
            let names = ["input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"];
            let got: Usage = line["input_tokens"].as_u64().map(|_| names.map(|n| line[n].as_u64().unwrap_or(u64::MAX)));
            // where the provider says nothing the numbers are ours
            let got = got.filter(|_| line["estimated"] != true);
            if got != expected[&id] {
                failures.push(format!("{id}: usage {got:?} in the log, {:?} in the recording", expected[&id]));
            }
            if !seen.insert(id.clone()) {
                failures.push(format!("{id} is in the log twice"));
            }
        }
        assert_eq!(seen.len(), expected.len());
        failures
    }
}

struct Played<'a> {
    id: String,
    provider: &'a str,
    /// Index into `Stage::upstreams`.
    upstream: usize,
    sent: String,
    /// `None`: whole, with its length.
    pieces: Option<Vec<Bytes>>,
}

/// Every item once under its own name and once under its alias with the reply whole, then in the pieces that `splits` gives.
async fn replay(items: Vec<Exchange>, splits: fn(&Exchange) -> Vec<Vec<Bytes>>) -> usize {
    let stage = Arc::new(stage(&items).await);
    let items = Arc::new(items);
    let mut failures = Vec::new();
    for item in items.iter() {
        let id = format!("{}:own", item.id);
        let pieces = item.events.then(|| vec![item.reply.clone()]);
        let call = Played { id, provider: "up", upstream: WORKERS, sent: item.body.clone(), pieces };
        if let Err(why) = stage.play(item, call).await {
            failures.push(format!("{} under its own name: {why}", item.id));
        }
    }
    let calls = Arc::new(AtomicUsize::new(items.len()));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (stage, items, calls) = (Arc::clone(&stage), Arc::clone(&items), Arc::clone(&calls));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                for (number, item) in items.iter().enumerate().skip(worker).step_by(WORKERS) {
                    let provider = format!("p{number}");
                    let whole = std::iter::once(None);
                    for (n, pieces) in whole.chain(splits(item).into_iter().map(Some)).enumerate() {
                        let cuts: Option<Vec<usize>> = pieces.as_ref().map(|p| p.iter().map(Bytes::len).collect());
                        let sent = item.body_for(&format!("alias-{number}"));
                        let id = format!("{}:{number}.{n}", item.id);
                        let call = Played { id, provider: &provider, upstream: worker, sent, pieces };
                        calls.fetch_add(1, Ordering::Relaxed);
                        if let Err(why) = stage.play(item, call).await {
                            failures.push(format!("{} in pieces of {cuts:?}: {why}", item.id));
                            break;
                        }
                    }
                }
                failures
            })
        })
        .collect();
    for worker in workers {
        failures.extend(worker.await.expect("a worker does not panic"));
    }
    failures.extend(stage.check_log().await);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures[..failures.len().min(40)].join("\n\n"));
    calls.load(Ordering::Relaxed)
}

fn patterns(item: &Exchange) -> Vec<Vec<Bytes>> {
    (0..if item.events { PATTERNS } else { 3 }).map(|number| item.pattern(number)).collect()
}

fn every_position(item: &Exchange) -> Vec<Vec<Bytes>> {
    (1..item.reply.len()).map(|at| vec![item.reply.slice(..at), item.reply.slice(at..)]).collect()
}

fn with_unasked(mut items: Vec<Exchange>) -> Vec<Exchange> {
    let unasked: Vec<Exchange> = items.iter().filter_map(Exchange::without_asking).collect();
    items.extend(unasked);
    items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_exchanges_pass_byte_for_byte() {
    let items = with_unasked(exchanges(&fixtures()));
    assert!(items.len() >= 12, "only {} fixtures", items.len());
    assert!(items.iter().any(|item| item.expected_reply() != item.reply), "no fixture has usage to take out");
    replay(items, patterns).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_stream_may_be_cut_at_any_byte() {
    let mut items = exchanges(&fixtures());
    items.retain(|item| item.events && item.path == "/chat/completions");
    assert_eq!(items.len(), 3, "three golden streams");
    assert!(items.iter().any(|item| item.reply.windows(4).any(|w| w == b"\r\n\r\n")), "one with CR LF");
    assert!(items.iter().filter(|item| !item.reply.is_ascii()).count() >= 2, "with characters of several bytes");
    // the one with `usage: null` in each frame is the hardest when the client did not ask
    let items = items.into_iter().map(|item| item.without_asking().filter(|i| i.id.contains("openai")).unwrap_or(item));
    let calls = replay(items.collect(), every_position).await;
    assert!(calls > 3_000, "only {calls} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shared_collection_passes_byte_for_byte() {
    let Some(folder) = collection() else {
        println!("no shared corpus here (TOLLGATE_CORPUS, ../shared/corpus): only the fixtures were replayed");
        return;
    };
    let items = exchanges(&folder);
    let (recorded, errors) = (items.len(), items.iter().filter(|item| item.status.as_u16() >= 400).count());
    assert!(recorded >= 100, "only {recorded} exchanges in {}", folder.display());
    assert!(errors >= 20, "only {errors} recorded errors");
    let items = with_unasked(items);
    let all = items.len();
    let calls = replay(items, patterns).await;
    println!(
        "{recorded} recorded exchanges ({errors} errors), {} more without asking for usage: {calls} calls",
        all - recorded
    );
}
