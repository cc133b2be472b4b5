//! Who says what: turns as `contents`, system turns in front as `systemInstruction`.

use std::borrow::Cow;
use std::collections::HashMap;

use super::media;
use super::part::{Data, Fit, Part, arguments, own, thoughts};
use crate::chat::block::{Native, Refusal, ServerCall, ServerResult};
use crate::chat::{
    Block, CallKind, Dialect, Extra, Issuer, Losses, Media, MediaKind, Request, Role, Seal, Text, Thinking, ToolCall,
    ToolResult, Turn,
};
use crate::dialect::gemini::NAMELESS;
use crate::json::{At, Node, Writer};

/// What decides how a request is written.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// It was written in this dialect.
    pub native: bool,
    pub vertex: bool,
    /// Gemini 3 or later.
    pub third: bool,
}

#[derive(Debug)]
pub struct Content<'r> {
    pub role: &'static str,
    pub parts: Vec<Part<'r>>,
    extra: Option<&'r Extra<'r>>,
}

#[derive(Debug, Default)]
pub struct Spoken<'r> {
    pub system: Vec<Part<'r>>,
    pub contents: Vec<Content<'r>>,
}

/// Stands for the signature of a call that this family's models did not make (ai.google.dev "Thought signatures", migrating from other
/// models): Gemini 3 refuses the call without.
const UNSIGNED: &str = "skip_thought_signature_validator";

struct Scribe<'r, 'l> {
    terms: Terms,
    /// Tool names by the ids of their calls.
    names: HashMap<&'r str, &'r str>,
    /// A signature for the next part.
    pending: Option<Cow<'r, str>>,
    losses: &'l mut Losses,
}

/// What one side says until the other speaks.
struct Group<'r> {
    role: &'static str,
    /// Results of tools, which must stand directly behind their calls; a content of their own unless the client wrote it otherwise.
    answers: Vec<Part<'r>>,
    rest: Vec<Part<'r>>,
    extra: Option<&'r Extra<'r>>,
}

pub fn spoken<'r>(request: &'r Request<'_>, terms: Terms, losses: &mut Losses) -> Spoken<'r> {
    let mut names = HashMap::new();
    for block in request.turns.iter().flat_map(|turn| &turn.blocks) {
        if let Block::ToolCall(call) = block {
            names.entry(&*call.id).or_insert(&*call.name);
        }
    }
    let mut scribe = Scribe { terms, names, pending: None, losses };
    let is_system = |turn: &Turn<'_>| matches!(turn.role, Role::System | Role::Developer);
    let leading = request.turns.iter().take_while(|turn| is_system(turn)).count();
    let (system, said) = request.turns.split_at(leading);
    if said.is_empty() && !terms.native {
        // somebody must be asked something
        for turn in system {
            scribe.losses.changed(turn.at, "role");
        }
        let contents = scribe.contents(system, Wrap::No);
        return Spoken { system: Vec::new(), contents };
    }
    let mut spoken = Spoken { system: scribe.system(system), contents: scribe.contents(said, Wrap::System) };
    if terms.third {
        sign(&mut spoken.contents);
    }
    spoken
}

/// Whether a system turn among the others is marked as one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrap {
    System,
    No,
}

// === impl Content ===

impl Content<'_> {
    pub fn write(&self, w: &mut Writer<'_>) {
        w.object();
        w.name("role").string(self.role);
        w.name("parts").array();
        for part in &self.parts {
            part.write(w);
        }
        w.end_array();
        for member in self.extra.iter().flat_map(|extra| &extra.0) {
            w.name(&member.name).raw(&member.json);
        }
        w.end_object();
    }

    fn has_words(&self) -> bool {
        self.parts.iter().any(|part| !matches!(part.data, Data::Response { .. }))
    }
}

// === impl Scribe ===

impl<'r> Scribe<'r, '_> {
    fn system(&mut self, turns: &'r [Turn<'_>]) -> Vec<Part<'r>> {
        let mut group = Group::new("user");
        for turn in turns {
            let Turn { role: _, name, blocks, at, extra } = turn;
            if name.is_some() {
                self.losses.dropped(*at, "name");
            }
            group.extra = own(extra, self.terms.native, self.losses).or(group.extra);
            for block in blocks {
                match block {
                    Block::Media(media) if !self.terms.native => self.losses.dropped(media.at, ""),
                    block => self.block(block, &mut group),
                }
            }
        }
        group.rest
    }

    fn contents(&mut self, turns: &'r [Turn<'_>], wrap: Wrap) -> Vec<Content<'r>> {
        let mut contents = Vec::new();
        let mut group: Option<Group<'r>> = None;
        for turn in turns {
            let Turn { role, name, blocks, at, extra } = turn;
            let word = if *role == Role::Assistant { "model" } else { "user" };
            if self.terms.native || group.as_ref().is_some_and(|group| group.role != word) {
                self.close(group.take(), &mut contents);
            }
            let group = group.get_or_insert_with(|| Group::new(word));
            if name.is_some() {
                self.losses.dropped(*at, "name");
            }
            group.extra = own(extra, self.terms.native, self.losses).or(group.extra);
            if matches!(role, Role::System | Role::Developer) && wrap == Wrap::System {
                self.losses.changed(*at, "role");
                self.aside(blocks, group);
            } else {
                for block in blocks {
                    self.block(block, group);
                }
            }
        }
        self.close(group, &mut contents);
        contents
    }

    /// Instructions in the middle of a conversation keep their place.
    fn aside(&mut self, blocks: &'r [Block<'_>], group: &mut Group<'r>) {
        let start = group.rest.len();
        for block in blocks {
            self.block(block, group);
        }
        for part in group.rest.iter_mut().skip(start) {
            if let Data::Text(text) = &mut part.data {
                *text = Cow::Owned(format!("<system>{text}</system>"));
            }
        }
    }

    fn close(&mut self, group: Option<Group<'r>>, contents: &mut Vec<Content<'r>>) {
        let Some(mut group) = group else { return };
        group.rest.extend(self.pending.take().map(Part::signature));
        let Group { role, mut answers, rest, mut extra } = group;
        if let Some(asked) = contents.last() {
            order(&mut answers, asked);
        }
        for parts in [answers, rest] {
            // a content without parts is refused; one the client wrote itself is its own affair
            if !parts.is_empty() {
                contents.push(Content { role, parts, extra: extra.take() });
            }
        }
    }

    fn block(&mut self, block: &'r Block<'_>, group: &mut Group<'r>) {
        match block {
            Block::Text(text) => self.text(text, group),
            Block::Media(media) => self.media(media, group),
            Block::Thinking(thinking) => self.thinking(thinking, group),
            Block::ToolCall(call) => self.call(call, group),
            Block::ToolResult(result) => self.result(result, group),
            Block::Refusal(Refusal { text, at }) => {
                self.losses.changed(*at, "");
                self.push(Part::text(&**text), group);
            }
            Block::ServerCall(ServerCall { native, at, id: _, tool: _, name: _, input: _ })
            | Block::ServerResult(ServerResult { native, at, id: _, tool: _, sources: _, output: _ }) => match native {
                Some((Dialect::Gemini, json)) => self.push(Part::new(Data::Raw(Cow::Borrowed(json))), group),
                _ => self.losses.dropped(*at, ""),
            },
            Block::Native(Native { dialect: Dialect::Gemini, kind: _, json, at: _ }) => {
                self.push(Part::new(Data::Raw(Cow::Borrowed(json))), group);
            }
            Block::Native(Native { dialect: _, kind: _, json: _, at }) => self.losses.dropped(*at, ""),
        }
    }

    fn push(&mut self, mut part: Part<'r>, group: &mut Group<'r>) {
        if let Some(pending) = self.pending.take() {
            if part.signature.is_none() && !matches!(part.data, Data::Raw(_)) {
                part.signature = Some(pending);
            } else {
                group.rest.push(Part::signature(pending));
            }
        }
        group.rest.push(part);
    }

    fn text(&mut self, text: &'r Text<'_>, group: &mut Group<'r>) {
        let Text { text, citations, cache, seal, at, extra } = text;
        if !citations.is_empty() {
            self.losses.dropped(*at, "citations");
        }
        if let Some(cache) = cache {
            self.losses.dropped(cache.at, "");
        }
        let signature = self.signature(seal.as_ref(), *at);
        let extra = own(extra, self.terms.native, self.losses);
        // an empty text is refused, and says nothing
        if !text.is_empty() || signature.is_some() || self.terms.native {
            self.push(Part { signature, extra, ..Part::text(&**text) }, group);
        }
    }

    /// Only Gemini's own are any good here.
    fn signature(&mut self, seal: Option<&'r Seal<'_>>, at: At) -> Option<Cow<'r, str>> {
        let seal = seal?;
        if seal.issuer == Issuer::Gemini {
            return Some(Cow::Borrowed(&seal.raw));
        }
        self.losses.dropped(at, "signature");
        None
    }

    fn thinking(&mut self, thinking: &'r Thinking<'_>, group: &mut Group<'r>) {
        let Thinking { thoughts: shown, seal, redacted: _, id: _, at, extra } = thinking;
        let extra = own(extra, self.terms.native, self.losses);
        let signature = match seal {
            Some(Seal { issuer: Issuer::Gemini, raw }) => Some(Cow::Borrowed(&**raw)),
            Some(Seal { issuer: _, raw: _ }) => return self.losses.dropped(*at, ""),
            None => None,
        };
        if shown.is_empty() && !self.terms.native {
            // it was taken off the part behind it
            if let Some(before) = std::mem::replace(&mut self.pending, signature) {
                group.rest.push(Part::signature(before));
            }
            return;
        }
        // that somebody thought nothing is told by saying nothing
        if signature.is_none() && !self.terms.native && shown.iter().all(|thought| thought.text.is_empty()) {
            return;
        }
        group.rest.extend(self.pending.take().map(Part::signature));
        thoughts(thinking, signature, extra, &mut group.rest);
    }

    fn call(&mut self, call: &'r ToolCall<'_>, group: &mut Group<'r>) {
        let ToolCall { id, name, kind, arguments: text, cache, seal, item_id: _, at, extra } = call;
        if let Some(cache) = cache {
            self.losses.dropped(cache.at, "");
        }
        let signature = self.signature(seal.as_ref(), *at);
        let arguments = match kind {
            CallKind::Function => {
                let (arguments, fit) = arguments(text);
                if fit == Fit::Changed {
                    self.losses.changed(*at, "arguments");
                }
                arguments
            }
            CallKind::Custom => {
                self.losses.changed(*at, "");
                Cow::Owned(serde_json::json!({ "input": text }).to_string())
            }
        };
        let extra = own(extra, self.terms.native, self.losses);
        let data = Data::Call { name, arguments, id: self.id(id), pair: id };
        self.push(Part { signature, extra, ..Part::new(data) }, group);
    }

    /// Ids are written back to Gemini as it gave them. What others call ids may not please it, and the order says the same.
    fn id(&self, id: &'r str) -> Option<&'r str> {
        (self.terms.native && !id.starts_with(NAMELESS)).then_some(id)
    }

    fn result(&mut self, result: &'r ToolResult<'_>, group: &mut Group<'r>) {
        let ToolResult { id, name, kind: _, blocks, error, cache, at, extra } = result;
        if let Some(cache) = cache {
            self.losses.dropped(cache.at, "");
        }
        let mut texts: Vec<Cow<'r, str>> = Vec::new();
        let (mut media, mut beside) = (Vec::new(), Vec::new());
        for block in blocks {
            self.within_result(block, &mut texts, &mut media, &mut beside);
        }
        // its own name first, as Gemini wrote it
        let known = self.names.get(&**id).copied();
        let name = match (name.as_deref().filter(|_| self.terms.native), known, name.as_deref()) {
            (Some(name), _, _) | (None, Some(name), _) | (None, None, Some(name)) => Cow::Borrowed(name),
            (None, None, None) => {
                self.losses.changed(*at, "name");
                Cow::Borrowed(&**id)
            }
        };
        let text = match texts.len() {
            0 | 1 => texts.pop().unwrap_or_default(),
            _ => Cow::Owned(texts.join("\n")),
        };
        let data = Data::Response { name, response: response(text, *error), id: self.id(id), pair: id, media };
        let part = Part { extra: own(extra, self.terms.native, self.losses), ..Part::new(data) };
        if self.terms.native {
            self.push(part, group)
        } else {
            group.answers.push(part)
        }
        group.rest.extend(beside);
    }

    fn within_result(
        &mut self,
        block: &'r Block<'_>,
        texts: &mut Vec<Cow<'r, str>>,
        inner: &mut Vec<Part<'r>>,
        beside: &mut Vec<Part<'r>>,
    ) {
        let media = match block {
            Block::Text(Text { text, citations: _, cache, seal: _, at: _, extra }) => {
                if let Some(cache) = cache {
                    self.losses.dropped(cache.at, "");
                }
                own(extra, self.terms.native, self.losses);
                return texts.push(Cow::Borrowed(text));
            }
            Block::Media(media) => media,
            other => return self.losses.dropped(other.at(), ""),
        };
        let Ok(parts) = media::parts(media, self.terms, self.losses) else {
            self.losses.dropped(media.at, "");
            return texts.push(Cow::Borrowed(omitted(media.kind)));
        };
        for part in parts {
            match part.data {
                Data::Text(text) => texts.push(text),
                Data::Inline { .. } if self.terms.third || self.terms.native => inner.push(part),
                Data::File { .. } if self.terms.native => inner.push(part),
                _ => {
                    self.losses.changed(media.at, "");
                    beside.push(part);
                }
            }
        }
    }

    fn media(&mut self, media: &'r Media<'_>, group: &mut Group<'r>) {
        match media::parts(media, self.terms, self.losses) {
            Ok(parts) => parts.into_iter().for_each(|part| self.push(part, group)),
            Err(media::Unreachable) if group.role == "user" => self.losses.essential(media.at, ""),
            Err(media::Unreachable) => {
                self.losses.dropped(media.at, "");
                self.push(Part::text(omitted(media.kind)), group);
            }
        }
    }
}

// === impl Group ===

impl Group<'_> {
    fn new(role: &'static str) -> Self {
        Group { role, answers: Vec::new(), rest: Vec::new(), extra: None }
    }
}

fn omitted(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "[image omitted]",
        MediaKind::Document => "[document omitted]",
        MediaKind::Audio => "[audio omitted]",
        MediaKind::Video => "[video omitted]",
    }
}

/// A result must be an object.
fn response<'r>(text: Cow<'r, str>, error: Option<bool>) -> Cow<'r, str> {
    let member = match error {
        Some(true) => "error",
        _ if Node::parse(text.as_bytes()).is_ok_and(|node| node.as_object().is_some()) => return text,
        _ => "result",
    };
    let mut out = Vec::with_capacity(text.len() + 16);
    let mut w = Writer::new(&mut out);
    w.object();
    w.name(member).string(&text);
    w.end_object();
    String::from_utf8(out).map_or(Cow::Borrowed("{}"), Cow::Owned)
}

/// Results in the order of their calls: without ids nothing else tells two calls of one function apart.
fn order(answers: &mut [Part<'_>], asked: &Content<'_>) {
    if answers.len() < 2 {
        return;
    }
    let mut places = HashMap::new();
    for (place, part) in asked.parts.iter().enumerate() {
        if let Data::Call { pair, .. } = part.data {
            places.entry(pair.to_owned()).or_insert(place);
        }
    }
    answers.sort_by_key(|part| match part.data {
        Data::Response { pair, .. } => places.get(pair).copied().unwrap_or(usize::MAX),
        _ => usize::MAX,
    });
}

/// Since the user last spoke, the first call of each step must be signed.
fn sign(contents: &mut [Content<'_>]) {
    let spoke = contents.iter().rposition(|content| content.role == "user" && content.has_words()).unwrap_or(0);
    for content in contents.iter_mut().skip(spoke).filter(|content| content.role == "model") {
        let first = content.parts.iter_mut().find(|part| matches!(part.data, Data::Call { .. }));
        if let Some(part) = first.filter(|part| part.signature.is_none()) {
            part.signature = Some(Cow::Borrowed(UNSIGNED));
        }
    }
}
