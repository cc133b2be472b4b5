//! What a try may cost and what it did cost: put aside in budgets and written into the ledger before its first byte goes out, booked once when
//! it ends, however that is. A bill that is dropped was cancelled, and is booked too.
//!
//! What is booked of which end:
//!
//! - the provider told the usage: that, by the tariff;
//! - it refused, or was not reached: nothing;
//! - an event stream ended without usage, or broke: the question and what came of the answer, by their size (`estimated`);
//! - a whole answer was asked for and did not come: the worst case, since the provider may have finished it (`estimated`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use super::asking::{Asked, Question};
use super::attempt::How;
use super::proxy::Shared;
use crate::call::{Call, Spent};
use crate::chat::Usage;
use crate::config::policy::{Disconnect, Info};
use crate::config::prices::Unpriced;
use crate::config::quota::Who;
use crate::config::tariff::{Place, ServiceTier, Tariff};
use crate::dialect::Operation;
use crate::error::{Error, Kind, Result};
use crate::event::{Cost, Event, Events};
use crate::meter::{self, Used, Worst};
use crate::quota::{self, CallHold, CostHold, Left, Refused, Standing, Want, Why};
use crate::route::{Most, Plan, Target};
use crate::store::{Entry, Ledger, Reservation};
use crate::units::{NanoUsd, Tokens};

/// Bytes of text in a token, roughly; `route` and the tokenizer know more of it.
const BYTES_PER_TOKEN: u64 = 4;

/// Of an answer whose length the request leaves open, for limits.
const USUAL_OUTPUT: u64 = 1_000;

const FIELDS: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];

/// Of one try.
pub struct Bill {
    ledger: Ledger,
    events: Events,
    /// The call's.
    spent: Arc<Spent>,
    /// `None` once it is booked.
    open: Option<Open>,
}

struct Open {
    /// Where somebody is told of it.
    reservation: Option<Reservation>,
    hold: Option<CostHold>,
    tariff: Option<Arc<Tariff>>,
    service_tier: ServiceTier,
    place: Place,
    /// Of the question, by its size.
    input: Tokens,
    /// The most that the try can cost.
    worst: Option<NanoUsd>,
    stream: bool,
    disconnect: Disconnect,
    begun: Instant,
}

/// How a try ended.
pub struct End<'a> {
    pub outcome: Cow<'static, str>,
    /// The provider's own status; 0: none came.
    pub status: u16,
    /// It is what the client got.
    pub answered: bool,
    /// Something of the question may have reached the provider, and it may have begun to answer.
    pub sent: bool,
    pub usage: Option<&'a Usage>,
    /// The numbers of `usage` are ours.
    pub estimated: bool,
    /// Of the answer, by the size of what came.
    pub output: Tokens,
    pub first_token: Option<Duration>,
}

/// What a try was booked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Booked {
    /// `None`: nobody knows what it costs.
    pub cost: Option<NanoUsd>,
    /// Tokens, as reported or as estimated.
    pub usage: Option<Usage>,
    pub estimated: bool,
}

/// Whether a call of this kind costs anything: counting tokens does not.
fn costs(operation: Operation) -> bool {
    !matches!(operation, Operation::CountMessageTokens | Operation::CountContentTokens | Operation::CountConverseTokens)
}

/// What the call as a whole takes of limits, before it is tried.
pub async fn admit(shared: &Shared, call: &mut Call, question: &Question<'_>, plan: &Plan) -> Result<Option<CallHold>> {
    let Some(most) = question.most.as_ref().filter(|_| is_limited(call)) else { return Ok(None) };
    let info = plan.targets.first().map(|target| target.info).unwrap_or_default();
    let output = most.asked.map(|asked| Tokens(asked.0.saturating_mul(u64::from(most.choices))));
    let want = Want { input: tokens_of(most.input(info).0), output };
    let held = shared.quotas.admit_call(&call.snapshot.quotas, &who(call), want).await;
    call.limit_fields = limit_fields(&shared.quotas.standing(&call.snapshot.quotas, &who(call)));
    held.map(Some).map_err(|refused| told(shared, &refused))
}

/// As OpenAI's API tells them: what is left, and in how long all of it is there again.
fn limit_fields(standing: &Standing) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::new();
    for (left, names) in [(standing.requests, &FIELDS[0]), (standing.tokens, &FIELDS[1])] {
        let Some(Left { limit, remaining, reset }) = left else { continue };
        let [limit_name, remaining_name, reset_name] = names;
        fields.push((limit_name.clone(), HeaderValue::from(limit)));
        fields.push((remaining_name.clone(), HeaderValue::from(remaining)));
        if let Ok(value) = HeaderValue::from_str(&format!("{}ms", reset.as_millis())) {
            fields.push((reset_name.clone(), value));
        }
    }
    fields
}

/// A refusal in words for the caller.
fn told(shared: &Shared, refused: &Refused) -> Error {
    shared.metrics.limited.with_label_values(&[&*refused.label]).inc();
    let (kind, code) = match refused.why {
        Why::Limit => match refused.retry_after {
            Some(retry_after) => (Kind::RateLimited { retry_after }, "rate_limit_exceeded"),
            // however long it waits
            None => (Kind::TooLarge, "request_too_large"),
        },
        Why::Budget => (Kind::OverBudget { resets_in: refused.retry_after }, "insufficient_quota"),
        Why::Cap => (Kind::TooLarge, "request_too_large"),
        Why::Unpriced => (Kind::Forbidden, "model_has_no_price"),
        Why::Outage => (Kind::Overloaded { retry_after: Duration::from_secs(1) }, "counters_unavailable"),
    };
    Error::new(kind, refused.to_string()).code(code)
}

// === impl Booked ===

impl Booked {
    const NOTHING: Booked = Booked { cost: Some(NanoUsd(0)), usage: None, estimated: false };
}

// === impl Bill ===

impl Bill {
    /// Put the worst case aside and write the try down. `Err`: it must not be made.
    pub async fn open(
        shared: &Shared,
        call: &Call,
        asked: &Asked,
        most: Option<&Most>,
        input: Tokens,
        begun: Instant,
    ) -> Result<Bill> {
        if !call.operation.is_none_or(costs) {
            return Ok(Bill {
                ledger: Ledger::off(),
                events: shared.events.clone(),
                spent: Arc::clone(&call.spent),
                open: None,
            });
        }
        let target = &asked.target;
        let tariff = target.tariff.clone();
        let service_tier =
            most.and_then(|most| most.service_tier.as_deref()).map_or(ServiceTier::Default, ServiceTier::from_word);
        let place = if most.is_some_and(|most| most.regional) { Place::Regional } else { Place::Global };
        if tariff.is_none() {
            unpriced(call, target)?;
        }
        let worst = most.and_then(|most| meter::worst(tariff.as_deref()?, &worst(most, target.info, service_tier)));
        let hold = hold(shared, call, target, most, worst).await?;
        let kept = !shared.ledger.is_off() || shared.events.wants_cost();
        let reservation = kept.then(|| reservation(call, asked, worst));
        if let Some(Err(why)) = reservation.as_ref().map(|reservation| shared.ledger.reserve(reservation)) {
            shared.metrics.ledger_refused.inc();
            if call.snapshot.quotas.has_budget(&who(call), Some(target.provider.name.as_str())) {
                // what cannot be written down cannot be held to a ceiling
                let say = "What calls cost cannot be written down at the moment; try again later.";
                let kind = Kind::Overloaded { retry_after: Duration::from_secs(1) };
                return Err(Error::new(kind, say).code("ledger_unavailable").why(why));
            }
        }
        let open = Open {
            reservation,
            hold,
            tariff,
            service_tier,
            place,
            input,
            worst,
            stream: call.stream,
            disconnect: call.disconnect,
            begun,
        };
        let (ledger, events) = (shared.ledger.clone(), shared.events.clone());
        Ok(Bill { ledger, events, spent: Arc::clone(&call.spent), open: Some(open) })
    }

    /// The try has ended.
    pub fn book(mut self, end: &End<'_>) -> Booked {
        self.close(end)
    }

    fn close(&mut self, end: &End<'_>) -> Booked {
        let Some(mut open) = self.open.take() else { return Booked::NOTHING };
        let mut booked = open.booked(end);
        let tokens = booked.usage.map(|usage| Tokens(usage.input.0.saturating_add(usage.output.0)));
        if let Some(hold) = open.hold.take() {
            let quota::Booked { cost, worst_case } = hold.settle(booked.cost, tokens);
            booked.cost = cost;
            booked.estimated |= worst_case && cost.is_some();
        }
        self.spent.add(booked.cost, booked.estimated);
        let Some(reservation) = open.reservation else { return booked };
        if self.events.wants_cost() {
            self.events.tell(Event::Cost(Box::new(told_cost(&reservation, end, &booked))));
        }
        if self.ledger.is_off() {
            return booked;
        }
        self.ledger.settle(Entry {
            reservation,
            ended: jiff::Timestamp::now(),
            status: end.status,
            outcome: end.outcome.clone(),
            answered: end.answered,
            usage: booked.usage,
            service_tier: (open.service_tier != ServiceTier::Default).then(|| open.service_tier.name().into()),
            images: 0,
            searches: 0,
            cost: booked.cost,
            estimated: booked.estimated,
            rates: open.tariff.as_ref().map(|tariff| tariff.text(open.place)),
            first_token_ms: end.first_token.map(milliseconds),
            duration_ms: milliseconds(open.begun.elapsed()),
        });
        booked
    }
}

impl Drop for Bill {
    /// Nobody waits for the answer any more: a hedge that lost, a client that left, a gateway that ends.
    fn drop(&mut self) {
        if self.open.is_some() {
            self.close(&End::cancelled());
        }
    }
}

// === impl Open ===

impl Open {
    fn used(&self, usage: Usage) -> Used {
        Used { usage, service_tier: self.service_tier, place: self.place, ..Used::default() }
    }

    fn booked(&self, end: &End<'_>) -> Booked {
        let price = |usage: &Usage| meter::cost(self.tariff.as_deref()?, &self.used(*usage));
        if let Some(usage) = end.usage {
            return Booked { cost: price(usage), usage: Some(*usage), estimated: end.estimated };
        }
        if !end.sent {
            return Booked::NOTHING;
        }
        let usage = Usage { input: self.input, output: end.output, ..Usage::default() };
        // nobody saw the end of it: the provider may have gone on
        let open_end = end.outcome == "cancelled" && self.disconnect == Disconnect::Estimate;
        let cost = if open_end || (!self.stream && !end.answered) { self.worst } else { price(&usage) };
        Booked { cost, usage: Some(usage), estimated: true }
    }
}

// === impl End ===

impl End<'_> {
    fn cancelled() -> Self {
        End {
            outcome: "cancelled".into(),
            status: 0,
            answered: false,
            sent: true,
            usage: None,
            estimated: false,
            output: Tokens(0),
            first_token: None,
        }
    }

    /// A try that came to nothing.
    pub fn failed(how: How, outcome: Cow<'static, str>) -> Self {
        let (status, sent) = match how {
            How::Unasked | How::Connect => (0, false),
            How::Refused(status) => (status, false),
            How::Timeout | How::Broken => (0, true),
        };
        End { outcome, status, sent, ..End::cancelled() }
    }
}

/// What the configuration says about a target that has no price.
fn unpriced(call: &Call, target: &Target) -> Result<()> {
    let (provider, model) = (&target.provider.name, &target.model);
    match call.snapshot.unpriced {
        Unpriced::Allow => Ok(()),
        Unpriced::Warn => {
            tracing::warn!("{provider}/{model} has no price");
            Ok(())
        }
        Unpriced::Refuse => {
            let say = "The model has no price, and calls without one are not made.";
            Err(Error::new(Kind::Forbidden, say).code("model_has_no_price"))
        }
    }
}

/// Tokens of a text of which only the size is known.
pub fn tokens_of(bytes: u64) -> Tokens {
    Tokens(bytes.div_ceil(BYTES_PER_TOKEN))
}

/// The same of a piece of a stream: a token at least, as pieces nearly always are.
pub fn tokens_of_piece(bytes: u64) -> Tokens {
    Tokens((bytes / BYTES_PER_TOKEN).max(1))
}

/// The opaque lane cannot tell what a call costs: it is closed to those under a budget.
pub fn opaque(call: &Call, provider: &str) -> Result<()> {
    if call.snapshot.quotas.has_budget(&who(call), Some(provider)) {
        let say = "Calls on this path cannot be priced, so no key under a budget may make them.";
        return Err(Error::new(Kind::Forbidden, say).code("path_has_no_price"));
    }
    Ok(())
}

fn who(call: &Call) -> Who<'_> {
    Who { key: call.key.as_deref(), tags: call.tags(), model: call.model.as_deref().unwrap_or_default() }
}

/// Whether anything is limited for whoever calls.
pub fn is_limited(call: &Call) -> bool {
    call.key.as_ref().is_some_and(|key| key.own.is_some()) || !call.snapshot.quotas.is_empty()
}

async fn hold(
    shared: &Shared,
    call: &Call,
    target: &Target,
    most: Option<&Most>,
    cost: Option<NanoUsd>,
) -> Result<Option<CostHold>> {
    if !is_limited(call) {
        return Ok(None);
    }
    let tokens = most.map_or(Tokens(0), |most| tokens(most, target.info));
    let attempt = quota::Attempt { provider: target.provider.name.as_str(), tokens, cost };
    shared
        .quotas
        .admit_attempt(&call.snapshot.quotas, &who(call), attempt)
        .await
        .map(Some)
        .map_err(|refused| told(shared, &refused))
}

/// Of a call, for limits: what comes and what is likely to.
fn tokens(most: &Most, info: Info) -> Tokens {
    let output = most.asked.unwrap_or(Tokens(most.output(info).0.min(USUAL_OUTPUT)));
    Tokens(tokens_of(most.input(info).0).0.saturating_add(output.0.saturating_mul(u64::from(most.choices))))
}

fn worst(most: &Most, info: Info, service_tier: ServiceTier) -> Worst {
    Worst {
        input: most.input(info),
        output: most.output(info),
        choices: most.choices,
        service_tier,
        place: if most.regional { Place::Regional } else { Place::Global },
        server_tool_calls: most.server_tool_calls,
        images: 0,
        searches: 1,
        without: meter::Without {
            cache_hour: !most.cache_hour,
            cache_write: !most.cache_write,
            audio: !most.audio,
            images: !most.images,
        },
    }
}

fn reservation(call: &Call, asked: &Asked, hold: Option<NanoUsd>) -> Reservation {
    let target = &asked.target;
    Reservation {
        call: call.id.clone(),
        attempt: call.attempts + 1,
        at: jiff::Timestamp::now(),
        key: call.key.as_ref().map(|key| key.name.text()),
        tags: call.tags().to_vec(),
        model: call.model.as_deref().map(Arc::from),
        provider: target.provider.name.text(),
        upstream_model: Some(Arc::clone(&target.model)),
        operation: call.operation_name().into(),
        stream: call.stream,
        hold,
        price_version: target.tariff.as_ref().map(|tariff| Arc::clone(&tariff.version)),
    }
}

fn told_cost(reservation: &Reservation, end: &End<'_>, booked: &Booked) -> Cost {
    let r = reservation;
    Cost {
        // a client may give several calls the same name
        id: format!("{}-{}-{}", r.call.as_str(), r.attempt, r.at.as_microsecond()),
        at: jiff::Timestamp::now(),
        call: r.call.clone(),
        attempt: r.attempt,
        key: r.key.clone(),
        tags: r.tags.clone(),
        model: r.model.clone(),
        provider: Arc::clone(&r.provider),
        upstream_model: r.upstream_model.clone(),
        operation: r.operation.clone().into_owned(),
        status: end.status,
        outcome: end.outcome.clone().into_owned(),
        answered: end.answered,
        input_tokens: booked.usage.map(|usage| usage.input),
        cache_read_tokens: booked.usage.map(|usage| usage.cache_read),
        output_tokens: booked.usage.map(|usage| usage.output),
        cost_usd: booked.cost.map(Into::into),
        cost_nano_usd: booked.cost,
        estimated: booked.estimated,
        price_version: r.price_version.clone(),
    }
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
