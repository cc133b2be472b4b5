//! AWS: where credentials come from, and how a call is signed with them (Signature Version 4).
//!
//! Truth: AWS General Reference, "Create a signed AWS API request"; botocore's model of bedrock-runtime (`signingName: bedrock`). The path
//! is encoded once on the wire and once more in what is signed.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use ::http::{HeaderName, HeaderValue};
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{Region, timeout::TimeoutConfig};
use aws_credential_types::Credentials as AwsKeys;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError};
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningParams, SigningSettings, sign as signature,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use sha2::{Digest, Sha256};

use super::held::{Fetched, Material};
use super::{Body, Proof, Sent, failed};
use crate::config::snapshot::{Aws, AwsSource};
use crate::upstream::Failure;

/// The only service of AWS' that is spoken to.
const SERVICE: &str = "bedrock";
/// One request of the chain (there may be several), and one address.
const WHOLE: Duration = Duration::from_secs(4);
const CONNECT: Duration = Duration::from_secs(2);
const LONGEST_WHY: usize = 400;

/// What goes into a signature.
pub struct Signed<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub now: SystemTime,
    pub method: &'a str,
    pub url: String,
    pub headers: &'a [(&'a str, &'a str)],
    /// Hex.
    pub body_sha256: String,
}

/// The headers of a signed call: `authorization`, `x-amz-date`, `x-amz-content-sha256`, and `x-amz-security-token` of temporary
/// credentials. The host and these are all that is signed beside the body: what proxies change on the way does no harm.
pub fn sign(keys: &AwsKeys, region: &str, now: SystemTime, host: &str, sent: &Sent<'_>) -> Result<Proof, Failure> {
    let mut hash = Sha256::new();
    match sent.body {
        Body::Empty => {}
        Body::Whole(body) => body.pieces.iter().for_each(|piece| hash.update(piece)),
        Body::Streamed => return Err(failed("a signed call needs its whole body")),
    }
    let signed = Signed {
        region,
        service: SERVICE,
        now,
        method: sent.method,
        url: format!("https://{host}{}", sent.target),
        headers: &[("host", host)],
        body_sha256: hex::encode(hash.finalize()),
    };
    signed_headers(keys, signed)
}

pub fn signed_headers(keys: &AwsKeys, signed: Signed<'_>) -> Result<Proof, Failure> {
    let identity = keys.clone().into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let parameters: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(signed.region)
        .name(signed.service)
        .time(signed.now)
        .settings(settings)
        .build()
        .map_err(failed)?
        .into();
    let body = SignableBody::Precomputed(signed.body_sha256);
    let request =
        SignableRequest::new(signed.method, signed.url, signed.headers.iter().copied(), body).map_err(failed)?;
    let (instructions, _) = signature(request, &parameters).map_err(failed)?.into_parts();
    let header = |(name, value): (&str, &str)| {
        let mut value = HeaderValue::from_str(value).map_err(failed)?;
        value.set_sensitive(true);
        Ok((HeaderName::from_bytes(name.as_bytes()).map_err(failed)?, value))
    };
    instructions.headers().map(header).collect()
}

/// Ask a profile, or the usual chain.
pub async fn fetch(aws: &Aws) -> Result<Fetched, String> {
    let config = config().with_region(Some(Region::new(aws.region.to_string())));
    let provider = match &aws.source {
        AwsSource::Profile(name) => {
            let builder = ProfileFileCredentialsProvider::builder().configure(&config).profile_name(&**name);
            SharedCredentialsProvider::new(builder.build())
        }
        AwsSource::Chain => {
            let region = Region::new(aws.region.to_string());
            let builder = DefaultCredentialsChain::builder().configure(config).region(region);
            SharedCredentialsProvider::new(builder.build().await)
        }
        AwsSource::Keys { .. } => return Err("nothing to fetch".to_owned()),
    };
    let now = SystemTime::now();
    let keys = provider.provide_credentials().await.map_err(|error| reason(&error))?;
    let end = keys.expiry();
    Ok(Fetched::new(Material::Aws(keys), now, end))
}

/// What went wrong, with its causes, on a line. AWS' errors hold no secrets, but their debug form may hold an answer.
fn reason(error: &CredentialsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text.chars().filter(|c| !c.is_control()).take(LONGEST_WHY).collect()
}

/// What all sources share. STS is reached through the environment's proxy for HTTPS; the services of the machine are plain HTTP, and
/// never behind one.
fn config() -> ProviderConfig {
    // the client's type has no name in the crates we use
    type Make = Box<dyn Fn() -> ProviderConfig + Send + Sync>;
    static MAKE: OnceLock<Make> = OnceLock::new();
    let make = || -> Make {
        let proxy = variable(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let except = variable(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
        let proxy = proxy.and_then(|url| ProxyConfig::https(url).ok()).map(|proxy| proxy.no_proxy(except));
        let client = Builder::new().build_with_connector_fn(move |settings, components| {
            let mut builder = Connector::builder();
            builder.set_connector_settings(settings.cloned());
            builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            builder.set_proxy_config(proxy.clone());
            builder.tls_provider(tls::Provider::Rustls(CryptoMode::Ring)).build()
        });
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(WHOLE).build();
        // made anew each time: a configuration keeps what it has read of the files
        Box::new(move || {
            ProviderConfig::without_region().with_timeout_config(timeouts.clone()).with_http_client(client.clone())
        })
    };
    MAKE.get_or_init(make)()
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
}
