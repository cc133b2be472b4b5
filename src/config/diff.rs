//! What changed between two snapshots, as a list a person can read. A changed secret is told without its values.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::snapshot::Snapshot;
use super::view::{REDACTED, SEALED, comparable};

/// One changed value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Like `providers.openai.timeouts.idle`; a name with unusual characters stands as `listen["127.0.0.1:4000"]`.
    pub path: String,
    pub change: Kind,
    /// The old value; absent when added, and for secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Json>,
    /// The new value; absent when removed, and for secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Json>,
    pub takes_effect: TakesEffect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Added,
    Removed,
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TakesEffect {
    Now,
    /// Sockets, threads, logs and the store are set up once.
    Restart,
}

/// In the order of the paths; empty when both mean the same.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&mut Vec::new(), &comparable(old), &comparable(new), &mut changes);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

fn compare<'a>(path: &mut Vec<&'a str>, old: &'a Json, new: &'a Json, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match (members(old), members(new)) {
        (Some(before), Some(after)) => {
            for (key, value) in before {
                path.push(key);
                match after.get(key) {
                    Some(other) => compare(path, value, other, changes),
                    None => changes.push(change(path, Kind::Removed, Some(value), None)),
                }
                path.pop();
            }
            for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
                path.push(key);
                changes.push(change(path, Kind::Added, None, Some(value)));
                path.pop();
            }
        }
        (None, _) if old.is_null() => changes.push(change(path, Kind::Added, None, Some(new))),
        (_, None) if new.is_null() => changes.push(change(path, Kind::Removed, Some(old), None)),
        (None | Some(_), None | Some(_)) => changes.push(change(path, Kind::Changed, Some(old), Some(new))),
    }
}

/// The members of a map; a sealed secret is not one.
fn members(value: &Json) -> Option<&Map<String, Json>> {
    value.as_object().filter(|map| !map.contains_key(SEALED))
}

fn change(path: &[&str], change: Kind, from: Option<&Json>, to: Option<&Json>) -> Change {
    let shown = |value: Option<&Json>| value.filter(|v| !is_sealed(v)).map(redacted);
    Change { path: join(path), change, from: shown(from), to: shown(to), takes_effect: takes_effect(path) }
}

fn is_sealed(value: &Json) -> bool {
    value.get(SEALED).is_some()
}

/// The value with every secret inside it taken out.
fn redacted(value: &Json) -> Json {
    match value {
        sealed if is_sealed(sealed) => Json::from(REDACTED),
        Json::Object(map) => map.iter().map(|(key, value)| (key.clone(), redacted(value))).collect(),
        Json::Array(items) => items.iter().map(redacted).collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.clone(),
    }
}

fn join(path: &[&str]) -> String {
    let mut out = String::new();
    for key in path {
        if !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(key);
        } else {
            out.push_str(&format!("[{key:?}]"));
        }
    }
    out
}

fn takes_effect(path: &[&str]) -> TakesEffect {
    match path {
        // A renewed or moved certificate is picked up while running; whether there is TLS at all is not.
        ["listen", _, "tls", "cert" | "key"] => TakesEffect::Now,
        ["listen" | "log" | "store" | "events", ..]
        | ["admin", "listen"]
        | ["server", "threads" | "upgrade_socket"] => TakesEffect::Restart,
        [..] => TakesEffect::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_str, view};

    fn snapshot(text: &str) -> Snapshot {
        load_str("c.yaml", text, &Environment::of([("K", "canary-env-0123456789")])).unwrap().into_snapshot(1)
    }

    const OLD: &str = "
listen: [127.0.0.1:4000, 127.0.0.1:4002]
admin: {token: canary-token-one-0123}
providers:
  openai: {api_key: canary-one, headers: {X-A: canary-x}, proxy: \"http://u:canary@h:1\"}
  gone: {kind: openai, base_url: https://gone.example, api_key: canary-gone}
models: {a: openai/one}
keys: [{name: k, key: canary-key-0123456789}]
auth: {pepper: canary-pepper-one-012345}
";
    const NEW: &str = "
listen: [127.0.0.1:4000, 127.0.0.1:4003]
admin: {listen: 127.0.0.1:4009, token: canary-token-two-0123}
server: {threads: 77, heartbeat: 1m}
providers:
  openai: {api_key: canary-two, headers: {X-A: canary-y}, timeouts: {idle: 7s}}
  new.one: {kind: openai, base_url: https://new.example, api_key: \"${K}\"}
  aws: {kind: bedrock, region: us-east-1, access_key_id: canary-id, secret_access_key: canary-aws, session_token: canary-session}
  entra: {kind: azure, base_url: \"https://res.openai.azure.com\", auth: {entra: {tenant: t, client_id: c, client_secret: canary-entra}}}
models: {a: openai/two, b: new.one/x}
keys: [{name: k, key: canary-other-0123456789, revoked: true}]
auth: {pepper: canary-pepper-two-012345}
";

    #[test]
    fn changes_are_told_by_meaning_and_without_secrets() {
        let mut changes = diff(&snapshot(OLD), &snapshot(NEW));
        // The default is the number of cores of this machine.
        changes.iter_mut().filter(|c| c.path == "server.threads").for_each(|c| c.from = None);
        let lines: Vec<String> = changes.iter().map(|c| serde_json::to_string(c).unwrap()).collect();
        let text = lines.join("\n");
        assert!(!text.contains("canary") && !text.contains("secret\""), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn the_same_configuration_in_other_words_is_no_change() {
        let other =
            OLD.replace("models: {a: openai/one}", "models: {a: {target: openai/one, timeouts: {connect: 5000ms}}}");
        assert_eq!(diff(&snapshot(OLD), &snapshot(&other)), []);
    }

    #[test]
    fn the_view_shows_what_is_in_force_and_no_secret() {
        let shown = serde_json::to_string_pretty(&view(&snapshot(NEW))).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(
            shown.contains(r#""base_url": "https://new.example""#) && shown.contains(r#""api_key": "[secret]""#),
            "{shown}"
        );
    }
}
