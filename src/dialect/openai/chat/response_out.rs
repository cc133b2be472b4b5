//! A chat completion, written for a client.
//!
//! Has every member the official SDKs' models require, `null` ones included.

use std::borrow::Cow;

use super::finish::{self, Held};
use super::{annotations, message_in, reasoning, rest, turns_in};
use crate::chat::{
    Block, Choice, Dialect, Losses, Media, MediaKind, Response, Source, Stop, StopReason, Text, Thinking, ToolCall,
};
use crate::dialect::openai::usage;
use crate::dialect::{Encoded, ReplyTo};
use crate::json::{At, Writer};

/// How long a client may refer to a spoken answer, where no provider said: an hour, as OpenAI's.
pub(super) const AUDIO_KEPT: u64 = 3_600;

pub(super) fn write(response: &Response<'_>, to: &ReplyTo<'_>) -> Encoded {
    let Response { dialect, id, model, created, choices, usage, service_tier, extra } = response;
    let mut body = Vec::with_capacity(1024);
    let mut losses = Losses::default();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("id").string(id.as_deref().unwrap_or(to.id));
    w.name("object").string("chat.completion");
    w.name("created").number(created.unwrap_or(to.created));
    w.name("model").string(model.as_deref().unwrap_or(to.model));
    w.name("choices").array();
    for (index, choice) in (0..).zip(choices) {
        Answer { from: *dialect, to, losses: &mut losses }.choice(&mut w, index, choice);
    }
    w.end_array();
    if let Some(usage) = usage {
        let left = extra.get("usage").filter(|_| *dialect == Dialect::OpenAiChat);
        w.name("usage");
        usage::write(&mut w, usage, left.map(|m| &*m.json));
    }
    let served = service_tier.as_deref().and_then(tier);
    if served.is_none() && service_tier.is_some() {
        losses.dropped(At::NOWHERE, "service_tier");
    }
    w.string_if("service_tier", served);
    rest::write(&mut w, extra, *dialect, &["usage"], &mut losses);
    w.end_object();
    Encoded { body, losses }
}

/// The tier that served, in words the official SDKs' models know.
pub(super) fn tier(word: &str) -> Option<&str> {
    match word {
        "auto" | "default" | "flex" | "scale" | "priority" => Some(word),
        "standard" => Some("default"),
        _ => None,
    }
}

struct Answer<'a> {
    from: Dialect,
    to: &'a ReplyTo<'a>,
    losses: &'a mut Losses,
}

/// The blocks of a choice, by where they go.
#[derive(Default)]
struct Sorted<'b> {
    texts: Vec<&'b Text<'b>>,
    refusal: Option<Cow<'b, str>>,
    thinking: Vec<Cow<'b, Thinking<'b>>>,
    calls: Vec<&'b ToolCall<'b>>,
    images: Vec<&'b Media<'b>>,
    audio: Option<&'b Media<'b>>,
}

// === impl Answer ===

impl Answer<'_> {
    fn choice(&mut self, w: &mut Writer<'_>, index: u64, choice: &Choice<'_>) {
        let Choice { blocks, stop, logprobs, extra } = choice;
        let sorted = self.sorted(blocks, stop.as_ref());
        let held = Held { calls: !sorted.calls.is_empty(), refusal: sorted.refusal.is_some() };
        w.object();
        w.name("index").number(index);
        w.name("message").object();
        self.message(w, &sorted);
        rest::merge(w, extra, self.from, "message");
        w.end_object();
        w.name("logprobs");
        match extra.get("logprobs").filter(|_| logprobs.is_empty() && self.from == Dialect::OpenAiChat) {
            Some(kept) => w.raw(&kept.json),
            None => annotations::write_logprobs(w, logprobs, sorted.texts.is_empty() && held.refusal),
        }
        let end = Stop::new(StopReason::End);
        let stop = stop.as_ref().unwrap_or(&end);
        let Stop { reason, sequence, detail } = stop;
        if sequence.is_some() {
            self.losses.dropped(At::NOWHERE, "stop_sequence");
        }
        // a refusal's words stand in its place
        let told = *reason == StopReason::Refusal && !blocks.iter().any(|block| matches!(block, Block::Refusal(_)));
        if detail.is_some() && !told {
            self.losses.dropped(At::NOWHERE, "stop_detail");
        }
        let native = self.finish_reason(w, stop, held).filter(|_| extra.get("native_finish_reason").is_none());
        w.string_if("native_finish_reason", native);
        rest::write(w, extra, self.from, &["message", "logprobs"], self.losses);
        w.end_object();
    }

    /// Writes OpenAI's word; the provider's own is given back, where that is another.
    fn finish_reason<'s>(&mut self, w: &mut Writer<'_>, stop: &'s Stop<'_>, held: Held) -> Option<&'s str> {
        let (word, said) = finish::word(&stop.reason, held);
        if !said {
            self.losses.changed(At::NOWHERE, "stop_reason");
        }
        w.name("finish_reason").string(word);
        match &stop.reason {
            StopReason::Other(word) => Some(word),
            StopReason::End
            | StopReason::Length
            | StopReason::Sequence
            | StopReason::ToolUse
            | StopReason::ContentFilter
            | StopReason::Refusal
            | StopReason::Pause
            | StopReason::ContextWindow
            | StopReason::MalformedCall => None,
        }
    }

    fn sorted<'b>(&mut self, blocks: &'b [Block<'b>], stop: Option<&'b Stop<'b>>) -> Sorted<'b> {
        let mut sorted = Sorted::default();
        for block in blocks {
            sorted.thinking.extend(reasoning::of_block(block));
            self.beside(block);
            match block {
                Block::Text(text) => sorted.texts.push(text),
                Block::Refusal(refusal) => sorted.refusal.get_or_insert_default().to_mut().push_str(&refusal.text),
                Block::Thinking(_) => {}
                Block::ToolCall(call) => sorted.calls.push(call),
                Block::Media(media) if media.kind == MediaKind::Image => sorted.images.push(media),
                Block::Media(media) if media.kind == MediaKind::Audio && sorted.audio.is_none() => {
                    sorted.audio = Some(media);
                }
                Block::Media(_)
                | Block::ToolResult(_)
                | Block::ServerCall(_)
                | Block::ServerResult(_)
                | Block::Native(_) => self.losses.dropped(block.at(), ""),
            }
        }
        if sorted.refusal.is_none()
            && let Some(Stop { reason: StopReason::Refusal, sequence: _, detail: Some(detail) }) = stop
        {
            sorted.refusal = Some(Cow::Borrowed(detail));
        }
        sorted
    }

    /// What stands beside a block and has no place in a message.
    fn beside(&mut self, block: &Block<'_>) {
        match block {
            Block::Text(Text { extra, .. }) | Block::Thinking(Thinking { extra, .. }) => self.losses.extra(extra),
            // of a spoken answer in this dialect they have one
            Block::Media(media) if self.from != Dialect::OpenAiChat => self.losses.extra(&media.extra),
            Block::Media(_)
            | Block::ToolCall(_)
            | Block::ToolResult(_)
            | Block::Refusal(_)
            | Block::ServerCall(_)
            | Block::ServerResult(_)
            | Block::Native(_) => {}
        }
    }

    fn message(&mut self, w: &mut Writer<'_>, sorted: &Sorted<'_>) {
        let Sorted { texts, refusal, thinking, calls, images, audio } = sorted;
        w.name("role").string("assistant");
        w.name("content");
        let pieces: Vec<&str> = texts.iter().map(|text| &*text.text).collect();
        if texts.is_empty() && (refusal.is_some() || !calls.is_empty() || audio.is_some()) {
            w.null();
        } else {
            w.strings(&pieces);
        }
        w.name("refusal");
        match refusal {
            Some(text) => w.string(text),
            None => w.null(),
        }
        self.annotations(w, texts);
        let shown = thinking.iter().map(|thinking| &**thinking);
        w.string_if("reasoning_content", reasoning::joined(shown).as_deref());
        if thinking.iter().any(|thinking| thinking.seal.is_some()) {
            w.name("reasoning_details").array();
            for (index, thinking) in (0..).zip(thinking) {
                reasoning::write_details(w, thinking, index);
            }
            w.end_array();
        }
        self.images(w, images);
        if let Some(media) = audio {
            self.audio(w, media);
        }
        self.calls(w, calls);
    }

    fn annotations(&mut self, w: &mut Writer<'_>, texts: &[&Text<'_>]) {
        let mut at = 0;
        let mut open = false;
        for text in texts {
            let end = at + message_in::characters(text);
            for citation in &text.citations {
                if !annotations::is_said(citation) {
                    self.losses.dropped(text.at, "citations");
                    continue;
                }
                if !open {
                    w.name("annotations").array();
                    open = true;
                }
                annotations::write(w, citation, (at, end), None);
            }
            at = end;
        }
        if open {
            w.end_array();
        }
    }

    fn images(&mut self, w: &mut Writer<'_>, images: &[&Media<'_>]) {
        let told = |media: &&&Media<'_>| matches!(media.source, Source::Url { .. } | Source::Base64 { .. });
        for media in images.iter().filter(|media| !told(media)) {
            self.losses.dropped(media.at, "");
        }
        if !images.iter().any(|media| told(&media)) {
            return;
        }
        w.name("images").array();
        for (index, media) in (0..).zip(images.iter().filter(told)) {
            image(w, media, index);
        }
        w.end_array();
    }

    fn audio(&mut self, w: &mut Writer<'_>, media: &Media<'_>) {
        let Source::Base64 { media_type: _, data } = &media.source else {
            self.losses.dropped(media.at, "");
            return;
        };
        let own = |name| media.extra.get(name).filter(|_| self.from == Dialect::OpenAiChat).map(|m| &*m.json);
        w.name("audio").object();
        match own("id") {
            Some(id) => w.name("id").raw(id),
            None => w.name("id").strings(&["audio_", self.to.id]),
        }
        w.name("data").string(data);
        match own("expires_at") {
            Some(time) => w.name("expires_at").raw(time),
            None => w.name("expires_at").number(self.to.created.saturating_add(AUDIO_KEPT)),
        }
        w.name("transcript").raw(own("transcript").unwrap_or("\"\""));
        w.end_object();
    }

    fn calls(&mut self, w: &mut Writer<'_>, calls: &[&ToolCall<'_>]) {
        if calls.is_empty() {
            return;
        }
        w.name("tool_calls").array();
        for call in calls {
            // marks are for requests, an item's id for items
            let ToolCall { id, name, kind, arguments, cache: _, seal, item_id: _, at: _, extra } = call;
            let (inner, member) = turns_in::inner_names(*kind);
            w.object();
            w.name("id").string(id);
            w.name("type").string(inner);
            w.name(inner).object();
            w.name("name").string(name);
            w.name(member).string(if arguments.is_empty() && inner == "function" { "{}" } else { arguments });
            w.end_object();
            if let Some(seal) = seal {
                reasoning::write_google_seal(w, seal);
            }
            rest::write(w, extra, self.from, &[], self.losses);
            w.end_object();
        }
        w.end_array();
    }
}

/// `{"type":"image_url","image_url":{"url"},"index"}`: OpenRouter's form of images a model made.
pub(super) fn image(w: &mut Writer<'_>, media: &Media<'_>, index: u64) {
    w.object();
    w.name("type").string("image_url");
    w.name("image_url").object();
    match &media.source {
        Source::Url { url, media_type: _ } => w.name("url").string(url),
        Source::Base64 { media_type, data } => w.name("url").strings(&["data:", media_type, ";base64,", data]),
        Source::Text { .. } | Source::Blocks(_) | Source::File { .. } => w.name("url").string(""),
    }
    w.end_object();
    w.name("index").number(index);
    w.end_object();
}
