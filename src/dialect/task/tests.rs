//! Recorded traffic for the tests of small calls, and what holds for all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::Value;

use super::{Answered, Translated, answer, can, translate};
use crate::dialect::codec::{Garbled, Manners, ReplyTo, StreamForm, To};
use crate::dialect::operation::Operation;
use crate::json::{Node, Wrong};

/// A recorded call.
pub(in crate::dialect) struct Exchange {
    pub id: String,
    pub provider: String,
    pub api: String,
    /// `null` when it was not recorded.
    pub request: Value,
    pub status: u64,
    pub body: Body,
}

pub(in crate::dialect) enum Body {
    Json(Value),
    Text(String),
    None,
}

fn files(folder: &str) -> Vec<(String, Value)> {
    let root = std::env::var("TOLLGATE_CORPUS")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
        println!("skipped: no corpus");
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let named = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| (named(path), serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())).collect()
}

/// The recorded calls of the APIs that `wanted` names; none, and a line that says so, where there is no corpus.
pub(in crate::dialect) fn exchanges(wanted: impl Fn(&str) -> bool) -> Vec<Exchange> {
    files("exchanges")
        .into_iter()
        .map(|(id, mut file)| {
            let mut response = file["response"].take();
            let body = match (response["body_json"].take(), response["body_text"].take()) {
                (Value::Null, Value::String(text)) => Body::Text(text),
                (Value::Null, _) => Body::None,
                (json, _) => Body::Json(json),
            };
            Exchange {
                id,
                provider: file["provider"].as_str().unwrap_or_default().to_owned(),
                api: file["api"].as_str().unwrap_or_default().to_owned(),
                request: file["request"]["body"].take(),
                status: response["status"].as_u64().unwrap_or_default(),
                body,
            }
        })
        .filter(|exchange| wanted(&exchange.api))
        .collect()
}

/// Other gateways' golden translations, by inbound and upstream API.
pub(in crate::dialect) fn pairs(wanted: impl Fn(&str, &str) -> bool) -> Vec<(String, Value)> {
    let word = |file: &Value, name: &str| file[name].as_str().unwrap_or_default().to_owned();
    let mut files = files("translation_pairs");
    files.retain(|(_, file)| wanted(&word(file, "inbound_api"), &word(file, "upstream_api")));
    files
}

pub(in crate::dialect) fn reply_to() -> ReplyTo<'static> {
    ReplyTo { id: "id-1", model: "m", created: 1, stream_usage: true, form: StreamForm::Sse, echo: "" }
}

pub(in crate::dialect) fn ask(
    from: Operation,
    to: Operation,
    body: &Value,
    model: &str,
) -> Result<(Translated, Vec<Value>), Wrong> {
    ask_with(from, to, body, model, &Manners::default())
}

pub(in crate::dialect) fn ask_with(
    from: Operation,
    to: Operation,
    body: &Value,
    model: &str,
    manners: &Manners,
) -> Result<(Translated, Vec<Value>), Wrong> {
    let text = body.to_string();
    let translated = translate(from, to, Node::parse(text.as_bytes()).unwrap(), &To { model, manners })?;
    let bodies = translated.bodies.iter().map(|body| serde_json::from_slice(body).unwrap()).collect();
    Ok((translated, bodies))
}

/// The one body, and no loss.
pub(in crate::dialect) fn asks(from: Operation, to: Operation, body: &Value, model: &str) -> Value {
    let (translated, mut bodies) = ask(from, to, body, model).unwrap();
    assert!(translated.losses.is_empty(), "{:?}", translated.losses);
    assert_eq!(bodies.len(), 1);
    bodies.remove(0)
}

/// The losses of a question: the member that is lost, as `how text`.
pub(in crate::dialect) fn losses(translated: &Translated, body: &Value) -> Vec<String> {
    let text = body.to_string();
    let path = |at| crate::json::Paths::new(text.as_bytes()).of(at);
    translated.losses.iter().map(|loss| format!("{} {}{}", loss.how.label(), path(loss.at), loss.member)).collect()
}

pub(in crate::dialect) fn replied(
    translated: &Translated,
    replies: &[Value],
    hint: Option<u64>,
) -> Result<(Answered, Value), Garbled> {
    let texts: Vec<String> = replies.iter().map(Value::to_string).collect();
    let bytes: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let answered = answer(&translated.asked, &bytes, &reply_to(), hint)?;
    let value = serde_json::from_slice(&answered.body).unwrap();
    Ok((answered, value))
}

const TARGETS: [(Operation, &str); 9] = [
    (Operation::Embeddings, "text-embedding-3-small"),
    (Operation::EmbedContent, "gemini-embedding-001"),
    (Operation::CohereEmbed, "embed-v4.0"),
    (Operation::Invoke, "amazon.titan-embed-text-v2:0"),
    (Operation::Invoke, "cohere.embed-v4:0"),
    (Operation::OllamaEmbed, "all-minilm"),
    (Operation::Predict, "text-embedding-005"),
    (Operation::Rerank, "rerank-v3.5"),
    (Operation::BedrockRerank, "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"),
];

const QUESTIONS: [(Operation, &str); 4] = [
    (Operation::Embeddings, r#"{"model":"m","input":["a"],"encoding_format":"base64"}"#),
    (Operation::EmbedContent, r#"{"content":{"parts":[{"text":"a"}]}}"#),
    (Operation::EmbedContent, r#"{"requests":[{"content":{"parts":[{"text":"a"}]}}]}"#),
    (Operation::Rerank, r#"{"query":"q","documents":["a","b"]}"#),
];

#[test]
fn only_what_can_be_carried_is_said_to_be() {
    let mut count = BTreeMap::new();
    for from in Operation::ALL {
        for to in Operation::ALL {
            *count.entry(can(from, to)).or_insert(0) += 1;
            if from == to {
                assert_eq!(can(from, to), from == Operation::Rerank);
            }
            let manners = Manners::default();
            let none = translate(from, to, Node::parse(b"{}").unwrap(), &To { model: "m", manners: &manners });
            assert!(none.is_err(), "{from} {to}");
        }
    }
    assert_eq!(count[&true], 5 + 5 + 2);
}

/// JSON that looks like an answer here and there.
fn garbage() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[A-Za-z=]{0,6}".prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "data",
        "embedding",
        "embeddings",
        "values",
        "float",
        "base64",
        "index",
        "usage",
        "prompt_tokens",
        "model",
        "predictions",
        "statistics",
        "token_count",
        "usageMetadata",
        "meta",
        "billed_units",
        "results",
        "score",
        "relevance_score",
        "relevanceScore",
        "id",
        "inputTextTokenCount",
    ]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..4)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

fn answered(reply: &[u8]) -> Vec<Result<Answered, Garbled>> {
    let manners = Manners::default();
    let mut answers = Vec::new();
    for (from, question) in QUESTIONS {
        for (to, model) in TARGETS.iter().filter(|(to, _)| can(from, *to)) {
            let question = Node::parse(question.as_bytes()).unwrap();
            let asked = translate(from, *to, question, &To { model, manners: &manners }).unwrap().asked;
            answers.push(answer(&asked, &[reply], &reply_to(), None));
        }
    }
    answers
}

proptest! {
    #[test]
    fn a_garbled_answer_is_told_and_never_a_panic(reply in garbage()) {
        for answer in answered(reply.to_string().as_bytes()).into_iter().flatten() {
            prop_assert!(serde_json::from_slice::<Value>(&answer.body).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_an_answer_or_none(reply in prop::collection::vec(any::<u8>(), 0..40)) {
        prop_assert!(answered(&reply).iter().all(Result::is_err));
    }

    #[test]
    fn any_question_is_asked_or_refused(question in garbage()) {
        let text = question.to_string();
        let manners = Manners::default();
        for (from, _) in QUESTIONS {
            for (to, model) in TARGETS {
                if let Ok(asked) = translate(from, to, Node::parse(text.as_bytes()).unwrap(), &To { model, manners: &manners }) {
                    for body in asked.bodies {
                        prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
                    }
                }
            }
        }
    }
}
