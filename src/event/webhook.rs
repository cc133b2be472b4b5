//! Events by POST: a body `{"events": [..]}`, signed so that whoever gets it knows that it is ours and not an old one.
//!
//! `x-tollgate-signature: t=SECONDS,v1=HEX`: HMAC-SHA256 (RFC 2104) of `SECONDS.BODY` under the secret; `SECONDS` is the Unix time of this try.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use super::Event;
use crate::config::Secret;
use crate::config::events;

pub(super) struct Webhook {
    client: reqwest::Client,
    url: Secret,
    secret: Secret,
}

#[derive(Serialize)]
struct Body<'a> {
    events: Vec<&'a Event>,
}

/// The value of `x-tollgate-signature`.
pub fn signature(secret: &Secret, seconds: i64, body: &[u8]) -> String {
    // keys of every length are taken (RFC 2104)
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else { return String::new() };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", hex::encode(mac.finalize().into_bytes()))
}

// === impl Webhook ===

impl Webhook {
    pub(super) fn new(config: &events::Webhook) -> Result<Webhook, String> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Webhook { client, url: config.url.clone(), secret: config.secret.clone() })
    }

    /// `Err`: it was not taken; without the URL.
    pub(super) async fn send(&self, batch: &[Arc<Event>]) -> Result<(), String> {
        let body = Body { events: batch.iter().map(|event| &**event).collect() };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let signature = signature(&self.secret, jiff::Timestamp::now().as_second(), &body);
        let request = self
            .client
            .post(self.url.expose())
            .header("content-type", "application/json")
            .header("user-agent", concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .header("x-tollgate-signature", signature)
            .body(body);
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_with_its_time() {
        // printf '1700000000.{"events":[]}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let secret = Secret::new("0123456789abcdef");
        let signed = signature(&secret, 1_700_000_000, br#"{"events":[]}"#);
        assert_eq!(signed, "t=1700000000,v1=1f1c43683e76ee83b09613ab56fa5bdd3ce55f3ee41db00a92e22eea0376899e");
    }
}
