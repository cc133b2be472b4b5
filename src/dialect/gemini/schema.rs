//! From Google's `Schema` (a protobuf of OpenAPI 3.0's schema object) to JSON Schema.
//!
//! Types lose their capitals, `nullable` becomes a type of its own, counts written as strings become numbers; names, order and all else
//! stay. The way back is not needed: `parametersJsonSchema` and `responseJsonSchema` take JSON Schema as it is.
//! Truth: ai.google.dev "Schema", aiplatform v1 `GoogleCloudAiplatformV1Schema`.

use std::borrow::Cow;

use crate::chat::Json;
use crate::json::{Members, Node, Value, Writer};

/// JSON Schema that says what `schema` says; the text itself where that is JSON Schema already.
pub fn to_json_schema<'a>(schema: &Node<'a>) -> Json<'a> {
    if !is_google(schema) {
        return Cow::Borrowed(schema.raw);
    }
    let mut out = Vec::with_capacity(schema.raw.len() + 32);
    write(schema, &mut Writer::new(&mut out));
    // what the writer wrote is made of strings
    String::from_utf8(out).map_or(Cow::Borrowed(schema.raw), Cow::Owned)
}

/// Where in a schema other schemas stand.
enum Place {
    One,
    List,
    ByName,
    Reference,
    Count,
    Type,
    Plain,
}

/// The JSON Schema name of a member, and what its value is.
fn member(name: &str) -> (&str, Place) {
    match name {
        "type" => ("type", Place::Type),
        "items" | "not" => (name, Place::One),
        "additionalProperties" | "additional_properties" => ("additionalProperties", Place::One),
        "anyOf" | "any_of" => ("anyOf", Place::List),
        "allOf" | "oneOf" | "prefixItems" => (name, Place::List),
        "prefix_items" => ("prefixItems", Place::List),
        "properties" | "$defs" => (name, Place::ByName),
        "defs" => ("$defs", Place::ByName),
        "ref" => ("$ref", Place::Reference),
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => (name, Place::Count),
        "min_items" => ("minItems", Place::Count),
        "max_items" => ("maxItems", Place::Count),
        "min_length" => ("minLength", Place::Count),
        "max_length" => ("maxLength", Place::Count),
        "min_properties" => ("minProperties", Place::Count),
        "max_properties" => ("maxProperties", Place::Count),
        "property_ordering" => ("propertyOrdering", Place::Plain),
        _ => (name, Place::Plain),
    }
}

/// Whether anything in it is said otherwise in JSON Schema. Recursion here and below is bounded by the depth of what was parsed.
fn is_google(schema: &Node<'_>) -> bool {
    let Some(members) = schema.as_object() else { return false };
    members.iter().any(|(name, node)| {
        let (new, place) = member(name);
        new != name
            || name == "nullable"
            || match place {
                Place::One => is_google(node),
                Place::List => node.as_array().is_some_and(|items| items.iter().any(is_google)),
                Place::ByName => node.as_object().is_some_and(|all| all.iter().any(|(_, schema)| is_google(schema))),
                Place::Type => node.value == Value::Number || node.as_str().is_some_and(|word| type_of(word) != word),
                Place::Count => node.as_str().is_some(),
                Place::Reference => true,
                Place::Plain => false,
            }
    })
}

fn write(schema: &Node<'_>, w: &mut Writer<'_>) {
    let Some(members) = schema.as_object() else { return w.raw(schema.raw) };
    let nullable = members.get("nullable").and_then(Node::as_bool) == Some(true);
    // what has no type of its own is made nullable from outside
    let wrapped = nullable && type_word(members).is_none();
    if wrapped {
        w.object();
        w.name("anyOf").array();
    }
    w.object();
    for (name, node) in members.iter() {
        let (name, place) = member(name);
        if name == "nullable" || node.is_null() {
            continue;
        }
        write_member(name, node, place, nullable, w);
    }
    w.end_object();
    if wrapped {
        w.raw(r#"{"type":"null"}"#);
        w.end_array();
        w.end_object();
    }
}

fn write_member(name: &str, node: &Node<'_>, place: Place, nullable: bool, w: &mut Writer<'_>) {
    match (place, &node.value) {
        (Place::Type, _) => {
            let Some(word) = word_of(node) else { return };
            w.name(name);
            match (word, nullable) {
                ("", _) => w.raw(node.raw),
                ("null", _) | (_, false) => w.string(word),
                (word, true) => {
                    w.array();
                    w.string(word);
                    w.string("null");
                    w.end_array();
                }
            }
        }
        (Place::One, _) => {
            w.name(name);
            write(node, w);
        }
        (Place::List, Value::Array(items)) => {
            w.name(name).array();
            for item in items {
                write(item, w);
            }
            w.end_array();
        }
        (Place::ByName, Value::Object(schemas)) => {
            w.name(name).object();
            for (name, schema) in schemas.iter() {
                w.name(name);
                write(schema, w);
            }
            w.end_object();
        }
        (Place::Reference, Value::String(path)) => w.name(name).string(&path.replacen("#/defs/", "#/$defs/", 1)),
        (Place::Count, Value::String(count)) if count.parse::<u64>().is_ok() => w.name(name).raw(count),
        (_, Value::Array(values)) if name == "enum" && nullable => {
            w.name(name).array();
            for value in values {
                w.raw(value.raw);
            }
            if !values.iter().any(Node::is_null) {
                w.null();
            }
            w.end_array();
        }
        _ => w.name(name).raw(node.raw),
    }
}

/// The type as one word, when it is one.
fn type_word(members: &Members<'_>) -> Option<&'static str> {
    word_of(members.get("type")?).filter(|word| !word.is_empty())
}

/// JSON Schema's word; empty for what is not one word; `None` for Google's "not said".
fn word_of(node: &Node<'_>) -> Option<&'static str> {
    const BY_NUMBER: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];
    match &node.value {
        Value::Number => match node.as_u64()? {
            0 => None,
            number => Some(BY_NUMBER.get(number as usize - 1).copied().unwrap_or_default()),
        },
        Value::String(word) if word == "TYPE_UNSPECIFIED" => None,
        Value::String(word) => {
            let lower = type_of(word);
            Some(BY_NUMBER.into_iter().find(|known| *known == lower).unwrap_or_default())
        }
        _ => Some(""),
    }
}

/// A type's word without capitals, where it is one of Google's.
fn type_of(word: &str) -> &str {
    match word {
        "STRING" => "string",
        "NUMBER" => "number",
        "INTEGER" => "integer",
        "BOOLEAN" => "boolean",
        "ARRAY" => "array",
        "OBJECT" => "object",
        "NULL" => "null",
        "TYPE_UNSPECIFIED" => "",
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(schema: &str) -> String {
        to_json_schema(&Node::parse(schema.as_bytes()).unwrap()).into_owned()
    }

    #[test]
    fn json_schema_stays_as_it_was_written() {
        let schema = r##"{ "type": "object", "properties": {"type": {"type": ["string","null"]}, "ref": {"$ref": "#/$defs/X"},
            "nullable": {"type":"boolean"}}, "$defs": {"X": {"const": 1.0}} , "maxItems": 3}"##;
        assert!(matches!(to_json_schema(&Node::parse(schema.as_bytes()).unwrap()), Cow::Borrowed(s) if s == schema));
    }

    #[test]
    fn googles_words_become_json_schemas() {
        assert_eq!(
            converted(
                r#"{"type":"OBJECT","properties":{"unit":{"type":"STRING","enum":["c","f"],"format":"enum","nullable":true},
                "type":{"type":"INTEGER","minimum":0.5},"list":{"type":"ARRAY","items":{"type":"NUMBER"},"min_items":"2"}},
                "required":["unit"],"propertyOrdering":["unit","type"]}"#
            ),
            r#"{"type":"object","properties":{"unit":{"type":["string","null"],"enum":["c","f",null],"format":"enum"},"type":{"type":"integer","minimum":0.5},"list":{"type":"array","items":{"type":"number"},"minItems":2}},"required":["unit"],"propertyOrdering":["unit","type"]}"#
        );
    }

    #[test]
    fn what_may_be_null_says_so() {
        assert_eq!(
            converted(r#"{"any_of":[{"type":"STRING"},{"type":5}],"nullable":true}"#),
            r#"{"anyOf":[{"anyOf":[{"type":"string"},{"type":"array"}]},{"type":"null"}]}"#
        );
        assert_eq!(converted(r#"{"type":"STRING","nullable":false}"#), r#"{"type":"string"}"#);
        assert_eq!(converted(r#"{"type":"TYPE_UNSPECIFIED","description":"x"}"#), r#"{"description":"x"}"#);
    }

    #[test]
    fn references_find_their_definitions() {
        assert_eq!(
            converted(
                r##"{"type":"OBJECT","properties":{"pet":{"ref":"#/defs/Pet"}},"defs":{"Pet":{"type":"STRING"}}}"##
            ),
            r##"{"type":"object","properties":{"pet":{"$ref":"#/$defs/Pet"}},"$defs":{"Pet":{"type":"string"}}}"##
        );
    }
}
