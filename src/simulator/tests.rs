//! The simulator through its own front door: raw HTTP/1.1 over loopback, so that framing and broken ends can be seen.

mod corpus;
mod dialects;

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(10);

struct Bench {
    simulator: Simulator,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// An answer as it came: `wire` is everything after the head, still chunked.
struct Heard {
    status: u16,
    head: String,
    wire: Vec<u8>,
}

impl Heard {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.wire).expect("the body is one JSON document")
    }

    /// The chunks of a chunked body, and whether it came to a proper end.
    fn chunks(&self) -> (Vec<String>, bool) {
        let mut rest = String::from_utf8(self.wire.clone()).expect("these bodies are text");
        let mut chunks = Vec::new();
        while let Some((size, tail)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).expect("a chunk begins with its size");
            if size == 0 {
                return (chunks, true);
            }
            chunks.push(tail[..size].to_owned());
            rest = tail[size + 2..].to_owned();
        }
        (chunks, false)
    }

    /// The documents of an event stream, without `[DONE]`.
    fn events(&self) -> Vec<Value> {
        let text = self.chunks().0.concat();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).expect("every event is JSON")).collect()
    }
}

impl Bench {
    async fn new() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let simulator = Simulator::new(Options { pace: Duration::ZERO, ..options });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        Self { server: tokio::spawn(simulator.clone().serve(listener)), simulator, address }
    }

    async fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("the simulator listens");
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        stream
    }

    /// Sends and reads until the connection ends.
    async fn raw(&self, request: &str) -> Heard {
        let mut stream = self.connect(request).await;
        let mut heard = Vec::new();
        let read = tokio::time::timeout(SOON, stream.read_to_end(&mut heard)).await;
        read.expect("the connection ends").expect("it ends without a reset");
        let end = memchr::memmem::find(&heard, b"\r\n\r\n").map_or(heard.len(), |at| at + 4);
        let wire = heard.split_off(end);
        let head = String::from_utf8(heard).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Heard { status, head, wire }
    }

    async fn post(&self, path: &str, body: &Value) -> Heard {
        self.raw(&post(path, body)).await
    }

    async fn chat(&self, model: &str, more: Value) -> Heard {
        self.post("/v1/chat/completions", &chat(model, more)).await
    }

    async fn saw(&self, test: impl Fn(&[Call]) -> bool) -> bool {
        self.simulator.record().wait_for(SOON, test).await
    }
}

fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!("POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn chat(model: &str, more: Value) -> Value {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "Say hi" }] });
    for (key, value) in more.as_object().expect("more members are an object") {
        body[key] = value.clone();
    }
    body
}

fn said(events: &[Value]) -> String {
    events.iter().filter_map(|event| event.pointer("/choices/0/delta/content").and_then(Value::as_str)).collect()
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let bench = Bench::new().await;
    let whole = bench.chat("gpt-4o-mini", json!({})).await;
    let stream = bench.chat("gpt-4o-mini", json!({ "stream": true })).await;
    let content = whole.json()["choices"][0]["message"]["content"].as_str().map(str::to_owned);
    assert!(content.as_deref().is_some_and(|text| text.contains("simulated") && text.contains("\"Say hi\"")));
    assert_eq!(Some(said(&stream.events())), content);
    let (chunks, ended) = stream.chunks();
    assert!(ended);
    assert_eq!(chunks.last().map(String::as_str), Some("data: [DONE]\n\n"));
    for name in ["x-request-id: req_", "openai-version: 2020-10-01", "x-ratelimit-remaining-tokens: "] {
        assert!(whole.head.contains(name) && stream.head.contains(name), "{name}");
    }
}

#[tokio::test]
async fn only_those_who_ask_for_usage_get_it_in_a_stream() {
    let bench = Bench::new().await;
    let without = bench.chat("gpt-4o-mini", json!({ "stream": true })).await.events();
    assert!(without.iter().all(|event| event.get("usage").is_none()));
    let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let with = bench.chat("gpt-4o-mini", options.clone()).await.events();
    let (last, others) = with.split_last().expect("there are events");
    assert!(others.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], bench.chat("gpt-4o-mini", json!({})).await.json()["usage"]);
    let silent = bench.chat("sim-no-usage", options).await.events();
    assert!(silent.iter().all(|event| event.get("usage").is_none()));
}

#[tokio::test]
async fn a_question_with_tools_gets_a_call_and_its_result_gets_text() {
    let bench = Bench::new().await;
    let function = |name: &str| {
        let parameters = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
    };
    let tools = json!([function("first"), function("second")]);
    let call = |answer: Value| answer["choices"][0]["message"]["tool_calls"][0]["function"].clone();
    let free = bench.chat("m", json!({ "tools": tools })).await.json();
    assert_eq!(free["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(call(free), json!({ "name": "first", "arguments": "{\"n\":1}" }));
    let chosen = json!({ "type": "function", "function": { "name": "second" } });
    assert_eq!(call(bench.chat("m", json!({ "tools": tools, "tool_choice": chosen })).await.json())["name"], "second");
    let none = bench.chat("m", json!({ "tools": tools, "tool_choice": "none" })).await.json();
    assert_eq!(none["choices"][0]["finish_reason"], "stop");

    let events = bench.chat("m", json!({ "tools": tools, "stream": true })).await.events();
    let pieces = events.iter().filter_map(|event| event.pointer("/choices/0/delta/tool_calls/0/function/arguments"));
    assert_eq!(pieces.filter_map(Value::as_str).collect::<String>(), "{\"n\":1}");

    let mut body = chat("m", json!({ "tools": tools }));
    let messages = body["messages"].as_array_mut().expect("messages are a list");
    messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [] }));
    messages.push(json!({ "role": "tool", "tool_call_id": "x", "content": "42 degrees" }));
    let answer = bench.post("/v1/chat/completions", &body).await.json();
    assert!(answer["choices"][0]["message"]["content"].as_str().is_some_and(|text| text.contains("42 degrees")));
}

#[tokio::test]
async fn responses_stream_in_the_order_of_the_real_api() {
    let bench = Bench::new().await;
    let body = json!({ "model": "m", "input": "Say hi", "stream": true });
    let heard = bench.post("/v1/responses", &body).await;
    let events = heard.events();
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    kinds.dedup();
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, wanted);
    let numbers: Vec<Option<u64>> = events.iter().map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..events.len() as u64).map(Some).collect::<Vec<_>>());
    let whole = bench.post("/v1/responses", &json!({ "model": "m", "input": "Say hi" })).await.json();
    let last = &events.last().expect("there are events")["response"];
    assert_eq!(last["output"][0]["content"], whole["output"][0]["content"]);
    assert_eq!(last["usage"], whole["usage"]);

    let tools = json!([{ "type": "function", "name": "f", "parameters": { "type": "object", "properties": {} } }]);
    let body = json!({ "model": "m", "input": "Say hi", "stream": true, "tools": tools });
    let events = bench.post("/v1/responses", &body).await.events();
    let done = events.iter().find(|event| event["type"] == "response.function_call_arguments.done");
    assert_eq!(done.map(|event| &event["arguments"]), Some(&json!("{}")));
}

#[tokio::test]
async fn every_refusing_model_refuses_in_its_own_way() {
    let bench = Bench::new().await;
    let table = [
        ("sim-429", 429, json!("rate_limit_exceeded")),
        ("sim-500", 500, Value::Null),
        ("sim-503", 503, Value::Null),
        ("sim-400", 400, json!("decimal_above_max_value")),
        ("sim-401", 401, json!("invalid_api_key")),
        ("sim-404", 404, json!("model_not_found")),
        ("sim-context", 400, json!("context_length_exceeded")),
        ("sim-filter", 400, json!("content_filter")),
    ];
    for (model, status, code) in table {
        let heard = bench.chat(model, json!({ "stream": true })).await;
        assert_eq!((heard.status, &heard.json()["error"]["code"]), (status, &code), "{model}");
        assert_eq!(heard.head.contains("retry-after: 1\r\n"), model == "sim-429", "{model}");
    }
    let request = "POST /v1/chat/completions HTTP/1.1\r\nhost: secret.example\r\nauthorization: Bearer sk-leak\r\n";
    let body = chat("sim-401", json!({})).to_string();
    let leak = bench.raw(&format!("{request}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    let leak = String::from_utf8_lossy(&leak.wire).into_owned();
    assert!(leak.contains("Bearer sk-leak") && leak.contains("secret.example"), "{leak}");
    let statuses = [bench.chat("sim-flaky", json!({})).await.status, bench.chat("sim-flaky", json!({})).await.status];
    assert_eq!(statuses, [200, 500]);
}

#[tokio::test]
async fn a_bad_request_is_refused_in_the_words_of_the_api() {
    let bench = Bench::new().await;
    let table = [
        (json!({}), "you must provide a model parameter"),
        (json!({ "model": "m" }), "Missing required parameter: 'messages'."),
        (
            json!({ "model": "m", "messages": "x" }),
            "Invalid type for 'messages': expected an array of objects, but got a string",
        ),
        (json!({ "model": "m", "messages": [] }), "Invalid 'messages': empty array."),
        (json!([]), "We could not parse the JSON body of your request."),
    ];
    for (body, words) in table {
        let heard = bench.post("/v1/chat/completions", &body).await;
        let message = heard.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(heard.status == 400 && message.starts_with(words), "{message}");
    }
    assert_eq!(bench.post("/v1/nothing", &json!({})).await.status, 404);
    assert_eq!(
        bench.raw("GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.status,
        405
    );
}

#[tokio::test]
async fn with_a_key_set_only_its_bearer_is_served() {
    let bench = Bench::with(Options { api_key: Some("sk-right".to_owned()), ..Options::default() }).await;
    let table = [
        ("/v1/models", "", 401, "You didn't provide an API key."),
        (
            "/v1/models",
            "authorization: Bearer sk-wrong-0123456789\r\n",
            401,
            "Incorrect API key provided: sk-wrong*******6789.",
        ),
        ("/v1/models", "authorization: bearer sk-right\r\n", 200, ""),
        ("/v1/models", "api-key: sk-right\r\n", 200, ""),
        (
            "/openai/deployments/m/chat/completions?api-version=1",
            "",
            401,
            "Access denied due to invalid subscription key",
        ),
    ];
    for (path, header, status, words) in table {
        let heard = bench.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n")).await;
        assert_eq!(heard.status, status, "{header}");
        assert!(
            heard
                .json()
                .pointer("/error/message")
                .map_or("", |text| text.as_str().unwrap_or_default())
                .starts_with(words)
        );
    }
}

#[tokio::test]
async fn a_cut_answer_has_no_proper_end() {
    let bench = Bench::new().await;
    let (chunks, ended) = bench.chat("sim-cut", json!({ "stream": true })).await.chunks();
    assert!(chunks.len() > 2 && !ended);
    let whole = bench.chat("sim-cut", json!({})).await;
    let promised = whole.head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let promised: usize = promised.and_then(|length| length.trim().parse().ok()).expect("a length is promised");
    assert!(!whole.wire.is_empty() && whole.wire.len() < promised);
    assert!(bench.saw(|calls| calls.iter().all(|call| call.outcome == Outcome::Cut)).await);
}

#[tokio::test]
async fn a_client_that_leaves_is_recorded_as_cancelled() {
    let bench = Bench::new().await;
    for (model, status) in [("sim-hang", None), ("sim-hang-stream", Some(StatusCode::OK))] {
        let stream = bench.connect(&post("/v1/chat/completions", &chat(model, json!({ "stream": true })))).await;
        let is_running = move |calls: &[Call]| {
            calls.last().is_some_and(|call| {
                call.json()["model"] == model && call.status == status && call.outcome == Outcome::Running
            })
        };
        assert!(bench.saw(is_running).await, "{model}");
        drop(stream);
        let is_cancelled = |calls: &[Call]| matches!(calls.last(), Some(Call { outcome: Outcome::Cancelled(_), .. }));
        assert!(bench.saw(is_cancelled).await, "{model}");
    }
    bench.chat("m", json!({ "stream": true })).await;
    assert!(bench.saw(|calls| calls.last().is_some_and(|call| call.outcome == Outcome::Completed)).await);
    let counters = bench.simulator.record().counters();
    assert_eq!((counters.calls, counters.cancelled, counters.completed), (3, 2, 1));
}

#[tokio::test]
async fn a_client_that_leaves_while_uploading_is_recorded_as_cancelled() {
    let bench = Bench::new().await;
    let stream = bench.connect("POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf").await;
    assert!(bench.saw(|calls| calls.iter().any(|call| call.received == 4 && call.outcome == Outcome::Running)).await);
    drop(stream);
    assert!(bench.saw(|calls| calls.iter().any(|call| matches!(call.outcome, Outcome::Cancelled(_)))).await);
}

#[tokio::test]
async fn a_thinking_model_sends_its_head_before_it_thinks() {
    let bench = Bench::new().await;
    let body = post("/v1/chat/completions", &chat("sim-think", json!({ "stream": true })));
    let mut stream = bench.connect(&body).await;
    let mut head = vec![0; 4096];
    let length = tokio::time::timeout(Duration::from_secs(4), stream.read(&mut head)).await;
    let length = length.expect("the head does not wait").expect("it is readable");
    assert!(head[..length].starts_with(b"HTTP/1.1 200 OK") && head[..length].ends_with(b"\r\n\r\n"));
}

#[tokio::test]
async fn a_scripted_reply_comes_byte_for_byte_in_its_own_chunks() {
    let bench = Bench::new().await;
    let teapot = Reply::new(StatusCode::IM_A_TEAPOT).header("x-a", "1").header("x-a", "2").bytes("da").bytes("ta: {");
    let silent = Reply::default().first(Part::Cut);
    bench.simulator.replies("scripted", [teapot, silent, Reply::whole(StatusCode::OK, "text/plain", "last")]);
    let first = bench.chat("scripted", json!({})).await;
    assert_eq!(first.status, 418);
    assert!(first.head.contains("x-a: 1\r\nx-a: 2\r\n") && !first.head.contains("x-request-id"));
    assert_eq!(first.chunks(), (vec!["da".to_owned(), "ta: {".to_owned()], true));
    assert_eq!(bench.chat("scripted", json!({})).await.head, "");
    for _ in 0..2 {
        assert_eq!(bench.chat("scripted", json!({})).await.wire, b"last");
    }
    bench.simulator.replies("scripted", []);
    assert!(bench.chat("scripted", json!({})).await.head.contains("x-request-id"));
    bench.simulator.replies_at("/anything", [Reply::new(StatusCode::NO_CONTENT)]);
    assert_eq!(bench.post("/anything?x=1", &json!({})).await.status, 204);
}

#[tokio::test]
async fn azure_needs_a_version_and_adds_its_filter_results() {
    let bench = Bench::new().await;
    let body = json!({ "messages": [{ "role": "user", "content": "Say hi" }] });
    assert_eq!(bench.post("/openai/deployments/dep/chat/completions", &body).await.status, 404);
    let heard = bench.post("/openai/deployments/dep/chat/completions?api-version=2024-10-21", &body).await.json();
    assert_eq!(heard["model"], "dep");
    assert_eq!(heard["prompt_filter_results"][0]["prompt_index"], 0);
    for mount in ["/openai/v1", "/api/v1", "/v1beta/openai", "/inference/v1", ""] {
        let heard = bench.post(&format!("{mount}/chat/completions"), &chat("m", json!({}))).await;
        assert_eq!(heard.status, 200, "{mount}");
    }
}

#[tokio::test]
async fn an_uploaded_file_can_be_fetched_again() {
    let bench = Bench::new().await;
    let content = "line\r\n".repeat(1000);
    let form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\ncontent-disposition: form-data; \
         name=\"file\"; filename=\"f.txt\"\r\n\r\n{content}\r\n--b--\r\n"
    );
    let head =
        "POST /v1/files HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: multipart/form-data; boundary=b";
    let file = bench.raw(&format!("{head}\r\ncontent-length: {}\r\n\r\n{form}", form.len())).await.json();
    assert_eq!((&file["bytes"], &file["filename"]), (&json!(content.len()), &json!("f.txt")));
    let id = file["id"].as_str().expect("a file has an id");
    let get = |tail: &str| format!("GET /v1/files/{id}{tail} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(bench.raw(&get("/content")).await.wire, content.as_bytes());
    assert_eq!(bench.raw(&get("")).await.json(), file);
    let calls = bench.simulator.record().calls();
    assert_eq!(calls.first().map(|call| (&call.body[..], call.received)), Some((form.as_bytes(), form.len() as u64)));
}

#[tokio::test]
async fn embeddings_are_the_same_numbers_in_both_encodings() {
    let bench = Bench::new().await;
    let ask = |format: &str| json!({ "model": "e", "input": ["one two"], "dimensions": 8, "encoding_format": format });
    let floats = bench.post("/v1/embeddings", &ask("float")).await.json();
    let coded = bench.post("/v1/embeddings", &ask("base64")).await.json();
    let bytes = STANDARD.decode(coded["data"][0]["embedding"].as_str().unwrap_or_default()).expect("it is base64");
    let (numbers, rest) = bytes.as_chunks::<4>();
    let numbers: Vec<f32> = numbers.iter().map(|number| f32::from_le_bytes(*number)).collect();
    let wanted = floats["data"][0]["embedding"].as_array().expect("it is a list");
    let wanted: Vec<f32> = wanted.iter().filter_map(Value::as_f64).map(|number| number as f32).collect();
    assert_eq!((numbers.len(), rest.len()), (8, 0));
    assert_eq!(numbers, wanted);
}

#[tokio::test]
async fn the_record_forgets_the_oldest_first_and_knows_connections() {
    let bench = Bench::with(Options { most_calls: 3, most_bytes: 100, ..Options::default() }).await;
    let keep = "GET /v1/models HTTP/1.1\r\nhost: x\r\nX-Mixed: Case\r\n\r\n";
    let last = "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    bench.raw(&format!("{keep}{last}")).await;
    let calls = bench.simulator.record().calls();
    assert_eq!(calls.iter().map(|call| (call.number, call.connection)).collect::<Vec<_>>(), [(1, 1), (2, 1)]);
    assert_eq!(calls.first().and_then(|call| call.header("x-mixed")), Some("Case"));
    bench.raw(last).await;
    bench.raw(last).await;
    let numbers = || bench.simulator.record().calls().iter().map(|call| call.number).collect::<Vec<_>>();
    assert_eq!(numbers(), [2, 3, 4]);
    bench.post("/v1/chat/completions", &json!({ "pad": "x".repeat(60) })).await;
    bench.post("/v1/chat/completions", &json!({ "pad": "x".repeat(60) })).await;
    assert_eq!(numbers(), [6]);
    assert_eq!(bench.simulator.record().counters().connections, 5);
}

#[tokio::test]
async fn when_the_server_is_dropped_its_connections_close() {
    let bench = Bench::new().await;
    let body = post("/v1/chat/completions", &chat("sim-hang", json!({})));
    let mut stream = bench.connect(&body).await;
    assert!(bench.saw(|calls| calls.len() == 1).await);
    bench.server.abort();
    let end = tokio::time::timeout(SOON, stream.read(&mut [0; 16])).await.expect("the connection ends");
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn realtime_greets_and_answers_text_over_a_websocket() {
    let bench = Bench::new().await;
    // The handshake of RFC 6455 1.3.
    let request = "GET /v1/realtime?model=m HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut stream = bench.connect(request).await;
    let mut heard = Vec::new();
    read_until(&mut stream, &mut heard, "session.created").await;
    assert!(String::from_utf8_lossy(&heard).contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    // A masked text frame "hello", with a mask of zeros (RFC 6455 5.2).
    stream.write_all(b"\x81\x85\0\0\0\0hello").await.expect("the frame is sent");
    read_until(&mut stream, &mut heard, "response.done").await;
    assert!(String::from_utf8_lossy(&heard).contains("\"text\":\"hello\""));
    stream.write_all(b"\x88\x80\0\0\0\0").await.expect("the close is sent");
    assert!(bench.saw(|calls| calls.iter().all(|call| call.outcome == Outcome::Completed)).await);
    assert_eq!(bench.raw("GET /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.status, 400);
}

async fn read_until(stream: &mut TcpStream, heard: &mut Vec<u8>, word: &str) {
    let wait = async {
        while memchr::memmem::find(heard, word.as_bytes()).is_none() {
            let mut more = [0; 4096];
            match stream.read(&mut more).await.expect("the connection stays") {
                0 => panic!("the connection ended before {word}"),
                length => heard.extend_from_slice(&more[..length]),
            }
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("the word comes");
}

#[tokio::test]
async fn an_agent_s_many_tools_are_left_alone_unless_one_must_be_called() {
    let bench = Bench::new().await;
    let tool = |number: usize| json!({ "type": "function", "function": { "name": format!("f{number}") } });
    let tools: Vec<Value> = (0..7).map(tool).collect();
    let finish = async |more: Value| bench.chat("m", more).await.json()["choices"][0]["finish_reason"].clone();
    assert_eq!(finish(json!({ "tools": tools })).await, "stop");
    assert_eq!(finish(json!({ "tools": tools, "tool_choice": "required" })).await, "tool_calls");
    assert_eq!(finish(json!({ "tools": tools[..6] })).await, "tool_calls");
}
