//! The dialect against recorded traffic, and its rules on made-up requests.

mod corpus;
mod from_others;
mod streams;

use crate::chat::Request;
use crate::dialect::{Manners, Outbound, ReplyTo, StreamForm, To};
use crate::json::Node;

use super::Anthropic;

fn reply_to(stream_usage: bool) -> ReplyTo<'static> {
    ReplyTo { id: "call1", model: "asked-model", created: 0, stream_usage, form: StreamForm::Sse, echo: "" }
}

fn encoded(request: &Request<'_>, model: &str) -> (serde_json::Value, crate::chat::Losses) {
    let manners = Manners::default();
    let encoded = Anthropic.encode_request(request, &To { model, manners: &manners });
    (serde_json::from_slice(&encoded.body).unwrap(), encoded.losses)
}

fn node(json: &str) -> Node<'_> {
    Node::parse_reply(json.as_bytes()).unwrap()
}
