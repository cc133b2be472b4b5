//! What we read of any request, and the patches that send it on in its own dialect.

use std::borrow::Cow;

use bytes::Bytes;

use crate::dialect::Operation;
use crate::error::{Error, Result};
use crate::json::scan::unquote;
use crate::json::{Object, Patch, Span};

/// The client's bytes and where the parts we read lie in them. Never re-serialised.
#[derive(Debug, Clone)]
pub struct Envelope {
    pub body: Bytes,
    pub model: Box<str>,
    /// `None` where the dialect has the model in the path.
    model_span: Option<Span>,
    pub stream: bool,
    usage: UsageOption,
    /// `metadata` and `user`, by which clients tell their calls apart.
    metadata: Option<Span>,
    user: Option<Span>,
}

/// `stream_options.include_usage` as the client wrote it, and where a patch would go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum UsageOption {
    /// No `stream_options`: a member can be put in at this place.
    Absent {
        inside: usize,
    },
    /// `stream_options: null`.
    Null(Span),
    /// An object without the member; `empty` when it has none at all.
    Unset {
        inside: usize,
        empty: bool,
    },
    False(Span),
    True,
}

/// Members that decide something here: a second spelling of one of them is refused.
const KNOWN: [&str; 3] = ["model", "stream", "stream_options"];

// === impl Envelope ===

impl Envelope {
    /// Read a request body that names its model. Errors name the member at fault.
    pub fn read(body: Bytes, operation: Operation) -> Result<Envelope> {
        let scanned = scan(&body)?;
        let asks_usage = usage_is_optional(operation);
        if let Some(odd) = scanned.near(if asks_usage { &KNOWN } else { &KNOWN[..2] }) {
            return Err(Error::bad_request(format!(
                "Member {:?} differs only by case from a known member; write it exactly as in the API reference.",
                odd.name
            ))
            .code("ambiguous_member"));
        }
        let Some(member) = scanned.member("model") else {
            return Err(Error::bad_request("You must provide a model parameter.").param("model"));
        };
        let model_span = member.value.clone();
        let model = unquote(&scanned.text[model_span.clone()])
            .ok_or_else(|| Error::bad_request("Invalid type for 'model': expected a string.").param("model"))?;
        let model = checked_name(&model)?;
        let stream = boolean(&scanned, "stream")?.unwrap_or(false);
        let usage = if asks_usage { usage_option(&scanned)? } else { UsageOption::True };
        let span = |name| scanned.member(name).map(|member| member.value.clone());
        let (metadata, user) = (span("metadata"), span("user"));
        Ok(Envelope { model, model_span: Some(model_span), stream, usage, metadata, user, body })
    }

    /// Read a request body whose model and manner stand in the path.
    pub fn read_below(body: Bytes, model: &str, stream: bool) -> Result<Envelope> {
        scan(&body)?;
        let (model, usage) = (checked_name(model)?, UsageOption::True);
        Ok(Envelope { model, model_span: None, stream, usage, metadata: None, user: None, body })
    }

    /// The changes that make this the provider's request: its own name for the model, and a request for the usage event when
    /// `ask_usage` is set and the client did not ask itself.
    pub fn patches(&self, upstream_model: &str, ask_usage: bool) -> Vec<Patch> {
        let mut patches = Vec::new();
        if upstream_model != &*self.model
            && let Some(span) = &self.model_span
        {
            let quoted = serde_json::Value::from(upstream_model).to_string();
            patches.push(Patch { span: span.clone(), bytes: Bytes::from(quoted) });
        }
        if ask_usage && self.stream {
            let (span, bytes) = match &self.usage {
                UsageOption::True => return patches,
                UsageOption::False(span) => (span.clone(), "true"),
                UsageOption::Null(span) => (span.clone(), r#"{"include_usage":true}"#),
                UsageOption::Unset { inside, empty: true } => (*inside..*inside, r#""include_usage":true"#),
                UsageOption::Unset { inside, empty: false } => (*inside..*inside, r#""include_usage":true,"#),
                UsageOption::Absent { inside } => (*inside..*inside, r#""stream_options":{"include_usage":true},"#),
            };
            patches.push(Patch { span, bytes: Bytes::from_static(bytes.as_bytes()) });
            patches.sort_by_key(|p| p.span.start);
        }
        patches
    }

    /// The changes that take the model out and put a version of the API in (Anthropic's messages at Vertex, whose path names the model).
    pub fn without_model(&self, version: &str) -> Vec<Patch> {
        let Some(value) = &self.model_span else { return Vec::new() };
        let before = &self.body[..value.start];
        // the name's own quotes: the two before the colon; one inside would be escaped
        let quotes = || memchr::memrchr_iter(b'"', before).filter(|at| before.get(at.wrapping_sub(1)) != Some(&b'\\'));
        let Some(start) = quotes().nth(1) else { return Vec::new() };
        let member = format!(r#""anthropic_version":{}"#, serde_json::Value::from(version));
        vec![Patch { span: start..value.end, bytes: Bytes::from(member) }]
    }

    /// What the client itself calls its call: the texts in `metadata`, and `user` (Anthropic: `metadata.user_id`).
    pub fn labels(&self) -> Vec<(String, String)> {
        let text = |span: &Option<Span>| self.body.get(span.clone()?);
        let metadata = text(&self.metadata).and_then(|text| Object::scan(text).ok());
        let mut labels: Vec<(String, String)> = metadata
            .iter()
            .flat_map(|object| &object.members)
            .filter_map(|member| {
                let object = metadata.as_ref()?;
                let value = unquote(object.text.get(member.value.clone())?)?;
                let name = if member.name == "user_id" { "user" } else { &*member.name };
                Some((name.to_owned(), value.into_owned()))
            })
            .collect();
        if let Some(user) = text(&self.user).and_then(|text| unquote(std::str::from_utf8(text).ok()?)) {
            labels.push(("user".to_owned(), user.into_owned()));
        }
        labels
    }

    /// Whether the client itself wants the usage event of a chat stream.
    pub fn wants_usage(&self) -> bool {
        self.usage == UsageOption::True
    }
}

/// Whether a provider has to be asked for usage in streams of this operation.
pub fn usage_is_optional(operation: Operation) -> bool {
    matches!(operation, Operation::ChatCompletions | Operation::Completions)
}

fn scan(body: &[u8]) -> Result<Object<'_>> {
    Object::scan(body).map_err(|e| {
        if body.is_empty() {
            return Error::bad_request("The request body is empty; send a JSON object.");
        }
        Error::bad_request(format!("We could not parse the JSON body of your request: {e}."))
    })
}

/// A model name that can stand in a log line, a label and a path.
fn checked_name(name: &str) -> Result<Box<str>> {
    if name.is_empty() {
        return Err(Error::bad_request("You must provide a model parameter.").param("model"));
    }
    if name.len() > 256 || name.chars().any(char::is_control) {
        return Err(
            Error::bad_request("Invalid 'model': at most 256 bytes, without control characters.").param("model")
        );
    }
    Ok(name.into())
}

fn boolean(object: &Object<'_>, name: &'static str) -> Result<Option<bool>> {
    match object.get(name) {
        None | Some("null") => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Error::bad_request(format!("Invalid type for '{name}': expected a boolean.")).param(name)),
    }
}

fn usage_option(object: &Object<'_>) -> Result<UsageOption> {
    let Some(member) = object.member("stream_options") else {
        return Ok(UsageOption::Absent { inside: object.inside });
    };
    let (at, text) = (member.value.start, &object.text[member.value.clone()]);
    if text == "null" {
        return Ok(UsageOption::Null(member.value.clone()));
    }
    let options = Object::scan(text.as_bytes())
        .map_err(|e| Error::bad_request(format!("Invalid 'stream_options': {e}.")).param("stream_options"))?;
    let param: Cow<'static, str> = "stream_options.include_usage".into();
    if options.near(&["include_usage"]).is_some() {
        return Err(Error::bad_request("Ambiguous spelling of 'stream_options.include_usage'.").param(param));
    }
    match options.member("include_usage") {
        None => Ok(UsageOption::Unset { inside: at + options.inside, empty: options.members.is_empty() }),
        Some(m) => {
            match &options.text[m.value.clone()] {
                "true" => Ok(UsageOption::True),
                "false" | "null" => Ok(UsageOption::False(at + m.value.start..at + m.value.end)),
                _ => Err(Error::bad_request("Invalid type for 'stream_options.include_usage': expected a boolean.")
                    .param(param)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Spliced;

    fn sent(body: &str, model: &str, ask: bool) -> String {
        let envelope = Envelope::read(Bytes::from(body.to_owned()), Operation::ChatCompletions).unwrap();
        let spliced = Spliced::new(&envelope.body, &envelope.patches(model, ask));
        String::from_utf8(spliced.pieces.concat()).unwrap()
    }

    fn refused(body: &str) -> Error {
        Envelope::read(Bytes::from(body.to_owned()), Operation::ChatCompletions).expect_err("must be refused")
    }

    #[test]
    fn only_the_model_changes() {
        assert_eq!(
            sent(r#"{"n": 1.00, "model" :"a", "x":{}}"#, "b\"c", false),
            r#"{"n": 1.00, "model" :"b\"c", "x":{}}"#
        );
        assert_eq!(sent(r#"{"model":"a"}"#, "a", true), r#"{"model":"a"}"#);
    }

    #[test]
    fn usage_is_asked_for_in_each_place_it_can_stand() {
        for (body, expected) in [
            (
                r#"{"model":"a","stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"a","stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_options":null,"model":"a"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"a"}"#,
            ),
            (
                r#"{"stream":true,"stream_options": { },"model":"a"}"#,
                r#"{"stream":true,"stream_options": {"include_usage":true },"model":"a"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"x":1},"model":"a"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"x":1},"model":"a"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false},"model":"a"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"a"}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"a"}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true},"model":"a"}"#,
            ),
        ] {
            assert_eq!(sent(body, "a", true), expected);
            assert!(serde_json::from_str::<serde_json::Value>(expected).is_ok());
        }
    }

    #[test]
    fn the_model_gives_its_place_to_a_version() {
        for (body, expected) in [
            (r#"{"a":1,"model" : "claude","b":2}"#, r#"{"a":1,"anthropic_version":"v","b":2}"#),
            (r#"{"mod\u0065l":"claude"}"#, r#"{"anthropic_version":"v"}"#),
        ] {
            let envelope = Envelope::read(Bytes::from(body), Operation::Messages).unwrap();
            let spliced = Spliced::new(&envelope.body, &envelope.without_model("v"));
            assert_eq!(spliced.pieces.concat(), expected.as_bytes());
        }
    }

    #[test]
    fn labels_are_the_texts_of_metadata_and_the_user() {
        let labels = |body: &'static str| {
            let envelope = Envelope::read(Bytes::from(body), Operation::ChatCompletions).unwrap();
            envelope.labels().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(
            labels(r#"{"model":"a","metadata":{"project":"r\u0061","n":1},"user":"ada"}"#),
            "project=ra,user=ada"
        );
        assert_eq!(labels(r#"{"model":"a","metadata":{"user_id":"u"}}"#), "user=u");
        for none in [
            r#"{"model":"a"}"#,
            r#"{"model":"a","metadata":null,"user":null}"#,
            r#"{"model":"a","metadata":"x","user":{}}"#,
        ] {
            assert_eq!(labels(none), "");
        }
    }

    #[test]
    fn refusals_name_the_member() {
        for (body, param) in [
            (r#"{}"#, Some("model")),
            (r#"{"model":1}"#, Some("model")),
            (r#"{"model":""}"#, Some("model")),
            (r#"{"model":"a\u0000"}"#, Some("model")),
            (r#"{"model":"a\ud800"}"#, Some("model")),
            (r#"{"model":"a","stream":"yes"}"#, Some("stream")),
            (r#"{"model":"a","stream_options":[]}"#, Some("stream_options")),
            (r#"{"model":"a","stream_options":{"include_usage":1}}"#, Some("stream_options.include_usage")),
            (r#"{"model":"a","Model":"b"}"#, None),
            (r#"{"model":"a","model":"b"}"#, None),
            ("", None),
        ] {
            let error = refused(body);
            assert_eq!(error.kind, crate::error::Kind::BadRequest, "{body}");
            assert_eq!(error.param.as_deref(), param, "{body}: {error}");
        }
    }
}
