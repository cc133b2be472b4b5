//! A value that fits a JSON Schema: what a simulated model puts into tool arguments and structured answers.
//!
//! Covers the subset that structured outputs allow (platform.openai.com/docs/guides/structured-outputs, "Supported schemas")
//! and the common rest of JSON Schema 2020-12. `pattern`, `not` and conditional keywords are not followed.

use std::cell::Cell;

use serde_json::{Map, Number, Value, json};

/// Deeper than this, what may be left out is left out.
const SHALLOW: usize = 5;
/// Deeper than this, a schema that never ends gets `null`.
const DEEPEST: usize = 24;
/// No array is longer than this, whatever `minItems` says.
const MOST_ITEMS: u64 = 16;
/// No answer has more values than this.
const MOST_VALUES: u32 = 10_000;

/// The smallest friendly value that fits `schema`. The same schema always gives the same value.
pub(super) fn example(schema: &Value) -> Value {
    Maker { root: schema, left: Cell::new(MOST_VALUES) }.value(schema, "answer", 0)
}

struct Maker<'a> {
    /// Where `$ref` points into.
    root: &'a Value,
    /// How many values may still be made.
    left: Cell<u32>,
}

impl Maker<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> Value {
        let Some(left) = self.left.get().checked_sub(1).filter(|_| depth <= DEEPEST) else { return Value::Null };
        self.left.set(left);
        let Some(object) = schema.as_object() else { return Value::String(format!("simulated {name}")) };
        if let Some(fixed) = object.get("const") {
            return fixed.clone();
        }
        if let Some(first) = object.get("enum").and_then(Value::as_array).and_then(|choices| choices.first()) {
            return first.clone();
        }
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return target.map_or(Value::Null, |target| self.value(target, name, depth + 1));
        }
        if let Some(all) = object.get("allOf").and_then(Value::as_array) {
            return self.value(&self.merged(object, all), name, depth + 1);
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(choices) = object.get(word).and_then(Value::as_array) {
                return self.choice(choices, name, depth);
            }
        }
        // Gemini writes its types in capitals
        match self.kind(object, depth).to_ascii_lowercase().as_str() {
            "object" => self.object(object, depth),
            "array" => self.array(object, name, depth),
            "string" => Value::String(string(object, name)),
            "integer" => integer(object),
            "number" => number(object),
            "boolean" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    /// The type to make: the first that is not null, or null deep down, or a guess from the other keywords.
    fn kind<'o>(&self, object: &'o Map<String, Value>, depth: usize) -> &'o str {
        match object.get("type") {
            Some(Value::String(kind)) => kind,
            Some(Value::Array(kinds)) => {
                let mut kinds = kinds.iter().filter_map(Value::as_str);
                if depth > SHALLOW && kinds.clone().any(|kind| kind == "null") {
                    return "null";
                }
                kinds.find(|kind| *kind != "null").unwrap_or("null")
            }
            Some(_) | None if object.contains_key("properties") => "object",
            Some(_) | None if object.contains_key("items") => "array",
            Some(_) | None => "string",
        }
    }

    fn choice(&self, choices: &[Value], name: &str, depth: usize) -> Value {
        let is_null = |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
        let null = choices.iter().find(is_null);
        let other = choices.iter().find(|choice| !is_null(choice));
        match (null, other) {
            (Some(_), _) if depth > SHALLOW => Value::Null,
            (_, Some(schema)) => self.value(schema, name, depth + 1),
            (_, None) => Value::Null,
        }
    }

    /// `allOf` laid over the schema it stands in: properties and requirements add up, other keywords replace.
    fn merged(&self, object: &Map<String, Value>, all: &[Value]) -> Value {
        let mut sum = object.clone();
        sum.remove("allOf");
        for part in all {
            let part = match part.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
                Some(pointer) => self.root.pointer(pointer).unwrap_or(part),
                None => part,
            };
            for (key, value) in part.as_object().into_iter().flatten() {
                match (sum.get_mut(key), value) {
                    (Some(Value::Object(old)), Value::Object(new)) if key == "properties" => old.extend(new.clone()),
                    (Some(Value::Array(old)), Value::Array(new)) if key == "required" => old.extend(new.clone()),
                    _ => drop(sum.insert(key.clone(), value.clone())),
                }
            }
        }
        Value::Object(sum)
    }

    /// The required members; where nothing is required, all of them.
    fn object(&self, object: &Map<String, Value>, depth: usize) -> Value {
        let properties = object.get("properties").and_then(Value::as_object);
        let required: Vec<&str> =
            object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut made = Map::new();
        for name in &required {
            let schema = properties.and_then(|properties| properties.get(*name)).unwrap_or(&Value::Null);
            made.insert((*name).to_owned(), self.value(schema, name, depth + 1));
        }
        if required.is_empty() && depth <= SHALLOW {
            for (name, schema) in properties.into_iter().flatten() {
                made.insert(name.clone(), self.value(schema, name, depth + 1));
            }
        }
        Value::Object(made)
    }

    fn array(&self, object: &Map<String, Value>, name: &str, depth: usize) -> Value {
        let fixed = object.get("prefixItems").and_then(Value::as_array);
        let mut made: Vec<Value> =
            fixed.into_iter().flatten().map(|schema| self.value(schema, name, depth + 1)).collect();
        let bound = |word: &str| object.get(word).and_then(Value::as_u64);
        let least = bound("minItems").unwrap_or(if depth > SHALLOW { 0 } else { 1 });
        let wanted = least.min(bound("maxItems").unwrap_or(MOST_ITEMS)).min(MOST_ITEMS);
        if let Some(items) = object.get("items").filter(|items| items.is_object()) {
            while (made.len() as u64) < wanted {
                made.push(self.value(items, name, depth + 1));
            }
        }
        Value::Array(made)
    }
}

fn string(object: &Map<String, Value>, name: &str) -> String {
    let text = match object.get("format").and_then(Value::as_str) {
        Some("date") => "2025-01-31".to_owned(),
        Some("date-time") => "2025-01-31T12:00:00Z".to_owned(),
        Some("time") => "12:00:00Z".to_owned(),
        Some("duration") => "PT1H".to_owned(),
        Some("email" | "idn-email") => "someone@example.com".to_owned(),
        Some("hostname") => "example.com".to_owned(),
        Some("uri" | "url" | "iri") => "https://example.com/".to_owned(),
        Some("uuid") => "00000000-0000-4000-8000-000000000000".to_owned(),
        Some("ipv4") => "192.0.2.1".to_owned(),
        Some("ipv6") => "2001:db8::1".to_owned(),
        Some(_) | None => format!("simulated {name}"),
    };
    let bound = |word: &str| object.get(word).and_then(Value::as_u64).map(|bound| bound.min(4096) as usize);
    let padded = match bound("minLength") {
        Some(least) => format!("{text:.<least$}"),
        None => text,
    };
    padded.chars().take(bound("maxLength").unwrap_or(usize::MAX)).collect()
}

fn integer(object: &Map<String, Value>) -> Value {
    let bound = |word: &str| object.get(word).and_then(Value::as_f64);
    let least = bound("minimum").map(f64::ceil).or(bound("exclusiveMinimum").map(|bound| bound.floor() + 1.0));
    let most = bound("maximum").map(f64::floor).or(bound("exclusiveMaximum").map(|bound| bound.ceil() - 1.0));
    json!(between(least, most, bound("multipleOf").unwrap_or(1.0).max(1.0)) as i64)
}

fn number(object: &Map<String, Value>) -> Value {
    let bound = |word: &str| object.get(word).and_then(Value::as_f64);
    let least = bound("minimum").or(bound("exclusiveMinimum").map(|bound| bound + 0.5));
    let most = bound("maximum").or(bound("exclusiveMaximum").map(|bound| bound - 0.5));
    Number::from_f64(between(least, most, bound("multipleOf").unwrap_or(1.0))).map_or(json!(1.0), Value::Number)
}

/// One step, moved into the bounds and onto a multiple of the step.
fn between(least: Option<f64>, most: Option<f64>, step: f64) -> f64 {
    let step = if step > 0.0 { step } else { 1.0 };
    match (least, most) {
        (Some(least), _) if step < least => (least / step).ceil() * step,
        (_, Some(most)) if step > most => least.unwrap_or((most / step).floor() * step),
        (Some(_) | None, Some(_) | None) => step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_members_enums_and_nested_arrays_are_filled_in() {
        let schema = json!({
            "type": "object",
            "properties": {
                "city": { "type": "string" },
                "unit": { "type": "string", "enum": ["c", "f"] },
                "days": { "type": "array", "minItems": 2, "items": { "$ref": "#/$defs/day" } },
                "left_out": { "type": "string" }
            },
            "required": ["city", "unit", "days"],
            "$defs": { "day": {
                "type": "object",
                "properties": { "on": { "type": "string", "format": "date" }, "rain": { "type": ["null", "boolean"] } },
                "required": ["on", "rain"]
            } }
        });
        let day = json!({ "on": "2025-01-31", "rain": true });
        assert_eq!(example(&schema), json!({ "city": "simulated city", "unit": "c", "days": [day, day] }));
    }

    #[test]
    fn numbers_respect_their_bounds() {
        let make = |schema: Value| example(&schema);
        assert_eq!(make(json!({ "type": "integer", "minimum": 7 })), json!(7));
        assert_eq!(make(json!({ "type": "integer", "exclusiveMinimum": 7, "multipleOf": 5 })), json!(10));
        assert_eq!(make(json!({ "type": "integer", "maximum": -3 })), json!(-3));
        assert_eq!(make(json!({ "type": "number", "minimum": 0, "maximum": 0.5 })), json!(0.0));
    }

    #[test]
    fn a_schema_that_refers_to_itself_comes_to_an_end() {
        let list = json!({
            "$ref": "#/$defs/node",
            "$defs": { "node": {
                "type": "object",
                "properties": { "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] } },
                "required": ["next"]
            } }
        });
        assert!(example(&list).to_string().ends_with("null}}}") || example(&list).to_string().contains("null"));
        let endless = json!({ "$ref": "#" });
        assert_eq!(example(&endless), Value::Null);
    }

    #[test]
    fn text_keeps_to_its_lengths() {
        assert_eq!(example(&json!({ "type": "string", "maxLength": 4 })), json!("simu"));
        assert_eq!(example(&json!({ "type": "string", "minLength": 20 })), json!("simulated answer...."));
    }
}
