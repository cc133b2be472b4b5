//! The tree of a JSON text, and the writer.

use crate::json::scan::{Fault, MAX_DEPTH};
use crate::json::tree::MAX_NODES;
use crate::json::{Node, Paths, Value, Writer};

/// What our tree accepts serde_json accepts too, and the other way around but for what we refuse on purpose: a name twice, more depth or
/// values than we allow. What was read is written again, and is the same to serde_json; every value knows its own text and its path.
pub fn json_tree(data: &[u8]) {
    let theirs = serde_json::from_slice::<serde_json::Value>(data);
    match (Node::parse(data), &theirs) {
        (Ok(node), Ok(value)) => {
            let mut again = Vec::new();
            write(&node, &mut Writer::new(&mut again));
            let read: serde_json::Value =
                serde_json::from_slice(&again).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&again)));
            assert_eq!(&read, value);
            assert_eq!(Node::parse_reply(data).as_ref(), Ok(&node));
            places(data, &node);
        }
        (Ok(_), Err(error)) => {
            // a number too large for a double is text to us
            assert!(error.to_string().contains("number out of range"), "accepted, and serde_json says: {error}");
        }
        (Err(error), Ok(_)) => match error.what {
            Fault::Duplicate(_) => {}
            Fault::TooDeep => assert!(data.iter().filter(|b| matches!(b, b'{' | b'[')).count() > MAX_DEPTH),
            Fault::TooManyMembers => assert!(data.len() > MAX_NODES),
            what => panic!("refused for {what:?}, and serde_json accepts it"),
        },
        (Err(_), Err(_)) => {
            // half a surrogate pair, which only a reply may hold
            if let Ok(node) = Node::parse_reply(data) {
                write(&node, &mut Writer::new(&mut Vec::new()));
            }
        }
    }
}

fn write(node: &Node<'_>, w: &mut Writer<'_>) {
    match &node.value {
        Value::Null => w.null(),
        Value::Bool(value) => w.boolean(*value),
        Value::Number => w.raw(node.raw),
        Value::String(text) => w.string(text),
        Value::Array(items) => {
            w.array();
            items.iter().for_each(|item| write(item, w));
            w.end_array();
        }
        Value::Object(members) => {
            w.object();
            members.iter().for_each(|(name, member)| write(member, w.name(name)));
            w.end_object();
        }
    }
}

fn places(text: &[u8], node: &Node<'_>) {
    let mut todo = vec![node];
    let mut paths = Paths::new(text);
    let mut seen = 0;
    while let Some(node) = todo.pop() {
        let at = node.at.offset().expect("it was read somewhere");
        assert_eq!(text.get(at..at + node.raw.len()), Some(node.raw.as_bytes()));
        seen += 1;
        if seen < 32 {
            let _ = paths.of(node.at);
        }
        match &node.value {
            Value::Array(items) => todo.extend(items),
            Value::Object(members) => todo.extend(members.iter().map(|(_, member)| member)),
            Value::Null | Value::Bool(_) | Value::Number | Value::String(_) => {}
        }
    }
}
