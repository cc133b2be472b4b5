//! Embedding models behind Bedrock's InvokeModel: each family has a body of its own.
//!
//! Truth: Amazon Bedrock User Guide, "Inference request parameters": Titan Embeddings G1, Titan Text Embeddings V2, Titan Multimodal
//! Embeddings G1, Cohere Embed v3 and v4; Amazon Nova User Guide, "Complete embeddings request and response schema". Token counts come in the body (Titan) or in `x-amzn-bedrock-input-token-count` only (Cohere).

use super::vector::Vector;
use super::{Found, Input, Losses, Purpose, Truncate, Wanted, cohere, count};
use crate::dialect::codec::{Garbled, To};
use crate::json::{At, Walk, Writer, Wrong};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Titan Embeddings G1.
    Titan1,
    Titan2,
    TitanImage,
    Cohere3,
    Cohere4,
    Nova,
}

/// Titan Embeddings G1 has vectors of this length only.
const TITAN1_DIMENSIONS: u64 = 1536;

pub(super) fn per_call(model: &str) -> usize {
    match Family::of(model) {
        Some(Family::Cohere3 | Family::Cohere4) => cohere::PER_CALL,
        Some(Family::Titan1 | Family::Titan2 | Family::TitanImage | Family::Nova) | None => 1,
    }
}

pub(super) fn question(
    wanted: &Wanted<'_>,
    inputs: &[Input<'_>],
    to: &To<'_>,
    losses: &mut Losses,
) -> Result<Vec<u8>, Wrong> {
    let family = Family::of(to.model).ok_or(Wrong::new(
        At::NOWHERE,
        "embeddings of this Bedrock model are not known here; those of Titan, Nova and Cohere are",
    ))?;
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    match family {
        Family::Cohere3 | Family::Cohere4 => cohere_members(family, wanted, inputs, to, losses, &mut w),
        Family::Nova => nova_members(wanted, inputs, losses, &mut w),
        Family::Titan1 | Family::Titan2 | Family::TitanImage => titan_members(family, wanted, inputs, losses, &mut w),
    }
    w.end_object();
    Ok(body)
}

fn titan_members(family: Family, wanted: &Wanted<'_>, inputs: &[Input<'_>], losses: &mut Losses, w: &mut Writer<'_>) {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    Input::drop_hints(inputs, losses);
    if let Some(truncate) = truncate {
        losses.dropped(truncate.at, "");
    }
    if let Some(normalize) = normalize.filter(|_| family != Family::Titan2) {
        losses.dropped(normalize.at, "");
    }
    // one text a call
    w.string_if("inputText", inputs.first().map(|input| &*input.text));
    match family {
        Family::Titan2 => {
            w.number_if("dimensions", dimensions.map(|p| p.value));
            w.boolean_if("normalize", normalize.map(|p| p.value));
        }
        Family::TitanImage => {
            if let Some(dimensions) = dimensions {
                w.name("embeddingConfig").object();
                w.name("outputEmbeddingLength").number(dimensions.value);
                w.end_object();
            }
        }
        _ => wanted.fixed_dimensions(TITAN1_DIMENSIONS, losses),
    }
}

fn nova_members(wanted: &Wanted<'_>, inputs: &[Input<'_>], losses: &mut Losses, w: &mut Writer<'_>) {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    Input::drop_titles(inputs, losses);
    if let Some(normalize) = normalize {
        losses.dropped(normalize.at, "");
    }
    w.name("taskType").string("SINGLE_EMBEDDING");
    w.name("singleEmbeddingParams").object();
    w.name("embeddingPurpose").string(cohere::purpose(inputs, Purpose::nova, losses));
    w.number_if("embeddingDimension", dimensions.map(|p| p.value));
    w.name("text").object();
    // required there; who says nothing wants to be told
    let truncate = truncate.map_or(Truncate::Never, |p| p.value);
    w.name("truncationMode").string(cohere::word(truncate));
    w.string_if("value", inputs.first().map(|input| &*input.text));
    w.end_object();
    w.end_object();
}

fn cohere_members(
    family: Family,
    wanted: &Wanted<'_>,
    inputs: &[Input<'_>],
    to: &To<'_>,
    losses: &mut Losses,
    w: &mut Writer<'_>,
) {
    let Wanted { inputs: _, dimensions, truncate, normalize } = wanted;
    Input::drop_titles(inputs, losses);
    if let Some(normalize) = normalize {
        losses.dropped(normalize.at, "");
    }
    cohere::texts(inputs, w);
    w.name("input_type").string(cohere::input_type(inputs, losses));
    match family {
        Family::Cohere4 => {
            w.number_if("output_dimension", dimensions.map(|p| p.value));
            // v4 has its own words for the ends of a text
            let word = |truncate| match truncate {
                Truncate::Never => "NONE",
                Truncate::Start => "LEFT",
                Truncate::End => "RIGHT",
            };
            w.string_if("truncate", truncate.map(|p| word(p.value)));
        }
        _ => {
            wanted.fixed_dimensions(cohere::fixed(to.model).unwrap_or(1024), losses);
            w.string_if("truncate", truncate.map(|p| cohere::word(p.value)));
        }
    }
}

/// Titan: `embedding`. Nova: `embeddings`, a list of objects. Cohere: as Cohere's own.
pub(super) fn read_answer<'a>(walk: &mut Walk<'a>, found: &mut Found<'a>) -> Result<(), Garbled> {
    walk.object(|name, walk| match name {
        "embedding" => found.push(Vector::read(walk)?),
        "embeddings" => cohere::read_embeddings(walk, found),
        "inputTextTokenCount" => {
            found.input_tokens = count(walk)?;
            Ok(())
        }
        _ => Ok(()),
    })
}

// === impl Family ===

impl Family {
    /// By the model's id, the id of an inference profile, or an ARN that ends in one of them.
    fn of(model: &str) -> Option<Self> {
        match model {
            _ if model.contains("titan-embed-image") => Some(Family::TitanImage),
            _ if model.contains("titan-embed-text-v1") || model.contains("titan-embed-g1") => Some(Family::Titan1),
            _ if model.contains("titan-embed") => Some(Family::Titan2),
            _ if model.contains("nova") && model.contains("embeddings") => Some(Family::Nova),
            _ if model.contains("cohere.embed") && model.contains("-v3") => Some(Family::Cohere3),
            _ if model.contains("cohere.embed") => Some(Family::Cohere4),
            _ => None,
        }
    }
}
