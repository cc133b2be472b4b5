//! `auth.jwt`: whose tokens are taken, and what their claims mean.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::Checker;
use super::quota::Owns;
use crate::config::error::{Place, quote};
use crate::config::issuer::{ALGORITHMS, BadAddress, ClaimPath, Issuer, KeySource, fetchable};
use crate::config::raw::{self, At, Map, OneOrMany};
use crate::config::snapshot::Pattern;
use crate::config::units::show_duration;

/// Clocks that are further apart are wrong, and every minute of it is one in which a token outlives its end.
const MOST_LEEWAY: Duration = Duration::from_secs(300);
const LEAST_REFRESH: Duration = Duration::from_secs(10);
const MOST_REFRESH: Duration = Duration::from_secs(24 * 3600);
const MOST_STALE: Duration = Duration::from_secs(30 * 24 * 3600);

impl Checker<'_> {
    pub(super) fn issuers(&mut self, typed: Vec<At<raw::Jwt>>, owns: &mut Owns) -> Vec<Arc<Issuer>> {
        let mut names: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        let mut issuers = Vec::with_capacity(typed.len());
        for (index, entry) in typed.into_iter().enumerate() {
            let path = format!("auth.jwt[{index}]");
            let place = entry.place;
            let Some(issuer) = self.issuer(entry.value, place, &path, owns) else { continue };
            let owner = names.entry(Arc::clone(&issuer.name)).or_insert_with(|| Arc::clone(&issuer.source.issuer));
            if *owner != issuer.source.issuer {
                let message = format!(
                    "{path}: another issuer is called {} too, so their callers could not be told apart: give it a \"name\" of \
                     its own",
                    quote(&issuer.name)
                );
                self.faults.wrong(place, &path, message);
            }
            issuers.push(Arc::new(issuer));
        }
        issuers
    }

    fn issuer(&mut self, typed: raw::Jwt, place: Place, path: &str, owns: &mut Owns) -> Option<Issuer> {
        // what is missing has been told
        let at = typed.issuer.as_ref()?;
        let name = self.issuer_name(&typed, at, path);
        let source = self.key_source(at, typed.jwks_url.as_ref(), path);
        let audiences = self.audiences(typed.audience, place, path);
        let algorithms = self.algorithms(typed.algorithms, place, path);
        let header = typed.header.and_then(|at| self.token_header(&at, path));
        let caller = typed.caller.and_then(|at| self.claim(&at, &format!("{path}.caller")));
        let claims = self.claims(typed.claims.unwrap_or_default(), path);
        let tags: Vec<_> =
            typed.tags.unwrap_or_default().0.into_iter().map(|(tag, value)| self.tag(tag, value, path)).collect();
        if let Some((tag, _)) = tags.iter().find(|(tag, _)| claims.iter().any(|(other, _)| other == tag)) {
            let message = format!("{path}: the tag {} is in \"tags\" and in \"claims\": remove one", quote(tag));
            self.faults.wrong(place, path, message);
        }
        let required = self.required(typed.required.unwrap_or_default(), path);
        let models: Option<Vec<Pattern>> =
            typed.models.map(|list| list.iter().filter_map(|at| self.pattern(at, path)).collect());
        let models_claim = typed.models_claim.and_then(|at| self.claim(&at, &format!("{path}.models_claim")));
        let own = self.own(typed.limits, typed.budget, typed.caps, path, owns);
        let leeway = self.within(typed.leeway, 60, Duration::ZERO, MOST_LEEWAY, &format!("{path}.leeway"));
        let refresh = self.within(typed.refresh, 600, LEAST_REFRESH, MOST_REFRESH, &format!("{path}.refresh"));
        // no shorter than the way to the next refresh
        let stale = self.within(typed.stale, 24 * 3600, refresh, MOST_STALE, &format!("{path}.stale"));
        Some(Issuer {
            name: name.into(),
            source,
            audiences: audiences?,
            algorithms,
            header,
            caller: caller.or_else(|| ClaimPath::parse("sub"))?,
            claims,
            tags,
            required,
            opaque: typed.opaque.unwrap_or(models.is_none() && models_claim.is_none()),
            models,
            models_claim,
            weight: typed.weight.unwrap_or(1),
            own,
            leeway,
            refresh,
            stale,
        })
    }

    fn issuer_name(&mut self, typed: &raw::Jwt, issuer: &At<String>, path: &str) -> String {
        let word = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        };
        if let Some(at) = &typed.name {
            if !word(&at.value) {
                let message = format!("{path}.name: {}: use 1 to 64 letters, digits and . _ -", at.quoted());
                self.faults.wrong(at.place, path, message);
            }
            return at.value.clone();
        }
        let host = url::Url::parse(&issuer.value).ok().and_then(|url| url.host_str().map(str::to_owned));
        match host.filter(|host| word(host)) {
            Some(host) => host,
            None => {
                let message = format!("{path} needs a \"name\", since its issuer has no host name: write one");
                self.faults.missing(issuer.place, path, message);
                String::new()
            }
        }
    }

    fn key_source(&mut self, issuer: &At<String>, jwks: Option<&At<String>>, path: &str) -> KeySource {
        let fit = (1..=512).contains(&issuer.value.len()) && issuer.value.bytes().all(|b| b.is_ascii_graphic());
        if !fit {
            let message = format!("{path}.issuer: {}: use 1 to 512 printable characters, no spaces", issuer.quoted());
            self.faults.wrong(issuer.place, path, message);
        }
        let (at, key, or) = match jwks {
            Some(at) => (at, "jwks_url", ""),
            None => (issuer, "issuer", ", or name where its keys are with \"jwks_url\""),
        };
        // the text may hold a secret: it is not repeated
        let problem = match fetchable(&at.value) {
            Ok(_) => None,
            Err(BadAddress::NotUrl) => Some("is not a URL that keys can be read from: write \"https://...\""),
            Err(BadAddress::Plain) => {
                Some("is plain http to another machine, where keys could be forged: write \"https://...\"")
            }
            Err(BadAddress::Credentials) => Some("holds credentials: keys are public, leave them out"),
        };
        if let Some(problem) = problem {
            self.faults.wrong(at.place, path, format!("{path}.{key} {problem}{or}"));
        }
        KeySource { issuer: issuer.value.as_str().into(), jwks: jwks.map(|at| at.value.as_str().into()) }
    }

    fn audiences(&mut self, typed: Option<OneOrMany<At<String>>>, place: Place, path: &str) -> Option<Vec<Box<str>>> {
        // what is missing has been told
        let list = typed?.0;
        if list.is_empty() {
            let message = format!(
                "{path} has no \"audience\": write the one that its tokens for this gateway hold, or tokens for others would do"
            );
            self.faults.missing(place, path, message);
        }
        for at in list.iter().filter(|at| at.value.is_empty() || at.value.len() > 512) {
            self.faults.wrong(at.place, path, format!("{path}.audience: use 1 to 512 characters"));
        }
        Some(list.into_iter().map(|at| at.value.into_boxed_str()).collect())
    }

    fn algorithms(&mut self, typed: Option<Vec<At<String>>>, place: Place, path: &str) -> Vec<Algorithm> {
        let Some(list) = typed else { return ALGORITHMS.to_vec() };
        if list.is_empty() {
            let message = format!("{path}.algorithms is empty, so no token could be verified: remove it, or write one");
            self.faults.wrong(place, path, message);
        }
        let mut out = Vec::with_capacity(list.len());
        for at in list {
            match Algorithm::from_str(&at.value) {
                Ok(algorithm) if algorithm.family() == AlgorithmFamily::Hmac => {
                    let message = format!(
                        "{path}.algorithms: {} is symmetric: whoever can verify it can also make tokens; use a key pair",
                        at.quoted()
                    );
                    self.faults.wrong(at.place, path, message);
                }
                Ok(algorithm) => out.push(algorithm),
                Err(_) => {
                    let known = ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).join(", ");
                    let message = format!("{path}.algorithms: {} is not known: write one of {known}", at.quoted());
                    self.faults.wrong(at.place, path, message);
                }
            }
        }
        out
    }

    fn token_header(&mut self, at: &At<String>, path: &str) -> Option<http::HeaderName> {
        let path = format!("{path}.header");
        let name = self.header_name(at, &path)?;
        if ["authorization", "x-api-key", "x-goog-api-key"].contains(&name.as_str()) {
            let message = format!("{path}: {} is looked at anyway: remove \"header\"", at.quoted());
            self.faults.wrong(at.place, &path, message);
        }
        Some(name)
    }

    fn claims(&mut self, typed: Map<At<String>>, path: &str) -> Vec<(Arc<str>, ClaimPath)> {
        let mut out = Vec::with_capacity(typed.0.len());
        for (tag, at) in typed.0 {
            let Some(claim) = self.claim(&at, &format!("{path}.claims")) else { continue };
            let (tag, _) = self.tag(tag, At { value: "x".to_owned(), ..at }, path);
            out.push((tag, claim));
        }
        out
    }

    fn claim(&mut self, at: &At<String>, path: &str) -> Option<ClaimPath> {
        let claim = Some(&at.value).filter(|text| text.len() <= 256).and_then(|text| ClaimPath::parse(text));
        if claim.is_none() {
            let message = format!(
                "{path}: {} is not the way to a claim: write for example \"sub\", \"groups.0\" or \"/groups/0\"",
                at.quoted()
            );
            self.faults.wrong(at.place, path, message);
        }
        claim
    }

    fn required(&mut self, typed: Map<OneOrMany<At<String>>>, path: &str) -> Vec<(ClaimPath, Vec<Pattern>)> {
        let path = format!("{path}.required");
        let mut out = Vec::with_capacity(typed.0.len());
        for (name, values) in typed.0 {
            if values.0.is_empty() {
                let message = format!("{path}.{}: no value is written, so no token would do: write one", name.value);
                self.faults.wrong(name.place, &path, message);
            }
            if let Some(claim) = self.claim(&name, &path) {
                out.push((claim, values.0.iter().map(|at| Pattern::new(&at.value)).collect()));
            }
        }
        out
    }

    fn within(
        &mut self,
        typed: Option<At<raw::Period>>,
        default_seconds: u64,
        least: Duration,
        most: Duration,
        path: &str,
    ) -> Duration {
        let Some(at) = typed else { return Duration::from_secs(default_seconds).max(least) };
        if !(least..=most).contains(&at.value.0) {
            let message = format!("{path}: use {} to {}", show_duration(least), show_duration(most));
            self.faults.wrong(at.place, path, message);
        }
        at.value.0
    }
}
