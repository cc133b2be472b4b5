//! Real PostgreSQL servers for tests: each in a temporary folder, on a free loopback port, ended when nobody holds it any more. Uses nothing of
//! the gateway, so that unit tests may include this file too.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A server. It is stopped when dropped, and also when this process ends without doing so.
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    /// A shell that ends the server once its input is closed.
    child: Option<Child>,
}

/// An empty database of its own, on a server that all tests of this process share. Its URL.
pub fn database() -> String {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start).database()
}

// === impl Postgres ===

impl Postgres {
    pub fn start() -> Postgres {
        let folder = tempfile::Builder::new().prefix("pg").tempdir().expect("a temporary folder");
        if is_root() {
            // the server refuses to be root, and must reach its folder
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("its own folder");
        }
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder in it");
        if is_root() {
            run(Command::new("chown").arg("postgres:postgres").arg(&data));
        }
        run(as_user(&program("initdb")).arg("-D").arg(&data).args([
            "-U",
            "tollgate",
            "--auth=trust",
            "--no-sync",
            "--no-instructions",
            "-E",
            "UTF8",
            "--locale=C",
        ]));
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a loopback port").port();
        let mut server = Postgres { folder, port, child: None };
        server.resume();
        server
    }

    /// Start again what was stopped; same port, same data.
    pub fn resume(&mut self) {
        let data = self.folder.path().join("data");
        let script = r#""$@" >"$DATA/log" 2>&1 & server=$!; cat >/dev/null; kill -QUIT $server; wait $server"#;
        let mut shell = as_user(Path::new("sh"));
        shell.args(["-c", script, "sh"]).arg(program("postgres")).arg("-D").arg(&data);
        shell.args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=200"]);
        shell.arg("-k").arg(&data).env("DATA", &data);
        self.child = Some(shell.stdin(Stdio::piped()).spawn().expect("a shell"));
        let begun = Instant::now();
        while !as_user(&program("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status()
            .is_ok_and(|status| status.success())
        {
            assert!(begun.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// At once, as if it had died.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ended = child.wait();
        }
    }

    /// An empty database; its URL.
    pub fn database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        run(as_user(&program("createdb")).args(["-h", "127.0.0.1", "-p", &port, "-U", "tollgate", &name]));
        format!("postgres://tollgate@127.0.0.1:{port}/{name}?sslmode=disable")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("data/log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

/// Debian keeps the server's programs out of the path, by version.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: is PostgreSQL installed?"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
