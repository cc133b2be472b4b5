//! Embeddings in OpenAI's grammar, from either side.
//!
//! Truth: the OpenAI API reference and its OpenAPI description, 2.3.0, `CreateEmbeddingRequest` and `CreateEmbeddingResponse`. Beside it
//! the members by which compatible vendors ask for more: `input_type`, `task_type`, `title`, `truncate`, `auto_truncate`, `normalize`,
//! `output_dimension`.

use std::borrow::Cow;

use super::vector::Vector;
use super::{Form, Found, Input, Losses, Param, Purpose, Truncate, Wanted, count, object_if, string_if};
use crate::chat::Extra;
use crate::dialect::codec::{Garbled, ReplyTo, To};
use crate::json::{Members, Node, Value, Walk, Writer, Wrong};

/// Longest title: it is sent with every text.
const MAX_TITLE: usize = 1024;

// === the client asks ===

pub(super) fn read_question<'a>(body: Node<'a>, losses: &mut Losses) -> Result<(Wanted<'a>, Form), Wrong> {
    let at = body.at;
    let mut members = body.object()?;
    // in the path, or read before
    members.take("model");
    let input = members.take("input").ok_or(Wrong::new(at, "\"input\" is missing"))?;
    let texts = texts(input)?;
    let purpose = purpose(&mut members, losses)?;
    let title = title(&mut members)?;
    let base64 = base64(&mut members)?;
    let wanted = Wanted {
        inputs: texts.into_iter().map(|text| Input { text, purpose, title: title.clone() }).collect(),
        dimensions: dimensions(&mut members)?,
        truncate: truncate(&mut members)?,
        normalize: normalize(&mut members)?,
    };
    // members nobody else knows, `user` among them
    losses.extra(&Extra::rest(members));
    Ok((wanted, Form::OpenAi { base64 }))
}

fn texts<'a>(input: Node<'a>) -> Result<Vec<Cow<'a, str>>, Wrong> {
    let at = input.at;
    match input.value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(items) if items.is_empty() => Err(Wrong::new(at, "expected at least one text")),
        Value::Array(items) => items.into_iter().map(text).collect(),
        _ => Err(Wrong::new(at, "expected a string or an array of strings")),
    }
}

fn text<'a>(item: Node<'a>) -> Result<Cow<'a, str>, Wrong> {
    match item.value {
        Value::String(text) => Ok(text),
        Value::Number | Value::Array(_) => {
            Err(Wrong::new(item.at, "tokens mean nothing to this model's provider: send the text"))
        }
        _ => Err(Wrong::new(item.at, "expected a string")),
    }
}

fn base64(members: &mut Members<'_>) -> Result<bool, Wrong> {
    let Some(node) = members.take("encoding_format") else { return Ok(false) };
    match node.as_str() {
        Some("float") => Ok(false),
        Some("base64") => Ok(true),
        _ => Err(Wrong::new(node.at, "expected \"float\" or \"base64\"")),
    }
}

fn dimensions(members: &mut Members<'_>) -> Result<Option<Param<u64>>, Wrong> {
    let Some(node) = members.take("dimensions").or_else(|| members.take("output_dimension")) else { return Ok(None) };
    let at = node.at;
    match node.whole_number()? {
        0 => Err(Wrong::new(at, "expected at least 1")),
        value => Ok(Some(Param { value, at })),
    }
}

fn purpose(members: &mut Members<'_>, losses: &mut Losses) -> Result<Option<Param<Purpose>>, Wrong> {
    let Some(node) = members.take("input_type").or_else(|| members.take("task_type")) else { return Ok(None) };
    let at = node.at;
    let found = Purpose::from_word(&node.string()?);
    if found.is_none() {
        losses.dropped(at, "");
    }
    Ok(found.map(|value| Param { value, at }))
}

fn title<'a>(members: &mut Members<'a>) -> Result<Option<Param<Cow<'a, str>>>, Wrong> {
    let Some(node) = members.take("title") else { return Ok(None) };
    let at = node.at;
    let value = node.string()?;
    if value.len() > MAX_TITLE {
        return Err(Wrong::new(at, format!("expected at most {MAX_TITLE} bytes")));
    }
    Ok(Some(Param { value, at }))
}

/// Cohere's words (and Bedrock's for the same), or a boolean, which means the end.
fn truncate(members: &mut Members<'_>) -> Result<Option<Param<Truncate>>, Wrong> {
    let Some(node) = members.take("truncate").or_else(|| members.take("auto_truncate")) else { return Ok(None) };
    let word = node.as_str().map(str::to_ascii_uppercase);
    let value = match (node.as_bool(), word.as_deref()) {
        (Some(true), _) | (_, Some("END" | "RIGHT")) => Truncate::End,
        (Some(false), _) | (_, Some("NONE")) => Truncate::Never,
        (_, Some("START" | "LEFT")) => Truncate::Start,
        _ => return Err(Wrong::new(node.at, "expected a boolean, \"NONE\", \"START\" or \"END\"")),
    };
    Ok(Some(Param { value, at: node.at }))
}

fn normalize(members: &mut Members<'_>) -> Result<Option<Param<bool>>, Wrong> {
    let Some(node) = members.take("normalize") else { return Ok(None) };
    let at = node.at;
    Ok(Some(Param { value: node.boolean()?, at }))
}

// === the provider is asked ===

pub(super) fn question(wanted: &Wanted<'_>, inputs: &[Input<'_>], to: &To<'_>, losses: &mut Losses) -> Vec<u8> {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    Input::drop_hints(inputs, losses);
    for at in [truncate.map(|p| p.at), normalize.map(|p| p.at)].into_iter().flatten() {
        losses.dropped(at, "");
    }
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("model").string(to.model);
    w.name("input").array();
    for input in inputs {
        w.string(&input.text);
    }
    w.end_array();
    w.name("encoding_format").string("float");
    w.number_if("dimensions", dimensions.map(|p| p.value));
    w.end_object();
    body
}

pub(super) fn read_answer<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    let mut places: Vec<Option<u64>> = Vec::new();
    let mut total = None;
    walk.object(|name, walk| match name {
        "data" => walk.array(|walk| {
            let (mut index, mut vector) = (None, None);
            walk.object(|name, walk| {
                match name {
                    "index" => index = count(walk)?,
                    "embedding" => vector = Some(Vector::read(walk)?),
                    _ => {}
                }
                Ok::<(), Garbled>(())
            })?;
            places.push(index);
            found.push(vector.ok_or(Garbled::new("an embedding without a vector"))?)
        }),
        "model" => {
            found.model = string_if(walk)?;
            Ok(())
        }
        "usage" => object_if(walk, |name, walk| {
            match name {
                "prompt_tokens" => found.input_tokens = count(walk)?,
                "total_tokens" => total = count(walk)?,
                _ => {}
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    found.input_tokens = found.input_tokens.or(total);
    in_order(&mut found.vectors, &places)
}

/// Put vectors where their indices say. All have one, or none has: then they are in order.
fn in_order(vectors: &mut Vec<Vector<'_>>, places: &[Option<u64>]) -> Result<(), Garbled> {
    if places.iter().all(Option::is_none) || places.iter().enumerate().all(|(n, place)| *place == Some(n as u64)) {
        return Ok(());
    }
    let mut sorted: Vec<Option<Vector<'_>>> = Vec::new();
    sorted.resize_with(vectors.len(), || None);
    for (vector, place) in vectors.drain(..).zip(places) {
        let place = place.and_then(|place| sorted.get_mut(usize::try_from(place).ok()?));
        match place {
            Some(place @ None) => *place = Some(vector),
            _ => return Err(Garbled::new("the indices of the vectors do not count")),
        }
    }
    vectors.extend(sorted.into_iter().flatten());
    Ok(())
}

// === the client is answered ===

pub(super) fn answer(found: &Found<'_>, base64: bool, to: &ReplyTo<'_>) -> Result<Vec<u8>, Garbled> {
    let Found { vectors, most: _, model, input_tokens, truncated: _ } = found;
    let size: usize = vectors.iter().map(|vector| vector.size() + 64).sum();
    let mut body = Vec::with_capacity(size + 256);
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("object").string("list");
    w.name("data").array();
    for (index, vector) in vectors.iter().enumerate() {
        w.object();
        w.name("object").string("embedding");
        w.name("index").number(index as u64);
        w.name("embedding");
        match base64 {
            true => vector.write_base64(&mut w)?,
            false => vector.write_numbers(&mut w)?,
        }
        w.end_object();
    }
    w.end_array();
    w.name("model").string(model.as_deref().unwrap_or(to.model));
    // required there; what is not known is 0 to the client, and nothing to the books
    let tokens = input_tokens.unwrap_or(0);
    w.name("usage").object();
    w.name("prompt_tokens").number(tokens);
    w.name("total_tokens").number(tokens);
    w.end_object();
    w.end_object();
    Ok(body)
}
