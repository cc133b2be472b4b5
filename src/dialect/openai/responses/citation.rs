//! Annotations of a text: what it rests on.

use std::borrow::Cow;

use crate::chat::{Citation, Dialect};
use crate::json::{Node, Object, Writer};

/// One annotation. One of a kind we do not know has only its native form.
pub fn read<'a>(node: Node<'a>) -> Citation<'a> {
    let native = Some((Dialect::OpenAiResponses, Cow::Borrowed(node.raw)));
    let Ok(mut members) = node.object() else { return Citation { native, ..Citation::default() } };
    let mut word = |name: &str| members.take_string(name).ok().flatten();
    let (url, file_id) = (word("url"), word("file_id"));
    let title = word("title").or_else(|| word("filename"));
    let mut number = |name: &str| members.take_u64(name).ok().flatten();
    let text_span = match (number("start_index"), number("end_index"), number("index")) {
        (Some(start), Some(end), _) => Some((start, end)),
        (_, _, Some(index)) => Some((index, index)),
        _ => None,
    };
    Citation { url, title, file_id, text_span, native, ..Citation::default() }
}

/// The annotation that says the same, with every member the official models want. `None`: the dialect has no such annotation (a page of
/// one of the request's documents). `length`: of the text so far, in characters.
pub fn write(citation: &Citation<'_>, length: u64) -> Option<String> {
    let Citation { url, title, cited_text: _, document: _, file_id, source_span: _, text_span, native } = citation;
    if let Some((Dialect::OpenAiResponses, json)) = native
        && (url.is_none() || complete(json))
    {
        return Some(json.clone().into_owned());
    }
    let (start, end) = text_span.unwrap_or((0, length));
    let mut out = Vec::new();
    let mut w = Writer::new(&mut out);
    w.object();
    match (url, file_id) {
        (Some(url), _) => {
            w.name("type").string("url_citation");
            w.name("url").string(url);
            w.name("title").string(title.as_deref().unwrap_or(url));
            w.name("start_index").number(start);
            w.name("end_index").number(end);
        }
        (None, Some(id)) => {
            w.name("type").string("file_citation");
            w.name("file_id").string(id);
            w.name("filename").string(title.as_deref().unwrap_or_default());
            w.name("index").number(end);
        }
        (None, None) => return None,
    }
    w.end_object();
    String::from_utf8(out).ok()
}

/// A `url_citation` with all its members; some vendors leave the span out, which the official models do not forgive.
fn complete(json: &str) -> bool {
    Object::scan(json.as_bytes())
        .is_ok_and(|o| ["type", "url", "title", "start_index", "end_index"].iter().all(|name| o.get(name).is_some()))
}

/// Whether more than the annotation says is lost: the words in the source, or where they are.
pub fn loses(citation: &Citation<'_>) -> bool {
    let Citation { url: _, title: _, cited_text, document, file_id: _, source_span, text_span: _, native } = citation;
    !matches!(native, Some((Dialect::OpenAiResponses, _)))
        && (cited_text.is_some() || document.is_some() || source_span.is_some())
}
