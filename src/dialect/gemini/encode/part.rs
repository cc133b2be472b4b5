//! Parts, as they will be written, and how they are written.

use std::borrow::Cow;

use crate::chat::{Extra, Issuer, Losses, Seal, Thinking};
use crate::dialect::gemini::REDACTED;
use crate::json::{Node, Value, Writer};

/// One part of a content.
#[derive(Debug)]
pub struct Part<'r> {
    pub data: Data<'r>,
    pub thought: bool,
    pub signature: Option<Cow<'r, str>>,
    /// `low`, `high`.
    pub resolution: Option<&'static str>,
    /// Gemini's own members, of the part and (`functionCall.x`) of what is in it.
    pub extra: Option<&'r Extra<'r>>,
}

#[derive(Debug)]
pub enum Data<'r> {
    Text(Cow<'r, str>),
    Inline {
        media_type: Cow<'r, str>,
        data: &'r str,
        name: Option<&'r str>,
    },
    File {
        uri: &'r str,
        media_type: Option<Cow<'r, str>>,
        name: Option<&'r str>,
    },
    Call {
        name: &'r str,
        /// A JSON object.
        arguments: Cow<'r, str>,
        id: Option<&'r str>,
        /// The id in our words.
        pair: &'r str,
    },
    Response {
        name: Cow<'r, str>,
        /// A JSON object.
        response: Cow<'r, str>,
        id: Option<&'r str>,
        pair: &'r str,
        media: Vec<Part<'r>>,
    },
    /// A part as Gemini wrote it.
    Raw(Cow<'r, str>),
}

// === impl Part ===

impl<'r> Part<'r> {
    pub fn new(data: Data<'r>) -> Self {
        Part { data, thought: false, signature: None, resolution: None, extra: None }
    }

    pub fn text(text: impl Into<Cow<'r, str>>) -> Self {
        Part::new(Data::Text(text.into()))
    }

    /// A part that only carries a signature, as streams end with one.
    pub fn signature(signature: impl Into<Cow<'r, str>>) -> Self {
        Part { signature: Some(signature.into()), ..Part::text("") }
    }

    pub fn write(&self, w: &mut Writer<'_>) {
        let Part { data, thought, signature, resolution, extra } = self;
        let within = match data {
            Data::Raw(json) => return w.raw(json),
            Data::Inline { .. } => "inlineData.",
            Data::File { .. } => "fileData.",
            Data::Call { .. } => "functionCall.",
            Data::Response { .. } => "functionResponse.",
            Data::Text(_) => ".",
        };
        w.object();
        data.write(w, extra.map(|extra| (extra, within)));
        if *thought {
            w.name("thought").boolean(true);
        }
        w.string_if("thoughtSignature", signature.as_deref());
        if let Some(level) = resolution {
            w.name("mediaResolution").object();
            w.name("level").string(level);
            w.end_object();
        }
        for member in extra.iter().flat_map(|extra| &extra.0).filter(|m| !m.name.starts_with(within)) {
            w.name(&member.name).raw(&member.json);
        }
        w.end_object();
    }
}

/// Objects within the objects whose members were kept.
const NESTED: [&str; 2] = ["thinkingConfig.", "functionCallingConfig."];

/// The members of an object that were kept with its name in front, under their own.
pub fn kept(w: &mut Writer<'_>, extra: &Extra<'_>, within: &str) {
    for member in &extra.0 {
        let deeper = |name: &&str| NESTED.iter().any(|nested| name.starts_with(nested));
        if let Some(name) = member.name.strip_prefix(within).filter(|name| !deeper(name)) {
            w.name(name).raw(&member.json);
        }
    }
}

// === impl Data ===

impl Data<'_> {
    fn write(&self, w: &mut Writer<'_>, own: Option<(&Extra<'_>, &str)>) {
        let name = match self {
            Data::Text(text) => return w.name("text").string(text),
            Data::Raw(_) => return,
            Data::Inline { .. } => "inlineData",
            Data::File { .. } => "fileData",
            Data::Call { .. } => "functionCall",
            Data::Response { .. } => "functionResponse",
        };
        w.name(name).object();
        match self {
            Data::Inline { media_type, data, name } => {
                w.name("mimeType").string(media_type);
                w.name("data").string(data);
                w.string_if("displayName", *name);
            }
            Data::File { uri, media_type, name } => {
                w.string_if("mimeType", media_type.as_deref());
                w.name("fileUri").string(uri);
                w.string_if("displayName", *name);
            }
            Data::Call { name, arguments, id, pair: _ } => {
                w.name("name").string(name);
                w.name("args").raw(arguments);
                w.string_if("id", *id);
            }
            Data::Response { name, response, id, pair: _, media } => {
                w.string_if("id", *id);
                w.name("name").string(name);
                w.name("response").raw(response);
                if !media.is_empty() {
                    w.name("parts").array();
                    for part in media {
                        part.write(w);
                    }
                    w.end_array();
                }
            }
            Data::Text(_) | Data::Raw(_) => {}
        }
        if let Some((extra, within)) = own {
            kept(w, extra, within);
        }
        w.end_object();
    }
}

// === what both ways share ===

/// A call's arguments, which must be an object here.
pub fn arguments(text: &str) -> (Cow<'_, str>, Fit) {
    // some models write `null` for nothing
    if matches!(text.trim(), "" | "null") {
        return (Cow::Borrowed("{}"), Fit::Same);
    }
    if Node::parse(text.as_bytes()).is_ok_and(|node| matches!(node.value, Value::Object(_))) {
        return (Cow::Borrowed(text), Fit::Same);
    }
    let mut out = Vec::with_capacity(text.len() + 24);
    let mut w = Writer::new(&mut out);
    w.object();
    w.name("INVALID_JSON").string(text);
    w.end_object();
    (String::from_utf8(out).map_or(Cow::Borrowed("{}"), Cow::Owned), Fit::Changed)
}

/// Whether a value went as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Same,
    Changed,
}

/// A seal for a client, which brings it back whoever issued it.
pub fn packed<'r>(seal: &'r Seal<'_>) -> Cow<'r, str> {
    seal.pack(Issuer::Gemini)
}

/// The same of a thought; redacted ones say so.
pub fn packed_thought<'r>(seal: &'r Seal<'_>, redacted: bool) -> Cow<'r, str> {
    if redacted && seal.issuer != Issuer::Gemini {
        let marked = Seal::new(seal.issuer, format!("{REDACTED}{}", seal.raw));
        return Cow::Owned(marked.pack(Issuer::Gemini).into_owned());
    }
    packed(seal)
}

/// One part for each thought, the last with the signature.
pub fn thoughts<'r>(
    thinking: &'r Thinking<'_>,
    signature: Option<Cow<'r, str>>,
    extra: Option<&'r Extra<'r>>,
    parts: &mut Vec<Part<'r>>,
) {
    let start = parts.len();
    parts.extend(thinking.thoughts.iter().map(|thought| Part { thought: true, ..Part::text(&*thought.text) }));
    if parts.len() == start && signature.is_some() {
        parts.push(Part { thought: true, ..Part::text("") });
    }
    if let Some(last) = parts.get_mut(start..).and_then(<[Part<'r>]>::last_mut) {
        last.signature = signature;
        last.extra = extra;
    }
}

/// Gemini's own members, where they were Gemini's; else they are lost.
pub fn own<'r>(extra: &'r Extra<'r>, native: bool, losses: &mut Losses) -> Option<&'r Extra<'r>> {
    if !native {
        losses.extra(extra);
    }
    (native && !extra.is_empty()).then_some(extra)
}
