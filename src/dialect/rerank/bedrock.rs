//! A provider with Bedrock's rerank.
//!
//! Truth: Amazon Bedrock API reference, agents runtime, `Rerank`. The model is named by its ARN: a configured name that is none becomes the
//! ARN of a foundation model in the provider's region.

use super::{Content, Document, Found, Placed, Wanted};
use crate::dialect::codec::{Garbled, To};
use crate::json::{At, Node, Writer, Wrong};

/// Most sources, and most results (API reference, `RerankRequest`, `BedrockRerankingConfiguration`).
const MAX_SOURCES: usize = 1000;

pub(super) fn question(wanted: &Wanted<'_>, to: &To<'_>) -> Result<Vec<u8>, Wrong> {
    let Wanted { query, documents, top, max_tokens_per_document } = wanted;
    let arn = arn(to)?;
    if documents.len() > MAX_SOURCES {
        return Err(Wrong::new(At::NOWHERE, format!("this model takes at most {MAX_SOURCES} documents")));
    }
    let mut body = Vec::new();
    let mut w = Writer::new(&mut body);
    w.object();
    w.name("queries").array();
    w.object();
    w.name("type").string("TEXT");
    w.name("textQuery").object();
    w.name("text").string(query);
    w.end_object();
    w.end_object();
    w.end_array();
    w.name("sources").array();
    for document in documents {
        source(document, &mut w);
    }
    w.end_array();
    w.name("rerankingConfiguration").object();
    w.name("type").string("BEDROCK_RERANKING_MODEL");
    w.name("bedrockRerankingConfiguration").object();
    w.name("modelConfiguration").object();
    w.name("modelArn").string(&arn);
    if let Some(max) = max_tokens_per_document {
        w.name("additionalModelRequestFields").object();
        w.name("max_tokens_per_doc").number(max.value);
        w.end_object();
    }
    w.end_object();
    let most = documents.len() as u64;
    w.name("numberOfResults").number(top.map_or(most, |top| top.value.min(most)));
    w.end_object();
    w.end_object();
    w.end_object();
    Ok(body)
}

fn source(document: &Document<'_>, w: &mut Writer<'_>) {
    let Document { content, raw: _ } = document;
    w.object();
    w.name("type").string("INLINE");
    w.name("inlineDocumentSource").object();
    match content {
        Content::Text(text) => {
            w.name("type").string("TEXT");
            w.name("textDocument").object();
            w.name("text").string(text);
            w.end_object();
        }
        Content::Fields(fields) => {
            w.name("type").string("JSON");
            w.name("jsonDocument").object();
            for (name, node) in fields {
                w.name(name).raw(node.raw);
            }
            w.end_object();
        }
    }
    w.end_object();
    w.end_object();
}

fn arn(to: &To<'_>) -> Result<String, Wrong> {
    if to.model.starts_with("arn:") {
        return Ok(to.model.to_owned());
    }
    let Some(region) = to.manners.region.as_deref() else {
        return Err(Wrong::new(At::NOWHERE, "this model has to be named by its ARN"));
    };
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    Ok(format!("arn:{partition}:bedrock:{region}::foundation-model/{}", to.model))
}

pub(super) fn read_answer(reply: Node<'_>) -> Result<Found<'_>, Garbled> {
    let mut found = Found::default();
    let results = reply.object()?.take_array("results")?.ok_or(Garbled::new("a reply without results"))?;
    for result in results {
        found.results.push(Placed::read(result, &["relevanceScore"])?);
    }
    Ok(found)
}
