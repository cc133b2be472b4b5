//! Which target answers for a model: an entry of the config, or `provider/model` written out.

use std::sync::Arc;

use crate::config::Snapshot;
use crate::config::snapshot::{Key, OnLoss, Provider, Timeouts};
use crate::dialect::{Operation, count, task};
use crate::error::{Error, Kind, Result};

/// Near names shown for an unknown model.
const SUGGESTIONS: usize = 3;

/// Where a call goes.
#[derive(Debug, Clone)]
pub struct Target {
    pub provider: Arc<Provider>,
    /// The provider's own name for the model.
    pub model: Arc<str>,
    pub timeouts: Timeouts,
    pub on_loss: OnLoss,
    /// The name is an entry of `models`, so it may be a metric's label.
    pub listed: bool,
}

/// How a call reaches its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The target speaks the client's dialect.
    Splice,
    /// It is asked for this conversation instead.
    Bridge(Operation),
    /// It is asked this one question instead.
    Task(Operation),
    /// Tokens are counted: by the provider that would answer with this conversation, or here.
    Count(Option<Operation>),
}

/// The way of an operation to a target.
pub fn way(target: &Target, operation: Operation) -> Result<Way> {
    let lacking = || {
        Error::new(
            Kind::Unsupported,
            format!("Provider \"{}\" does not offer {}.", target.provider.name, operation.name()),
        )
        .param("model")
    };
    let offer = target.provider.offer(&target.model).ok_or_else(lacking)?;
    let offers = |operation: Operation| offer.paths.contains_key(&operation);
    // what is shaped like Cohere's rerank differs from it, and from itself in another version
    if offers(operation) && operation != Operation::Rerank {
        return Ok(Way::Splice);
    }
    let found = match operation {
        Operation::CountMessageTokens | Operation::CountContentTokens => {
            let counted = |to: &Operation| count::counts(*to).is_some_and(offers);
            Some(Way::Count(offer.bridge.first().copied().filter(counted)))
        }
        Operation::Embeddings | Operation::EmbedContent | Operation::Rerank => {
            offer.paths.keys().copied().find(|to| task::can(operation, *to)).map(Way::Task)
        }
        _ => offer.bridge.first().copied().map(Way::Bridge),
    };
    found.ok_or_else(lacking)
}

/// The target of a model for this key (`None`: open mode).
pub fn target(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> Result<Target> {
    let target = find(snapshot, model);
    // A name outside the key's list gets the same answer whether it exists or not.
    if key.is_some_and(|k| !k.allows_model(model)) {
        return Err(Error::new(
            Kind::Forbidden,
            format!("This API key may not use the model `{model}`.{}", near(snapshot, key, model)),
        )
        .param("model")
        .code("model_not_allowed"));
    }
    let target = target.ok_or_else(|| {
        Error::new(
            Kind::UnknownModel,
            format!(
                "The model `{model}` does not exist or you do not have access to it.{}",
                near(snapshot, key, model)
            ),
        )
        .param("model")
    })?;
    if !target.provider.missing_env.is_empty() {
        return Err(Error::new(
            Kind::UpstreamFailed,
            format!("Provider \"{}\" is not set up: its credentials are missing.", target.provider.name),
        )
        .code("provider_not_configured")
        .why(format!("unset: {}", target.provider.missing_env.join(", "))));
    }
    Ok(target)
}

fn find(snapshot: &Snapshot, model: &str) -> Option<Target> {
    if let Some(found) = snapshot.models.get(model) {
        return Some(Target {
            provider: Arc::clone(&found.provider),
            model: Arc::clone(&found.upstream),
            timeouts: found.timeouts,
            on_loss: found.on_loss,
            listed: true,
        });
    }
    if snapshot.strict {
        return None;
    }
    let (provider, rest) = model.split_once('/')?;
    let provider = snapshot.providers.get(provider).filter(|_| !rest.is_empty())?;
    Some(Target {
        provider: Arc::clone(provider),
        model: rest.into(),
        timeouts: provider.timeouts,
        on_loss: snapshot.on_loss,
        listed: false,
    })
}

/// ` Did you mean ...?`, from the names this key may see.
fn near(snapshot: &Snapshot, key: Option<&Key>, model: &str) -> String {
    let mut names: Vec<(f64, &str)> = snapshot
        .model_order
        .iter()
        .map(|name| name.as_str())
        .filter(|name| key.is_none_or(|k| k.allows_model(name)))
        .map(|name| (strsim::jaro_winkler(name, model), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0));
    names.truncate(SUGGESTIONS);
    match names.as_slice() {
        [] => String::new(),
        names => {
            let names: Vec<String> = names.iter().map(|(_, n)| format!("`{n}`")).collect();
            format!(" Did you mean {}?", names.join(" or "))
        }
    }
}
