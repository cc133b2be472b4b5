//! The gateway under test: the real binary as a process of its own, with its ports, its log and its signals.

pub mod certificates;
pub mod raw;
pub mod redis;
pub mod scripted;
pub mod tokens;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tollgate::simulator::{Options, Record, Simulator};

/// The virtual key of every test's gateway.
pub const KEY: &str = "sk-test-0123456789abcdef";
/// The provider's credential.
pub const UPSTREAM_KEY: &str = "upstream-key";

/// A gateway that is stopped when dropped.
pub struct Gateway {
    pub data: SocketAddr,
    pub admin: SocketAddr,
    pub key: &'static str,
    folder: tempfile::TempDir,
    child: Child,
}

/// A simulated provider in this process.
pub struct Upstream {
    pub address: SocketAddr,
    pub simulator: Simulator,
    task: tokio::task::JoinHandle<()>,
}

pub async fn gateway_to(upstream: SocketAddr) -> Gateway {
    gateway_with(upstream, "").await
}

/// `extra_yaml`: whole top-level sections.
pub async fn gateway_with(upstream: SocketAddr, extra_yaml: &str) -> Gateway {
    Gateway::start(&format!("{}{extra_yaml}", one_provider(upstream)), &[]).await
}

/// One OpenAI-compatible provider, a few models, the test key.
pub fn one_provider(upstream: SocketAddr) -> String {
    format!(
        "providers:\n  up: {{kind: openai, base_url: \"http://{upstream}/v1\", api_key: {UPSTREAM_KEY}, queue: off}}\n\
         models:\n  gpt-4o-mini: up/gpt-4o-mini\n  alias: up/gpt-4o-mini\n\
         keys:\n  - {{name: test, key: {KEY}, tags: {{team: search}}}}\n"
    )
}

/// A simulated provider that answers without a pause between chunks.
pub async fn upstream() -> Upstream {
    upstream_with(Options {
        api_key: Some(UPSTREAM_KEY.to_owned()),
        pace: Duration::from_millis(1),
        ..Options::default()
    })
    .await
}

pub async fn upstream_with(options: Options) -> Upstream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let address = listener.local_addr().expect("its address");
    let simulator = Simulator::new(options);
    let task = tokio::spawn({
        let simulator = simulator.clone();
        async move { simulator.serve(listener).await }
    });
    Upstream { address, simulator, task }
}

/// An HTTP client that reuses connections and follows nothing.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(30))
        .build()
        .expect("a client")
}

/// The same over HTTP/2 without TLS.
pub fn h2_client() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy().http2_prior_knowledge();
    builder.timeout(Duration::from_secs(30)).build().expect("a client")
}

/// Ask until `found` says yes; within five seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut found: impl FnMut() -> F) {
    let begun = Instant::now();
    while !found().await {
        assert!(begun.elapsed() < Duration::from_secs(5), "not within five seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A loopback port nobody holds now, and that was given to no other test: below those that the system gives to whoever asks for any port, or
/// another test's server could have it before the gateway does.
pub fn free_port() -> u16 {
    static GIVEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
    let drawn = || 10_000 + u16::try_from(RandomState::new().build_hasher().finish() % 22_000).expect("small");
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut given = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let port = (0..100).map(|_| drawn()).find(|port| !given.contains(port) && is_free(port));
    let port = port.expect("a port of a hundred");
    given.push(port);
    port
}

// === impl Upstream ===

impl Upstream {
    pub fn record(&self) -> std::sync::Arc<Record> {
        self.simulator.record()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Gateway ===

impl Gateway {
    /// Start with this configuration and wait until it is ready. `log` is added, and so are `listen` and `admin` unless they are
    /// written, with `LISTEN` and `ADMIN` in the place of their addresses.
    pub async fn start(yaml: &str, environment: &[(&str, &str)]) -> Gateway {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = folder.path().join("access.log");
        let socket = folder.path().join("upgrade.sock");
        let listen = if yaml.contains("\nlisten:") || yaml.starts_with("listen:") {
            yaml.replace("LISTEN", &data.to_string())
        } else {
            format!("listen: {data}\n{yaml}")
        };
        // here providers fail on purpose, again and again: a breaker is tested where it is written
        let listen = if listen.contains("breaker:") { listen } else { format!("{listen}\nbreaker: off\n") };
        let listen = if listen.contains("server:\n") {
            listen.replace("server:\n", &format!("server:\n  upgrade_socket: {}\n", socket.display()))
        } else {
            format!("{listen}\nserver:\n  upgrade_socket: {}\n", socket.display())
        };
        let mut text = listen.replace("ADMIN", &admin.to_string());
        if !text.contains("\nadmin:") {
            text.push_str(&format!("\nadmin: {{listen: \"{admin}\"}}\n"));
        }
        text.push_str(&format!("\nlog: {{access: \"{}\", level: info}}\n", log.display()));
        let path = folder.path().join("tollgate.yaml");
        std::fs::write(&path, text).expect("the configuration is written");
        let child = spawn(&path, &[], environment);
        let mut gateway = Gateway { data, admin, key: KEY, folder, child };
        gateway.wait_ready().await;
        gateway
    }

    /// The same again, once the process has ended.
    pub async fn restart(&mut self) {
        self.ended(Duration::from_secs(10)).await;
        self.child = spawn(&self.config_path(), &[], &[]);
        self.wait_ready().await;
    }

    /// A second process for the same configuration, started to take over.
    pub fn start_successor(&self) -> Child {
        spawn(&self.config_path(), &["--upgrade"], &[])
    }

    pub async fn wait_ready(&mut self) {
        let begun = Instant::now();
        loop {
            if let Ok(answer) = client().get(format!("http://{}/readyz", self.admin)).send().await
                && answer.status() == 200
            {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the gateway ended with {status}: {}", self.stderr());
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "not ready: {}", self.stderr());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.data)
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("tollgate.yaml")
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory the gateway holds.
    pub fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
        line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
    }

    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process id");
        // SAFETY: a signal to a child of ours that has not been reaped.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "signal {signal} to the gateway");
    }

    /// Wait for the process to end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                return status;
            }
            assert!(begun.elapsed() < within, "still running after {within:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The access log so far: one object per call.
    pub fn log(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        // the last one may still be on its way
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }

    /// The access log once it holds `count` lines.
    pub async fn log_of(&self, count: usize) -> Vec<serde_json::Value> {
        eventually("the access log is written", || async { self.log().len() >= count }).await;
        self.log()
    }

    pub async fn metrics(&self) -> String {
        let answer = client().get(format!("http://{}/metrics", self.admin)).send().await.expect("the admin port");
        answer.text().await.expect("metrics")
    }

    /// The sum of a metric's samples whose labels hold all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.metrics()
            .await
            .lines()
            .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// A chat request, ready to send.
    pub fn chat(&self, client: &reqwest::Client, model: &str, stream: bool) -> reqwest::RequestBuilder {
        client.post(self.url("/v1/chat/completions")).bearer_auth(self.key).json(&serde_json::json!({
            "model": model, "stream": stream, "messages": [{ "role": "user", "content": "Hello" }],
        }))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Start with a configuration (whole, nothing is added) that must not serve: how it ended and what it said.
pub async fn refused_start(yaml: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tollgate.yaml");
    std::fs::write(&path, yaml).expect("the configuration is written");
    let mut child = spawn(&path, &[], &[]);
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return (status.code(), std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default());
        }
        if begun.elapsed() > Duration::from_secs(10) {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it serves, or hangs, with\n{yaml}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn spawn(config: &std::path::Path, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
    let stderr = std::fs::File::options()
        .create(true)
        .append(true)
        .open(config.with_file_name("stderr"))
        .expect("a file for stderr");
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["serve", "-c"])
        .arg(config)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the gateway's binary")
}
