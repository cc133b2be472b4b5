//! What a simulated model says: one question in, one deterministic answer out, whatever the API it came over.
//!
//! Owns the choice between text, JSON and a tool call, the cut at `max_tokens` and `stop`, and the token count. It does not know
//! any wire shape: the files of the APIs read the question and write the answer.
//!
//! A token here is a *piece*: a run of letters, digits or signs of at most eight characters with the white space before it. The
//! count is near what OpenAI's tokenizers give for English, and exactly what the stream sends: a piece a chunk.

use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::schema;

/// How much of the question the answer repeats, in characters.
const ECHO: usize = 160;
/// Pieces in the answer of `sim-long`.
const LONG: usize = 2_000;
/// With more functions than this it calls none of its own accord: whoever offers so many is an agent, and would run what was
/// called on the user's machine.
const MOST_TOOLS: usize = 6;
/// What it thinks when it is asked to think.
const THOUGHT: &str = "The user wants an answer. I am a simulation, so I say so and repeat the question.";

/// A question, as far as the answer depends on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Question {
    /// All input tokens.
    pub(super) input_tokens: u64,
    /// The last thing the user said.
    pub(super) said: String,
    /// The tool result that ends the conversation, when one does.
    pub(super) tool_result: Option<String>,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    pub(super) format: Format,
    pub(super) max_tokens: Option<u64>,
    pub(super) stop: Vec<String>,
    pub(super) long: bool,
    /// Hidden reasoning tokens to bill.
    pub(super) reasoning_tokens: u64,
    /// The user wants to see thoughts.
    pub(super) thinks: bool,
    /// Something in the request is marked to be kept in a cache: half of the input then counts as read from it.
    pub(super) marked: bool,
}

/// A function the model may call.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) parameters: Value,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Choice {
    #[default]
    Free,
    Never,
    /// Whichever, but one.
    Must,
    /// This function and no other.
    Named(String),
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
    Schema(Value),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    /// Pieces of the thoughts before it; none unless they were wanted.
    pub(super) thought: Vec<String>,
    pub(super) say: Say,
    pub(super) finish: Finish,
    /// The stop sequence that ended it.
    pub(super) stopped_by: Option<String>,
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Say {
    /// Pieces of a text; together they are the text.
    Text(Vec<String>),
    /// A call, its arguments in pieces.
    Call { name: String, arguments: Vec<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
    ToolCall,
}

/// Tokens as billed; `cached` is part of `input`, `reasoning` of `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
}

// === impl Question ===

impl Question {
    pub(super) fn answer(&self) -> Answer {
        let thought = if self.thinks { split(THOUGHT) } else { Vec::new() };
        let reasoning = self.reasoning_tokens + thought.len() as u64;
        let cached = if self.marked { self.input_tokens / 2 } else { 0 };
        let answer = |say: Say, finish: Finish, stopped_by: Option<String>, pieces: usize| {
            let usage = Usage { input: self.input_tokens, cached, output: pieces as u64 + reasoning, reasoning };
            Answer { thought: thought.clone(), say, finish, stopped_by, usage }
        };
        if let Some(tool) = self.tool() {
            let arguments: Vec<String> = split(&schema::example(&tool.parameters).to_string());
            let tokens = arguments.len() + split(&tool.name).len();
            return answer(Say::Call { name: tool.name.clone(), arguments }, Finish::ToolCall, None, tokens);
        }
        let (mut pieces, stopped_by) = if self.long {
            (long(), None)
        } else {
            let (text, stop) = self.stopped(self.text());
            (split(&text), stop)
        };
        let room = self.max_tokens.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let finish = if pieces.len() > room { Finish::Length } else { Finish::Stop };
        pieces.truncate(room);
        let tokens = pieces.len();
        answer(Say::Text(pieces), finish, stopped_by.filter(|_| finish == Finish::Stop), tokens)
    }

    /// The function to call: the named one or the first, unless a result is already there or they are many.
    fn tool(&self) -> Option<&Tool> {
        if self.tool_result.is_some() {
            return None;
        }
        match &self.choice {
            Choice::Never => None,
            Choice::Free => self.tools.first().filter(|_| self.tools.len() <= MOST_TOOLS),
            Choice::Must => self.tools.first(),
            Choice::Named(name) => self.tools.iter().find(|tool| tool.name == *name),
        }
    }

    fn text(&self) -> String {
        match (&self.format, &self.tool_result) {
            (Format::Schema(schema), _) => schema::example(schema).to_string(),
            (Format::Json, _) => json!({ "simulated": true, "you_said": tail(&self.said) }).to_string(),
            (Format::Text, Some(result)) => {
                format!("This is a simulated answer. The tool returned: \"{}\"", tail(result))
            }
            (Format::Text, None) => format!(
                "This is a simulated answer: no model was asked and nothing was spent. You said: \"{}\"",
                tail(&self.said)
            ),
        }
    }

    /// The text up to the first stop sequence, and that one.
    fn stopped(&self, mut text: String) -> (String, Option<String>) {
        let found = self.stop.iter().filter(|stop| !stop.is_empty());
        let first = found.filter_map(|stop| Some((text.find(stop.as_str())?, stop))).min();
        match first {
            Some((end, stop)) => {
                text.truncate(end);
                (text, Some(stop.clone()))
            }
            None => (text, None),
        }
    }
}

// === impl Usage ===

impl Usage {
    /// As chat completions and completions write it.
    pub(super) fn completion(&self) -> Value {
        json!({
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
            "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0
            }
        })
    }

    /// As the Responses API writes it.
    pub(super) fn response(&self) -> Value {
        json!({
            "input_tokens": self.input,
            "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
            "output_tokens": self.output,
            "output_tokens_details": { "reasoning_tokens": self.reasoning },
            "total_tokens": self.input + self.output
        })
    }
}

/// What stands for a provider's signature of thoughts: it can be checked when it comes back.
pub(super) fn signature(thoughts: &str) -> String {
    let mut hasher = DefaultHasher::new();
    thoughts.hash(&mut hasher);
    STANDARD.encode(format!("simulated-signature-{:016x}", hasher.finish()))
}

/// The pieces of a text, in order and without loss.
pub(super) fn split(text: &str) -> Vec<String> {
    pieces(text).map(str::to_owned).collect()
}

/// How many tokens a text is.
pub(super) fn count(text: &str) -> u64 {
    pieces(text).count() as u64
}

fn pieces(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let blank = rest.len() - rest.trim_start().len();
        let is_word = rest[blank..].starts_with(char::is_alphanumeric);
        let body = rest[blank..].char_indices().take(8);
        let body = body.take_while(|(_, letter)| letter.is_alphanumeric() == is_word && !letter.is_whitespace());
        let end = blank + body.last().map_or(0, |(at, letter)| at + letter.len_utf8());
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

fn long() -> Vec<String> {
    (1..=LONG).map(|number| format!("{number} ")).collect()
}

fn tail(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().rev().nth(ECHO) {
        Some((at, letter)) => format!("…{}", text.get(at + letter.len_utf8()..).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up_to_the_text() {
        for text in
            ["", " ", "Hello, world!", "  {\"a\":[1, 2]}\n\n", "Grüße aus 東京東京東京東京東京 🎉🎉", "x \u{a0} "]
        {
            assert_eq!(split(text).concat(), text);
        }
        assert_eq!(split("Hello, wonderful world"), ["Hello", ",", " wonderfu", "l", " world"]);
    }

    #[test]
    fn an_answer_is_cut_at_max_tokens_and_at_a_stop_sequence() {
        let question = Question { said: "hi".to_owned(), max_tokens: Some(3), ..Question::default() };
        let answer = question.answer();
        assert_eq!(answer.say, Say::Text(vec!["This".into(), " is".into(), " a".into()]));
        assert_eq!((answer.finish, answer.usage.output), (Finish::Length, 3));
        let stop = vec!["simulated".to_owned(), " a ".to_owned()];
        let answer = Question { said: "hi".to_owned(), stop, ..Question::default() }.answer();
        assert_eq!(answer.say, Say::Text(vec!["This".into(), " is".into()]));
        assert_eq!(answer.finish, Finish::Stop);
    }

    #[test]
    fn only_the_tail_of_a_long_question_is_repeated() {
        assert_eq!(tail(&"é".repeat(161)), format!("…{}", "é".repeat(160)));
        assert_eq!(tail(&"é".repeat(160)), "é".repeat(160));
    }
}
