//! What is looked for in a body, to say that something arrived in it.

use serde::Deserialize;
use serde_json::Value;

/// One thing to be found. Of several, all have to be.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Mark {
    /// In a text or a member's name, wherever they stand. A text that is JSON itself is read on.
    Text(String),
    Member(Member),
    Raw(Raw),
    Order(Order),
    Json(Json),
}

/// A chain of members (`reasoning.effort`) that stands somewhere; arrays in between are passed through.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    member: String,
    /// Its value; any but `null` where nothing is said.
    is: Option<Value>,
}

/// In the bytes as they are, white space and spelling included.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    raw: String,
}

/// In the bytes, one behind the other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    order: Vec<String>,
}

/// A text that is this JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Json {
    json: Value,
}

/// Where marks are looked for: a body, or all events of a stream.
pub struct Hay {
    bytes: String,
    json: Value,
    texts: Vec<String>,
}

// === impl Hay ===

impl Hay {
    pub fn of_body(body: &[u8]) -> Hay {
        let json = serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body)));
        Hay::new(body, json)
    }

    /// The `data` of server-sent events.
    pub fn of_events(stream: &[u8]) -> Hay {
        let text = String::from_utf8_lossy(stream);
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
        let events = data.filter(|data| *data != "[DONE]");
        let read = |data| serde_json::from_str::<Value>(data).unwrap_or_else(|e| panic!("{e}: {data}"));
        Hay::new(stream, events.map(read).collect())
    }

    fn new(bytes: &[u8], json: Value) -> Hay {
        let mut texts = Vec::new();
        collect(&json, &mut texts);
        Hay { bytes: String::from_utf8_lossy(bytes).into_owned(), json, texts }
    }

    pub fn has(&self, mark: &Mark) -> bool {
        match mark {
            Mark::Text(text) => self.texts.iter().any(|t| t.contains(text)),
            Mark::Raw(Raw { raw }) => self.bytes.contains(raw),
            Mark::Member(Member { member, is }) => {
                let chain: Vec<&str> = member.split('.').collect();
                anywhere(&self.json, &chain, is.as_ref())
            }
            Mark::Json(Json { json }) => {
                self.texts.iter().any(|text| serde_json::from_str(text).is_ok_and(|found: Value| found == *json))
            }
            Mark::Order(Order { order }) => {
                let mut rest = self.bytes.as_str();
                order.iter().all(|one| match rest.split_once(one.as_str()) {
                    Some((_, behind)) => {
                        rest = behind;
                        true
                    }
                    None => false,
                })
            }
        }
    }
}

fn collect(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            out.push(text.clone());
            if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
                collect(&inner, out);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, out)),
        Value::Object(members) => {
            for (name, member) in members {
                out.push(name.clone());
                collect(member, out);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn anywhere(value: &Value, chain: &[&str], is: Option<&Value>) -> bool {
    if from_here(value, chain, is) {
        return true;
    }
    match value {
        Value::Array(items) => items.iter().any(|item| anywhere(item, chain, is)),
        Value::Object(members) => members.values().any(|member| anywhere(member, chain, is)),
        _ => false,
    }
}

fn from_here(value: &Value, chain: &[&str], is: Option<&Value>) -> bool {
    let Some((first, rest)) = chain.split_first() else {
        return is.map_or(!value.is_null(), |is| is == value);
    };
    match value {
        Value::Object(members) => members.get(*first).is_some_and(|member| from_here(member, rest, is)),
        Value::Array(items) => items.iter().any(|item| from_here(item, chain, is)),
        _ => false,
    }
}

#[test]
fn marks_are_found_where_they_are_and_nowhere_else() {
    let hay = Hay::of_body(br#"{"a": [{"b": {"c": 0.50}}], "d": "{\"inner\": \"text\"}", "e": null}"#);
    let found = |json: &str| hay.has(&serde_json::from_str(json).expect("a mark"));
    assert!(found(r#""inner""#) && found(r#""tex""#) && !found(r#""texts""#));
    assert!(found(r#"{"member": "b.c", "is": 0.5}"#) && !found(r#"{"member": "b.c", "is": 0.6}"#));
    assert!(found(r#"{"member": "a.b"}"#) && !found(r#"{"member": "e"}"#));
    assert!(found(r#"{"raw": "0.50"}"#) && !found(r#"{"raw": "0.500"}"#));
    assert!(found(r#"{"order": ["b", "inner"]}"#) && !found(r#"{"order": ["inner", "b"]}"#));
}
