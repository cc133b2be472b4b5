//! `/files` and `/batches` (API reference, "Files", "Batch"). Files are kept in memory, bounded, the oldest going first. A batch is
//! taken in and never run.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::fault::Fault;
use super::inquiry::Inquiry;
use super::reply::Reply;
use super::{Shared, now, router};

const MOST_FILES: usize = 1_000;
const MOST_BYTES: usize = 1 << 30;
const MOST_BATCHES: usize = 1_000;

/// What was uploaded and ordered.
#[derive(Debug, Default)]
pub(super) struct Cabinet {
    drawers: Mutex<Drawers>,
}

#[derive(Debug, Default)]
struct Drawers {
    files: VecDeque<File>,
    batches: VecDeque<Value>,
}

#[derive(Debug)]
struct File {
    document: Value,
    content: Bytes,
}

pub(super) fn upload(shared: &Shared, inquiry: &Inquiry) -> Result<Reply, Fault> {
    let fields = router::document(inquiry)?;
    let upload = inquiry.upload.as_ref().ok_or_else(|| Fault::bad("'file' is a required property").param("file"))?;
    let purpose = fields.get("purpose").and_then(Value::as_str);
    let purpose = purpose.ok_or_else(|| Fault::bad("'purpose' is a required property").param("purpose"))?;
    let document = json!({
        "id": shared.identifier("file-"),
        "object": "file",
        "bytes": upload.content.len(),
        "created_at": now(),
        "expires_at": null,
        "filename": upload.filename,
        "purpose": purpose,
        "status": "processed",
        "status_details": null
    });
    shared.files.store(File { document: document.clone(), content: upload.content.clone() });
    Ok(ok(&document))
}

pub(super) fn batch(shared: &Shared, inquiry: &Inquiry) -> Result<Reply, Fault> {
    let body = router::document(inquiry)?;
    let wanted = |name: &str| match body.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) if !other.is_null() => Err(Fault::wrong_type(name, "a string", other)),
        Some(_) | None => Err(Fault::missing(name)),
    };
    let input = wanted("input_file_id")?;
    if shared.files.one(&input).is_err() {
        return Err(Fault::bad(format!("File with ID '{input}' not found.")).param("input_file_id"));
    }
    let created = now();
    let document = json!({
        "id": shared.identifier("batch_"),
        "object": "batch",
        "endpoint": wanted("endpoint")?,
        "errors": null,
        "input_file_id": input,
        "completion_window": wanted("completion_window")?,
        "status": "validating",
        "output_file_id": null,
        "error_file_id": null,
        "created_at": created,
        "expires_at": created + 86_400,
        "request_counts": { "total": 0, "completed": 0, "failed": 0 },
        "metadata": body.get("metadata").cloned().unwrap_or_default()
    });
    let mut drawers = shared.files.open();
    drawers.batches.push_back(document.clone());
    if drawers.batches.len() > MOST_BATCHES {
        drawers.batches.pop_front();
    }
    Ok(ok(&document))
}

// === impl Cabinet ===

impl Cabinet {
    pub(super) fn list(&self) -> Reply {
        ok(&listed(self.open().files.iter().map(|file| &file.document)))
    }

    pub(super) fn one(&self, id: &str) -> Result<Reply, Fault> {
        self.find(id, |file| ok(&file.document))
    }

    pub(super) fn content(&self, id: &str) -> Result<Reply, Fault> {
        self.find(id, |file| Reply::whole(StatusCode::OK, "application/octet-stream", file.content.clone()))
    }

    pub(super) fn delete(&self, id: &str) -> Result<Reply, Fault> {
        self.one(id)?;
        self.open().files.retain(|file| !named(&file.document, id));
        Ok(ok(&json!({ "id": id, "object": "file", "deleted": true })))
    }

    pub(super) fn batches(&self) -> Reply {
        ok(&listed(self.open().batches.iter()))
    }

    pub(super) fn one_batch(&self, id: &str) -> Result<Reply, Fault> {
        let drawers = self.open();
        let batch = drawers.batches.iter().find(|batch| named(batch, id));
        batch.map(ok).ok_or_else(|| Fault::no_such("batch", id))
    }

    pub(super) fn cancel_batch(&self, id: &str) -> Result<Reply, Fault> {
        let mut drawers = self.open();
        let batch =
            drawers.batches.iter_mut().find(|batch| named(batch, id)).ok_or_else(|| Fault::no_such("batch", id))?;
        batch["status"] = json!("cancelling");
        batch["cancelling_at"] = json!(now());
        Ok(ok(batch))
    }

    fn store(&self, file: File) {
        let files = &mut self.open().files;
        files.push_back(file);
        while files.len() > MOST_FILES || files.iter().map(|file| file.content.len()).sum::<usize>() > MOST_BYTES {
            files.pop_front();
        }
    }

    fn find(&self, id: &str, show: impl FnOnce(&File) -> Reply) -> Result<Reply, Fault> {
        let drawers = self.open();
        drawers.files.iter().find(|file| named(&file.document, id)).map(show).ok_or_else(|| Fault::no_such("File", id))
    }

    fn open(&self) -> MutexGuard<'_, Drawers> {
        self.drawers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ok(document: &Value) -> Reply {
    Reply::json(StatusCode::OK, document)
}

fn named(document: &Value, id: &str) -> bool {
    document.get("id").and_then(Value::as_str) == Some(id)
}

/// A page of everything, newest first.
fn listed<'a>(documents: impl DoubleEndedIterator<Item = &'a Value>) -> Value {
    let data: Vec<&Value> = documents.rev().collect();
    let id = |document: Option<&&Value>| document.and_then(|document| document.get("id")).cloned();
    json!({ "object": "list", "data": data, "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false })
}
