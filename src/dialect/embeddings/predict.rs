//! Text embedding models behind Vertex' `predict`.
//!
//! Truth: Vertex AI, "Text embeddings API": up to 250 texts a call, one for gemini-embedding-001.

use super::gemini::document_title;
use super::vector::Vector;
use super::{Found, Input, Losses, Truncate, Wanted, object_if};
use crate::dialect::codec::Garbled;
use crate::json::{Walk, Writer};

pub(super) fn per_call(model: &str) -> usize {
    if model.contains("gemini-embedding") { 1 } else { 250 }
}

pub(super) fn question(wanted: &Wanted<'_>, inputs: &[Input<'_>], losses: &mut Losses) -> Vec<u8> {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    if let Some(normalize) = normalize {
        losses.dropped(normalize.at, "");
    }
    if let Some(truncate) = truncate.filter(|asked| asked.value == Truncate::Start) {
        losses.changed(truncate.at, "");
    }
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("instances").array();
    for Input { text, purpose, title } in inputs {
        w.object();
        w.name("content").string(text);
        w.string_if("task_type", purpose.map(|p| p.value.google()));
        w.string_if("title", document_title(purpose, title, losses));
        w.end_object();
    }
    w.end_array();
    w.name("parameters").object();
    w.boolean_if("autoTruncate", truncate.map(|p| p.value != Truncate::Never));
    w.number_if("outputDimensionality", dimensions.map(|p| p.value));
    w.end_object();
    w.end_object();
    body
}

pub(super) fn read_answer<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    let mut tokens = Some(0u64);
    walk.object(|name, walk| match (name, walk.next()) {
        ("predictions", Some(b'[')) => walk.array(|walk| {
            walk.object(|name, walk| match name {
                "embeddings" => {
                    let said = read_embedding(walk, found)?;
                    tokens = tokens.zip(said).map(|(sum, more)| sum.saturating_add(more));
                    Ok(())
                }
                _ => Ok::<(), Garbled>(()),
            })
        }),
        _ => Ok(()),
    })?;
    found.input_tokens = tokens;
    Ok(())
}

/// The tokens of one text, where the provider counted them.
fn read_embedding<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<Option<u64>, Garbled> {
    let (mut vector, mut tokens) = (None, None);
    walk.object(|name, walk| match name {
        "values" => {
            vector = Some(Vector::read(walk)?);
            Ok(())
        }
        "statistics" => object_if(walk, |name, walk| {
            match name {
                "token_count" | "tokenCount" => tokens = walk.value()?.parse::<f64>().ok().map(|n| n as u64),
                "truncated" => found.truncated |= walk.value()? == "true",
                _ => {}
            }
            Ok(())
        }),
        _ => Ok(()),
    })?;
    found.push(vector.ok_or(Garbled::new("an embedding without values"))?)?;
    Ok(tokens)
}
