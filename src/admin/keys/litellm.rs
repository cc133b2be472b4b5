//! The key endpoints of LiteLLM's proxy (`/key/generate`, `/key/info`, `/key/update`, `/key/delete`, `/key/regenerate`, `/key/block`), so that
//! scripts written for it work: its names in and out, our keys behind them. Only what means the same here is taken. A member that would
//! change what a key may do, and cannot be kept here, is refused; one that would not is ignored and told in `ignored`.
//!
//! The facts: LiteLLM's documentation, "Virtual Keys", and its OpenAPI description, 2026-10.

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

use super::acts::{Done, Keys, Problem, Terms, span};
use super::{keys, members, shown, text, told};
use crate::admin::Admin;
use crate::config::Secret;
use crate::store::keys::{Find, StoredKey};

/// Names of one request to delete.
const MOST_AT_ONCE: usize = 1_000;
/// Where its words that mean nothing here are remembered, beside the caller's own `metadata`.
const OWN: &str = "litellm";

/// Members that change nothing of what a key may do.
const HARMLESS: [&str; 10] = [
    "send_invite_email",
    "key_type",
    "spend",
    "tags",
    "auto_rotate",
    "rotation_interval",
    "created_by",
    "updated_by",
    "soft_budget",
    "soft_budget_cooldown",
];

pub fn router() -> Router<Admin> {
    Router::new()
        .route("/key/generate", post(generate))
        .route("/key/info", get(info))
        .route("/key/update", post(update))
        .route("/key/delete", post(delete))
        .route("/key/regenerate", post(regenerate))
        .route("/key/block", post(block))
        .route("/key/unblock", post(unblock))
        .route("/key/list", get(list))
}

#[derive(Deserialize)]
struct Asked {
    key: Option<String>,
    key_alias: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    page: Option<u32>,
    size: Option<u32>,
}

async fn generate(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let generated = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let value = text(&mut members, "key")?.map(Secret::new);
        let mut terms = Terms::default();
        let ignored = edit(&mut terms, members)?;
        if terms.name.is_empty() {
            terms.name = format!("key-{}", hex::encode(random()));
        }
        let (value, stored) = keys.create(terms, value).await?;
        Ok(with_value(told_of(&stored), &value, &stored, ignored))
    };
    answer(generated.await)
}

/// Without a `key` LiteLLM tells of the key that asks; here that is the administrator's token.
async fn info(State(admin): State<Admin>, headers: HeaderMap, Query(asked): Query<Asked>) -> Response {
    let found = async {
        let keys = keys(&admin, &headers)?;
        let stored = match (&asked.key, &asked.key_alias) {
            (Some(key), _) => which(&keys, key).await?,
            (None, Some(alias)) => keys.find(Find::Name(alias)).await?,
            (None, None) => return Err(Problem::bad("key: write which, as ?key=sk-...")),
        };
        Ok(json!({"key": asked.key.unwrap_or_else(|| token(&stored)), "info": told_of(&stored)}))
    };
    answer(found.await)
}

async fn update(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let updated = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let key = text(&mut members, "key")?.ok_or_else(|| Problem::bad("key: write which"))?;
        let stored = which(&keys, &key).await?;
        let mut ignored = Vec::new();
        let stored = keys
            .update(stored, |terms| {
                ignored = edit(terms, members)?;
                Ok(())
            })
            .await?;
        let mut told = told_of(&stored);
        if let Value::Object(told) = &mut told {
            told.insert("key".to_owned(), key.into());
            tell_ignored(told, ignored);
        }
        Ok(told)
    };
    answer(updated.await)
}

/// All of them, or none.
async fn delete(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let deleted = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let (values, aliases) = (texts(&mut members, "keys")?, texts(&mut members, "key_aliases")?);
        if values.is_empty() == aliases.is_empty() {
            return Err(Problem::bad("write \"keys\" or \"key_aliases\", a list of those to delete"));
        }
        let mut found = Vec::with_capacity(values.len() + aliases.len());
        for value in &values {
            found.push(which(&keys, value).await?);
        }
        for alias in &aliases {
            found.push(keys.find(Find::Name(alias)).await?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        let tokens: Vec<String> = found.iter().map(token).collect();
        for key in found {
            keys.delete(key).await?;
        }
        let deleted = if values.is_empty() { tokens } else { values };
        Ok(json!({"deleted_keys": deleted}))
    };
    answer(deleted.await)
}

/// A new value. The old one goes on for `grace_period`, by default not at all.
async fn regenerate(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let regenerated = async {
        let keys = keys(&admin, &headers)?;
        let mut members = members(&body)?;
        let key = text(&mut members, "key")?.ok_or_else(|| Problem::bad("key: write which"))?;
        let value = text(&mut members, "new_key")?.map(Secret::new);
        let grace = match text(&mut members, "grace_period")? {
            None => std::time::Duration::ZERO,
            Some(grace) => span(&grace).ok_or_else(|| Problem::bad("grace_period: write for example \"24h\""))?,
        };
        let mut stored = which(&keys, &key).await?;
        let mut ignored = Vec::new();
        if !members.is_empty() {
            stored = keys
                .update(stored, |terms| {
                    ignored = edit(terms, members)?;
                    Ok(())
                })
                .await?;
        }
        let (value, stored) = keys.rotate(stored, grace, value).await?;
        Ok(with_value(told_of(&stored), &value, &stored, ignored))
    };
    answer(regenerated.await)
}

async fn block(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let blocked = async {
        let keys = keys(&admin, &headers)?;
        let key = text(&mut members(&body)?, "key")?.ok_or_else(|| Problem::bad("key: write which"))?;
        Ok(told_of(&keys.revoke(which(&keys, &key).await?).await?))
    };
    answer(blocked.await)
}

async fn unblock(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let unblocked = async {
        let keys = keys(&admin, &headers)?;
        let key = text(&mut members(&body)?, "key")?.ok_or_else(|| Problem::bad("key: write which"))?;
        Ok(told_of(&keys.restore(which(&keys, &key).await?).await?))
    };
    answer(unblocked.await)
}

/// The names of the keys' values, page by page.
async fn list(State(admin): State<Admin>, headers: HeaderMap, Query(asked): Query<Page>) -> Response {
    let listed = async {
        let keys = keys(&admin, &headers)?;
        let (page, size) = (asked.page.unwrap_or(1).max(1), asked.size.unwrap_or(10).clamp(1, 100));
        let mut after = String::new();
        let mut found = Vec::new();
        for _ in 0..page.min(10_000) {
            found = keys.list(&after, size).await?;
            match found.last() {
                Some(last) => after.clone_from(&last.name),
                None => break,
            }
        }
        let tokens: Vec<String> = found.iter().map(token).collect();
        Ok(json!({"keys": tokens, "current_page": page, "size": size}))
    };
    answer(listed.await)
}

// === its words to ours ===

/// What is left over is ignored: its names.
fn edit(terms: &mut Terms, members: Map<String, Value>) -> Done<Vec<String>> {
    let mut ignored = Vec::new();
    let mut budget = Budget::of(terms);
    for (name, value) in members {
        let empty = is_empty(&value);
        match name.as_str() {
            "key_alias" => {
                if let Some(alias) = a_text(&name, value)? {
                    terms.name = alias;
                }
            }
            "duration" => {
                terms.expires = a_text(&name, value)?.map(|text| super::from_now(&text, "duration")).transpose()?
            }
            "models" => {
                // its word for all of them; an empty list means the same
                let all = empty || value.as_array().is_some_and(|list| list.iter().any(|m| m == "all-proxy-models"));
                put(&mut terms.words, "models", value, all);
            }
            "team_id" => tag(terms, "team", a_text(&name, value)?),
            "user_id" => tag(terms, "user", a_text(&name, value)?),
            "agent_id" => tag(terms, "agent", a_text(&name, value)?),
            "project_id" => tag(terms, "project", a_text(&name, value)?),
            "tpm_limit" => limit(terms, "tpm", value),
            "rpm_limit" => limit(terms, "rpm", value),
            "max_parallel_requests" => limit(terms, "concurrency", value),
            "max_budget" => budget.usd = number(&name, value)?,
            "budget_duration" => budget.duration = a_text(&name, value)?,
            "metadata" => match value {
                Value::Null => terms.note.retain(|name, _| name == OWN),
                Value::Object(note) => {
                    let own = terms.note.remove(OWN);
                    terms.note = note;
                    terms.note.extend(own.map(|own| (OWN.to_owned(), own)));
                }
                _ => return Err(Problem::bad("metadata: expected an object")),
            },
            // nothing is asked for
            _ if empty => {}
            known if HARMLESS.contains(&known) => ignored.push(name),
            _ => {
                let why = "is not available here and would change what the key may do: leave it out, or use /api/keys";
                return Err(Problem::bad(format!("{name}: {why}")));
            }
        }
    }
    budget.write(terms)?;
    Ok(ignored)
}

/// `max_budget` and `budget_duration` mean something together; each may be changed alone.
struct Budget {
    usd: Option<Number>,
    duration: Option<String>,
    before: (Option<Number>, Option<String>),
}

impl Budget {
    /// As these words were last written; a budget that was written in others stays as long as none is.
    fn of(terms: &Terms) -> Budget {
        let own = terms.note.get(OWN);
        let usd = own.and_then(|own| own.get("max_budget")).and_then(Value::as_number).cloned();
        let duration = own.and_then(|own| own.get("budget_duration")).and_then(Value::as_str).map(str::to_owned);
        Budget { before: (usd.clone(), duration.clone()), usd, duration }
    }

    fn write(self, terms: &mut Terms) -> Done<()> {
        let Budget { usd, duration, before } = self;
        if (usd.as_ref(), duration.as_ref()) == (before.0.as_ref(), before.1.as_ref()) {
            return Ok(());
        }
        let mut own = Map::new();
        match &usd {
            None => drop(terms.words.remove("budget")),
            Some(usd) => {
                let per = match duration.as_deref() {
                    None => json!("lifetime"),
                    // it begins these anew with the day, the week and the month too
                    Some("1d" | "24h") => json!("day"),
                    Some("7d" | "1w") => json!("week"),
                    Some("30d" | "1mo") => json!("month"),
                    Some(other) => json!({"rolling": other}),
                };
                // as text: no number is spelled anew on its way
                terms.words.insert("budget".to_owned(), json!({"usd": usd.to_string(), "per": per}));
                own.insert("max_budget".to_owned(), Value::Number(usd.clone()));
            }
        }
        if let Some(duration) = duration {
            own.insert("budget_duration".to_owned(), duration.into());
        }
        match own.is_empty() {
            true => drop(terms.note.remove(OWN)),
            false => drop(terms.note.insert(OWN.to_owned(), Value::Object(own))),
        }
        Ok(())
    }
}

/// What says nothing: it may be there, as clients send all they know of.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn put(map: &mut Map<String, Value>, name: &str, value: Value, none: bool) {
    match none {
        true => drop(map.remove(name)),
        false => drop(map.insert(name.to_owned(), value)),
    }
}

fn tag(terms: &mut Terms, name: &str, value: Option<String>) {
    let none = value.is_none();
    inner(terms, "tags", name, value.unwrap_or_default().into(), none);
}

fn limit(terms: &mut Terms, name: &str, value: Value) {
    let none = value.is_null();
    inner(terms, "limits", name, value, none);
}

/// A member of a member, which is taken out when it is empty.
fn inner(terms: &mut Terms, outer: &str, name: &str, value: Value, none: bool) {
    let mut map = match terms.words.remove(outer) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    };
    put(&mut map, name, value, none);
    if !map.is_empty() {
        terms.words.insert(outer.to_owned(), Value::Object(map));
    }
}

fn a_text(name: &str, value: Value) -> Done<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        _ => Err(Problem::bad(format!("{name}: expected a text"))),
    }
}

fn number(name: &str, value: Value) -> Done<Option<Number>> {
    match value {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(Some(number)),
        _ => Err(Problem::bad(format!("{name}: expected a number"))),
    }
}

fn texts(members: &mut Map<String, Value>, name: &str) -> Done<Vec<String>> {
    let wrong = || Problem::bad(format!("{name}: expected a list of texts, {MOST_AT_ONCE} at most"));
    match members.remove(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MOST_AT_ONCE => {
            let text = |value: Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
            list.into_iter().map(text).collect()
        }
        Some(_) => Err(wrong()),
    }
}

/// A key by its value, or by its `token`.
async fn which(keys: &Keys<'_>, key: &str) -> Done<StoredKey> {
    keys.shown(key).await
}

fn random() -> [u8; 6] {
    let mut bytes = [0; 6];
    // a name that is there already is refused
    let _ = getrandom::fill(&mut bytes);
    bytes
}

// === our keys in its words ===

/// Its name for what a key is kept by: the hash of the newest value.
fn token(key: &StoredKey) -> String {
    key.hashes.first().map(|hash| hex::encode(hash.hash)).unwrap_or_default()
}

fn told_of(key: &StoredKey) -> Value {
    let words: Value = serde_json::from_str(&key.words).unwrap_or_default();
    let note: Map<String, Value> = serde_json::from_str(&key.note).unwrap_or_default();
    let own = note.get(OWN).cloned().unwrap_or_default();
    let of = |outer: &str, name: &str| words.get(outer).and_then(|map| map.get(name)).cloned();
    let metadata: Map<String, Value> = note.into_iter().filter(|(name, _)| name != OWN).collect();
    json!({
        "token": token(key),
        "key_name": key.hashes.first().map(|hash| hash.shown.as_str()),
        "key_alias": key.name,
        "models": words.get("models").cloned().unwrap_or_else(|| json!([])),
        "team_id": of("tags", "team"),
        "user_id": of("tags", "user"),
        "agent_id": of("tags", "agent"),
        "project_id": of("tags", "project"),
        "tpm_limit": of("limits", "tpm"),
        "rpm_limit": of("limits", "rpm"),
        "max_parallel_requests": of("limits", "concurrency"),
        "max_budget": own.get("max_budget"),
        "budget_duration": own.get("budget_duration"),
        "expires": shown(key.expires),
        "blocked": key.revoked.is_some(),
        "metadata": metadata,
        "created_at": shown(Some(key.created)),
        "created_by": key.created_by,
        // what a key has spent stands in the ledger: GET /api/usage
        "spend": Value::Null,
    })
}

fn with_value(mut told: Value, value: &Secret, stored: &StoredKey, ignored: Vec<String>) -> Value {
    if let Value::Object(told) = &mut told {
        told.insert("key".to_owned(), value.expose().into());
        told.insert("token_id".to_owned(), token(stored).into());
        tell_ignored(told, ignored);
    }
    told
}

fn tell_ignored(told: &mut Map<String, Value>, ignored: Vec<String>) {
    if !ignored.is_empty() {
        told.insert("ignored".to_owned(), ignored.into());
    }
}

/// Errors as its clients read them.
fn answer(done: Done<Value>) -> Response {
    match done {
        Ok(value) => Json(value).into_response(),
        Err(why) => {
            let (status, message) = told(&why);
            let kind = match status {
                StatusCode::BAD_REQUEST | StatusCode::CONFLICT => "bad_request_error",
                StatusCode::NOT_FOUND => "not_found_error",
                _ => "internal_server_error",
            };
            let code = status.as_u16().to_string();
            (status, Json(json!({"error": {"message": message, "type": kind, "param": null, "code": code}})))
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::stored_key;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    fn edited(value: Value) -> Result<(Terms, Vec<String>), String> {
        let mut terms = Terms { name: "x".to_owned(), ..Terms::default() };
        match edit(&mut terms, map(value)) {
            Ok(ignored) => {
                let words = Value::Object(terms.words.clone()).to_string();
                stored_key(&terms.name, &words).map_err(|errors| format!("{words}: {errors:?}"))?;
                Ok((terms, ignored))
            }
            Err(Problem::Bad(why)) => Err(why.join("; ")),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn its_words_become_ours() {
        let (terms, ignored) = edited(json!({
            "key_alias": "ci", "duration": "30d", "models": ["gpt-4o", "claude-*"], "team_id": "search", "user_id": "ada",
            "tpm_limit": 1000, "rpm_limit": 10, "max_parallel_requests": 2, "max_budget": 12.5, "budget_duration": "30d",
            "metadata": {"a": 1}, "aliases": {}, "config": null, "permissions": {}, "guardrails": [], "blocked": false,
            "send_invite_email": true, "key_type": "default", "tags": ["x"],
        }))
        .unwrap();
        assert_eq!(terms.name, "ci");
        let expected = json!({
            "models": ["gpt-4o", "claude-*"], "tags": {"team": "search", "user": "ada"},
            "limits": {"tpm": 1000, "rpm": 10, "concurrency": 2}, "budget": {"usd": "12.5", "per": "month"},
        });
        assert_eq!(Value::Object(terms.words), expected);
        assert_eq!(terms.note["a"], 1);
        assert!(terms.expires.is_some());
        assert_eq!(ignored, ["key_type", "send_invite_email", "tags"]);
    }

    #[test]
    fn what_would_change_what_a_key_may_do_is_refused() {
        for (name, value) in [
            ("aliases", json!({"gpt-4o": "cheap"})),
            ("model_max_budget", json!({"gpt-4o": 1})),
            ("guardrails", json!(["pii"])),
            ("permissions", json!({"x": true})),
            ("allowed_routes", json!(["/chat"])),
            ("budget_id", json!("b")),
            ("model_rpm_limit", json!({"a": 1})),
            ("blocked", json!(true)),
            ("organization_id", json!("o")),
            ("enforced_params", json!(["user"])),
            ("anything_new", json!(1)),
        ] {
            let why = edited(json!({name: value})).err().unwrap_or_else(|| panic!("{name} was taken"));
            assert!(why.starts_with(name), "{why}");
        }
    }

    #[test]
    fn budgets_are_for_the_periods_it_has() {
        for (duration, per) in [
            (json!(null), json!("lifetime")),
            (json!("1d"), json!("day")),
            (json!("24h"), json!("day")),
            (json!("7d"), json!("week")),
            (json!("1mo"), json!("month")),
            (json!("12h"), json!({"rolling": "12h"})),
            (json!("90d"), json!({"rolling": "90d"})),
        ] {
            let (terms, _) = edited(json!({"max_budget": 10, "budget_duration": duration})).unwrap();
            assert_eq!(terms.words["budget"], json!({"usd": "10", "per": per}), "{duration}");
        }
        // one of the two may be changed alone, and both be taken away
        let (mut terms, _) = edited(json!({"max_budget": 10, "budget_duration": "7d"})).unwrap();
        edit(&mut terms, map(json!({"max_budget": 20}))).unwrap();
        assert_eq!(terms.words["budget"], json!({"usd": "20", "per": "week"}));
        edit(&mut terms, map(json!({"budget_duration": "1d"}))).unwrap();
        assert_eq!(terms.words["budget"], json!({"usd": "20", "per": "day"}));
        edit(&mut terms, map(json!({"metadata": {"b": 2}}))).unwrap();
        assert_eq!(terms.words["budget"], json!({"usd": "20", "per": "day"}));
        edit(&mut terms, map(json!({"max_budget": null}))).unwrap();
        assert_eq!(terms.words.get("budget"), None);
        // one that was written in our words stays
        let mut own = Terms::default();
        own.words.insert("budget".to_owned(), json!([{"usd": "5", "per": "day"}, {"usd": "50", "per": "month"}]));
        edit(&mut own, map(json!({"rpm_limit": 5}))).unwrap();
        assert_eq!(own.words["budget"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_limit_that_is_taken_away_leaves_the_others() {
        let (mut terms, _) = edited(json!({"rpm_limit": 5, "tpm_limit": 7, "team_id": "a"})).unwrap();
        edit(&mut terms, map(json!({"rpm_limit": null, "team_id": ""}))).unwrap();
        assert_eq!(Value::Object(terms.words.clone()), json!({"limits": {"tpm": 7}}));
        edit(&mut terms, map(json!({"tpm_limit": null, "models": []}))).unwrap();
        assert!(terms.words.is_empty());
    }
}
