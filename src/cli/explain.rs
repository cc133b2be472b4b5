//! `tollgate explain`: what would become of a request. Sends nothing to any provider, and needs no running gateway.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;

use super::ask::Admin;
use super::table::{Cell, Format, Table, Tone, time};
use super::{ConfigFile, complain, files};
use crate::config::{self, Environment};
use crate::gateway::explain::{self, ErrorShown, Explained, Knowledge, PolicyShown, Query, TargetPlan};

/// A file longer than any request.
const LARGEST: u64 = 1 << 30;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// As if this virtual key had been shown (its name, never the key itself).
    #[arg(short, long, value_name = "NAME")]
    key: Option<String>,
    /// Path the request would be sent to [default: by the shape of the request].
    #[arg(long)]
    path: Option<String>,
    /// A header that would come with it; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Ask the running gateway, which knows load, breakers and queues.
    #[arg(long)]
    live: bool,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The request's JSON body, or `{"request": BODY, "path": .., "key": .., "headers": {..}}`; `-`: standard input.
    request: PathBuf,
}

/// Exit code 1 when the request would be refused, 3 when there is no gateway to ask.
pub fn run(arguments: &Arguments) -> ExitCode {
    let told = query(arguments).map_err(|why| told_wrong(&why)).and_then(|query| match arguments.live {
        true => live(arguments, &query),
        false => offline(arguments, &query),
    });
    let told = match told {
        Ok(told) => told,
        Err(code) => return code,
    };
    let text = match arguments.format {
        Format::Json => serde_json::to_string_pretty(&told).unwrap_or_default() + "\n",
        Format::Table => table(&told).for_stdout(),
    };
    // a closed pipe (`tollgate explain .. | head`) is no failure
    let _closed = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    if told.error.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}

fn told_wrong(why: &str) -> ExitCode {
    eprintln!("tollgate: {why}");
    ExitCode::from(1)
}

/// What was typed; the options count more than the envelope.
fn query(arguments: &Arguments) -> Result<Query, String> {
    let text = read(&arguments.request).map_err(|error| format!("{}: {error}", arguments.request.display()))?;
    let mut query = Query::read(Bytes::from(text))?;
    for header in &arguments.headers {
        let (name, value) = header.split_once(':').ok_or_else(|| format!("-H {header:?}: write NAME: VALUE"))?;
        query.add_header(name, value)?;
    }
    query.path = arguments.path.clone().or(query.path);
    query.key = arguments.key.clone().or(query.key);
    Ok(query)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin().take(LARGEST).read_to_end(&mut text)?,
        false => std::fs::File::open(path)?.take(LARGEST).read_to_end(&mut text)?,
    };
    Ok(text)
}

fn offline(arguments: &Arguments, query: &Query) -> Result<Explained, ExitCode> {
    let Some(path) = files::find(arguments.file.config.as_deref()) else {
        eprintln!("tollgate: no configuration file; name one with -c FILE, or ask the running gateway with --live");
        return Err(ExitCode::from(2));
    };
    let checked = config::load(&path, &Environment::process()).map_err(|errors| complain(&errors))?;
    explain::explain(checked.snapshot(), &Knowledge::Offline, query).map_err(|why| told_wrong(&why))
}

fn live(arguments: &Arguments, query: &Query) -> Result<Explained, ExitCode> {
    let envelope = query.to_envelope().map_err(|why| told_wrong(&why))?;
    let answer = Admin::find(arguments.file.config.as_deref())?.post("/api/explain", envelope)?;
    if answer.status != 200 {
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        return Err(told_wrong(problem["error"].as_str().unwrap_or("the gateway does not explain this request")));
    }
    serde_json::from_slice(&answer.body).map_err(|error| {
        eprintln!("tollgate: the gateway's answer cannot be read: {error}");
        ExitCode::from(3)
    })
}

// === for people ===

fn table(told: &Explained) -> Table {
    let mut table = Table::default();
    let from = match (told.live, told.generation) {
        (true, Some(generation)) => format!("by the running gateway, configuration {generation}"),
        (true, None) => "by the running gateway".to_owned(),
        (false, _) => "by the configuration alone, without load, breakers and queues".to_owned(),
    };
    table.wrapped(format!("Explained {from}. Nothing was sent."), Tone::Quiet);
    let guessed = if told.path_guessed { " (by its shape)" } else { "" };
    let mut fact = |name: &str, value: String| table.line(format!("{name:<10}{value}"), Tone::Plain);
    fact("path", format!("POST {}{guessed}", told.path));
    fact("key", told.key.clone().unwrap_or_else(|| "none named: what a key may not do is not looked at".to_owned()));
    if let Some(model) = &told.model {
        let stream = if told.stream { ", as a stream" } else { "" };
        fact("model", format!("{model}{stream}"));
    }
    if let Some(used) = told.used_model.as_ref().filter(|used| told.model.as_ref() != Some(*used)) {
        fact("", format!("sent to {used} by rule {}", told.rules.join(", ")));
    } else if !told.rules.is_empty() {
        fact("rule", told.rules.join(", "));
    }
    if let Some(input) = told.input_tokens {
        let output = told.max_output_tokens.map_or_else(String::new, |most| format!(", {most} of output at most"));
        fact("tokens", format!("about {input} of input{output}"));
    }
    for rule in &told.unclear_rules {
        table.wrapped(format!("unclear   rule {}: {}", rule.rule, rule.why), Tone::Warning);
    }
    if told.carried_unread {
        table.line("This path is carried without being read: there is no plan.", Tone::Plain);
    }
    if let Some(error) = &told.error {
        add_error(&mut table, error);
    }
    if !told.targets.is_empty() {
        table.line("", Tone::Plain);
        add_targets(&mut table, told);
    }
    for over in &told.passed_over {
        table.wrapped(format!("passed over: {}: {}", over.target, over.why), Tone::Warning);
    }
    if let Some(policy) = &told.policy {
        table.line("", Tone::Plain);
        add_policy(&mut table, policy, told.client_gives_up_ms);
    }
    table
}

fn add_error(table: &mut Table, error: &ErrorShown) {
    table.wrapped(format!("refused   {} {}: {}", error.status, error.kind, error.message), Tone::Bad);
}

fn add_targets(table: &mut Table, told: &Explained) {
    let mut names = vec!["TARGET, IN THIS ORDER", "LANE", "PRIORITY", "WEIGHT", "LOSSES", "MOST USD"];
    if told.live {
        names.extend(["BREAKER", "BUSY"]);
    }
    table.heading(&names);
    for (n, target) in told.targets.iter().enumerate() {
        let several = told.targets.iter().any(|other| other.provider == target.provider && other.account > 0);
        add_target(table, n + 1, target, several);
    }
}

/// `several`: its provider has more accounts than one.
fn add_target(table: &mut Table, place: usize, target: &TargetPlan, several: bool) {
    let account = if several { format!(" #{}", target.account) } else { String::new() };
    let tone = if target.losses_count > 0 { Tone::Warning } else { Tone::Plain };
    let mut cells = vec![
        Cell::plain(format!("{place}. {}/{}{account}", target.provider, target.model)),
        Cell::plain(target.lane.as_deref().unwrap_or("-")),
        Cell::plain(target.priority.to_string()),
        Cell::plain(target.weight.to_string()),
        Cell::new(target.losses_count.to_string(), tone),
        Cell::plain(target.cost.map_or_else(|| "no price".to_owned(), |cost| format!("{:.6}", cost.usd))),
    ];
    if let Some(gauge) = &target.gauge {
        let (state, tone) = match (gauge.refused_for_ms, gauge.wait_ms) {
            (Some(left), _) => (format!("{} {}", gauge.breaker, time(left)), Tone::Bad),
            (None, 0) => (gauge.breaker.to_string(), Tone::Good),
            (None, wait) => (format!("waits {}", time(wait)), Tone::Warning),
        };
        cells.extend([Cell::new(state, tone), Cell::plain(gauge.in_flight.to_string())]);
    }
    table.row(cells);
    if let Some(path) = &target.path {
        table.line(format!("     POST {path} ({})", target.operation.as_deref().unwrap_or_default()), Tone::Quiet);
    }
    let limits = &target.timeouts_ms;
    let waits = [
        ("connect", limits.connect),
        ("first byte", limits.first_byte),
        ("first token", limits.first_token),
        ("idle", limits.idle),
        ("total", limits.total),
    ];
    let waits: Vec<String> = waits.iter().map(|(name, millis)| format!("{name} {}", time(*millis))).collect();
    table.line(format!("     waits for {}", waits.join(", ")), Tone::Quiet);
    for loss in &target.losses {
        table.wrapped(format!("     {}: {}", loss.how, loss.path), Tone::Warning);
    }
    if let Some(error) = &target.error {
        table.wrapped(format!("     cannot be asked this: {} {}", error.status, error.message), Tone::Bad);
    }
}

fn add_policy(table: &mut Table, policy: &PolicyShown, gives_up: Option<u64>) {
    let mut fact = |name: &str, value: String| table.line(format!("{name:<10}{value}"), Tone::Plain);
    let PolicyShown { attempts, backoff_ms, max_backoff_ms, retry_budget_percent: budget, .. } = policy;
    fact("tries", format!("{attempts} at most, after {}", policy.retry_on.join(", ")));
    let backoff = format!("{} to {}", time(*backoff_ms), time(*max_backoff_ms));
    fact("again", format!("at the same target after {backoff}, for {budget}% of the calls"));
    if let Some(after) = &policy.hedge_after {
        fact("hedge", format!("a second target is asked after {after}"));
    }
    let fallbacks = [
        ("the prompt is too long", &policy.fallback_context_length),
        ("the content is filtered", &policy.fallback_content_filter),
    ];
    for (when, model) in fallbacks {
        if let Some(model) = model {
            fact("fallback", format!("{model} when {when}"));
        }
    }
    let client = gives_up.map_or_else(String::new, |millis| format!("; the client gives up after {}", time(millis)));
    fact("in all", format!("{} for all tries together{client}", time(policy.total_ms)));
}
