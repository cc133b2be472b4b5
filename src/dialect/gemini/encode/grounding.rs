//! What an answer of another dialect rests on, as `groundingMetadata`.

use std::collections::HashMap;

use crate::chat::block::{ServerCall, ServerResult};
use crate::chat::{Citation, Losses, ServerToolKind};
use crate::json::{At, Node, Writer};

/// Sources, statements and searches, gathered while an answer is written.
#[derive(Debug, Default)]
pub struct Grounding {
    chunks: Vec<Chunk>,
    /// Places of the chunks by their addresses.
    known: HashMap<String, usize>,
    supports: Vec<Support>,
    queries: Vec<String>,
}

#[derive(Debug)]
struct Chunk {
    url: Option<String>,
    title: Option<String>,
    text: Option<String>,
}

#[derive(Debug)]
struct Support {
    chunk: usize,
    part: usize,
    start: usize,
    end: usize,
    text: String,
}

// === impl Grounding ===

impl Grounding {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.queries.is_empty()
    }

    /// What a text of the answer rests on. The text is the `part`th part and begins at `offset`.
    pub fn rests(&mut self, citation: &Citation<'_>, text: &str, part: usize, offset: usize, losses: &mut Losses) {
        let Citation { url, title, cited_text, document, file_id, source_span, text_span, native: _ } = citation;
        if document.is_some() || file_id.is_some() || source_span.is_some() {
            losses.changed(At::NOWHERE, "citations");
        }
        // a page of the web is told by its address alone
        if url.is_some() && cited_text.is_some() {
            losses.dropped(At::NOWHERE, "citations.cited_text");
        }
        let own = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
        let chunk = self.chunk(Chunk { url: own(url), title: own(title), text: own(cited_text) });
        // without a place it is of the whole text
        let (start, end) = match text_span {
            Some((from, to)) => (byte_of(text, *from), byte_of(text, *to)),
            None => (0, text.len()),
        };
        let said = text.get(start..end).unwrap_or_default().to_owned();
        self.supports.push(Support { chunk, part, start: offset + start, end: offset + end.max(start), text: said });
    }

    /// A search; whether it was one.
    pub fn called(&mut self, call: &ServerCall<'_>) -> bool {
        let input = Node::parse(call.input.as_bytes()).ok();
        let query =
            input.as_ref().and_then(Node::as_object).and_then(|input| input.get("query")).and_then(Node::as_str);
        if let (ServerToolKind::WebSearch, Some(query)) = (call.tool, query) {
            self.queries.push(query.to_owned());
        }
        call.tool == ServerToolKind::WebSearch
    }

    /// What a search found.
    pub fn found(&mut self, result: &ServerResult<'_>) -> bool {
        if result.tool != ServerToolKind::WebSearch {
            return false;
        }
        for (url, title) in &result.sources {
            self.chunk(Chunk { url: Some(url.to_string()), title: title.as_deref().map(str::to_owned), text: None });
        }
        true
    }

    fn chunk(&mut self, chunk: Chunk) -> usize {
        let next = self.chunks.len();
        if let Some(url) = &chunk.url {
            let place = *self.known.entry(url.clone()).or_insert(next);
            if place != next {
                return place;
            }
        }
        self.chunks.push(chunk);
        next
    }

    pub fn write(&self, w: &mut Writer<'_>) {
        w.object();
        w.name("groundingChunks").array();
        for Chunk { url, title, text } in &self.chunks {
            w.object();
            // pages of the web, or documents of the request
            w.name(if url.is_some() { "web" } else { "retrievedContext" }).object();
            w.string_if("uri", url.as_deref());
            w.string_if("title", title.as_deref());
            w.string_if("text", text.as_deref().filter(|_| url.is_none()));
            w.end_object();
            w.end_object();
        }
        w.end_array();
        w.name("groundingSupports").array();
        for Support { chunk, part, start, end, text } in &self.supports {
            w.object();
            w.name("segment").object();
            w.number_if("partIndex", (*part > 0).then_some(*part as u64));
            w.number_if("startIndex", (*start > 0).then_some(*start as u64));
            w.name("endIndex").number(*end as u64);
            w.name("text").string(text);
            w.end_object();
            w.name("groundingChunkIndices").array();
            w.number(*chunk as u64);
            w.end_array();
            w.end_object();
        }
        w.end_array();
        if !self.queries.is_empty() {
            w.name("webSearchQueries").array();
            for query in &self.queries {
                w.string(query);
            }
            w.end_array();
        }
        w.end_object();
    }
}

/// Google counts bytes.
fn byte_of(text: &str, character: u64) -> usize {
    let character = usize::try_from(character).unwrap_or(usize::MAX);
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_become_bytes_and_a_source_stands_once() {
        let mut grounding = Grounding::default();
        let mut losses = Losses::default();
        let citation = |span| Citation { url: Some("https://a".into()), text_span: span, ..Citation::default() };
        grounding.rests(&citation(Some((6, 8))), "It is 3° warm", 1, 0, &mut losses);
        grounding.rests(&citation(None), "°", 0, 2, &mut losses);
        let mut out = Vec::new();
        grounding.write(&mut Writer::new(&mut out));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"groundingChunks":[{"web":{"uri":"https://a"}}],"groundingSupports":[{"segment":{"partIndex":1,"startIndex":6,"endIndex":9,"text":"3°"},"groundingChunkIndices":[0]},{"segment":{"startIndex":2,"endIndex":4,"text":"°"},"groundingChunkIndices":[0]}]}"#
        );
        assert!(losses.is_empty());
    }
}
