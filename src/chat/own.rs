//! Copies that borrow from nothing.

use std::borrow::Cow;

use super::block::{Native, Refusal, ServerCall, ServerResult};
use super::{
    Block, Citation, Extra, ExtraMember, Logprob, Media, Seal, Source, Text, Thinking, Thought, ToolCall, ToolResult,
};

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

impl Block<'_> {
    pub fn into_owned(self) -> Block<'static> {
        match self {
            Block::Text(b) => Block::Text(Text {
                text: own(b.text),
                citations: b.citations.into_iter().map(Citation::into_owned).collect(),
                cache: b.cache,
                seal: b.seal.map(Seal::into_owned),
                at: b.at,
                extra: b.extra.into_owned(),
            }),
            Block::Media(b) => Block::Media(Media {
                kind: b.kind,
                source: b.source.into_owned(),
                name: b.name.map(own),
                context: b.context.map(own),
                detail: b.detail.map(own),
                citations: b.citations,
                cache: b.cache,
                seal: b.seal.map(Seal::into_owned),
                at: b.at,
                extra: b.extra.into_owned(),
            }),
            Block::Thinking(b) => Block::Thinking(Thinking {
                thoughts: b.thoughts.into_iter().map(|t| Thought { text: own(t.text), summary: t.summary }).collect(),
                seal: b.seal.map(Seal::into_owned),
                redacted: b.redacted,
                id: b.id.map(own),
                at: b.at,
                extra: b.extra.into_owned(),
            }),
            Block::ToolCall(b) => Block::ToolCall(ToolCall {
                id: own(b.id),
                name: own(b.name),
                kind: b.kind,
                arguments: own(b.arguments),
                cache: b.cache,
                seal: b.seal.map(Seal::into_owned),
                item_id: b.item_id.map(own),
                at: b.at,
                extra: b.extra.into_owned(),
            }),
            Block::ToolResult(b) => Block::ToolResult(ToolResult {
                id: own(b.id),
                name: b.name.map(own),
                kind: b.kind,
                blocks: b.blocks.into_iter().map(Block::into_owned).collect(),
                error: b.error,
                cache: b.cache,
                at: b.at,
                extra: b.extra.into_owned(),
            }),
            Block::Refusal(b) => Block::Refusal(Refusal { text: own(b.text), at: b.at }),
            Block::ServerCall(b) => Block::ServerCall(ServerCall {
                id: own(b.id),
                tool: b.tool,
                name: own(b.name),
                input: own(b.input),
                native: b.native.map(|(dialect, json)| (dialect, own(json))),
                at: b.at,
            }),
            Block::ServerResult(b) => Block::ServerResult(ServerResult {
                id: own(b.id),
                tool: b.tool,
                sources: b.sources.into_iter().map(|(url, title)| (own(url), title.map(own))).collect(),
                output: b.output.map(own),
                native: b.native.map(|(dialect, json)| (dialect, own(json))),
                at: b.at,
            }),
            Block::Native(b) => {
                Block::Native(Native { dialect: b.dialect, kind: own(b.kind), json: own(b.json), at: b.at })
            }
        }
    }
}

impl Source<'_> {
    pub fn into_owned(self) -> Source<'static> {
        match self {
            Source::Url { url, media_type } => Source::Url { url: own(url), media_type: media_type.map(own) },
            Source::Base64 { media_type, data } => Source::Base64 { media_type: own(media_type), data: own(data) },
            Source::Text { media_type, text } => Source::Text { media_type: own(media_type), text: own(text) },
            Source::Blocks(blocks) => Source::Blocks(blocks.into_iter().map(Block::into_owned).collect()),
            Source::File { id, dialect, media_type } => {
                Source::File { id: own(id), dialect, media_type: media_type.map(own) }
            }
        }
    }
}

impl Citation<'_> {
    pub fn into_owned(self) -> Citation<'static> {
        Citation {
            url: self.url.map(own),
            title: self.title.map(own),
            cited_text: self.cited_text.map(own),
            document: self.document,
            file_id: self.file_id.map(own),
            source_span: self.source_span,
            text_span: self.text_span,
            native: self.native.map(|(dialect, json)| (dialect, own(json))),
        }
    }
}

impl Logprob<'_> {
    pub fn into_owned(self) -> Logprob<'static> {
        Logprob {
            token: own(self.token),
            logprob: own(self.logprob),
            bytes: self.bytes.map(own),
            top: self.top.into_iter().map(Logprob::into_owned).collect(),
        }
    }
}

impl Seal<'_> {
    pub fn into_owned(self) -> Seal<'static> {
        Seal { issuer: self.issuer, raw: own(self.raw) }
    }
}

impl Extra<'_> {
    pub fn into_owned(self) -> Extra<'static> {
        Extra(self.0.into_iter().map(|m| ExtraMember { name: own(m.name), json: own(m.json), at: m.at }).collect())
    }
}
