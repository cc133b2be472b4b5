//! What it costs to say a call in another dialect: a request of 1 KB and one of 1 MB with an image, an answer, one event of a stream.
//!
//! Beside each stands what the splice lane does with the same bytes.

mod support;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::chat::{Dialect, Losses};
use tollgate::dialect::adapt::{Undo, adapt};
use tollgate::dialect::envelope::Envelope;
use tollgate::dialect::undo::Undoing;
use tollgate::dialect::{Frame, Manners, Operation, Origin, ReplyTo, StreamForm, To, inbound, outbound};
use tollgate::json::{Node, Spliced};

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

const CLIENTS: [Operation; 4] =
    [Operation::ChatCompletions, Operation::Responses, Operation::Messages, Operation::GenerateContent];

const REPLY: ReplyTo<'static> = ReplyTo {
    id: "0190a1b2-0000-7000-8000-000000000000",
    model: "smart",
    created: 1_700_000_000,
    stream_usage: true,
    form: StreamForm::Sse,
    echo: "",
};

fn model_of(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => "gpt-5.1",
        Dialect::Anthropic => "claude-sonnet-4-5",
        Dialect::Gemini => "gemini-2.5-pro",
        Dialect::Bedrock => "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        Dialect::Cohere => "command-a-03-2025",
    }
}

/// A question of about 1 KB with one tool.
fn question() -> String {
    let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(14);
    format!(
        r#"{{"model":"smart","max_tokens":256,"temperature":0.7,"messages":[{{"role":"system","content":"Answer in one line."}},{{"role":"user","content":"{prompt}"}}],"tools":[{{"type":"function","function":{{"name":"get_weather","description":"Weather of a place","parameters":{{"type":"object","properties":{{"city":{{"type":"string"}}}},"required":["city"]}}}}}}]}}"#
    )
}

fn picture(bytes: usize) -> String {
    let data = "iVBORw0KGgoAAAANSUhEUgAA".repeat(bytes / 24);
    format!(
        r#"{{"model":"smart","max_tokens":256,"messages":[{{"role":"user","content":[{{"type":"text","text":"What is this?"}},{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
    )
}

fn say(body: &[u8], from: Operation, to: Dialect) -> Vec<u8> {
    let manners = Manners::default();
    let node = Node::parse(body).expect("JSON");
    let mut request = inbound(from).expect("a dialect of clients").decode_request(node).expect("a request");
    let outbound = outbound(to);
    let model = model_of(to);
    let mut losses = Losses::default();
    adapt(&mut request, &outbound.abilities(model, &manners), &mut losses);
    outbound.encode_request(&request, &To { model, manners: &manners }).body
}

fn requests(c: &mut Criterion) {
    for (size, body) in [("1 KB", question()), ("1 MB image", picture(1_000_000))] {
        let body = Bytes::from(body);
        let mut group = c.benchmark_group(format!("request, {size}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("splice", |b| {
            b.iter(|| {
                let envelope =
                    Envelope::read(black_box(body.clone()), Operation::ChatCompletions).expect("a chat request");
                Spliced::new(&envelope.body, &envelope.patches("gpt-5.1", false))
            });
        });
        for to in Dialect::ALL {
            group.bench_function(format!("openai_chat to {to}"), |b| {
                b.iter(|| say(black_box(&body), Operation::ChatCompletions, to));
            });
        }
        // and each codec's own decoder
        for from in CLIENTS.into_iter().skip(1) {
            let dialect = from.dialect().expect("a conversation");
            let said = say(&body, Operation::ChatCompletions, dialect);
            group.bench_function(format!("{dialect} to openai_chat"), |b| {
                b.iter(|| say(black_box(&said), from, Dialect::OpenAiChat));
            });
        }
        group.finish();
    }
}

const MESSAGE: &str = r#"{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"The quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog."},{"type":"tool_use","id":"toolu_01","name":"get_weather","input":{"city":"Paris"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":200,"cache_read_input_tokens":0,"cache_creation_input_tokens":0,"output_tokens":40}}"#;

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("answer of anthropic");
    for to in CLIENTS {
        group.bench_function(format!("to {}", to.dialect().expect("a conversation")), |b| {
            b.iter(|| {
                let node = Node::parse_reply(black_box(MESSAGE.as_bytes())).expect("JSON");
                let origin = Origin { model: "claude-sonnet-4-5" };
                let response = outbound(Dialect::Anthropic).decode_response(node, &origin).expect("an answer");
                inbound(to).expect("a dialect of clients").encode_response(&response, &REPLY).body
            });
        });
    }
    group.finish();
}

/// The head of a provider's stream, and one event of its text.
type Stream = (&'static [(&'static str, &'static [u8])], (&'static str, &'static [u8]));

const OF_ANTHROPIC: Stream = (
    &[
        (
            "message_start",
            br#"{"type":"message_start","message":{"id":"msg_01","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"usage":{"input_tokens":7,"output_tokens":1}}}"#,
        ),
        (
            "content_block_start",
            br#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ),
    ],
    (
        "content_block_delta",
        br#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" the quick"}}"#,
    ),
);
const OF_CHAT: Stream = (
    &[(
        "",
        br#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5.1","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"Xk2"}"#,
    )],
    (
        "",
        br#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-5.1","service_tier":"default","system_fingerprint":null,"choices":[{"index":0,"delta":{"content":" the quick"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"b7Qd1"}"#,
    ),
);

fn events(c: &mut Criterion) {
    for (from, (head, (name, event))) in [(Dialect::Anthropic, OF_ANTHROPIC), (Dialect::OpenAiChat, OF_CHAT)] {
        let mut group = c.benchmark_group(format!("event of {from}"));
        for to in CLIENTS {
            let mut decoder = outbound(from).stream_decoder(&Origin { model: model_of(from) });
            let mut encoder = inbound(to).expect("a dialect of clients").stream_encoder(&REPLY);
            let mut undoing = Undoing::new(Undo::default());
            let mut out = Vec::new();
            let mut push = |name: &'static str, data: &[u8]| {
                let (mut events, mut undone) = (Vec::new(), Vec::new());
                decoder.push(Frame { name, data, exception: false }, &mut events).expect("an event");
                events.into_iter().for_each(|event| undoing.push(event, &mut undone));
                undone.into_iter().for_each(|event| encoder.push(event, &mut out));
                let len = out.len();
                out.clear();
                len
            };
            head.iter().for_each(|(name, data)| {
                push(name, data);
            });
            assert!(push(name, event) > 0, "{from} to {to}: it is said");
            group.bench_function(format!("to {}", to.dialect().expect("a conversation")), |b| {
                // what is gathered for the end of a stream is bounded, and little here
                b.iter(|| push(name, black_box(event)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, requests, answers, events);
criterion_main!(benches);
