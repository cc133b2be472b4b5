//! Answers made of words, as no recorded provider may ever give them, said to every client and read again.

use std::borrow::Cow;

use super::CLIENTS;
use super::response::said_again;
use crate::chat::{
    Block, CallKind, Choice, Dialect, Extra, Issuer, Response, Seal, Stop, StopReason, Text, Thinking, Thought,
    ToolCall, Usage,
};
use crate::json::At;
use crate::mutate::Dice;
use crate::units::Tokens;

/// Every byte is a choice. Text and calls of an answer arrive in every client's dialect, whole and streamed.
pub fn round_trip(data: &[u8]) {
    let mut words = Words { bytes: data };
    let response = words.response();
    for client in CLIENTS {
        said_again(&response, client);
    }
}

/// Makes words of bytes; of none left, the plainest.
struct Words<'d> {
    bytes: &'d [u8],
}

const TEXTS: [&str; 12] = [
    "",
    "a",
    " the quick",
    "brown\nfox\r\n\n",
    "\u{0}\u{1f}\u{7f}\u{85}\u{2028}",
    "\"\\/{}[],:",
    "data: [DONE]\n\n",
    "é\u{1f600}\u{10ffff}",
    "{\"a\":1}",
    "{\"a\":",
    "[]",
    "null",
];

impl Words<'_> {
    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn response(&mut self) -> Response<'static> {
        let mut response = Response::new(Dialect::ALL[usize::from(self.next()) % Dialect::ALL.len()]);
        response.id = self.some();
        response.model = self.some();
        response.created = self.next().is_multiple_of(2).then_some(1_700_000_001);
        response.usage = self.next().is_multiple_of(2).then(|| Usage {
            input: Tokens(u64::from(self.next())),
            output: Tokens(u64::from(self.next())),
            ..Usage::default()
        });
        let mut choice = Choice::default();
        while !self.bytes.is_empty() && choice.blocks.len() < 32 {
            let block = self.block(choice.blocks.len());
            choice.blocks.push(block);
        }
        let reason = match self.next() % 4 {
            0 => StopReason::End,
            1 => StopReason::Length,
            2 => StopReason::ToolUse,
            _ => StopReason::Other("odd".into()),
        };
        choice.stop = Some(Stop::new(reason));
        response.choices.push(choice);
        response
    }

    fn block(&mut self, number: usize) -> Block<'static> {
        let at = At::NOWHERE;
        match self.next() % 4 {
            0 | 1 => Block::Text(Text { seal: self.seal(), ..Text::new(self.text()) }),
            2 => Block::ToolCall(ToolCall {
                id: format!("call_{number}").into(),
                name: ["f", "get_weather", "a.b", "json_answer"][usize::from(self.next()) % 4].into(),
                kind: if self.next() % 8 == 7 { CallKind::Custom } else { CallKind::Function },
                arguments: self.text(),
                cache: None,
                seal: self.seal(),
                item_id: self.some(),
                at,
                extra: Extra::default(),
            }),
            _ => Block::Thinking(Thinking {
                thoughts: (0..self.next() % 4)
                    .map(|_| Thought { text: self.text(), summary: self.next().is_multiple_of(2) })
                    .collect(),
                seal: self.seal(),
                redacted: self.next() % 8 == 7,
                id: self.some(),
                at,
                extra: Extra::default(),
            }),
        }
    }

    fn text(&mut self) -> Cow<'static, str> {
        let byte = usize::from(self.next());
        if byte < 128 {
            return TEXTS[byte % TEXTS.len()].into();
        }
        let mut dice = Dice::new(byte as u64);
        (0..byte % 16).map(|_| *dice.pick(&TEXTS)).collect::<String>().into()
    }

    fn some(&mut self) -> Option<Cow<'static, str>> {
        let byte = self.next();
        (!byte.is_multiple_of(4)).then(|| TEXTS[usize::from(byte) % TEXTS.len()].into())
    }

    fn seal(&mut self) -> Option<Seal<'static>> {
        let issuer = match self.next() % 12 {
            1 => Issuer::Anthropic,
            2 => Issuer::OpenAi,
            3 => Issuer::Gemini,
            4 => Issuer::Bedrock,
            5 => Issuer::Other,
            _ => return None,
        };
        Some(Seal::new(issuer, "EqQBCkgIBRAB+/8="))
    }
}
