//! Answered here: `GET /v1/models` and `/v1/models/{id}` from the configuration, `GET /api/v1/status` from what calls have met; each key
//! sees what it may use.

use std::sync::Arc;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::json;

use super::proxy::Shared;
use super::{reply, status};
use crate::call::{Call, Lane};
use crate::config::policy::Model;
use crate::config::snapshot::Key;
use crate::dialect::Grammar;
use crate::error::{Error, Kind, Result};
use crate::route;

/// `GET /v1/models`, `GET /v1beta/models`.
pub async fn models(session: &mut Session, call: &mut Call) -> Result<()> {
    let snapshot = &call.snapshot;
    let loaded = snapshot.loaded_at;
    let listed: Vec<&Arc<Model>> = snapshot
        .model_order
        .iter()
        .filter(|name| may(call.key.as_deref(), name.as_str()))
        .filter_map(|name| snapshot.models.get(name))
        .collect();
    let entries: Vec<serde_json::Value> =
        listed.iter().map(|m| entry(call.grammar, m.name.as_str(), owner(m), loaded)).collect();
    let body = match call.grammar {
        Grammar::OpenAi => json!({ "object": "list", "data": entries }),
        Grammar::Anthropic => json!({
            "first_id": listed.first().map(|m| m.name.as_str()),
            "last_id": listed.last().map(|m| m.name.as_str()),
            "has_more": false,
            "data": entries,
        }),
        Grammar::Google => json!({ "models": entries }),
    };
    send(session, call, &body).await
}

/// `GET /v1/models/{id}`; the id may be percent-encoded.
pub async fn model(session: &mut Session, call: &mut Call, id: &str) -> Result<()> {
    let id = decode(id).ok_or_else(|| Error::bad_request("The model name in the path is not UTF-8.").param("model"))?;
    let target = route::target(&call.snapshot, call.key.as_deref(), &id).map_err(|mut error| {
        // a name outside a key's list looks like one that does not exist
        if error.kind == Kind::Forbidden {
            error.kind = Kind::UnknownModel;
            error.code = None;
        }
        error
    })?;
    let body = entry(call.grammar, &id, target.provider.name.as_str(), call.snapshot.loaded_at);
    send(session, call, &body).await
}

/// `GET /api/v1/status`.
pub async fn status(shared: &Shared, session: &mut Session, call: &mut Call) -> Result<()> {
    let snapshot = Arc::clone(&call.snapshot);
    let key = call.key.clone();
    let status = status::of_key(shared, &snapshot, key.as_deref());
    send(session, call, &status).await
}

/// Who has it first.
fn owner(model: &Model) -> &str {
    model.targets.first().map_or("", |target| target.provider.name.as_str())
}

/// One model in the client's grammar.
fn entry(grammar: Grammar, name: &str, provider: &str, loaded: jiff::Timestamp) -> serde_json::Value {
    match grammar {
        Grammar::OpenAi => json!({
            "id": name,
            "object": "model",
            "created": loaded.as_second(),
            "owned_by": provider,
        }),
        Grammar::Anthropic => json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": loaded.round(jiff::Unit::Second).unwrap_or(loaded).to_string(),
        }),
        Grammar::Google => json!({
            "name": format!("models/{name}"),
            "displayName": name,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
        }),
    }
}

fn may(key: Option<&Key>, name: &str) -> bool {
    key.is_none_or(|k| k.allows_model(name))
}

fn decode(id: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let hex = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = after.get(2..)?;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

async fn send(session: &mut Session, call: &mut Call, body: &impl serde::Serialize) -> Result<()> {
    let body = serde_json::to_vec(body).map_err(|e| Error::internal("The answer cannot be written.").why(e))?;
    let body = Bytes::from(body);
    call.lane = Some(Lane::Local);
    call.status = 200;
    call.bytes_out = body.len() as u64;
    let written = async {
        let mut head = ResponseHeader::build_no_case(200, Some(8))?;
        head.insert_header("content-type", "application/json")?;
        head.insert_header("content-length", body.len())?;
        reply::ours(&mut head, call)?;
        let bodiless = call.method == http::Method::HEAD;
        session.write_response_header(Box::new(head), bodiless).await?;
        if !bodiless {
            session.write_response_body(Some(body), true).await?;
        }
        Ok::<_, Box<pingora::Error>>(())
    };
    written.await.map_err(|e| Error::new(Kind::ClientGone, "The client closed the connection.").why(e))
}
