//! Citations: what a piece of an answer rests on.
//!
//! Truth: Anthropic API reference, `TextCitation` (char, page, content block, web search result and search result locations).

use std::borrow::Cow;

use crate::chat::block::SourceSpan;
use crate::chat::{Citation, Dialect};
use crate::json::{Node, Writer};

/// Read one. Of a kind that is not known, only the text it was written in is kept.
pub(super) fn read<'a>(node: Node<'a>) -> Option<Citation<'a>> {
    let mut citation = Citation { native: Some((Dialect::Anthropic, Cow::Borrowed(node.raw))), ..Citation::default() };
    let mut m = node.object().ok()?;
    let mut text = |name: &str| m.take_string(name).ok().flatten();
    let kind = text("type").unwrap_or_default();
    citation.cited_text = text("cited_text").filter(|text| !text.is_empty());
    citation.title = text("document_title").or_else(|| text("title"));
    citation.file_id = text("file_id");
    citation.url = text("url").or_else(|| text("source").filter(|source| source.starts_with("http")));
    if kind == "web_search_result_location" && text("encrypted_index").is_none_or(|index| index.is_empty()) {
        // written by a gateway for an answer that was not Claude's: no provider takes it back
        citation.native = None;
    }
    let mut number = |name: &str| m.take_u64(name).ok().flatten();
    citation.document = number("document_index");
    citation.source_span = match &*kind {
        "char_location" => number("start_char_index").zip(number("end_char_index")).map(span(SourceSpan::Chars)),
        "page_location" => number("start_page_number").zip(number("end_page_number")).map(span(SourceSpan::Pages)),
        "content_block_location" | "search_result_location" => {
            number("start_block_index").zip(number("end_block_index")).map(span(SourceSpan::Blocks))
        }
        _ => None,
    };
    Some(citation)
}

fn span(make: fn(u64, u64) -> SourceSpan) -> impl Fn((u64, u64)) -> SourceSpan {
    move |(from, to)| make(from, to)
}

/// As Anthropic wrote it. `None`: it did not write this one.
pub(super) fn native<'c>(citation: &'c Citation<'_>) -> Option<&'c str> {
    match &citation.native {
        Some((Dialect::Anthropic, json)) => Some(json),
        _ => None,
    }
}

/// Write one for a client. `false`: there is no form for it.
pub(super) fn write(w: &mut Writer<'_>, citation: &Citation<'_>) -> bool {
    if let Some(json) = native(citation) {
        w.raw(json);
        return true;
    }
    let Citation { url, title, cited_text, document, file_id, source_span, text_span: _, native: _ } = citation;
    let cited = cited_text.as_deref().unwrap_or_default();
    if let Some(url) = url {
        w.object();
        w.name("type").string("web_search_result_location");
        w.name("cited_text").string(cited);
        w.name("url").string(url);
        w.name("title");
        match title {
            Some(title) => w.string(title),
            None => w.null(),
        }
        w.name("encrypted_index").string("");
        w.end_object();
        return true;
    }
    let Some(span) = source_span else { return false };
    let (kind, [from, to], [start, end]) = match *span {
        SourceSpan::Chars(from, to) => ("char_location", ["start_char_index", "end_char_index"], [from, to]),
        SourceSpan::Pages(from, to) => ("page_location", ["start_page_number", "end_page_number"], [from, to]),
        SourceSpan::Blocks(from, to) => {
            ("content_block_location", ["start_block_index", "end_block_index"], [from, to])
        }
    };
    w.object();
    w.name("type").string(kind);
    w.name("cited_text").string(cited);
    w.name("document_index").number(document.unwrap_or(0));
    w.name("document_title");
    match title {
        Some(title) => w.string(title),
        None => w.null(),
    }
    w.name(from).number(start);
    w.name(to).number(end);
    w.string_if("file_id", file_id.as_deref());
    w.end_object();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_and_written_as_it_was() {
        for (json, expected) in [
            (
                r#"{"type":"char_location","cited_text":"x","document_index":1,"document_title":"T","start_char_index":2,"end_char_index":5}"#,
                Citation { document: Some(1), source_span: Some(SourceSpan::Chars(2, 5)), ..Citation::default() },
            ),
            (
                r#"{"type":"page_location","cited_text":"x","document_index":0,"document_title":"T","start_page_number":1,"end_page_number":2}"#,
                Citation { document: Some(0), source_span: Some(SourceSpan::Pages(1, 2)), ..Citation::default() },
            ),
            (
                r#"{"type":"search_result_location","cited_text":"x","source":"https://e.test","title":"T","search_result_index":0,"start_block_index":0,"end_block_index":1}"#,
                Citation {
                    url: Some("https://e.test".into()),
                    source_span: Some(SourceSpan::Blocks(0, 1)),
                    ..Citation::default()
                },
            ),
            (
                r#"{"type":"web_search_result_location","cited_text":"x","url":"https://e.test","title":"T","encrypted_index":"E"}"#,
                Citation { url: Some("https://e.test".into()), ..Citation::default() },
            ),
        ] {
            let citation = read(Node::parse(json.as_bytes()).unwrap()).unwrap();
            let expected = Citation {
                cited_text: Some("x".into()),
                title: Some("T".into()),
                native: Some((Dialect::Anthropic, json.into())),
                ..expected
            };
            assert_eq!(citation, expected);
            let mut out = Vec::new();
            assert!(write(&mut Writer::new(&mut out), &citation));
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }

    #[test]
    fn a_page_found_by_another_provider_is_not_sent_back_as_anthropic_s() {
        let citation = Citation { url: Some("https://e.test".into()), ..Citation::default() };
        let mut out = Vec::new();
        assert!(write(&mut Writer::new(&mut out), &citation));
        let again = read(Node::parse(&out).unwrap()).unwrap();
        assert_eq!(again, citation);
        assert!(!write(&mut Writer::new(&mut Vec::new()), &Citation::default()));
    }
}
