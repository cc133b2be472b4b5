//! What would become of a request: who may send it, which rule it meets, where it would go and how, and what it may cost. Everything is
//! decided by the code that decides for calls; nothing is sent, and nothing is counted.
//!
//! The types are what is read: a member's name is a promise (docs/operations.md, "Explain").

mod query;
mod shown;

use std::time::Instant;

use http::HeaderValue;
use pingora::http::RequestHeader;

use super::asking::{self, Asked, Question};
use super::attempt::{Failed, How};
use super::failover::{self, Known};
use super::router::{self, Inquiry, Route};
use super::{front, intake};
use crate::config::Snapshot;
use crate::config::snapshot::Key;
use crate::dialect::envelope::Envelope;
use crate::dialect::{Grammar, Operation};
use crate::error::Result;
use crate::filter::auth;
use crate::id::RequestId;
use crate::route::{self, Ask, Gauges, Plan, Target};
use crate::units::{NanoUsd, Tokens};
use crate::upstream::track::Tracks;

pub use query::Query;
pub use shown::{Cost, ErrorShown, Explained, GaugeShown, LossShown, PassedOver, PolicyShown, TargetPlan, UnclearRule};

/// Targets as good as each other are drawn for each call; here, the same each time.
const SEED: u64 = 0;

/// What is asked of targets' state: that of a gateway that runs, or none.
pub enum Knowledge<'a> {
    Live(&'a Tracks),
    Offline,
}

/// `Err`: the question itself cannot be understood; it is not the client's fault.
pub fn explain(
    snapshot: &Snapshot,
    knowledge: &Knowledge<'_>,
    query: &Query,
) -> std::result::Result<Explained, String> {
    let guessed = query.guess();
    let Some(path) = query.path.as_deref().or(guessed) else {
        return Err("a request of this shape has its model in the path: name it, for example \
                    /v1beta/models/MODEL:generateContent"
            .to_owned());
    };
    let mut head =
        RequestHeader::build("POST", path.as_bytes(), None).map_err(|_| format!("{path:?} is no path of a request"))?;
    let key = match &query.key {
        None => None,
        Some(name) => {
            let mut keys = snapshot.keys.by_hash.values();
            let key = keys.find(|key| key.name.as_str() == name);
            Some(key.ok_or_else(|| format!("there is no key named {name:?}"))?)
        }
    };
    let unbuilt = |error: Box<pingora::Error>| format!("these headers cannot be sent: {error}");
    head.insert_header(http::header::HOST, HeaderValue::from_static("localhost")).map_err(unbuilt)?;
    for (name, value) in &query.headers {
        head.append_header(name.clone(), value.clone()).map_err(unbuilt)?;
    }
    let grammar = router::grammar(&head);
    let mut told = Explained {
        live: matches!(knowledge, Knowledge::Live(_)),
        generation: matches!(knowledge, Knowledge::Live(_)).then_some(snapshot.generation),
        path: path.to_owned(),
        path_guessed: query.path.is_none(),
        key: key.map(|key| key.name.to_string()),
        ..Explained::default()
    };
    let call = Call { snapshot, knowledge, query, head: &head, key: key.map(|key| &**key), grammar };
    if let Err(error) = call.tell(&mut told) {
        told.error = Some(ErrorShown::new(grammar, &error));
    }
    Ok(told)
}

/// A call that is not made.
struct Call<'a> {
    snapshot: &'a Snapshot,
    knowledge: &'a Knowledge<'a>,
    query: &'a Query,
    head: &'a RequestHeader,
    key: Option<&'a Key>,
    grammar: Grammar,
}

// === impl Call ===

impl Call<'_> {
    /// The steps of `exchange::run`, in its order. `Err`: what the client would be told instead of an answer.
    fn tell(&self, told: &mut Explained) -> Result<()> {
        let admitted = front::check(self.head, None, &[])?;
        self.key.map_or(Ok(()), |key| auth::in_force(key, jiff::Timestamp::now))?;
        let Route::Llm(inquiry) = &admitted.route else {
            told.carried_unread = true;
            return Ok(());
        };
        told.operation = Some(inquiry.operation.name().into());
        let envelope = self.read(inquiry)?;
        told.model = Some(envelope.model.to_string());
        told.stream = envelope.stream;
        let mut question = Question {
            inquiry,
            id: RequestId::generate(),
            model: envelope.model.clone(),
            stream: envelope.stream,
            form: asking::form(inquiry, self.head.uri.query()),
            created: 0,
            started: Instant::now(),
            deadline: None,
            seed: SEED,
            resume: false,
            said: None,
            most: None,
        };
        let none = Tracks::default();
        let tracks = match self.knowledge {
            Knowledge::Live(tracks) => tracks,
            Knowledge::Offline => &none,
        };
        let known = Known { tracks, tokens: failover::estimate(&envelope), now: question.started };
        let ask = Ask {
            snapshot: self.snapshot,
            key: self.key,
            model: &envelope.model,
            operation: inquiry.operation,
            path: self.head.uri.path(),
            headers: &self.head.headers,
            body: &envelope.body,
            stream: envelope.stream,
            seed: SEED,
        };
        let plan = route::plan(&ask, &known)?;
        question.resume = plan.policy.resume && question.stream && inquiry.operation == Operation::ChatCompletions;
        let size = route::size(inquiry.operation, &envelope.body);
        told.planned(&plan, size);
        told.client_gives_up_ms = failover::callers_deadline(&self.head.headers).map(super::status::millis);
        self.targets(told, &plan, &question, &envelope, &known, size)
    }

    fn read(&self, inquiry: &Inquiry) -> Result<Envelope> {
        let body = self.query.request.clone();
        if body.len() > self.snapshot.server.body_limit {
            return Err(intake::too_large(&self.snapshot.server));
        }
        match &inquiry.in_path {
            Some(path) => Envelope::read_below(body, &path.model, path.stream),
            None => Envelope::read(body, inquiry.operation),
        }
    }

    /// Each target with its words. `Err`: it cannot be put to any of them.
    fn targets(
        &self,
        told: &mut Explained,
        plan: &Plan,
        question: &Question<'_>,
        envelope: &Envelope,
        known: &Known<'_>,
        size: (Tokens, Option<Tokens>),
    ) -> Result<()> {
        let packed = asking::may_be_packed(envelope);
        let mut worst: Option<Box<Failed>> = None;
        for target in &plan.targets {
            let mut shown = TargetPlan::new(target, cost(target, question.inquiry.operation, size));
            if matches!(self.knowledge, Knowledge::Live(_)) {
                shown.gauge = Some(GaugeShown::new(known.gauge(target), known.tracks.get(target.id), known.now));
            }
            match Asked::new(question, &self.head.headers, envelope, target, packed, plan.affinity) {
                Ok(asked) => shown.asked(&asked, question.inquiry.operation),
                Err(error) => {
                    shown.error = Some(ErrorShown::new(self.grammar, &error));
                    worst = Some(Failed::worse(worst, Failed::new(How::Unasked, error)));
                }
            }
            told.targets.push(shown);
        }
        match worst {
            Some(failed) if told.targets.iter().all(|target| target.error.is_some()) => Err(failed.error),
            Some(_) | None => Ok(()),
        }
    }
}

/// The most that a call costs by the list price, if its input is as long as estimated. `None`: nobody knows, or it is a count of tokens.
fn cost(target: &Target, operation: Operation, (input, asked_for): (Tokens, Option<Tokens>)) -> Option<Cost> {
    if matches!(operation, Operation::CountMessageTokens | Operation::CountContentTokens) {
        return None;
    }
    let tariff = target.tariff.as_deref()?;
    let output = match operation.dialect() {
        Some(_) => asked_for.or(target.info.max_output.map(Tokens)),
        None => asked_for,
    };
    let (NanoUsd(of_input), NanoUsd(whole)) = tariff.estimate(input, output.unwrap_or_default())?;
    Some(Cost {
        usd: whole as f64 / 1e9,
        input_usd: of_input as f64 / 1e9,
        output_tokens: output.map(|Tokens(tokens)| tokens),
    })
}
