//! One place's task: takes what waits, in its order, and sends it until it is taken or too old.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::webhook::Webhook;
use super::{Counts, Event};
use crate::config::events;

/// Events sent at once.
const BATCH: usize = 100;
/// One try.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries; then twice as long each time, up to `PAUSE_MOST`.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// What nobody takes for so long is given up, so that what is newer gets its turn.
const GIVE_UP: Duration = Duration::from_secs(300);
/// Entries a stream is cut to, roughly: nobody may be reading it.
const STREAM_LENGTH: usize = 100_000;

pub(super) enum Sender {
    Webhook(Webhook),
    Redis(Box<Stream>),
}

/// A stream of Redis. It connects when there is something to send.
pub(super) struct Stream {
    client: Client,
    key: String,
    connection: Option<MultiplexedConnection>,
}

pub(super) async fn run(mut queue: mpsc::Receiver<Arc<Event>>, mut sender: Sender, counts: Arc<Counts>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let number = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let count = if until_taken(&mut sender, &batch, counts.to).await { &counts.sent } else { &counts.failed };
        count.fetch_add(number, Ordering::Relaxed);
        counts.waiting.fetch_sub(number, Ordering::AcqRel);
        batch.clear();
    }
}

/// `false`: it is given up.
async fn until_taken(sender: &mut Sender, batch: &[Arc<Event>], to: &str) -> bool {
    let (begun, mut pause) = (Instant::now(), PAUSE);
    loop {
        let why = match tokio::time::timeout(PATIENCE, sender.send(batch)).await {
            Ok(Ok(())) => return true,
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        if begun.elapsed() + pause > GIVE_UP {
            tracing::error!("{} events could not be sent to the {to}, and are given up: {why}", batch.len());
            return false;
        }
        if pause == PAUSE {
            tracing::warn!("events could not be sent to the {to}: {why}; trying again");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

// === impl Sender ===

impl Sender {
    async fn send(&mut self, batch: &[Arc<Event>]) -> Result<(), String> {
        match self {
            Sender::Webhook(webhook) => webhook.send(batch).await,
            Sender::Redis(stream) => stream.send(batch).await,
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn new(config: &events::Stream) -> Result<Stream, String> {
        let client = Client::open(config.url.expose()).map_err(|_| "its URL cannot be read".to_owned())?;
        Ok(Stream { client, key: config.stream.clone(), connection: None })
    }

    /// An entry an event: `type`, and the whole of it as JSON in `data`.
    async fn send(&mut self, batch: &[Arc<Event>]) -> Result<(), String> {
        let mut pipe = redis::pipe();
        for event in batch {
            let kind = match &**event {
                Event::Budget(_) => "budget",
                Event::Cost(_) => "cost",
            };
            let data = serde_json::to_string(&**event).map_err(|error| error.to_string())?;
            let length = ("MAXLEN", "~", STREAM_LENGTH);
            pipe.cmd("XADD").arg(&self.key).arg(length).arg("*").arg(("type", kind, "data", data)).ignore();
        }
        // one that fails, or is given up in between, is not used again
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(PATIENCE))
                    .set_response_timeout(Some(PATIENCE));
                let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
                connected.map_err(|error| told(&error))?
            }
        };
        pipe.exec_async(&mut connection).await.map_err(|error| told(&error))?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Without what the server or a URL may hold.
fn told(error: &redis::RedisError) -> String {
    error.category().to_owned()
}
