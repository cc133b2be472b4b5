//! Where the server is, how it is reached, and how long is waited before it is tried again.

use std::fmt;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use ::redis::{AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo, RedisResult, ScriptInvocation};

/// For a connection and its handshakes.
const CONNECT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a URL stands for.
#[derive(Clone)]
pub enum Target {
    One(Client),
    Cluster(Box<ClusterClient>),
    /// The sentinels, the master's name, and how it is spoken to.
    Sentinel {
        sentinels: Vec<String>,
        master: String,
        node: Box<SentinelNodeConnectionInfo>,
    },
}

/// A connection that many questions share.
#[derive(Clone)]
pub enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Not a URL that can be used. The text holds no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoUrl(String);

/// How long to wait before the next try: longer each time, and never the same for all replicas.
#[derive(Debug)]
pub struct Backoff(Duration);

// === impl Target ===

impl Target {
    /// - `redis://[user:password@]host[:port][/db]`, `rediss://` over TLS, `unix:///path`
    /// - `redis+cluster://[user:password@]host:port,host:port`, `rediss+cluster://`
    /// - `redis+sentinel://[user:password@]host:port,host:port/master[/db]`: user and password are the master's
    ///
    /// `valkey` may stand for `redis`.
    pub fn parse(url: &str) -> Result<Self, NoUrl> {
        let (scheme, rest) = url.split_once("://").ok_or_else(NoUrl::shape)?;
        let scheme = scheme.replace("valkey", "redis");
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => ("rediss", kind),
            None => ("redis", scheme.strip_prefix("redis").unwrap_or("")),
        };
        match (kind, scheme.as_str()) {
            ("+cluster", _) => {
                let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
                let at = if login.is_empty() { "" } else { "@" };
                let hosts = hosts.trim_end_matches('/');
                let nodes = hosts.split(',').map(|host| format!("{tls}://{login}{at}{host}"));
                let builder = ClusterClient::builder(nodes).connection_timeout(CONNECT).response_timeout(CONNECT);
                // who waits has no time for a second try
                Ok(Target::Cluster(Box::new(builder.retries(1).build().map_err(NoUrl::of)?)))
            }
            ("+sentinel", _) => Self::sentinel(tls, rest),
            ("", "redis" | "rediss" | "unix" | "redis+unix") => {
                Ok(Target::One(Client::open(format!("{scheme}://{rest}")).map_err(NoUrl::of)?))
            }
            _ => Err(NoUrl::shape()),
        }
    }

    fn sentinel(tls: &str, rest: &str) -> Result<Self, NoUrl> {
        let (hosts, path) = rest.split_once('/').ok_or_else(NoUrl::shape)?;
        let (login, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(login, hosts)| (login, hosts));
        let (master, db) = path.split_once('/').unwrap_or((path, "0"));
        if master.is_empty() {
            return Err(NoUrl("the name of the master is missing: write redis+sentinel://host:port/NAME".to_owned()));
        }
        let at = if login.is_empty() { "" } else { "@" };
        // read as a URL of its own, so that what is escaped is read in one way
        let info = format!("{tls}://{login}{at}sentinel/{db}").into_connection_info().map_err(NoUrl::of)?;
        let node = SentinelNodeConnectionInfo::default().set_redis_connection_info(info.redis_settings().clone());
        let node = if tls == "rediss" { node.set_tls_mode(::redis::TlsMode::Secure) } else { node };
        let sentinels: Vec<String> = hosts.split(',').map(|host| format!("redis://{host}")).collect();
        for sentinel in &sentinels {
            sentinel.as_str().into_connection_info().map_err(NoUrl::of)?;
        }
        Ok(Target::Sentinel { sentinels, master: master.to_owned(), node: Box::new(node) })
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self, Target::Cluster(_))
    }

    pub async fn connect(&self) -> RedisResult<Connection> {
        let config =
            || AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(CONNECT));
        let connecting = async {
            match self {
                Target::One(client) => {
                    client.get_multiplexed_async_connection_with_config(&config()).await.map(Connection::One)
                }
                Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
                Target::Sentinel { sentinels, master, node } => {
                    let mut client = SentinelClient::build(
                        sentinels.clone(),
                        master.clone(),
                        Some((**node).clone()),
                        SentinelServerType::Master,
                    )?;
                    client.get_async_connection_with_config(&config()).await.map(Connection::One)
                }
            }
        };
        match tokio::time::timeout(CONNECT * 2, connecting).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // their own forms hold passwords
        f.write_str(match self {
            Target::One(_) => "Target::One",
            Target::Cluster(_) => "Target::Cluster",
            Target::Sentinel { .. } => "Target::Sentinel",
        })
    }
}

// === impl Connection ===

impl Connection {
    pub async fn run<T: FromRedisValue>(&mut self, script: &ScriptInvocation<'_>) -> RedisResult<T> {
        match self {
            Connection::One(connection) => script.invoke_async(connection).await,
            Connection::Cluster(connection) => script.invoke_async(connection).await,
        }
    }
}

// === impl NoUrl ===

impl NoUrl {
    fn shape() -> Self {
        NoUrl("is not a URL of a Redis: write for example redis://localhost:6379".to_owned())
    }

    fn of(error: ::redis::RedisError) -> Self {
        // its kind only: the rest may quote a password
        NoUrl(format!("is not a URL of a Redis ({:?}): write for example redis://localhost:6379", error.kind()))
    }
}

impl fmt::Display for NoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoUrl {}

// === impl Backoff ===

impl Backoff {
    pub fn new() -> Self {
        Backoff(FIRST_PAUSE)
    }

    /// Between a half and the whole of a time that doubles.
    pub fn next(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(LONGEST_PAUSE);
        let share = getrandom::u32().unwrap_or(u32::MAX / 2);
        whole / 2 + whole.mul_f64(f64::from(share) / f64::from(u32::MAX)) / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_one_server_a_cluster_and_sentinels_are_read() {
        for url in ["redis://localhost", "valkey://:secret@h:1/2", "rediss://u:p@h:6380", "unix:///run/redis.sock"] {
            assert!(matches!(Target::parse(url), Ok(Target::One(_))), "{url}");
        }
        for url in ["redis+cluster://a:1,b:2,c:3", "rediss+cluster://u:p%40@a:1", "valkey+cluster://a:1/"] {
            assert!(matches!(Target::parse(url), Ok(Target::Cluster(_))), "{url}");
        }
        for url in ["redis+sentinel://a:1,b:2/main", "redis+sentinel://:pw@a:1/main/3"] {
            assert!(matches!(Target::parse(url), Ok(Target::Sentinel { .. })), "{url}");
        }
        for url in ["", "localhost:6379", "http://h", "redis+sentinel://a:1", "redis+sentinel://a:1/", "redis+x://h"] {
            let error = Target::parse(url).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_secret_of_a_url_is_in_no_text() {
        let target = Target::parse("redis://u:canary@h:1").unwrap();
        assert!(!format!("{target:?}").contains("canary"));
        let error = Target::parse("redis://u:canary@h:notaport").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..10).map(|_| backoff.next()).collect();
        assert!(pauses[0] >= FIRST_PAUSE / 2 && pauses[0] <= FIRST_PAUSE);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert!(pauses[9] >= LONGEST_PAUSE / 2);
    }
}
