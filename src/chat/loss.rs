//! What a translation could not carry. Every encoder keeps this book: a field is carried, or it is in here.

use std::borrow::Cow;

use crate::json::At;
use crate::units::Tokens;

/// So many losses are kept with their place; the rest is counted.
pub const KEPT: usize = 64;

/// Members of any dialect without which a request asks for something else: what they stand for is kept at the provider they name.
pub const ESSENTIAL: [&str; 8] = [
    "previous_response_id",
    "conversation",
    "prompt",
    "cachedContent",
    "cached_content",
    "container",
    "item_reference",
    "compaction",
];

/// Members that name, number or label a thing for its own dialect: kept for the way back, no loss anywhere else.
pub const PLUMBING: [&str; 3] = ["id", "status", "phase"];

/// One thing that did not arrive as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Where it, or the object it is a member of, was read. `At::NOWHERE` when it was in no text.
    pub at: At,
    /// The member below `at`, in the writer's own spelling (`detail`, `image_url.detail`); empty when `at` is the thing itself.
    pub member: Cow<'static, str>,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is not in what was sent.
    Dropped,
    /// Something near it is: a value clamped, a block turned into text, an order changed.
    Changed,
    /// The request means something else without it (the history behind `previous_response_id`): never sent, whatever `on_loss` says.
    Essential,
}

/// The ledger of one encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    list: Vec<Loss>,
    /// All of them, those beyond [`KEPT`] included.
    pub count: usize,
}

// === impl Losses ===

impl Losses {
    pub fn book(&mut self, at: At, member: impl Into<Cow<'static, str>>, how: How) {
        self.count += 1;
        // an essential one is always kept: it decides
        if self.list.len() < KEPT || how == How::Essential {
            let loss = Loss { at, member: member.into(), how };
            if self.list.contains(&loss) {
                self.count -= 1;
            } else {
                self.list.push(loss);
            }
        }
    }

    pub fn dropped(&mut self, at: At, member: impl Into<Cow<'static, str>>) {
        self.book(at, member, How::Dropped);
    }

    pub fn changed(&mut self, at: At, member: impl Into<Cow<'static, str>>) {
        self.book(at, member, How::Changed);
    }

    pub fn essential(&mut self, at: At, member: impl Into<Cow<'static, str>>) {
        self.book(at, member, How::Essential);
    }

    /// Everything in an [`super::Extra`] that was written in another dialect.
    pub fn extra(&mut self, extra: &super::Extra<'_>) {
        for member in extra.0.iter().filter(|member| !PLUMBING.contains(&&*member.name)) {
            let how = if ESSENTIAL.contains(&&*member.name) { How::Essential } else { How::Dropped };
            // its place is told by its name where nothing else tells it
            let name = if member.at == At::NOWHERE { member.name.to_string() } else { String::new() };
            self.book(member.at, name, how);
        }
    }

    /// Parts of a usage that have no word of their own in a dialect: they are counted within the totals.
    pub fn untold(&mut self, parts: &[(&'static str, Tokens)]) {
        for (name, _) in parts.iter().filter(|(_, tokens)| tokens.0 > 0) {
            self.dropped(At::NOWHERE, *name);
        }
    }

    pub fn merge(&mut self, other: Losses) {
        let beyond = other.count - other.list.len();
        for loss in other.list {
            self.book(loss.at, loss.member, loss.how);
        }
        self.count += beyond;
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.list.iter()
    }
}

// === impl How ===

impl How {
    /// Metric label and log field.
    pub fn label(self) -> &'static str {
        match self {
            How::Dropped => "dropped",
            How::Changed => "changed",
            How::Essential => "essential",
        }
    }
}
