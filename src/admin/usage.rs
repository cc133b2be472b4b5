//! What was spent, for whoever asks: sums, one call's arithmetic, rows as text, budgets, prices, and a period at other prices. How a question is
//! read and what is told of it: `report`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use futures_util::stream::once;
use serde_json::json;

use super::{Admin, problem};
use crate::config::prices::{self, Prices};
use crate::report::{self, Budgets, ask};
use crate::store::query::{Dimension, Format, Period};
use crate::store::{Reader, StoreError};

/// What was settled a moment ago gets so long to reach the database, so that it is counted.
const CATCH_UP: Duration = Duration::from_secs(1);
/// LiteLLM's file has 2 MB.
const PRICES: usize = 32 << 20;

/// What a query string holds; what is not known there is refused, since a filter with a slip of the pen would tell too much.
#[derive(Debug, Default)]
struct Query {
    by: Vec<Dimension>,
    since: Option<String>,
    until: Option<String>,
    filter: Vec<String>,
    format: Option<String>,
    name: Option<String>,
}

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/api/usage", get(usage))
        .route("/api/usage/calls/{id}", get(call))
        .route("/api/usage/export", get(export))
        .route("/api/usage/reprice", post(reprice))
        .route("/api/budgets", get(async |State(admin): State<Admin>| Json(Budgets::of(&admin.shared.quotas))))
        .route("/api/prices", get(async |State(admin): State<Admin>| Json(prices::overview(&admin.shared.live.load()))))
}

/// `?by=model,key&since=7d&until=..&filter=team:search&format=json|csv`
async fn usage(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Response> {
    let query = Query::read(query.as_deref(), &["by", "since", "until", "filter", "format"])?;
    let csv = query.format(&["json", "csv"])? == "csv";
    let reader = reader(&admin).await?;
    let behind = admin.shared.ledger.health().behind;
    let period = query.period()?;
    let usage = report::usage(&reader, query.by, period, behind).await.map_err(unanswered)?;
    Ok(if csv { text("text/csv; charset=utf-8", Body::from(usage.csv())) } else { Json(usage).into_response() })
}

async fn call(State(admin): State<Admin>, Path(id): Path<String>) -> Result<Response, Response> {
    let reader = reader(&admin).await?;
    match report::explain(&reader, &id).await.map_err(unanswered)? {
        Some(explained) => Ok(Json(explained).into_response()),
        None => Err(problem(StatusCode::NOT_FOUND, "no call has this id: it is the x-request-id of its answer")),
    }
}

/// `?format=csv|jsonl&since=..&until=..&filter=..`: a row per attempt, as they are read.
async fn export(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Result<Response, Response> {
    let query = Query::read(query.as_deref(), &["since", "until", "filter", "format"])?;
    let (format, kind) = match query.format(&["jsonl", "csv"])? {
        "csv" => (Format::Csv, "text/csv; charset=utf-8"),
        _ => (Format::JsonLines, "application/x-ndjson"),
    };
    let reader = reader(&admin).await?;
    let mut rows = Box::pin(reader.export(query.period()?, format));
    // while there still is a status to tell it with
    let first = rows.next().await.unwrap_or(Ok(String::new())).map_err(unanswered)?;
    Ok(text(kind, Body::from_stream(once(async { Ok(first) }).chain(rows))))
}

/// A file of prices, and what calls would have cost by it.
async fn reprice(
    State(admin): State<Admin>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Response> {
    let query = Query::read(query.as_deref(), &["since", "until", "filter", "name"])?;
    let period = query.period()?;
    let Ok(file) = axum::body::to_bytes(request.into_body(), PRICES).await else {
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "the file is too large, or was broken off"));
    };
    let name = query.name.unwrap_or_else(|| "prices".to_owned());
    let prices = match tokio::task::spawn_blocking(move || Prices::of(&file, &name)).await {
        Ok(Ok(prices)) => prices,
        Ok(Err(errors)) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let told = Json(json!({ "error": "the prices cannot be used", "errors": errors }));
            return Err((StatusCode::UNPROCESSABLE_ENTITY, told).into_response());
        }
        Err(_) => return Err(problem(StatusCode::INTERNAL_SERVER_ERROR, "the prices could not be read")),
    };
    let reader = reader(&admin).await?;
    let snapshot = admin.shared.live.load();
    let tariff = |provider: &str, model: &str| prices.of_provider(snapshot.providers.get(provider), provider, model);
    let repriced = report::reprice(&reader, period, prices.version(), tariff).await.map_err(unanswered)?;
    Ok(Json(repriced).into_response())
}

async fn reader(admin: &Admin) -> Result<Reader, Response> {
    let reader = admin.shared.ledger.reader().map_err(unanswered)?;
    admin.shared.ledger.flush(CATCH_UP).await;
    Ok(reader)
}

fn unanswered(error: StoreError) -> Response {
    let status = match error {
        StoreError::Off => StatusCode::CONFLICT,
        StoreError::Unavailable(_) | StoreError::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Timeout => StatusCode::GATEWAY_TIMEOUT,
    };
    problem(status, &error.to_string())
}

fn text(kind: &'static str, body: Body) -> Response {
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

fn misread(why: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, why)
}

// === impl Query ===

#[expect(clippy::result_large_err, reason = "an answer to somebody who misspelled something")]
impl Query {
    fn read(text: Option<&str>, known: &[&str]) -> Result<Query, Response> {
        let mut query = Query::default();
        for (name, value) in url::form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                return Err(misread(&format!("unknown parameter: write {}", known.join(", "))));
            }
            let value = value.into_owned();
            match &*name {
                "by" => query.by = ask::by(&value).map_err(|why| misread(&why))?,
                "since" => query.since = Some(value),
                "until" => query.until = Some(value),
                "filter" => query.filter.push(value),
                "format" => query.format = Some(value),
                _ => query.name = Some(value),
            }
        }
        Ok(query)
    }

    fn period(&self) -> Result<Period, Response> {
        let (since, until) = (self.since.as_deref(), self.until.as_deref());
        ask::period(since, until, &self.filter, jiff::Timestamp::now()).map_err(|why| misread(&why))
    }

    /// The first of them where none is named.
    fn format<'a>(&self, known: &[&'a str]) -> Result<&'a str, Response> {
        let named = self.format.as_deref();
        let found = known.iter().find(|known| named.is_none_or(|named| named == **known));
        found.copied().ok_or_else(|| misread(&format!("format: write {}", known.join(" or "))))
    }
}
