//! Embeddings in Gemini's grammar, from either side: `embedContent` and `batchEmbedContents`.
//!
//! Truth: Gemini API reference, "Embeddings"; for Vertex the service description `aiplatform.v1`, `EmbedContentRequest` (which has
//! `embedContentConfig` and refuses a model other than its own path). A batch holds at most 100 requests (Gemini API, 2026).

use std::borrow::Cow;

use super::vector::Vector;
use super::{Form, Found, Input, Losses, Param, Purpose, Truncate, Wanted, count, object_if};
use crate::chat::Extra;
use crate::dialect::codec::{Garbled, To};
use crate::json::{Members, Node, Walk, Writer, Wrong};

pub(super) const PER_CALL: usize = 100;

// === the client asks ===

pub(super) fn read_question<'a>(body: Node<'a>, losses: &mut Losses) -> Result<(Wanted<'a>, Form), Wrong> {
    let at = body.at;
    let mut members = body.object()?;
    let mut wanted = Wanted { inputs: Vec::new(), dimensions: None, truncate: None, normalize: None };
    let Some(requests) = members.take_array("requests")? else {
        read_request(members, at, &mut wanted, losses)?;
        return Ok((wanted, Form::GeminiOne));
    };
    for request in requests {
        let at = request.at;
        read_request(request.object()?, at, &mut wanted, losses)?;
    }
    if wanted.inputs.is_empty() {
        return Err(Wrong::new(at, "expected at least one request"));
    }
    members.take("model");
    losses.extra(&Extra::rest(members));
    Ok((wanted, Form::GeminiMany))
}

fn read_request<'a>(
    mut members: Members<'a>,
    at: crate::json::At,
    wanted: &mut Wanted<'a>,
    losses: &mut Losses,
) -> Result<(), Wrong> {
    // the path says it
    members.take("model");
    let content = members.take("content").ok_or(Wrong::new(at, "\"content\" is missing"))?;
    let text = text(content, losses)?;
    let mut config = either(&mut members, "embedContentConfig", "embed_content_config")
        .map(Node::object)
        .transpose()?
        .unwrap_or_default();
    let mut take = |camel, snake| either(&mut config, camel, snake).or_else(|| either(&mut members, camel, snake));
    let purpose = take("taskType", "task_type");
    let title = take("title", "title");
    let dimensions = take("outputDimensionality", "output_dimensionality");
    let truncate = take("autoTruncate", "auto_truncate");
    let first = wanted.inputs.is_empty();

    let dimensions = dimensions.map(|node| param(node, Node::whole_number)).transpose()?;
    match first {
        true => wanted.dimensions = dimensions,
        false if wanted.dimensions.map(|p| p.value) == dimensions.map(|p| p.value) => {}
        false => return Err(Wrong::new(at, "all requests of a batch must ask for the same outputDimensionality")),
    }
    if let Some(truncate) = truncate.map(|node| param(node, Node::boolean)).transpose()? {
        let value = if truncate.value { Truncate::End } else { Truncate::Never };
        match wanted.truncate {
            Some(before) if before.value == value => {}
            Some(_) => losses.changed(truncate.at, ""),
            None => wanted.truncate = Some(Param { value, at: truncate.at }),
        }
    }
    let purpose = match purpose.map(|node| param(node, Node::string)).transpose()? {
        Some(word) => {
            let found = Purpose::from_word(&word.value);
            if found.is_none() && !word.value.ends_with("UNSPECIFIED") {
                losses.dropped(word.at, "");
            }
            found.map(|value| Param { value, at: word.at })
        }
        None => None,
    };
    let title = title.map(|node| param(node, Node::string)).transpose()?;
    wanted.inputs.push(Input { text, purpose, title });
    losses.extra(&Extra::rest(config));
    losses.extra(&Extra::rest(members));
    Ok(())
}

/// Google's JSON is read in both spellings.
fn either<'a>(members: &mut Members<'a>, camel: &str, snake: &str) -> Option<Node<'a>> {
    members.take(camel).or_else(|| members.take(snake))
}

fn param<'a, T>(node: Node<'a>, read: impl FnOnce(Node<'a>) -> Result<T, Wrong>) -> Result<Param<T>, Wrong> {
    let at = node.at;
    Ok(Param { value: read(node)?, at })
}

/// The text of a content. Several parts are one text, a line each.
fn text<'a>(content: Node<'a>, losses: &mut Losses) -> Result<Cow<'a, str>, Wrong> {
    let at = content.at;
    let mut members = content.object()?;
    members.take("role");
    let parts = members.take_array("parts")?.unwrap_or_default();
    losses.extra(&Extra::rest(members));
    let mut whole: Option<Cow<'a, str>> = None;
    for part in parts {
        let part_at = part.at;
        let text = part.object()?.take_string("text")?;
        let text = text.ok_or(Wrong::new(part_at, "this model's provider embeds text only"))?;
        whole = Some(match whole {
            None => text,
            Some(mut before) => {
                losses.changed(part_at, "");
                before.to_mut().push('\n');
                before.to_mut().push_str(&text);
                before
            }
        });
    }
    whole.ok_or(Wrong::new(at, "expected at least one part"))
}

// === the provider is asked ===

pub(super) fn question(wanted: &Wanted<'_>, inputs: &[Input<'_>], to: &To<'_>, losses: &mut Losses) -> Vec<u8> {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    if let Some(normalize) = normalize {
        losses.dropped(normalize.at, "");
    }
    let truncate = truncate.filter(|asked| {
        if !to.manners.vertex {
            losses.dropped(asked.at, "");
        } else if asked.value == Truncate::Start {
            losses.changed(asked.at, "");
        }
        to.manners.vertex
    });
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("requests").array();
    for Input { text, purpose, title } in inputs {
        w.object();
        if !to.manners.vertex {
            let folder = if to.model.contains('/') { "" } else { "models/" };
            w.name("model").strings(&[folder, to.model]);
        }
        w.name("content").object();
        w.name("parts").array();
        w.object();
        w.name("text").string(text);
        w.end_object();
        w.end_array();
        w.end_object();
        w.string_if("taskType", purpose.map(|p| p.value.google()));
        w.string_if("title", document_title(purpose, title, losses));
        w.number_if("outputDimensionality", dimensions.map(|p| p.value));
        w.boolean_if("autoTruncate", truncate.map(|p| p.value != Truncate::Never));
        w.end_object();
    }
    w.end_array();
    w.end_object();
    body
}

/// Google takes a title for a document only.
pub(super) fn document_title<'i>(
    purpose: &Option<Param<Purpose>>,
    title: &'i Option<Param<Cow<'_, str>>>,
    losses: &mut Losses,
) -> Option<&'i str> {
    let title = title.as_ref()?;
    if purpose.is_some_and(|p| p.value == Purpose::Document) {
        return Some(&title.value);
    }
    losses.dropped(title.at, "");
    None
}

pub(super) fn read_answer<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    let mut total = None;
    walk.object(|name, walk| match name {
        "embeddings" => walk.array(|walk| read_values(walk, found)),
        "embedding" => read_values(walk, found),
        "truncated" => {
            found.truncated |= walk.value()? == "true";
            Ok(())
        }
        "usageMetadata" => object_if(walk, |name, walk| {
            match name {
                "promptTokenCount" => found.input_tokens = count(walk)?,
                "totalTokenCount" => total = count(walk)?,
                _ => {}
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    found.input_tokens = found.input_tokens.or(total);
    Ok(())
}

pub(super) fn read_values<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    let mut vector = None;
    walk.object(|name, walk| {
        if name == "values" {
            vector = Some(Vector::read(walk)?);
        }
        Ok::<(), Garbled>(())
    })?;
    found.push(vector.ok_or(Garbled::new("an embedding without values"))?)
}

// === the client is answered ===

pub(super) fn answer_one(found: &Found<'_>) -> Result<Vec<u8>, Garbled> {
    let vector = found.vectors.first().ok_or(Garbled::new("no vector"))?;
    let mut body = Vec::with_capacity(vector.size() + 128);
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("embedding");
    values(vector, &mut w)?;
    usage(found, &mut w);
    w.end_object();
    Ok(body)
}

pub(super) fn answer_many(found: &Found<'_>) -> Result<Vec<u8>, Garbled> {
    let size: usize = found.vectors.iter().map(|vector| vector.size() + 16).sum();
    let mut body = Vec::with_capacity(size + 128);
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("embeddings").array();
    for vector in &found.vectors {
        values(vector, &mut w)?;
    }
    w.end_array();
    usage(found, &mut w);
    w.end_object();
    Ok(body)
}

fn values(vector: &Vector<'_>, w: &mut Writer<'_>) -> Result<(), Garbled> {
    w.object();
    vector.write_numbers(w.name("values"))?;
    w.end_object();
    Ok(())
}

fn usage(found: &Found<'_>, w: &mut Writer<'_>) {
    let Found { vectors: _, most: _, model: _, input_tokens, truncated: _ } = found;
    if let Some(tokens) = input_tokens {
        w.name("usageMetadata").object();
        w.name("promptTokenCount").number(*tokens);
        w.name("totalTokenCount").number(*tokens);
        w.end_object();
    }
}
