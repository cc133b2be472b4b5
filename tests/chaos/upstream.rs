//! A scripted upstream: a port of its own for each cell of the matrix, that misbehaves until it is healed, and writes down what it was sent.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::fault::{Fault, Scene};
use crate::support::raw::{RawRequest, parse_request};

/// No script takes longer: whoever still holds on then is let go.
const PATIENCE: Duration = Duration::from_secs(16);
/// Not 127.0.0.1, where other tests look for ports that are free, and take for their own what answers there.
const HOST: [u8; 4] = if cfg!(target_os = "linux") { [127, 0, 0, 77] } else { [127, 0, 0, 1] };
/// So much is flooded at most: a gateway that takes all of it has no bound.
const FLOOD: usize = 96 * 1024 * 1024;

/// What is done to a connection, in order. Behind the last step the next request is awaited.
#[derive(Debug, Clone)]
pub enum Step {
    /// Read a whole request. Once healed, it is answered as it should be.
    Request,
    /// Read the header section, and nothing of the body.
    Head,
    Write(Vec<u8>),
    /// A byte at a time, with this pause behind each.
    Drip(Vec<u8>, Duration),
    /// Again and again, with this pause between, until the peer has enough.
    Flood(Vec<u8>, Duration),
    Wait(Duration),
    /// Say nothing until the peer leaves.
    Hang,
    /// Not even read.
    Deaf,
    /// RST.
    Reset,
    /// FIN.
    Close,
}

/// How often it misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plays {
    /// On its first connection.
    Once,
    /// Until it is healed.
    Always,
}

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    /// Bound, and not listening yet: a connection is refused.
    closed: Mutex<Option<TcpSocket>>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    scene: Scene,
    fault: Option<Fault>,
    plays: Plays,
    played: AtomicBool,
    healed: AtomicBool,
    record: Mutex<Record>,
}

/// What was seen at this port.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub connections: usize,
    pub requests: Vec<RawRequest>,
    /// When each was there.
    pub times: Vec<Instant>,
    /// What is no request, or only a part of one where all of it was waited for.
    pub broken: Vec<String>,
    /// Took all that a flood has.
    pub drowned: bool,
}

// === impl Upstream ===

impl Upstream {
    /// `None`: it is well. `scene.address` is put in.
    pub fn start(mut scene: Scene, fault: Option<Fault>, plays: Plays) -> Upstream {
        let socket = TcpSocket::new_v4().expect("a socket");
        if fault.as_ref().is_some_and(|fault| fault.padding > 0) {
            // what is not read must not all find room on the way
            let _ = socket.set_recv_buffer_size(16 * 1024);
        }
        socket.bind(SocketAddr::from((HOST, 0))).expect("a loopback port");
        let address = socket.local_addr().expect("its address");
        scene.address = address;
        let refuses = fault.as_ref().is_some_and(|fault| fault.refuses);
        let (played, healed) = (AtomicBool::new(false), AtomicBool::new(false));
        let record = Mutex::new(Record::default());
        let shared = Arc::new(Shared { scene, fault, plays, played, healed, record });
        let upstream = Upstream { address, shared, closed: Mutex::new(Some(socket)), accepting: Mutex::new(None) };
        if !refuses {
            upstream.listen();
        }
        upstream
    }

    fn listen(&self) {
        let Some(socket) = self.closed.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let listener = socket.listen(64).expect("it listens");
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// From now on every request is answered as it should be.
    pub fn heal(&self) {
        self.shared.healed.store(true, Ordering::SeqCst);
        self.listen();
    }

    /// As it was at the start, with an empty record; not where a connection was refused.
    pub fn relapse(&self) -> bool {
        self.shared.healed.store(false, Ordering::SeqCst);
        self.shared.played.store(false, Ordering::SeqCst);
        *self.shared.lock() = Record::default();
        self.shared.fault.as_ref().is_some_and(|fault| !fault.refuses)
    }

    pub fn record(&self) -> Record {
        self.shared.lock().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

// === impl Record ===

impl Record {
    fn came(&mut self, request: RawRequest) {
        self.requests.push(request);
        self.times.push(Instant::now());
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script(&self) -> Vec<Step> {
        let again = self.played.swap(true, Ordering::SeqCst) && self.plays == Plays::Once;
        match &self.fault {
            Some(fault) if !again && !self.healed.load(Ordering::SeqCst) => (fault.play)(&self.scene),
            _ => vec![Step::Request, Step::Write(self.scene.good())],
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // its connections end with it
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        shared.lock().connections += 1;
        let shared = Arc::clone(&shared);
        connections.spawn(async move { timeout(PATIENCE, serve(socket, shared)).await });
        while connections.try_join_next().is_some() {}
    }
}

/// What goes on after a step.
enum Then {
    Next,
    Leave,
    /// The request was answered otherwise: the script begins anew.
    Again,
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    let _ = socket.set_nodelay(true);
    let mut player = Player { socket, buffer: BytesMut::new(), shared };
    loop {
        for step in player.shared.script() {
            match player.play(step).await {
                Then::Next => {}
                Then::Leave => return,
                Then::Again => break,
            }
        }
    }
}

struct Player {
    socket: TcpStream,
    buffer: BytesMut,
    shared: Arc<Shared>,
}

impl Player {
    async fn play(&mut self, step: Step) -> Then {
        let written = match step {
            Step::Request => return self.request().await,
            Step::Head => return self.head().await,
            Step::Write(bytes) => self.socket.write_all(&bytes).await.is_ok(),
            Step::Drip(bytes, pause) => self.drip(&bytes, pause).await,
            Step::Flood(bytes, pause) => self.flood(&bytes, pause).await,
            Step::Wait(time) => {
                sleep(time).await;
                true
            }
            Step::Hang => {
                let mut rest = [0; 1024];
                while matches!(self.socket.read(&mut rest).await, Ok(n) if n > 0) {}
                false
            }
            Step::Deaf => {
                sleep(PATIENCE).await;
                false
            }
            Step::Reset => {
                let _ = self.socket.set_zero_linger();
                false
            }
            Step::Close => {
                let _ = self.socket.shutdown().await;
                // what the peer still sends is read, or closing would be a reset
                let mut rest = [0; 1024];
                let reading = async { while matches!(self.socket.read(&mut rest).await, Ok(n) if n > 0) {} };
                let _ = timeout(Duration::from_secs(2), reading).await;
                false
            }
        };
        if written { Then::Next } else { Then::Leave }
    }

    async fn request(&mut self) -> Then {
        loop {
            match parse_request(&self.buffer) {
                Ok(None) => {}
                Ok(Some(request)) => {
                    let _ = self.buffer.split_to(request.length);
                    self.shared.lock().came(request);
                    if self.shared.healed.load(Ordering::SeqCst) {
                        let good = self.shared.scene.good();
                        return if self.socket.write_all(&good).await.is_ok() { Then::Again } else { Then::Leave };
                    }
                    return Then::Next;
                }
                Err(why) => {
                    self.shared.lock().broken.push(why);
                    return Then::Leave;
                }
            }
            if !self.more().await {
                if !self.buffer.is_empty() {
                    let seen = String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(200)]).into_owned();
                    self.shared.lock().broken.push(format!("{} bytes of a request: {seen:?}", self.buffer.len()));
                }
                return Then::Leave;
            }
        }
    }

    async fn head(&mut self) -> Then {
        while !self.buffer.windows(4).any(|w| w == b"\r\n\r\n") {
            if !self.more().await {
                return Then::Leave;
            }
        }
        Then::Next
    }

    async fn more(&mut self) -> bool {
        matches!(self.socket.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    async fn drip(&mut self, bytes: &[u8], pause: Duration) -> bool {
        for byte in bytes {
            if self.socket.write_all(&[*byte]).await.is_err() {
                return false;
            }
            match pause.is_zero() {
                true => tokio::task::yield_now().await,
                false => sleep(pause).await,
            }
        }
        true
    }

    async fn flood(&mut self, bytes: &[u8], pause: Duration) -> bool {
        let begun = Instant::now();
        let mut sent = 0;
        while sent < FLOOD && begun.elapsed() < Duration::from_secs(9) {
            if self.socket.write_all(bytes).await.is_err() {
                return false;
            }
            sent += bytes.len();
            sleep(pause).await;
        }
        self.shared.lock().drowned = true;
        false
    }
}
