//! A provider's event stream, read.
//!
//! Vendors leave out events, names and numbers. So everything that comes whole again later (`.done`, the finished item, the finished
//! answer) is compared with what was streamed, and what is missing is said then. Items are told apart by `output_index`, or by their id.

use std::borrow::Cow;

use super::stream_items::{Items, Key};
use super::{decode_response, error};
use crate::chat::{Dialect, Event, Start};
use crate::dialect::{Frame, Garbled, StreamDecoder};
use crate::error::{Error, Kind, Refused};
use crate::json::{Members, Node};

/// Reads the events of one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    started: bool,
    ended: bool,
    items: Items,
}

// === impl Decoder ===

impl Decoder {
    fn start<'f>(&mut self, response: Option<&mut Members<'f>>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        let mut start = Start::default();
        if let Some(response) = response {
            start.id = response.take_string("id")?;
            start.model = response.take_string("model")?;
            start.created = decode_response::created(response);
            // `auto` is what was asked for; which tier it is comes with the end
            start.service_tier = response.take_string("service_tier")?.filter(|tier| tier != "auto");
        }
        self.items.response_id = start.id.as_deref().unwrap_or_default().to_owned();
        out.push(Event::Start(start));
        Ok(())
    }

    fn part<'f>(&mut self, kind: &str, event: &mut Members<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let key = key(event)?;
        let items = &mut self.items;
        let index = |event: &mut Members<'f>, name: &str| event.take_u64(name).map(Option::unwrap_or_default);
        match kind {
            "output_item.added" | "output_item.done" => {
                let Some(item) = event.take("item") else { return Ok(()) };
                if kind == "output_item.added" { items.added(&key, item, out)? } else { items.done(&key, item, out)? }
            }
            "content_part.added" | "content_part.done" => {
                let index = index(event, "content_index")?;
                if let Some(part) = event.take("part") {
                    items.part(&key, index, part, kind == "content_part.done", out)?;
                }
            }
            "output_text.delta" | "refusal.delta" => {
                let index = index(event, "content_index")?;
                let text = event.take_string("delta")?.unwrap_or_default();
                items.text(&key, index, kind == "refusal.delta", text, event.take("logprobs"), out)?;
            }
            "output_text.done" | "refusal.done" => {
                let index = index(event, "content_index")?;
                let refusal = kind == "refusal.done";
                let text = event.take_string(if refusal { "refusal" } else { "text" })?.unwrap_or_default();
                items.text_done(&key, index, refusal, text, event.take("logprobs"), out)?;
            }
            "output_text.annotation.added" => {
                let index = index(event, "content_index")?;
                if let Some(annotation) = event.take("annotation") {
                    items.annotation(&key, index, annotation, out)?;
                }
            }
            "reasoning_summary_text.delta" | "reasoning_text.delta" | "reasoning.delta" => {
                let summary = kind == "reasoning_summary_text.delta";
                let index = index(event, if summary { "summary_index" } else { "content_index" })?;
                // one vendor's `reasoning.delta` carries an object
                let text = event.take("delta").and_then(|node| node.string().ok()).unwrap_or_default();
                items.thought(&key, (summary, index), text, out)?;
            }
            "reasoning_summary_text.done" | "reasoning_text.done" => {
                let summary = kind == "reasoning_summary_text.done";
                let index = index(event, if summary { "summary_index" } else { "content_index" })?;
                let text = event.take_string("text")?.unwrap_or_default();
                items.thought_done(&key, (summary, index), text, out)?;
            }
            "function_call_arguments.delta" | "custom_tool_call_input.delta" => {
                let text = event.take_string("delta")?.unwrap_or_default();
                items.arguments(&key, text, out);
            }
            "function_call_arguments.done" | "custom_tool_call_input.done" => {
                let text = event.take_string("arguments")?.or(event.take_string("input")?).unwrap_or_default();
                items.arguments_done(&key, text, out);
            }
            // the states of server tools come whole with their item; other events are not of the answer
            _ => {}
        }
        Ok(())
    }

    /// The last event: what it holds beyond what was streamed, and how the answer ended.
    fn end<'f>(&mut self, mut response: Members<'f>, failed: bool, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let output = response.take_array("output")?.unwrap_or_default();
        let facts = decode_response::facts(response)?;
        if failed || facts.status.as_deref() == Some("failed") {
            out.extend(facts.usage.map(Event::Usage));
            let error = facts.error.as_ref().map_or_else(broken, error::in_stream);
            return self.fail(error, out);
        }
        self.items.compare(output, out)?;
        self.items.close_all(out);
        out.extend(facts.usage.map(Event::Usage));
        let stop = decode_response::stop_of(&facts, self.items.called, self.items.refused);
        out.push(Event::Stop { choice: 0, stop });
        for member in facts.extra.0 {
            // said at the start, or known only now; either way not a fact apart
            if !matches!(&*member.name, "id" | "model" | "created_at" | "service_tier") {
                let dialect = Dialect::OpenAiResponses;
                out.push(Event::Extra { dialect, name: member.name, json: member.json });
            }
        }
        out.push(Event::End);
        self.ended = true;
        Ok(())
    }

    fn fail<'f>(&mut self, error: Error, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        out.push(Event::Error(error));
        self.ended = true;
        Ok(())
    }
}

impl StreamDecoder for Decoder {
    fn push<'f>(&mut self, frame: Frame<'f>, out: &mut Vec<Event<'f>>) -> Result<(), Garbled> {
        let data = frame.data.trim_ascii();
        if self.ended || data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let mut event = Node::parse_reply(data)?.object()?;
        let kind = event.take_string("type")?.unwrap_or(Cow::Borrowed(frame.name));
        match &*kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                let mut response = event.take_object("response")?;
                self.start(response.as_mut(), out)
            }
            "response.completed"
            | "response.incomplete"
            | "response.failed"
            | "response.cancelled"
            | "response.done" => {
                let mut response = event.take_object("response")?.unwrap_or_default();
                self.start(Some(&mut response), out)?;
                self.end(response, kind == "response.failed", out)
            }
            "error" => {
                let inner = event.take_object("error")?.unwrap_or(event);
                self.fail(error::in_stream(&inner), out)
            }
            "keepalive" | "ping" => {
                out.push(Event::Ping);
                Ok(())
            }
            _ => match kind.strip_prefix("response.") {
                Some(part) => {
                    self.start(None, out)?;
                    self.part(part, &mut event, out)
                }
                // an error in the words of other dialects
                None => match event.take("error").and_then(|node| node.object().ok()) {
                    Some(error) => self.fail(error::in_stream(&error), out),
                    None => Ok(()),
                },
            },
        }
    }

    fn finish(&mut self, _out: &mut Vec<Event<'static>>) -> Result<(), Garbled> {
        if self.ended { Ok(()) } else { Err(Garbled::new("the stream ended before `response.completed`")) }
    }
}

/// Which item an event is of.
fn key(event: &mut Members<'_>) -> Result<Key, Garbled> {
    let index = event.take_u64("output_index")?;
    let id = event.take_string("item_id")?.map(Cow::into_owned);
    Ok(Key { index, id })
}

fn broken() -> Error {
    let kind = Kind::UpstreamRefused { status: 500, reason: Refused::ServerError, retry_after: None };
    Error::new(kind, "The provider could not finish its answer.")
}
