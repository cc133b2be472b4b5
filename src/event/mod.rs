//! What happens to money, told to others: budgets that pass a soft percent, what each try was booked with. To a webhook, and to a stream of Redis.
//!
//! A call only puts its event into a queue of a bounded size, and waits for nobody; what does not fit is dropped and counted. Each place has one
//! queue and one task, which sends in the order of the queue, several at once, and again and again for some minutes while nobody takes them. So an
//! event may come twice, with the same `id`, and hardly ever out of order. What waits when the process ends gets a moment.

mod deliver;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::mpsc;

use crate::config::events::{EventsConfig, On};
use crate::id::RequestId;
use crate::units::{NanoUsd, PicoUsd, Tokens};

pub use webhook::signature;

/// Events that wait for one place: some seconds of a busy gateway.
const QUEUE: usize = 8192;

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Events(Arc<Vec<Place>>);

/// Somewhere events go.
struct Place {
    on: On,
    queue: mpsc::Sender<Arc<Event>>,
    counts: Arc<Counts>,
}

/// Of one place.
#[derive(Debug)]
pub struct Counts {
    /// `webhook`, `redis`.
    pub to: &'static str,
    pub sent: AtomicU64,
    /// Too many waited.
    pub dropped: AtomicU64,
    /// Nobody took them for minutes.
    pub failed: AtomicU64,
    waiting: AtomicU64,
}

/// As it is told: an object with `type`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    Budget(Budget),
    Cost(Box<Cost>),
}

/// A budget has passed one of its soft percents: once in its period.
#[derive(Debug, Clone, Serialize)]
pub struct Budget {
    pub id: String,
    pub at: Timestamp,
    /// `budget of user=ada per month`.
    pub budget: String,
    pub percent: u8,
    pub spent_usd: PicoUsd,
    pub spent_nano_usd: NanoUsd,
    pub ceiling_usd: PicoUsd,
    pub ceiling_nano_usd: NanoUsd,
    pub resets_at: Option<Timestamp>,
}

/// A try was booked.
#[derive(Debug, Clone, Serialize)]
pub struct Cost {
    pub id: String,
    pub at: Timestamp,
    #[serde(serialize_with = "id")]
    pub call: RequestId,
    pub attempt: u32,
    pub key: Option<Arc<str>>,
    #[serde(serialize_with = "tags")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    pub model: Option<Arc<str>>,
    pub provider: Arc<str>,
    pub upstream_model: Option<Arc<str>>,
    pub operation: String,
    pub status: u16,
    pub outcome: String,
    pub answered: bool,
    pub input_tokens: Option<Tokens>,
    pub cache_read_tokens: Option<Tokens>,
    pub output_tokens: Option<Tokens>,
    /// `null`: there is no price.
    pub cost_usd: Option<PicoUsd>,
    pub cost_nano_usd: Option<NanoUsd>,
    pub estimated: bool,
    pub price_version: Option<Arc<str>>,
}

fn id<S: Serializer>(id: &RequestId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id.as_str())
}

fn tags<S: Serializer>(tags: &[(Arc<str>, Arc<str>)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(tags.iter().map(|(name, value)| (&**name, &**value)))
}

// === impl Events ===

impl Events {
    /// Starts what sends them on this runtime. `Err`: in words for the operator.
    pub fn start(config: &EventsConfig) -> Result<Events, String> {
        let mut places = Vec::new();
        if let Some(webhook) = &config.webhook {
            let sender = webhook::Webhook::new(webhook).map_err(|error| format!("events.webhook: {error}"))?;
            places.push(Place::start("webhook", webhook.on, deliver::Sender::Webhook(sender)));
        }
        if let Some(stream) = &config.redis {
            let sender = deliver::Stream::new(stream).map_err(|error| format!("events.redis: {error}"))?;
            places.push(Place::start("redis", stream.on, deliver::Sender::Redis(Box::new(sender))));
        }
        Ok(Events(Arc::new(places)))
    }

    /// Whether anybody wants to hear of costs: making such an event is work.
    pub fn wants_cost(&self) -> bool {
        self.0.iter().any(|place| place.on.cost)
    }

    /// Waits for nobody.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        for place in self.0.iter() {
            let wanted = match &*event {
                Event::Budget(_) => place.on.budget,
                Event::Cost(_) => place.on.cost,
            };
            if wanted {
                place.put(Arc::clone(&event));
            }
        }
    }

    pub fn counts(&self) -> impl Iterator<Item = &Counts> {
        self.0.iter().map(|place| &*place.counts)
    }

    /// Wait until all that was told is sent, or given up. `false`: not within `deadline`.
    pub async fn flush(&self, deadline: Duration) -> bool {
        let sent = async {
            while self.counts().any(|counts| counts.waiting.load(Ordering::Acquire) > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(deadline, sent).await.is_ok()
    }
}

// === impl Place ===

impl Place {
    fn start(to: &'static str, on: On, sender: deliver::Sender) -> Place {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let zero = AtomicU64::default;
        let counts = Arc::new(Counts { to, sent: zero(), dropped: zero(), failed: zero(), waiting: zero() });
        tokio::spawn(deliver::run(waiting, sender, Arc::clone(&counts)));
        Place { on, queue, counts }
    }

    fn put(&self, event: Arc<Event>) {
        self.counts.waiting.fetch_add(1, Ordering::AcqRel);
        if self.queue.try_send(event).is_err() {
            self.counts.waiting.fetch_sub(1, Ordering::AcqRel);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
