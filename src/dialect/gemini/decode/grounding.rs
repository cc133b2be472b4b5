//! What an answer rests on: `groundingMetadata` and `citationMetadata` as citations and searches.
//!
//! Google measures in bytes of a part's UTF-8, the bridge in characters. Which part is seldom said and sometimes miscounted (parts of
//! thoughts and tools are left out), so a place is believed only where the words are found.

use std::borrow::Cow;

use crate::chat::block::{ServerCall, ServerResult};
use crate::chat::{Block, Citation, ServerToolKind};
use crate::json::{At, Members, Node, Writer};

/// Most statements that are looked up: each costs a pass over the text. The rest stays in the metadata itself.
const MOST: usize = 512;

/// Citations, each with the index of the text it belongs to.
pub type Cited<'a> = Vec<(usize, Citation<'a>)>;

/// One thing that was found: address, title, words.
#[derive(Clone)]
struct Chunk<'a> {
    url: Option<Cow<'a, str>>,
    title: Option<Cow<'a, str>>,
    text: Option<Cow<'a, str>>,
}

/// The citations of `groundingMetadata`.
pub fn grounded<'a>(metadata: &Node<'a>, texts: &[&str]) -> Cited<'a> {
    let Some(metadata) = metadata.as_object() else { return Vec::new() };
    let chunks: Vec<Chunk<'a>> = list(metadata, "groundingChunks").iter().map(chunk).collect();
    let supports = list(metadata, "groundingSupports");
    let Some(last) = texts.len().checked_sub(1) else { return Vec::new() };
    if supports.is_empty() {
        return chunks.into_iter().take(MOST).map(|chunk| (last, cite(&chunk, None))).collect();
    }
    let mut cited = Vec::new();
    for support in supports.iter().take(MOST).filter_map(Node::as_object) {
        let place = support.get("segment").and_then(Node::as_object).and_then(|segment| place(segment, texts));
        let (text, span) = place.map_or((last, None), |(text, span)| (text, Some(span)));
        for index in list(support, "groundingChunkIndices").iter().filter_map(Node::as_u64) {
            if let Some(chunk) = usize::try_from(index).ok().and_then(|index| chunks.get(index)) {
                cited.push((text, cite(chunk, span)));
            }
        }
    }
    cited
}

/// The citations of `citationMetadata`: passages that stand elsewhere word by word.
pub fn recited<'a>(metadata: &Node<'a>, texts: &[&str]) -> Cited<'a> {
    let Some(metadata) = metadata.as_object() else { return Vec::new() };
    let Some(last) = texts.len().checked_sub(1) else { return Vec::new() };
    let sources = match list(metadata, "citations") {
        [] => list(metadata, "citationSources"),
        citations => citations,
    };
    let sources = sources.iter().take(MOST).filter_map(Node::as_object);
    sources
        .map(|source| {
            let (text, span) = place(source, texts).map_or((last, None), |(text, span)| (text, Some(span)));
            (text, cite(&Chunk { url: string(source, "uri"), title: string(source, "title"), text: None }, span))
        })
        .collect()
}

/// What was searched for. Empty queries stand beside real ones.
pub fn queries(metadata: &Node<'_>) -> u32 {
    let queries = metadata.as_object().map(|metadata| list(metadata, "webSearchQueries")).unwrap_or_default();
    let asked = queries.iter().filter_map(Node::as_str).filter(|query| !query.is_empty()).count();
    u32::try_from(asked).unwrap_or(u32::MAX)
}

/// Searches as blocks: the calls, and what they found with the last.
pub fn searches<'a>(metadata: &Node<'a>, mut id: impl FnMut() -> String) -> Vec<Block<'a>> {
    let Some(members) = metadata.as_object() else { return Vec::new() };
    let (tool, at) = (ServerToolKind::WebSearch, At::NOWHERE);
    let mut blocks = Vec::new();
    let mut last = None;
    for query in list(members, "webSearchQueries").iter().filter_map(Node::as_str).filter(|query| !query.is_empty()) {
        let id = id();
        last = Some(id.clone());
        let mut input = Vec::with_capacity(query.len() + 16);
        let mut w = Writer::new(&mut input);
        w.object();
        w.name("query").string(query);
        w.end_object();
        let input = String::from_utf8(input).map_or(Cow::Borrowed("{}"), Cow::Owned);
        let (id, name) = (Cow::Owned(id), Cow::Borrowed("web_search"));
        blocks.push(Block::ServerCall(ServerCall { id, tool, name, input, native: None, at }));
    }
    if let Some(id) = last {
        let chunks = list(members, "groundingChunks").iter().map(chunk);
        let sources = chunks.filter_map(|chunk| Some((chunk.url?, chunk.title))).collect();
        let id = Cow::Owned(id);
        blocks.push(Block::ServerResult(ServerResult { id, tool, sources, output: None, native: None, at }));
    }
    blocks
}

fn chunk<'a>(node: &Node<'a>) -> Chunk<'a> {
    // `web`, `retrievedContext`, `maps`, `image`: the one member there is
    let kinds = node.as_object().into_iter().flat_map(Members::iter);
    let found = kinds.filter_map(|(_, node)| node.as_object()).next();
    let get = |name| found.and_then(|found| string(found, name));
    Chunk { url: get("uri").or(get("sourceUri")), title: get("title"), text: get("text") }
}

fn cite<'a>(chunk: &Chunk<'a>, span: Option<(u64, u64)>) -> Citation<'a> {
    let Chunk { url, title, text } = chunk.clone();
    Citation { url, title, cited_text: text, text_span: span, ..Citation::default() }
}

/// Which text a segment is of, and from which character to which.
fn place(segment: &Members<'_>, texts: &[&str]) -> Option<(usize, (u64, u64))> {
    let index = |name| segment.get(name).and_then(Node::as_u64).and_then(|index| usize::try_from(index).ok());
    let (start, end) = (index("startIndex").unwrap_or(0), index("endIndex"));
    let words = segment.get("text").and_then(Node::as_str);
    let said = |text: &&str| end.is_some_and(|end| text.get(start..end).is_some_and(|t| words.is_none_or(|w| w == t)));
    if let (Some(at), Some(end)) = (texts.iter().position(said), end) {
        return Some((at, characters(texts.get(at)?, start, end)));
    }
    let words = words.filter(|words| !words.is_empty())?;
    let (at, start) = texts.iter().enumerate().find_map(|(at, text)| Some((at, text.find(words)?)))?;
    Some((at, characters(texts.get(at)?, start, start + words.len())))
}

fn characters(text: &str, start: usize, end: usize) -> (u64, u64) {
    let count = |text: Option<&str>| text.map_or(0, |text| text.chars().count() as u64);
    let before = count(text.get(..start));
    (before, before + count(text.get(start..end)))
}

fn list<'n, 'a>(members: &'n Members<'a>, name: &str) -> &'n [Node<'a>] {
    members.get(name).and_then(Node::as_array).unwrap_or_default()
}

fn string<'a>(members: &Members<'a>, name: &str) -> Option<Cow<'a, str>> {
    members.get(name).cloned().and_then(|node| node.string().ok()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Node<'_> {
        Node::parse(text.as_bytes()).unwrap()
    }

    const CHUNKS: &str = r#""groundingChunks":[{"web":{"uri":"https://a","title":"A"}},{"retrievedContext":{"text":"words","title":"B"}}]"#;

    #[test]
    fn bytes_become_characters_of_the_text_they_are_in() {
        let metadata = format!(
            r#"{{{CHUNKS},"groundingSupports":[{{"segment":{{"startIndex":6,"endIndex":9,"text":"3°"}},"groundingChunkIndices":[0,1,7]}},
            {{"segment":{{"startIndex":900,"endIndex":999,"text":"warm"}},"groundingChunkIndices":[0]}}]}}"#
        );
        let cited = grounded(&node(&metadata), &["thinking", "It is 3° warm"]);
        let spans: Vec<_> = cited.iter().map(|(text, c)| (*text, c.url.as_deref(), c.text_span)).collect();
        assert_eq!(
            spans,
            [(1, Some("https://a"), Some((6, 8))), (1, None, Some((6, 8))), (1, Some("https://a"), Some((9, 13)))]
        );
        assert_eq!(cited[1].1.cited_text.as_deref(), Some("words"));
    }

    #[test]
    fn sources_without_a_place_are_of_the_whole() {
        let metadata = format!("{{{CHUNKS}}}");
        let cited = grounded(&node(&metadata), &["x"]);
        assert_eq!(cited.iter().map(|(_, c)| c.text_span).collect::<Vec<_>>(), [None, None]);
        assert!(grounded(&node("{}"), &["x"]).is_empty() && grounded(&node(&metadata), &[]).is_empty());
    }

    #[test]
    fn recitations_of_both_apis_are_read() {
        for name in ["citations", "citationSources"] {
            let metadata =
                format!(r#"{{"{name}":[{{"startIndex":1,"endIndex":3,"uri":"https://c","license":"mit"}}]}}"#);
            let cited = recited(&node(&metadata), &["abcd"]);
            assert_eq!(cited[0].1.text_span, Some((1, 3)));
        }
    }
}
