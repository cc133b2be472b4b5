//! What stands beside the text of an answer: its sources (`annotations`) and its log probabilities.

use std::borrow::Cow;

use super::rest;
use crate::chat::{Citation, Dialect, Extra, Logprob};
use crate::json::{At, Members, Node, Value, Writer};

/// One entry of `annotations`. Spans count from the beginning of the whole content; `before` characters of it stand before the block.
pub(super) fn read<'a>(node: Node<'a>, before: u64) -> Citation<'a> {
    let native = Some((Dialect::OpenAiChat, Cow::Borrowed(node.raw)));
    let mut citation = Citation { native, ..Citation::default() };
    let Ok(mut members) = node.object() else { return citation };
    let Some(mut inner) = rest::inner(&mut members, "url_citation") else { return citation };
    citation.url = rest::text(&mut inner, "url");
    citation.title = rest::text(&mut inner, "title");
    citation.cited_text = rest::text(&mut inner, "content");
    let span = rest::number(&mut inner, "start_index").zip(rest::number(&mut inner, "end_index"));
    // OpenRouter writes zeros when it does not know
    citation.text_span = span
        .filter(|(start, end)| start < end)
        .map(|(start, end)| (start.saturating_sub(before), end.saturating_sub(before)));
    citation
}

/// Whether a citation can be said: it came from this dialect, or has an address.
pub(super) fn is_said(citation: &Citation<'_>) -> bool {
    citation.url.is_some() || citation.native.as_ref().is_some_and(|(dialect, _)| *dialect == Dialect::OpenAiChat)
}

/// `{"type":"url_citation","url_citation":{..}}`; `block` is where the cited block stands in the whole content, in characters. In a stream
/// each has an `index`: the official SDKs gather lists by it, and raise where it is missing.
pub(super) fn write(w: &mut Writer<'_>, citation: &Citation<'_>, block: (u64, u64), index: Option<u64>) {
    let Citation {
        url,
        title,
        cited_text,
        document: _,    // an address is what this dialect cites
        file_id: _,     // likewise
        source_span: _, // likewise
        text_span,
        native,
    } = citation;
    if let Some((Dialect::OpenAiChat, json)) = native {
        match Node::parse_reply(json.as_bytes()).ok().and_then(|node| node.object().ok()) {
            Some(members) if index.is_some() => {
                w.object();
                for (name, node) in members.iter().filter(|(name, _)| *name != "index") {
                    w.name(name).raw(node.raw);
                }
                w.number_if("index", index);
                w.end_object();
            }
            _ => w.raw(json),
        }
        return;
    }
    let (start, end) = match text_span {
        Some((start, end)) => (block.0.saturating_add(*start), block.0.saturating_add(*end)),
        None => block,
    };
    w.object();
    w.name("type").string("url_citation");
    w.name("url_citation").object();
    w.name("url").string(url.as_deref().unwrap_or_default());
    w.name("title").string(title.as_deref().unwrap_or_default());
    w.name("start_index").number(start);
    w.name("end_index").number(end);
    w.string_if("content", cited_text.as_deref());
    w.end_object();
    w.number_if("index", index);
    w.end_object();
}

/// `logprobs` of a choice: of its content, or else of its refusal. Those a vendor gives of other texts stay (DeepSeek: of its reasoning).
pub(super) fn logprobs<'a>(choice: &mut Members<'a>, extra: &mut Extra<'a>) -> Vec<Logprob<'a>> {
    let at = choice.get("logprobs").map_or(At::NOWHERE, |node| node.at);
    let Some(mut object) = rest::inner(choice, "logprobs") else { return Vec::new() };
    let tokens = match rest::list(&mut object, "content") {
        content if content.is_empty() => rest::list(&mut object, "refusal"),
        content => content,
    };
    rest::keep(extra, "logprobs", at, &object);
    tokens.into_iter().filter_map(token).collect()
}

fn token(node: Node<'_>) -> Option<Logprob<'_>> {
    let mut members = node.object().ok()?;
    let top = rest::list(&mut members, "top_logprobs");
    let top = top.into_iter().filter_map(|node| one(&mut node.object().ok()?)).collect();
    Some(Logprob { top, ..one(&mut members)? })
}

fn one<'a>(members: &mut Members<'a>) -> Option<Logprob<'a>> {
    let token = rest::text(members, "token")?;
    let logprob = Cow::Borrowed(members.take("logprob")?.number().ok()?);
    let bytes = members.take("bytes").filter(|node| matches!(node.value, Value::Array(_)));
    Some(Logprob { token, logprob, bytes: bytes.map(|node| Cow::Borrowed(node.raw)), top: Vec::new() })
}

/// The value of `logprobs`. `refusal`: the tokens are of the refusal.
pub(super) fn write_logprobs(w: &mut Writer<'_>, logprobs: &[Logprob<'_>], refusal: bool) {
    if logprobs.is_empty() {
        w.null();
        return;
    }
    w.object();
    let (full, empty) = if refusal { ("refusal", "content") } else { ("content", "refusal") };
    w.name(full).array();
    for logprob in logprobs {
        w.object();
        write_one(w, logprob);
        w.name("top_logprobs").array();
        for top in &logprob.top {
            w.object();
            write_one(w, top);
            w.end_object();
        }
        w.end_array();
        w.end_object();
    }
    w.end_array();
    w.name(empty).null();
    w.end_object();
}

fn write_one(w: &mut Writer<'_>, logprob: &Logprob<'_>) {
    let Logprob { token, logprob, bytes, top: _ } = logprob;
    w.name("token").string(token);
    w.name("logprob").raw(logprob);
    w.name("bytes").raw(bytes.as_deref().unwrap_or("null"));
}
