//! What is to be explained: a request as a client would send it, alone or in an envelope that says how it comes.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::Object;

/// Fields that say how a body is framed and carried; this one is here already.
const FRAMING: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "content-encoding", "connection", "expect", "upgrade"];

/// A request, and how it comes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// The client's body, as it wrote it.
    pub request: Bytes,
    /// `None`: guessed from the shape of the body.
    pub path: Option<String>,
    /// Name of a virtual key. `None`: no key is looked at.
    pub key: Option<String>,
    pub headers: HeaderMap,
}

/// `POST /api/explain`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Values>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

// === impl Query ===

impl Query {
    /// A request, or an envelope: what has an object as its member `request`. `Err`: what to write instead.
    pub fn read(text: Bytes) -> Result<Query, String> {
        let is_envelope = Object::scan(&text)
            .is_ok_and(|members| members.get("request").is_some_and(|request| request.starts_with('{')));
        if !is_envelope {
            return Ok(Query { request: text, ..Query::default() });
        }
        let Envelope { request, path, key, headers } =
            serde_json::from_slice(&text).map_err(|error| format!("the envelope cannot be read: {error}"))?;
        let mut query =
            Query { request: text.slice_ref(request.get().as_bytes()), path, key, headers: HeaderMap::new() };
        for (name, values) in headers {
            let values = match values {
                Values::One(value) => vec![value],
                Values::Many(values) => values,
            };
            values.iter().try_for_each(|value| query.add_header(&name, value))?;
        }
        Ok(query)
    }

    pub fn add_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let header = name.trim().parse::<HeaderName>().map_err(|_| format!("{name:?} is no name of a header"))?;
        let value =
            HeaderValue::from_str(value.trim()).map_err(|_| format!("header {header}: its value cannot be sent"))?;
        if !FRAMING.contains(&header.as_str()) {
            self.headers.append(header, value);
        }
        Ok(())
    }

    /// As an envelope. `Err`: the request is no JSON.
    pub fn to_envelope(&self) -> Result<Vec<u8>, String> {
        let mut headers: BTreeMap<String, Values> = BTreeMap::new();
        for name in self.headers.keys() {
            let values = self.headers.get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            headers.insert(name.to_string(), Values::Many(values.collect()));
        }
        let request = serde_json::from_slice(&self.request).map_err(|error| format!("it is no JSON: {error}"))?;
        let envelope = Envelope { request, path: self.path.clone(), key: self.key.clone(), headers };
        serde_json::to_vec(&envelope).map_err(|error| error.to_string())
    }

    /// The path it would be sent to, by the members of its body and the version headers of SDKs. `None`: it may be any.
    pub fn guess(&self) -> Option<&'static str> {
        let members = Object::scan(&self.request).ok()?;
        let has = |name: &str| members.get(name).is_some();
        let model = members.get("model").unwrap_or_default();
        Some(match () {
            () if has("contents") => return None,
            () if has("messages") && self.is_anthropic(&members) => "/v1/messages",
            () if has("messages") => "/v1/chat/completions",
            () if has("query") && has("documents") => "/v1/rerank",
            () if has("input") && (has("encoding_format") || has("dimensions") || model.contains("embed")) => {
                "/v1/embeddings"
            }
            () if has("input") => "/v1/responses",
            () if has("prompt") => "/v1/completions",
            () => "/v1/chat/completions",
        })
    }

    /// Members that only Anthropic's messages have.
    fn is_anthropic(&self, members: &Object<'_>) -> bool {
        let own = ["system", "stop_sequences", "thinking", "top_k", "output_config", "mcp_servers"];
        let tools = members.get("tools").unwrap_or_default();
        self.headers.contains_key("anthropic-version")
            || own.iter().any(|name| members.get(name).is_some())
            || tools.contains("\"input_schema\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Query {
        Query::read(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn an_envelope_is_told_from_a_request_and_keeps_its_bytes() {
        let bare = r#"{"model": "m",  "messages": []}"#;
        assert_eq!(&read(bare).request[..], bare.as_bytes());
        let text = format!(
            r#"{{"request": {bare}, "key": "ci", "path": "/v1/x", "headers": {{"X-A": ["1", "2"], "host": "h"}}}}"#
        );
        let query = read(&text);
        assert_eq!(
            (&query.request[..], query.key.as_deref(), query.path.as_deref()),
            (bare.as_bytes(), Some("ci"), Some("/v1/x"))
        );
        let values: Vec<_> = query.headers.get_all("x-a").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!((values, query.headers.len()), (vec!["1", "2"], 2), "and what frames a body stays out");
        assert_eq!(read(std::str::from_utf8(&query.to_envelope().unwrap()).unwrap()), query, "there and back");
        assert!(Query::read(Bytes::from_static(br#"{"request": {}, "kye": 1}"#)).is_err());
        assert!(Query::read(Bytes::from_static(br#"{"request": {}, "headers": {"a b": "c"}}"#)).is_err());
        // what is broken is for the one who reads requests
        assert_eq!(&read("{").request[..], b"{");
    }

    #[test]
    fn the_path_is_guessed_from_the_shape() {
        for (body, path) in [
            (r#"{"model":"m","messages":[]}"#, Some("/v1/chat/completions")),
            (r#"{"model":"m","messages":[],"max_tokens":5}"#, Some("/v1/chat/completions")),
            (r#"{"model":"m","messages":[],"system":"s"}"#, Some("/v1/messages")),
            (r#"{"model":"m","messages":[],"tools":[{"name":"f","input_schema":{}}]}"#, Some("/v1/messages")),
            (r#"{"model":"m","input":"x"}"#, Some("/v1/responses")),
            (r#"{"model":"text-embedding-3","input":"x"}"#, Some("/v1/embeddings")),
            (r#"{"model":"m","prompt":"x"}"#, Some("/v1/completions")),
            (r#"{"model":"m","query":"x","documents":[]}"#, Some("/v1/rerank")),
            (r#"{"contents":[]}"#, None),
        ] {
            assert_eq!(read(body).guess(), path, "{body}");
        }
    }
}
