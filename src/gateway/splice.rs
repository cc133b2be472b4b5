//! The splice lane: the reply is forwarded as it comes, with a tap beside it. First up to its first output, so that nothing has reached the
//! client when a target fails; then to its end.

use bytes::{Bytes, BytesMut};
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::attempt::{Beginning, Failed, How, Line, Seen, Whole};
use super::flow::{
    self, ERROR_LIMIT, Ended, HELD, Heartbeat, OpenStream, Pace, broken_head, read_chunk, read_chunk_alive, write,
};
use super::proxy::Shared;
use super::{billing, bridge, reply, task};
use crate::call::{Call, Lost};
use crate::chat::Usage;
use crate::config::policy::Disconnect;
use crate::config::snapshot::Provider;
use crate::dialect::openai;
use crate::dialect::sse::{self, Frames};
use crate::dialect::text::text_bytes;
use crate::dialect::{self, Operation, Outbound, StreamForm, Tap};
use crate::error::{Error, Kind, Refused, Result};
use crate::json::Object;
use crate::units::Tokens;
use crate::upstream::Reply;

/// A whole reply up to this size is kept until its usage is read; of a larger one only the tail.
const KEPT: usize = HELD;
const TAIL: usize = 16 * 1024;
/// Keeps proxies on the way from closing a silent stream; every SSE reader skips comments.
pub static HEARTBEAT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// A reply on its way that is too large to be held.
pub struct Passing {
    head: ResponseHeader,
    upstream: Reply,
    held: Vec<Bytes>,
    kept: Kept,
}

/// An event stream on its way.
pub struct Events {
    /// Until it is sent.
    head: Option<ResponseHeader>,
    upstream: Reply,
    tap: Box<dyn Tap>,
    frames: Frames,
    held: Vec<Bytes>,
    held_bytes: usize,
    /// The frames of one chunk; kept for its room.
    cut: Vec<Bytes>,
    /// The frame in which the provider told of an error.
    fault: Option<Bytes>,
    /// An event with an object has come.
    spoke: bool,
    /// The dialect has an event that nothing follows.
    marked: bool,
    /// And `[DONE]` may stand behind it.
    doubly: bool,
    /// An event came that nobody can read: behind what came before it, the stream is broken.
    unreadable: bool,
    /// The reply has ended.
    done: bool,
    /// Tokens of what came, by its size.
    output: Tokens,
}

/// Read a reply up to its first output.
pub async fn begin(
    line: &Line<'_>,
    reply: Reply,
    added_usage: bool,
    seen: &mut Seen,
) -> Result<Beginning, Box<Failed>> {
    match reply.status() {
        400..=599 => Err(refusal(line, reply, seen).await),
        status if !matches!(status, 200..=203) => Err(no_answer_of(status)),
        _ if is_encoded(&reply) => Err(no_answer("encoded in a way that was not asked for")),
        _ if reply.is_type("text/event-stream") && !line.question.stream => {
            Err(no_answer("a stream for a whole answer"))
        }
        _ if reply.is_type("text/event-stream") => Events::begin(line, reply, added_usage, seen).await,
        _ => whole(line, reply, seen).await,
    }
}

// === a whole reply ===

async fn whole(line: &Line<'_>, mut upstream: Reply, seen: &mut Seen) -> Result<Beginning, Box<Failed>> {
    let head = reply::from_upstream(&upstream).map_err(|e| Failed::of(broken_head(e)))?;
    let (mut held, mut len) = (Vec::new(), 0);
    while let Some(chunk) = line.read_chunk(&mut upstream, seen).await? {
        len += chunk.len();
        held.push(chunk);
        // an array that grows is a stream too
        if len > HELD || (line.question.form == StreamForm::Array && line.question.stream && begins_an_array(&held)) {
            seen.first_token = Some(line.flight.begun.elapsed());
            return Ok(Beginning::Passing(Box::new(Passing { head, upstream, held, kept: Kept::default() })));
        }
    }
    let body = match held.as_slice() {
        [one] => one.clone(),
        many => Bytes::from(many.concat()),
    };
    if let Err(failed) = is_answer(line, spoken(line.operation()), &body) {
        line.release(upstream).await;
        return Err(failed);
    }
    if line.question.stream && line.operation().dialect().is_some() {
        return bridge::unstreamed(line, upstream, &body, seen);
    }
    let usage = dialect::usage_of(line.operation(), &body);
    let framed = |mut head: ResponseHeader| -> pingora::Result<ResponseHeader> {
        head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
        if !upstream.is_type("application/json") {
            head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
        }
        Ok(head)
    };
    let head = framed(head).map_err(|e| Failed::of(broken_head(e)))?;
    line.release(upstream).await;
    Ok(Beginning::Whole(Box::new(Whole { head, body, usage, lost: Lost::default(), estimated: false })))
}

fn begins_an_array(held: &[Bytes]) -> bool {
    held.iter().flat_map(|chunk| chunk.iter()).find(|b| !b.is_ascii_whitespace()) == Some(&b'[')
}

/// We ask for no encoding: what comes in one could not be metered.
fn is_encoded(reply: &Reply) -> bool {
    let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    reply.header(http::header::CONTENT_ENCODING).is_some_and(|value| !identity(value))
}

/// Whether a body with status 200 is an answer: an object with something in it, and not one that only tells of an error.
pub fn is_answer(line: &Line<'_>, spoken: &dyn Outbound, body: &[u8]) -> Result<(), Box<Failed>> {
    let Ok(object) = Object::scan(body) else { return Err(no_answer("a body that is no JSON object")) };
    let said = ["choices", "output", "content", "candidates", "data", "results", "embeddings", "embedding", "id"];
    if object.get("error").is_some_and(|error| error != "null") && said.iter().all(|name| object.get(name).is_none()) {
        return Err(said_error(line, spoken, body));
    }
    Ok(())
}

/// A status that no answer of a model has: nothing, a redirect, or none at all.
pub fn no_answer_of(status: u16) -> Box<Failed> {
    let error = Error::new(Kind::UpstreamFailed, "The provider answered with a status that is no answer's.");
    Failed::new(How::Broken, error.code("upstream_garbled").why(format!("status {status}")))
}

fn no_answer(what: &str) -> Box<Failed> {
    let error = Error::new(Kind::UpstreamFailed, "The provider's answer could not be read.");
    Failed::of(error.code("upstream_garbled").why(what.to_owned()))
}

/// An error that a provider tells where its answer should be.
fn said_error(line: &Line<'_>, spoken: &dyn Outbound, json: &[u8]) -> Box<Failed> {
    let object = Object::scan(json).ok();
    let code = object.as_ref().and_then(|o| Object::scan(o.get("error")?.as_bytes()).ok()?.get("code")?.parse().ok());
    let status = code.filter(|code| (400..600).contains(code)).unwrap_or(500);
    let refusal = spoken.decode_error(status, json);
    let secrets = line.shared.credentials.secrets(&line.target.provider);
    let message = match &*refusal.message {
        "" => "The provider ended its answer with an error.".to_owned(),
        message => scrubbed_text(message, &line.target.provider, &secrets),
    };
    let (reason, retry_after) = (refusal.reason, refusal.retry_after);
    let kind = Kind::UpstreamRefused { status: status_of(reason, status), reason, retry_after };
    Failed::of(Error::new(kind, message).why(format!("in place of an answer: {}", reason.label())))
}

/// A status for an error that came without one.
fn status_of(reason: Refused, told: u16) -> u16 {
    match reason {
        _ if told != 500 => told,
        Refused::BadRequest | Refused::ContextLength | Refused::ContentFilter => 400,
        Refused::Auth => 401,
        Refused::Billing => 402,
        Refused::Permission => 403,
        Refused::NotFound => 404,
        Refused::TooLarge => 413,
        Refused::RateLimit => 429,
        Refused::Overloaded => 529,
        Refused::Timeout => 504,
        Refused::ServerError => 500,
    }
}

/// Whose errors a provider tells that is asked for an operation in its own dialect.
fn spoken(operation: Operation) -> &'static dyn Outbound {
    dialect::outbound(operation.dialect().unwrap_or_else(|| task::grammar(operation)))
}

impl Passing {
    /// Send what there is and what comes.
    pub async fn finish(
        self,
        shared: &Shared,
        session: &mut Session,
        call: &mut Call,
        operation: Operation,
        pace: Pace,
        opened: bool,
    ) -> Result<()> {
        let Passing { mut head, mut upstream, held, mut kept } = self;
        match upstream.header(http::header::CONTENT_LENGTH) {
            Some(length) => head.insert_header(http::header::CONTENT_LENGTH, length.clone()),
            None if session.is_http2() => Ok(()),
            None => head.insert_header(http::header::TRANSFER_ENCODING, "chunked"),
        }
        .map_err(broken_head)?;
        reply::ours(&mut head, call).map_err(broken_head)?;
        call.status = head.status.as_u16();
        let done = async {
            if !opened {
                flow::write_head(session, call, head).await?;
            }
            for chunk in held {
                kept.see(&chunk);
                write(session, call, Some(chunk), false).await?;
            }
            while let Some(chunk) = read_chunk(session, call, &mut upstream, pace).await? {
                kept.see(&chunk);
                write(session, call, Some(chunk), false).await?;
            }
            write(session, call, None, true).await?;
            Ok(Ended::Whole)
        };
        let done = done.await;
        call.output_estimate = billing::tokens_of(kept.len as u64);
        // the client has all of it: reading its usage costs it nothing
        call.usage = kept.usage(operation);
        flow::close(shared, upstream, done).await
    }
}

/// What is remembered of a reply to find its usage.
#[derive(Default)]
struct Kept {
    chunks: Vec<Bytes>,
    len: usize,
    tail: Option<BytesMut>,
}

impl Kept {
    fn see(&mut self, chunk: &Bytes) {
        self.len += chunk.len();
        match &mut self.tail {
            None if self.len <= KEPT => self.chunks.push(chunk.clone()),
            None => {
                let mut tail = BytesMut::with_capacity(TAIL * 2);
                for earlier in self.chunks.drain(..) {
                    keep_tail(&mut tail, &earlier);
                }
                keep_tail(&mut tail, chunk);
                self.tail = Some(tail);
            }
            Some(tail) => keep_tail(tail, chunk),
        }
    }

    fn usage(self, operation: Operation) -> Option<Usage> {
        match (self.tail, self.chunks.as_slice()) {
            (Some(tail), _) => dialect::usage_of_tail(operation, &tail),
            (None, [one]) => dialect::usage_of(operation, one),
            (None, chunks) => dialect::usage_of(operation, &chunks.concat()),
        }
    }
}

fn keep_tail(tail: &mut BytesMut, chunk: &[u8]) {
    tail.extend_from_slice(&chunk[chunk.len().saturating_sub(TAIL)..]);
    if tail.len() > TAIL {
        let _ = tail.split_to(tail.len() - TAIL);
    }
}

// === an event stream ===

impl Events {
    async fn begin(
        line: &Line<'_>,
        upstream: Reply,
        added_usage: bool,
        seen: &mut Seen,
    ) -> Result<Beginning, Box<Failed>> {
        let mut events = Events {
            head: Some(reply::from_upstream(&upstream).map_err(|e| Failed::of(broken_head(e)))?),
            upstream,
            tap: dialect::tap(line.operation(), added_usage),
            frames: Frames::default(),
            held: Vec::new(),
            held_bytes: 0,
            cut: Vec::with_capacity(8),
            fault: None,
            spoke: false,
            marked: line.operation() != Operation::GenerateContent,
            doubly: line.operation() == Operation::Responses,
            unreadable: false,
            done: false,
            output: Tokens(0),
        };
        loop {
            match line.read_chunk(&mut events.upstream, seen).await? {
                Some(chunk) => events.hold(chunk).map_err(Failed::of)?,
                None => events.end().map_err(Failed::of)?,
            }
            let tapped = events.tap.seen();
            if tapped.output_began {
                seen.first_token = Some(line.flight.begun.elapsed());
                return Ok(Beginning::Events(Box::new(events)));
            }
            if tapped.failed {
                let frame = events.fault.take().unwrap_or_default();
                return Err(said_error(
                    line,
                    spoken(line.operation()),
                    &sse::Event::read(&frame).data.unwrap_or_default(),
                ));
            }
            if events.done && !(tapped.ended && events.spoke) {
                return Err(Failed::of(Error::new(
                    Kind::UpstreamFailed,
                    "The provider's stream ended before it began.",
                )));
            }
            if (tapped.ended && events.spoke) || events.held_bytes > HELD {
                return Ok(Beginning::Events(Box::new(events)));
            }
        }
    }

    fn hold(&mut self, chunk: Bytes) -> Result<()> {
        if let Some(ready) = self.take(chunk)? {
            self.held_bytes += ready.len();
            self.held.push(ready);
        }
        Ok(())
    }

    /// Cut a chunk into frames, look at each, and give back what goes to the client.
    fn take(&mut self, chunk: Bytes) -> Result<Option<Bytes>> {
        let Events { tap, frames, fault, cut, spoke, marked, doubly, output, .. } = self;
        let mut unreadable = false;
        let (len, whole, untouched) = (chunk.len(), chunk.clone(), frames.between());
        let mut changed = false;
        frames
            .push(chunk, |frame| {
                let object = memchr::memchr(b'{', &frame).is_some();
                *spoke |= object;
                // (some vendors write `[DONE]` behind the last event of a responses stream)
                if *marked && tap.seen().ended && (object || !*doubly) {
                    // nothing stands behind the end of a stream
                    changed = true;
                    return;
                }
                if !object && is_garbage(&frame) {
                    unreadable = true;
                    return;
                }
                let (before, failed, copy) = (frame.len(), tap.seen().failed, frame.clone());
                let said = tap.seen().output_frames;
                match tap.see(frame) {
                    Some(frame) => {
                        changed |= frame.len() != before;
                        cut.push(frame);
                    }
                    None => changed = true,
                }
                if tap.seen().output_frames > said {
                    *output += billing::tokens_of_piece(text_bytes(&copy));
                }
                if !failed && tap.seen().failed {
                    *fault = Some(copy);
                }
            })
            .map_err(|_| Error::new(Kind::UpstreamFailed, "The provider sent an event that is too large."))?;
        let ready = match cut.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many if untouched && !changed && many.iter().map(Bytes::len).sum::<usize>() == len => Some(whole),
            many => Some(Bytes::from(many.concat())),
        };
        cut.clear();
        if unreadable && ready.is_none() {
            return Err(Error::new(Kind::UpstreamFailed, "The provider sent an event that cannot be read.")
                .code("upstream_garbled"));
        }
        self.unreadable |= unreadable;
        Ok(ready)
    }

    /// The reply has ended. `Err` when the stream was not whole.
    fn end(&mut self) -> Result<()> {
        self.done = true;
        let rest = self.frames.finish();
        if !rest.is_empty() {
            // a last event without its blank line: some servers do, and readers differ in whether they take it; half an event is none
            let blank: &[u8] = if rest.ends_with(b"\n") { b"\n" } else { b"\n\n" };
            let seen = self.tap.see(rest);
            let whole = self.tap.seen().ended || self.tap.seen().failed || self.tap.seen().finished;
            self.held.extend(seen.filter(|_| whole).map(|rest| Bytes::from([&rest, blank].concat())));
        }
        let seen = self.tap.seen();
        if seen.ended || seen.failed || seen.finished {
            return Ok(());
        }
        // however whole its framing: neither the dialect's own end has come, nor a reason to stop
        Err(Error::new(Kind::UpstreamFailed, "The provider broke off the stream."))
    }

    /// Send what there is and what comes. `opened`: the client has the header section already.
    pub async fn finish(
        mut self,
        shared: &Shared,
        session: &mut Session,
        call: &mut Call,
        pace: Pace,
        opened: bool,
    ) -> Result<()> {
        let _open = OpenStream::new(shared);
        call.stream = true;
        let done = self.forward(session, call, pace, opened).await;
        if done.as_ref().is_err_and(|error| error.kind == Kind::ClientGone) && call.disconnect == Disconnect::Drain {
            self.unheard(call, pace).await;
        }
        let seen = self.tap.seen();
        call.output_estimate = self.output;
        call.usage = seen.usage;
        call.output_frames = seen.output_frames;
        let done = match done {
            Ok(()) => {
                if seen.failed {
                    call.fail(&Error::new(Kind::UpstreamFailed, "The provider ended the stream with an error event."));
                }
                write(session, call, None, true).await.map(|()| Ended::Whole)
            }
            Err(error) if error.kind == Kind::ClientGone => Err(error),
            // all was said: what breaks behind it concerns nobody
            Err(_) if seen.ended => write(session, call, None, true).await.map(|()| Ended::Broken),
            Err(error) => {
                // the client learns of it in the stream, and the stream ends as streams do
                call.fail(&error);
                write(session, call, Some(self.tap.broken(&error)), true).await.map(|()| Ended::Broken)
            }
        };
        flow::close(shared, self.upstream, done).await
    }

    /// The client has left: read on, for what the answer costs.
    pub async fn unheard(&mut self, call: &mut Call, pace: Pace) {
        let pace = pace.for_nobody();
        while !self.done {
            let chunk = flow::next_chunk(&mut self.upstream, pace).await;
            let read = match chunk {
                Ok(Some(chunk)) => self.take(chunk).map(|_| ()),
                Ok(None) => self.end(),
                Err(error) => Err(error),
            };
            if read.is_err() {
                break;
            }
        }
        (call.usage, call.output_estimate) = (self.tap.seen().usage, self.output);
    }

    /// Forward frames until the stream ends. `Err` when it broke.
    async fn forward(&mut self, session: &mut Session, call: &mut Call, pace: Pace, opened: bool) -> Result<()> {
        if let Some(head) = self.head.take().filter(|_| !opened) {
            flow::stream_head(session, call, head).await?;
        }
        let every = call.snapshot.server.heartbeat;
        let mut heartbeat = (!every.is_zero()).then(|| Heartbeat::new(every));
        for ready in std::mem::take(&mut self.held) {
            write(session, call, Some(ready), false).await?;
        }
        while !self.done {
            if self.unreadable {
                let error = Error::new(Kind::UpstreamFailed, "The provider sent an event that cannot be read.");
                return Err(error.code("upstream_garbled"));
            }
            let pace = if self.tap.seen().ended { pace.shortly() } else { pace };
            // a word only ever goes out between two frames
            let chunk = match heartbeat.as_mut().filter(|_| self.frames.between()) {
                Some(heartbeat) => {
                    read_chunk_alive(session, call, &mut self.upstream, pace, heartbeat, &HEARTBEAT).await?
                }
                None => read_chunk(session, call, &mut self.upstream, pace).await?,
            };
            let ready = match chunk {
                Some(chunk) => self.take(chunk)?,
                None => {
                    let ended = self.end();
                    for rest in std::mem::take(&mut self.held) {
                        write(session, call, Some(rest), false).await?;
                    }
                    ended?;
                    None
                }
            };
            if let Some(ready) = ready {
                write(session, call, Some(ready), false).await?;
                if let Some(heartbeat) = &mut heartbeat {
                    heartbeat.wrote();
                }
            }
            if self.tap.seen().output_began && call.first_token.is_none() {
                call.first_token = Some(call.started.elapsed());
            }
        }
        Ok(())
    }
}

/// An event that has data, and none of it is JSON; `[DONE]` and an empty one are known.
fn is_garbage(frame: &[u8]) -> bool {
    let event = sse::Event::read(frame);
    event.data.is_some_and(|data| !data.trim_ascii().is_empty() && data.trim_ascii() != b"[DONE]")
}

// === a refusal ===

/// A provider's error: its meaning for us, and its own words for a client of its dialect, with our secrets and its addresses taken out.
async fn refusal(line: &Line<'_>, mut upstream: Reply, seen: &mut Seen) -> Box<Failed> {
    let status = upstream.status();
    let mut body = BytesMut::new();
    let whole = loop {
        match line.read_chunk(&mut upstream, seen).await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break true,
            // the status says enough
            Err(_) => break false,
        }
        if body.len() > ERROR_LIMIT {
            body.truncate(ERROR_LIMIT);
            break false;
        }
    };
    let provider = &line.target.provider;
    let refusal = spoken(line.operation()).decode_error(status, &body);
    let retry_after = reply::retry_after(&upstream).or(refusal.retry_after);
    let reason = refusal.reason;
    let kind = Kind::UpstreamRefused { status, reason, retry_after };
    let json = serde_json::from_slice::<&serde_json::value::RawValue>(&body).is_ok_and(|v| v.get().starts_with('{'));
    let secrets = line.shared.credentials.secrets(provider);
    let say = match &*refusal.message {
        message if json && !message.is_empty() => scrubbed_text(message, provider, &secrets),
        _ => format!("The provider answered with status {status}."),
    };
    let error = Error::new(kind, say);
    let words = if json && whole {
        scrubbed(&body, provider, &secrets)
    } else {
        dialect::error(line.operation().grammar(), &error).1
    };
    let verbatim = own_words(&upstream, words).ok();
    if whole {
        line.release(upstream).await;
    } else {
        upstream.session.shutdown().await;
    }
    let mut failed = Failed::of(error.why(format!("{status} {}", reason.label())));
    failed.verbatim = verbatim;
    failed
}

fn own_words(upstream: &Reply, body: Bytes) -> pingora::Result<(ResponseHeader, Bytes)> {
    let mut head = reply::from_upstream(upstream)?;
    head.insert_header(http::header::CONTENT_TYPE, reply::JSON)?;
    head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
    head.remove_header(&http::header::CONTENT_ENCODING);
    Ok((head, body))
}

/// A provider's words without our credential and its address.
pub fn scrubbed_text(text: &str, provider: &Provider, fetched: &[String]) -> String {
    String::from_utf8_lossy(&scrubbed(text.as_bytes(), provider, fetched)).into_owned()
}

/// A provider's error without our credential and its addresses. `fetched`: what showed it who asks (`Credentials::secrets`).
pub fn scrubbed(body: &[u8], provider: &Provider, fetched: &[String]) -> Bytes {
    let credential = provider.credential.as_ref().map_or("", |c| c.expose());
    let bearer = format!("Bearer {credential}");
    let pool = provider.pool.iter().flat_map(|pool| pool.endpoints.iter().map(|endpoint| &endpoint.base));
    let bases: Vec<_> = std::iter::once(&provider.base).chain(pool).collect();
    let authorities: Vec<String> = bases.iter().map(|base| format!("{}:{}", base.host, base.port)).collect();
    let mut secrets = vec![bearer.as_str(), credential];
    secrets.extend(authorities.iter().map(String::as_str));
    secrets.extend(bases.iter().map(|base| &*base.host));
    secrets.extend(fetched.iter().map(String::as_str));
    openai::error::scrub(body, &secrets)
}
