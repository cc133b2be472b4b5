//! Every public path of the data port, one list. Which route a request takes is decided once, here, from the very value that is acted
//! upon; nothing else looks at the path.

use http::Method;
use pingora::http::RequestHeader;

use crate::dialect::{Grammar, Operation};
use crate::error::{Error, Kind, Result};

/// What a path means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A call to a model: read, then sent on as it is or in other words.
    Llm(Inquiry),
    Models,
    Model(Box<str>),
    /// `/api/v1/status`: how what the key may use is doing.
    Status,
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

/// Which call to a model, and what of it stands in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    pub operation: Operation,
    pub in_path: Option<InPath>,
}

/// Gemini's paths say the model and what is wanted: `/v1beta/models/{model}:{action}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPath {
    /// Percent-decoded; may hold slashes.
    pub model: Box<str>,
    pub action: &'static str,
    pub stream: bool,
}

/// Gemini's actions.
const ACTIONS: [(&str, Operation); 5] = [
    ("generateContent", Operation::GenerateContent),
    ("streamGenerateContent", Operation::GenerateContent),
    ("countTokens", Operation::CountContentTokens),
    ("embedContent", Operation::EmbedContent),
    ("batchEmbedContents", Operation::EmbedContent),
];

/// OpenAI paths below `/v1` that are carried without being read, and the methods they know.
const OPAQUE: [(&str, &[Method]); 10] = [
    ("moderations", &[Method::POST]),
    ("images", &[Method::POST]),
    ("audio", &[Method::POST]),
    ("files", &[Method::GET, Method::POST, Method::DELETE]),
    ("uploads", &[Method::POST]),
    ("batches", &[Method::GET, Method::POST]),
    ("responses", &[Method::GET, Method::POST, Method::DELETE]),
    ("conversations", &[Method::GET, Method::POST, Method::DELETE]),
    ("vector_stores", &[Method::GET, Method::POST, Method::DELETE]),
    ("fine_tuning", &[Method::GET, Method::POST]),
];

/// Calls to a model below `/v1`.
const POSTED: [(&str, Operation); 7] = [
    ("chat/completions", Operation::ChatCompletions),
    ("completions", Operation::Completions),
    ("embeddings", Operation::Embeddings),
    ("responses", Operation::Responses),
    ("messages", Operation::Messages),
    ("messages/count_tokens", Operation::CountMessageTokens),
    ("rerank", Operation::Rerank),
];

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
    if path == "/api/v1/status" {
        return allow(method, &[Method::GET, Method::HEAD]).map(|()| Route::Status);
    }
    // SDKs that want a vendor's mount find the same paths below it
    if let Some(rest) = path.strip_prefix("/genai").unwrap_or(path).strip_prefix("/v1beta/") {
        return google(method, rest).unwrap_or_else(|| Err(unknown()));
    }
    if let Some(found) = ["/genai/v1/", "/v1/"].iter().find_map(|v1| path.strip_prefix(v1))
        && found.starts_with("models/")
        && let Some(route) = google(method, found).filter(|route| !matches!(route, Ok(Route::Model(_))))
    {
        return route;
    }
    let mounted = path.strip_prefix("/openai").or_else(|| path.strip_prefix("/anthropic")).unwrap_or(path);
    let rerank = mounted.strip_prefix("/v2/").filter(|rest| *rest == "rerank");
    let path_v1 = mounted.strip_prefix("/v1/").or(rerank).ok_or_else(unknown)?;
    if let Some((_, operation)) = POSTED.iter().find(|(name, _)| *name == path_v1) {
        allow(method, &[Method::POST])?;
        return Ok(Route::Llm(Inquiry { operation: *operation, in_path: None }));
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

/// Gemini's paths, below the API's version: `models`, `models/{model}`, `models/{model}:{action}`.
fn google(method: &Method, rest: &str) -> Option<Result<Route>> {
    if rest == "models" {
        return Some(allow(method, &[Method::GET, Method::HEAD]).map(|()| Route::Models));
    }
    // some SDKs leave the collection out of a name that has a slash of its own
    let (model, action) = match (rest.strip_prefix("models/"), rest.rsplit_once(':')) {
        (Some(below), _) if !below.contains(':') && !below.is_empty() => {
            return Some(allow(method, &[Method::GET, Method::HEAD]).map(|()| Route::Model(below.into())));
        }
        (_, Some((model, action))) => (model.strip_prefix("models/").unwrap_or(model), action),
        (_, None) => return None,
    };
    let (action, operation) = ACTIONS.iter().find(|(name, _)| *name == action).filter(|_| !model.is_empty())?;
    let in_path = InPath { model: decoded(model), action, stream: *action == "streamGenerateContent" };
    Some(allow(method, &[Method::POST]).map(|()| Route::Llm(Inquiry { operation: *operation, in_path: Some(in_path) })))
}

/// Percent-decoded; what is not UTF-8 then is no model's name and is found nowhere.
fn decoded(segment: &str) -> Box<str> {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into()
}

/// In whose words a request is answered, be its path known or not. Where two SDKs share a path, a header tells them apart.
pub fn grammar(head: &RequestHeader) -> Grammar {
    let path = head.uri.path();
    let anthropic = path.starts_with("/anthropic/") || path.starts_with("/v1/messages");
    if anthropic || (path.starts_with("/v1/models") && head.headers.contains_key("anthropic-version")) {
        Grammar::Anthropic
    } else if path.starts_with("/genai/") || path.starts_with("/v1beta/") || path.contains(":generateContent") {
        Grammar::Google
    } else {
        Grammar::OpenAi
    }
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
            Route::Llm(inquiry) => inquiry.operation.name(),
            Route::Models | Route::Model(_) => "models",
            Route::Status => "status",
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
        let llm = |operation| Route::Llm(Inquiry { operation, in_path: None });
        assert_eq!(post("/v1/messages").unwrap(), llm(Operation::Messages));
        assert_eq!(post("/anthropic/v1/messages/count_tokens").unwrap(), llm(Operation::CountMessageTokens));
        assert_eq!(post("/v2/rerank").unwrap(), llm(Operation::Rerank));
        for (path, model, action, stream) in [
            ("/v1beta/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro", "generateContent", false),
            ("/genai/v1beta/models/a%2Fb:streamGenerateContent", "a/b", "streamGenerateContent", true),
            ("/v1/models/gemini/x:y:countTokens", "gemini/x:y", "countTokens", false),
        ] {
            let Route::Llm(Inquiry { in_path: Some(found), .. }) = post(path).unwrap() else { panic!("{path}") };
            assert_eq!(found, InPath { model: model.into(), action, stream }, "{path}");
            assert_eq!(get(path).unwrap_err().kind, Kind::MethodNotAllowed);
        }
        assert_eq!(get("/v1beta/models").unwrap(), Route::Models);
        assert_eq!(post("/v1beta/models/x:explode").unwrap_err().kind, Kind::NotFound);
        assert_eq!(get("/v1/models/ft:gpt-4o:acme").unwrap(), Route::Model("ft:gpt-4o:acme".into()));
        assert_eq!(post("/v1/chat/completions").unwrap(), llm(Operation::ChatCompletions));
        assert_eq!(post("/openai/v1/responses").unwrap(), llm(Operation::Responses));
        assert_eq!(get("/v1/models").unwrap(), Route::Models);
        assert_eq!(get("/api/v1/status").unwrap(), Route::Status);
        assert_eq!(post("/api/v1/status").unwrap_err().kind, Kind::MethodNotAllowed);
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
