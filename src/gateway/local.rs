//! Answered here, from the configuration: `GET /v1/models` and `/v1/models/{id}`, each key seeing what it may use.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::json;

use super::reply;
use crate::call::{Call, Lane};
use crate::config::snapshot::{Key, Model};
use crate::error::{Error, Kind, Result};
use crate::route;

/// `GET /v1/models`.
pub async fn models(session: &mut Session, call: &mut Call) -> Result<()> {
    let snapshot = &call.snapshot;
    let created = snapshot.loaded_at.as_second();
    let data: Vec<serde_json::Value> = snapshot
        .model_order
        .iter()
        .filter(|name| may(call.key.as_deref(), name.as_str()))
        .filter_map(|name| snapshot.models.get(name))
        .map(|model| entry(model, created))
        .collect();
    send(session, call, &json!({ "object": "list", "data": data })).await
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
    let created = call.snapshot.loaded_at.as_second();
    let body = match call.snapshot.models.get(&*id) {
        Some(model) => entry(model, created),
        None => json!({ "id": id, "object": "model", "created": created, "owned_by": target.provider.name.as_str() }),
    };
    send(session, call, &body).await
}

fn entry(model: &Model, created: i64) -> serde_json::Value {
    json!({
        "id": model.name.as_str(),
        "object": "model",
        "created": created,
        "owned_by": model.provider.name.as_str(),
    })
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

async fn send(session: &mut Session, call: &mut Call, body: &serde_json::Value) -> Result<()> {
    let body = Bytes::from(body.to_string());
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
