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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    OpenAi,
    Azure,
}

#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) method: Method,
    /// As sent, without the query.
    pub(super) path: String,
    /// Below the mount, without slashes at the ends: `chat/completions`.
    pub(super) endpoint: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) vendor: Vendor,
    /// A JSON body, or a form's text fields. `None` when there is no readable one.
    pub(super) document: Option<Value>,
    /// A form's file.
    pub(super) upload: Option<Upload>,
    /// Azure's deployment, or `model` from the body or the query.
    pub(super) model: Option<String>,
}

/// A call for a model, its name and its body already found.
pub(super) struct Task<'a> {
    pub(super) shared: &'a Shared,
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
        let (vendor, deployment, endpoint) = match path.strip_prefix(DEPLOYMENTS).and_then(|rest| rest.split_once('/'))
        {
            Some((deployment, endpoint)) => (Vendor::Azure, Some(deployment.to_owned()), endpoint),
            None => (Vendor::OpenAi, None, below_mount(path)),
        };
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
            model: deployment.or_else(|| named.map(str::to_owned)).or(asked),
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

    /// The key the caller shows: as a bearer token, in `api-key`, or in the subprotocol that browsers use for realtime.
    pub(super) fn key(&self) -> Option<&str> {
        let text = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        let protocols = text("sec-websocket-protocol").unwrap_or_default();
        let protocol = protocols.split(',').find_map(|item| item.trim().strip_prefix("openai-insecure-api-key."));
        bearer.or_else(|| text("api-key")).or(protocol)
    }
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
