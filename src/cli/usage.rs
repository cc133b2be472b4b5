//! `tollgate usage`: what was spent. The gateway that runs is asked; where none does, its database is read, and not written.

mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use super::ask::{Admin, Answer};
use super::table::Format;
use super::{ConfigFile, complain, files};
use crate::config::prices::Prices;
use crate::config::{self, Environment};
use crate::report::{self, ask};
use crate::store::{Reader, StoreError};

/// A period of millions of rows takes its time.
const PATIENCE: Duration = Duration::from_secs(600);
const UNREACHED: u8 = 3;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sums: Sums,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One call's attempts and the arithmetic of what each cost.
    Explain(Explain),
    /// What a period would have cost by other prices. Changes nothing.
    Reprice(Reprice),
}

#[derive(Debug, Args)]
struct Sums {
    #[command(flatten)]
    file: ConfigFile,
    /// What rows are told apart by: call (a row per attempt), model, key, team, project, agent, user, provider, day, hour, tag:NAME; several
    /// with commas.
    #[arg(long, default_value = "model")]
    by: String,
    #[command(flatten)]
    period: Period,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: SumsFormat,
}

#[derive(Debug, Args)]
struct Period {
    /// From when on: 7d, 12h, 2026-11-01, 2026-11-01T08:00:00Z.
    #[arg(long, default_value = ask::SINCE)]
    since: String,
    /// Until when, this not included [default: now].
    #[arg(long)]
    until: Option<String>,
    /// Only what has this: team=search, model=gpt-5; may be given several times.
    #[arg(long)]
    filter: Vec<String>,
}

#[derive(Debug, Args)]
struct Explain {
    /// The call: `x-request-id` of its answer, `request_id` in the log.
    call: String,
    #[command(flatten)]
    file: ConfigFile,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
struct Reprice {
    /// Prices: our own form, LiteLLM's or models.dev's; the compiled-in ones count for what it lacks.
    #[arg(long, value_name = "FILE")]
    prices: PathBuf,
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    period: Period,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum SumsFormat {
    #[default]
    Table,
    /// A list of objects.
    Json,
    Csv,
}

/// Exit code 1: there is no such call, or the prices cannot be used; 3: there is neither a gateway nor its database.
pub fn run(arguments: &Arguments) -> ExitCode {
    let told = match &arguments.command {
        None => sums(&arguments.sums),
        Some(Command::Explain(asked)) => explain(asked),
        Some(Command::Reprice(asked)) => reprice(asked),
    };
    match told {
        Ok(text) => {
            // a closed pipe (`tollgate usage | head`) is no failure
            let _closed = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn sums(asked: &Sums) -> Result<String, ExitCode> {
    let by = ask::by(&asked.by).map_err(|why| usage(&why))?;
    let period = asked.period.read()?;
    let csv = asked.format == SumsFormat::Csv;
    let mut query = asked.period.query();
    query.append_pair("by", &asked.by).append_pair("format", if csv { "csv" } else { "json" });
    let path = format!("/api/usage?{}", query.finish());
    let file = asked.file.config.as_deref();
    if let Some(answer) = of_gateway(file, Method::GET, &path, Vec::new())? {
        if csv {
            return String::from_utf8(answer.body).map_err(|error| unreadable(&error));
        }
        return Ok(show_sums(&read(&answer)?, asked.format));
    }
    let found = of_database(file, async |reader| report::usage(&reader, by, period, 0).await)?;
    if csv { Ok(found.csv()) } else { Ok(show_sums(&json(&found)?, asked.format)) }
}

fn show_sums(told: &Value, format: SumsFormat) -> String {
    match format {
        SumsFormat::Table => show::sums(told).for_stdout(),
        SumsFormat::Json | SumsFormat::Csv => pretty(&told["rows"]),
    }
}

fn explain(asked: &Explain) -> Result<String, ExitCode> {
    let id = percent_encoding::utf8_percent_encode(&asked.call, percent_encoding::NON_ALPHANUMERIC);
    let file = asked.file.config.as_deref();
    let told = match of_gateway(file, Method::GET, &format!("/api/usage/calls/{id}"), Vec::new())? {
        Some(answer) => read(&answer)?,
        None => match of_database(file, async |reader| report::explain(&reader, &asked.call).await)? {
            Some(found) => json(&found)?,
            None => {
                eprintln!("tollgate: no call has this id: it is the x-request-id of its answer");
                return Err(ExitCode::from(1));
            }
        },
    };
    Ok(match asked.format {
        Format::Table => show::call(&told).for_stdout(),
        Format::Json => pretty(&told),
    })
}

fn reprice(asked: &Reprice) -> Result<String, ExitCode> {
    let period = asked.period.read()?;
    let prices = Prices::load(&asked.prices).map_err(|errors| complain(&errors))?;
    let bytes = std::fs::read(&asked.prices).map_err(|error| {
        eprintln!("tollgate: {}: cannot be read: {error}", asked.prices.display());
        ExitCode::from(1)
    })?;
    let name = asked.prices.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut query = asked.period.query();
    let path = format!("/api/usage/reprice?{}", query.append_pair("name", &name).finish());
    let file = asked.file.config.as_deref();
    let told = match of_gateway(file, Method::POST, &path, bytes)? {
        Some(answer) => read(&answer)?,
        None => {
            let path = files::find(file).ok_or_else(nowhere)?;
            let checked = config::load(&path, &Environment::process()).map_err(|errors| complain(&errors))?;
            let providers = &checked.snapshot().providers;
            let tariff = |provider: &str, model: &str| prices.of_provider(providers.get(provider), provider, model);
            let found =
                of_database(file, async |reader| report::reprice(&reader, period, prices.version(), tariff).await)?;
            json(&found)?
        }
    };
    Ok(match asked.format {
        Format::Table => show::repriced(&told).for_stdout(),
        Format::Json => pretty(&told),
    })
}

// === who answers ===

/// `None`: no gateway runs. `Err`: it says no, and why has been said.
fn of_gateway(file: Option<&Path>, method: Method, path: &str, body: Vec<u8>) -> Result<Option<Answer>, ExitCode> {
    let Some(admin) = Admin::find_any(file)? else { return Ok(None) };
    let admin = admin.patient(PATIENCE);
    let Some(answer) = admin.ask_if_there(method, path, body)? else { return Ok(None) };
    let answer = admin.known(answer)?;
    let code = match answer.status {
        200 => return Ok(Some(answer)),
        400..=404 | 406..=408 | 410..=499 => 1,
        _ => UNREACHED,
    };
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    for error in told["errors"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("{error}");
    }
    eprintln!("tollgate: {}", told["error"].as_str().unwrap_or("the gateway could not answer"));
    Err(ExitCode::from(code))
}

fn of_database<T>(file: Option<&Path>, read: impl AsyncFnOnce(Reader) -> Result<T, StoreError>) -> Result<T, ExitCode> {
    let path = files::find(file).ok_or_else(nowhere)?;
    let store = config::ledger(&path, &Environment::process()).map_err(|errors| complain(&errors))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| unreadable(&error))?;
    eprintln!("tollgate: no gateway runs: this is what the database has; its journal is read at the next start");
    let found = runtime.block_on(async { read(Reader::open(&store)?).await });
    found.map_err(|error| {
        eprintln!("tollgate: {error}");
        ExitCode::from(UNREACHED)
    })
}

fn nowhere() -> ExitCode {
    eprintln!("tollgate: no gateway runs, and no configuration file says where its ledger is; name one with -c FILE");
    ExitCode::from(UNREACHED)
}

fn usage(why: &str) -> ExitCode {
    eprintln!("tollgate: --{why}");
    ExitCode::from(2)
}

fn unreadable(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tollgate: the answer cannot be read: {why}");
    ExitCode::from(UNREACHED)
}

fn read(answer: &Answer) -> Result<Value, ExitCode> {
    serde_json::from_slice(&answer.body).map_err(|error| unreadable(&error))
}

fn json(found: &impl Serialize) -> Result<Value, ExitCode> {
    serde_json::to_value(found).map_err(|error| unreadable(&error))
}

fn pretty(told: &Value) -> String {
    serde_json::to_string_pretty(told).unwrap_or_default() + "\n"
}

// === impl Period ===

impl Period {
    fn read(&self) -> Result<crate::store::query::Period, ExitCode> {
        let (since, until) = (Some(self.since.as_str()), self.until.as_deref());
        ask::period(since, until, &self.filter, jiff::Timestamp::now()).map_err(|why| usage(&why))
    }

    fn query(&self) -> url::form_urlencoded::Serializer<'static, String> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("since", &self.since);
        if let Some(until) = &self.until {
            query.append_pair("until", until);
        }
        for filter in &self.filter {
            query.append_pair("filter", filter);
        }
        query
    }
}
