//! Whether the tree has the shape of the schema: unknown keys, wrong types, missing members, all at once and with their places.
//!
//! The schema is the one that `raw`'s types give, so there is no second list of keys. What does not fit is told and taken out
//! of the tree, so that the rest can still be checked. Also puts values from the environment in, before anything is judged.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::env::{Environment, Expanded, expand};
use super::error::{Faults, Place, join, nearest, quote};
use super::tree::{Node, Origin, Text, Value};
use super::{raw, units};

/// Keys of the documented configuration that this version does not have, by the struct they belong to.
const LATER: [(&str, &[&str]); 2] = [("Config", &["mcp", "metering", "filters"]), ("Key", &["tools"])];

static SCHEMA: LazyLock<Json> = LazyLock::new(|| raw::schema().to_value());
static KEY_TERMS: LazyLock<Json> = LazyLock::new(|| raw::key_terms_schema().to_value());
static KEY_WORDS: LazyLock<Json> = LazyLock::new(|| raw::key_words_schema().to_value());

/// Replaces `${..}` everywhere. A variable named in a provider's `required_env` may be missing: its value then counts as not
/// written.
pub(super) fn substitute(root: &mut Node, environment: &Environment, faults: &mut Faults) {
    let Value::Map(entries) = &mut root.value else { return put_in(root, "", &[], environment, faults) };
    for (key, node) in entries {
        match (key.text.as_str(), &mut node.value) {
            ("providers", Value::Map(providers)) => {
                for (name, provider) in providers {
                    let optional = required_env(provider);
                    put_in(provider, &join("providers", &name.text), &optional, environment, faults);
                }
            }
            (name, Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_)) => {
                let path = name.to_owned();
                put_in(node, &path, &[], environment, faults);
            }
        }
    }
}

/// Takes out of the tree what does not fit, and tells it. `false`: there is nothing left to read.
pub(super) fn fit(root: &mut Node, faults: &mut Faults) -> bool {
    fit_to(root, &SCHEMA, "Config", faults)
}

/// The same for a file of another kind, whose schema has `owner` at its root.
pub(super) fn fit_to(root: &mut Node, schema: &Json, owner: &str, faults: &mut Faults) -> bool {
    let what = if owner == "Config" { "the configuration" } else { "the file" };
    let mut walk = Walk { schema, what, faults };
    walk.node(root, schema, "", owner) == Fit::Keep
}

/// The same for what a key may use.
pub(super) fn fit_key_terms(root: &mut Node, faults: &mut Faults) -> bool {
    let mut walk = Walk { schema: &KEY_TERMS, what: "the key", faults };
    walk.node(root, &KEY_TERMS, "key", "Key") == Fit::Keep
}

/// The same for all that a key may do.
pub(super) fn fit_key_words(root: &mut Node, faults: &mut Faults) -> bool {
    let mut walk = Walk { schema: &KEY_WORDS, what: "the key", faults };
    walk.node(root, &KEY_WORDS, "key", "Key") == Fit::Keep
}

fn required_env(provider: &Node) -> Vec<String> {
    let Value::Map(entries) = &provider.value else { return Vec::new() };
    let list = entries.iter().find(|(key, _)| key.text == "required_env").map(|(_, node)| &node.value);
    let Some(Value::List(items)) = list else { return Vec::new() };
    items.iter().filter_map(|item| if let Value::Text(t) = &item.value { Some(t.text.clone()) } else { None }).collect()
}

fn put_in(node: &mut Node, path: &str, optional: &[String], environment: &Environment, faults: &mut Faults) {
    match &mut node.value {
        Value::Null => {}
        Value::List(items) => {
            let mut index = 0;
            items.retain_mut(|item| {
                let written = !matches!(item.value, Value::Null);
                put_in(item, &format!("{path}[{index}]"), optional, environment, faults);
                index += 1;
                // one of a provider that may miss variables is not written then; elsewhere an empty list could mean "any"
                optional.is_empty() || !(written && matches!(item.value, Value::Null))
            });
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                put_in(value, &join(path, &key.text), optional, environment, faults);
            }
        }
        Value::Text(text) => match expand(&text.text, environment) {
            Expanded::Same => {}
            // As with an empty YAML scalar: nothing is written there.
            Expanded::New(value) if value.is_empty() => node.value = Value::Null,
            Expanded::New(value) => *text = Text { text: value, origin: Origin::Environment },
            Expanded::Unset(names) => {
                if !names.iter().all(|name| optional.contains(name)) {
                    let missing: Vec<&str> =
                        names.iter().filter(|name| !optional.contains(name)).map(String::as_str).collect();
                    faults.wrong(node.place, path, unset_message(&missing, path));
                }
                node.value = Value::Null;
            }
            Expanded::Wrong(message) => {
                faults.wrong(node.place, path, message);
                node.value = Value::Null;
            }
        },
    }
}

fn unset_message(names: &[&str], path: &str) -> String {
    let first = names.first().copied().unwrap_or("NAME");
    let what = match names {
        [_, _, ..] => format!("environment variables {} are not set: set them", names.join(", ")),
        [_] | [] => format!("environment variable {first} is not set: set it"),
    };
    let or = if path.starts_with("providers.") {
        format!(", or add \"required_env: [{first}]\" to start without this provider")
    } else {
        String::new()
    };
    format!("{what}, write \"${{{first}:-default}}\"{or}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Keep,
    Drop,
}

struct Walk<'a> {
    /// With the definitions that its parts refer to.
    schema: &'a Json,
    /// What is looked at, as a whole.
    what: &'a str,
    faults: &'a mut Faults,
}

/// One thing a schema allows, with the name of its struct.
#[derive(Clone, Copy)]
struct Allowed<'s> {
    schema: &'s Json,
    owner: &'s str,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, schema: &Json, path: &str, owner: &str) -> Fit {
        let mut allowed = Vec::new();
        alternatives(self.schema, schema, owner, &mut allowed);
        let of_type = |name: &str| allowed.iter().copied().find(|a| has_type(a.schema, name));
        match &mut node.value {
            Value::Null => {
                // Nothing written: an empty map where one is expected.
                match of_type("object") {
                    Some(object) => {
                        let mut entries = Vec::new();
                        self.map(&mut entries, object, path, node.place);
                        node.value = Value::Map(entries);
                        Fit::Keep
                    }
                    None => self.refuse(node.place, path, &allowed, "nothing"),
                }
            }
            Value::Map(entries) => match of_type("object") {
                Some(object) => {
                    self.map(entries, object, path, node.place);
                    Fit::Keep
                }
                None => self.refuse(node.place, path, &allowed, "a map"),
            },
            Value::List(items) => match of_type("array") {
                Some(array) => {
                    self.list(items, array, path);
                    Fit::Keep
                }
                None => self.refuse(node.place, path, &allowed, "a list"),
            },
            Value::Text(text) => match check_text(text, &allowed) {
                Ok(()) => Fit::Keep,
                // Not quoted: it may well be a key at the wrong place (`openai: sk-...`).
                Err(None) => self.refuse(node.place, path, &allowed, "a text"),
                Err(Some(message)) => {
                    self.faults.wrong(node.place, path, format!("{path}: {} {message}", shown(text)));
                    Fit::Drop
                }
            },
        }
    }

    fn map(&mut self, entries: &mut Vec<(super::tree::Key, Node)>, object: Allowed<'_>, path: &str, place: Place) {
        let properties = object.schema.get("properties").and_then(Json::as_object);
        let rest = object.schema.get("additionalProperties").filter(|rest| rest.is_object());
        entries.retain_mut(|(key, value)| {
            let below = join(path, &key.text);
            let known = properties.and_then(|p| p.get(&key.text));
            match (known, rest) {
                // An option without a value is not written.
                (Some(_), _) if matches!(value.value, Value::Null) => false,
                (Some(schema), _) | (None, Some(schema)) => self.node(value, schema, &below, "") == Fit::Keep,
                (None, None) => {
                    let names = properties.into_iter().flat_map(|p| p.keys().map(String::as_str));
                    self.faults.wrong(key.place, path, unknown_key(&key.text, path, object.owner, names));
                    false
                }
            }
        });
        for name in object.schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            let Some(name) = name.as_str() else { continue };
            if !entries.iter().any(|(key, _)| key.text == name) {
                // Not told when the member is there but could not be read.
                let message = format!("{path} has no \"{name}\": write it");
                self.faults.missing(place, path, message);
            }
        }
    }

    fn list(&mut self, items: &mut Vec<Node>, array: Allowed<'_>, path: &str) {
        let Some(schema) = array.schema.get("items") else { return };
        let mut index = 0;
        items.retain_mut(|item| {
            let fit = self.node(item, schema, &format!("{path}[{index}]"), "");
            index += 1;
            fit == Fit::Keep
        });
    }

    fn refuse(&mut self, place: Place, path: &str, allowed: &[Allowed<'_>], found: &str) -> Fit {
        let mut expected: Vec<String> = allowed.iter().filter_map(|a| describe(a.schema)).collect();
        expected.dedup();
        let subject = if path.is_empty() { self.what.to_owned() } else { path.to_owned() };
        self.faults.wrong(place, path, format!("{subject}: expected {}, found {found}", expected.join(" or ")));
        Fit::Drop
    }
}

fn under(path: &str) -> String {
    if path.is_empty() { "the top level".to_owned() } else { quote(path) }
}

fn unknown_key<'a>(key: &str, path: &str, owner: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    if LATER.iter().any(|(name, keys)| *name == owner && keys.contains(&key)) {
        return format!("{} under {} is not available in this version: remove it", quote(key), under(path));
    }
    let advice = match nearest(key, names.clone()) {
        Some(name) => format!("did you mean \"{name}\"?"),
        None => format!("write one of {}", names.collect::<Vec<_>>().join(", ")),
    };
    format!("unknown key {} under {}: {advice}", quote(key), under(path))
}

fn shown(text: &Text) -> String {
    match text.origin {
        Origin::File => quote(&text.text),
        Origin::Environment => "the value from the environment".to_owned(),
    }
}

/// The things a schema allows, without the references and choices around them.
fn alternatives<'s>(root: &'s Json, schema: &'s Json, owner: &'s str, out: &mut Vec<Allowed<'s>>) {
    if let Some(name) = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
        if let Some(target) = root.get("$defs").and_then(|defs| defs.get(name)) {
            alternatives(root, target, name, out);
        }
    } else if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
        choices.iter().for_each(|choice| alternatives(root, choice, owner, out));
    } else if !is_null(schema) {
        out.push(Allowed { schema, owner });
    }
}

fn is_null(schema: &Json) -> bool {
    schema.get("type").and_then(Json::as_str) == Some("null")
}

fn has_type(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == name,
        Some(Json::Array(many)) => many.iter().any(|one| one.as_str() == Some(name)),
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) | None => false,
    }
}

/// The words of an enum: `{"enum": [..]}`, or a choice of constants when they have descriptions.
fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(list) = schema.get("enum").and_then(Json::as_array) {
        return Some(list.iter().filter_map(Json::as_str).collect());
    }
    let list = schema.get("oneOf").and_then(Json::as_array)?;
    let word = |s: &'_ Json| -> Option<Vec<String>> {
        match s.get("const").and_then(Json::as_str) {
            Some(word) => Some(vec![word.to_owned()]),
            None => words(s).map(|w| w.into_iter().map(str::to_owned).collect()),
        }
    };
    debug_assert!(list.iter().all(|s| word(s).is_some()), "a oneOf of something else than words");
    Some(
        list.iter()
            .flat_map(|s| match s.get("const").and_then(Json::as_str) {
                Some(word) => vec![word],
                None => words(s).unwrap_or_default(),
            })
            .collect(),
    )
}

/// `Err(None)`: no text is allowed here. `Err(Some(..))`: this one is not, and why.
fn check_text(text: &Text, allowed: &[Allowed<'_>]) -> Result<(), Option<String>> {
    let mut why = None;
    for Allowed { schema, .. } in allowed {
        let verdict = match (words(schema), schema.get("format").and_then(Json::as_str)) {
            (Some(words), _) if words.contains(&text.text.as_str()) => Ok(()),
            (Some(words), _) => Err(match nearest(&text.text, words.iter().copied()) {
                Some(near) => format!("is not known: did you mean \"{near}\"?"),
                None if allowed.iter().any(|a| has_type(a.schema, "object")) => {
                    format!("is not known: write one of {}, or a map", words.join(", "))
                }
                None => format!("is not known: write one of {}", words.join(", ")),
            }),
            (None, Some("duration")) => units::duration(&text.text).map(drop),
            (None, Some("size")) => units::size(&text.text).map(drop),
            (None, Some("percentage")) => units::percent(&text.text).map(drop),
            (None, Some("price")) => units::price(&text.text).map(drop),
            (None, Some("dollars")) => units::dollars(&text.text).map(drop),
            (None, Some("span")) => units::span(&text.text).map(drop),
            (None, Some("allowance")) if text.text.trim_end().ends_with('%') => units::percent(&text.text).map(drop),
            (None, Some("allowance")) => units::dollars(&text.text).map(drop),
            (None, _) if has_type(schema, "string") => Ok(()),
            (None, _) if has_type(schema, "boolean") => match text.text.as_str() {
                "true" | "false" => Ok(()),
                _ => Err("is not a truth value: write true or false".to_owned()),
            },
            (None, _) if has_type(schema, "integer") => whole_number(&text.text, schema),
            (None, _) => continue,
        };
        match verdict {
            Ok(()) => return Ok(()),
            Err(message) => why = Some(message),
        }
    }
    Err(why)
}

fn whole_number(text: &str, schema: &Json) -> Result<(), String> {
    let bound = |name| schema.get(name).and_then(Json::as_u64);
    let (least, most) = (bound("minimum").unwrap_or(0), bound("maximum").unwrap_or(u32::MAX.into()));
    match text.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(()),
        _ => Err(format!("is not a whole number from {least} to {most}")),
    }
}

fn describe(schema: &Json) -> Option<String> {
    if let Some(words) = words(schema) {
        return Some(words.join(", "));
    }
    let format = schema.get("format").and_then(Json::as_str);
    let text = match format {
        Some("duration") => "a duration such as \"30s\"",
        Some("size") => "a size such as \"10MB\"",
        Some("percentage") => "a share such as \"50%\"",
        Some("price") => "a price such as \"2.50\"",
        Some("dollars") => "a sum such as \"50\"",
        Some("span") => "a time such as \"30d\"",
        Some("allowance") => "a share such as \"1%\" or a sum such as \"0.50\"",
        _ if has_type(schema, "object") => "a map",
        _ if has_type(schema, "array") => "a list",
        _ if has_type(schema, "string") => "a text",
        _ if has_type(schema, "boolean") => "true or false",
        _ if has_type(schema, "integer") => "a whole number",
        _ => return None,
    };
    Some(text.to_owned())
}
