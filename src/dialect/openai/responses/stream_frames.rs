//! The events of a stream, each as one frame with its number. Which comes when is `stream_encoder`'s business.

use super::output::{Item, Part, Status};
use crate::chat::CallKind;
use crate::json::Writer;

/// Writes frames.
#[derive(Debug, Default)]
pub struct Frames {
    /// Of the next event.
    pub sequence: u64,
}

/// An item's number and id.
type Of<'a> = (usize, &'a String);

// === impl Frames ===

impl Frames {
    fn event(&mut self, out: &mut Vec<u8>, name: &str, members: impl FnOnce(&mut Writer<'_>)) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let start = out.len();
        let mut w = Writer::new(out);
        w.object();
        w.name("type").string(name);
        w.name("sequence_number").number(self.sequence);
        members(&mut w);
        w.end_object();
        // a text put in as it came may hold line ends: between tokens, for within strings they are escaped
        for byte in out.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
        out.extend_from_slice(b"\n\n");
        self.sequence += 1;
    }

    /// `response.created`, `response.completed`, ...
    pub fn response(&mut self, out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
        self.event(out, name, |w| write(w.name("response")));
    }

    /// `response.output_item.added` and `.done`.
    pub fn item(&mut self, out: &mut Vec<u8>, name: &str, n: usize, item: &Item, status: Status) {
        self.event(out, name, |w| {
            w.name("output_index").number(n as u64);
            item.write(w.name("item"), status);
        });
    }

    fn of_item(&mut self, out: &mut Vec<u8>, name: &str, (n, id): Of<'_>, members: impl FnOnce(&mut Writer<'_>)) {
        self.event(out, name, |w| {
            w.name("item_id").string(id);
            w.name("output_index").number(n as u64);
            members(w);
        });
    }

    /// `response.content_part.added` and `.done`.
    pub fn part(&mut self, out: &mut Vec<u8>, name: &str, of: Of<'_>, part: usize, said: &Part) {
        self.of_item(out, name, of, |w| {
            w.name("content_index").number(part as u64);
            said.write(w.name("part"));
        });
    }

    pub fn text(&mut self, out: &mut Vec<u8>, of: Of<'_>, part: usize, refusal: bool, text: &str, logprobs: &[String]) {
        let name = if refusal { "response.refusal.delta" } else { "response.output_text.delta" };
        self.of_item(out, name, of, |w| {
            w.name("content_index").number(part as u64);
            w.name("delta").string(text);
            if !refusal {
                list(w, "logprobs", logprobs);
            }
        });
    }

    pub fn text_done(&mut self, out: &mut Vec<u8>, of: Of<'_>, part: usize, said: &Part) {
        let name = if said.refusal { "response.refusal.done" } else { "response.output_text.done" };
        self.of_item(out, name, of, |w| {
            w.name("content_index").number(part as u64);
            w.name(if said.refusal { "refusal" } else { "text" }).string(&said.text);
            if !said.refusal {
                list(w, "logprobs", &said.logprobs);
            }
        });
    }

    pub fn annotation(&mut self, out: &mut Vec<u8>, of: Of<'_>, part: usize, n: usize, json: &str) {
        self.of_item(out, "response.output_text.annotation.added", of, |w| {
            w.name("content_index").number(part as u64);
            w.name("annotation_index").number(n as u64);
            w.name("annotation").raw(json);
        });
    }

    /// A part of a thought is `added` or `done`.
    pub fn thought_part(&mut self, out: &mut Vec<u8>, what: &str, of: Of<'_>, summary: bool, n: usize, text: &str) {
        let (name, index) = match summary {
            true => (format!("response.reasoning_summary_part.{what}"), "summary_index"),
            false => (format!("response.content_part.{what}"), "content_index"),
        };
        self.of_item(out, &name, of, |w| {
            w.name(index).number(n as u64);
            w.name("part").object();
            w.name("type").string(if summary { "summary_text" } else { "reasoning_text" });
            w.name("text").string(text);
            w.end_object();
        });
    }

    pub fn thought(&mut self, out: &mut Vec<u8>, of: Of<'_>, summary: bool, n: usize, text: &str) {
        self.thought_text(out, of, (summary, n), "delta", text);
    }

    pub fn thought_done(&mut self, out: &mut Vec<u8>, of: Of<'_>, summary: bool, n: usize, text: &str) {
        self.thought_text(out, of, (summary, n), "done", text);
    }

    fn thought_text(&mut self, out: &mut Vec<u8>, of: Of<'_>, (summary, n): (bool, usize), what: &str, text: &str) {
        let (kind, index) =
            if summary { ("reasoning_summary_text", "summary_index") } else { ("reasoning_text", "content_index") };
        self.of_item(out, &format!("response.{kind}.{what}"), of, |w| {
            w.name(index).number(n as u64);
            w.name(if what == "delta" { "delta" } else { "text" }).string(text);
        });
    }

    pub fn arguments(&mut self, out: &mut Vec<u8>, of: Of<'_>, kind: CallKind, text: &str) {
        let name = match kind {
            CallKind::Function => "response.function_call_arguments.delta",
            CallKind::Custom => "response.custom_tool_call_input.delta",
        };
        self.of_item(out, name, of, |w| w.name("delta").string(text));
    }

    pub fn arguments_done(&mut self, out: &mut Vec<u8>, of: Of<'_>, kind: CallKind, text: &str) {
        let (name, member) = match kind {
            CallKind::Function => ("response.function_call_arguments.done", "arguments"),
            CallKind::Custom => ("response.custom_tool_call_input.done", "input"),
        };
        self.of_item(out, name, of, |w| w.name(member).string(text));
    }

    /// A search or a program has begun.
    pub fn server_call(&mut self, out: &mut Vec<u8>, n: usize, item: &Item) {
        let id = item.id().to_owned();
        let mut state = |name: &str| self.of_item(out, name, (n, &id), |_| {});
        match item {
            Item::Search { .. } => {
                state("response.web_search_call.in_progress");
                state("response.web_search_call.searching");
            }
            Item::Program { code, .. } => {
                state("response.code_interpreter_call.in_progress");
                self.of_item(out, "response.code_interpreter_call_code.delta", (n, &id), |w| {
                    w.name("delta").string(code);
                });
                self.of_item(out, "response.code_interpreter_call_code.done", (n, &id), |w| {
                    w.name("code").string(code);
                });
                self.of_item(out, "response.code_interpreter_call.interpreting", (n, &id), |_| {});
            }
            _ => {}
        }
    }

    /// What is said of an item right before it is done.
    pub fn before_done(&mut self, out: &mut Vec<u8>, n: usize, item: &Item) {
        let name = match item {
            Item::Search { .. } => "response.web_search_call.completed",
            Item::Program { .. } => "response.code_interpreter_call.completed",
            Item::Image { .. } => "response.image_generation_call.completed",
            Item::Message { .. } | Item::Reasoning { .. } | Item::Call { .. } | Item::Native { .. } => return,
        };
        let id = item.id().to_owned();
        self.of_item(out, name, (n, &id), |_| {});
    }
}

fn list(w: &mut Writer<'_>, name: &str, items: &[String]) {
    w.name(name).array();
    items.iter().for_each(|json| w.raw(json));
    w.end_array();
}
