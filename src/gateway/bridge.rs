//! The bridge lane: the request is said in the provider's dialect, its answer in the client's. What cannot be carried is in the ledger.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::flow::{self, Ended, Heartbeat, OpenStream, Pace};
use super::proxy::Shared;
use super::router::Inquiry;
use super::{reply, splice};
use crate::call::Call;
use crate::chat::{Event, How, Losses, Response, unfold};
use crate::config::snapshot::{OnLoss, Provider};
use crate::dialect::adapt::{Undo, adapt};
use crate::dialect::envelope::Envelope;
use crate::dialect::frame::Cutter;
use crate::dialect::undo::Undoing;
use crate::dialect::{
    Framing, Garbled, Inbound, Operation, Origin, Outbound, Refusal, ReplyTo, StreamEncoder, StreamForm, To, inbound,
    outbound,
};
use crate::error::{Error, Kind, Result};
use crate::json::{Node, Paths, ScanError, Spliced, Wrong};
use crate::route::Target;
use crate::upstream::Reply;

/// Largest whole reply that is translated.
pub const REPLY_LIMIT: usize = 64 * 1024 * 1024;

/// A request in the provider's words, and what its answer needs to be said back.
pub struct Asked {
    pub body: Spliced,
    undo: Undo,
    echo: String,
    stream_usage: bool,
}

/// Say a request in the dialect of `to`.
pub fn ask(call: &mut Call, envelope: &Envelope, inquiry: &Inquiry, to: Operation, target: &Target) -> Result<Asked> {
    let (inbound, outbound) = codecs(inquiry.operation, to)?;
    let body = &envelope.body;
    let node = Node::parse(body).map_err(unreadable)?;
    let mut losses = inbound.unsaid(&node);
    let mut request = inbound.decode_request(node).map_err(|wrong| misfit(body, &wrong))?;
    request.model = (&*envelope.model).into();
    request.stream = envelope.stream;
    let echo = inbound.echo(&request);
    let stream_usage = request.stream_usage;
    let Some(manners) = target.provider.offer(&target.model).map(|offer| &offer.manners) else {
        return Err(Error::internal("The provider offers nothing for this model."));
    };
    let undo = adapt(&mut request, &outbound.abilities(&target.model, manners), &mut losses);
    let encoded = outbound.encode_request(&request, &To { model: &target.model, manners });
    losses.merge(encoded.losses);
    book(call, body, &losses, "", target.on_loss)?;
    let body = Bytes::from(encoded.body);
    Ok(Asked { body: Spliced { len: body.len(), pieces: vec![body] }, undo, echo, stream_usage })
}

fn codecs(from: Operation, to: Operation) -> Result<(&'static dyn Inbound, &'static dyn Outbound)> {
    match (inbound(from), to.dialect()) {
        (Some(inbound), Some(dialect)) => Ok((inbound, outbound(dialect))),
        _ => Err(Error::internal("There is no way between these two dialects.")),
    }
}

/// A body that is no JSON, or more of it than is read.
pub fn unreadable(error: ScanError) -> Error {
    Error::bad_request(format!("We could not parse the JSON body of your request: {error}."))
}

/// A member that is not what its place asks for.
pub fn misfit(body: &[u8], wrong: &Wrong) -> Error {
    let path = Paths::new(body).of(wrong.at);
    let what = &wrong.what;
    if path.is_empty() {
        return Error::bad_request(format!("The request cannot be used: {what}."));
    }
    Error::bad_request(format!("Invalid value at '{path}': {what}.")).param(path)
}

/// Put losses into the call's ledger, or refuse the call for them.
pub fn book(call: &mut Call, text: &[u8], losses: &Losses, prefix: &str, on_loss: OnLoss) -> Result<()> {
    if losses.is_empty() {
        return Ok(());
    }
    let mut paths = Paths::new(text);
    for loss in losses.iter() {
        let place = paths.of(loss.at);
        let dot = if place.is_empty() || loss.member.is_empty() { "" } else { "." };
        let place = format!("{prefix}{place}{dot}{}", loss.member);
        if on_loss == OnLoss::Refuse || loss.how == How::Essential {
            return Err(Error::bad_request(format!(
                "'{place}' cannot be carried to the provider of this model, and the request must not be sent without it."
            ))
            .param(place)
            .code("not_carried"));
        }
        call.losses.places.push((place, loss.how));
    }
    call.losses.count += losses.count;
    Ok(())
}

/// Send a provider's reply to the client, in the client's dialect.
#[expect(clippy::too_many_arguments, reason = "all that is known of a call meets here")]
pub async fn forward(
    shared: &Shared,
    session: &mut Session,
    call: &mut Call,
    inquiry: &Inquiry,
    to: Operation,
    target: &Target,
    asked: Asked,
    mut upstream: Reply,
) -> Result<()> {
    call.first_byte = Some(call.started.elapsed());
    call.upstream_request_id = reply::upstream_request_id(&upstream);
    let (inbound, outbound) = codecs(inquiry.operation, to)?;
    let mut bridge = Bridge { inbound, outbound, target, asked, form: form(session, inquiry) };
    let pace = Pace::new(call, target);
    let done = if upstream.status() >= 400 {
        Err(refused(shared, outbound, &target.provider, session, call, &mut upstream, pace).await)
    } else if !call.stream {
        bridge.whole(session, call, &mut upstream, pace).await
    } else {
        let _open = OpenStream::new(shared);
        bridge.stream(session, call, &mut upstream, pace).await
    };
    flow::close(shared, upstream, done).await
}

/// Gemini's clients get an array unless they ask for events.
pub fn form(session: &Session, inquiry: &Inquiry) -> StreamForm {
    let events = session.req_header().uri.query().is_some_and(|q| q.split('&').any(|pair| pair == "alt=sse"));
    if inquiry.operation == Operation::GenerateContent && !events { StreamForm::Array } else { StreamForm::Sse }
}

struct Bridge<'a> {
    inbound: &'static dyn Inbound,
    outbound: &'static dyn Outbound,
    target: &'a Target,
    asked: Asked,
    form: StreamForm,
}

impl Bridge<'_> {
    fn origin(&self) -> Origin<'_> {
        Origin { model: &self.target.model }
    }

    fn reply_to<'c>(&'c self, call: &'c Call, created: u64) -> ReplyTo<'c> {
        ReplyTo {
            id: call.id.as_str(),
            model: call.model.as_deref().unwrap_or_default(),
            created,
            stream_usage: self.asked.stream_usage,
            form: self.form,
            echo: &self.asked.echo,
        }
    }

    // === a whole reply ===

    async fn whole(
        &mut self,
        session: &mut Session,
        call: &mut Call,
        upstream: &mut Reply,
        pace: Pace,
    ) -> Result<Ended> {
        let body = flow::read_whole(session, call, upstream, pace, REPLY_LIMIT).await?;
        let text = {
            let response = self.response(&body)?;
            call.usage = response.usage;
            let created = created();
            let encoded = self.inbound.encode_response(&response, &self.reply_to(call, created));
            book(call, &body, &encoded.losses, "reply.", OnLoss::Report)?;
            Bytes::from(encoded.body)
        };
        let mut head = self.head(upstream)?;
        head.insert_header(http::header::CONTENT_TYPE, reply::JSON).map_err(flow::broken_head)?;
        head.insert_header(http::header::CONTENT_LENGTH, text.len()).map_err(flow::broken_head)?;
        reply::ours(&mut head, call).map_err(flow::broken_head)?;
        call.status = head.status.as_u16();
        flow::write_head(session, call, head).await?;
        flow::write(session, call, Some(text), true).await?;
        Ok(Ended::Whole)
    }

    fn response<'b>(&self, body: &'b [u8]) -> Result<Response<'b>> {
        let node = Node::parse_reply(body).map_err(|e| garbled(e.into()))?;
        let mut response = self.outbound.decode_response(node, &self.origin()).map_err(|e| garbled(e.into()))?;
        self.asked.undo.response(&mut response);
        Ok(response)
    }

    /// The reply's header section: what of the provider's says something in any dialect.
    fn head(&self, upstream: &Reply) -> Result<ResponseHeader> {
        let mut head = ResponseHeader::build_no_case(200, Some(16)).map_err(flow::broken_head)?;
        for name in reply::QUOTA {
            if let Some(value) = upstream.header(name) {
                head.insert_header(name, value.clone()).map_err(flow::broken_head)?;
            }
        }
        Ok(head)
    }

    // === a stream ===

    async fn stream(
        &mut self,
        session: &mut Session,
        call: &mut Call,
        upstream: &mut Reply,
        pace: Pace,
    ) -> Result<Ended> {
        let created = created();
        let encoder = self.inbound.stream_encoder(&self.reply_to(call, created));
        let undoing = Undoing::new(std::mem::take(&mut self.asked.undo));
        let mut writing =
            Writing { encoder, undoing, head: Some(self.head(upstream)?), out: Vec::new(), began: false, failed: None };
        let read = if upstream.is_type("application/json") {
            self.unstreamed(session, call, upstream, pace, &mut writing).await
        } else {
            self.events(session, call, upstream, pace, &mut writing).await
        };
        let ended = match read {
            Ok(()) => Ended::Whole,
            Err(error) if error.kind == Kind::ClientGone => return Err(error),
            // nothing was sent yet: the answer is a plain error
            Err(error) if writing.untouched() => return Err(error),
            Err(error) => {
                call.fail(&error);
                writing.encoder.push(Event::Error(error), &mut writing.out);
                Ended::Broken
            }
        };
        if writing.untouched()
            && let Some(error) = writing.failed.take()
        {
            return Err(error);
        }
        let losses = writing.encoder.losses().clone();
        writing.flush(session, call, self.form, true).await?;
        book(call, b"", &losses, "reply.", OnLoss::Report)?;
        Ok(ended)
    }

    /// A provider that answers whole although a stream was asked for.
    async fn unstreamed(
        &self,
        session: &mut Session,
        call: &mut Call,
        upstream: &mut Reply,
        pace: Pace,
        writing: &mut Writing,
    ) -> Result<()> {
        let body = flow::read_whole(session, call, upstream, pace, REPLY_LIMIT).await?;
        let node = Node::parse_reply(&body).map_err(|e| garbled(e.into()))?;
        let response = self.outbound.decode_response(node, &self.origin()).map_err(|e| garbled(e.into()))?;
        for event in unfold(response) {
            writing.take(call, event);
        }
        Ok(())
    }

    async fn events(
        &self,
        session: &mut Session,
        call: &mut Call,
        upstream: &mut Reply,
        pace: Pace,
        writing: &mut Writing,
    ) -> Result<()> {
        if !upstream.is_type(match self.outbound.framing() {
            Framing::Sse => "text/event-stream",
            Framing::EventStream => "application/vnd.amazon.eventstream",
        }) {
            return Err(garbled(Garbled::new("the content type of the answer is not that of a stream")));
        }
        let mut decoder = self.outbound.stream_decoder(&self.origin());
        let mut cutter = Cutter::new(self.outbound.framing());
        let every = call.snapshot.server.heartbeat;
        let mut heartbeat = (!every.is_zero()).then(|| Heartbeat::new(every));
        loop {
            let Some(chunk) = next_chunk(session, call, upstream, pace, heartbeat.as_mut(), writing, self.form).await?
            else {
                break;
            };
            cutter
                .push(chunk, |frame| {
                    let mut events = Vec::new();
                    decoder.push(frame, &mut events)?;
                    events.into_iter().for_each(|event| writing.take(call, event));
                    Ok(())
                })
                .map_err(garbled)?;
            if writing.failed.is_some() {
                return Ok(());
            }
            if writing.ready() {
                writing.flush(session, call, self.form, false).await?;
                if let Some(heartbeat) = &mut heartbeat {
                    heartbeat.wrote();
                }
            }
        }
        cutter
            .finish(|frame| {
                let mut events = Vec::new();
                decoder.push(frame, &mut events)?;
                events.into_iter().for_each(|event| writing.take(call, event));
                Ok(())
            })
            .map_err(garbled)?;
        let mut events = Vec::new();
        decoder
            .finish(&mut events)
            .map_err(|_| Error::new(Kind::UpstreamFailed, "The provider broke off the stream."))?;
        events.into_iter().for_each(|event| writing.take(call, event));
        Ok(())
    }
}

/// The provider's error, in words that every dialect has.
pub async fn refused(
    shared: &Shared,
    outbound: &dyn Outbound,
    provider: &Provider,
    session: &mut Session,
    call: &mut Call,
    upstream: &mut Reply,
    pace: Pace,
) -> Error {
    let body = match flow::read_whole(session, call, upstream, pace, flow::ERROR_LIMIT).await {
        Ok(body) => body,
        Err(error) if error.kind == Kind::ClientGone => return error,
        // the status says enough
        Err(_) => Bytes::new(),
    };
    let status = upstream.status();
    let Refusal { reason, message, retry_after, param: _, code } = outbound.decode_error(status, &body);
    let retry_after = reply::retry_after(upstream).or(retry_after);
    let message = if message.is_empty() {
        format!("The provider answered with status {status}.")
    } else {
        splice::scrubbed_text(&message, provider, &shared.credentials.secrets(provider))
    };
    let error = Error::new(Kind::UpstreamRefused { status, reason, retry_after }, message);
    match code {
        Some(code) => error.why(format!("{status} {} {code}", reason.label())),
        None => error.why(format!("{status} {}", reason.label())),
    }
}

/// The next bytes of a stream; a heartbeat goes out while there are none, and with the first one the header section.
async fn next_chunk(
    session: &mut Session,
    call: &mut Call,
    upstream: &mut Reply,
    pace: Pace,
    heartbeat: Option<&mut Heartbeat>,
    writing: &mut Writing,
    form: StreamForm,
) -> Result<Option<Bytes>> {
    let Some(heartbeat) = heartbeat else { return flow::read_chunk(session, call, upstream, pace).await };
    let begun = std::time::Instant::now();
    upstream.session.set_read_timeout(Some(pace.next(begun)?));
    let mut reading = std::pin::pin!(upstream.session.read_response_body());
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = &mut reading => chunk.map_err(flow::broken),
            gone = session.downstream_session.read_body_or_idle(true) => Err(super::exchange::client_gone(gone)),
            () = &mut heartbeat.timer => {
                if heartbeat.due() {
                    writing.out.extend_from_slice(writing.encoder.heartbeat());
                    writing.flush(session, call, form, false).await?;
                }
                continue;
            }
        };
        call.waited += begun.elapsed();
        return chunk;
    }
}

/// The client's side of a stream.
struct Writing {
    encoder: Box<dyn StreamEncoder>,
    undoing: Undoing,
    /// Not sent yet: until something is said, an error is still an answer of its own.
    head: Option<ResponseHeader>,
    out: Vec<u8>,
    /// The first output has come.
    began: bool,
    failed: Option<Error>,
}

impl Writing {
    /// One event of the provider's.
    fn take(&mut self, call: &mut Call, event: Event<'_>) {
        match &event {
            Event::Usage(usage) => call.usage = Some(*usage),
            Event::Open { .. } | Event::Stop { .. } | Event::End => self.began = true,
            Event::Delta { .. } => {
                self.began = true;
                call.output_frames += 1;
                if call.first_token.is_none() {
                    call.first_token = Some(call.started.elapsed());
                }
            }
            Event::Error(error) => {
                call.fail(error);
                self.failed = Some(copy(error));
            }
            _ => {}
        }
        let mut events = Vec::with_capacity(2);
        self.undoing.push(event, &mut events);
        for event in events {
            self.encoder.push(event, &mut self.out);
        }
    }

    /// Nothing was sent, and nothing said that would be lost: an error can still be an answer of its own.
    fn untouched(&self) -> bool {
        self.head.is_some() && !self.began
    }

    /// Whether there is something to send. The life cycle's opening waits for the first output: an error before it gets a status of its own.
    fn ready(&self) -> bool {
        self.began && !self.out.is_empty()
    }

    async fn flush(&mut self, session: &mut Session, call: &mut Call, form: StreamForm, end: bool) -> Result<()> {
        if let Some(mut head) = self.head.take() {
            head.insert_header(
                http::header::CONTENT_TYPE,
                match form {
                    StreamForm::Sse => "text/event-stream; charset=utf-8",
                    StreamForm::Array => "application/json; charset=utf-8",
                },
            )
            .map_err(flow::broken_head)?;
            head.insert_header(http::header::CACHE_CONTROL, "no-cache").map_err(flow::broken_head)?;
            flow::stream_head(session, call, head).await?;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.out));
        flow::write(session, call, (!bytes.is_empty()).then_some(bytes), end).await
    }
}

/// An error said twice: in the stream, and in the record.
fn copy(error: &Error) -> Error {
    let mut again = Error::new(error.kind, error.say.clone());
    again.code = error.code;
    again
}

/// Unix seconds.
pub fn created() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default()
}

/// A provider's answer that cannot be read. The reason stays in the log.
pub fn garbled(garbled: Garbled) -> Error {
    Error::new(Kind::UpstreamFailed, "The provider's answer could not be read.")
        .code("upstream_garbled")
        .why(garbled.what.into_owned())
}
