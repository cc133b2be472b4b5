//! Citations: a span of the answer's text and the sources it rests on.
//!
//! Truth: the Cohere API reference, "Chat (v2)", `Citation`; `content_index` says which of the contents the span is of.

use std::borrow::Cow;

use crate::chat::{Citation, Dialect};
use crate::json::{Members, Node, Wrong};

/// Citations of one span: one for each source.
#[derive(Debug)]
pub struct Cited<'a> {
    /// Of the message's contents; absent from older models, whose answers have one.
    pub content: Option<u64>,
    pub citations: Vec<Citation<'a>>,
}

/// `None`: the span is of a thought or of a plan, which the words do not cite.
pub fn read<'a>(node: Node<'a>) -> Result<Option<Cited<'a>>, Wrong> {
    let native = (Dialect::Cohere, Cow::Borrowed(node.raw));
    let mut members = node.object()?;
    if matches!(members.take_string("type")?.as_deref(), Some("THINKING_CONTENT" | "PLAN")) {
        return Ok(None);
    }
    let text_span = match (members.take_u64("start")?, members.take_u64("end")?) {
        (Some(start), Some(end)) => Some((start, end)),
        _ => None,
    };
    let bare = Citation { text_span, native: Some(native), ..Citation::default() };
    let mut citations = Vec::new();
    for source in members.take_array("sources")?.unwrap_or_default() {
        citations.push(with_source(bare.clone(), source.object()?)?);
    }
    if citations.is_empty() {
        citations.push(bare);
    }
    Ok(Some(Cited { content: members.take_u64("content_index")?, citations }))
}

fn with_source<'a>(bare: Citation<'a>, mut source: Members<'a>) -> Result<Citation<'a>, Wrong> {
    let id = source.take_string("id")?;
    let document = id.as_deref().and_then(|id| id.strip_prefix("doc:")?.parse().ok());
    let mut said = source.take_object("document")?.unwrap_or_default();
    // members are the caller's own, of any kind
    let mut word = |name: &str| said.take(name).and_then(|node| node.string().ok());
    let (title, url, snippet) = (word("title"), word("url"), word("snippet"));
    let url = url.filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    Ok(Citation { title, url, cited_text: snippet, document, ..bare })
}
