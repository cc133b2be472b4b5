//! Answers of providers, whole, streamed or refused, said to every client.

use std::collections::HashSet;

use bytes::Bytes;

use super::{CLIENTS, REPLY, chosen, model_of, read, shown};
use crate::chat::{Block, Dialect, Event, Fold, Losses, Open, Request, Response, StopReason, unfold};
use crate::dialect::adapt::{Undo, adapt};
use crate::dialect::eventstream::{MessageKind, message};
use crate::dialect::undo::Undoing;
use crate::dialect::{
    self, Cutter, Framing, Garbled, Manners, Operation, Origin, ReplyTo, StreamForm, inbound, outbound,
};
use crate::error::{Error, Kind};
use crate::json::Node;

/// The first byte is the provider's dialect and, in rounds: a whole answer, a stream, both of a request that was adapted, an error. A
/// stream is written as server-sent events for every dialect; where messages of AWS are due it is put into such.
pub fn decode_response(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let (dialect, form) = chosen(*first, Dialect::ALL.len());
    let dialect = Dialect::ALL[dialect];
    match form % 5 {
        0 => whole(dialect, body, &Undo::default()),
        1 => stream(dialect, body, &Undo::default()),
        2 => whole(dialect, body, &undo()),
        3 => stream(dialect, body, &undo()),
        _ => refusal(dialect, body),
    }
}

/// What there is to undo for a request with a format, a custom tool and a name that is too long.
fn undo() -> Undo {
    let body = concat!(
        r#"{"messages":[],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"array"}}},"#,
        r#""tools":[{"type":"custom","custom":{"name":"get_weather"}},{"type":"function","function":{"name":"a.b"}}]}"#
    );
    let codec = inbound(Operation::ChatCompletions).expect("clients speak it");
    let mut request: Request<'_> =
        codec.decode_request(Node::parse(body.as_bytes()).expect("JSON")).expect("a request");
    let able = outbound(Dialect::Anthropic).abilities(model_of(Dialect::Anthropic, true), &Manners::default());
    let undo = adapt(&mut request, &able, &mut Losses::default());
    assert!(!undo.is_empty());
    undo
}

fn origin(dialect: Dialect) -> Origin<'static> {
    Origin { model: model_of(dialect, false) }
}

// === whole ===

fn whole(dialect: Dialect, body: &[u8], undo: &Undo) {
    for operation in Operation::ALL {
        let _ = dialect::usage_of(operation, body);
        let _ = dialect::usage_of_tail(operation, body);
    }
    let Ok(node) = Node::parse_reply(body) else { return };
    let Ok(mut response) = outbound(dialect).decode_response(node, &origin(dialect)) else { return };
    let mut fold = Fold::new(dialect);
    unfold(response.clone()).into_iter().for_each(|event| fold.push(event));
    assert!(fold.ended && fold.faults.is_empty(), "unfolded: {:?}", fold.faults);
    undo.response(&mut response);
    for client in CLIENTS {
        said_again(&response, client);
    }
    let completions = inbound(Operation::Completions).expect("clients speak it");
    read(&completions.encode_response(&response, &REPLY).body, "completions");
}

/// Written for a client, whole and as a stream, and read as that client would.
pub(super) fn said_again(response: &Response<'_>, client: Operation) {
    if nameless(response) {
        return;
    }
    let codec = inbound(client).expect("clients speak it");
    let encoded = codec.encode_response(response, &REPLY);
    let what = format!("{} to {client}", response.dialect);
    let node = read(&encoded.body, &what);
    let read = client.dialect().map(outbound).expect("a conversation").decode_response(node, &origin(response.dialect));
    let again = read.unwrap_or_else(|e| panic!("{what}: what we wrote is refused: {e:?}: {}", shown(&encoded.body)));
    same(response, &again, &format!("{what}, whole"), &encoded.body);

    let mut writing = Writing::new(client, StreamForm::Sse);
    unfold(response.clone()).into_iter().for_each(|event| writing.push(event));
    writing.check(&what);
    let fold = writing.read(&what);
    if let Some(error) = &fold.error {
        panic!("{what}: an error came out of an answer: {error}: {}", shown(&writing.out));
    }
    same(response, &fold.finish(), &format!("{what}, streamed"), &writing.out);
}

/// A call without a name is one in no dialect.
fn nameless(response: &Response<'_>) -> bool {
    let blocks = response.choices.iter().flat_map(|choice| &choice.blocks);
    blocks.into_iter().any(|block| matches!(block, Block::ToolCall(call) if call.name.is_empty()))
}

/// All text and all calls of the first answer are there again.
fn same(wanted: &Response<'_>, got: &Response<'_>, what: &str, body: &[u8]) {
    // what only its own dialect knows may be text there
    let mut blocks = wanted.choices.iter().flat_map(|choice| &choice.blocks);
    if wanted.choices.is_empty() || blocks.any(|block| matches!(block, Block::Native(_))) {
        return;
    }
    let (text, calls) = said_by(wanted);
    let (mut text_again, calls_again) = said_by(got);
    // what stands for media that the client's dialect has no place for
    for kind in ["image", "document", "audio", "video"] {
        let word = format!("[{kind} omitted]");
        if !text.contains(&word) {
            text_again = text_again.replace(&word, "");
        }
    }
    // a stop for which the client's dialect has no word is told in words
    let stop = wanted.choices.first().and_then(|choice| choice.stop.as_ref()).map(|stop| &stop.reason);
    if matches!(stop, Some(StopReason::Refusal | StopReason::ContentFilter)) && text_again.starts_with(&text) {
        text_again.clone_from(&text);
    }
    if text != text_again || calls != calls_again {
        panic!(
            "{what}:\n said {text:?} {calls:?}\n read {text_again:?} {calls_again:?}\n body {}\n of {wanted:?}",
            shown(body)
        );
    }
}

fn said_by(response: &Response<'_>) -> (String, Vec<(String, String)>) {
    let (mut text, mut calls) = (String::new(), Vec::new());
    for block in response.choices.first().map(|c| c.blocks.as_slice()).unwrap_or_default() {
        match block {
            Block::Text(block) => text.push_str(&block.text),
            // where there is no part for it, it is the answer's text
            Block::Refusal(block) => text.push_str(&block.text),
            // of calls that overlap each dialect has its own order
            Block::ToolCall(call) if !call.name.is_empty() => {
                calls.push((call.name.to_string(), arguments(&call.arguments)))
            }
            _ => {}
        }
    }
    calls.sort();
    (text, calls)
}

/// Arguments in a form in which two dialects can be compared: one that has objects only says what is none as the text of a member.
fn arguments(text: &str) -> String {
    let text = if matches!(text.trim(), "" | "null") { "{}" } else { text };
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return text.to_owned() };
    match value.as_object() {
        Some(members) if members.len() == 1 => {
            for name in ["INVALID_JSON", "input"] {
                if let Some(text) = members.get(name).and_then(|m| m.as_str()) {
                    return arguments(text);
                }
            }
        }
        _ => {}
    }
    value.to_string()
}

// === streamed ===

/// A client's stream as it is written.
struct Writing {
    client: Operation,
    encoder: Box<dyn dialect::StreamEncoder>,
    form: StreamForm,
    out: Vec<u8>,
    ended: bool,
    /// Why the answer ended was told.
    stopped: bool,
    /// There is more than one answer.
    several: bool,
}

impl Writing {
    fn new(client: Operation, form: StreamForm) -> Self {
        let codec = inbound(client).expect("clients speak it");
        Writing {
            client,
            encoder: codec.stream_encoder(&ReplyTo { form, ..REPLY }),
            form,
            out: Vec::new(),
            ended: false,
            stopped: false,
            several: false,
        }
    }

    fn push(&mut self, event: Event<'_>) {
        self.ended |= matches!(event, Event::End | Event::Error(_));
        match event {
            Event::Stop { choice: 0, .. } => self.stopped = true,
            Event::Open { choice: 1.., .. } | Event::Stop { choice: 1.., .. } => self.several = true,
            _ => {}
        }
        self.encoder.push(event, &mut self.out);
        let _ = self.encoder.losses();
    }

    /// What was written is frames of JSON, or one array.
    fn check(&self, what: &str) {
        if self.form == StreamForm::Array {
            if self.ended {
                read(&self.out, what);
            }
            return;
        }
        let whole = self.out.is_empty() || self.out.ends_with(b"\n\n") || self.out.ends_with(b"\r\n\r\n");
        assert!(whole, "{what}: {}", shown(&self.out));
        let cut = Cutter::new(Framing::Sse).push(Bytes::copy_from_slice(&self.out), |frame| {
            if frame.data != b"[DONE]" {
                read(frame.data, what);
            }
            Ok(())
        });
        assert_eq!(cut, Ok(()), "{what}");
    }

    /// As its client reads it.
    fn read(&self, what: &str) -> Fold {
        let dialect = self.client.dialect().expect("a conversation");
        let mut fold = Fold::new(dialect);
        let ended = events(dialect, &self.out, |event| fold.push(event));
        if fold.error.is_none() && self.stopped && !self.several {
            assert_eq!(ended, Ok(()), "{what}: {}", shown(&self.out));
        }
        assert!(fold.faults.is_empty(), "{what}: {:?}: {}", fold.faults, shown(&self.out));
        fold
    }
}

/// Each event of a stream, until it is garbled, ends or tells an error.
fn events(dialect: Dialect, body: &[u8], mut each: impl FnMut(Event<'_>)) -> Result<(), Garbled> {
    let codec = outbound(dialect);
    let mut decoder = codec.stream_decoder(&origin(dialect));
    let mut cutter = Cutter::new(codec.framing());
    let mut failed = false;
    let mut see = |frame: dialect::Frame<'_>| {
        if failed {
            return Ok(());
        }
        let mut events = Vec::new();
        let read = decoder.push(frame, &mut events);
        for event in events {
            failed |= matches!(event, Event::Error(_));
            each(event);
        }
        read
    };
    let cut = cutter.push(Bytes::copy_from_slice(body), &mut see).and_then(|()| cutter.finish(&mut see));
    cut?;
    if failed {
        return Ok(());
    }
    let mut rest = Vec::new();
    let ended = decoder.finish(&mut rest);
    rest.into_iter().for_each(each);
    ended
}

fn stream(dialect: Dialect, body: &[u8], undo: &Undo) {
    tapped(body);
    let body = match outbound(dialect).framing() {
        Framing::Sse => body.to_vec(),
        Framing::EventStream => enveloped(body),
    };
    let mut plain = Fold::new(dialect);
    let mut undone = Fold::new(dialect);
    let mut undoing = Undoing::new(undo.clone());
    let forms = [StreamForm::Sse, StreamForm::Array];
    let mut writings: Vec<Writing> =
        CLIENTS.into_iter().chain([Operation::Completions]).map(|client| Writing::new(client, forms[0])).collect();
    writings.push(Writing::new(Operation::GenerateContent, forms[1]));
    // of texts that overlap in time each client makes its own order
    let (mut texts, mut overlap) = (HashSet::new(), false);
    let mut tell = |event: Event<'_>| {
        match &event {
            Event::Open { choice: 0, block, open: Open::Text | Open::Refusal } => {
                overlap |= !texts.is_empty();
                texts.insert(*block);
            }
            Event::Close { choice: 0, block } => drop(texts.remove(block)),
            _ => {}
        }
        undone.push(own(&event));
        writings.iter_mut().for_each(|writing| writing.push(own(&event)));
    };
    let ended = events(dialect, &body, |event| {
        plain.push(own(&event));
        let mut out = Vec::new();
        undoing.push(event, &mut out);
        out.into_iter().for_each(&mut tell);
    });
    if ended.is_err() && plain.error.is_none() && !plain.ended {
        // as the gateway does
        tell(Event::Error(Error::new(Kind::UpstreamFailed, "The provider broke off the stream.")));
    } else {
        assert!(plain.ended || plain.error.is_some(), "neither an end nor an error: {}", shown(&body));
    }
    assert!(plain.faults.is_empty(), "{dialect}: {:?}: {}", plain.faults, shown(&body));
    assert!(undone.faults.is_empty(), "{dialect}, undone: {:?}: {}", undone.faults, shown(&body));
    let failed = undone.error.is_some();
    let said = undone.finish();
    let whole = !failed && !nameless(&said);
    for writing in &writings {
        let what = format!("{dialect} streamed to {}", writing.client);
        writing.check(&what);
        if whole && writing.form == StreamForm::Sse && writing.client != Operation::Completions {
            let fold = writing.read(&what);
            if !overlap {
                same(&said, &fold.finish(), &what, &writing.out);
            }
        }
    }
}

/// Server-sent events as messages of AWS, exceptions among them: their names begin with `!`.
fn enveloped(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = Cutter::new(Framing::Sse).push(Bytes::copy_from_slice(body), |frame| {
        let (name, kind) = match frame.name.strip_prefix('!') {
            Some(name) => (name, MessageKind::Exception),
            None => (frame.name, MessageKind::Event),
        };
        out.extend(message(name, kind, frame.data).into_iter().flatten());
        Ok(())
    });
    out
}

/// What only watches sees the same bytes.
fn tapped(body: &[u8]) {
    for operation in CLIENTS.into_iter().chain([Operation::Completions]) {
        for added_usage in [false, true] {
            let mut tap = dialect::tap(operation, added_usage);
            let mut frames = dialect::sse::Frames::default();
            let _ = frames.push(Bytes::copy_from_slice(body), |frame| {
                let _ = tap.see(frame);
            });
            let _ = (*tap.seen(), tap.broken(&Error::new(Kind::UpstreamFailed, "x")));
        }
    }
}

/// A copy that can be told to several.
fn own<'e>(event: &Event<'e>) -> Event<'e> {
    match event {
        Event::Start(start) => Event::Start(start.clone()),
        Event::Open { choice, block, open } => Event::Open { choice: *choice, block: *block, open: open.clone() },
        Event::Delta { choice, block, delta } => Event::Delta { choice: *choice, block: *block, delta: delta.clone() },
        Event::Close { choice, block } => Event::Close { choice: *choice, block: *block },
        Event::Stop { choice, stop } => Event::Stop { choice: *choice, stop: stop.clone() },
        Event::Usage(usage) => Event::Usage(*usage),
        Event::Extra { dialect, name, json } => {
            Event::Extra { dialect: *dialect, name: name.clone(), json: json.clone() }
        }
        Event::Ping => Event::Ping,
        Event::Error(error) => Event::Error(Error::new(error.kind, error.say.clone())),
        Event::End => Event::End,
    }
}

// === refused ===

fn refusal(dialect: Dialect, body: &[u8]) {
    for status in [400, 401, 404, 413, 429, 500, 529, 599] {
        let refusal = outbound(dialect).decode_error(status, body);
        let kind = Kind::UpstreamRefused { status, reason: refusal.reason, retry_after: refusal.retry_after };
        let mut error = Error::new(kind, refusal.message);
        error.param = refusal.param.map(Into::into);
        let _ = kind.retry_after();
        for client in CLIENTS {
            let (_, body) = dialect::error(client.grammar(), &error);
            read(&body, "an error");
            let mut writing = Writing::new(client, StreamForm::Sse);
            writing.push(Event::Error(Error::new(error.kind, error.say.clone())));
            writing.check("an error in a stream");
        }
    }
}
