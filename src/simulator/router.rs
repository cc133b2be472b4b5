//! Every path, in one list.

use http::{Method, StatusCode};
use serde_json::Value;

use super::fault::Fault;
use super::inquiry::{Inquiry, Task, Vendor};
use super::reply::Reply;
use super::scenario::Scenario;
use super::{
    Shared, anthropic, bedrock, chat, cohere, completions, embeddings, files, gemini, grammar, media, models, responses,
};

/// An endpoint that answers for a model.
type Endpoint = fn(&Task<'_>) -> Result<Reply, Fault>;

pub(super) fn admit(shared: &Shared, inquiry: &Inquiry) -> Result<(), Fault> {
    match (&shared.options.api_key, inquiry.key()) {
        (None, _) => Ok(()),
        // whether a signature is right is not looked at
        (Some(_), _) if inquiry.is_signed() => Ok(()),
        (Some(wanted), Some(key)) if key == wanted => Ok(()),
        (Some(_), Some(key)) => Err(grammar::wrong_key(inquiry.vendor, key)),
        (Some(_), None) => Err(grammar::no_key(inquiry.vendor)),
    }
}

pub(super) fn answer(shared: &Shared, inquiry: &Inquiry) -> Result<Reply, Fault> {
    if inquiry.vendor == Vendor::Azure && inquiry.asked("api-version").is_none() {
        return Err(Fault::no_such_url(&inquiry.method, &inquiry.path));
    }
    let path: Vec<&str> = inquiry.endpoint.split('/').collect();
    let modelled = |endpoint: Endpoint| modelled(shared, inquiry, endpoint);
    if let Some(endpoint) = foreign(inquiry) {
        return if inquiry.method == Method::POST { modelled(endpoint) } else { Err(grammar::wrong_method(inquiry)) };
    }
    match (inquiry.method.as_str(), path.as_slice()) {
        ("POST", ["chat", "completions"]) => modelled(chat::answer),
        ("POST", ["completions"]) => modelled(completions::answer),
        ("POST", ["responses"]) => modelled(responses::answer),
        ("POST", ["embeddings"]) => modelled(embeddings::answer),
        ("POST", ["audio", "speech"]) => modelled(media::speech),
        ("POST", ["audio", "transcriptions" | "translations"]) => modelled(media::transcription),
        ("POST", ["images", "generations"]) => modelled(media::image),
        ("POST", ["moderations"]) => models::moderation(shared, inquiry),
        ("GET", ["models"]) => Ok(Reply::json(StatusCode::OK, &models::list())),
        ("GET", ["models", model @ ..]) => models::one(&model.join("/")),
        ("POST", ["files"]) => files::upload(shared, inquiry),
        ("GET", ["files"]) => Ok(shared.files.list()),
        ("GET", ["files", id]) => shared.files.one(id),
        ("DELETE", ["files", id]) => shared.files.delete(id),
        ("GET", ["files", id, "content"]) => shared.files.content(id),
        ("POST", ["batches"]) => files::batch(shared, inquiry),
        ("GET", ["batches"]) => Ok(shared.files.batches()),
        ("GET", ["batches", id]) => shared.files.one_batch(id),
        ("POST", ["batches", id, "cancel"]) => shared.files.cancel_batch(id),
        (
            _,
            ["chat", "completions"] | ["completions" | "responses" | "embeddings" | "moderations" | "files" | "models"],
        ) => Err(Fault::wrong_method(&inquiry.method)),
        _ => Err(Fault::no_such_url(&inquiry.method, &inquiry.path)),
    }
}

/// The endpoints of the other APIs; all of them take a POST.
fn foreign(inquiry: &Inquiry) -> Option<Endpoint> {
    let endpoint: Endpoint = match (inquiry.vendor, inquiry.endpoint.as_str()) {
        (Vendor::Anthropic, "messages") => anthropic::messages,
        (Vendor::Anthropic, _) => anthropic::count,
        (Vendor::Gemini, "generateContent") => gemini::generate,
        (Vendor::Gemini, "streamGenerateContent") => gemini::stream,
        (Vendor::Gemini, "countTokens") => gemini::count,
        (Vendor::Gemini, "batchEmbedContents") => gemini::embed_batch,
        (Vendor::Gemini, _) => gemini::embed,
        (Vendor::Bedrock, "converse") => bedrock::converse,
        (Vendor::Bedrock, "converse-stream") => bedrock::converse_stream,
        (Vendor::Bedrock, _) => bedrock::count,
        (Vendor::Cohere, _) => cohere::chat,
        (Vendor::OpenAi | Vendor::Azure, _) => return None,
    };
    Some(endpoint)
}

/// Finds the body and the model, and lets the model's name decide whether there is an answer at all.
fn modelled(shared: &Shared, inquiry: &Inquiry, endpoint: Endpoint) -> Result<Reply, Fault> {
    let body = match &inquiry.document {
        Some(body @ Value::Object(_)) => body,
        Some(_) | None => return Err(grammar::not_json(inquiry.vendor)),
    };
    let model = inquiry.model.as_deref().filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| grammar::no_model(inquiry.vendor))?;
    let scenario = Scenario::of(model, shared);
    if let Some(refusal) = scenario.refusal(model, inquiry) {
        return Err(refusal);
    }
    endpoint(&Task { shared, inquiry, vendor: inquiry.vendor, body, upload: inquiry.upload.as_ref(), model, scenario })
}

/// The JSON body of a call that is about no model.
pub(super) fn document(inquiry: &Inquiry) -> Result<&Value, Fault> {
    inquiry.document.as_ref().filter(|document| document.is_object()).ok_or_else(Fault::not_json)
}
