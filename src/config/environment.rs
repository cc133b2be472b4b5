//! A start without a file: the providers whose keys are in the environment, one virtual key, loopback only.
//!
//! Owns which variables count (`env` in `conf/providers.yaml`, and AWS' own). Whether an Ollama runs on this machine is found out by the
//! caller, since this does no network.

use std::path::Path;

use super::check::{self, Checked};
use super::env::Environment;
use super::error::{ConfigError, Faults};
use super::raw::{self, At, Map};
use super::secret::Secret;
use super::vendors;

/// `key`: the one virtual key. `ollama`: base URL of an Ollama that answered. `None`: there is no provider at all.
pub fn from_environment(
    environment: &Environment,
    key: &Secret,
    ollama: Option<&str>,
) -> Result<Option<Checked>, Vec<ConfigError>> {
    let keyed = vendors::all().iter().filter_map(|(name, vendor)| {
        let value = vendor.env.iter().find_map(|v| environment.get(v).filter(|value| !value.trim().is_empty()))?;
        // A key read from a file often ends with a line break.
        let api_key = Some(At::nowhere(Secret::new(value.trim())));
        Some((At::nowhere(name.clone()), raw::Provider { api_key, ..raw::Provider::default() }))
    });
    let aws = has_aws(environment).then(|| (At::nowhere("bedrock".to_owned()), raw::Provider::default()));
    let local = ollama.map(|url| {
        let base_url = Some(At::nowhere(url.to_owned()));
        (At::nowhere("ollama".to_owned()), raw::Provider { base_url, ..raw::Provider::default() })
    });
    let providers: Vec<_> = keyed.chain(aws).chain(local).collect();
    if providers.is_empty() {
        return Ok(None);
    }
    let key = raw::Key {
        name: Some(At::nowhere("default".to_owned())),
        key: Some(At::nowhere(key.clone())),
        hash: None,
        models: None,
        opaque: None,
        weight: None,
        tags: None,
        revoked: None,
        expires: None,
        limits: None,
        budget: None,
        caps: None,
    };
    let config =
        raw::Config { providers: Some(Map(providers)), keys: Some(vec![At::nowhere(key)]), ..raw::Config::default() };
    check::check(config, Faults::new("environment"), environment, Path::new("")).map(Some)
}

/// A region, and something that says the account is meant to be used: a region alone stands in many shells.
fn has_aws(environment: &Environment) -> bool {
    let any = |names: &[&str]| names.iter().any(|name| environment.get(name).is_some_and(|v| !v.trim().is_empty()));
    any(&["AWS_REGION", "AWS_DEFAULT_REGION"]) && any(&["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"])
}
