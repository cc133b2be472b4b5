//! Who can take a call: targets whose provider is not set up, has no way for the operation, or whose model lacks what the call needs are passed
//! over, with the reason.
//!
//! What is not known of a model is no reason. What a call needs is read in `needs`, and only where some target could lack it.

use super::needs::{Body, Need, Needs};
use super::strategy::Candidate;
use super::{PassedOver, Target, find, find_way, no_way};
use crate::config::policy::Info;
use crate::error::{Error, Kind, Result};
use crate::units::Tokens;

/// Why a target is passed over, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    NoWay,
    NotSetUp,
    /// It would refuse the call, or answer without having seen a part of it.
    Hard(Need),
    /// It has not that many tokens, by an estimate.
    Room(Room),
    /// It can be made up for: a format becomes a tool on the bridge, and who does not reason may still answer.
    Soft(Need),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Context { has: u64, needed: Tokens },
    Output { has: u64, asked: Tokens },
}

/// Keep the candidates that can take the call. Never leaves none: where all lack something that can be made up for, or that is only an estimate,
/// those that lack least stay; else it is an error.
pub(super) fn retain(
    candidates: &mut Vec<Candidate>,
    passed_over: &mut Vec<PassedOver>,
    model: &str,
    body: &Body<'_>,
) -> Result<()> {
    let doubtful = Doubts::of(candidates, body);
    if candidates.iter().all(|c| doubtful.lack(&c.target, body).is_none()) {
        // the usual case, and nothing was allocated
        return if candidates.is_empty() { Err(nobody(model)) } else { Ok(()) };
    }
    let lacks: Vec<Option<Lack>> = candidates.iter().map(|c| doubtful.lack(&c.target, body)).collect();
    let stays = last_resort(candidates, &lacks);
    if !stays.contains(&true) {
        return Err(refusal(candidates, &lacks, model, body));
    }
    let mut each = stays.iter().zip(&lacks);
    candidates.retain(|candidate| match each.next() {
        Some((false, Some(lack))) => {
            passed_over.push(PassedOver { target: candidate.target.shown(), why: lack.why(&candidate.target, body) });
            false
        }
        _ => true,
    });
    Ok(())
}

/// Who stays: those who lack nothing; else those who lack what can be made up for; else the one with the most room.
fn last_resort(candidates: &[Candidate], lacks: &[Option<Lack>]) -> Vec<bool> {
    let keep = |keep: &dyn Fn(&Option<Lack>) -> bool| -> Option<Vec<bool>> {
        lacks.iter().any(keep).then(|| lacks.iter().map(keep).collect())
    };
    let room = |n: usize| match lacks.get(n) {
        Some(Some(Lack::Room(_))) => candidates.get(n).map(|c| room(&c.target.info)),
        _ => None,
    };
    let roomiest = (0..candidates.len()).filter_map(room).max();
    keep(&|lack| lack.is_none())
        .or_else(|| keep(&|lack| matches!(lack, Some(Lack::Soft(_)))))
        .unwrap_or_else(|| (0..candidates.len()).map(|n| roomiest.is_some() && room(n) == roomiest).collect())
}

fn room(info: &Info) -> (u64, u64) {
    (info.context.unwrap_or(u64::MAX), info.max_output.unwrap_or(u64::MAX))
}

/// What nobody can do. A call that could be made if only a provider were set up is the operator's matter.
fn refusal(candidates: &[Candidate], lacks: &[Option<Lack>], model: &str, body: &Body<'_>) -> Error {
    let needs: Vec<Need> = Need::ALL.into_iter().filter(|need| lacks.contains(&Some(Lack::Hard(*need)))).collect();
    if let [first, ..] = needs.as_slice() {
        let shown: Vec<&str> = needs.iter().map(|need| need.shown()).collect();
        let say = match needs.len() {
            1 => format!("No target of the model `{model}` has what this call needs: {}.", shown.join("")),
            _ => format!("No target of the model `{model}` has all that this call needs: {}.", shown.join(", ")),
        };
        return Error::new(Kind::Unsupported, say).param(first.param(body.operation)).code("no_capable_target");
    }
    let of = |lack: Lack| candidates.iter().zip(lacks).find(|(_, l)| **l == Some(lack)).map(|(c, _)| &c.target);
    match (of(Lack::NotSetUp), of(Lack::NoWay)) {
        (Some(target), _) => find::not_set_up(target),
        (None, Some(target)) => no_way(target, body.operation),
        (None, None) => nobody(model),
    }
}

fn nobody(model: &str) -> Error {
    Error::internal(format!("The model `{model}` has no target."))
}

/// What is worth reading the body for: what at least one candidate is known to lack, and the call may need.
struct Doubts {
    needs: [bool; Need::ALL.len()],
    room: bool,
}

impl Doubts {
    fn of(candidates: &[Candidate], body: &Body<'_>) -> Self {
        let mut doubts = Doubts { needs: [false; Need::ALL.len()], room: false };
        // of a single target nobody knows better than its provider
        if !body.is_conversation() || candidates.len() < 2 {
            return doubts;
        }
        let infos = || candidates.iter().map(|c| &c.target.info);
        for (doubt, need) in doubts.needs.iter_mut().zip(Need::ALL) {
            *doubt = infos().any(|info| ability(info, need) == Some(false)) && body.may_need(need);
        }
        let context = infos().filter_map(|info| info.context).min();
        let output = infos().filter_map(|info| info.max_output).min();
        if context.or(output).is_some() {
            let (input, asked) = (body.most_input(), body.most_output());
            doubts.room =
                context.is_some_and(|has| input.saturating_add(asked) > has) || output.is_some_and(|has| asked > has);
        }
        doubts
    }

    fn lack(&self, target: &Target, body: &Body<'_>) -> Option<Lack> {
        if !target.provider.missing_env.is_empty() {
            return Some(Lack::NotSetUp);
        }
        if find_way(target, body.operation).is_none() {
            return Some(Lack::NoWay);
        }
        let info = &target.info;
        let lacking =
            |need: Need| self.needs[need as usize] && ability(info, need) == Some(false) && body.needs().has(need);
        let first = |needs: &[Need]| needs.iter().copied().find(|need| lacking(*need));
        first(&[Need::Images, Need::Audio, Need::Documents, Need::Tools])
            .map(Lack::Hard)
            .or_else(|| if self.room { no_room(info, body.needs()).map(Lack::Room) } else { None })
            .or_else(|| first(&[Need::JsonSchema, Need::Reasoning]).map(Lack::Soft))
    }
}

fn ability(info: &Info, need: Need) -> Option<bool> {
    match need {
        Need::Images => info.vision,
        Need::Audio => info.audio,
        Need::Documents => info.documents,
        Need::Tools => info.tools,
        Need::JsonSchema => info.json_schema,
        Need::Reasoning => info.reasoning,
    }
}

fn no_room(info: &Info, needs: &Needs) -> Option<Room> {
    let needed = needs.context();
    if let Some(has) = info.context.filter(|has| *has < needed.0) {
        return Some(Room::Context { has, needed });
    }
    let asked = needs.max_output?;
    info.max_output.filter(|has| *has < asked.0).map(|has| Room::Output { has, asked })
}

// === impl Lack ===

impl Lack {
    fn why(self, target: &Target, body: &Body<'_>) -> std::borrow::Cow<'static, str> {
        match self {
            Lack::NoWay => format!("does not offer {}", body.operation.name()).into(),
            Lack::NotSetUp => format!("not configured: {} unset", target.provider.missing_env.join(", ")).into(),
            Lack::Hard(need) | Lack::Soft(need) => format!("has no {}", need.shown()).into(),
            Lack::Room(Room::Context { has, needed }) => {
                format!("context of {has} tokens, about {} needed", needed.0).into()
            }
            Lack::Room(Room::Output { has, asked }) => {
                format!("output of {has} tokens at most, {} asked for", asked.0).into()
            }
        }
    }
}
