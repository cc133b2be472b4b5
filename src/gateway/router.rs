//! Every public path of the data port, one list. Which route a request takes is decided once, here, from the very value that is acted
//! upon; nothing else looks at the path.

use http::Method;

use crate::dialect::Operation;
use crate::error::{Error, Kind, Result};

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Read, patched, sent: the splice lane.
    Llm(Operation),
    Models,
    Model(Box<str>),
    /// The OpenAI API's other paths, below the provider's base URL. `path` starts with a slash.
    Opaque {
        path: Box<str>,
        family: &'static str,
    },
    /// The realtime API: a WebSocket.
    Realtime,
    /// `/raw/{provider}/...`: any path of one provider.
    Raw {
        provider: Box<str>,
        path: Box<str>,
    },
}

/// OpenAI paths below `/v1` that are carried without being read, and the methods they know.
const OPAQUE: [(&str, &[Method]); 11] = [
    ("moderations", &[Method::POST]),
    ("images", &[Method::POST]),
    ("audio", &[Method::POST]),
    ("rerank", &[Method::POST]),
    ("files", &[Method::GET, Method::POST, Method::DELETE]),
    ("uploads", &[Method::POST]),
    ("batches", &[Method::GET, Method::POST]),
    ("responses", &[Method::GET, Method::POST, Method::DELETE]),
    ("conversations", &[Method::GET, Method::POST, Method::DELETE]),
    ("vector_stores", &[Method::GET, Method::POST, Method::DELETE]),
    ("fine_tuning", &[Method::GET, Method::POST]),
];

const OPENAI: [Operation; 4] =
    [Operation::ChatCompletions, Operation::Completions, Operation::Embeddings, Operation::Responses];

const RAW_METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The route of a path (already checked by `front`) and method.
pub fn route(method: &Method, path: &str) -> Result<Route> {
    let unknown =
        || Error::new(Kind::NotFound, format!("Unknown request URL: {method} {path}. Please check the URL for typos."));
    if let Some(rest) = path.strip_prefix("/raw/") {
        let (provider, rest) = rest.split_once('/').ok_or_else(unknown)?;
        if provider.is_empty() {
            return Err(unknown());
        }
        allow(method, &RAW_METHODS)?;
        return Ok(Route::Raw { provider: provider.into(), path: format!("/{rest}").into() });
    }
    // SDKs that want a vendor's mount find the same paths below `/openai`
    let path_v1 = path.strip_prefix("/openai").unwrap_or(path).strip_prefix("/v1/").ok_or_else(unknown)?;
    if let Some(operation) = OPENAI.into_iter().find(|o| o.path()[1..] == *path_v1) {
        allow(method, &[Method::POST])?;
        return Ok(Route::Llm(operation));
    }
    if path_v1 == "models" {
        allow(method, &[Method::GET, Method::HEAD])?;
        return Ok(Route::Models);
    }
    if let Some(model) = path_v1.strip_prefix("models/").filter(|m| !m.is_empty()) {
        allow(method, &[Method::GET, Method::HEAD])?;
        return Ok(Route::Model(model.into()));
    }
    if path_v1 == "realtime" {
        allow(method, &[Method::GET])?;
        return Ok(Route::Realtime);
    }
    // an empty last segment could be another spelling of a path that is metered
    if path_v1.ends_with('/') {
        return Err(unknown());
    }
    let family = path_v1.split('/').next().unwrap_or_default();
    let (family, methods) = OPAQUE.iter().find(|(name, _)| *name == family).ok_or_else(unknown)?;
    allow(method, methods)?;
    Ok(Route::Opaque { path: format!("/{path_v1}").into(), family })
}

fn allow(method: &Method, methods: &[Method]) -> Result<()> {
    if methods.contains(method) {
        return Ok(());
    }
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    Err(Error::new(Kind::MethodNotAllowed, format!("Method {method} is not allowed here; use {}.", names.join(" or "))))
}

/// The methods a path knows, for `Allow` (RFC 9110 10.2.1).
pub fn allowed(path: &str) -> String {
    let all = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let known: Vec<&str> = all.iter().filter(|m| route(m, path).is_ok()).map(Method::as_str).collect();
    known.join(", ")
}

// === impl Route ===

impl Route {
    /// Log field and metric label: a closed set.
    pub fn name(&self) -> &'static str {
        match self {
            Route::Llm(operation) => operation.name(),
            Route::Models | Route::Model(_) => "models",
            Route::Opaque { family, .. } => family,
            Route::Realtime => "realtime",
            Route::Raw { .. } => "raw",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_they_say() {
        let get = |p| route(&Method::GET, p);
        let post = |p| route(&Method::POST, p);
        assert_eq!(post("/v1/chat/completions").unwrap(), Route::Llm(Operation::ChatCompletions));
        assert_eq!(post("/openai/v1/responses").unwrap(), Route::Llm(Operation::Responses));
        assert_eq!(get("/v1/models").unwrap(), Route::Models);
        assert_eq!(get("/v1/models/a/b").unwrap(), Route::Model("a/b".into()));
        assert_eq!(get("/v1/files/f/content").unwrap().name(), "files");
        assert_eq!(get("/v1/realtime").unwrap(), Route::Realtime);
        assert_eq!(
            route(&Method::PUT, "/raw/local/x/y").unwrap(),
            Route::Raw { provider: "local".into(), path: "/x/y".into() }
        );
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v2/chat/completions",
            "/v1/chat",
            "/v1/chat/completion",
            "/admin",
            "/raw/x",
            "/V1/models",
            "/v1/chat/completions/",
        ] {
            assert_eq!(post(path).unwrap_err().kind, Kind::NotFound, "{path}");
        }
        assert_eq!(get("/v1/embeddings").unwrap_err().kind, Kind::MethodNotAllowed);
        assert_eq!(route(&Method::TRACE, "/v1/models").unwrap_err().kind, Kind::MethodNotAllowed);
    }
}
