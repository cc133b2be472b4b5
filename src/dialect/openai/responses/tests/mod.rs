//! The codec against recorded traffic, and by case.

mod corpus;
mod hostile;
mod replies;
mod requests;
mod streams;

use serde_json::Value;

use super::Responses;
use crate::chat::Request;
use crate::dialect::{Encoded, Inbound, Manners, Outbound, ReplyTo, StreamForm, To};
use crate::json::Node;

const TO: ReplyTo<'static> = ReplyTo {
    id: "req_0199",
    model: "asked",
    created: 1_700_000_000,
    stream_usage: true,
    form: StreamForm::Sse,
    echo: "",
};

fn decoded(body: &str) -> Request<'_> {
    Responses.decode_request(Node::parse(body.as_bytes()).unwrap()).unwrap()
}

fn encoded(request: &Request<'_>, model: &str) -> (Value, Encoded) {
    let manners = Manners::default();
    let encoded = Responses.encode_request(request, &To { model, manners: &manners });
    (serde_json::from_slice(&encoded.body).unwrap(), encoded)
}

/// The losses in words: member and kind.
fn losses(encoded: &Encoded, text: &str) -> Vec<String> {
    let path = |loss: &crate::chat::Loss| {
        let place = crate::json::Paths::new(text.as_bytes()).of(loss.at);
        let dot = if place.is_empty() || loss.member.is_empty() { "" } else { "." };
        format!("{place}{dot}{} {}", loss.member, loss.how.label())
    };
    encoded.losses.iter().map(path).collect()
}

/// The first place where two values differ.
fn difference(left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(l), Value::Object(r)) => {
            let names: std::collections::BTreeSet<&String> = l.keys().chain(r.keys()).collect();
            names.into_iter().find_map(|name| {
                let found = difference(l.get(name).unwrap_or(&Value::Null), r.get(name).unwrap_or(&Value::Null))?;
                Some(format!(".{name}{found}"))
            })
        }
        (Value::Array(l), Value::Array(r)) if l.len() == r.len() => {
            l.iter().zip(r).enumerate().find_map(|(n, (l, r))| Some(format!("[{n}]{}", difference(l, r)?)))
        }
        _ if left == right => None,
        _ => Some(format!(": {:.200} | {:.200}", left.to_string(), right.to_string())),
    }
}
