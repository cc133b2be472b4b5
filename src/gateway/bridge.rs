//! The bridge lane: the request is said in the provider's dialect, its answer in the client's. What cannot be carried is in the ledger.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::asking::{Question, Said, book, in_one_piece, manners, misfit, unreadable};
use super::attempt::{Beginning, Failed, Line, Seen, Whole};
use super::flow::{self, Ended, Heartbeat, OpenStream, Pace};
use super::proxy::Shared;
use super::{billing, reply, splice};
use crate::call::{Call, Lost};
use crate::chat::{Block, Delta, Event, Extra, Losses, Open, Request, Role, Start, Text, Turn, Usage, unfold};
use crate::config::policy::Disconnect;
use crate::config::snapshot::OnLoss;
use crate::dialect::adapt::{Undo, adapt};
use crate::dialect::envelope::Envelope;
use crate::dialect::frame::Cutter;
use crate::dialect::undo::Undoing;
use crate::dialect::{
    Framing, Garbled, Inbound, Operation, Origin, Outbound, Refusal, ReplyTo, StreamDecoder, StreamEncoder, StreamForm,
    To, inbound, outbound,
};
use crate::error::{Error, Kind, Result};
use crate::json::{At, Node, Spliced};
use crate::route::Target;
use crate::units::Tokens;
use crate::upstream::Reply;

/// Largest whole reply that is translated.
pub const REPLY_LIMIT: usize = 64 * 1024 * 1024;

/// Said to a target that takes up a broken answer.
const GO_ON: &str =
    "Your answer was cut off. Continue it exactly where it stopped, without repeating any of it and without comment.";
/// So much text of an answer is kept for another target to go on from.
const SAID: usize = 256 * 1024;

/// A request in the provider's words, and what its answer needs to be said back.
pub struct Speech {
    pub to: Operation,
    pub body: Spliced,
    undo: Undo,
    echo: String,
    stream_usage: bool,
}

/// An event stream on its way, and what of it is said to the client.
pub struct Saying {
    upstream: Reply,
    decoder: Box<dyn StreamDecoder>,
    cutter: Cutter,
    writing: Writing,
    form: StreamForm,
    /// The reply has ended.
    done: bool,
}

/// The client's side of a stream.
struct Writing {
    encoder: Box<dyn StreamEncoder>,
    undoing: Undoing,
    /// Until it is sent.
    head: Option<ResponseHeader>,
    out: Vec<u8>,
    /// The first output has come.
    began: bool,
    /// The last event has been said.
    ended: bool,
    output_frames: u64,
    /// Tokens of what came, by its size.
    output: Tokens,
    usage: Option<Usage>,
    failed: Option<Error>,
    /// What the client has, as long as another target could go on from it.
    said: Option<Said>,
    /// The answer goes on: the client knows its beginning.
    goes_on: bool,
}

// === impl Speech ===

impl Speech {
    /// Say a request in the dialect of `to`.
    pub fn new(
        question: &Question<'_>,
        envelope: &Envelope,
        to: Operation,
        target: &Target,
        lost: &mut Lost,
    ) -> Result<Self> {
        let (inbound, outbound) = codecs(question.inquiry.operation, to)?;
        let body = &envelope.body;
        let node = Node::parse(body).map_err(unreadable)?;
        let mut losses = inbound.unsaid(&node);
        let mut request = inbound.decode_request(node).map_err(|wrong| misfit(body, &wrong))?;
        request.model = (&*envelope.model).into();
        request.stream = envelope.stream;
        if let Some(said) = &question.said {
            go_on(&mut request, said);
        }
        let echo = inbound.echo(&request);
        let stream_usage = request.stream_usage;
        let manners = manners(target)?;
        let undo = adapt(&mut request, &outbound.abilities(&target.model, manners), &mut losses);
        let encoded = outbound.encode_request(&request, &To { model: &target.model, manners });
        losses.merge(encoded.losses);
        book(lost, body, &losses, "", target.on_loss)?;
        Ok(Speech { to, body: in_one_piece(encoded.body), undo, echo, stream_usage })
    }

    fn reply_to<'c>(&'c self, question: &'c Question<'_>) -> ReplyTo<'c> {
        ReplyTo { stream_usage: self.stream_usage, echo: &self.echo, ..question.reply_to() }
    }
}

/// Let another target go on where an answer broke. Not every model goes on by itself behind a turn of its own, so it is told to.
fn go_on<'a>(request: &mut Request<'a>, said: &'a Said) {
    if said.text.is_empty() {
        return;
    }
    let turn = |role, text: &'a str| Turn {
        role,
        name: None,
        blocks: vec![Block::Text(Text {
            text: text.into(),
            citations: Vec::new(),
            cache: None,
            seal: None,
            at: At::NOWHERE,
            extra: Extra::default(),
        })],
        at: At::NOWHERE,
        extra: Extra::default(),
    };
    request.turns.push(turn(Role::Assistant, &said.text));
    request.turns.push(turn(Role::User, GO_ON));
}

fn codecs(from: Operation, to: Operation) -> Result<(&'static dyn Inbound, &'static dyn Outbound)> {
    match (inbound(from), to.dialect()) {
        (Some(inbound), Some(dialect)) => Ok((inbound, outbound(dialect))),
        _ => Err(Error::internal("There is no way between these two dialects.")),
    }
}

/// Read a reply up to its first output.
pub async fn begin(
    line: &Line<'_>,
    mut reply: Reply,
    speech: &Speech,
    seen: &mut Seen,
) -> Result<Beginning, Box<Failed>> {
    let (inbound, outbound) = codecs(line.operation(), speech.to).map_err(Failed::of)?;
    match reply.status() {
        200..=203 => {}
        400..=599 => return Err(refused(line, outbound, reply, seen).await),
        status => return Err(splice::no_answer_of(status)),
    }
    let origin = Origin { model: &line.target.model };
    let head = head(&reply).map_err(|e| Failed::of(flow::broken_head(e)))?;
    if !line.question.stream {
        let body = line.read_whole(&mut reply, REPLY_LIMIT, seen).await?;
        is_answer(line, outbound, &body)?;
        let whole = whole(line, inbound, outbound, speech, head, &body)?;
        line.release(reply).await;
        return Ok(Beginning::Whole(Box::new(whole)));
    }
    let mut writing = Writing::new(inbound, &speech.reply_to(line.question), speech.undo.clone(), head);
    writing.said = match &line.question.said {
        Some(said) => Some(said.clone()),
        None => line.question.resume.then(Said::default),
    };
    writing.goes_on = line.question.said.is_some();
    let mut saying = Saying {
        decoder: outbound.stream_decoder(&origin),
        cutter: Cutter::new(outbound.framing()),
        upstream: reply,
        writing,
        form: line.question.form,
        done: false,
    };
    if saying.upstream.is_type("application/json") {
        // a provider that answers whole although a stream was asked for
        let body = line.read_whole(&mut saying.upstream, REPLY_LIMIT, seen).await?;
        is_answer(line, outbound, &body)?;
        let node = Node::parse_reply(&body).map_err(|e| Failed::of(garbled(e.into())))?;
        let response = outbound.decode_response(node, &origin).map_err(|e| Failed::of(garbled(e.into())))?;
        unfold(response).into_iter().for_each(|event| saying.writing.take(event));
        saying.done = true;
    } else if !saying.upstream.is_type(match outbound.framing() {
        Framing::Sse => "text/event-stream",
        Framing::EventStream => "application/vnd.amazon.eventstream",
    }) {
        return Err(Failed::of(garbled(Garbled::new("the content type of the answer is not that of a stream"))));
    }
    saying.begin(line, seen).await?;
    Ok(Beginning::Saying(Box::new(saying)))
}

/// Whether there is anything to say of a body.
fn is_answer(line: &Line<'_>, outbound: &dyn Outbound, body: &[u8]) -> Result<(), Box<Failed>> {
    splice::is_answer(line, outbound, body)?;
    if crate::json::Object::scan(body).is_ok_and(|object| object.members.is_empty()) {
        return Err(Failed::of(garbled(Garbled::new("an empty object"))));
    }
    Ok(())
}

/// A whole answer where a stream was asked for, said as one: the provider speaks the client's dialect.
pub fn unstreamed(line: &Line<'_>, reply: Reply, body: &[u8], seen: &mut Seen) -> Result<Beginning, Box<Failed>> {
    let (inbound, outbound) = codecs(line.operation(), line.operation()).map_err(Failed::of)?;
    let origin = Origin { model: &line.target.model };
    let head = head(&reply).map_err(|e| Failed::of(flow::broken_head(e)))?;
    let mut writing = Writing::new(inbound, &line.question.reply_to(), Undo::default(), head);
    let node = Node::parse_reply(body).map_err(|e| Failed::of(garbled(e.into())))?;
    let response = outbound.decode_response(node, &origin).map_err(|e| Failed::of(garbled(e.into())))?;
    unfold(response).into_iter().for_each(|event| writing.take(event));
    seen.first_token = Some(line.flight.begun.elapsed());
    let (decoder, cutter) = (outbound.stream_decoder(&origin), Cutter::new(outbound.framing()));
    let form = line.question.form;
    Ok(Beginning::Saying(Box::new(Saying { upstream: reply, decoder, cutter, writing, form, done: true })))
}

// === a whole reply ===

fn whole(
    line: &Line<'_>,
    inbound: &dyn Inbound,
    outbound: &dyn Outbound,
    speech: &Speech,
    mut head: ResponseHeader,
    body: &[u8],
) -> Result<Whole, Box<Failed>> {
    let said = || -> Result<Whole> {
        let node = Node::parse_reply(body).map_err(|e| garbled(e.into()))?;
        let origin = Origin { model: &line.target.model };
        let mut response = outbound.decode_response(node, &origin).map_err(|e| garbled(e.into()))?;
        speech.undo.response(&mut response);
        let encoded = inbound.encode_response(&response, &speech.reply_to(line.question));
        let mut lost = Lost::default();
        book(&mut lost, body, &encoded.losses, "reply.", OnLoss::Report)?;
        let text = Bytes::from(encoded.body);
        head.insert_header(http::header::CONTENT_TYPE, reply::JSON).map_err(flow::broken_head)?;
        head.insert_header(http::header::CONTENT_LENGTH, text.len()).map_err(flow::broken_head)?;
        Ok(Whole { head, body: text, usage: response.usage, lost, estimated: false })
    };
    said().map_err(Failed::of)
}

/// The reply's header section: what of the provider's says something in any dialect.
fn head(upstream: &Reply) -> pingora::Result<ResponseHeader> {
    let mut head = ResponseHeader::build_no_case(200, Some(16))?;
    for name in reply::QUOTA {
        if let Some(value) = upstream.header(name) {
            head.insert_header(name, value.clone())?;
        }
    }
    Ok(head)
}

// === a stream ===

impl Saying {
    /// Until the first output. The life cycle's opening waits for it: an error before it is no answer.
    async fn begin(&mut self, line: &Line<'_>, seen: &mut Seen) -> Result<(), Box<Failed>> {
        while !self.done {
            match line.read_chunk(&mut self.upstream, seen).await? {
                Some(chunk) => self.push(chunk).map_err(Failed::of)?,
                None => self.end().map_err(Failed::of)?,
            }
            if self.writing.began || self.writing.failed.is_some() || self.writing.out.len() > flow::HELD {
                break;
            }
        }
        match self.writing.failed.take() {
            Some(error) if !self.writing.began => {
                let secrets = line.shared.credentials.secrets(&line.target.provider);
                let say = splice::scrubbed_text(&error.say, &line.target.provider, &secrets);
                Err(Failed::of(Error { say: say.into(), ..error }))
            }
            failed => {
                self.writing.failed = failed;
                if !self.writing.began && self.done {
                    let error = Error::new(Kind::UpstreamFailed, "The provider's stream ended before it began.");
                    return Err(Failed::of(error));
                }
                seen.first_token = Some(line.flight.begun.elapsed());
                Ok(())
            }
        }
    }

    fn push(&mut self, chunk: Bytes) -> Result<()> {
        let Saying { cutter, decoder, writing, .. } = self;
        cutter
            .push(chunk, |frame| {
                let mut events = Vec::new();
                decoder.push(frame, &mut events)?;
                events.into_iter().for_each(|event| writing.take(event));
                Ok(())
            })
            .map_err(garbled)
    }

    /// The reply has ended. `Err` when the stream was not whole.
    fn end(&mut self) -> Result<()> {
        self.done = true;
        let Saying { cutter, decoder, writing, .. } = self;
        cutter
            .finish(|frame| {
                let mut events = Vec::new();
                decoder.push(frame, &mut events)?;
                events.into_iter().for_each(|event| writing.take(event));
                Ok(())
            })
            .map_err(garbled)?;
        let mut events = Vec::new();
        decoder
            .finish(&mut events)
            .map_err(|_| Error::new(Kind::UpstreamFailed, "The provider broke off the stream."))?;
        events.into_iter().for_each(|event| writing.take(event));
        Ok(())
    }

    /// Send what there is and what comes. `opened`: the client has the header section already. `Some`: the answer broke, the client was not
    /// told, and another target can go on from what it has.
    pub async fn finish(
        mut self: Box<Self>,
        shared: &Shared,
        session: &mut Session,
        call: &mut Call,
        pace: Pace,
        opened: bool,
    ) -> Result<Option<Said>> {
        let _open = OpenStream::new(shared);
        let done = self.forward(session, call, pace, opened).await;
        if done.as_ref().is_err_and(|error| error.kind == Kind::ClientGone) && call.disconnect == Disconnect::Drain {
            self.unheard(call, pace).await;
        }
        call.output_estimate = self.writing.output;
        call.usage = self.writing.usage;
        call.output_frames = self.writing.output_frames;
        let ended = match done {
            Ok(()) => Ok(Ended::Whole),
            Err(error) if error.kind == Kind::ClientGone => Err(error),
            // all was said: what breaks behind it concerns nobody
            Err(_) if self.writing.ended => Ok(Ended::Broken),
            Err(error) if self.writing.said.is_some() => {
                self.flush(session, call, false).await?;
                self.upstream.session.shutdown().await;
                tracing::debug!("call {}: {error}; another target goes on", call.id.as_str());
                return Ok(self.writing.said);
            }
            Err(error) => {
                call.fail(&error);
                self.writing.encoder.push(Event::Error(error), &mut self.writing.out);
                Ok(Ended::Broken)
            }
        };
        let ended = match ended {
            Ok(ended) => self.flush(session, call, true).await.map(|()| ended),
            Err(error) => Err(error),
        };
        let losses: Losses = self.writing.encoder.losses().clone();
        book(&mut call.losses, b"", &losses, "reply.", OnLoss::Report)?;
        flow::close(shared, self.upstream, ended).await.map(|()| None)
    }

    /// The client has left: read on, for what the answer costs.
    pub async fn unheard(&mut self, call: &mut Call, pace: Pace) {
        let pace = pace.for_nobody();
        while !self.done && self.writing.failed.is_none() {
            let read = match flow::next_chunk(&mut self.upstream, pace).await {
                Ok(Some(chunk)) => self.push(chunk),
                Ok(None) => self.end(),
                Err(error) => Err(error),
            };
            if read.is_err() {
                break;
            }
            // what would be said
            self.writing.out.clear();
        }
        (call.usage, call.output_estimate) = (self.writing.usage, self.writing.output);
    }

    /// Say what comes until the stream ends. `Err` when it broke.
    async fn forward(&mut self, session: &mut Session, call: &mut Call, pace: Pace, opened: bool) -> Result<()> {
        if let Some(head) = self.writing.head.take().filter(|_| !opened) {
            self.open(session, call, head).await?;
        }
        let every = call.snapshot.server.heartbeat;
        let mut heartbeat = (!every.is_zero()).then(|| Heartbeat::new(every));
        let alive = Bytes::from_static(self.writing.encoder.heartbeat());
        loop {
            if let Some(error) = &self.writing.failed {
                if self.writing.said.is_some() {
                    return Err(copy(error));
                }
                // the encoder has said it
                call.fail(error);
                return Ok(());
            }
            if self.done {
                return Ok(());
            }
            if !self.writing.out.is_empty() {
                self.flush(session, call, false).await?;
                if let Some(heartbeat) = &mut heartbeat {
                    heartbeat.wrote();
                }
            }
            let pace = if self.writing.ended { pace.shortly() } else { pace };
            let chunk = match &mut heartbeat {
                Some(heartbeat) => {
                    flow::read_chunk_alive(session, call, &mut self.upstream, pace, heartbeat, &alive).await?
                }
                None => flow::read_chunk(session, call, &mut self.upstream, pace).await?,
            };
            match chunk {
                Some(chunk) => self.push(chunk)?,
                None => self.end()?,
            }
            if self.writing.began && call.first_token.is_none() {
                call.first_token = Some(call.started.elapsed());
            }
        }
    }

    async fn open(&mut self, session: &mut Session, call: &mut Call, mut head: ResponseHeader) -> Result<()> {
        head.insert_header(http::header::CONTENT_TYPE, media_type(self.form)).map_err(flow::broken_head)?;
        head.insert_header(http::header::CACHE_CONTROL, "no-cache").map_err(flow::broken_head)?;
        flow::stream_head(session, call, head).await
    }

    async fn flush(&mut self, session: &mut Session, call: &mut Call, end: bool) -> Result<()> {
        let bytes = Bytes::from(std::mem::take(&mut self.writing.out));
        flow::write(session, call, (!bytes.is_empty()).then_some(bytes), end).await
    }
}

/// How a stream is called.
pub fn media_type(form: StreamForm) -> &'static str {
    match form {
        StreamForm::Sse => "text/event-stream; charset=utf-8",
        StreamForm::Array => "application/json; charset=utf-8",
    }
}

impl Writing {
    fn new(inbound: &dyn Inbound, to: &ReplyTo<'_>, undo: Undo, head: ResponseHeader) -> Self {
        Writing {
            encoder: inbound.stream_encoder(to),
            undoing: Undoing::new(undo),
            head: Some(head),
            out: Vec::new(),
            began: false,
            ended: false,
            output_frames: 0,
            output: Tokens(0),
            usage: None,
            failed: None,
            said: None,
            goes_on: false,
        }
    }

    /// One event of the provider's.
    fn take(&mut self, event: Event<'_>) {
        let event = self.remember(event);
        match &event {
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::End => {
                self.began = true;
                self.ended = true;
            }
            // a text that opens says nothing yet
            Event::Open { open, .. } => {
                self.began |= !matches!(open, Open::Text | Open::Thinking { .. } | Open::Refusal)
            }
            Event::Stop { .. } => self.began = true,
            Event::Delta { delta, .. } => {
                self.output += billing::tokens_of_piece(delta.said() as u64);
                self.began = true;
                self.output_frames += 1;
            }
            Event::Error(error) => self.failed = Some(copy(error)),
            Event::Start(_) | Event::Close { .. } | Event::Extra { .. } | Event::Ping => {}
        }
        if self.said.is_some() && matches!(event, Event::Error(_)) {
            // another target may go on: the client need not know
            return;
        }
        let mut events = Vec::with_capacity(2);
        self.undoing.push(event, &mut events);
        for event in events {
            self.encoder.push(event, &mut self.out);
        }
        if self.goes_on && !self.out.is_empty() {
            // the first frame names the role, which the client knows
            self.goes_on = false;
            let end = memchr::memmem::find(&self.out, b"\n\n").map_or(0, |at| at + 2);
            self.out.drain(..end);
        }
    }

    /// Keep what another target would need to go on, while it could.
    fn remember<'e>(&mut self, event: Event<'e>) -> Event<'e> {
        let Some(said) = &mut self.said else { return event };
        let plain = match &event {
            Event::Start(_) if self.goes_on => return Event::Start(said.start.clone()),
            Event::Start(start) => {
                said.start = own(start);
                true
            }
            Event::Open { choice, open, .. } => *choice == 0 && matches!(open, Open::Text | Open::Thinking { .. }),
            Event::Delta { delta: Delta::Text(text), .. } => {
                said.text.push_str(text);
                said.text.len() <= SAID
            }
            Event::Stop { .. } | Event::End => false,
            _ => true,
        };
        if !plain {
            self.said = None;
        }
        event
    }
}

fn own(start: &Start<'_>) -> Start<'static> {
    let own = |text: &Option<std::borrow::Cow<'_, str>>| text.as_ref().map(|text| text.to_string().into());
    Start {
        id: own(&start.id),
        model: own(&start.model),
        created: start.created,
        service_tier: own(&start.service_tier),
    }
}

// === a refusal ===

/// The provider's error, in words that every dialect has.
pub async fn refused(line: &Line<'_>, outbound: &dyn Outbound, mut upstream: Reply, seen: &mut Seen) -> Box<Failed> {
    let status = upstream.status();
    if !(400..600).contains(&status) {
        return splice::no_answer_of(status);
    }
    // the status says enough
    let read = line.read_whole(&mut upstream, flow::ERROR_LIMIT, seen).await;
    let whole = read.is_ok();
    let body = read.unwrap_or_default();
    let Refusal { reason, message, retry_after, param: _, code } = outbound.decode_error(status, &body);
    let retry_after = reply::retry_after(&upstream).or(retry_after);
    let provider = &line.target.provider;
    let message = if message.is_empty() {
        format!("The provider answered with status {status}.")
    } else {
        splice::scrubbed_text(&message, provider, &line.shared.credentials.secrets(provider))
    };
    if whole {
        line.release(upstream).await;
    } else {
        upstream.session.shutdown().await;
    }
    let error = Error::new(Kind::UpstreamRefused { status, reason, retry_after }, message);
    Failed::of(match code {
        Some(code) => error.why(format!("{status} {} {code}", reason.label())),
        None => error.why(format!("{status} {}", reason.label())),
    })
}

/// An error said twice: in the stream, and in the record.
fn copy(error: &Error) -> Error {
    let mut again = Error::new(error.kind, error.say.clone());
    again.code = error.code;
    again
}

/// A provider's answer that cannot be read. The reason stays in the log.
pub fn garbled(garbled: Garbled) -> Error {
    Error::new(Kind::UpstreamFailed, "The provider's answer could not be read.")
        .code("upstream_garbled")
        .why(garbled.what.into_owned())
}
