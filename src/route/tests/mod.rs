//! Routing as a whole: small worlds of providers and models, planned many times.

mod balanced;
mod found;
mod kept;
mod needed;
mod ruled;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::*;
use crate::config::policy::{Affinity, Model, ModelTarget, Strategy};
use crate::config::tariff::Tariff;
use crate::config::{Environment, load_str};
use crate::id::ModelName;
use crate::units::PicoUsdPerToken;

const PROVIDERS: &str = r#"
providers:
  openai: {api_key: k1}
  anthropic: {api_key: k2}
  gemini: {api_key: k3}
  a: {kind: openai, base_url: "http://127.0.0.1:1/v1"}
  b: {kind: openai, base_url: "http://127.0.0.1:2/v1"}
  c: {kind: openai, base_url: "http://127.0.0.1:3/v1"}
  unset: {kind: groq, api_key: "${NOPE}", required_env: [NOPE]}
"#;

/// A configuration that is asked, and what is known of its targets.
struct World {
    snapshot: Snapshot,
    key: Option<Arc<Key>>,
    /// By `provider/model`, of an account `provider/model#1`.
    gauges: HashMap<String, Gauge>,
}

/// One question, with a body of its own.
struct Question<'a> {
    model: &'a str,
    operation: Operation,
    path: &'a str,
    headers: HeaderMap,
    body: String,
    stream: bool,
    seed: u64,
}

impl World {
    fn new() -> Self {
        Self::of("")
    }

    fn of(more: &str) -> Self {
        let text = format!("{PROVIDERS}{more}");
        let checked = load_str("c.yaml", &text, &Environment::of([("PATH", "/bin")]));
        let snapshot = checked.unwrap_or_else(|e| panic!("{e:?}")).into_snapshot(1);
        World { snapshot, key: None, gauges: HashMap::new() }
    }

    /// Asked with this key of the configuration.
    fn with_key(mut self, name: &str) -> Self {
        self.key = self.snapshot.keys.by_hash.values().find(|key| key.name.as_str() == name).cloned();
        assert!(self.key.is_some(), "no key {name}");
        self
    }

    /// An entry; each target as `provider/model`, with what makes it special.
    fn model(&mut self, name: &str, targets: Vec<(&str, Special)>) -> &mut Model {
        let targets = targets.into_iter().map(|(target, special)| Arc::new(self.target(target, special))).collect();
        let model = Model {
            name: ModelName::new(name),
            targets,
            strategy: Strategy::Priority,
            affinity: Affinity::Off,
            policy: Arc::default(),
            on_loss: OnLoss::Report,
            listed: true,
        };
        let model = if name.contains('*') {
            let others = |m: &Arc<Model>| m.name.as_str().len();
            self.snapshot.wildcards.push(Arc::new(model));
            self.snapshot.wildcards.sort_by_key(|m| std::cmp::Reverse(others(m)));
            self.snapshot.wildcards.iter_mut().find(|m| m.name.as_str() == name).unwrap()
        } else {
            self.snapshot.model_order.push(model.name.clone());
            let name = model.name.clone();
            self.snapshot.models.insert(name.clone(), Arc::new(model));
            self.snapshot.models.get_mut(&name).unwrap()
        };
        Arc::get_mut(model).unwrap()
    }

    fn target(&self, target: &str, special: Special) -> ModelTarget {
        let (provider, upstream) = target.split_once('/').unwrap();
        let provider = Arc::clone(&self.snapshot.providers[provider]);
        ModelTarget {
            breaker: provider.breaker,
            timeouts: provider.timeouts,
            provider,
            upstream: upstream.into(),
            priority: special.priority,
            weight: special.weight,
            info: special.info,
            tariff: special
                .price
                .map(|(input, output)| Arc::new(Tariff::of_tokens(PicoUsdPerToken(input), PicoUsdPerToken(output)))),
        }
    }

    /// Give a provider the credentials of others as accounts. Before models name it.
    fn accounts(&mut self, provider: &str, others: &[&str]) {
        self.snapshot.opaque = None;
        let mut accounts = Vec::new();
        for (n, name) in others.iter().enumerate() {
            let mut account = Arc::try_unwrap(self.snapshot.providers.remove(*name).unwrap()).unwrap();
            account.name = crate::id::ProviderName::new(provider);
            account.account = n + 1;
            accounts.push(Arc::new(account));
        }
        let first = self.snapshot.providers.get_mut(provider).unwrap();
        Arc::get_mut(first).unwrap().accounts = accounts;
    }

    fn set(&mut self, target: &str, gauge: Gauge) {
        self.gauges.insert(target.to_owned(), gauge);
    }

    fn plan(&self, question: &Question<'_>) -> Result<Plan> {
        plan(&self.ask(question), self)
    }

    fn ask<'a>(&'a self, question: &'a Question<'_>) -> Ask<'a> {
        Ask {
            snapshot: &self.snapshot,
            key: self.key.as_deref(),
            model: question.model,
            operation: question.operation,
            path: question.path,
            headers: &question.headers,
            body: question.body.as_bytes(),
            stream: question.stream,
            seed: question.seed,
        }
    }

    /// The targets of a plan, by name.
    fn order(&self, question: &Question<'_>) -> Vec<String> {
        self.plan(question).unwrap().targets.iter().map(name).collect()
    }

    /// How often each target comes first, over many seeds.
    fn firsts(&self, model: &str, times: u64) -> HashMap<String, f64> {
        let mut firsts: HashMap<String, f64> = HashMap::new();
        for seed in 0..times {
            let first = self.order(&Question { seed: crate::balance::mix(seed), ..chat(model) }).remove(0);
            *firsts.entry(first).or_default() += 1.0 / times as f64;
        }
        firsts
    }
}

impl Gauges for World {
    fn gauge(&self, target: &Target) -> Gauge {
        self.gauges.get(&name(target)).copied().unwrap_or_default()
    }
}

fn name(target: &Target) -> String {
    match target.provider.account {
        0 => target.shown(),
        n => format!("{}#{n}", target.shown()),
    }
}

/// What makes a target special.
#[derive(Clone, Copy)]
struct Special {
    priority: u32,
    weight: u32,
    info: Info,
    price: Option<(i64, i64)>,
}

const PLAIN: Special = Special {
    priority: 1,
    weight: 1,
    info: Info {
        context: None,
        max_output: None,
        vision: None,
        audio: None,
        documents: None,
        tools: None,
        json_schema: None,
        reasoning: None,
    },
    price: None,
};

fn chat(model: &str) -> Question<'_> {
    Question {
        model,
        operation: Operation::ChatCompletions,
        path: "/v1/chat/completions",
        headers: HeaderMap::new(),
        body: format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}]}}"#),
        stream: false,
        seed: 1,
    }
}

fn busy(refused: u64) -> Gauge {
    Gauge { refused: Some(Duration::from_secs(refused)), ..Gauge::default() }
}

fn loaded(in_flight: u32) -> Gauge {
    Gauge { in_flight, ..Gauge::default() }
}
