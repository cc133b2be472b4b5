//! `tollgate status`: how the running gateway is, and all that is behind it.

use std::process::ExitCode;

use clap::Args;

use super::ConfigFile;
use super::ask::Admin;
use super::table::{Cell, Format, Table, Tone, ago, count, time};
use crate::gateway::status::{EndpointStatus, LastError, ProviderStatus, State, Status, TargetStatus};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show targets that were never asked, too.
    #[arg(long)]
    all: bool,
}

/// Exit code 3 when there is no gateway to ask.
pub fn run(arguments: &Arguments) -> ExitCode {
    match ask(arguments) {
        Ok(text) => {
            // a closed pipe (`tollgate status | head`) is no failure
            let _closed = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn ask(arguments: &Arguments) -> Result<String, ExitCode> {
    let answer = Admin::find(arguments.file.config.as_deref())?.get("/api/status")?;
    let unreadable = |why: String| {
        eprintln!("tollgate: the gateway's answer (status {}) cannot be read: {why}", answer.status);
        ExitCode::from(3)
    };
    let status: Status = serde_json::from_slice(&answer.body).map_err(|error| unreadable(error.to_string()))?;
    match arguments.format {
        Format::Json => {
            serde_json::to_string_pretty(&status).map(|text| text + "\n").map_err(|error| unreadable(error.to_string()))
        }
        Format::Table => Ok(table(&status, arguments.all, jiff::Timestamp::now()).for_stdout()),
    }
}

fn table(status: &Status, all: bool, now: jiff::Timestamp) -> Table {
    let mut table = Table::default();
    let (state, tone) = match status.state {
        State::Starting => ("starting", Tone::Warning),
        State::Ready => ("ready", Tone::Good),
        State::Draining => ("draining", Tone::Warning),
    };
    table.line(format!("Tollgate {}: {state}, up {}", status.version, time(status.uptime_s * 1000)), tone);
    let calls = count(usize::try_from(status.in_flight).unwrap_or(usize::MAX), "call");
    let loaded = ago(status.loaded_at, now);
    table.line(format!("{calls} running, configuration {} loaded {loaded}", status.generation), Tone::Plain);
    table.line("", Tone::Plain);
    table.heading(&["PROVIDER / TARGET", "STATE", "CALLS", "FAILED", "LATELY", "FIRST TOKEN", "BUSY", "QUEUE", "LEFT"]);
    for provider in &status.providers {
        add_provider(&mut table, provider, all, now);
    }
    table
}

fn add_provider(table: &mut Table, provider: &ProviderStatus, all: bool, now: jiff::Timestamp) {
    let mut title = match provider.name == provider.kind {
        true => provider.name.clone(),
        false => format!("{} ({})", provider.name, provider.kind),
    };
    if provider.accounts > 1 {
        title = format!("{title}, {}", count(provider.accounts, "account"));
    }
    match provider.configured {
        true => table.line(title, Tone::Heading),
        false => {
            table.line(format!("{title}: not configured, {} unset", provider.missing_env.join(", ")), Tone::Warning);
        }
    }
    let several = provider.accounts > 1;
    for endpoint in &provider.endpoints {
        add_endpoint(table, endpoint, several, now);
    }
    let mut quiet = 0;
    for target in &provider.targets {
        if !all && target.calls == 0 && target.breaker.state == "closed" && target.rate_limit.waiting == 0 {
            quiet += 1;
        } else {
            add_target(table, target, several, now);
        }
    }
    if quiet > 0 {
        table.line(format!("  {} never asked", count(quiet, "target")), Tone::Quiet);
    }
    if provider.more_targets > 0 {
        table.line(format!("  {} more that only clients name", provider.more_targets), Tone::Quiet);
    }
}

fn add_endpoint(table: &mut Table, endpoint: &EndpointStatus, several: bool, now: jiff::Timestamp) {
    let (state, tone) = match &*endpoint.state {
        "healthy" => ("healthy".to_owned(), Tone::Good),
        "ejected" => (format!("ejected {}", time(endpoint.ejected_for_ms)), Tone::Bad),
        "unhealthy" => ("unhealthy".to_owned(), Tone::Bad),
        other => (other.to_owned(), Tone::Plain),
    };
    let mut cells = vec![Cell::plain(named(&endpoint.endpoint, endpoint.account, several)), Cell::new(state, tone)];
    let mean = endpoint.mean_ms.map_or_else(String::new, time);
    let busy = endpoint.in_flight.to_string();
    cells.extend(["", "", "", &mean, &busy, "", ""].map(Cell::plain));
    table.row(cells);
    add_error(table, endpoint.last_error.as_ref(), now);
}

fn add_target(table: &mut Table, target: &TargetStatus, several: bool, now: jiff::Timestamp) {
    let left = target.breaker.reopens_in_ms.map(time);
    let (state, tone) = match (&*target.breaker.state, left) {
        ("closed", None) => ("closed".to_owned(), Tone::Good),
        // the provider asked to be left alone
        ("closed", Some(left)) => (format!("waits {left}"), Tone::Warning),
        ("half_open", _) => ("half open".to_owned(), Tone::Warning),
        (other, left) => (format!("{other} {}", left.unwrap_or_default()).trim_end().to_owned(), Tone::Bad),
    };
    let limits = &target.rate_limit;
    let share = |left: Option<u64>, limit: Option<u64>| match (left, limit) {
        (Some(left), Some(limit)) if limit > 0 => Some(left.saturating_mul(100) / limit),
        _ => None,
    };
    let shares = [share(limits.requests_left, limits.requests_limit), share(limits.tokens_left, limits.tokens_limit)];
    let left = shares.into_iter().flatten().min().map_or_else(String::new, |percent| format!("{percent}%"));
    let failed_tone = if target.failures > 0 { Tone::Warning } else { Tone::Plain };
    let first = match (target.first_token_ms.mean, target.first_token_ms.p95) {
        (Some(mean), Some(p95)) => format!("{} / {}", time(mean), time(p95)),
        (Some(mean), None) => time(mean),
        (None, _) => String::new(),
    };
    table.row(vec![
        Cell::plain(named(&target.model, target.account, several)),
        Cell::new(state, tone),
        Cell::plain(target.calls.to_string()),
        Cell::new(target.failures.to_string(), failed_tone),
        Cell::plain(target.error_rate.map_or_else(String::new, |rate| format!("{:.0}%", rate * 100.0))),
        Cell::plain(first),
        Cell::plain(target.in_flight.to_string()),
        Cell::plain(limits.waiting.to_string()),
        Cell::plain(left),
    ]);
    add_error(table, target.last_error.as_ref(), now);
}

fn add_error(table: &mut Table, error: Option<&LastError>, now: jiff::Timestamp) {
    if let Some(error) = error {
        table.line(format!("    {}: {}", ago(error.at, now), error.what), Tone::Quiet);
    }
}

/// Accounts are told apart where there are several.
fn named(name: &str, account: usize, several: bool) -> String {
    if several { format!("  {name} #{account}") } else { format!("  {name}") }
}
