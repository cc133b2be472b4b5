//! The reply of the splice lane: forwarded as it comes, with a tap beside it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pingora_proxy::Session;

use super::exchange::client_gone;
use super::flow::{
    self, ERROR_LIMIT, Ended, Heartbeat, OpenStream, Pace, broken, broken_head, read_chunk, write, write_head,
};
use super::proxy::Shared;
use super::reply;
use crate::call::Call;
use crate::chat::Usage;
use crate::config::snapshot::Provider;
use crate::dialect::openai;
use crate::dialect::sse::Frames;
use crate::dialect::{self, Operation, Tap};
use crate::error::{Error, Kind, Result};
use crate::route::Target;
use crate::upstream::Reply;

/// A whole reply up to this size is kept until its usage is read; of a larger one only the tail.
const KEPT: usize = 256 * 1024;
const TAIL: usize = 16 * 1024;
/// Keeps proxies on the way from closing a silent stream; every SSE reader skips comments.
const HEARTBEAT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Send a provider's reply to the client.
pub async fn forward(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    operation: Operation,
    target: &Target,
    mut upstream: Reply,
    added_usage: bool,
) -> Result<()> {
    call.first_byte = Some(call.started.elapsed());
    call.upstream_request_id = reply::upstream_request_id(&upstream);
    let pace = Pace::new(call, target);
    let events = upstream.is_type("text/event-stream");

    let done = if upstream.status() >= 400 {
        let secrets = shared.credentials.secrets(&target.provider);
        refusal(session, call, &target.provider, &secrets, &mut upstream, pace).await
    } else if events {
        let _open = OpenStream::new(shared);
        stream(session, call, operation, &mut upstream, added_usage, pace).await
    } else {
        whole(session, call, operation, &mut upstream, pace).await
    };
    flow::close(shared, upstream, done).await
}

// === a whole reply ===

async fn whole(
    session: &mut Session,
    call: &mut Call,
    operation: Operation,
    upstream: &mut Reply,
    pace: Pace,
) -> Result<Ended> {
    let mut head = reply::from_upstream(upstream).map_err(broken_head)?;
    match upstream.header(http::header::CONTENT_LENGTH) {
        // these have no body, and say nothing of its framing (RFC 9112 6.3)
        _ if matches!(upstream.status(), 204 | 304) => Ok(()),
        Some(length) => head.insert_header(http::header::CONTENT_LENGTH, length.clone()),
        None if session.is_http2() => Ok(()),
        None => head.insert_header(http::header::TRANSFER_ENCODING, "chunked"),
    }
    .map_err(broken_head)?;
    reply::ours(&mut head, call).map_err(broken_head)?;
    call.status = head.status.as_u16();
    write_head(session, call, head).await?;

    let mut kept = Kept::default();
    while let Some(chunk) = read_chunk(session, call, upstream, pace).await? {
        kept.see(&chunk);
        write(session, call, Some(chunk), false).await?;
    }
    write(session, call, None, true).await?;
    // the client has all of it: reading its usage costs it nothing
    call.usage = kept.usage(operation);
    Ok(Ended::Whole)
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

async fn stream(
    session: &mut Session,
    call: &mut Call,
    operation: Operation,
    upstream: &mut Reply,
    added_usage: bool,
    pace: Pace,
) -> Result<Ended> {
    call.stream = true;
    let head = reply::from_upstream(upstream).map_err(broken_head)?;
    flow::stream_head(session, call, head).await?;

    let mut tap = dialect::tap(operation, added_usage);
    let ended = events(session, call, upstream, &mut *tap, pace).await;
    call.usage = tap.seen().usage;
    call.output_frames = tap.seen().output_frames;
    match ended {
        Ok(()) => {
            if tap.seen().failed {
                call.fail(&Error::new(Kind::UpstreamFailed, "The provider ended the stream with an error event."));
            }
            write(session, call, None, true).await?;
            Ok(Ended::Whole)
        }
        Err(error) if error.kind == Kind::ClientGone => Err(error),
        Err(error) => {
            // the client learns of it in the stream, and the stream ends as streams do
            call.fail(&error);
            write(session, call, Some(tap.broken(&error)), true).await?;
            Ok(Ended::Broken)
        }
    }
}

/// Forward frames until the stream ends. `Err` when it broke.
async fn events(
    session: &mut Session,
    call: &mut Call,
    upstream: &mut Reply,
    tap: &mut dyn Tap,
    pace: Pace,
) -> Result<()> {
    let every = call.snapshot.server.heartbeat;
    let mut heartbeat = (!every.is_zero()).then(|| Heartbeat::new(every));
    let mut frames = Frames::default();
    let mut out: Vec<Bytes> = Vec::with_capacity(8);
    loop {
        let chunk = read_event_chunk(session, call, upstream, pace, heartbeat.as_mut(), &frames).await?;
        let Some(chunk) = chunk else { break };
        let len = chunk.len();
        let whole = chunk.clone();
        let untouched = frames.between();
        let mut changed = false;
        frames
            .push(chunk, |frame| {
                let before = frame.len();
                match tap.see(frame) {
                    Some(frame) => {
                        changed |= frame.len() != before;
                        out.push(frame);
                    }
                    None => changed = true,
                }
            })
            .map_err(|_| Error::new(Kind::UpstreamFailed, "The provider sent an event that is too large."))?;
        if tap.seen().output_began && call.first_token.is_none() {
            call.first_token = Some(call.started.elapsed());
        }
        let ready = match out.as_slice() {
            [] => continue,
            [one] => one.clone(),
            many if untouched && !changed && many.iter().map(Bytes::len).sum::<usize>() == len => whole,
            many => Bytes::from(many.concat()),
        };
        out.clear();
        write(session, call, Some(ready), false).await?;
        if let Some(heartbeat) = &mut heartbeat {
            heartbeat.wrote();
        }
    }
    let rest = frames.finish();
    if !rest.is_empty() {
        // a last event without its blank line: some servers do, and readers differ in whether they take it
        if let Some(rest) = tap.see(rest) {
            write(session, call, Some(rest), false).await?;
        }
    }
    if tap.seen().ended || tap.seen().failed || upstream.header(http::header::TRANSFER_ENCODING).is_some() {
        return Ok(());
    }
    if upstream.session.as_http2().is_some() || upstream.header(http::header::CONTENT_LENGTH).is_some() {
        return Ok(());
    }
    // delimited by the end of the connection: without the dialect's own end it may have been cut
    Err(Error::new(Kind::UpstreamFailed, "The provider broke off the stream."))
}

/// The next bytes of a stream; a heartbeat goes out between frames while there are none.
async fn read_event_chunk(
    session: &mut Session,
    call: &mut Call,
    upstream: &mut Reply,
    pace: Pace,
    heartbeat: Option<&mut Heartbeat>,
    frames: &Frames,
) -> Result<Option<Bytes>> {
    let Some(heartbeat) = heartbeat.filter(|_| frames.between()) else {
        return read_chunk(session, call, upstream, pace).await;
    };
    let begun = Instant::now();
    upstream.session.set_read_timeout(Some(pace.next(begun)?));
    let mut reading = std::pin::pin!(upstream.session.read_response_body());
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = &mut reading => chunk.map_err(broken),
            gone = session.downstream_session.read_body_or_idle(true) => Err(client_gone(gone)),
            () = &mut heartbeat.timer => {
                if heartbeat.due() {
                    write(session, call, Some(HEARTBEAT), false).await?;
                }
                continue;
            }
        };
        call.waited += begun.elapsed();
        return chunk;
    }
}

// === a refusal ===

/// A provider's error passes with its status, in its own words, with our secrets and its addresses taken out.
async fn refusal(
    session: &mut Session,
    call: &mut Call,
    provider: &Provider,
    secrets: &[String],
    upstream: &mut Reply,
    pace: Pace,
) -> Result<Ended> {
    let mut body = BytesMut::new();
    let mut ended = Ended::Whole;
    while let Some(chunk) = read_chunk(session, call, upstream, pace).await? {
        body.extend_from_slice(&chunk);
        if body.len() > ERROR_LIMIT {
            body.truncate(ERROR_LIMIT);
            ended = Ended::Broken;
            break;
        }
    }
    let status = upstream.status();
    let error = Error::new(Kind::refused(status), format!("The provider answered with status {status}."));
    call.fail(&error);
    call.status = status;
    let json = serde_json::from_slice::<&serde_json::value::RawValue>(&body).is_ok_and(|v| v.get().starts_with('{'));
    let body = if json { scrubbed(&body, provider, secrets) } else { dialect::error(call.grammar, &error).1 };
    let mut head = reply::from_upstream(upstream).map_err(broken_head)?;
    for (name, value) in [
        (http::header::CONTENT_TYPE, "application/json".to_owned()),
        (http::header::CONTENT_LENGTH, body.len().to_string()),
    ] {
        head.insert_header(name, value).map_err(broken_head)?;
    }
    head.remove_header(&http::header::CONTENT_ENCODING);
    reply::ours(&mut head, call).map_err(broken_head)?;
    write_head(session, call, head).await?;
    write(session, call, Some(body), true).await?;
    Ok(ended)
}

/// A provider's words without our credential and its address.
pub fn scrubbed_text(text: &str, provider: &Provider, fetched: &[String]) -> String {
    String::from_utf8_lossy(&scrubbed(text.as_bytes(), provider, fetched)).into_owned()
}

/// A provider's error without our credential and its address. `fetched`: what showed it who asks (`Credentials::secrets`).
pub fn scrubbed(body: &[u8], provider: &Provider, fetched: &[String]) -> Bytes {
    let credential = provider.credential.as_ref().map_or("", |c| c.expose());
    let bearer = format!("Bearer {credential}");
    let authority = format!("{}:{}", provider.base.host, provider.base.port);
    let mut secrets = vec![bearer.as_str(), credential, &authority, &provider.base.host];
    secrets.extend(fetched.iter().map(String::as_str));
    openai::error::scrub(body, &secrets)
}
