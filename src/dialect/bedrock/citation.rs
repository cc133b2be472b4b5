//! Citations, which are the same in a whole answer and in a stream.
//!
//! Truth: botocore's service model (`Citation`, `CitationsDelta`, `CitationLocation`).

use std::borrow::Cow;

use crate::chat::block::SourceSpan;
use crate::chat::{Citation, Dialect};
use crate::json::{Members, Node, Wrong};

pub fn read<'a>(node: Node<'a>) -> Result<Citation<'a>, Wrong> {
    let native = Some((Dialect::Bedrock, Cow::Borrowed(node.raw)));
    let mut members = node.object()?;
    let mut citation = Citation { title: members.take_string("title")?, native, ..Citation::default() };
    let source = members.take_string("source")?;
    citation.url = source.filter(|source| source.starts_with("https://") || source.starts_with("http://"));
    citation.cited_text = cited_text(members.take_array("sourceContent")?.unwrap_or_default())?;
    for (kind, place) in members.take_object("location")?.unwrap_or_default() {
        if let Ok(place) = place.object() {
            locate(&kind, place, &mut citation)?;
        }
    }
    Ok(citation)
}

fn cited_text<'a>(pieces: Vec<Node<'a>>) -> Result<Option<Cow<'a, str>>, Wrong> {
    let mut text: Option<Cow<'a, str>> = None;
    for piece in pieces {
        let Some(more) = piece.object()?.take_string("text")? else { continue };
        match &mut text {
            None => text = Some(more),
            Some(text) => text.to_mut().push_str(&more),
        }
    }
    Ok(text)
}

fn locate<'a>(kind: &str, mut place: Members<'a>, citation: &mut Citation<'a>) -> Result<(), Wrong> {
    if kind == "web" {
        citation.url = place.take_string("url")?.or(citation.url.take());
        return Ok(());
    }
    let span = match (place.take_u64("start")?, place.take_u64("end")?) {
        (Some(start), Some(end)) => Some((start, end)),
        _ => None,
    };
    citation.document = place.take_u64("documentIndex")?;
    citation.source_span = span.and_then(|(start, end)| match kind {
        "documentChar" => Some(SourceSpan::Chars(start, end)),
        "documentPage" => Some(SourceSpan::Pages(start, end)),
        "documentChunk" | "searchResultLocation" => Some(SourceSpan::Blocks(start, end)),
        _ => None,
    });
    Ok(())
}
