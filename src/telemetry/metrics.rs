//! Every metric, in one struct. A field's help text says what it counts; the unit stands in the name.
//!
//! Names follow OpenTelemetry's GenAI conventions where one exists, in Prometheus spelling; ours are `tollgate_*`. Families that have
//! no series yet are still shown with `# HELP` and `# TYPE`, so that a dashboard can be built before the first event.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The model label of a call whose model is not an entry of `models` (`provider/model` typed by a caller).
pub const OTHER_MODEL: &str = "other";

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Vec<Family>,
    /// Held while gauges are set and read, so that nobody reads them half set.
    scrape: Mutex<()>,
    pub requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub time_to_first_token: HistogramVec,
    pub time_per_output_token: HistogramVec,
    pub tokens: IntCounterVec,
    pub overhead: HistogramVec,
    pub attempts: IntCounterVec,
    pub failovers: IntCounterVec,
    pub hedges: IntCounterVec,
    pub limited: IntCounterVec,
    pub losses: IntCounterVec,
    pub unpriced: IntCounterVec,
    /// US dollars.
    pub cost: CounterVec,
    pub ledger_refused: IntCounter,
    /// US dollars. Set when they are asked for, like the three of the ledger.
    pub budget_remaining: GaugeVec,
    pub ledger_behind: IntGauge,
    pub ledger_oldest: Gauge,
    pub ledger_journal: IntGauge,
    pub events: IntCounterVec,
    /// Set when they are asked for, like the three that follow: [`Metrics::render_with`].
    pub breaker_state: IntGaugeVec,
    pub target_in_flight: IntGaugeVec,
    pub queue_waiting: IntGaugeVec,
    pub endpoint_up: IntGaugeVec,
    pub streams_open: IntGauge,
    pub connections_open: IntGauge,
    pub buffered_bytes: IntGauge,
    pub config_generation: IntGauge,
    pub reloads: IntCounterVec,
    pub config_loaded: IntGauge,
    pub log_lines_dropped: IntCounter,
    pub build: IntGaugeVec,
}

#[derive(Debug)]
struct Family {
    name: String,
    help: String,
    kind: &'static str,
}

/// Seconds; wide enough for a ten-minute answer.
const SECONDS: [f64; 12] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
const TOKEN_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
const OVERHEAD_SECONDS: [f64; 11] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.1];

/// Families promised in the documentation whose feature is not in this version: declared, never with a sample.
const DECLARED: [(&str, &str, &str); 2] = [
    ("tollgate_mcp_calls_total", "MCP requests answered, by server and outcome.", "counter"),
    ("tollgate_mcp_server_up", "Whether an MCP server answers (1) or not (0).", "gauge"),
];

// === impl Metrics ===

impl Metrics {
    #[expect(clippy::expect_used, reason = "names are literals, each registered once: the tests make one")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let mut families = Vec::new();
        let mut keep = Register { registry: &registry, families: &mut families };

        let metrics = Metrics {
            requests: keep.counters(
                "tollgate_requests_total",
                "Calls answered on the data port, by operation, model, provider and status.",
                &["operation", "gen_ai_request_model", "gen_ai_provider_name", "status"],
            ),
            request_duration: keep.histograms(
                "gen_ai_server_request_duration_seconds",
                "From the end of a request's header section to the last byte of the answer.",
                &["gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name"],
                &SECONDS,
            ),
            time_to_first_token: keep.histograms(
                "gen_ai_server_time_to_first_token_seconds",
                "From the end of a request's header section to the first streamed output.",
                &["gen_ai_request_model", "gen_ai_provider_name"],
                &SECONDS,
            ),
            time_per_output_token: keep.histograms(
                "gen_ai_server_time_per_output_token_seconds",
                "Time between streamed outputs after the first, averaged over a call.",
                &["gen_ai_request_model", "gen_ai_provider_name"],
                &TOKEN_SECONDS,
            ),
            tokens: keep.counters(
                "gen_ai_client_token_usage_total",
                "Tokens as the provider reported them: input, output, and of those cache_read, cache_write_5m, cache_write_1h and reasoning.",
                &["gen_ai_token_type", "gen_ai_request_model", "gen_ai_provider_name"],
            ),
            overhead: keep.histograms(
                "tollgate_overhead_seconds",
                "Time a call spent in the gateway itself, waiting on neither client nor provider.",
                &["lane"],
                &OVERHEAD_SECONDS,
            ),
            attempts: keep.counters(
                "tollgate_upstream_attempts_total",
                "Tries at a provider, by outcome.",
                &["gen_ai_provider_name", "outcome"],
            ),
            failovers: keep.counters(
                "tollgate_failovers_total",
                "Tries that came to nothing before any output, by reason; another followed where one was left.",
                &["gen_ai_provider_name", "reason"],
            ),
            hedges: keep.counters(
                "tollgate_hedges_total",
                "Calls for which a second target was asked because the first took long, by which of them answered.",
                &["answered"],
            ),
            limited: keep.counters(
                "tollgate_limited_total",
                "Calls and connections turned away by a limit, by limit.",
                &["limit"],
            ),
            losses: keep.counters(
                "tollgate_losses_total",
                "Fields that a translation between dialects could not carry. The splice and opaque lanes lose none.",
                &["gen_ai_provider_name"],
            ),
            unpriced: keep.counters(
                "tollgate_unpriced_total",
                "Calls that used tokens for which no price is known.",
                &["gen_ai_request_model"],
            ),
            cost: keep.amounts(
                "tollgate_cost_usd_total",
                "Cost of calls in USD, all tries included, by the price table.",
                &["gen_ai_request_model", "gen_ai_provider_name"],
            ),
            ledger_refused: keep.counter(
                "tollgate_ledger_refused_total",
                "Tries that the ledger could not write down before they were made.",
            ),
            budget_remaining: {
                let help = "What is left of a budget in USD; of those that share a label, the least.";
                let opts = Opts::new("tollgate_budget_remaining_usd", help);
                keep.add("gauge", GaugeVec::new(opts, &["budget"]).expect("literal names"))
            },
            ledger_behind: keep.gauge(
                "tollgate_ledger_behind_rows",
                "Tries that have ended and are not in the database yet; they are in the journal.",
            ),
            ledger_oldest: {
                let help = "How long the oldest of what the database lacks has been waiting.";
                keep.add("gauge", Gauge::new("tollgate_ledger_oldest_seconds", help).expect("a literal name"))
            },
            ledger_journal: keep.gauge("tollgate_ledger_journal_bytes", "Size of the ledger's journal on disk."),
            events: keep.counters(
                "tollgate_events_total",
                "Events by where they go, and what became of them: sent, dropped (too many waited) or failed (not taken within minutes).",
                &["to", "outcome"],
            ),
            breaker_state: keep.gauges(
                "tollgate_breaker_state",
                "Circuit breaker of a target, from its first call on: 0 closed, 1 half open, 2 open. Of models that are no target in the configuration, the worst.",
                &["gen_ai_provider_name", "account", "gen_ai_request_model"],
            ),
            target_in_flight: keep.gauges(
                "tollgate_target_in_flight",
                "Tries under way at a target.",
                &["gen_ai_provider_name", "account", "gen_ai_request_model"],
            ),
            queue_waiting: keep.gauges(
                "tollgate_queue_waiting",
                "Calls that wait for their turn at a target.",
                &["gen_ai_provider_name", "account", "gen_ai_request_model"],
            ),
            endpoint_up: keep.gauges(
                "tollgate_endpoint_up",
                "Whether an endpoint of a pool takes calls (1) or is left out, by any of its provider's accounts (0).",
                &["gen_ai_provider_name", "endpoint"],
            ),
            streams_open: keep.gauge("tollgate_streams_open", "Event streams being forwarded now."),
            connections_open: keep.gauge("tollgate_connections_open", "Client connections open now."),
            buffered_bytes: keep.gauge("tollgate_buffered_bytes", "Request bytes held in memory now."),
            config_generation: keep.gauge("tollgate_config_generation", "Generation of the running configuration."),
            config_loaded: keep.gauge(
                "tollgate_config_loaded_timestamp_seconds",
                "When the running configuration was loaded (Unix time).",
            ),
            reloads: keep.counters(
                "tollgate_config_reloads_total",
                "Reloads of the configuration, by outcome.",
                &["outcome"],
            ),
            log_lines_dropped: {
                let counter = IntCounter::new(
                    "tollgate_access_log_dropped_total",
                    "Access-log lines dropped because their destination was too slow.",
                )
                .expect("a literal name");
                keep.add("counter", counter)
            },
            build: {
                let opts = Opts::new("tollgate_build_info", "Constant 1, labelled with the version.");
                keep.add("gauge", IntGaugeVec::new(opts, &["version"]).expect("literal names"))
            },
            families: Vec::new(),
            registry: registry.clone(),
            scrape: Mutex::new(()),
        };
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("registered once");
        metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for limit in ["address_failures", "connections", "connections_per_address", "buffered_bytes"] {
            metrics.limited.with_label_values(&[limit]);
        }
        for outcome in ["ok", "refused"] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        Metrics { families, ..metrics }
    }

    /// The text, with the gauges that are set for whoever asks. Series of what is gone are gone.
    pub fn render_with(&self, set: impl FnOnce(&Metrics)) -> String {
        let _alone = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        for gauge in [&self.breaker_state, &self.target_in_flight, &self.queue_waiting, &self.endpoint_up] {
            gauge.reset();
        }
        self.budget_remaining.reset();
        set(self);
        self.render()
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = Vec::with_capacity(16 * 1024);
        let gathered = self.registry.gather();
        if let Err(error) = TextEncoder::new().encode(&gathered, &mut text) {
            tracing::error!("metrics could not be encoded: {error}");
        }
        let mut text = String::from_utf8(text).unwrap_or_default();
        let declared = DECLARED.iter().map(|(name, help, kind)| (*name, *help, *kind));
        let silent = self.families.iter().map(|f| (&*f.name, &*f.help, f.kind));
        for (name, help, kind) in silent.chain(declared) {
            if !gathered.iter().any(|g| g.name() == name) {
                // writing to a String cannot fail
                let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            }
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

// === registering ===

struct Register<'a> {
    registry: &'a Registry,
    families: &'a mut Vec<Family>,
}

#[expect(clippy::expect_used, reason = "names are literals, each registered once: the tests make one")]
impl Register<'_> {
    fn add<C: Collector + Clone + 'static>(&mut self, kind: &'static str, collector: C) -> C {
        for desc in collector.desc() {
            self.families.push(Family { name: desc.fq_name.clone(), help: desc.help.clone(), kind });
        }
        self.registry.register(Box::new(collector.clone())).expect("registered once");
        collector
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add("counter", IntCounterVec::new(Opts::new(name, help), labels).expect("literal names"))
    }

    fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        self.add("counter", IntCounter::new(name, help).expect("a literal name"))
    }

    /// Counts what comes in fractions.
    fn amounts(&mut self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.add("counter", CounterVec::new(Opts::new(name, help), labels).expect("literal names"))
    }

    fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.add("gauge", IntGauge::new(name, help).expect("a literal name"))
    }

    fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add("gauge", IntGaugeVec::new(Opts::new(name, help), labels).expect("literal names"))
    }

    fn histograms(&mut self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", HistogramVec::new(opts, labels).expect("literal names"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promised_name_is_shown_from_the_start() {
        let text = Metrics::new().render();
        for name in [
            "gen_ai_client_token_usage_total",
            "gen_ai_server_request_duration_seconds",
            "gen_ai_server_time_to_first_token_seconds",
            "gen_ai_server_time_per_output_token_seconds",
            "tollgate_requests_total",
            "tollgate_cost_usd_total",
            "tollgate_overhead_seconds",
            "tollgate_upstream_attempts_total",
            "tollgate_breaker_state",
            "tollgate_limited_total",
            "tollgate_budget_remaining_usd",
            "tollgate_losses_total",
            "tollgate_unpriced_total",
            "tollgate_config_generation",
            "tollgate_mcp_calls_total",
            "tollgate_mcp_server_up",
            "tollgate_streams_open",
        ] {
            assert_eq!(text.matches(&format!("# TYPE {name} ")).count(), 1, "{name}\n{text}");
        }
    }
}
