//! What a call needs of a model, read from its body in whatever dialect a client speaks.
//!
//! Nothing is read before somebody asks. First the text is searched for the quoted words without which there can be no such need (in a user's
//! own words the quotes would be escaped); only where one is found, or where the size might matter, is the body walked, and then each part
//! counts by its place. The body has been scanned strictly before: one that cannot be read here needs nothing.
//!
//! Truth: OpenAI API reference (chat completions, responses), Anthropic Messages API, Gemini API `generateContent`.

use std::cell::OnceCell;

use memchr::memmem;

use crate::dialect::Operation;
use crate::json::{Object, ScanError, Walk};
use crate::units::Tokens;

/// Bytes of text in a token, roughly: English has 4 to 5, code and other alphabets (in UTF-8) fewer.
const BYTES_PER_TOKEN: u64 = 4;
/// The size of what is no text, as `dialect::count` has it.
const IMAGE: u64 = 765;
const DOCUMENT: u64 = 3_000;
const AUDIO: u64 = 1_920;
/// A string of at least so many bytes that has neither spaces nor quotes is not words but what was packed into them.
const PACKED: usize = 512;
/// How the members begin, and go on, that say how much output is asked for.
const MAX: &[u8] = b"\"max";
const OUTPUT: [&str; 4] = ["_tokens\"", "_completion_tokens\"", "_output_tokens\"", "OutputTokens\""];
/// Most names of tools that a rule sees.
const TOOLS: usize = 128;

/// A request's body, read as far as somebody asks.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub operation: Operation,
    pub bytes: &'a [u8],
    needs: OnceCell<Needs>,
    members: OnceCell<Option<Object<'a>>>,
}

/// Something a model has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    Images,
    Audio,
    Documents,
    Tools,
    JsonSchema,
    Reasoning,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Needs {
    has: [bool; Need::ALL.len()],
    /// An estimate.
    pub input: Tokens,
    /// As asked for.
    pub max_output: Option<Tokens>,
}

// === impl Need ===

impl Need {
    pub const ALL: [Need; 6] =
        [Need::Images, Need::Audio, Need::Documents, Need::Tools, Need::JsonSchema, Need::Reasoning];

    /// The word of a model's `info`.
    pub fn word(self) -> &'static str {
        match self {
            Need::Images => "vision",
            Need::Audio => "audio",
            Need::Documents => "documents",
            Need::Tools => "tools",
            Need::JsonSchema => "json_schema",
            Need::Reasoning => "reasoning",
        }
    }

    /// For a sentence that says what a target does not have.
    pub fn shown(self) -> &'static str {
        match self {
            Need::Images => "image input",
            Need::Audio => "audio input",
            Need::Documents => "document input",
            Need::Tools => "tools",
            Need::JsonSchema => "output by a JSON schema",
            Need::Reasoning => "reasoning",
        }
    }

    /// Words of which one stands in any body that has the need.
    fn marks(self, operation: Operation) -> &'static [&'static str] {
        match (self, operation) {
            (Need::Images | Need::Audio | Need::Documents, Operation::GenerateContent) => {
                &["\"inlineData\"", "\"inline_data\"", "\"fileData\"", "\"file_data\""]
            }
            (Need::Images, Operation::Responses) => &["\"input_image\"", "\"computer_screenshot\""],
            (Need::Images, Operation::Messages) => &["\"image\""],
            (Need::Images, _) => &["\"image_url\"", "\"video_url\""],
            (Need::Audio, Operation::Messages) => &[],
            (Need::Audio, _) => &["\"input_audio\"", "\"audio_url\""],
            (Need::Documents, Operation::Responses) => &["\"input_file\""],
            (Need::Documents, Operation::Messages) => &["\"document\""],
            (Need::Documents, _) => &["\"file\""],
            (Need::Tools, _) => &["\"tools\"", "\"functions\""],
            (Need::JsonSchema, _) => &[
                "\"json_schema\"",
                "\"responseSchema\"",
                "\"response_schema\"",
                "\"responseJsonSchema\"",
                "\"response_json_schema\"",
                "\"_responseJsonSchema\"",
            ],
            (Need::Reasoning, _) => {
                &["\"reasoning_effort\"", "\"reasoning\"", "\"thinking\"", "\"thinkingConfig\"", "\"thinking_config\""]
            }
        }
    }

    /// The member of the body that brings the need.
    pub fn param(self, operation: Operation) -> &'static str {
        match (self, operation) {
            (Need::Tools, _) => "tools",
            (Need::Images | Need::Audio | Need::Documents, Operation::Responses) => "input",
            (Need::Images | Need::Audio | Need::Documents, Operation::GenerateContent) => "contents",
            (Need::Images | Need::Audio | Need::Documents, _) => "messages",
            (Need::JsonSchema, Operation::Responses) => "text.format",
            (Need::JsonSchema, Operation::Messages) => "output_config.format",
            (Need::JsonSchema, Operation::GenerateContent) => "generationConfig.responseSchema",
            (Need::JsonSchema, _) => "response_format",
            (Need::Reasoning, Operation::Responses) => "reasoning",
            (Need::Reasoning, Operation::Messages) => "thinking",
            (Need::Reasoning, Operation::GenerateContent) => "generationConfig.thinkingConfig",
            (Need::Reasoning, _) => "reasoning_effort",
        }
    }
}

// === impl Needs ===

impl Needs {
    pub fn has(&self, need: Need) -> bool {
        self.has[need as usize]
    }

    pub fn all(&self) -> impl Iterator<Item = Need> + '_ {
        Need::ALL.into_iter().filter(|need| self.has(*need))
    }

    /// Input, and as much output as was asked for.
    pub fn context(&self) -> Tokens {
        Tokens(self.input.0.saturating_add(self.max_output.unwrap_or_default().0))
    }

    fn add(&mut self, need: Need) {
        self.has[need as usize] = true;
    }
}

// === impl Body ===

impl<'a> Body<'a> {
    pub fn new(operation: Operation, bytes: &'a [u8]) -> Self {
        Body { operation, bytes, needs: OnceCell::new(), members: OnceCell::new() }
    }

    /// Whether what a model can do matters: it converses.
    pub fn is_conversation(&self) -> bool {
        self.operation == Operation::Completions || self.operation.dialect().is_some()
    }

    /// Whether it may have a need. `false` is certain, and cheap.
    pub fn may_need(&self, need: Need) -> bool {
        self.needs.get().map_or_else(
            || need.marks(self.operation).iter().any(|mark| memmem::find(self.bytes, mark.as_bytes()).is_some()),
            |needs| needs.has(need),
        )
    }

    /// More tokens of input than it can have, but for many small references to large files. Cheap.
    pub fn most_input(&self) -> u64 {
        2 * (self.bytes.len() as u64 / BYTES_PER_TOKEN)
    }

    /// At least as many tokens of output as it asks for. Cheap.
    pub fn most_output(&self) -> u64 {
        let asked = |at: usize| {
            let rest = self.bytes.get(at + MAX.len()..)?;
            let rest = OUTPUT.iter().find_map(|name| rest.strip_prefix(name.as_bytes()))?;
            let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
            let digits = rest.iter().take(18).take_while(|b| b.is_ascii_digit());
            Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
        };
        memmem::find_iter(self.bytes, MAX).filter_map(asked).max().unwrap_or(0)
    }

    /// Input and output in tokens, about: walks through the body only where something in it may be no text.
    pub fn about(&self) -> (Tokens, Option<Tokens>) {
        let media = [Need::Images, Need::Audio, Need::Documents];
        if self.needs.get().is_some() || media.into_iter().any(|need| self.may_need(need)) {
            let needs = self.needs();
            return (needs.input, needs.max_output);
        }
        let output = Some(Tokens(self.most_output())).filter(|output| output.0 > 0);
        (Tokens(self.bytes.len() as u64 / BYTES_PER_TOKEN), output)
    }

    /// Everything it needs. Walks through the body, once.
    pub fn needs(&self) -> &Needs {
        self.needs.get_or_init(|| {
            let mut reading = Reading::default();
            // what is broken off needs what was seen so far
            let _ = Walk::new(self.bytes).and_then(|mut walk| reading.request(&mut walk));
            let mut needs = reading.needs;
            needs.input = Tokens(reading.tokens + reading.bytes / BYTES_PER_TOKEN);
            needs
        })
    }

    /// Where its members lie. `None`: no object.
    pub fn members(&self) -> Option<&Object<'a>> {
        self.members.get_or_init(|| Object::scan(self.bytes).ok()).as_ref()
    }

    /// The names of its tools, in order; those that the provider runs itself by their type.
    pub fn tools(&self) -> Vec<Box<str>> {
        let mut names = Vec::new();
        if self.is_conversation()
            && self.may_need(Need::Tools)
            && let Some(members) = self.members()
        {
            for list in ["tools", "functions"].into_iter().filter_map(|name| members.get(name)) {
                let _ = Walk::new(list.as_bytes()).and_then(|mut walk| tool_names(&mut walk, &mut names));
            }
        }
        names.truncate(TOOLS);
        names
    }
}

/// Of OpenAI's two forms, Anthropic's, and Gemini's, which lists functions within a tool.
fn tool_names(walk: &mut Walk<'_>, names: &mut Vec<Box<str>>) -> Result<(), ScanError> {
    if walk.next() != Some(b'[') {
        return Ok(());
    }
    walk.array(|walk| {
        if walk.next() != Some(b'{') || names.len() > TOOLS {
            return Ok(());
        }
        let (mut own, mut kind, before) = (None, None, names.len());
        walk.object(|name, walk| {
            match (name, walk.next()) {
                ("name", Some(b'"')) => own = Some(walk.string()?.into()),
                ("type", Some(b'"')) => kind = Some(walk.string()?.into()),
                ("function" | "custom", Some(b'{')) => walk.object(|name, walk| {
                    if (name, walk.next()) == ("name", Some(b'"')) {
                        own = Some(walk.string()?.into());
                    }
                    Ok::<(), ScanError>(())
                })?,
                ("functionDeclarations" | "function_declarations", Some(b'[')) => tool_names(walk, names)?,
                (name, Some(b'{')) if !name.contains("parameters") && name != "input_schema" => {
                    kind = kind.take().or_else(|| Some(Box::from(name)));
                }
                _ => {}
            }
            Ok::<(), ScanError>(())
        })?;
        if names.len() == before {
            names.extend(own.or(kind));
        }
        Ok(())
    })
}

// === reading ===

#[derive(Default)]
struct Reading {
    needs: Needs,
    /// Of text.
    bytes: u64,
    /// Of what is no text.
    tokens: u64,
}

impl Reading {
    fn request(&mut self, walk: &mut Walk<'_>) -> Result<(), ScanError> {
        walk.object(|name, walk| {
            match name {
                "messages" | "input" | "contents" | "system" | "instructions" | "systemInstruction"
                | "system_instruction" | "prompt" => self.content(walk)?,
                "tools" | "functions" => {
                    let list = walk.value()?;
                    self.bytes += list.len() as u64;
                    if list.starts_with('[') && !is_empty(list) {
                        self.needs.add(Need::Tools);
                    }
                }
                "response_format" | "output_format" => self.format(walk)?,
                "text" | "output_config" => self.inside(walk, |this, name, walk| match name {
                    "format" => this.format(walk),
                    _ => Ok(()),
                })?,
                "generationConfig" | "generation_config" => self.inside(walk, Self::generation)?,
                "reasoning_effort" => self.effort(walk.value()?),
                "reasoning" => self.inside(walk, |this, name, walk| {
                    if matches!(name, "effort" | "max_tokens") {
                        this.effort(walk.value()?);
                    }
                    Ok(())
                })?,
                "thinking" => self.inside(walk, |this, name, walk| {
                    if name == "type" && walk.value()? != "\"disabled\"" {
                        this.needs.add(Need::Reasoning);
                    }
                    Ok(())
                })?,
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => self.max_output(walk.value()?),
                _ => {}
            }
            Ok(())
        })
    }

    /// The members of what may be an object.
    fn inside(
        &mut self,
        walk: &mut Walk<'_>,
        mut member: impl FnMut(&mut Self, &str, &mut Walk<'_>) -> Result<(), ScanError>,
    ) -> Result<(), ScanError> {
        match walk.next() {
            Some(b'{') => walk.object(|name, walk| member(self, name, walk)),
            _ => Ok(()),
        }
    }

    fn generation(&mut self, name: &str, walk: &mut Walk<'_>) -> Result<(), ScanError> {
        match name {
            "responseSchema"
            | "response_schema"
            | "responseJsonSchema"
            | "response_json_schema"
            | "_responseJsonSchema" => {
                let schema = walk.value()?;
                self.bytes += schema.len() as u64;
                if schema != "null" {
                    self.needs.add(Need::JsonSchema);
                }
            }
            "maxOutputTokens" | "max_output_tokens" => self.max_output(walk.value()?),
            "thinkingConfig" | "thinking_config" => self.inside(walk, |this, name, walk| {
                if matches!(name, "thinkingBudget" | "thinking_budget" | "thinkingLevel" | "thinking_level") {
                    this.effort(walk.value()?);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    }

    fn format(&mut self, walk: &mut Walk<'_>) -> Result<(), ScanError> {
        self.inside(walk, |this, name, walk| {
            let value = walk.value()?;
            this.bytes += value.len() as u64;
            if name == "type" && value == "\"json_schema\"" {
                this.needs.add(Need::JsonSchema);
            }
            Ok(())
        })
    }

    fn effort(&mut self, value: &str) {
        if !matches!(value, "null" | "0" | "\"none\"" | "\"minimal\"") {
            self.needs.add(Need::Reasoning);
        }
    }

    fn max_output(&mut self, value: &str) {
        if let Ok(tokens) = value.parse() {
            self.needs.max_output = self.needs.max_output.max(Some(Tokens(tokens)));
        }
    }

    /// Words, or a list of parts, turns or items.
    fn content(&mut self, walk: &mut Walk<'_>) -> Result<(), ScanError> {
        match walk.next() {
            Some(b'[') => walk.array(|walk| self.content(walk)),
            Some(b'{') => self.part(walk),
            _ => {
                self.words(walk.value()?);
                Ok(())
            }
        }
    }

    /// A turn, an item or a part. What is in a member that no dialect gives parts to (a call's arguments, a result's data) is only text.
    fn part(&mut self, walk: &mut Walk<'_>) -> Result<(), ScanError> {
        let mut kind = "";
        let mut source = Source::default();
        walk.object(|name, walk| {
            match (name, walk.next()) {
                ("type", _) => kind = walk.value()?,
                ("content" | "parts" | "output", _) => self.content(walk)?,
                ("functionResponse" | "function_response", Some(b'{')) => self.part(walk)?,
                ("inlineData" | "inline_data" | "fileData" | "file_data", Some(b'{')) => self.blob(walk)?,
                ("source", Some(b'{')) => self.source(walk, &mut source)?,
                // sealed, or where something lies, or that itself
                ("image_url" | "video_url" | "audio_url" | "input_audio" | "file" | "file_data", _) => {}
                ("signature" | "thoughtSignature" | "thought_signature" | "encrypted_content" | "data", _) => {}
                _ => self.words(walk.value()?),
            }
            Ok::<(), ScanError>(())
        })?;
        match kind {
            "\"image_url\"" | "\"input_image\"" | "\"image\"" | "\"computer_screenshot\"" | "\"video_url\"" => {
                self.media(Need::Images, IMAGE);
            }
            "\"input_audio\"" | "\"audio_url\"" => self.media(Need::Audio, AUDIO),
            "\"file\"" | "\"input_file\"" => self.media(Need::Documents, DOCUMENT),
            "\"document\"" if source.is_file => self.media(Need::Documents, DOCUMENT),
            "\"document\"" => self.bytes += source.text,
            _ => {}
        }
        Ok(())
    }

    /// Of an Anthropic block: a file, or text that stands for one.
    fn source(&mut self, walk: &mut Walk<'_>, source: &mut Source) -> Result<(), ScanError> {
        walk.object(|name, walk| {
            match name {
                "type" => source.is_file = matches!(walk.value()?, "\"base64\"" | "\"url\"" | "\"file\""),
                "content" => self.content(walk)?,
                "data" => source.text = walk.value()?.len() as u64,
                _ => {}
            }
            Ok(())
        })
    }

    /// Gemini's, of which the media type says what it is.
    fn blob(&mut self, walk: &mut Walk<'_>) -> Result<(), ScanError> {
        let mut kind = "";
        walk.object(|name, walk| {
            if matches!(name, "mimeType" | "mime_type") {
                kind = walk.value()?.trim_matches('"');
            }
            Ok::<(), ScanError>(())
        })?;
        match kind.split('/').next() {
            Some("image" | "video") => self.media(Need::Images, IMAGE),
            Some("audio") => self.media(Need::Audio, AUDIO),
            Some("text") => {}
            Some(_) | None => self.media(Need::Documents, DOCUMENT),
        }
        Ok(())
    }

    fn media(&mut self, need: Need, tokens: u64) {
        self.needs.add(need);
        self.tokens += tokens;
    }

    fn words(&mut self, raw: &str) {
        if !is_packed(raw) {
            self.bytes += raw.len() as u64;
        }
    }
}

/// What stands where an Anthropic block has its content.
#[derive(Default)]
struct Source {
    is_file: bool,
    /// Bytes of `data`.
    text: u64,
}

fn is_empty(list: &str) -> bool {
    list.trim_start_matches('[').trim_start().starts_with(']')
}

/// Whether a string is base64 rather than words: long, and its beginning has nothing that base64 has not.
fn is_packed(raw: &str) -> bool {
    let inner = raw.as_bytes().get(1..).unwrap_or_default();
    if inner.len() < PACKED {
        return false;
    }
    let inner = match inner.strip_prefix(b"data:") {
        Some(rest) => memchr::memchr(b',', rest.get(..128).unwrap_or(rest)).and_then(|at| rest.get(at + 1..)),
        None => Some(inner),
    };
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=');
    inner.and_then(|inner| inner.get(..PACKED / 2)).is_some_and(|begin| begin.iter().all(base64))
}
