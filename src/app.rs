//! Wiring: from a configuration to running services, and from signals to their end.
//!
//! SIGHUP reloads. SIGTERM closes the listeners, lets running calls end (`drain_timeout` at most) and exits. SIGQUIT hands the listeners to a
//! process started with `--upgrade` and then drains the same way. SIGINT ends at once.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use pingora_proxy::HttpProxy;
use tokio::signal::unix::{SignalKind, signal};

mod books;

use self::books::Books;
use crate::admin::{self, Admin};
use crate::config::keyring::Keyring;
use crate::config::snapshot::{AccessLog, Snapshot};
use crate::config::store::LedgerPlace;
use crate::config::watch::Live;
use crate::filter::auth::Failures;
use crate::filter::jwt::Issuers;
use crate::gateway::tls::{self, Certificate};
use crate::gateway::{Buffered, Connections, Door, Gateway, Shared};
use crate::route;
use crate::store;
use crate::store::keys::KeyTable;
use crate::telemetry::{AccessWriter, Metrics};
use crate::upstream::track::Tracks;
use crate::upstream::{Credentials, Upstreams};

/// A data port that does not accept within this time will not.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// A start waits so long for the keys in the store.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to open the store.
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// After SIGQUIT a successor has this long to ask for the listeners.
const SUCCESSOR_PATIENCE: Duration = Duration::from_secs(3);
/// What clients name and the configuration does not is remembered over reloads for so long after its last call.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Answers still in the socket's buffers when the last call has ended.
const FLUSH: Duration = Duration::from_millis(100);

/// What each TLS listener shows.
type Certificates = Vec<(SocketAddr, Arc<Certificate>)>;

/// How the process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Fresh,
    /// Take the listeners over from the process that gets SIGQUIT.
    Upgrade,
}

/// Ask the kernel for small pages: with huge ones a stream that touches a few kilobytes holds many times as much (measured: 198
/// instead of 77 KiB), and half the time of opening one goes into clearing them.
#[expect(unsafe_code, reason = "prctl has no safe wrapper here")]
pub fn small_pages() {
    // SAFETY: sets a flag of this process; no memory is involved. Failure changes nothing but the memory used.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}

/// mimalloc's `mi_option_purge_delay`, which its binding does not name: milliseconds from freeing a page to giving it back.
const PURGE_DELAY: libc::c_int = 15;

/// Ask the allocator to give freed pages back soon: with its default of a second, large bodies that come and go hold twice the
/// memory that they are bounded to (measured: 245 instead of 160 MB where 120 are allowed).
#[expect(unsafe_code, reason = "the allocator's options have no safe wrapper")]
pub fn lean_heap() {
    // SAFETY: stores a number in a table of the allocator's.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 10) }
}

/// Run until a signal ends it.
pub fn run(live: Arc<Live>, start: Start) -> ExitCode {
    let snapshot = live.load();
    if start == Start::Fresh
        && let Err((address, error)) = free(&snapshot)
    {
        eprintln!("tollgate: cannot listen on {address}: {error}");
        return ExitCode::from(1);
    }
    let access = match access_log(&snapshot) {
        Ok(access) => access,
        Err(error) => {
            eprintln!("tollgate: the access log cannot be opened: {error}");
            return ExitCode::from(1);
        }
    };
    let books = match Books::open(&snapshot) {
        Ok(books) => Arc::new(books),
        Err(error) => {
            eprintln!("tollgate: {error}");
            return ExitCode::from(3);
        }
    };
    let conf = server_conf(&snapshot);
    let shared = Arc::new(Shared {
        live,
        metrics: Arc::new(Metrics::new()),
        access: access.clone(),
        connections: Connections::new(),
        buffered: Arc::new(Buffered::default()),
        failures: ArcSwap::from_pointee(Failures::new(snapshot.keys.failures_per_minute)),
        issuers: Issuers::default(),
        keyring: Keyring::default(),
        key_table: OnceLock::new(),
        upstreams: Upstreams::new(&conf),
        credentials: Credentials::new(),
        tracks: Tracks::default(),
        ledger: books.ledger.clone(),
        quotas: books.quotas.clone(),
        events: books.events.clone(),
        started: Instant::now(),
    });

    if snapshot.keys.lasting && snapshot.store.ledger != LedgerPlace::Off {
        shared.keyring.expect();
    }

    let opt = Opt { upgrade: start == Start::Upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(Some(opt), conf);
    server.bootstrap();

    let certificates = match data_service(&mut server, &snapshot, &shared) {
        Ok(certificates) => Arc::new(certificates),
        Err(error) => {
            eprintln!("tollgate: {error}");
            return ExitCode::from(1);
        }
    };
    let ready = Arc::new(AtomicBool::new(false));
    let keeper = Housekeeper {
        shared: Arc::clone(&shared),
        certificates,
        ready: Arc::clone(&ready),
        start,
        books: Arc::clone(&books),
    };
    let mut keeper = background_service("housekeeping", keeper);
    keeper.threads = Some(1);
    server.add_service(keeper);

    let phases = server.watch_execution_phase();
    let (drained, log, kept) = (Arc::clone(&shared), access.clone(), Arc::clone(&books));
    let drain = std::thread::Builder::new()
        .name("drain".into())
        .spawn(move || exit_when_drained(phases, &drained, &log, &kept));
    if let Err(error) = drain {
        eprintln!("tollgate: cannot start a thread: {error}");
        return ExitCode::from(3);
    }
    server.run(RunArgs { shutdown_signal: Box::new(Signals { shared }) });
    books.close();
    access.flush();
    ExitCode::SUCCESS
}

/// Whether every address can be bound: Pingora would only find out in a task of its own.
fn free(snapshot: &Snapshot) -> Result<(), (SocketAddr, io::Error)> {
    let data = snapshot.listen.iter().map(|l| l.address);
    for address in data.chain(snapshot.admin.listen) {
        std::net::TcpListener::bind(address).map_err(|e| (address, e))?;
    }
    Ok(())
}

fn access_log(snapshot: &Snapshot) -> io::Result<AccessWriter> {
    match &snapshot.log.access {
        AccessLog::Off => Ok(AccessWriter::off()),
        AccessLog::Stdout => AccessWriter::stdout(),
        AccessLog::Stderr => AccessWriter::stderr(),
        AccessLog::File(path) => AccessWriter::file(path),
    }
}

fn server_conf(snapshot: &Snapshot) -> ServerConf {
    let server = &snapshot.server;
    ServerConf {
        threads: server.threads,
        // the wait for running calls; `exit_when_drained` ends it early
        grace_period_seconds: Some(server.drain_timeout.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        upgrade_sock: server.upgrade_socket.to_string_lossy().into_owned(),
        upstream_keepalive_pool_size: 1024,
        // tries at a connection in the opaque lane; which errors are tried again is decided in `gateway::proxy`
        max_retries: 4,
        ..ServerConf::default()
    }
}

/// The data port: one proxy on every listener. Returns what shows a certificate, by its listener.
fn data_service(server: &mut Server, snapshot: &Snapshot, shared: &Arc<Shared>) -> Result<Certificates, String> {
    let mut proxy = HttpProxy::new(Gateway::new(Arc::clone(shared)), Arc::clone(&server.configuration));
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(snapshot.server.keepalive_timeout);
    proxy.server_options = Some(options);
    proxy.handle_init_modules();
    let mut service = Service::new("data".into(), Door::new(proxy, Arc::clone(shared)));
    let mut certificates = Vec::new();
    for listener in &snapshot.listen {
        let address = listener.address.to_string();
        match &listener.tls {
            None => service.add_tcp(&address),
            Some(files) => {
                let certificate = Certificate::load(files)?;
                let settings = tls::settings(files, Arc::clone(&certificate))?;
                service.add_tls_with_settings(&address, None, settings);
                certificates.push((listener.address, certificate));
            }
        }
    }
    server.add_service(service);
    Ok(certificates)
}

// === what runs beside the calls ===

struct Housekeeper {
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
    ready: Arc<AtomicBool>,
    start: Start,
    books: Arc<Books>,
}

#[async_trait]
impl BackgroundService for Housekeeper {
    async fn start(&self, shutdown: ShutdownWatch) {
        let snapshot = self.shared.live.load();
        self.on_reload();
        let configured: Vec<_> = self.shared.live.load().accounts().cloned().collect();
        self.shared.upstreams.watch(&configured);
        self.shared.issuers.follow(&self.shared.live.load().keys.issuers);
        let admin = async {
            let Some(address) = snapshot.admin.listen else { return };
            match admin::bind(address, self.start == Start::Upgrade).await {
                Ok(listener) => {
                    let admin = Admin { shared: Arc::clone(&self.shared), ready: Arc::clone(&self.ready) };
                    serve_admin(listener, admin, shutdown.clone()).await;
                }
                Err(error) => tracing::error!("the admin port {address} cannot be bound: {error}"),
            }
        };
        tokio::join!(
            admin,
            self.shared.connections.sweep(),
            self.shared.issuers.watch(),
            self.follow_keys(),
            self.shared.upstreams.check_health(),
            self.announce(&snapshot),
            self.reload_on_hangup()
        );
    }
}

/// Until the process ends: `/readyz` says "draining" meanwhile. On a hand-over the port is let go for the successor.
async fn serve_admin(listener: tokio::net::TcpListener, admin: Admin, mut shutdown: ShutdownWatch) {
    let shared = Arc::clone(&admin.shared);
    let handed_over = async move {
        while shutdown.changed().await.is_ok() {
            if shared.connections.handing_over() {
                return;
            }
        }
        std::future::pending().await
    };
    let serve = axum::serve(listener, admin::router(admin)).with_graceful_shutdown(handed_over);
    if let Err(error) = serve.await {
        tracing::error!("the admin port failed: {error}");
    }
}

impl Housekeeper {
    /// Say that calls are accepted, once they are.
    async fn announce(&self, snapshot: &Snapshot) {
        let begun = Instant::now();
        for listener in &snapshot.listen {
            let mut address = listener.address;
            if address.ip().is_unspecified() {
                address.set_ip(match address {
                    SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            loop {
                let knock = tokio::task::spawn_blocking(move || {
                    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
                });
                if knock.await.unwrap_or(false) {
                    break;
                }
                if begun.elapsed() > START_PATIENCE {
                    tracing::error!("the data port {address} does not accept connections; giving up");
                    self.shared.access.flush();
                    std::process::exit(3);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        // a key that was made yesterday is known from the first call on, unless the store is away
        while !self.shared.keyring.is_ready() && begun.elapsed() < KEYS_PATIENCE {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.ready.store(true, Ordering::Release);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        for listener in &snapshot.listen {
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            tracing::info!("listening on {scheme}://{}", listener.address);
        }
        if let Some(address) = snapshot.admin.listen {
            tracing::info!("admin on http://{address}");
        }
    }

    /// Read the keys that were made while running, and then each change of them.
    async fn follow_keys(&self) {
        // the ledger's own: SQLite has one writer a process
        let Some(db) = self.shared.ledger.db().cloned() else { return };
        while let Err(error) = db.migrate().await {
            tracing::warn!("keys that were made while running cannot be read yet: {error}");
            tokio::time::sleep(STORE_PAUSE).await;
        }
        let table = self.shared.key_table.get_or_init(|| KeyTable::new(db));
        store::keys::follow(table, &self.shared.keyring, store::keys::POLL).await;
    }

    async fn reload_on_hangup(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            tracing::error!("SIGHUP cannot be received");
            return;
        };
        while hangup.recv().await.is_some() {
            let live = Arc::clone(&self.shared.live);
            // its outcome is logged and kept by `Live`
            let _ = tokio::task::spawn_blocking(move || live.reload().is_ok()).await;
        }
    }

    /// What follows a reload: counters that carry over, connections that are no longer needed, certificates. A renewed certificate
    /// file is a reload too.
    fn on_reload(&self) {
        let shared = Arc::downgrade(&self.shared);
        let (certificates, books) = (Arc::clone(&self.certificates), Arc::clone(&self.books));
        self.shared.live.on_reload(Box::new(move |outcome| {
            let Some(shared) = shared.upgrade() else { return };
            let label = if outcome.is_ok() { "ok" } else { "refused" };
            shared.metrics.reloads.with_label_values(&[label]).inc();
            let Ok(snapshot) = outcome else { return };
            if shared.failures.load().per_minute() != snapshot.keys.failures_per_minute {
                shared.failures.store(Arc::new(Failures::new(snapshot.keys.failures_per_minute)));
            }
            let providers: Vec<_> = snapshot.accounts().cloned().collect();
            shared.issuers.follow(&snapshot.keys.issuers);
            shared.upstreams.watch(&providers);
            shared.credentials.retain(&providers);
            forget_targets(&shared.tracks, snapshot);
            books.on_reload(Arc::clone(&shared.live));
            reload_all(&certificates, snapshot);
        }));
    }
}

/// What is known of targets that cannot be asked any more is forgotten, and after a while what is known of those that only clients name.
fn forget_targets(tracks: &Tracks, snapshot: &Snapshot) {
    let (listed, now) = (route::listed(snapshot), Instant::now());
    tracks.retain(|track| {
        let name = &track.name;
        let mut accounts = snapshot.accounts().filter(|provider| provider.name.as_str() == &*name.provider);
        listed.contains_key(&track.id)
            || (track.idle(now) < REMEMBERED
                && accounts.any(|provider| route::identity(provider, &name.model) == track.id))
    });
}

fn reload_all(certificates: &Certificates, snapshot: &Snapshot) {
    for (address, certificate) in certificates {
        let listener = snapshot.listen.iter().find(|listener| listener.address == *address);
        // a listener that is gone, or without TLS from now on, stays as it is until the restart
        let Some(files) = listener.and_then(|listener| listener.tls.as_ref()) else { continue };
        match certificate.reload(files) {
            Ok(()) => tracing::info!("certificate {} loaded", files.cert.display()),
            Err(error) => tracing::error!("the certificate in use stays: {error}"),
        }
    }
}

// === the end ===

struct Signals {
    shared: Arc<Shared>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signals = (signal(SignalKind::terminate()), signal(SignalKind::quit()), signal(SignalKind::interrupt()));
        let (Ok(mut terminate), Ok(mut quit), Ok(mut interrupt)) = signals else {
            tracing::error!("signals cannot be received");
            return std::future::pending().await;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    tracing::info!("SIGTERM: draining");
                    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                    self.shared.connections.drain();
                    return ShutdownSignal::GracefulTerminate;
                }
                _ = quit.recv() => {
                    // the successor listens there for the sockets; without one Pingora would close them and end
                    let socket = self.shared.live.load().server.upgrade_socket.clone();
                    if !appears(&socket).await {
                        tracing::error!(
                            "SIGQUIT: no process waits at {} to take over; start one with --upgrade first. Going on.",
                            socket.display()
                        );
                        continue;
                    }
                    tracing::info!("SIGQUIT: handing over");
                    self.shared.connections.hand_over();
                    return ShutdownSignal::GracefulUpgrade;
                }
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
            }
        }
    }
}

/// Whether the successor's socket is there, or comes soon: it may just be starting.
async fn appears(socket: &std::path::Path) -> bool {
    let begun = Instant::now();
    while !socket.exists() {
        if begun.elapsed() > SUCCESSOR_PATIENCE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Pingora waits its grace period in full; once the listeners are closed and the last call has ended there is nothing to wait for.
fn exit_when_drained(
    mut phases: tokio::sync::broadcast::Receiver<ExecutionPhase>,
    shared: &Shared,
    access: &AccessWriter,
    books: &Books,
) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match phases.blocking_recv() {
            Ok(ExecutionPhase::ShutdownGracePeriod) => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
    shared.connections.drain();
    let mut idle_since: Option<Instant> = None;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        if shared.connections.calls() > 0 {
            idle_since = None;
            continue;
        }
        let idle = *idle_since.get_or_insert_with(Instant::now);
        if idle.elapsed() >= FLUSH {
            tracing::info!("drained");
            books.close();
            access.flush();
            std::process::exit(0);
        }
    }
}
