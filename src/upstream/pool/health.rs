//! Asking endpoints whether they are well: `GET` on a path, again and again, each on a connection of its own, so that it also tells
//! whether new ones are accepted. No credential is sent, and no header of the provider's. As long as a pool is configured and no longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::ALPN;
use pingora::protocols::http::client::HttpSession;
use tokio::task::{AbortHandle, JoinSet};

use super::{Endpoint, Pool};
use crate::balance;
use crate::config::policy::Health;
use crate::config::snapshot::{HttpVersion, Provider};
use crate::error::BoxError;
use crate::json::Spliced;
use crate::upstream::AGENT;
use crate::upstream::attempt;
use crate::upstream::peers::Within;

/// Mixed into the key of connections, so that calls never get one of ours.
const APART: u64 = 0x6865_616c_7468;
/// An HTTP/2 connection is closed by Pingora, when it is idle for so long.
const IDLE: Duration = Duration::from_secs(1);

/// The checks that run. Dropped, they end.
#[derive(Default)]
pub struct Checks {
    tasks: JoinSet<()>,
    running: HashMap<u64, Running>,
}

struct Running {
    policy: Health,
    task: AbortHandle,
}

// === impl Checks ===

impl Checks {
    /// Begin those that are wanted, and end those that are not. Those that stay keep their rhythm.
    pub fn follow(&mut self, pools: &DashMap<u64, Arc<Pool>>, connector: &Arc<Connector>) {
        let mut wanted: HashMap<u64, (Arc<Pool>, Arc<Endpoint>, Health)> = HashMap::new();
        for pool in pools.iter().map(|entry| Arc::clone(&entry)) {
            let shape = pool.shape.load_full();
            let Some(policy) = &shape.health else { continue };
            for member in &shape.members {
                let endpoint = Arc::clone(&member.endpoint);
                wanted.insert(endpoint.id, (Arc::clone(&pool), endpoint, policy.clone()));
            }
        }
        self.running.retain(|id, running| {
            let stays = wanted.get(id).is_some_and(|(.., policy)| *policy == running.policy);
            if !stays || running.task.is_finished() {
                running.task.abort();
                return false;
            }
            true
        });
        for (id, (pool, endpoint, policy)) in wanted {
            self.running.entry(id).or_insert_with(|| {
                let check = check(pool, endpoint, policy.clone(), Arc::clone(connector));
                Running { policy, task: self.tasks.spawn(check) }
            });
        }
    }

    /// One of them has ended, which it does only when it was told to, or broke.
    pub async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Those that were told to end and have not yet are among them.
    #[cfg(test)]
    pub fn alive(&self) -> usize {
        self.tasks.len()
    }
}

/// Until it is aborted.
async fn check(pool: Arc<Pool>, endpoint: Arc<Endpoint>, policy: Health, connector: Arc<Connector>) {
    // not all at once
    tokio::time::sleep(part(policy.interval / 10, pool.random())).await;
    loop {
        let begun = Instant::now();
        let provider = Arc::clone(&pool.shape.load().provider);
        let asked = tokio::time::timeout(policy.timeout, ask(&connector, &provider, &endpoint, &policy.path)).await;
        let found = match asked {
            Ok(Ok(status)) if (200..400).contains(&status) => Ok(()),
            Ok(Ok(status)) => Err(format!("status {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", policy.timeout)),
        };
        pool.checked(&endpoint, &policy, found.as_ref().copied().map_err(String::as_str), Instant::now());
        // nine to eleven tenths of the interval, so that the gateways of a fleet do not fall into step
        let rest = policy.interval - policy.interval / 10 + part(policy.interval / 5, pool.random());
        tokio::time::sleep(rest.saturating_sub(begun.elapsed())).await;
    }
}

/// The status of the answer.
async fn ask(
    connector: &Connector,
    provider: &Arc<Provider>,
    endpoint: &Endpoint,
    path: &str,
) -> Result<u16, BoxError> {
    let peer = endpoint.origin.peer(provider, Within::from(&provider.timeouts)).await?;
    let mut peer = (*peer).clone();
    peer.group_key ^= APART;
    if provider.http != HttpVersion::Http2 {
        peer.options.alpn = ALPN::H1;
    }
    let (mut session, _) = connector.get_http_session(&peer).await?;
    let mut head = RequestHeader::build_no_case("GET", path.as_bytes(), Some(4))?;
    head.insert_header(http::header::HOST, endpoint.origin.authority().clone())?;
    head.insert_header(http::header::USER_AGENT, AGENT)?;
    head.insert_header(http::header::ACCEPT, "*/*")?;
    if let HttpSession::H1(_) = session {
        head.insert_header(http::header::CONNECTION, "close")?;
    }
    let nothing = Spliced { pieces: Vec::new(), len: 0 };
    attempt::exchange(&mut session, head, &nothing, provider.timeouts.first_byte).await?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    match session {
        HttpSession::H2(_) => connector.release_http_session(session, &peer, Some(IDLE)).await,
        HttpSession::H1(_) | HttpSession::Custom(_) => session.shutdown().await,
    }
    Ok(status)
}

/// Some part of a time, by chance.
fn part(of: Duration, seed: u64) -> Duration {
    let nanos = u64::try_from(of.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(if nanos == 0 { 0 } else { balance::below(seed, nanos) })
}
