//! How a provider is addressed: the path of an operation, and the headers that go with it. No JSON, no I/O.

use std::borrow::Cow;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::snapshot::{Offer, Pattern, Provider};
use crate::dialect::Operation;
use crate::error::{Error, Kind, Result};

/// Anthropic's header of features in trial; its values are separated by commas.
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// A client's `anthropic-beta` values, sorted by whether the provider takes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Betas<'a> {
    pub kept: Vec<&'a str>,
    pub dropped: Vec<&'a str>,
}

/// How the answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Whole,
    Stream,
}

/// Path and query of an operation at this provider.
pub fn target(provider: &Provider, operation: Operation, model: &str, answer: Answer) -> Result<String> {
    let path = provider.offer(model).and_then(|offer| path(offer, operation, answer)).ok_or_else(|| {
        Error::new(
            Kind::Unsupported,
            format!("Provider \"{}\" does not offer {} for this model.", provider.name, operation.name()),
        )
        .param("model")
    })?;
    let mut path = Cow::Borrowed(&**path);
    if path.contains("{model}") {
        path = path.replace("{model}", &encode(model)).into();
    }
    if path.contains("{name}") {
        let name = model.rsplit('/').next().unwrap_or(model);
        path = path.replace("{name}", &encode(name)).into();
    }
    Ok(with_query(provider, path.into_owned()))
}

fn path(offer: &Offer, operation: Operation, answer: Answer) -> Option<&Arc<str>> {
    let whole = offer.paths.get(&operation)?;
    match answer {
        Answer::Whole => Some(whole),
        Answer::Stream => offer.stream_paths.get(&operation).or(Some(whole)),
    }
}

/// A path (with or without a query of its own) below the provider's base URL, with the provider's fixed query.
pub fn join(provider: &Provider, path: &str) -> String {
    with_query(provider, format!("{}{path}", provider.base.path))
}

fn with_query(provider: &Provider, mut target: String) -> String {
    if let Some(query) = &provider.query
        && !has_query(&target, query)
    {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(query);
    }
    target
}

/// Whether the target already names the first parameter of the provider's fixed query.
fn has_query(target: &str, query: &str) -> bool {
    let name = query.split('=').next().unwrap_or_default();
    target.split_once('?').is_some_and(|(_, q)| q.split('&').any(|pair| pair.split('=').next() == Some(name)))
}

/// Headers that belong to the provider's dialect: the client's where it sent them, else the fixed ones. `model`: `None` where it cannot
/// be seen; what the provider takes for any model is sent on then.
pub fn headers(provider: &Provider, model: Option<&str>, client: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let forwarded = provider.forward.iter().filter_map(|name| Some((name.clone(), client.get(name)?.clone())));
    let mut headers: Vec<(HeaderName, HeaderValue)> = forwarded.collect();
    for (name, value) in &provider.default_headers {
        if !headers.iter().any(|(other, _)| other == name) {
            headers.push((name.clone(), value.clone()));
        }
    }
    if client.contains_key(BETA) {
        let kept = match model {
            Some(model) => provider.offer(model).map(|offer| betas(offer, client).kept),
            None => Some(sorted(provider.offers.iter().flat_map(|offer| &offer.betas), client).kept),
        };
        if let Ok(value) = HeaderValue::try_from(kept.unwrap_or_default().join(","))
            && !value.is_empty()
        {
            headers.push((BETA, value));
        }
    }
    headers
}

/// The features in trial that the client asks for, by whether this offer knows them.
pub fn betas<'a>(offer: &Offer, client: &'a HeaderMap) -> Betas<'a> {
    sorted(offer.betas.iter(), client)
}

fn sorted<'a, 'p>(known: impl Iterator<Item = &'p Pattern> + Clone, client: &'a HeaderMap) -> Betas<'a> {
    let mut betas = Betas::default();
    let values = client.get_all(BETA).iter().filter_map(|value| value.to_str().ok());
    for beta in values.flat_map(|value| value.split(',')).map(str::trim).filter(|beta| !beta.is_empty()) {
        if known.clone().any(|pattern| pattern.matches(beta)) {
            betas.kept.push(beta);
        } else {
            betas.dropped.push(beta);
        }
    }
    betas
}

/// Percent-encode everything outside RFC 3986's unreserved characters and `@` (allowed in a segment; Vertex has it in models' names):
/// one path segment stays one.
fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'@') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    // a lone dot segment would be resolved away
    if out == "." || out == ".." { out.replace('.', "%2E") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load_str};

    fn provider(yaml: &str) -> Arc<Provider> {
        let text = format!("providers: {{p: {yaml}}}");
        let checked = load_str("c.yaml", &text, &Environment::of([("AWS_REGION", "eu-west-1")])).unwrap();
        Arc::clone(checked.snapshot().providers.values().next().unwrap())
    }

    fn at(provider: &Provider, operation: Operation, model: &str, answer: Answer) -> String {
        let base = &provider.base;
        format!("{}{}", base.authority.to_str().unwrap(), target(provider, operation, model, answer).unwrap())
    }

    #[test]
    fn a_model_name_stays_one_path_segment() {
        assert_eq!(encode("gpt-4o"), "gpt-4o");
        assert_eq!(encode("a/b?c#d%e\r\n"), "a%2Fb%3Fc%23d%25e%0D%0A");
        assert_eq!(encode(".."), "%2E%2E");
        assert_eq!(encode("claude-3-7-sonnet@20250219"), "claude-3-7-sonnet@20250219");
    }

    #[test]
    fn vertex_has_a_path_for_each_kind_of_model() {
        let vertex = provider("{kind: vertex, project: my-project, location: us-east5}");
        let below = "us-east5-aiplatform.googleapis.com/v1/projects/my-project/locations/us-east5";
        let beta = "us-east5-aiplatform.googleapis.com/v1beta1/projects/my-project/locations/us-east5";
        for (operation, model, answer, wanted) in [
            (
                Operation::GenerateContent,
                "gemini-2.5-pro",
                Answer::Whole,
                format!("{beta}/publishers/google/models/gemini-2.5-pro:generateContent"),
            ),
            (
                Operation::GenerateContent,
                "google/gemini-2.5-pro",
                Answer::Stream,
                format!("{beta}/publishers/google/models/gemini-2.5-pro:streamGenerateContent?alt=sse"),
            ),
            (
                Operation::CountContentTokens,
                "gemini-2.5-pro",
                Answer::Whole,
                format!("{beta}/publishers/google/models/gemini-2.5-pro:countTokens"),
            ),
            (
                Operation::Messages,
                "claude-3-7-sonnet@20250219",
                Answer::Whole,
                format!("{below}/publishers/anthropic/models/claude-3-7-sonnet@20250219:rawPredict"),
            ),
            (
                Operation::Messages,
                "anthropic/claude-opus-4-5",
                Answer::Stream,
                format!("{below}/publishers/anthropic/models/claude-opus-4-5:streamRawPredict"),
            ),
            (
                Operation::CountMessageTokens,
                "claude-opus-4-5",
                Answer::Whole,
                format!("{below}/publishers/anthropic/models/count-tokens:rawPredict"),
            ),
            (
                Operation::GenerateContent,
                "endpoints/1234",
                Answer::Whole,
                format!("{beta}/endpoints/1234:generateContent"),
            ),
            (
                Operation::ChatCompletions,
                "meta/llama-4-maverick",
                Answer::Stream,
                format!("{below}/endpoints/openapi/chat/completions"),
            ),
        ] {
            assert_eq!(at(&vertex, operation, model, answer), wanted, "{model}");
        }
        assert!(target(&vertex, Operation::Messages, "gemini-2.5-pro", Answer::Whole).is_err());
        let manners = |model| &vertex.offer(model).unwrap().manners;
        assert_eq!(manners("claude-opus-4-5").anthropic_version.as_deref(), Some("vertex-2023-10-16"));
        assert!(manners("gemini-2.5-pro").vertex && manners("google/x").vertex && !manners("meta/x").vertex);

        let global = provider("{kind: vertex, project: my-project}");
        let path = at(&global, Operation::GenerateContent, "gemini", Answer::Whole);
        assert!(path.starts_with("aiplatform.googleapis.com/v1beta1/projects/my-project/locations/global/"), "{path}");
        let europe = provider("{kind: vertex, project: my-project, location: eu}");
        assert_eq!(europe.base.authority, "aiplatform.eu.rep.googleapis.com");
        let own = provider("{kind: vertex, project: my-project, base_url: \"http://127.0.0.1:9/x\"}");
        let path = at(&own, Operation::GenerateContent, "gemini", Answer::Whole);
        assert!(path.starts_with("127.0.0.1:9/x/v1beta1/projects/my-project/locations/global/"), "{path}");
    }

    #[test]
    fn bedrock_takes_ids_profiles_and_arns_as_one_segment() {
        let bedrock = provider("{kind: bedrock}");
        let host = "bedrock-runtime.eu-west-1.amazonaws.com";
        let converse = |model, answer| at(&bedrock, Operation::Converse, model, answer);
        let model = "us.anthropic.claude-3-7-sonnet-20250219-v1:0";
        assert_eq!(
            converse(model, Answer::Stream),
            format!("{host}/model/us.anthropic.claude-3-7-sonnet-20250219-v1%3A0/converse-stream")
        );
        let arn =
            "arn:aws:bedrock:us-east-1:012345678901:inference-profile/us.anthropic.claude-3-7-sonnet-20250219-v1:0";
        assert_eq!(
            converse(arn, Answer::Whole),
            format!(
                "{host}/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A012345678901%3Ainference-profile%2F\
                 us.anthropic.claude-3-7-sonnet-20250219-v1%3A0/converse"
            )
        );
        let embed = at(&bedrock, Operation::Invoke, "amazon.titan-embed-text-v2:0", Answer::Whole);
        assert_eq!(embed, format!("{host}/model/amazon.titan-embed-text-v2%3A0/invoke"));
    }

    #[test]
    fn a_path_may_leave_the_base_as_a_relative_link_does() {
        let ollama = provider("{kind: ollama}");
        assert_eq!(at(&ollama, Operation::OllamaEmbed, "m", Answer::Whole), "127.0.0.1:11434/api/embed");
        assert_eq!(at(&ollama, Operation::Embeddings, "m", Answer::Whole), "127.0.0.1:11434/v1/embeddings");
        let behind = provider("{kind: ollama, base_url: https://gpu.example/ollama/v1}");
        assert_eq!(at(&behind, Operation::OllamaEmbed, "m", Answer::Whole), "gpu.example/ollama/api/embed");
        let bare = provider("{kind: ollama, base_url: https://gpu.example}");
        assert_eq!(at(&bare, Operation::OllamaEmbed, "m", Answer::Whole), "gpu.example/api/embed");
        let own =
            provider("{kind: openai, base_url: https://x.example/v1, paths: {messages: \"../anthropic/messages\"}}");
        assert_eq!(at(&own, Operation::Messages, "m", Answer::Stream), "x.example/anthropic/messages");
    }

    #[test]
    fn the_clients_words_of_a_dialect_are_forwarded_where_they_mean_something() {
        let mut client = HeaderMap::new();
        let shown = |provider: &Provider, model: &str, client: &HeaderMap| {
            let model = Some(model).filter(|model| !model.is_empty());
            let headers = headers(provider, model, client);
            headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect::<Vec<_>>()
        };
        let anthropic = provider("{kind: anthropic, api_key: x}");
        assert_eq!(shown(&anthropic, "claude", &client), ["anthropic-version: 2023-06-01"]);
        client.insert("anthropic-version", HeaderValue::from_static("2027-01-01"));
        client.append("anthropic-beta", HeaderValue::from_static("context-1m-2025-08-07, secret-2027"));
        client.append("anthropic-beta", HeaderValue::from_static("web-search-2025-03-05"));
        assert_eq!(
            shown(&anthropic, "claude", &client),
            [
                "anthropic-version: 2027-01-01",
                "anthropic-beta: context-1m-2025-08-07,secret-2027,web-search-2025-03-05"
            ]
        );
        let vertex = provider("{kind: vertex, project: p-1}");
        let claude = "claude-opus-4-5";
        assert_eq!(shown(&vertex, claude, &client), ["anthropic-beta: context-1m-2025-08-07,web-search-2025-03-05"]);
        assert_eq!(betas(vertex.offer(claude).unwrap(), &client).dropped, ["secret-2027"]);
        assert_eq!(shown(&vertex, "gemini", &client), [""; 0]);
        assert_eq!(shown(&vertex, "", &client), shown(&vertex, claude, &client), "whatever the model is");
        let openai = provider("{kind: openai, base_url: https://x.example, betas: [\"*2027\"]}");
        assert_eq!(shown(&openai, "m", &client), ["anthropic-beta: secret-2027"]);
    }

    #[test]
    fn what_a_conversation_is_translated_to_depends_on_whose_address_it_is() {
        let bridge = |yaml| provider(yaml).offers.last().unwrap().bridge.clone();
        let manners = |yaml| provider(yaml).offers.last().unwrap().manners.clone();
        let own = [Operation::Responses, Operation::ChatCompletions];
        let other = [Operation::ChatCompletions, Operation::Responses];
        assert_eq!(bridge("{kind: openai, api_key: x}"), own);
        assert_eq!(bridge("{kind: openai, api_key: x, base_url: https://eu.api.openai.com/v1}"), own);
        assert_eq!(bridge("{kind: openai, base_url: https://x.example/v1}"), other);
        assert_eq!(bridge("{kind: openai, base_url: https://notapi.openai.com.example/v1}"), other);
        assert_eq!(bridge("{kind: azure, api_key: x, base_url: https://x.openai.azure.com}"), own);
        assert_eq!(bridge("{kind: openai, api_key: x, paths: {responses: off}}"), [Operation::ChatCompletions]);
        assert_eq!(bridge("{kind: groq, api_key: x}"), other);
        assert_eq!(bridge("{kind: cohere, api_key: x}"), [Operation::CohereChat]);
        assert_eq!(bridge("{kind: groq, api_key: x, bridge: [responses]}"), [Operation::Responses]);
        assert!(manners("{kind: openai, api_key: x}").developer_role);
        assert!(!manners("{kind: openai, base_url: https://x.example/v1}").developer_role);
        let written = "{kind: openai, base_url: https://x.example/v1, manners: {developer_role: true}}";
        assert!(manners(written).developer_role && !manners(written).max_completion_tokens);
    }
}
