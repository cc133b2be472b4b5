//! From Google's JSON to the bridge's words.
//!
//! protobuf's JSON has two spellings of each name and lets whole numbers be strings; both are read here, in one place.

pub mod calls;
pub mod config;
pub mod grounding;
pub mod part;
pub mod request;
pub mod response;
pub mod stream;
pub mod tools;

use std::borrow::Cow;

use crate::chat::{Extra, ExtraMember, Param};
use crate::json::{Members, Node, Value, Wrong};

/// Take a member by its official name, or by its other spelling (`inlineData`, `inline_data`).
pub fn take<'a>(members: &mut Members<'a>, name: &str) -> Option<Node<'a>> {
    if let Some(node) = members.take(name) {
        return Some(node);
    }
    if !name.bytes().any(|b| b.is_ascii_uppercase()) || !members.iter().any(|(n, _)| n.contains('_')) {
        return None;
    }
    members.take(&snake(name))
}

pub fn take_string<'a>(members: &mut Members<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Wrong> {
    take(members, name).map(Node::string).transpose()
}

pub fn take_bool(members: &mut Members<'_>, name: &str) -> Result<Option<bool>, Wrong> {
    take(members, name).map(Node::boolean).transpose()
}

pub fn take_object<'a>(members: &mut Members<'a>, name: &str) -> Result<Option<Members<'a>>, Wrong> {
    take(members, name).map(Node::object).transpose()
}

/// A list. One thing alone is a list of one.
pub fn take_list<'a>(members: &mut Members<'a>, name: &str) -> Option<Vec<Node<'a>>> {
    take(members, name).map(list)
}

pub fn list(node: Node<'_>) -> Vec<Node<'_>> {
    match node.value {
        Value::Array(items) => items,
        _ => vec![node],
    }
}

/// A number's own text.
pub fn number<'a>(node: Node<'a>) -> Result<Cow<'a, str>, Wrong> {
    if let Some(text) = node.as_str()
        && Node::parse(text.as_bytes()).is_ok_and(|n| n.value == Value::Number)
    {
        return node.string();
    }
    node.number().map(Cow::Borrowed)
}

pub fn whole(node: Node<'_>) -> Result<u64, Wrong> {
    match node.as_str().and_then(|text| text.parse().ok()) {
        Some(number) => Ok(number),
        None => node.whole_number(),
    }
}

/// A parameter and its place.
pub fn param<'a, T>(
    members: &mut Members<'a>,
    name: &str,
    read: impl FnOnce(Node<'a>) -> Result<T, Wrong>,
) -> Result<Option<Param<T>>, Wrong> {
    let Some(node) = take(members, name) else { return Ok(None) };
    let at = node.at;
    Ok(Some(Param { value: read(node)?, at }))
}

/// Keep what is left of an object that stands within another: `generationConfig.speechConfig`.
pub fn keep<'a>(extra: &mut Extra<'a>, within: &str, members: Members<'a>) {
    for (name, node) in members {
        if !node.is_null() {
            keep_one(extra, within, &name, &node);
        }
    }
}

pub fn keep_one<'a>(extra: &mut Extra<'a>, within: &str, name: &str, node: &Node<'a>) {
    let name = Cow::Owned(format!("{within}.{name}"));
    extra.0.push(ExtraMember { name, json: Cow::Borrowed(node.raw), at: node.at });
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_name_are_one_member() {
        let text =
            br#"{"inline_data":1,"fileData":2,"parametersJsonSchema":null,"parameters_json_schema":"3","text":4}"#;
        let mut members = Node::parse(text).unwrap().object().unwrap();
        assert_eq!(whole(take(&mut members, "inlineData").unwrap()), Ok(1));
        assert_eq!(whole(take(&mut members, "fileData").unwrap()), Ok(2));
        let third = take(&mut members, "parametersJsonSchema").unwrap();
        assert_eq!((number(third.clone()).unwrap().as_ref(), whole(third)), ("3", Ok(3)));
        assert!(take(&mut members, "thoughtSignature").is_none());
        assert_eq!(members.len(), 1);
    }
}
