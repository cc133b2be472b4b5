//! Real servers for the tests: `redis-server`, and `valkey-server` where it is there; on ports of their own, in folders of their own.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Server {
    pub port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

/// A way to a server that can become slow: each piece takes two seconds then.
pub struct Proxy {
    pub port: u16,
    pub slow: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

/// Three masters that share the slots.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

/// Ask until `found` says yes; within twenty seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut found: impl FnMut() -> F) {
    let begun = std::time::Instant::now();
    while !found().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The programs that are there: at least one.
pub fn programs() -> Vec<&'static str> {
    let there = |name: &&str| {
        Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let found: Vec<&str> = ["redis-server", "valkey-server"].into_iter().filter(|name| there(name)).collect();
    assert!(!found.is_empty(), "redis-server or valkey-server must be installed");
    found
}

fn free_port() -> u16 {
    let drawn = || 10_000 + u16::try_from(RandomState::new().build_hasher().finish() % 12_000).expect("small");
    // a cluster's node talks to the others ten thousand ports higher
    let is_free = |port: &u16| {
        [*port, port + 10_000].iter().all(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
    };
    (0..100).map(|_| drawn()).find(is_free).expect("a free port of a hundred")
}

impl Server {
    pub async fn start() -> Self {
        Self::start_as("redis-server", &[]).await
    }

    pub async fn start_as(program: &str, options: &[&str]) -> Self {
        let program = if programs().contains(&program) { program } else { programs()[0] };
        // somebody else may take the port in between
        for _ in 0..10 {
            let port = free_port();
            let mut server = Self::spawn(program, port, options);
            for _ in 0..400 {
                if server.child.try_wait().expect("a child").is_some() {
                    break;
                }
                if server.command(&["PING"]).is_some_and(|said| said == "PONG") {
                    return server;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        panic!("{program} does not start");
    }

    fn spawn(program: &str, port: u16, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let child = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(options)
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a server");
        Server { port, child, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What the server says to a command; `None`: nothing.
    pub fn command(&self, words: &[&str]) -> Option<String> {
        use redis::ConnectionLike;
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(1)).ok()?;
        connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut command = redis::cmd(words[0]);
        for word in &words[1..] {
            command.arg(word);
        }
        match connection.req_command(&command) {
            Ok(redis::Value::SimpleString(text)) => Some(text),
            Ok(redis::Value::Okay) => Some("OK".to_owned()),
            Ok(value) => Some(format!("{value:?}")),
            Err(_) => None,
        }
    }

    /// `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Proxy ===

impl Proxy {
    pub async fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let slow = Arc::new(AtomicBool::new(false));
        let (to, how) = (server.port, Arc::clone(&slow));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                tokio::spawn(pass(from_client, to_server, Arc::clone(&how)));
                tokio::spawn(pass(from_server, to_client, Arc::clone(&how)));
            }
        });
        Proxy { port, slow, task }
    }
}

async fn pass(mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin, slow: Arc<AtomicBool>) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        if slow.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        if to.write_all(&piece[..n]).await.is_err() {
            return;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Cluster ===

impl Cluster {
    pub async fn start() -> Self {
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "2000",
            // what is left goes on when a node is gone
            "--cluster-require-full-coverage",
            "no",
        ];
        let mut nodes = Vec::new();
        for (first, last) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")] {
            let node = Server::start_as("redis-server", &options).await;
            assert_eq!(node.command(&["CLUSTER", "ADDSLOTSRANGE", first, last]).as_deref(), Some("OK"));
            nodes.push(node);
        }
        for node in &nodes[1..] {
            let port = node.port.to_string();
            assert_eq!(nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port]).as_deref(), Some("OK"));
        }
        eventually("the cluster is one", || async {
            nodes.iter().all(|node| {
                let info = node.command(&["CLUSTER", "INFO"]).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
            })
        })
        .await;
        Cluster { nodes }
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}
