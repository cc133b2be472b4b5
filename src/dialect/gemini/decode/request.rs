//! A request: who says what in `contents`, and what is asked beside.

use super::calls::Calls;
use super::{config, list, part, take, take_list, tools};
use crate::chat::{Block, Dialect, Extra, Request, Role, Text, Turn};
use crate::json::{Node, Value, Wrong};

pub fn decode(body: Node<'_>) -> Result<Request<'_>, Wrong> {
    let at = body.at;
    let mut members = body.object()?;
    let mut request = Request::new(Dialect::Gemini);
    let mut calls = Calls::default();
    if let Some(system) = take(&mut members, "systemInstruction") {
        // its role means nothing to any model
        let (_, system) = turn(system, &mut calls)?;
        request.turns.push(Turn { role: Role::System, ..system });
    }
    let contents = take(&mut members, "contents").ok_or(Wrong::new(at, "expected `contents`"))?;
    for content in list(contents) {
        let (role, turn) = turn(content, &mut calls)?;
        request.turns.push(Turn { role: role_of(role)?, ..turn });
    }
    for tool in take_list(&mut members, "tools").unwrap_or_default() {
        tools::tools(tool, &mut request.tools)?;
    }
    if let Some(node) = take(&mut members, "toolConfig") {
        tools::config(node, &mut request)?;
    }
    if let Some(node) = take(&mut members, "generationConfig") {
        config::generation(node, &mut request)?;
    }
    config::beside(&mut members, &mut request)?;
    // the path names it
    members.take("model");
    request.extra.0.extend(Extra::rest(members).0);
    Ok(request)
}

/// A content and its role, still to be read.
fn turn<'a>(content: Node<'a>, calls: &mut Calls) -> Result<(Option<Node<'a>>, Turn<'a>), Wrong> {
    let at = content.at;
    if let Value::String(text) = content.value {
        let block = Block::Text(Text { at, ..Text::new(text) });
        return Ok((None, Turn { at, ..Turn::new(Role::User, vec![block]) }));
    }
    let mut members = content.object()?;
    let role = members.take("role");
    let blocks = match take(&mut members, "parts") {
        Some(parts) => part::gathered(part::blocks(parts, calls)?),
        None => Vec::new(),
    };
    Ok((role, Turn { role: Role::User, name: None, blocks, at, extra: Extra::rest(members) }))
}

fn role_of(role: Option<Node<'_>>) -> Result<Role, Wrong> {
    let Some(role) = role else { return Ok(Role::User) };
    match role.as_str() {
        // results of functions had a role of their own once
        Some("user" | "function" | "tool" | "") => Ok(Role::User),
        Some("model") => Ok(Role::Assistant),
        _ => Err(Wrong::new(role.at, "expected the role `user` or `model`")),
    }
}
