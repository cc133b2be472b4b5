//! What keeps a conversation where it was: a key of what stays the same from turn to turn, and the target that this key stands for.
//!
//! Providers keep the beginning of a prompt for some minutes and read it again for a tenth of the price, each account its own. So the key is
//! made of the beginning, or of the session's name, salted with the caller's name: tenants do not share. A rendezvous hash of key and target
//! keeps all others in their place when a target comes or goes. A target with more than its share of the load is left out, or one large
//! conversation would drown it.

use http::HeaderName;
use memchr::memmem;

use super::Ask;
use super::needs::Body;
use super::strategy::{Candidate, Class};
use crate::balance::{Hash, rendezvous, within_share};
use crate::config::policy::{Affinity, Balance};
use crate::dialect::Operation;
use crate::json::scan::unquote;
use crate::json::{Object, ScanError, Walk};

/// So many calls of a target do not count against its share. Without them, two calls of one conversation at the same time would be over the bound
/// of an idle gateway, and chance alone would be over that of one with little to do.
const UNCOUNTED: u32 = 8;
/// So many bytes of each part of a prefix count, 64 KiB in all: the first turn has its own share, since behind many tools all conversations
/// would be one.
const SYSTEM: usize = 24 << 10;
const TOOLS: usize = 24 << 10;
const FIRST_TURN: usize = 16 << 10;
/// Headers with a session's name, in the order in which they count.
const SESSION: [&str; 2] = ["x-session-id", "session_id"];

/// The key of a call, and whether it says which target comes first. Without that it is only for pools that balance by it.
pub(super) fn key(
    ask: &Ask<'_>,
    affinity: Option<&Affinity>,
    candidates: &[Candidate],
    body: &Body<'_>,
) -> (Option<u64>, bool) {
    let hash = salted(ask);
    let own = match affinity.unwrap_or(&Affinity::Off) {
        Affinity::Off => None,
        Affinity::Prefix => prefix(hash, body),
        Affinity::Session => session(hash, ask, body),
        Affinity::Header(name) => header(hash, ask, name),
    };
    if own.is_some() {
        return (own, true);
    }
    let hashes = |c: &Candidate| c.target.provider.pool.as_ref().is_some_and(|pool| pool.balance == Balance::Hash);
    if !candidates.iter().any(hashes) {
        return (None, false);
    }
    (session(hash, ask, body).or_else(|| prefix(hash, body)), false)
}

/// Put the target that a key stands for in front, among those as good as the first. The others stay in their order.
pub(super) fn prefer(candidates: &mut [Candidate], key: u64) {
    let Some(first) = candidates.first().map(|c| c.rank).filter(|rank| rank.class != Class::Busy) else { return };
    let peers = candidates.iter().take_while(|c| (c.rank.class, c.rank.tier) == (first.class, first.tier)).count();
    if peers < 2 {
        return;
    }
    let places = places(candidates, peers);
    let all = candidates.iter().take(peers).fold(0, |all: u32, c| all.saturating_add(c.gauge.in_flight));
    let total = places.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let fits = |n: &usize| {
        let load = candidates[*n].gauge.in_flight.saturating_sub(UNCOUNTED);
        within_share(load, all, places[*n].1, total)
    };
    let order = rendezvous(key, &places);
    let chosen = order.iter().copied().find(fits).or(order.first().copied());
    if let Some(part) = chosen.and_then(|chosen| candidates.get_mut(..=chosen)) {
        part.rotate_right(1);
    }
}

/// Identity and weight of the first so many. A target's weight is shared by all its accounts, those that cannot be asked now included: else the
/// others would draw conversations from elsewhere as long as one is out. Finer than the weight itself, so that it can be.
fn places(candidates: &[Candidate], first: usize) -> Vec<(u64, u32)> {
    let groups = candidates.iter().map(|c| c.group + 1).max().unwrap_or(0);
    let mut accounts = vec![0u32; groups];
    candidates.iter().for_each(|c| accounts[c.group] += 1);
    let share = |c: &Candidate| (c.target.weight.min(1 << 20) << 8) / accounts[c.group].max(1);
    candidates.iter().take(first).map(|c| (c.target.id, share(c))).collect()
}

/// Salted with who asks.
fn salted(ask: &Ask<'_>) -> Hash {
    let mut hash = Hash::new(0);
    hash.bytes(ask.key.map_or("", |key| key.name.as_str()).as_bytes());
    hash
}

fn of(mut hash: Hash, name: &[u8]) -> Option<u64> {
    (!name.is_empty()).then(|| {
        hash.bytes(name);
        hash.finish()
    })
}

fn header(hash: Hash, ask: &Ask<'_>, name: &HeaderName) -> Option<u64> {
    of(hash, ask.headers.get(name)?.as_bytes())
}

// === the session's name ===

fn session(hash: Hash, ask: &Ask<'_>, body: &Body<'_>) -> Option<u64> {
    if let Some(value) = SESSION.iter().find_map(|name| ask.headers.get(*name)) {
        return of(hash, value.as_bytes());
    }
    // the search spares most bodies the scan
    let after = |at: usize| body.bytes.get(at..)?.iter().find(|b| !b.is_ascii_whitespace()).copied();
    let named = |quoted: &str| {
        memmem::find_iter(body.bytes, quoted.as_bytes()).any(|at| after(at + quoted.len()) == Some(b':'))
    };
    if !(named("\"prompt_cache_key\"") || named("\"user_id\"") || named("\"user\"")) {
        return None;
    }
    let members = body.members()?;
    let text = |quoted: Option<&str>| of(hash, unquote(quoted?)?.as_bytes());
    let user_id = || Object::scan(members.get("metadata")?.as_bytes()).ok().and_then(|m| text(m.get("user_id")));
    text(members.get("prompt_cache_key")).or_else(user_id).or_else(|| text(members.get("user")))
}

// === the prefix ===

/// Of the system prompt, the tools and the turns up to the first of the user's. `None` for what is no conversation.
///
/// Of turns only texts count, not how they are wrapped: clients move their cache marks along with the conversation, and write a text now as a
/// string, now as a list of one part.
fn prefix(hash: Hash, body: &Body<'_>) -> Option<u64> {
    if !body.is_conversation() {
        return None;
    }
    let members = body.members()?;
    let get = |names: &[&str]| names.iter().find_map(|name| members.get(name));
    let mut feed = Feed { hash, left: SYSTEM };
    if let Some(system) = get(&["system", "instructions", "systemInstruction", "system_instruction"]) {
        feed.texts(system);
    }
    if let Some(tools) = get(&["tools", "functions"]) {
        feed.left = TOOLS;
        feed.bytes(tools.as_bytes());
    }
    feed.left = SYSTEM;
    match body.operation {
        Operation::Completions => {
            feed.left = FIRST_TURN;
            feed.texts(get(&["prompt"])?);
        }
        _ => feed.turns(get(&["messages", "input", "contents"])?),
    }
    Some(feed.hash.finish())
}

struct Feed {
    hash: Hash,
    /// So many bytes still count.
    left: usize,
}

/// Why a walk ended before its text did.
enum End {
    Enough,
    Broken,
}

impl From<ScanError> for End {
    fn from(_: ScanError) -> Self {
        End::Broken
    }
}

impl Feed {
    fn bytes(&mut self, bytes: &[u8]) {
        let counted = bytes.get(..self.left).unwrap_or(bytes);
        self.left -= counted.len();
        self.hash.bytes(counted);
    }

    /// Turns up to the first of the user's, which has a share of its own.
    fn turns(&mut self, turns: &str) {
        if !turns.starts_with('[') {
            self.left = FIRST_TURN;
            return self.texts(turns);
        }
        let Ok(mut walk) = Walk::new(turns.as_bytes()) else { return };
        let _ = walk.array(|walk| {
            let turn = walk.value()?;
            let user = is_user(turn);
            if user {
                self.left = FIRST_TURN;
            }
            self.texts(turn);
            if user { Err(End::Enough) } else { Ok(()) }
        });
    }

    /// Every text in a value, in order, but for what marks and numbers parts.
    fn texts(&mut self, value: &str) {
        let _ = Walk::new(value.as_bytes()).map_err(End::from).and_then(|mut walk| self.walk(&mut walk));
    }

    fn walk(&mut self, walk: &mut Walk<'_>) -> Result<(), End> {
        if self.left == 0 {
            return Err(End::Enough);
        }
        match walk.next() {
            Some(b'[') => walk.array(|walk| self.walk(walk)),
            Some(b'{') => walk.object(|name, walk| match name {
                "cache_control" | "type" | "id" | "role" | "status" => Ok(()),
                _ => self.walk(walk),
            }),
            _ => {
                let text = walk.value()?;
                self.bytes(text.as_bytes());
                Ok(())
            }
        }
    }
}

/// Whether a turn is the user's. Gemini's may have no role, and a model's has one always.
fn is_user(turn: &str) -> bool {
    let Ok(turn) = Object::scan(turn.as_bytes()) else { return true };
    match (turn.get("role"), turn.get("type")) {
        (Some(role), _) => role == "\"user\"",
        (None, kind) => kind.is_none(),
    }
}
