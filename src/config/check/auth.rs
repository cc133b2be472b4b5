//! How a provider is shown who asks: the scheme, and the credential where it is a fixed one.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, header};

use super::base_url::base_url;
use super::provider::Slots;
use super::{Checker, is_credential};
use crate::config::Secret;
use crate::config::error::Place;
use crate::config::raw::{self, At};
use crate::config::snapshot::{AuthScheme, Aws, AwsSource, Entra, EntraProof, EntraSource, Google};
use crate::config::vendors::{Vendor, VendorAuth};

/// Azure OpenAI's audience.
const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";
const MICROSOFT: &str = "https://login.microsoftonline.com";

/// The keys of an entry that this file reads.
pub(super) struct Typed {
    pub auth: Option<raw::ProviderAuth>,
    pub api_key: Option<At<Secret>>,
    pub api_keys: Option<At<Vec<At<Secret>>>>,
    pub profile: Option<At<String>>,
    pub access_key_id: Option<At<Secret>>,
    pub secret_access_key: Option<At<Secret>>,
    pub session_token: Option<At<Secret>>,
    pub credentials: Option<At<String>>,
}

/// Who is asked about, for the faults.
pub(super) struct Entry<'a> {
    /// `providers.NAME`
    pub path: &'a str,
    pub place: Place,
    pub kind: &'a str,
    /// An address of the operator's own: it may want no key.
    pub own_url: bool,
    pub missing_env: bool,
}

/// What goes into the snapshot.
pub(super) struct Auth {
    pub scheme: AuthScheme,
    pub credential: Option<Secret>,
    pub header: Option<(HeaderName, HeaderValue)>,
    /// Of `api_keys`, those behind the first.
    pub others: Vec<(Secret, (HeaderName, HeaderValue))>,
}

// === impl Typed ===

impl Typed {
    fn key_name(&self) -> &'static str {
        if self.api_keys.is_some() { "api_keys" } else { "api_key" }
    }
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn auth(&mut self, mut typed: Typed, vendor: &Vendor, slots: &Slots, entry: &Entry<'_>) -> Auth {
        let others = self.several(&mut typed, entry);
        let name = typed.key_name();
        let mut auth = self.one(typed, vendor, slots, entry);
        // what is wrong with the first is wrong with all
        if auth.header.is_some() {
            auth.others = others
                .into_iter()
                .filter_map(|at| Some((at.value.clone(), self.credential(&at, name, &auth.scheme, entry.path)?)))
                .collect();
        }
        auth
    }

    /// The first of `api_keys` takes the place of `api_key`; the others are given back.
    fn several(&mut self, typed: &mut Typed, entry: &Entry<'_>) -> Vec<At<Secret>> {
        let Some(list) = &mut typed.api_keys else { return Vec::new() };
        let place = list.place;
        let list = std::mem::take(&mut list.value);
        let path = format!("{}.api_keys", entry.path);
        if typed.api_key.is_some() {
            let message = format!("{} has both \"api_key\" and \"api_keys\": remove one", entry.path);
            self.faults.wrong(place, &path, message);
        }
        if list.is_empty() && !entry.missing_env {
            self.faults.missing(place, &path, format!("{path} is empty: write one credential at least"));
        }
        let mut keys: Vec<At<Secret>> = Vec::with_capacity(list.len());
        for at in list {
            if keys.iter().any(|other| other.value.expose() == at.value.expose()) {
                self.faults.wrong(at.place, &path, format!("{path}: a credential is written twice: remove one"));
            } else {
                keys.push(at);
            }
        }
        let mut keys = keys.into_iter();
        typed.api_key = typed.api_key.take().or(keys.next());
        keys.collect()
    }

    fn one(&mut self, typed: Typed, vendor: &Vendor, slots: &Slots, entry: &Entry<'_>) -> Auth {
        self.foreign_keys(&typed, vendor, entry);
        let fetched = match &typed.auth {
            Some(raw::ProviderAuth { entra: Some(entra), header: None, .. }) => {
                self.no_key_beside_entra(&typed, entry);
                Some(self.entra(entra, entry).map(AuthScheme::Entra))
            }
            Some(raw::ProviderAuth { scheme: None, header: None, entra: None }) => {
                let message =
                    format!("{}.auth is empty: write bearer, none, {{header: NAME}} or {{entra: ..}}", entry.path);
                self.faults.wrong(entry.place, entry.path, message);
                None
            }
            Some(raw::ProviderAuth { entra: Some(entra), header: Some(_), .. }) => {
                let message = format!("{}.auth has \"header\" and \"entra\": remove one of them", entry.path);
                self.faults.wrong(entra.place, entry.path, message);
                None
            }
            Some(_) => None,
            None if vendor.auth == VendorAuth::Aws => return self.aws(typed, slots, entry),
            None if vendor.auth == VendorAuth::Google => {
                if let Some(at) = &typed.api_key {
                    let message = format!(
                        "{}.{}: {} does not say how it is sent: write \"auth: {{header: x-goog-api-key}}\" or \"auth: \
                         bearer\" beside it",
                        entry.path,
                        typed.key_name(),
                        entry.kind
                    );
                    self.faults.wrong(at.place, entry.path, message);
                }
                Some(self.google(typed.credentials.as_ref(), entry).map(AuthScheme::Google))
            }
            None => None,
        };
        match fetched {
            Some(scheme) => {
                Auth { scheme: scheme.unwrap_or(AuthScheme::None), credential: None, header: None, others: Vec::new() }
            }
            None => self.fixed(typed, vendor, entry),
        }
    }

    /// A key that is sent as it is.
    fn fixed(&mut self, typed: Typed, vendor: &Vendor, entry: &Entry<'_>) -> Auth {
        let path = entry.path;
        let scheme = self.scheme(typed.auth.as_ref(), vendor, path);
        // A server of one's own often needs no key; the vendor's always does.
        let needs_key = (typed.auth.is_some() || !entry.own_url || vendor.base_url.is_none())
            && scheme != AuthScheme::None
            && (vendor.auth != VendorAuth::None || typed.auth.is_some());
        let header = typed.api_key.as_ref().and_then(|at| self.credential(at, typed.key_name(), &scheme, path));
        if typed.api_key.is_none() && typed.api_keys.is_none() && needs_key && !entry.missing_env {
            let variable = vendor.env.first().map_or("API_KEY", String::as_str);
            let message = format!(
                "{path} has no \"api_key\": write for example \"api_key: ${{{variable}}}\", or \"auth: none\" if it needs none"
            );
            self.faults.missing(entry.place, path, message);
        }
        let credential = typed.api_key.map(|at| at.value);
        // Without a credential there is nothing to send.
        let scheme = if credential.is_none() && !entry.missing_env { AuthScheme::None } else { scheme };
        Auth { scheme, credential, header, others: Vec::new() }
    }

    fn scheme(&mut self, typed: Option<&raw::ProviderAuth>, vendor: &Vendor, path: &str) -> AuthScheme {
        let Some(typed) = typed else {
            return match (vendor.auth, &vendor.header) {
                (VendorAuth::Header, Some(name)) => {
                    AuthScheme::Header(name.parse().expect("a test reads every header of conf/providers.yaml"))
                }
                _ => AuthScheme::Bearer,
            };
        };
        if let Some(at) = &typed.header {
            return match self.header_name(at, &format!("{path}.auth.header")) {
                Some(name) => AuthScheme::Header(name),
                None => AuthScheme::Bearer,
            };
        }
        match typed.scheme.as_ref().map(|at| at.value.as_str()) {
            Some("none") => AuthScheme::None,
            _ => AuthScheme::Bearer,
        }
    }

    /// `key`: the name of the key it was written under.
    fn credential(
        &mut self,
        at: &At<Secret>,
        key: &str,
        auth: &AuthScheme,
        path: &str,
    ) -> Option<(HeaderName, HeaderValue)> {
        let text = at.value.expose();
        let (name, value) = match auth {
            AuthScheme::Header(name) => (name.clone(), text.to_owned()),
            AuthScheme::None => {
                let message = format!("{path} has \"{key}\" and \"auth: none\": remove one of them");
                self.faults.wrong(at.place, path, message);
                return None;
            }
            AuthScheme::Bearer | AuthScheme::Aws(_) | AuthScheme::Google(_) | AuthScheme::Entra(_) => {
                (header::AUTHORIZATION, format!("Bearer {text}"))
            }
        };
        match HeaderValue::from_str(&value) {
            Ok(mut value) if is_credential(text) => {
                value.set_sensitive(true);
                Some((name, value))
            }
            _ => {
                let message = format!(
                    "{path}.{key} has a space, a line break or an unusual character: a key is printable ASCII without spaces"
                );
                self.faults.wrong(at.place, path, message);
                None
            }
        }
    }

    /// One explicit way, else a key of the environment, else the usual chain: the order of AWS' own SDKs.
    fn aws(&mut self, typed: Typed, slots: &Slots, entry: &Entry<'_>) -> Auth {
        let (path, name) = (entry.path, typed.key_name());
        let ways = [typed.api_key.is_some(), typed.access_key_id.is_some(), typed.profile.is_some()];
        if ways.iter().filter(|way| **way).count() > 1 {
            let message = format!("{path} has more than one of {name}, access_key_id and profile: keep one of them");
            self.faults.wrong(entry.place, path, message);
        }
        let has_id = typed.access_key_id.is_some();
        for (name, there) in
            [("secret_access_key", typed.secret_access_key.as_ref()), ("session_token", typed.session_token.as_ref())]
        {
            if let (false, Some(at)) = (has_id, there) {
                let message = format!("{path}.{name} needs \"access_key_id\": write it");
                self.faults.missing(at.place, path, message);
            }
        }
        for at in [&typed.access_key_id, &typed.secret_access_key, &typed.session_token].into_iter().flatten() {
            if !is_credential(at.value.expose()) {
                let message = format!("{path}: an AWS credential is printable ASCII without spaces");
                self.faults.wrong(at.place, path, message);
            }
        }
        let mut bearer = typed.api_key.clone();
        let source = match (typed.access_key_id, typed.secret_access_key, typed.profile) {
            (Some(id), Some(secret), _) => AwsSource::Keys {
                access_key_id: id.value,
                secret_access_key: secret.value,
                session_token: typed.session_token.map(|at| at.value),
            },
            (Some(id), None, _) => {
                let message = format!("{path}.access_key_id needs \"secret_access_key\": write it");
                self.faults.missing(id.place, path, message);
                AwsSource::Chain
            }
            (None, _, Some(profile)) => AwsSource::Profile(profile.value.into()),
            (None, _, None) => {
                let key = self.environment.get("AWS_BEARER_TOKEN_BEDROCK").filter(|key| !key.trim().is_empty());
                bearer = bearer.or(key.map(|key| At::nowhere(Secret::new(key.trim()))));
                AwsSource::Chain
            }
        };
        match bearer {
            Some(at) => {
                let header = self.credential(&at, name, &AuthScheme::Bearer, path);
                Auth { scheme: AuthScheme::Bearer, credential: Some(at.value), header, others: Vec::new() }
            }
            None => {
                let scheme = AuthScheme::Aws(Aws { region: slots.region.as_str().into(), source });
                Auth { scheme, credential: None, header: None, others: Vec::new() }
            }
        }
    }

    fn google(&mut self, file: Option<&At<String>>, entry: &Entry<'_>) -> Option<Google> {
        let Some(at) = file else { return Some(Google::Default) };
        let path = format!("{}.credentials", entry.path);
        let text = self.text_file(at, &path)?;
        // what it holds is read again where it is used; here only whether it is of the right sort
        let kind = serde_json::from_str::<serde_json::Value>(&text).ok();
        let kind = kind.as_ref().and_then(|json| json.get("type")).and_then(|kind| kind.as_str());
        if let Some("service_account" | "authorized_user") = kind {
            return Some(Google::Key(Secret::new(text)));
        }
        let message = format!(
            "{path}: {} is not a key file of a service account or of a user (JSON with \"type\": \"service_account\" or \
             \"authorized_user\")",
            at.quoted()
        );
        self.faults.wrong(at.place, &path, message);
        None
    }

    fn entra(&mut self, typed: &At<raw::Entra>, entry: &Entry<'_>) -> Option<Entra> {
        let path = format!("{}.auth.entra", entry.path);
        let raw::Entra { identity, tenant, client_id, client_secret, federated_token_file, authority, scope } =
            &typed.value;
        let scope = scope.as_ref().map_or(COGNITIVE_SERVICES, |at| at.value.as_str()).into();
        let id =
            |at: &At<String>| at.value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        for at in [tenant, client_id].into_iter().flatten().filter(|at| !id(at)) {
            self.faults.wrong(at.place, &path, format!("{path}: {} is not an id of Entra's", at.quoted()));
        }
        if let Some(at) = identity {
            if at.value != "managed_identity" {
                let message = format!("{path}: {} is not known: write managed_identity, or keys", at.quoted());
                self.faults.wrong(at.place, &path, message);
            }
            if tenant.is_some() || client_secret.is_some() || federated_token_file.is_some() {
                let message = format!("{path}: a managed identity has no secret of its own: keep client_id at most");
                self.faults.wrong(at.place, &path, message);
            }
            let client_id = client_id.as_ref().map(|at| at.value.as_str().into());
            return Some(Entra { scope, source: EntraSource::ManagedIdentity { client_id } });
        }
        let proof = match (client_secret, federated_token_file) {
            (Some(secret), None) => Some(EntraProof::Secret(secret.value.clone())),
            (None, Some(file)) => Some(EntraProof::TokenFile(self.path(&file.value))),
            (_, _) => None,
        };
        let (Some(tenant), Some(client_id), Some(proof)) = (tenant, client_id, proof) else {
            if !entry.missing_env {
                let message = format!(
                    "{path} needs tenant, client_id, and one of client_secret and federated_token_file; or write \
                     \"managed_identity\""
                );
                self.faults.missing(typed.place, &path, message);
            }
            return None;
        };
        let authority = match authority {
            Some(at) => match base_url(&at.value) {
                Ok(_) => at.value.trim_end_matches('/'),
                Err(why) => {
                    self.faults.wrong(at.place, &path, format!("{path}.authority {why}"));
                    return None;
                }
            },
            None => MICROSOFT,
        };
        let token_url = format!("{authority}/{}/oauth2/v2.0/token", tenant.value).into();
        let client_id: Arc<str> = client_id.value.as_str().into();
        Some(Entra { scope, source: EntraSource::Application { token_url, client_id, proof } })
    }

    fn no_key_beside_entra(&mut self, typed: &Typed, entry: &Entry<'_>) {
        if let Some(at) = &typed.api_key {
            let message = format!("{} has \"{}\" and \"auth.entra\": remove one of them", entry.path, typed.key_name());
            self.faults.wrong(at.place, entry.path, message);
        }
    }

    /// Keys of another vendor's way.
    fn foreign_keys(&mut self, typed: &Typed, vendor: &Vendor, entry: &Entry<'_>) {
        let at = |at: &Option<At<Secret>>| at.as_ref().map(|at| at.place);
        let aws = [
            ("profile", typed.profile.as_ref().map(|at| at.place)),
            ("access_key_id", at(&typed.access_key_id)),
            ("secret_access_key", at(&typed.secret_access_key)),
            ("session_token", at(&typed.session_token)),
        ];
        let google = [("credentials", typed.credentials.as_ref().map(|at| at.place))];
        let own = |auth| vendor.auth == auth && typed.auth.is_none();
        let aws = aws.into_iter().filter(|_| !own(VendorAuth::Aws)).map(|key| (key, "bedrock"));
        let google = google.into_iter().filter(|_| !own(VendorAuth::Google)).map(|key| (key, "vertex"));
        for ((name, place), kind) in aws.chain(google) {
            let Some(place) = place else { continue };
            let message = if vendor.auth == VendorAuth::Aws || vendor.auth == VendorAuth::Google {
                format!("{}.{name} has no place beside this \"auth\": remove one of them", entry.path)
            } else {
                format!("{}.{name} is for {kind}; {} has none: remove it", entry.path, entry.kind)
            };
            self.faults.wrong(place, entry.path, message);
        }
    }
}
