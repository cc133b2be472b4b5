//! Which JSON schemas `strict` tools may have.
//!
//! Truth: platform.claude.com/docs, "Structured outputs", JSON schema limitations.

use crate::json::{Node, Value};

/// Keywords that are refused wherever they stand in a schema.
const REFUSED: [&str; 14] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "not",
    "if",
];

/// Whether a schema is one that `strict` is taken with. Recursion is bounded by the depth of the text.
pub(super) fn fits_strict(schema: &str) -> bool {
    Node::parse(schema.as_bytes()).is_ok_and(|node| fits(&node))
}

fn fits(schema: &Node<'_>) -> bool {
    let Value::Object(members) = &schema.value else { return true };
    let is_object = members.get("properties").is_some() || members.get("type").and_then(Node::as_str) == Some("object");
    if is_object && members.get("additionalProperties").and_then(Node::as_bool) != Some(false) {
        return false;
    }
    members.iter().all(|(name, value)| match name {
        "properties" | "$defs" | "definitions" => {
            value.as_object().is_none_or(|inner| inner.iter().all(|(_, schema)| fits(schema)))
        }
        "anyOf" | "allOf" | "oneOf" | "prefixItems" => value.as_array().is_none_or(|all| all.iter().all(fits)),
        "items" => fits(value),
        // a schema that holds itself
        "$ref" => value.as_str() != Some("#"),
        "minItems" => matches!(value.as_u64(), Some(0 | 1)),
        _ => !REFUSED.contains(&name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_grammar_compiler_knows_is_strict() {
        for (schema, fits) in [
            (
                r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}"#,
                true,
            ),
            (r#"{"type":"object","properties":{"minimum":{"type":"string"}},"additionalProperties":false}"#, true),
            (r#"{"type":"object","properties":{}}"#, false),
            (
                r#"{"type":"object","properties":{"a":{"type":"integer","minimum":1}},"additionalProperties":false}"#,
                false,
            ),
            (
                r#"{"type":"object","properties":{"a":{"anyOf":[{"type":"object"},{"type":"null"}]}},"additionalProperties":false}"#,
                false,
            ),
            (r#"{"type":"array","items":{"type":"string"},"minItems":1}"#, true),
            ("nonsense", false),
        ] {
            assert_eq!(fits_strict(schema), fits, "{schema}");
        }
    }
}
