//! One credential over its life: fetched once for all who wait, renewed before it ends, kept while a renewal fails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials as AwsKeys;
use tokio::sync::watch;

use super::http::Http;
use super::{Proof, aws, entra, google};
use crate::config::snapshot::AuthScheme;

/// A call does not wait longer for a credential.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed fetch nobody asks again for so long: without a credential, and while the old one still serves.
const PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(15);
/// Renewed so long before its end, or in the last quarter of a short life. Google's metadata server gives the same token until five
/// minutes before its end.
const EARLY: Duration = Duration::from_secs(300);
/// What has less left than this is not sent: clocks differ, and requests travel. Of a short life a tenth.
const MARGIN: Duration = Duration::from_secs(10);
/// What has no end is looked up again, since files change.
const AGAIN: Duration = Duration::from_secs(900);

#[derive(Debug)]
pub enum Material {
    Headers(Proof),
    Aws(AwsKeys),
}

/// A credential and its times.
#[derive(Debug)]
pub struct Fetched {
    pub material: Material,
    pub renew: SystemTime,
    /// `None`: it has no end.
    pub end: Option<SystemTime>,
}

pub struct Entry {
    auth: AuthScheme,
    http: Arc<Http>,
    held: ArcSwapOption<Fetched>,
    flight: Mutex<Option<Flight>>,
}

/// A fetch, under way or done. Its outcome is for all who waited.
#[derive(Clone)]
struct Flight {
    outcome: watch::Receiver<Option<Outcome>>,
    begun: Instant,
}

type Outcome = Result<Arc<Fetched>, Arc<str>>;

// === impl Fetched ===

impl Fetched {
    /// `end`: as the issuer says it.
    pub fn new(material: Material, now: SystemTime, end: Option<SystemTime>) -> Self {
        match end {
            None => Fetched { material, renew: now + AGAIN, end },
            Some(end) => {
                let life = end.duration_since(now).unwrap_or_default();
                let before = |early: Duration| end.checked_sub(early).unwrap_or(now);
                Fetched { material, renew: before(EARLY.min(life / 4)), end: Some(before(MARGIN.min(life / 10))) }
            }
        }
    }

    pub fn serves(&self, now: SystemTime) -> bool {
        self.end.is_none_or(|end| now < end)
    }
}

// === impl Entry ===

impl Entry {
    pub fn new(auth: AuthScheme, http: Arc<Http>) -> Self {
        Entry { auth, http, held: ArcSwapOption::empty(), flight: Mutex::new(None) }
    }

    /// What is held at present, whether it still serves or not.
    pub fn last(&self) -> Option<Arc<Fetched>> {
        self.held.load_full()
    }

    /// A credential that serves now. `name`: whose it is, for the log.
    pub async fn get(self: &Arc<Self>, name: &str) -> Result<Arc<Fetched>, String> {
        let now = SystemTime::now();
        if let Some(held) = self.held.load_full().filter(|held| held.serves(now)) {
            if now >= held.renew {
                self.fly(name, LONG_PAUSE);
            }
            return Ok(held);
        }
        let mut outcome = self.fly(name, PAUSE).outcome;
        let waited = tokio::time::timeout(PATIENCE, outcome.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Ok(fetched)) => Ok(Arc::clone(fetched)),
                Some(Err(why)) => Err(why.to_string()),
                None => Err("no outcome".to_owned()),
            },
            Ok(Err(_)) => Err("the fetch broke off".to_owned()),
            Err(_) => Err("no credential within ten seconds".to_owned()),
        }
    }

    /// The fetch that is under way, or has just failed, or a new one.
    fn fly(self: &Arc<Self>, name: &str, pause: Duration) -> Flight {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = &*flight {
            let still = match &*last.outcome.borrow() {
                None => last.outcome.has_changed().is_ok(),
                Some(Ok(fetched)) => fetched.serves(SystemTime::now()) && SystemTime::now() < fetched.renew,
                Some(Err(_)) => last.begun.elapsed() < pause,
            };
            if still {
                return last.clone();
            }
        }
        let (tell, outcome) = watch::channel(None);
        let new = Flight { outcome, begun: Instant::now() };
        *flight = Some(new.clone());
        drop(flight);
        let (entry, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let fetched = match tokio::time::timeout(PATIENCE, entry.fetch()).await {
                Ok(fetched) => fetched,
                Err(_) => Err("no answer within ten seconds".to_owned()),
            };
            let outcome = match fetched {
                Ok(fetched) => {
                    let fetched = Arc::new(fetched);
                    entry.held.store(Some(Arc::clone(&fetched)));
                    Ok(fetched)
                }
                Err(why) => {
                    let serves = entry.last().is_some_and(|held| held.serves(SystemTime::now()));
                    let till = if serves { "; the old ones still serve" } else { "" };
                    tracing::warn!("provider {name}: its credentials could not be had: {why}{till}");
                    Err(why.into())
                }
            };
            // nobody may be waiting: a renewal beside the calls
            let _ = tell.send(Some(outcome));
        });
        new
    }

    async fn fetch(&self) -> Result<Fetched, String> {
        match &self.auth {
            AuthScheme::Aws(source) => aws::fetch(source).await,
            AuthScheme::Google(source) => google::fetch(source, &self.http).await,
            AuthScheme::Entra(source) => entra::fetch(source, &self.http).await,
            AuthScheme::Bearer | AuthScheme::Header(_) | AuthScheme::None => Err("nothing to fetch".to_owned()),
        }
    }
}
