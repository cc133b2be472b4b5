//! A call as the APIs see it: the vendor by its path, the path below its mount, the body as JSON or as a form.
//!
//! It does not know what any endpoint does.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::Shared;
use super::fault::Fault;
use super::multipart::{self, Upload};
use super::scenario::Scenario;

/// Where OpenAI's APIs stand at OpenAI and elsewhere, longest first; the last one is none at all.
const MOUNTS: [&str; 8] =
    ["/compatible-mode/v1", "/v1beta/openai", "/inference/v1", "/api/paas/v4", "/openai/v1", "/api/v1", "/v1", ""];
/// Azure's classic path (learn.microsoft.com/azure/ai-foundry/openai/reference).
const DEPLOYMENTS: &str = "/openai/deployments/";
/// Gemini's actions, behind the model and a colon (ai.google.dev/api).
const ACTIONS: [&str; 5] =
    ["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"];
/// Bedrock's, behind the model and a slash (Amazon Bedrock Runtime API reference).
const BEDROCK_ACTIONS: [&str; 3] = ["converse", "converse-stream", "count-tokens"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    OpenAi,
    Azure,
    Anthropic,
    Gemini,
    Bedrock,
    Cohere,
}

#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) method: Method,
    /// As sent, without the query.
    pub(super) path: String,
    /// Below the mount, without slashes at the ends: `chat/completions`; Gemini's and Bedrock's is the action.
    pub(super) endpoint: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) vendor: Vendor,
    /// A JSON body, or a form's text fields. `None` when there is no readable one.
    pub(super) document: Option<Value>,
    /// A form's file.
    pub(super) upload: Option<Upload>,
    /// From the path, or `model` from the body or the query.
    pub(super) model: Option<String>,
}

/// A call for a model, its name and its body already found.
pub(super) struct Task<'a> {
    pub(super) shared: &'a Shared,
    pub(super) inquiry: &'a Inquiry,
    pub(super) vendor: Vendor,
    pub(super) body: &'a Value,
    pub(super) upload: Option<&'a Upload>,
    pub(super) model: &'a str,
    pub(super) scenario: Scenario,
}

// === impl Inquiry ===

impl Inquiry {
    pub(super) fn new(head: &Parts, body: Bytes) -> Self {
        let path = head.uri.path();
        let (vendor, in_path, endpoint) = place(path);
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let query: Vec<(String, String)> = query.into_owned().collect();
        let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (document, upload) = match multipart::boundary(content_type) {
            Some(boundary) => multipart::read(&body, boundary),
            None => (serde_json::from_slice(&body).ok(), None),
        };
        let named = document.as_ref().and_then(|document| document.get("model")).and_then(Value::as_str);
        let asked = query.iter().find(|(key, _)| key == "model").map(|(_, value)| value.clone());
        Self {
            method: head.method.clone(),
            path: path.to_owned(),
            endpoint: endpoint.trim_matches('/').to_owned(),
            headers: head.headers.clone(),
            vendor,
            model: in_path.or_else(|| named.map(str::to_owned)).or(asked),
            query,
            document,
            upload,
        }
    }

    pub(super) fn asked(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_realtime(&self) -> bool {
        self.endpoint == "realtime" && self.method == Method::GET
    }

    /// The key the caller shows: as a bearer token, in the header of its API, or in the subprotocol that browsers use for realtime.
    pub(super) fn key(&self) -> Option<&str> {
        let bearer = self.text(AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let protocols = self.text("sec-websocket-protocol").unwrap_or_default();
        let protocol = protocols.split(',').find_map(|item| item.trim().strip_prefix("openai-insecure-api-key."));
        let own = match self.vendor {
            Vendor::OpenAi | Vendor::Azure => self.text("api-key"),
            Vendor::Anthropic => self.text("x-api-key"),
            Vendor::Gemini => self.text("x-goog-api-key").or_else(|| self.asked("key")),
            Vendor::Bedrock | Vendor::Cohere => None,
        };
        bearer.or(own).or(protocol)
    }

    /// Signed as AWS wants it (Signature Version 4).
    pub(super) fn is_signed(&self) -> bool {
        let authorization = self.text(AUTHORIZATION.as_str()).unwrap_or_default();
        self.vendor == Vendor::Bedrock && authorization.starts_with("AWS4-HMAC-SHA256 ")
    }

    /// A header.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Whose API a path belongs to, the model where it stands in the path, and what is asked of it.
fn place(path: &str) -> (Vendor, Option<String>, &str) {
    if let Some((deployment, endpoint)) = path.strip_prefix(DEPLOYMENTS).and_then(|rest| rest.split_once('/')) {
        return (Vendor::Azure, Some(deployment.to_owned()), endpoint);
    }
    let messages = path.strip_prefix("/anthropic").unwrap_or(path).strip_prefix("/v1/");
    if let Some(endpoint @ ("messages" | "messages/count_tokens")) = messages {
        return (Vendor::Anthropic, None, endpoint);
    }
    let google = ["/v1beta/models/", "/v1/models/"].iter().find_map(|mount| path.strip_prefix(mount));
    if let Some((model, action)) = google.and_then(|rest| rest.rsplit_once(':')).filter(|(_, a)| ACTIONS.contains(a)) {
        return (Vendor::Gemini, Some(decoded(model)), action);
    }
    let bedrock = path.strip_prefix("/model/").and_then(|rest| rest.rsplit_once('/'));
    if let Some((model, action)) = bedrock.filter(|(_, action)| BEDROCK_ACTIONS.contains(action)) {
        return (Vendor::Bedrock, Some(decoded(model)), action);
    }
    match path.strip_prefix("/v2/") {
        Some(endpoint @ "chat") => (Vendor::Cohere, None, endpoint),
        Some(_) | None => (Vendor::OpenAi, None, below_mount(path)),
    }
}

fn decoded(model: &str) -> String {
    percent_encoding::percent_decode_str(model).decode_utf8_lossy().into_owned()
}

fn below_mount(path: &str) -> &str {
    let below = |mount: &&str| path.strip_prefix(*mount).filter(|rest| rest.starts_with('/'));
    MOUNTS.iter().find_map(below).unwrap_or(path)
}

// === impl Task ===

impl Task<'_> {
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.body.get(key).and_then(Value::as_str)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.body.get(key).and_then(Value::as_u64)
    }

    /// JSON's `true`, or the form's.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.body.get(key).is_some_and(|value| value.as_bool().unwrap_or(value.as_str() == Some("true")))
    }

    /// What every API that samples refuses.
    pub(super) fn check_sampling(&self) -> Result<(), Fault> {
        let Some(value) = self.body.get("temperature").filter(|value| !value.is_null()) else { return Ok(()) };
        let Some(number) = value.as_f64() else { return Err(Fault::wrong_type("temperature", "a decimal", value)) };
        let fault = |side: &str, sign: &str, bound: u8, code| {
            let message = format!(
                "Invalid 'temperature': decimal {side} value. Expected a value {sign} {bound}, but got {value} instead."
            );
            Err(Fault::bad(message).param("temperature").code(code))
        };
        if number > 2.0 {
            return fault("above maximum", "<=", 2, "decimal_above_max_value");
        }
        if number < 0.0 {
            return fault("below minimum", ">=", 0, "decimal_below_min_value");
        }
        Ok(())
    }
}
