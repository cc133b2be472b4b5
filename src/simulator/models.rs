//! `GET /models`, `GET /models/{id}` and `POST /moderations` (API reference, "Models", "Moderations").

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::Shared;
use super::fault::Fault;
use super::inquiry::Inquiry;
use super::reply::Reply;
use super::router;

/// What the list shows. Other names work as well.
const LISTED: [&str; 10] = [
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-4.1-mini",
    "gpt-5-mini",
    "sim-fast",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "omni-moderation-latest",
    "whisper-1",
    "gpt-image-1",
];
/// A text with this word in it is flagged; no other is.
const FLAG: &str = "sim-flag";
const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];
/// When the listed models came to be: a fixed moment, so that the list never changes.
const CREATED: u64 = 1_735_689_600;

pub(super) fn list() -> Value {
    json!({ "object": "list", "data": LISTED.map(model) })
}

pub(super) fn one(name: &str) -> Result<Reply, Fault> {
    match name {
        "" | "sim-404" => Err(Fault::no_such_model(name).param("model")),
        name => Ok(Reply::json(StatusCode::OK, &model(name))),
    }
}

fn model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": CREATED, "owned_by": "simulated" })
}

pub(super) fn moderation(shared: &Shared, inquiry: &Inquiry) -> Result<Reply, Fault> {
    let body = router::document(inquiry)?;
    let results: Vec<Value> = match body.get("input") {
        None | Some(Value::Null) => return Err(Fault::missing("input")),
        Some(Value::Array(inputs)) if inputs.iter().all(Value::is_string) => inputs.iter().map(judgement).collect(),
        // A list of content parts is one input.
        Some(input) => vec![judgement(input)],
    };
    let model = inquiry.model.as_deref().unwrap_or("omni-moderation-latest");
    let document = json!({ "id": shared.identifier("modr-"), "model": model, "results": results });
    Ok(Reply::json(StatusCode::OK, &document))
}

fn judgement(input: &Value) -> Value {
    let flagged = input.to_string().contains(FLAG);
    let is_hit = |category: &str| flagged && category == "violence";
    let table = |value: &dyn Fn(&str) -> Value| -> Map<String, Value> {
        CATEGORIES.iter().map(|category| ((*category).to_owned(), value(category))).collect()
    };
    json!({
        "flagged": flagged,
        "categories": table(&|category| json!(is_hit(category))),
        "category_scores": table(&|category| json!(if is_hit(category) { 0.98 } else { 0.0001 })),
        "category_applied_input_types": table(&|_| json!(["text"]))
    })
}
