//! Where events go.

use super::Checker;
use crate::config::Secret;
use crate::config::events::{EventsConfig, On, STREAM, Stream, Webhook};
use crate::config::raw::{self, At, EventKind};

/// A shorter secret could be found by trying.
const SHORTEST_SECRET: usize = 16;

impl Checker<'_> {
    pub(super) fn events(&mut self, typed: raw::Events) -> EventsConfig {
        EventsConfig {
            webhook: typed.webhook.and_then(|at| self.webhook(at)),
            redis: typed.redis.and_then(|at| self.stream(at)),
        }
    }

    fn webhook(&mut self, at: At<raw::EventsWebhook>) -> Option<Webhook> {
        let raw::EventsWebhook { url, secret, on } = at.value;
        let (Some(url), Some(secret)) = (url, secret) else {
            let message = "events.webhook: write {url: https://.., secret: \"${EVENTS_SECRET}\"}";
            self.faults.missing(at.place, "events.webhook", message);
            return None;
        };
        let there = self.is_url(&url, "events.webhook.url", &["https", "http"], "write \"https://HOST/PATH\"");
        if secret.value.expose().len() < SHORTEST_SECRET {
            let message = format!("events.webhook.secret: is too short: write {SHORTEST_SECRET} characters or more");
            self.faults.wrong(secret.place, "events.webhook.secret", message);
            return None;
        }
        there.then(|| Webhook { url: url.value, secret: secret.value, on: kinds(on) })
    }

    fn stream(&mut self, at: At<raw::EventsRedis>) -> Option<Stream> {
        let raw::EventsRedis { url, stream, on } = at.value;
        let Some(url) = url else {
            self.faults.missing(at.place, "events.redis", "events.redis: write {url: redis://HOST:6379}");
            return None;
        };
        let there = self.is_url(&url, "events.redis.url", &["redis", "rediss"], "write \"redis://HOST:6379\"");
        let stream = match stream {
            Some(at) if at.value.is_empty() || at.value.len() > 256 => {
                let message = "events.redis.stream: is no key: write for example tollgate:events";
                self.faults.wrong(at.place, "events.redis.stream", message);
                return None;
            }
            Some(at) => at.value,
            None => STREAM.to_owned(),
        };
        there.then(|| Stream { url: url.value, stream, on: kinds(on) })
    }

    /// It is not quoted: it may hold a password.
    fn is_url(&mut self, at: &At<Secret>, path: &str, schemes: &[&str], write: &str) -> bool {
        let url = url::Url::parse(at.value.expose());
        let fit = url.is_ok_and(|url| schemes.contains(&url.scheme()) && url.host_str().is_some_and(|h| !h.is_empty()));
        if !fit {
            self.faults.wrong(at.place, path, format!("{path}: is no URL for it: {write}"));
        }
        fit
    }
}

fn kinds(on: Option<Vec<EventKind>>) -> On {
    let on = on.unwrap_or_else(|| vec![EventKind::Budget]);
    On { budget: on.contains(&EventKind::Budget), cost: on.contains(&EventKind::Cost) }
}
