//! Where Tollgate listens, and the limits and deadlines of the data port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Checker, is_credential};
use crate::config::error::{Place, join};
use crate::config::raw::{self, At, OneOrMany, Period, Size};
use crate::config::snapshot::{AccessLog, Admin, Listener, Log, LogFormat, Server};

const DATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4001);

impl Checker<'_> {
    /// `open`: no keys are configured.
    pub(super) fn listeners(&mut self, typed: Option<OneOrMany<At<raw::Listener>>>, open: bool) -> Vec<Listener> {
        let Some(OneOrMany(typed)) = typed else { return vec![Listener { address: DATA, tls: None }] };
        if typed.is_empty() {
            let place = Place { line: 1, column: 1 };
            self.faults.missing(place, "listen", "listen: the list is empty: write an address, e.g. 127.0.0.1:4000");
        }
        let mut listeners: Vec<Listener> = Vec::new();
        for entry in typed {
            let Some(at) = entry.value.address else { continue };
            let address = self.address(&at, "listen");
            let tls = entry.value.tls.and_then(|tls| self.tls_files(tls, "listen.tls"));
            let Some(address) = address else { continue };
            if open && !address.ip().to_canonical().is_loopback() {
                let message = format!(
                    "listen: {} can be reached from other machines, but there are no keys, so anybody could spend your \
                     money: add \"keys\", or listen on 127.0.0.1:{}",
                    at.quoted(),
                    address.port()
                );
                self.faults.missing(at.place, "keys", message);
            }
            if address.port() != 0 && listeners.iter().any(|l| l.address == address) {
                self.faults.wrong(at.place, "listen", format!("listen: {} is written twice: remove one", at.quoted()));
            }
            listeners.push(Listener { address, tls });
        }
        listeners
    }

    pub(super) fn admin(&mut self, typed: Option<At<raw::Admin>>, data: &[Listener]) -> Admin {
        let Some(At { value: raw::Admin { listen, token }, .. }) = typed else {
            return Admin { listen: Some(ADMIN), token: None };
        };
        let token = token.map(|at| {
            let text = at.value.expose();
            if text.len() < 16 || !is_credential(text) {
                let message = "admin.token: use 16 or more printable ASCII characters without spaces";
                self.faults.wrong(at.place, "admin", message);
            }
            at.value
        });
        let address = match &listen {
            None => Some(ADMIN),
            Some(at) if at.value == "off" => None,
            Some(at) => self.address(at, "admin.listen"),
        };
        if let (Some(address), Some(at)) = (address, &listen) {
            if token.is_none() && !address.ip().to_canonical().is_loopback() {
                let message = format!(
                    "admin.listen: {} can be reached from other machines, but there is no token: add \"admin.token\", or \
                     listen on 127.0.0.1:{}",
                    at.quoted(),
                    address.port()
                );
                self.faults.missing(at.place, "admin", message);
            }
            if address.port() != 0 && data.iter().any(|l| l.address == address) {
                let message = format!("admin.listen: {} is a data port already: write another", at.quoted());
                self.faults.wrong(at.place, "admin", message);
            }
        }
        Admin { listen: address, token }
    }

    /// An IP address with its port; `localhost` is `127.0.0.1`.
    fn address(&mut self, at: &At<String>, path: &str) -> Option<SocketAddr> {
        let text = at.value.trim();
        let ip_text = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        if let Ok(address) = ip_text.as_deref().unwrap_or(text).parse() {
            return Some(address);
        }
        let advice = match text.strip_prefix(':').or_else(|| text.strip_prefix("*:")).unwrap_or(text).parse::<u16>() {
            Ok(port) => {
                format!("write \"127.0.0.1:{port}\" for this machine only, or \"0.0.0.0:{port}\" for everybody")
            }
            Err(_) => "write an IP address and a port, for example \"127.0.0.1:4000\" or \"[::1]:4000\"".to_owned(),
        };
        self.faults.wrong(at.place, path, format!("{path}: {} is not an address: {advice}", at.quoted()));
        None
    }

    pub(super) fn server(&mut self, typed: raw::Server) -> Server {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let body_limit = self.size("body_limit", &typed.body_limit, 32_000_000);
        let buffer_limit = self.size("buffer_limit", &typed.buffer_limit, 512_000_000);
        if buffer_limit < body_limit
            && let Some(at) = typed.buffer_limit.as_ref().or(typed.body_limit.as_ref())
        {
            let message = format!(
                "server.buffer_limit ({buffer_limit} bytes) is less than server.body_limit ({body_limit} bytes), so the \
                 largest request would never fit: raise the one or lower the other"
            );
            self.faults.wrong(at.place, "server", message);
        }
        Server {
            threads: count(typed.threads, cores),
            body_limit,
            buffer_limit,
            connections: count(typed.connections, 20_000),
            connections_per_address: count(typed.connections_per_address, 10_000),
            first_byte_timeout: self.deadline("first_byte_timeout", &typed.first_byte_timeout, 5),
            header_timeout: self.deadline("header_timeout", &typed.header_timeout, 10),
            body_timeout: self.deadline("body_timeout", &typed.body_timeout, 60),
            body_min_rate: typed.body_min_rate.map_or(1_000, |at| at.value.0),
            write_timeout: self.deadline("write_timeout", &typed.write_timeout, 60),
            keepalive_timeout: self.deadline("keepalive_timeout", &typed.keepalive_timeout, 60),
            connection_age: self.deadline("connection_age", &typed.connection_age, 3_600),
            drain_timeout: period(&typed.drain_timeout, 300),
            heartbeat: period(&typed.heartbeat, 15),
            trusted_proxies: typed.trusted_proxies.unwrap_or_default().iter().filter_map(|at| self.block(at)).collect(),
            hosts: typed.hosts.unwrap_or_default().iter().filter_map(|at| self.host(at)).collect(),
            upgrade_socket: match typed.upgrade_socket {
                Some(at) => self.path(&at.value),
                None => self.default_upgrade_socket(),
            },
        }
    }

    fn size(&mut self, name: &str, typed: &Option<At<Size>>, default: usize) -> usize {
        let Some(at) = typed else { return default };
        let bytes = usize::try_from(at.value.0).unwrap_or(usize::MAX);
        if bytes == 0 {
            let path = join("server", name);
            self.faults.wrong(at.place, &path, format!("{path}: a limit of zero lets nothing through: make it larger"));
        }
        bytes
    }

    fn deadline(&mut self, name: &str, typed: &Option<At<Period>>, default_seconds: u64) -> Duration {
        if let Some(at) = typed {
            self.not_zero(at, &join("server", name));
        }
        period(typed, default_seconds)
    }

    /// A CIDR block, or one address.
    fn block(&mut self, at: &At<String>) -> Option<ipnet::IpNet> {
        let text = at.value.trim();
        if let Ok(block) = text.parse::<ipnet::IpNet>() {
            return Some(block.trunc());
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Some(ip.into());
        }
        let message = format!(
            "server.trusted_proxies: {} is not an address block: write for example \"10.0.0.0/8\" or \"192.0.2.7\"",
            at.quoted()
        );
        self.faults.wrong(at.place, "server.trusted_proxies", message);
        None
    }

    /// A host name without its port, in lower case; an IPv6 address without brackets.
    fn host(&mut self, at: &At<String>) -> Option<String> {
        let text = at.value.trim().trim_end_matches('.').to_ascii_lowercase();
        let name = !text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            });
        if name || text.parse::<IpAddr>().is_ok() {
            return Some(text);
        }
        let message = format!(
            "server.hosts: {} is not a host name: write for example \"llm.example.com\", without scheme and port",
            at.quoted()
        );
        self.faults.wrong(at.place, "server.hosts", message);
        None
    }

    /// Never in a folder where other users may put a socket of the same name first.
    fn default_upgrade_socket(&self) -> PathBuf {
        // systemd may name several folders, separated by colons (systemd.exec(5), RuntimeDirectory=).
        let run = self.environment.get("RUNTIME_DIRECTORY").filter(|v| !v.is_empty());
        let user = self.environment.get("XDG_RUNTIME_DIR").filter(|v| !v.is_empty());
        match (run.as_deref().and_then(|r| r.split(':').next()), user) {
            (Some(folder), _) => Path::new(folder).join("upgrade.sock"),
            (None, Some(folder)) => Path::new(&folder).join("tollgate-upgrade.sock"),
            (None, None) => PathBuf::from("/run/tollgate/upgrade.sock"),
        }
    }

    pub(super) fn log(&mut self, typed: raw::Log) -> Log {
        let access = match typed.access.as_ref().map(|at| at.value.as_str()) {
            None | Some("stdout") => AccessLog::Stdout,
            Some("stderr") => AccessLog::Stderr,
            Some("off") => AccessLog::Off,
            Some(file) => AccessLog::File(self.path(file)),
        };
        let level = typed.level.map_or_else(
            || "info".to_owned(),
            |at| {
                if tracing_subscriber::EnvFilter::builder().parse(&at.value).is_err() {
                    let message = format!(
                        "log.level: {} is not a filter: write error, warn, info, debug or trace, or for example \
                         \"tollgate=debug,warn\"",
                        at.quoted()
                    );
                    self.faults.wrong(at.place, "log.level", message);
                }
                at.value
            },
        );
        let format = match typed.format {
            None | Some(raw::LogFormat::Auto) => LogFormat::Auto,
            Some(raw::LogFormat::Text) => LogFormat::Text,
            Some(raw::LogFormat::Json) => LogFormat::Json,
        };
        Log { access, level, format }
    }
}

fn count(typed: Option<u32>, default: usize) -> usize {
    typed.map_or(default, |n| usize::try_from(n).unwrap_or(default))
}

fn period(typed: &Option<At<Period>>, default_seconds: u64) -> Duration {
    typed.as_ref().map_or(Duration::from_secs(default_seconds), |at| at.value.0)
}
