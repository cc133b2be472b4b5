//! The `response` object: what an answer says of itself and repeats of its request, around the items of `output`.

use super::output::{Item, Status, base};
use super::{echo, usage};
use crate::chat::{Losses, Stop, StopReason, Usage};
use crate::dialect::ReplyTo;
use crate::json::{At, Writer};

/// What stands around the items.
#[derive(Debug)]
pub struct Envelope {
    pub id: String,
    model: String,
    created: u64,
    service_tier: Option<String>,
    echo: String,
    /// Own members of the dialect, as they came: `"name":json,...`.
    pub extra: Vec<(String, String)>,
}

/// How the answer ended.
#[derive(Debug)]
pub struct Ending {
    pub status: Status,
    /// `incomplete_details.reason`.
    reason: Option<&'static str>,
    /// `error.message`.
    error: Option<String>,
}

// === impl Envelope ===

impl Envelope {
    /// `id`, `model`, `created`: the provider's, where it said them.
    pub fn new(
        id: Option<&str>,
        model: Option<&str>,
        created: Option<u64>,
        tier: Option<&str>,
        to: &ReplyTo<'_>,
        losses: &mut Losses,
    ) -> Self {
        let own = id.filter(|id| id.starts_with("resp_"));
        let service_tier = tier.map(|word| match word {
            "standard" | "on_demand" => "default",
            word => word,
        });
        let known = service_tier.filter(|w| ["auto", "default", "flex", "scale", "priority"].contains(w));
        if service_tier.is_some() && known.is_none() {
            losses.dropped(At::NOWHERE, "service_tier");
        }
        Envelope {
            id: own.map_or_else(|| format!("resp_{}", base(to.id)), str::to_owned),
            model: model.filter(|model| !model.is_empty()).unwrap_or(to.model).to_owned(),
            created: created.filter(|at| *at > 0).unwrap_or(to.created),
            service_tier: known.map(str::to_owned),
            echo: if to.echo.is_empty() { echo::defaults() } else { to.echo.to_owned() },
            extra: Vec::new(),
        }
    }

    /// The `response` object. `ending` is `None` while it is in the making.
    pub fn write(&self, w: &mut Writer<'_>, ending: Option<&Ending>, items: &[(Item, Status)], usage: Option<&Usage>) {
        w.object();
        w.name("id").string(&self.id);
        w.name("object").string("response");
        w.name("created_at").number(self.created);
        w.name("status").string(ending.map_or(Status::InProgress, |e| e.status).word());
        w.name("error");
        match ending.and_then(|ending| ending.error.as_deref()) {
            Some(message) => {
                w.object();
                w.name("code").string("server_error");
                w.name("message").string(message);
                w.end_object();
            }
            None => w.null(),
        }
        w.name("incomplete_details");
        match ending.and_then(|ending| ending.reason) {
            Some(reason) => {
                w.object();
                w.name("reason").string(reason);
                w.end_object();
            }
            None => w.null(),
        }
        w.name("model").string(&self.model);
        w.name("output").array();
        items.iter().for_each(|(item, status)| item.write(w, *status));
        w.end_array();
        usage::write(w, usage);
        w.string_if("service_tier", self.service_tier.as_deref());
        w.raw(&self.echo);
        for (name, json) in &self.extra {
            w.name(name).raw(json);
        }
        w.end_object();
    }

    /// Keep a member only this dialect knows.
    pub fn keep(&mut self, name: &str, json: &str) {
        self.extra.push((name.to_owned(), json.to_owned()));
    }
}

// === impl Ending ===

impl Ending {
    /// A stop in this dialect's words.
    pub fn of(stop: Option<&Stop<'_>>, losses: &mut Losses) -> Self {
        let done = Ending { status: Status::Completed, reason: None, error: None };
        let Some(Stop { reason, sequence, detail }) = stop else { return done };
        if sequence.is_some() {
            losses.dropped(At::NOWHERE, "stop_sequence");
        }
        // a refusal's words are its part, a failure's its error
        let said = matches!(reason, StopReason::Refusal | StopReason::MalformedCall | StopReason::Other(_));
        if detail.is_some() && !said {
            losses.dropped(At::NOWHERE, "stop_detail");
        }
        let mut changed = || losses.changed(At::NOWHERE, "stop_reason");
        let cut = |reason| Ending { status: Status::Incomplete, reason: Some(reason), error: None };
        let failed = |message: &str| Ending {
            status: Status::Failed,
            reason: None,
            error: Some(detail.as_deref().unwrap_or(message).to_owned()),
        };
        match reason {
            StopReason::End | StopReason::ToolUse | StopReason::Sequence | StopReason::Refusal => done,
            StopReason::Length => cut("max_output_tokens"),
            StopReason::ContentFilter => cut("content_filter"),
            StopReason::ContextWindow => {
                changed();
                cut("max_output_tokens")
            }
            StopReason::Pause => {
                changed();
                done
            }
            StopReason::MalformedCall => failed("The model's tool call could not be read."),
            StopReason::Other(word) => match &**word {
                "failed" => failed("The provider could not finish its answer."),
                "cancelled" => Ending { status: Status::Cancelled, ..done },
                "in_progress" | "queued" => Ending { status: Status::InProgress, ..done },
                "incomplete" => Ending { status: Status::Incomplete, ..done },
                _ => {
                    changed();
                    done
                }
            },
        }
    }

    /// The status of an item that ended with the answer: the last one is cut where the answer is.
    pub fn of_item(&self, is_last: bool) -> Status {
        if is_last && self.status == Status::Incomplete { Status::Incomplete } else { Status::Completed }
    }
}
