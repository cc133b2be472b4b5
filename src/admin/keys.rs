//! `/api/keys`: keys that are made while the gateway runs, and `/api/audit`: who did what. What is done with them is in `acts`; the words of
//! LiteLLM's proxy are in `litellm`.

mod acts;
mod litellm;

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, extract::DefaultBodyLimit};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Admin, problem};
use crate::config::Secret;
use crate::json::Node;
use acts::{Done, Keys, Problem, Terms, WORDS, second, span, view};

const LARGEST_BODY: usize = 128 * 1024;
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000;

/// Every path of it; whoever merges this guards it.
pub fn router() -> Router<Admin> {
    Router::new()
        .route("/api/keys", get(list).post(create))
        .route("/api/keys/{name}", get(show).patch(update).delete(delete))
        .route("/api/keys/{name}/rotate", post(rotate))
        .route("/api/keys/{name}/revoke", post(revoke))
        .route("/api/keys/{name}/restore", post(restore))
        .route("/api/keys/{name}/expire", post(expire))
        .route("/api/audit", get(audit))
        .merge(litellm::router())
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}

#[derive(Deserialize)]
struct Page {
    /// The name behind which the page begins.
    after: Option<String>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct AuditPage {
    before: Option<i64>,
    limit: Option<u32>,
}

async fn list(State(admin): State<Admin>, headers: HeaderMap, Query(page): Query<Page>) -> Response {
    let listed = async {
        let keys = keys(&admin, &headers)?;
        let limit = page.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
        let found = keys.list(page.after.as_deref().unwrap_or_default(), limit).await?;
        let full = u32::try_from(found.len()).is_ok_and(|count| count == limit);
        let next = found.last().filter(|_| full).map(|key| key.name.clone());
        let now = Timestamp::now();
        Ok(json!({"keys": found.iter().map(|key| view(key, now)).collect::<Vec<_>>(), "next": next}))
    };
    answer(StatusCode::OK, listed.await)
}

async fn create(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let created = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let value = text(&mut members, "key")?.map(Secret::new);
        let mut terms = Terms::default();
        edit(&mut terms, members)?;
        if terms.name.is_empty() {
            return Err(Problem::bad("name: write one, for logs"));
        }
        let (value, stored) = keys.create(terms, value).await?;
        Ok(with_value(view(&stored, Timestamp::now()), &value))
    };
    answer(StatusCode::CREATED, created.await)
}

async fn show(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let shown = async { Ok(view(&keys(&admin, &headers)?.named(&name).await?, Timestamp::now())) };
    answer(StatusCode::OK, shown.await)
}

/// What is written takes the place of what was; `null` takes it away.
async fn update(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>, body: Bytes) -> Response {
    let updated = async {
        let keys = keys(&admin, &headers)?;
        let members = members(&body)?;
        let key = keys.named(&name).await?;
        let key = keys.update(key, |terms| edit(terms, members)).await?;
        Ok(view(&key, Timestamp::now()))
    };
    answer(StatusCode::OK, updated.await)
}

/// `{"overlap": "24h"}`: so long the old value goes on. Default: not at all.
async fn rotate(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>, body: Bytes) -> Response {
    let rotated = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let overlap = match text(&mut members, "overlap")? {
            None => Duration::ZERO,
            Some(overlap) => span(&overlap).ok_or_else(|| Problem::bad("overlap: write for example \"24h\""))?,
        };
        let value = text(&mut members, "key")?.map(Secret::new);
        nothing_else(&members, &["overlap", "key"])?;
        let key = keys.named(&name).await?;
        let (value, stored) = keys.rotate(key, overlap, value).await?;
        Ok(with_value(view(&stored, Timestamp::now()), &value))
    };
    answer(StatusCode::OK, rotated.await)
}

async fn revoke(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let revoked = async {
        let keys = keys(&admin, &headers)?;
        let key = keys.revoke(keys.named(&name).await?).await?;
        Ok(view(&key, Timestamp::now()))
    };
    answer(StatusCode::OK, revoked.await)
}

async fn restore(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let restored = async {
        let keys = keys(&admin, &headers)?;
        let key = keys.restore(keys.named(&name).await?).await?;
        Ok(view(&key, Timestamp::now()))
    };
    answer(StatusCode::OK, restored.await)
}

/// `{"expires": "2030-01-01T00:00:00Z"}` or `{"in": "30d"}`; without either: now.
async fn expire(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>, body: Bytes) -> Response {
    let expired = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let later = text(&mut members, "in")?;
        let at = members.remove("expires");
        nothing_else(&members, &["expires", "in"])?;
        let expires = match (at, later) {
            (Some(_), Some(_)) => return Err(Problem::bad("write \"expires\" or \"in\", not both")),
            (Some(at), None) => expiry(&at)?,
            (None, Some(later)) => Some(from_now(&later, "in")?),
            (None, None) => Some(Timestamp::now()),
        };
        let key = keys.named(&name).await?;
        let key = keys
            .update(key, |terms| {
                terms.expires = expires;
                Ok(())
            })
            .await?;
        Ok(view(&key, Timestamp::now()))
    };
    answer(StatusCode::OK, expired.await)
}

async fn delete(State(admin): State<Admin>, headers: HeaderMap, Path(name): Path<String>) -> Response {
    let deleted = async {
        let keys = keys(&admin, &headers)?;
        let key = keys.delete(keys.named(&name).await?).await?;
        Ok(view(&key, Timestamp::now()))
    };
    answer(StatusCode::OK, deleted.await)
}

async fn audit(State(admin): State<Admin>, Query(page): Query<AuditPage>) -> Response {
    let Some(table) = admin.shared.key_table.get() else {
        return refused(&Problem::Off(
            "there is no database that an audit could be kept in: write \"store: sqlite:tollgate.db\"",
        ));
    };
    let limit = page.limit.unwrap_or(PAGE).clamp(1, LARGEST_PAGE);
    let found = match table.audit(page.before, limit).await {
        Ok(found) => found,
        Err(error) => return refused(&error.into()),
    };
    let json = |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let rows: Vec<Value> = found
        .iter()
        .map(|row| {
            json!({
                "id": row.id, "at": row.at.to_string(), "actor": row.actor, "act": row.act, "subject": row.subject,
                "was": json(&row.was), "became": json(&row.became),
            })
        })
        .collect();
    let full = u32::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next = found.last().filter(|_| full).map(|row| row.id);
    Json(json!({"audit": rows, "next": next})).into_response()
}

// === reading ===

/// The token says that it is an administrator; `x-tollgate-actor` which one, as far as they say so.
fn keys<'a>(admin: &'a Admin, headers: &HeaderMap) -> Done<Keys<'a>> {
    let named = headers.get("x-tollgate-actor").and_then(|value| value.to_str().ok()).map(str::trim);
    let actor = match named.filter(|name| !name.is_empty() && name.len() <= 64) {
        Some(name) => format!("admin: {name}"),
        None => "admin".to_owned(),
    };
    Keys::new(&admin.shared, actor)
}

/// The members of a body; none where there is no body.
fn members(body: &[u8]) -> Done<Map<String, Value>> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    let wrong = |why| Problem::bad(format!("the body is not a JSON object{why}"));
    // as strict as with calls: a name that stands twice could be read in two ways
    Node::parse(body).map_err(|error| wrong(format!(": {error}")))?;
    serde_json::from_slice(body).map_err(|_| wrong(String::new()))
}

fn text(members: &mut Map<String, Value>, name: &str) -> Done<Option<String>> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Problem::bad(format!("{name}: expected a text")))
        }
    }
}

fn nothing_else(members: &Map<String, Value>, known: &[&str]) -> Done<()> {
    match members.keys().next() {
        None => Ok(()),
        Some(name) => Err(Problem::bad(format!("unknown member {name:?}: write one of {}", known.join(", ")))),
    }
}

/// Lay what is written over what was.
fn edit(terms: &mut Terms, members: Map<String, Value>) -> Done<()> {
    let mut timed = false;
    for (name, value) in members {
        match name.as_str() {
            "name" => match value {
                Value::String(text) => terms.name = text,
                _ => return Err(Problem::bad("name: expected a text")),
            },
            "metadata" => match value {
                Value::Null => terms.note.clear(),
                Value::Object(note) => terms.note = note,
                _ => return Err(Problem::bad("metadata: expected an object")),
            },
            "expires" | "expires_in" if std::mem::replace(&mut timed, true) => {
                return Err(Problem::bad("write \"expires\" or \"expires_in\", not both"));
            }
            "expires" => terms.expires = expiry(&value)?,
            "expires_in" => match value {
                Value::Null => terms.expires = None,
                Value::String(text) => terms.expires = Some(from_now(&text, "expires_in")?),
                _ => return Err(Problem::bad("expires_in: write for example \"30d\"")),
            },
            word if WORDS.contains(&word) => drop(match value {
                Value::Null => terms.words.remove(word),
                value => terms.words.insert(word.to_owned(), value),
            }),
            other => {
                let known = ["name", "metadata", "expires", "expires_in"].into_iter().chain(WORDS).collect::<Vec<_>>();
                return Err(Problem::bad(format!("unknown member {other:?}: write one of {}", known.join(", "))));
            }
        }
    }
    Ok(())
}

fn expiry(value: &Value) -> Done<Option<Timestamp>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| wrong_time()),
        _ => Err(wrong_time()),
    }
}

fn wrong_time() -> Problem {
    Problem::bad("expires: write a time such as \"2030-01-01T00:00:00Z\" (RFC 3339), or null")
}

fn from_now(text: &str, name: &str) -> Done<Timestamp> {
    let then = span(text).and_then(|span| Timestamp::now().checked_add(span).ok());
    then.ok_or_else(|| Problem::bad(format!("{name}: write for example \"30d\" or \"12h\"")))
}

// === answering ===

fn with_value(mut view: Value, value: &Secret) -> Value {
    if let Value::Object(members) = &mut view {
        members.insert("key".to_owned(), value.expose().into());
    }
    view
}

fn answer(status: StatusCode, done: Done<Value>) -> Response {
    match done {
        Ok(value) => (status, Json(value)).into_response(),
        Err(why) => refused(&why),
    }
}

fn refused(why: &Problem) -> Response {
    let (status, message) = told(why);
    match why {
        Problem::Bad(errors) => (status, Json(json!({"error": message, "errors": errors}))).into_response(),
        _ => problem(status, &message),
    }
}

/// Status and words.
fn told(why: &Problem) -> (StatusCode, String) {
    match why {
        Problem::Off(why) => (StatusCode::NOT_IMPLEMENTED, (*why).to_owned()),
        Problem::Bad(errors) => (StatusCode::BAD_REQUEST, errors.join("; ")),
        Problem::NotFound => (StatusCode::NOT_FOUND, "there is no such key in the store".to_owned()),
        Problem::Taken(why) => (StatusCode::CONFLICT, (*why).to_owned()),
        Problem::Conflict => {
            (StatusCode::CONFLICT, "somebody else changed the key at the same moment: look at it again".to_owned())
        }
        Problem::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why.clone()),
    }
}

/// A time, for what is told.
fn shown(time: Option<Timestamp>) -> Option<String> {
    time.map(second)
}
