//! A provider with Cohere's embed, version 2; its answers in both versions' shapes.
//!
//! Truth: Cohere API reference, "Embed" v2: 96 texts a call; `output_dimension` from embed-v4 on; the fixed lengths of older models are
//! those of Cohere's list of models.

use super::{Found, Input, Losses, Param, Purpose, Truncate, Wanted, count, object_if};
use crate::dialect::codec::{Garbled, To};
use crate::json::{Walk, Writer};

pub(super) const PER_CALL: usize = 96;

pub(super) fn question(wanted: &Wanted<'_>, inputs: &[Input<'_>], to: &To<'_>, losses: &mut Losses) -> Vec<u8> {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    Input::drop_titles(inputs, losses);
    if let Some(normalize) = normalize {
        losses.dropped(normalize.at, "");
    }
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("model").string(to.model);
    texts(inputs, &mut w);
    w.name("input_type").string(input_type(inputs, losses));
    w.name("embedding_types").array();
    w.string("float");
    w.end_array();
    match fixed(to.model) {
        Some(fixed) => wanted.fixed_dimensions(fixed, losses),
        None => w.number_if("output_dimension", dimensions.map(|p| p.value)),
    }
    w.string_if("truncate", truncate.map(|p| word(p.value)));
    w.end_object();
    body
}

pub(super) fn texts(inputs: &[Input<'_>], w: &mut Writer<'_>) {
    w.name("texts").array();
    for input in inputs {
        w.string(&input.text);
    }
    w.end_array();
}

/// Required there. Who does not say what a text is for most likely fills an index.
pub(super) fn input_type(inputs: &[Input<'_>], losses: &mut Losses) -> &'static str {
    purpose(inputs, Purpose::cohere, losses)
}

/// The purpose of several texts, in the word of a provider that wants one.
pub(super) fn purpose(
    inputs: &[Input<'_>],
    word: impl Fn(Purpose) -> Result<&'static str, &'static str>,
    losses: &mut Losses,
) -> &'static str {
    let Some(Param { value, at }) = Wanted::one_purpose(inputs, losses) else {
        return word(Purpose::Document).unwrap_or_else(|near| near);
    };
    word(value).unwrap_or_else(|near| {
        losses.changed(at, "");
        near
    })
}

pub(super) fn word(truncate: Truncate) -> &'static str {
    match truncate {
        Truncate::Never => "NONE",
        Truncate::Start => "START",
        Truncate::End => "END",
    }
}

/// The one length of an older model's vectors.
pub(super) fn fixed(model: &str) -> Option<u64> {
    match model {
        _ if model.contains("light-v3") => Some(384),
        _ if model.contains("-v3") => Some(1024),
        _ => None,
    }
}

/// `embeddings` is a list, or an object of lists by type.
pub(super) fn read_answer<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    walk.object(|name, walk| match name {
        "embeddings" => read_embeddings(walk, found),
        "meta" => object_if(walk, |name, walk| match name {
            "billed_units" => object_if(walk, |name, walk| {
                if name == "input_tokens" {
                    found.input_tokens = count(walk)?;
                }
                Ok(())
            }),
            _ => Ok(()),
        }),
        _ => Ok(()),
    })
}

pub(super) fn read_embeddings<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    if walk.next() == Some(b'[') {
        return found.push_all(walk);
    }
    let mut base64 = Found::new(found.most);
    walk.object(|name, walk| match name {
        "float" => found.push_all(walk),
        "base64" => base64.push_all(walk),
        _ => Ok(()),
    })?;
    if found.vectors.is_empty() {
        found.vectors = base64.vectors;
    }
    Ok(())
}
