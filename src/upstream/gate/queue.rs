//! Who waits, and whose turn it is: a first-come line for each key, and turns between the lines in proportion to weight over cost.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): a line stands at a mark, its turn moves the mark on by cost over weight, and the line with
//! the lowest mark is next. A line that comes back stands where it stood, or where the turns are now if that is later: nobody saves up turns.
//!
//! Places are shared by weight as well, between the keys that had to wait lately. What such a key has not taken of its share is kept for it, so
//! that it need not take a place from one that waits, who would hear late that it waited in vain. Only a key that has just come does, for
//! none was kept for it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::limits::Load;

/// A turn of cost 1 and weight 1.
const TURN: u64 = 1 << 20;
/// Cost of a turn, in hundredths of a usual call's.
pub const USUAL: u64 = 100;
/// Empty lines are remembered up to so many beyond the waiting ones, for where they stood.
const SPARE: usize = 256;
/// A key that asked within this will ask again.
const LATELY: Duration = Duration::from_secs(2);
/// A key that came within this has just come.
const JUST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Queue<W> {
    lines: HashMap<u64, Line<W>, ahash::RandomState>,
    /// Those with somebody in them.
    turns: BTreeSet<(u64, u64)>,
    /// The mark of the last turn.
    now: u64,
    len: usize,
    tokens: u64,
    next_id: u64,
}

#[derive(Debug)]
struct Line<W> {
    mark: u64,
    weight: u32,
    waiting: VecDeque<Waiting<W>>,
    tokens: u64,
    /// Sum of those who wait.
    cost: u64,
    /// Since when it asks, without a long pause.
    came: Instant,
    asked: Instant,
}

#[derive(Debug)]
pub struct Waiting<W> {
    id: u64,
    pub tokens: u64,
    cost: u64,
    pub waiter: W,
}

/// Whether a newcomer may stand in line.
#[derive(Debug)]
pub enum Place<W> {
    Free,
    /// This one has lost its own for it.
    Of(Waiting<W>),
    None,
}

// === impl Queue ===

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Queue { lines: HashMap::default(), turns: BTreeSet::new(), now: 0, len: 0, tokens: 0, next_id: 0 }
    }
}

impl<W> Queue<W> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[cfg(test)]
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// All who wait.
    pub fn load(&self) -> Load {
        Load { calls: self.len as u64, tokens: self.tokens }
    }

    /// What would go before a newcomer of this key.
    pub fn ahead(&self, key: u64, weight: u32) -> Load {
        let own = self.lines.get(&key);
        let mark = own.map_or(self.now, |line| line.mark.max(self.now));
        let mut ahead = own.map_or(Load::default(), |line| line.load());
        let step = own.map_or(0, |line| line.step(weight));
        let mine = mark.saturating_add(step.saturating_mul(ahead.calls));
        for &(mark, other) in &self.turns {
            // those behind stand at higher marks still
            if (mark, other) >= (mine, key) {
                break;
            }
            let Some(line) = self.lines.get(&other).filter(|_| other != key) else { continue };
            let (load, step) = (line.load(), line.step(line.weight));
            // of two at one mark the lower key is first
            let turns = if other < key { (mine - mark) / step + 1 } else { (mine - mark).div_ceil(step) };
            let turns = turns.min(load.calls);
            ahead.calls += turns;
            ahead.tokens = ahead.tokens.saturating_add(load.tokens / load.calls.max(1) * turns);
        }
        ahead
    }

    /// Stand in line. The number with which to leave it again.
    pub fn push(&mut self, key: u64, weight: u32, tokens: u64, cost: u64, waiter: W, now: Instant) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.forget(now);
        let line = self.lines.entry(key).or_insert_with(|| Line::new(now));
        if line.waiting.is_empty() {
            line.mark = line.mark.max(self.now);
            self.turns.insert((line.mark, key));
        }
        line.weight = weight.max(1);
        line.asks(now);
        line.waiting.push_back(Waiting { id, tokens, cost, waiter });
        line.tokens = line.tokens.saturating_add(tokens);
        line.cost += cost;
        self.len += 1;
        self.tokens = self.tokens.saturating_add(tokens);
        id
    }

    /// Tokens of the one whose turn it is.
    pub fn next_tokens(&self) -> Option<u64> {
        let (_, key) = self.turns.first()?;
        self.lines.get(key)?.waiting.front().map(|first| first.tokens)
    }

    /// The one whose turn it is goes.
    pub fn pop(&mut self) -> Option<Waiting<W>> {
        let (mark, key) = self.turns.pop_first()?;
        self.now = self.now.max(mark);
        let line = self.lines.get_mut(&key)?;
        let first = line.waiting.pop_front()?;
        line.mark = mark.saturating_add(step(first.cost, line.weight));
        let mark = line.mark;
        self.gone(key, &first);
        if self.lines.get(&key).is_some_and(|line| !line.waiting.is_empty()) {
            self.turns.insert((mark, key));
        }
        Some(first)
    }

    /// One leaves before its turn. `None`: it is not there any more.
    pub fn remove(&mut self, key: u64, id: u64) -> Option<Waiting<W>> {
        let line = self.lines.get_mut(&key)?;
        let at = line.waiting.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
        let left = line.waiting.remove(at)?;
        let mark = line.mark;
        self.gone(key, &left);
        if self.lines.get(&key).is_some_and(|line| line.waiting.is_empty()) {
            self.turns.remove(&(mark, key));
        }
        Some(left)
    }

    /// A place for a newcomer where so many may wait.
    pub fn place(&mut self, key: u64, weight: u32, depth: u32, now: Instant) -> Place<W> {
        self.forget(now);
        let own = self.lines.entry(key).or_insert_with(|| Line::new(now));
        own.weight = weight.max(1);
        own.asks(now);
        let (own_len, own_weight, just_came) = (own.waiting.len(), own.weight, own.has_just_come(now));
        let counts = || self.lines.iter().filter(|(_, line)| !line.waiting.is_empty() || line.asked_lately(now));
        let weights: u64 = counts().map(|(_, line)| u64::from(line.weight)).sum();
        let share = |weight: u32| (f64::from(depth) * f64::from(weight) / weights.max(1) as f64).max(1.0);
        let over = |line: &Line<W>| line.waiting.len() as f64 - share(line.weight);
        let free = (depth as usize).saturating_sub(self.len) as f64;
        let others = counts().filter(|(other, _)| **other != key);
        let kept: f64 = others.map(|(_, line)| (-over(line)).max(0.0)).sum();
        let is_over = (own_len + 1) as f64 > share(own_weight);
        if free >= 1.0 + if is_over { kept } else { 0.0 } {
            return Place::Free;
        }
        if is_over || !just_came {
            return Place::None;
        }
        let lines = self.turns.iter().filter_map(|(_, other)| Some((*other, self.lines.get(other)?)));
        let most = lines.max_by(|a, b| over(a.1).total_cmp(&over(b.1))).filter(|(_, line)| over(line) > 0.0);
        let last = most.and_then(|(other, line)| Some((other, line.waiting.back()?.id)));
        last.and_then(|(other, id)| self.remove(other, id)).map_or(Place::None, Place::Of)
    }

    fn gone(&mut self, key: u64, gone: &Waiting<W>) {
        self.len -= 1;
        self.tokens -= gone.tokens.min(self.tokens);
        if let Some(line) = self.lines.get_mut(&key) {
            line.tokens -= gone.tokens.min(line.tokens);
            line.cost -= gone.cost;
        }
    }

    /// Empty lines that stand where the turns are now say nothing after a while; of others too many are not kept.
    fn forget(&mut self, now: Instant) {
        if self.lines.len() > self.turns.len() + SPARE {
            let mark = self.now;
            self.lines.retain(|_, line| !line.waiting.is_empty() || line.mark > mark || line.asked_lately(now));
            if self.lines.len() > self.turns.len() + SPARE {
                self.lines.retain(|_, line| !line.waiting.is_empty());
            }
        }
    }
}

impl<W> Line<W> {
    fn new(now: Instant) -> Self {
        Line { mark: 0, weight: 1, waiting: VecDeque::new(), tokens: 0, cost: 0, came: now, asked: now }
    }

    fn asks(&mut self, now: Instant) {
        if self.waiting.is_empty() && !self.asked_lately(now) {
            self.came = now;
        }
        self.asked = now;
    }

    fn asked_lately(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.asked) < LATELY
    }

    fn has_just_come(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.came) < JUST
    }

    /// Of a turn, on the average of those who wait.
    fn step(&self, weight: u32) -> u64 {
        step(self.cost / (self.waiting.len() as u64).max(1), weight)
    }

    fn load(&self) -> Load {
        Load { calls: self.waiting.len() as u64, tokens: self.tokens }
    }
}

/// How far a turn moves the mark on.
fn step(cost: u64, weight: u32) -> u64 {
    (cost.saturating_mul(TURN) / USUAL / u64::from(weight.max(1))).max(1)
}
