//! A snapshot as JSON, for `GET /api/config` and for `diff`. A secret is a leaf of its own, so that no caller can print one.
//! Models and what belongs to routing are in `routing`, limits and budgets in `quota`.

mod quota;
mod routing;

use http::HeaderName;
use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::condition::{Condition, Match, Rule};
use super::events::{EventsConfig, On, Stream, Webhook};
use super::issuer::{Issuer, KeySource};
use super::keys;
use super::policy::Policy;
use super::secret::Secret;
use super::snapshot::{
    AccessLog, AuthScheme, AwsSource, BaseUrl, Entra, EntraProof, EntraSource, Google, HttpVersion, Key, Keys,
    Listener, LogFormat, Offer, Pattern, Provider, Server, Snapshot, StreamUsage,
};
use super::store::{Counters, Durability, LedgerPlace, StoreConfig};
use super::units::show_duration;
use crate::dialect::{Manners, Operation, ThinkingForm};
use routing::{admission, breaker, loss, model, pool, retry, timeouts};

/// What stands where a secret is.
pub(super) const REDACTED: &str = "[secret]";

/// Everything that is in force, defaults included, without a secret.
pub fn view(snapshot: &Snapshot) -> Json {
    tree(snapshot, &|_| Json::from(REDACTED))
}

/// Member of a leaf that stands for a secret in `comparable`. No key of the configuration holds a control character.
pub(super) const SEALED: &str = "\u{1}secret";

/// The same, but two different secrets are two different leaves: `{SEALED: fingerprint}`. Never leaves `diff`.
pub(super) fn comparable(snapshot: &Snapshot) -> Json {
    // Keyed with this process' own pepper, so that the fingerprint says nothing elsewhere.
    let pepper = keys::process_pepper();
    tree(snapshot, &|secret| json!({ SEALED: hex::encode(keys::hash(&pepper, secret)) }))
}

type Seal<'a> = &'a dyn Fn(&str) -> Json;

fn tree(snapshot: &Snapshot, seal: Seal<'_>) -> Json {
    let Snapshot {
        generation: _,
        loaded_at: _,
        listen,
        admin,
        server,
        log,
        providers,
        opaque,
        models,
        wildcards,
        policy,
        model_order: _,
        rules,
        strict,
        on_loss,
        store,
        events,
        prices,
        unpriced,
        keys,
        quotas,
    } = snapshot;
    // only this part of it can be written at the top
    let Policy { retry: tries, hedge: _, fallback: _, resume: _, disconnect: _, total: _ } = &**policy;
    let access = match &log.access {
        AccessLog::Off => Json::from("off"),
        AccessLog::Stdout => Json::from("stdout"),
        AccessLog::Stderr => Json::from("stderr"),
        AccessLog::File(path) => json!(path.display().to_string()),
    };
    let format = match log.format {
        LogFormat::Auto => "auto",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let mut shown = json!({
        "listen": listen.iter().map(listener).collect::<Map<_, _>>(),
        "admin": {
            "listen": admin.listen.map_or(Json::from("off"), |address| json!(address.to_string())),
            "token": admin.token.as_ref().map(|token| seal(token.expose())),
        },
        "server": limits(server),
        "log": {"access": access, "level": log.level, "format": format},
        "providers": providers.values().map(|p| (p.name.to_string(), provider(p, seal))).collect::<Map<_, _>>(),
        "opaque": {"provider": opaque.as_ref().map(|p| p.name.to_string())},
        "models": models.values().chain(wildcards).map(|m| (m.name.to_string(), model(m))).collect::<Map<_, _>>(),
        "retry": retry(tries),
        "routes": rules.iter().map(rule).collect::<Vec<_>>(),
        "strict": strict,
        "on_loss": loss(*on_loss),
        "store": place(store, seal),
        "events": told(events, seal),
        "prices": {"version": prices.version(), "unpriced": unpriced.word()},
        "keys": virtual_keys(keys, seal),
        "auth": {
            "pepper": seal(keys.pepper.expose()),
            "failures_per_minute": keys.failures_per_minute,
            "keys_stale": show_duration(keys.stale),
            "jwt": keys.issuers.iter().map(|entry| issuer(entry)).collect::<Vec<_>>(),
        },
    });
    if let Json::Object(members) = &mut shown {
        members.extend(quota::quotas(quotas));
    }
    shown
}

fn place(store: &StoreConfig, seal: Seal<'_>) -> Json {
    let StoreConfig { ledger, counters, journal, journal_limit, durability, keep } = store;
    json!({
        "ledger": match ledger {
            LedgerPlace::Off => Json::from("off"),
            LedgerPlace::Sqlite(path) => Json::from(format!("sqlite:{}", path.display())),
            LedgerPlace::Postgres(url) => seal(url.expose()),
        },
        "counters": match counters {
            Counters::Local => Json::from("local"),
            Counters::Redis(url) => seal(url.expose()),
            Counters::RedisCluster(urls) => urls.iter().map(|url| seal(url.expose())).collect(),
        },
        "journal": journal.display().to_string(),
        "journal_limit": journal_limit,
        "durability": match durability {
            Durability::Process => "process",
            Durability::Disk => "disk",
        },
        "keep": format!("{}d", keep.as_secs() / 86_400),
    })
}

fn told(events: &EventsConfig, seal: Seal<'_>) -> Json {
    let EventsConfig { webhook, redis } = events;
    let words = |on: On| on.words().collect::<Vec<_>>();
    json!({
        "webhook": webhook.as_ref().map(|Webhook { url, secret, on }| {
            json!({"url": seal(url.expose()), "secret": seal(secret.expose()), "on": words(*on)})
        }),
        "redis": redis.as_ref().map(|Stream { url, stream, on }| {
            json!({"url": seal(url.expose()), "stream": stream, "on": words(*on)})
        }),
    })
}

fn rule(rule: &Rule) -> Json {
    let Rule { name, matches, when, model } = rule;
    let Match { model: asked, key, header, tag, path } = matches;
    let patterns = |list: &[Pattern]| list.iter().map(Pattern::as_str).map(Json::from).collect::<Vec<_>>();
    json!({
        "name": name,
        "match": {
            "model": patterns(asked),
            "key": patterns(key),
            "header": header.iter().map(|(name, list)| (name.to_string(), patterns(list).into())).collect::<Map<_, _>>(),
            "tag": tag.iter().map(|(tag, list)| (tag.to_string(), patterns(list).into())).collect::<Map<_, _>>(),
            "path": patterns(path),
        },
        "when": when.as_ref().map(Condition::as_str),
        "model": model.as_str(),
    })
}

fn listener(listener: &Listener) -> (String, Json) {
    let tls = listener.tls.as_ref().map(|tls| {
        json!({
            "cert": tls.cert.display().to_string(),
            "key": tls.key.display().to_string(),
            "client_ca": tls.client_ca.as_ref().map(|path| path.display().to_string()),
        })
    });
    (listener.address.to_string(), json!({"tls": tls}))
}

fn limits(server: &Server) -> Json {
    let Server {
        threads,
        body_limit,
        buffer_limit,
        connections,
        connections_per_address,
        first_byte_timeout,
        header_timeout,
        body_timeout,
        body_min_rate,
        write_timeout,
        keepalive_timeout,
        connection_age,
        drain_timeout,
        heartbeat,
        trusted_proxies,
        hosts,
        upgrade_socket,
    } = server;
    json!({
        "threads": threads,
        "body_limit": body_limit,
        "buffer_limit": buffer_limit,
        "connections": connections,
        "connections_per_address": connections_per_address,
        "first_byte_timeout": show_duration(*first_byte_timeout),
        "header_timeout": show_duration(*header_timeout),
        "body_timeout": show_duration(*body_timeout),
        "body_min_rate": body_min_rate,
        "write_timeout": show_duration(*write_timeout),
        "keepalive_timeout": show_duration(*keepalive_timeout),
        "connection_age": show_duration(*connection_age),
        "drain_timeout": show_duration(*drain_timeout),
        "heartbeat": show_duration(*heartbeat),
        "trusted_proxies": trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "hosts": hosts,
        "upgrade_socket": upgrade_socket.display().to_string(),
    })
}

fn provider(provider: &Provider, seal: Seal<'_>) -> Json {
    let Provider {
        name: _,
        kind,
        base,
        auth,
        credential,
        credential_header: _,
        offers,
        query,
        headers,
        default_headers: _,
        forward: _,
        stream_usage,
        http,
        ca,
        proxy,
        timeouts: deadlines,
        breaker: own_breaker,
        admission: limits,
        pool: endpoints,
        account: _,
        accounts,
        at_vendor: _,
        missing_env,
        pool_key: _,
    } = provider;
    let key = |credential: &Option<Secret>| credential.as_ref().map(|key| seal(key.expose()));
    let mut shown = json!({
        "kind": kind,
        "auth": who_asks(auth, seal),
        "query": query,
        "headers": headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), seal(&String::from_utf8_lossy(value.as_bytes())))
        }).collect::<Map<_, _>>(),
        "stream_usage": match stream_usage {
            StreamUsage::Ask => "ask",
            StreamUsage::Always => "always",
            StreamUsage::Never => "never",
        },
        "http": match http {
            HttpVersion::Http1 => "1",
            HttpVersion::Http2 => "2",
            HttpVersion::Auto => "auto",
        },
        // Public, but long: enough to see that it changed.
        "ca": ca.as_ref().map(|pem| format!("sha256:{}", hex::encode(Sha256::digest(pem)))),
        "proxy": proxy.as_ref().map(|proxy| json!({
            "address": if proxy.host.contains(':') { format!("[{}]:{}", proxy.host, proxy.port) } else { format!("{}:{}", proxy.host, proxy.port) },
            "authorization": proxy.authorization.as_ref().map(|secret: &Secret| seal(secret.expose())),
        })),
        "timeouts": timeouts(deadlines),
        "breaker": breaker(own_breaker),
        "missing_env": missing_env,
    });
    let Json::Object(members) = &mut shown else { return shown };
    members.extend(admission(limits));
    match endpoints {
        Some(endpoints) => members.extend(pool(endpoints, |endpoint| url(&endpoint.base))),
        None => drop(members.insert("base_url".to_owned(), json!(url(base)))),
    }
    match accounts.as_slice() {
        [] => members.insert("api_key".to_owned(), json!(key(credential))),
        others => {
            let others = others.iter().map(|other| key(&other.credential));
            members.insert("api_keys".to_owned(), std::iter::once(key(credential)).chain(others).collect())
        }
    };
    if let Some((last, some)) = offers.split_last() {
        members.extend(offer(last));
        if !some.is_empty() {
            let patterns = |o: &Offer| o.models.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ");
            members.insert("models".to_owned(), some.iter().map(|o| (patterns(o), Json::Object(offer(o)))).collect());
        }
    }
    shown
}

fn url(base: &BaseUrl) -> String {
    let scheme = if base.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", base.authority.to_str().unwrap_or_default(), base.path)
}

/// As the entry would have to be written, without the places of secrets.
fn who_asks(auth: &AuthScheme, seal: Seal<'_>) -> Json {
    match auth {
        AuthScheme::Bearer => json!("bearer"),
        AuthScheme::Header(name) => json!({"header": name.as_str()}),
        AuthScheme::None => json!("none"),
        AuthScheme::Aws(aws) => {
            let mut shown = match &aws.source {
                AwsSource::Keys { access_key_id, secret_access_key, session_token } => json!({
                    "access_key_id": seal(access_key_id.expose()),
                    "secret_access_key": seal(secret_access_key.expose()),
                    "session_token": session_token.as_ref().map(|token| seal(token.expose())),
                }),
                AwsSource::Profile(name) => json!({"profile": name}),
                AwsSource::Chain => json!({"credentials": "chain"}),
            };
            shown["region"] = json!(aws.region);
            json!({"aws": shown})
        }
        AuthScheme::Google(Google::Key(key)) => json!({"google": {"credentials": seal(key.expose())}}),
        AuthScheme::Google(Google::Default) => json!({"google": {"credentials": "default"}}),
        AuthScheme::Entra(Entra { scope, source }) => {
            let mut shown = match source {
                EntraSource::Application { token_url, client_id, proof } => json!({
                    "token_url": token_url,
                    "client_id": client_id,
                    "proof": match proof {
                        EntraProof::Secret(secret) => seal(secret.expose()),
                        EntraProof::TokenFile(path) => json!(path.display().to_string()),
                    },
                }),
                EntraSource::ManagedIdentity { client_id } => {
                    json!({"identity": "managed_identity", "client_id": client_id})
                }
            };
            shown["scope"] = json!(scope);
            json!({"entra": shown})
        }
    }
}

fn offer(offer: &Offer) -> Map<String, Json> {
    let Offer { models: _, paths, stream_paths, bridge, manners, betas } = offer;
    let Manners {
        max_completion_tokens,
        developer_role,
        no_json_schema,
        cache_control,
        reasoning_object,
        thinking,
        anthropic_version,
        vertex,
        region: _,
    } = manners;
    let thinking = match thinking {
        ThinkingForm::ReasoningContent => "reasoning_content",
        ThinkingForm::Reasoning => "reasoning",
        ThinkingForm::Parts => "parts",
        ThinkingForm::Nowhere => "nowhere",
    };
    let by_name = |paths: &std::collections::BTreeMap<Operation, std::sync::Arc<str>>| {
        paths.iter().map(|(operation, path)| (operation.name().to_owned(), json!(path))).collect::<Map<_, _>>()
    };
    let manners = json!({
        "max_completion_tokens": max_completion_tokens,
        "developer_role": developer_role,
        "no_json_schema": no_json_schema,
        "cache_control": cache_control,
        "reasoning_object": reasoning_object,
        "thinking": thinking,
        "anthropic_version": anthropic_version,
        "vertex": vertex,
    });
    Map::from_iter([
        ("paths".to_owned(), Json::Object(by_name(paths))),
        ("stream_paths".to_owned(), Json::Object(by_name(stream_paths))),
        ("bridge".to_owned(), json!(bridge.iter().map(|o| o.name()).collect::<Vec<_>>())),
        ("manners".to_owned(), manners),
        ("betas".to_owned(), json!(betas.iter().map(|p| p.as_str()).collect::<Vec<_>>())),
    ])
}

fn issuer(issuer: &Issuer) -> Json {
    let Issuer {
        name,
        source: KeySource { issuer, jwks },
        audiences,
        algorithms,
        header,
        caller,
        claims,
        tags,
        required,
        models,
        models_claim,
        opaque,
        weight,
        own,
        leeway,
        refresh,
        stale,
    } = issuer;
    let patterns = |list: &[Pattern]| list.iter().map(Pattern::as_str).map(Json::from).collect::<Vec<_>>();
    let mut shown = json!({
        "name": name,
        "issuer": issuer,
        "audience": audiences,
        "jwks_url": jwks,
        "algorithms": algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect::<Vec<_>>(),
        "header": header.as_ref().map(HeaderName::as_str),
        "caller": caller.as_str(),
        "claims": claims.iter().map(|(tag, claim)| (tag.to_string(), json!(claim.as_str()))).collect::<Map<_, _>>(),
        "tags": tags.iter().map(|(tag, value)| (tag.to_string(), json!(value))).collect::<Map<_, _>>(),
        "required": required.iter().map(|(claim, list)| (claim.as_str().to_owned(), patterns(list).into())).collect::<Map<_, _>>(),
        "models": models.as_deref().map(patterns),
        "models_claim": models_claim.as_ref().map(|claim| claim.as_str()),
        "opaque": opaque,
        "weight": weight,
        "leeway": show_duration(*leeway),
        "refresh": show_duration(*refresh),
        "stale": show_duration(*stale),
    });
    if let Json::Object(members) = &mut shown {
        members.extend(quota::own(own.as_deref()));
    }
    shown
}

fn virtual_keys(keys: &Keys, seal: Seal<'_>) -> Map<String, Json> {
    let one = |(hash, key): (&[u8; 32], &std::sync::Arc<Key>)| {
        let Key { name, models, opaque, weight, revoked, expires, tags, request_tags, own } = &**key;
        let mut value = json!({
            "key": seal(&hex::encode(hash)),
            "models": models.as_ref().map(|patterns| patterns.iter().map(|p| p.as_str()).collect::<Vec<_>>()),
            "opaque": opaque,
            "weight": weight,
            "revoked": revoked,
            "expires": expires.map(|time| time.to_string()),
            "tags": tags.iter().map(|(tag, value)| (tag.to_string(), json!(value))).collect::<Map<_, _>>(),
            "request_tags": request_tags.as_ref().map(|names| names.iter().map(|p| p.as_str()).collect::<Vec<_>>()),
        });
        if let Json::Object(members) = &mut value {
            members.extend(quota::own(own.as_deref()));
        }
        (name.to_string(), value)
    };
    keys.by_hash.iter().map(one).collect()
}
