//! Virtual keys: names, hashes, allowlists.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use super::quota::Owns;
use super::{Checker, MODEL_CHARACTERS, is_credential, is_model_name};
use crate::config::error::{Place, quote};
use crate::config::raw::{self, At};
use crate::config::snapshot::{Key, Keys, Pattern};
use crate::config::{Secret, keys};
use crate::id::KeyName;

const SHORTEST: usize = 16;
const KEYS_STALE: Duration = Duration::from_secs(3600);
const HASH_PREFIX: &str = "hmac-sha256:";

impl Checker<'_> {
    pub(super) fn keys(&mut self, typed: Vec<At<raw::Key>>, auth: raw::Auth) -> Keys {
        let mut owns = Owns::default();
        let issuers = self.issuers(auth.jwt.unwrap_or_default(), &mut owns);
        let configured = auth.pepper.map(|at| {
            if at.value.expose().len() < SHORTEST {
                let message = "auth.pepper is too short: use 16 or more characters, e.g. from \"openssl rand -hex 32\"";
                self.faults.wrong(at.place, "auth.pepper", message);
            }
            at.value
        });
        let has_pepper = configured.is_some();
        // who writes a pepper will make keys
        let open = typed.is_empty() && issuers.is_empty() && !has_pepper;
        let pepper = configured.unwrap_or_else(keys::process_pepper);
        let mut by_hash = HashMap::with_capacity(typed.len());
        let mut names: HashMap<String, Place> = HashMap::with_capacity(typed.len());
        for (index, entry) in typed.into_iter().enumerate() {
            let path = format!("keys[{index}]");
            let place = entry.place;
            let Some(name) = entry.value.name.clone() else { continue };
            self.key_name(&name, &path, &mut names);
            if let Some(issuer) = issuers.iter().find(|issuer| issuer.is_name_of_caller(&name.value)) {
                let message = format!(
                    "{path}.name: {} begins like the names of the callers of {}: choose another",
                    name.quoted(),
                    quote(&issuer.name)
                );
                self.faults.wrong(name.place, &path, message);
            }
            let hash = self.key_hash(&entry.value, place, &path, &pepper, has_pepper);
            let key = self.key(entry.value, &name.value, &path, &mut owns);
            let Some(hash) = hash else { continue };
            match by_hash.entry(hash) {
                Entry::Vacant(slot) => {
                    slot.insert(Arc::new(key));
                }
                Entry::Occupied(other) => {
                    let other: &Arc<Key> = other.get();
                    let message = format!(
                        "{path}: key {} has the same value as key {}: give each its own",
                        name.quoted(),
                        quote(other.name.as_str())
                    );
                    self.faults.wrong(place, &path, message);
                }
            }
        }
        Keys {
            pepper,
            lasting: has_pepper,
            by_hash,
            issuers,
            open,
            stale: auth.keys_stale.map_or(KEYS_STALE, |at| at.value.0),
            failures_per_minute: auth.failures_per_minute.unwrap_or(60),
        }
    }

    pub(super) fn key_name(&mut self, name: &At<String>, path: &str, names: &mut HashMap<String, Place>) {
        let text = &name.value;
        if !(1..=128).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'))
        {
            let message = format!("{path}.name: {}: use 1 to 128 printable ASCII characters, no spaces", name.quoted());
            self.faults.wrong(name.place, path, message);
        }
        match names.entry(text.clone()) {
            Entry::Vacant(slot) => {
                slot.insert(name.place);
            }
            Entry::Occupied(first) => {
                let line = first.get().line;
                let message = format!("{path}.name: {} is taken by the key in line {line}: rename one", name.quoted());
                self.faults.wrong(name.place, path, message);
            }
        }
    }

    fn key_hash(
        &mut self,
        typed: &raw::Key,
        place: Place,
        path: &str,
        pepper: &Secret,
        has_pepper: bool,
    ) -> Option<[u8; 32]> {
        match (&typed.key, &typed.hash) {
            (Some(at), None) => {
                let text = at.value.expose();
                let wrong = if text.len() < SHORTEST {
                    "is too short: use 16 or more characters, e.g. from \"openssl rand -hex 32\""
                } else if text.len() > 1024 {
                    "is longer than 1024 characters"
                } else if !is_credential(text) {
                    "has a space or an unusual character: use printable ASCII without spaces"
                } else if keys::checksum_ok(text) == Some(false) {
                    "begins like a key made by Tollgate, but its checksum is wrong: copy it again"
                } else {
                    return Some(keys::hash(pepper, text));
                };
                self.faults.wrong(at.place, path, format!("{path}.key {wrong}"));
                None
            }
            (None, Some(at)) => {
                if !has_pepper {
                    let message = format!(
                        "{path}.hash needs \"auth.pepper\", the secret it was made with: write it, or write \"key\" instead"
                    );
                    self.faults.missing(at.place, "auth", message);
                }
                let digits = at.value.expose().strip_prefix(HASH_PREFIX);
                let mut hash = [0; 32];
                let read = digits.and_then(|digits| hex::decode_to_slice(digits, &mut hash).ok());
                if read.is_none() {
                    let message = format!("{path}.hash: write \"{HASH_PREFIX}\" and 64 hexadecimal digits");
                    self.faults.wrong(at.place, path, message);
                }
                read.map(|()| hash)
            }
            (Some(_), Some(at)) => {
                self.faults.wrong(at.place, path, format!("{path} has both \"key\" and \"hash\": remove one"));
                None
            }
            (None, None) => {
                self.faults.missing(place, path, format!("{path} has neither \"key\" nor \"hash\": write one"));
                None
            }
        }
    }

    pub(super) fn key(&mut self, typed: raw::Key, name: &str, path: &str, owns: &mut Owns) -> Key {
        let models = typed.models.map(|patterns| patterns.iter().filter_map(|at| self.pattern(at, path)).collect());
        let expires = typed.expires.and_then(|at| match at.value.parse::<jiff::Timestamp>() {
            Ok(time) => Some(time),
            Err(_) => {
                let message = format!(
                    "{path}.expires: {} is not a time: write for example \"2030-01-01T00:00:00Z\" (RFC 3339)",
                    at.quoted()
                );
                self.faults.wrong(at.place, path, message);
                None
            }
        });
        let tags =
            typed.tags.unwrap_or_default().0.into_iter().map(|(tag, value)| self.tag(tag, value, path)).collect();
        let own = self.own(typed.limits, typed.budget, typed.caps, path, owns);
        let request_tags =
            typed.request_tags.map(|names| names.iter().filter_map(|at| self.tag_pattern(at, path)).collect());
        Key {
            name: KeyName::new(name),
            opaque: typed.opaque.unwrap_or(models.is_none()),
            models,
            weight: typed.weight.unwrap_or(1),
            revoked: typed.revoked.unwrap_or(false),
            expires,
            tags,
            request_tags,
            own,
        }
    }

    fn tag_pattern(&mut self, at: &At<String>, path: &str) -> Option<Pattern> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*');
        if (1..=64).contains(&at.value.len()) && at.value.bytes().all(fits) {
            return Some(Pattern::new(&at.value));
        }
        let message = format!("{path}.request_tags: {}: use 1 to 64 letters, digits and . _ -, and *", at.quoted());
        self.faults.wrong(at.place, path, message);
        None
    }

    pub(super) fn pattern(&mut self, at: &At<String>, path: &str) -> Option<Pattern> {
        if at.value == "*" || is_model_name(&at.value.replace('*', "x")) {
            return Some(Pattern::new(&at.value));
        }
        let message = format!("{path}.models: {}: use 1 to 256 {MODEL_CHARACTERS}, and *", at.quoted());
        self.faults.wrong(at.place, path, message);
        None
    }

    pub(super) fn tag(&mut self, tag: At<String>, value: At<String>, path: &str) -> (Arc<str>, Arc<str>) {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if !(1..=64).contains(&tag.value.len()) || !tag.value.bytes().all(word) {
            let message = format!("{path}.tags: {}: use 1 to 64 letters, digits and . _ -", tag.quoted());
            self.faults.wrong(tag.place, path, message);
        }
        if !(1..=256).contains(&value.value.len()) || value.value.chars().any(char::is_control) {
            let message = format!("{path}.tags.{}: use 1 to 256 characters, no control characters", tag.value);
            self.faults.wrong(value.place, path, message);
        }
        (tag.value.into(), value.value.into())
    }
}
