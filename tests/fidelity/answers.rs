//! Features of answers: said by each provider's dialect, whole and as a stream, written in each client's.

use std::collections::BTreeMap;

use serde::Deserialize;
use tollgate::chat::{Fold, Response};
use tollgate::dialect::adapt::Undo;
use tollgate::dialect::undo::Undoing;
use tollgate::dialect::{Dialect, Operation, Origin, ReplyTo, StreamForm, inbound, outbound};
use tollgate::json::Node;

use crate::cell::{Arrival, Cell, Outcome, judge};
use crate::marks::Hay;
use crate::requests::{Members, known, say, whole};
use crate::streams::{cut, stream};
use crate::{CLIENTS, Row, Section, files, model_of};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    section: String,
    features: Vec<Feature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    feature: String,
    carried: Option<Arrival>,
    /// The answer's members by provider's dialect; what every answer has is added.
    from: BTreeMap<String, Members>,
    /// What arrives at a client that has another word for it.
    #[serde(default)]
    to: BTreeMap<String, Arrival>,
    /// By client: what its request said, where the answer has to be undone by it. Other clients cannot ask for this.
    #[serde(default)]
    asked: BTreeMap<String, Members>,
    /// Beginnings of paths whose losses are another feature's.
    #[serde(default)]
    beside: Vec<String>,
}

pub const REPLY: ReplyTo<'static> = ReplyTo {
    id: "0190a1b2-0000-7000-8000-000000000000",
    model: "some-model",
    created: 1_700_000_000,
    stream_usage: true,
    form: StreamForm::Sse,
    echo: "",
};

/// One answer on its way from a provider to a client.
struct Way<'w> {
    text: &'w [u8],
    from: Dialect,
    client: Operation,
    undo: Undo,
    arrival: &'w Arrival,
    beside: &'w [String],
}

pub fn run(faults: &mut Vec<String>) -> Vec<Section> {
    let mut sections = Vec::new();
    for file in files("answers") {
        let text = std::fs::read_to_string(&file).expect("a file");
        let topic: Topic = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let rows = topic.features.iter().map(|feature| row(feature, faults)).collect();
        sections.push(Section { title: topic.section, rows });
    }
    sections
}

fn row(feature: &Feature, faults: &mut Vec<String>) -> Row {
    let Feature { feature: name, carried, from, to, asked, beside } = feature;
    let clients = CLIENTS.map(|(_, client, _)| client);
    known(name, from.keys(), &Dialect::ALL.map(Dialect::name));
    known(name, to.keys().chain(asked.keys()), &clients);
    let mut cells = Vec::new();
    for (client, client_name, _) in CLIENTS {
        let arrival = to.get(client_name).or(carried.as_ref());
        let cell = |dialect: Dialect| {
            let Some(members) = from.get(dialect.name()) else { return (Cell::Unsaid, Cell::Unsaid) };
            if !asked.is_empty() && !asked.contains_key(client_name) {
                return (Cell::Unsaid, Cell::Unsaid);
            }
            let arrival = arrival.unwrap_or_else(|| panic!("{name}: nothing says what arrives at {client_name}"));
            let undo = asked.get(client_name).map(|request| {
                say(client, request, dialect).unwrap_or_else(|e| panic!("{name}: request of {client_name}: {e}")).undo
            });
            let text = answer(dialect, members);
            let way = Way { text: &text, from: dialect, client, undo: undo.unwrap_or_default(), arrival, beside };
            let mut told = |form: &str, cell: Result<Cell, String>| {
                cell.unwrap_or_else(|fault| {
                    faults.push(format!("{name:?} of {dialect} to {client_name} ({form}): {fault}"));
                    Cell::Unsaid
                })
            };
            (told("whole", way.whole()), told("streamed", way.streamed()))
        };
        cells.push(Dialect::ALL.into_iter().map(cell).collect());
    }
    Row { feature: name.clone(), cells, refused: None }
}

// === impl Way ===

impl Way<'_> {
    fn response(&self) -> Result<Response<'_>, String> {
        let node = Node::parse_reply(self.text).map_err(|e| e.to_string())?;
        let read = outbound(self.from).decode_response(node, &Origin { model: model_of(self.from) });
        read.map_err(|wrong| format!("{wrong:?}"))
    }

    fn judge(&self, hay: &Hay, losses: &tollgate::chat::Losses) -> Result<Cell, String> {
        let (text, beside, adapted) = (self.text, self.beside, !self.undo.is_empty());
        let outcome = Outcome { hay, losses, beside, text, adapted, same: self.same() };
        judge(self.arrival, &outcome)
    }

    fn same(&self) -> bool {
        self.client != Operation::Completions && self.client.dialect() == Some(self.from)
    }

    fn whole(&self) -> Result<Cell, String> {
        let mut response = self.response()?;
        self.undo.response(&mut response);
        let encoded = inbound(self.client).expect("clients speak it").encode_response(&response, &REPLY);
        self.readable(&encoded.body)?;
        self.judge(&Hay::of_body(&encoded.body), &encoded.losses)
            .map_err(|fault| format!("{fault}\n    {}", String::from_utf8_lossy(&encoded.body)))
    }

    fn streamed(&self) -> Result<Cell, String> {
        let mut encoder = inbound(self.client).expect("clients speak it").stream_encoder(&REPLY);
        let mut undoing = Undoing::new(self.undo.clone());
        let mut out = Vec::new();
        stream(self.from, self.text, self.response()?, |event| {
            let mut events = Vec::new();
            undoing.push(event, &mut events);
            events.into_iter().for_each(|event| encoder.push(event, &mut out));
        })?;
        self.stream_readable(&out)?;
        self.judge(&Hay::of_events(&out), encoder.losses())
            .map_err(|fault| format!("{fault}\n    {}", String::from_utf8_lossy(&out).replace("\n\n", "\n    ")))
    }

    /// What is written is an answer in the client's dialect: read by who reads providers of that dialect.
    fn readable(&self, body: &[u8]) -> Result<(), String> {
        let Some(dialect) = self.client.dialect().filter(|_| self.client != Operation::Completions) else {
            return Ok(());
        };
        let node = Node::parse_reply(body).map_err(|e| e.to_string())?;
        let read = outbound(dialect).decode_response(node, &Origin { model: "some-model" });
        read.map(|_| ()).map_err(|wrong| format!("{wrong:?}"))
    }

    fn stream_readable(&self, stream: &[u8]) -> Result<(), String> {
        let Some(dialect) = self.client.dialect().filter(|_| self.client != Operation::Completions) else {
            return Ok(());
        };
        let mut decoder = outbound(dialect).stream_decoder(&Origin { model: "some-model" });
        let mut fold = Fold::new(dialect);
        cut(dialect, stream.to_vec(), |frame| {
            let mut events = Vec::new();
            let read = decoder.push(frame, &mut events);
            events.into_iter().for_each(|event| fold.push(event));
            read
        })?;
        let mut events = Vec::new();
        if fold.error.is_none() {
            decoder.finish(&mut events).map_err(|e| e.what.into_owned())?;
        }
        events.into_iter().for_each(|event| fold.push(event));
        if (fold.ended || fold.error.is_some()) && fold.faults.is_empty() {
            Ok(())
        } else {
            Err(format!("no good stream: {:?}", fold.faults))
        }
    }
}

/// The members of a feature, and those without which an answer is none.
fn answer(dialect: Dialect, members: &Members) -> Vec<u8> {
    let needed: &[(&str, &str)] = match dialect {
        Dialect::OpenAiChat => &[
            ("id", r#""chatcmpl-1""#),
            ("object", r#""chat.completion""#),
            ("created", "1700000000"),
            ("model", r#""gpt-5.1""#),
            (
                "choices",
                r#"[{"index": 0, "message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]"#,
            ),
            ("usage", r#"{"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}"#),
        ],
        Dialect::OpenAiResponses => &[
            ("id", r#""resp_1""#),
            ("object", r#""response""#),
            ("created_at", "1700000000"),
            ("status", r#""completed""#),
            ("model", r#""gpt-5.1""#),
            (
                "output",
                r#"[{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                     "content": [{"type": "output_text", "text": "Hello.", "annotations": []}]}]"#,
            ),
            ("usage", r#"{"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}"#),
        ],
        Dialect::Anthropic => &[
            ("id", r#""msg_1""#),
            ("type", r#""message""#),
            ("role", r#""assistant""#),
            ("model", r#""claude-sonnet-4-5""#),
            ("content", r#"[{"type": "text", "text": "Hello."}]"#),
            ("stop_reason", r#""end_turn""#),
            ("stop_sequence", "null"),
            ("usage", r#"{"input_tokens": 10, "output_tokens": 5}"#),
        ],
        Dialect::Gemini => &[
            (
                "candidates",
                r#"[{"index": 0, "content": {"role": "model", "parts": [{"text": "Hello."}]}, "finishReason": "STOP"}]"#,
            ),
            ("usageMetadata", r#"{"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}"#),
            ("modelVersion", r#""gemini-2.5-pro""#),
            ("responseId", r#""r1""#),
        ],
        Dialect::Bedrock => &[
            ("output", r#"{"message": {"role": "assistant", "content": [{"text": "Hello."}]}}"#),
            ("stopReason", r#""end_turn""#),
            ("usage", r#"{"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}"#),
            ("metrics", r#"{"latencyMs": 100}"#),
        ],
        Dialect::Cohere => &[
            ("id", r#""c1""#),
            ("finish_reason", r#""COMPLETE""#),
            ("message", r#"{"role": "assistant", "content": [{"type": "text", "text": "Hello."}]}"#),
            ("usage", r#"{"tokens": {"input_tokens": 10, "output_tokens": 5}}"#),
        ],
    };
    whole(members, needed)
}
