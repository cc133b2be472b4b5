//! What a client of each dialect makes of an answer's bytes: strict where an SDK may be, and blind to what the gateway meant.
//!
//! Truth: each dialect's API reference; WHATWG HTML 9.2.6 (event streams).

use serde_json::Value;

use super::client::{Answer, Client};
use super::family::Mode;

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An answer, whole, that ended as its dialect ends.
    Answer(String),
    /// An error with a status of its own.
    Refused(u16),
    /// A stream that ended with an error event, behind this text.
    Broken(String),
}

/// One event of a stream.
#[derive(Debug)]
struct Event {
    name: String,
    data: String,
}

/// What a stream has said so far.
#[derive(Debug, Default)]
struct Story {
    text: String,
    finished: bool,
    /// Nothing may come behind it.
    over: bool,
    failed: bool,
    /// Of Anthropic's: `message_start` has come; the block that is open.
    started: bool,
    block: Option<u64>,
    /// Of responses: the lowest number the next event may have.
    number: u64,
}

/// The meaning of an answer, or why it has none.
pub fn told(client: Client, mode: Mode, answer: &Answer) -> Result<Told, String> {
    for name in ["x-request-id", "content-type"] {
        answer.header(name).ok_or_else(|| format!("no {name}"))?;
    }
    if let Some(coding) = answer.header("content-encoding") {
        return Err(format!("content-encoding {coding:?}, which was not asked for"));
    }
    let kind = answer.header("content-type").unwrap_or_default();
    if answer.status >= 400 {
        if !kind.starts_with("application/json") {
            return Err(format!("an error as {kind:?}"));
        }
        return error(client, answer.status, &json(&answer.body)?).map(|()| Told::Refused(answer.status));
    }
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    match mode {
        Mode::Whole if kind.starts_with("application/json") => whole(client, &json(&answer.body)?).map(Told::Answer),
        Mode::Streamed if kind.starts_with("text/event-stream") => stream(client, &answer.body),
        _ => Err(format!("an answer as {kind:?}")),
    }
}

fn json(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|e| format!("no JSON: {e}"))
}

fn text<'v>(value: &'v Value, what: &str) -> Result<&'v str, String> {
    value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| format!("{what} is {value}"))
}

fn is(value: &Value, wanted: &str, what: &str) -> Result<(), String> {
    if value == wanted { Ok(()) } else { Err(format!("{what} is {value}, not {wanted:?}")) }
}

// === errors ===

fn error(client: Client, status: u16, body: &Value) -> Result<(), String> {
    let error = &body["error"];
    match client {
        Client::Chat | Client::Responses => openai_error(error),
        Client::Messages => {
            is(&body["type"], "error", "type")?;
            text(&error["type"], "error.type")?;
            text(&error["message"], "error.message").map(drop)
        }
        Client::Gemini => {
            if error["code"] != status {
                return Err(format!("error.code {} with status {status}", error["code"]));
            }
            text(&error["status"], "error.status")?;
            text(&error["message"], "error.message").map(drop)
        }
    }
}

fn openai_error(error: &Value) -> Result<(), String> {
    text(&error["message"], "error.message")?;
    text(&error["type"], "error.type")?;
    match (error.get("param"), error.get("code")) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err("error without param and code".to_owned()),
    }
}

// === whole answers ===

fn whole(client: Client, body: &Value) -> Result<String, String> {
    match client {
        Client::Chat => {
            is(&body["object"], "chat.completion", "object")?;
            let choice = &body["choices"][0];
            is(&choice["message"]["role"], "assistant", "role")?;
            text(&choice["finish_reason"], "finish_reason")?;
            Ok(text(&choice["message"]["content"], "content")?.to_owned())
        }
        Client::Responses => {
            is(&body["object"], "response", "object")?;
            is(&body["status"], "completed", "status")?;
            let items = body["output"].as_array().ok_or("no output")?;
            let message = items.iter().find(|item| item["type"] == "message").ok_or("no message")?;
            Ok(text(&message["content"][0]["text"], "text")?.to_owned())
        }
        Client::Messages => {
            is(&body["type"], "message", "type")?;
            is(&body["role"], "assistant", "role")?;
            text(&body["stop_reason"], "stop_reason")?;
            Ok(text(&body["content"][0]["text"], "text")?.to_owned())
        }
        Client::Gemini => {
            let candidate = &body["candidates"][0];
            text(&candidate["finishReason"], "finishReason")?;
            Ok(text(&candidate["content"]["parts"][0]["text"], "text")?.to_owned())
        }
    }
}

// === streams ===

fn stream(client: Client, body: &[u8]) -> Result<Told, String> {
    let mut story = Story::default();
    for event in events(body)? {
        if story.over {
            return Err(format!("behind the end of the stream: {event:?}"));
        }
        match client {
            Client::Chat => story.chat(&event),
            Client::Responses => story.responses(&event),
            Client::Messages => story.messages(&event),
            Client::Gemini => story.gemini(&event),
        }
        .map_err(|why| format!("{why}, in {event:?}"))?;
    }
    // Gemini's has no mark at its end
    let whole = story.finished && (story.over || client == Client::Gemini);
    match (story.failed, whole) {
        (true, _) => Ok(Told::Broken(story.text)),
        (false, true) => Ok(Told::Answer(story.text)),
        (false, false) => Err(format!(
            "a stream that just stops, finish {}, end {}, behind {:?}",
            story.finished, story.over, story.text
        )),
    }
}

/// The events that a reader dispatches. A frame that is not ended is one it would drop.
fn events(body: &[u8]) -> Result<Vec<Event>, String> {
    let text = std::str::from_utf8(body).map_err(|e| format!("no UTF-8: {e}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut name, mut data) = (String::new(), Vec::new());
    let mut lines: Vec<&str> = text.split('\n').collect();
    if lines.pop().is_some_and(|last| !last.is_empty()) {
        return Err("a last line without its end".to_owned());
    }
    for line in lines {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match (line, field) {
            ("", _) => {
                if !data.is_empty() {
                    events.push(Event { name: std::mem::take(&mut name), data: data.join("\n") });
                }
                (name, data) = (String::new(), Vec::new());
            }
            (_, "") => {} // a comment
            (_, "event") => name = value.to_owned(),
            (_, "data") => data.push(value),
            (_, "id" | "retry") => {}
            _ => return Err(format!("a line that is no field: {line:?}")),
        }
    }
    if name.is_empty() && data.is_empty() { Ok(events) } else { Err(format!("an event that does not end: {data:?}")) }
}

impl Story {
    fn chat(&mut self, event: &Event) -> Result<(), String> {
        if event.data == "[DONE]" {
            self.over = true;
            return Ok(());
        }
        let chunk = json(event.data.as_bytes())?;
        if !chunk["error"].is_null() {
            self.fail();
            return openai_error(&chunk["error"]);
        }
        is(&chunk["object"], "chat.completion.chunk", "object")?;
        for choice in chunk["choices"].as_array().ok_or("no choices")? {
            choice["delta"].as_object().ok_or("no delta")?;
            self.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            self.finish(&choice["finish_reason"])?;
        }
        Ok(())
    }

    fn messages(&mut self, event: &Event) -> Result<(), String> {
        let value = json(event.data.as_bytes())?;
        let kind = text(&value["type"], "type")?;
        is(&value["type"], &event.name, "type")?;
        let index = value["index"].as_u64();
        match kind {
            "ping" => {}
            "error" => {
                self.fail();
                return error(Client::Messages, 0, &value);
            }
            "message_start" if !std::mem::replace(&mut self.started, true) => {}
            _ if !self.started => return Err("before message_start".to_owned()),
            "content_block_start" if self.block.is_none() => self.block = index,
            "content_block_delta" if self.block == index && index.is_some() => {
                self.text.push_str(value["delta"]["text"].as_str().unwrap_or_default());
            }
            "content_block_stop" if self.block == index && index.is_some() => self.block = None,
            "message_delta" if self.block.is_none() => self.finish(&value["delta"]["stop_reason"])?,
            "message_stop" if self.finished => self.over = true,
            "content_block_start"
            | "content_block_delta"
            | "content_block_stop"
            | "message_start"
            | "message_delta"
            | "message_stop" => {
                return Err("out of turn".to_owned());
            }
            _ => {} // of a kind to come
        }
        Ok(())
    }

    fn gemini(&mut self, event: &Event) -> Result<(), String> {
        let chunk = json(event.data.as_bytes())?;
        if !chunk["error"].is_null() {
            self.fail();
            text(&chunk["error"]["status"], "error.status")?;
            return text(&chunk["error"]["message"], "error.message").map(drop);
        }
        if chunk["candidates"].is_null() && chunk["usageMetadata"].is_null() && chunk["promptFeedback"].is_null() {
            return Err("neither candidates nor usage".to_owned());
        }
        let candidate = &chunk["candidates"][0];
        let said: String = candidate["content"]["parts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|part| part["text"].as_str())
            .collect();
        self.text.push_str(&said);
        self.finish(&candidate["finishReason"])
    }

    fn responses(&mut self, event: &Event) -> Result<(), String> {
        let value = json(event.data.as_bytes())?;
        let kind = text(&value["type"], "type")?;
        is(&value["type"], &event.name, "type")?;
        // a gap may be the provider's own
        let number = value["sequence_number"].as_u64().filter(|number| *number >= self.number);
        self.number = number.ok_or_else(|| format!("number {} behind {}", value["sequence_number"], self.number))? + 1;
        match kind {
            "error" => {
                self.fail();
                return text(&value["message"], "message").map(drop);
            }
            "response.output_text.delta" => self.text.push_str(text(&value["delta"], "delta")?),
            "response.completed" => {
                is(&value["response"]["status"], "completed", "status")?;
                (self.finished, self.over) = (true, true);
            }
            "response.failed" => {
                self.fail();
                return text(&value["response"]["error"]["message"], "error.message").map(drop);
            }
            _ => {}
        }
        Ok(())
    }

    /// The reason why it stopped, if there is one here.
    fn finish(&mut self, reason: &Value) -> Result<(), String> {
        match reason.is_string() && std::mem::replace(&mut self.finished, true) {
            true => Err("a second finish".to_owned()),
            false => Ok(()),
        }
    }

    fn fail(&mut self) {
        (self.failed, self.over) = (true, true);
    }
}
