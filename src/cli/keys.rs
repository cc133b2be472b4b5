//! `tollgate keys`: the virtual keys in the store of the running gateway; and keys for the configuration file, made without one.
//!
//! What is asked of the gateway is `/api/keys` (docs/identity.md). A key's value is printed on stdout when it is made, and never again.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::ConfigFile;
use super::ask::Admin;
use super::table::{Cell, Format, Table, Tone};
use crate::config::{Secret, keys};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key. It is shown once; the gateway keeps its hash.
    New(New),
    /// All keys in the store.
    List(Listing),
    /// One key: what it may do, and what it is known by.
    Show(Named),
    /// Change what a key may do; what is not named stays.
    Update(Update),
    /// Give a key a new value, which is shown once.
    Rotate(Rotate),
    /// Refuse a key from now on; it stays known by name.
    Revoke(Named),
    /// Take a revoked key again.
    Restore(Named),
    /// Let a key end: now, or at a time.
    Expire(Expire),
    /// Forget a key. Its name is free again.
    Delete(Named),
    /// Who did what.
    Audit(Listing),
    /// Print the hash of a key read from standard input, for the configuration file.
    Hash,
}

#[derive(Debug, Args)]
pub struct New {
    /// Name of the key, for logs.
    #[arg(default_value = "my-key")]
    name: String,
    /// As it was written before.
    #[arg(long = "name", hide = true, value_name = "NAME", conflicts_with = "name")]
    named: Option<String>,
    /// Make it without a gateway, and print the line of the configuration that knows it.
    #[arg(long, conflicts_with_all = ["may", "expires", "lasts"])]
    offline: bool,
    #[command(flatten)]
    may: May,
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
pub struct Update {
    name: String,
    /// Another name.
    #[arg(long, value_name = "NAME")]
    rename: Option<String>,
    #[command(flatten)]
    may: May,
    #[command(flatten)]
    ends: Ends,
    /// Take away what is written: models, tags, limits, budget, caps, weight, opaque, expires, metadata.
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    clear: Vec<String>,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
pub struct Rotate {
    name: String,
    /// So long the old value goes on, e.g. 24h.
    #[arg(long, default_value = "0s")]
    overlap: String,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
pub struct Expire {
    name: String,
    #[command(flatten)]
    ends: Ends,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
pub struct Named {
    name: String,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
pub struct Listing {
    #[command(flatten)]
    asked: Asked,
}

/// Who is asked, and how the answer is printed.
#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    file: ConfigFile,
    /// How it is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What a key may do.
#[derive(Debug, Args)]
#[group(id = "may", multiple = true)]
struct May {
    /// A model it may use; * is any run of characters. Default: all.
    #[arg(long = "model", value_name = "MODEL", value_delimiter = ',')]
    models: Vec<String>,
    /// A fixed tag of its calls.
    #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = pair)]
    tags: Vec<(String, String)>,
    /// Calls a minute.
    #[arg(long)]
    rpm: Option<u64>,
    /// Tokens a minute.
    #[arg(long)]
    tpm: Option<u64>,
    /// Calls at once.
    #[arg(long)]
    concurrency: Option<u64>,
    /// US dollars per day, week, month or lifetime, e.g. 50/month.
    #[arg(long, value_name = "USD/PERIOD", value_parser = budget)]
    budget: Vec<Value>,
    /// Anything else that a key of the file may have, as JSON, e.g. '{"weight": 3}'.
    #[arg(long, value_name = "JSON", value_parser = object)]
    words: Option<Map<String, Value>>,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Ends {
    /// Refused from this time on (RFC 3339).
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Refused after this time, e.g. 30d.
    #[arg(long = "in", value_name = "SPAN")]
    lasts: Option<String>,
}

pub fn run(command: &Command) -> ExitCode {
    let done = match command {
        Command::New(new) if new.offline => return offline(new.name()),
        Command::Hash => return hash(),
        Command::New(new) => make(new),
        Command::List(listing) => list(listing),
        Command::Audit(listing) => audit(listing),
        Command::Show(named) => act(&named.asked, Method::GET, &named.name, "", &Value::Null),
        Command::Update(change) => update(change),
        Command::Rotate(rotate) => renew(rotate),
        Command::Revoke(named) => act(&named.asked, Method::POST, &named.name, "/revoke", &Value::Null),
        Command::Restore(named) => act(&named.asked, Method::POST, &named.name, "/restore", &Value::Null),
        Command::Expire(expire) => {
            let Ends { expires, lasts } = &expire.ends;
            let mut body = Map::new();
            put(&mut body, "expires", expires.as_deref());
            put(&mut body, "in", lasts.as_deref());
            act(&expire.asked, Method::POST, &expire.name, "/expire", &Value::Object(body))
        }
        Command::Delete(named) => act(&named.asked, Method::DELETE, &named.name, "", &Value::Null),
    };
    match done {
        Ok(text) => {
            // a closed pipe (`tollgate keys list | head`) is no failure
            let _closed = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

// === asking ===

fn make(new: &New) -> Result<String, ExitCode> {
    let mut body = Map::new();
    new.may.lay_over(&mut body);
    body.insert("name".to_owned(), new.name().into());
    new.ends.add(&mut body);
    told_once(&new.asked, ask(&new.asked, Method::POST, "/api/keys", &Value::Object(body))?)
}

fn renew(rotate: &Rotate) -> Result<String, ExitCode> {
    let path = format!("/api/keys/{}/rotate", in_path(&rotate.name));
    let body = json!({"overlap": rotate.overlap});
    told_once(&rotate.asked, ask(&rotate.asked, Method::POST, &path, &body)?)
}

fn update(change: &Update) -> Result<String, ExitCode> {
    let mut body = Map::new();
    if !change.may.tags.is_empty() || change.may.limits(&Map::new()).is_some() {
        // these are maps: what is not named of them stays
        let path = format!("/api/keys/{}", in_path(&change.name));
        let before = ask(&change.asked, Method::GET, &path, &Value::Null)?;
        for word in ["tags", "limits"] {
            body.extend(before.get(word).map(|value| (word.to_owned(), value.clone())));
        }
    }
    change.may.lay_over(&mut body);
    put(&mut body, "name", change.rename.as_deref());
    change.ends.add(&mut body);
    body.extend(change.clear.iter().map(|word| (word.clone(), Value::Null)));
    act(&change.asked, Method::PATCH, &change.name, "", &Value::Object(body))
}

fn list(listing: &Listing) -> Result<String, ExitCode> {
    let mut all = Vec::new();
    let mut after = Value::from("");
    while let Some(name) = after.as_str() {
        let mut page =
            ask(&listing.asked, Method::GET, &format!("/api/keys?limit=1000&after={}", in_path(name)), &Value::Null)?;
        if let Some(Value::Array(keys)) = page.get_mut("keys").map(Value::take) {
            all.extend(keys);
        }
        after = page.get("next").cloned().unwrap_or_default();
    }
    match listing.asked.format {
        Format::Json => Ok(pretty(&Value::Array(all))),
        Format::Table => Ok(table(&all)),
    }
}

fn audit(listing: &Listing) -> Result<String, ExitCode> {
    let page = ask(&listing.asked, Method::GET, "/api/audit?limit=1000", &Value::Null)?;
    let rows = page.get("audit").and_then(Value::as_array).cloned().unwrap_or_default();
    if listing.asked.format == Format::Json {
        return Ok(pretty(&Value::Array(rows)));
    }
    let mut table = Table::default();
    table.heading(&["SUBJECT", "ACT", "WHO", "WHEN"]);
    for row in &rows {
        table.row(["subject", "act", "actor", "at"].iter().map(|name| Cell::plain(of(row, name))).collect());
    }
    Ok(table.for_stdout())
}

fn act(asked: &Asked, method: Method, name: &str, what: &str, body: &Value) -> Result<String, ExitCode> {
    let key = ask(asked, method, &format!("/api/keys/{}{what}", in_path(name)), body)?;
    match asked.format {
        Format::Json => Ok(pretty(&key)),
        Format::Table => Ok(table(std::slice::from_ref(&key))),
    }
}

/// `Err`: what was wrong has been said.
fn ask(asked: &Asked, method: Method, path: &str, body: &Value) -> Result<Value, ExitCode> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = Admin::find(asked.file.config.as_deref())?.ask(method, path, body)?;
    let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if (200..300).contains(&answer.status) {
        return Ok(json);
    }
    let why = json.get("error").and_then(Value::as_str).unwrap_or("no reason is given");
    match json.get("errors").and_then(Value::as_array) {
        Some(errors) => errors.iter().filter_map(Value::as_str).for_each(|error| eprintln!("tollgate: {error}")),
        None => eprintln!("tollgate: {why}"),
    }
    let unreached = answer.status >= 500 || why == "unknown path";
    Err(ExitCode::from(if unreached { 3 } else { 1 }))
}

// === printing ===

/// The value alone on stdout, so that it can be kept by a script.
fn told_once(asked: &Asked, key: Value) -> Result<String, ExitCode> {
    if asked.format == Format::Json {
        return Ok(pretty(&key));
    }
    eprintln!("Key {:?}. Shown once:", of(&key, "name"));
    Ok(format!("{}\n", of(&key, "key")))
}

fn table(all: &[Value]) -> String {
    let mut table = Table::default();
    table.heading(&["NAME", "STATE", "VALUE", "MODELS", "TAGS", "EXPIRES"]);
    for key in all {
        let state = of(key, "state");
        let tone = match state.as_str() {
            "active" => Tone::Good,
            "expired" => Tone::Warning,
            _ => Tone::Bad,
        };
        let list = |value: &Value| match value {
            Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
            Value::Object(map) => map.iter().map(|(k, v)| format!("{k}={}", plain(v))).collect::<Vec<_>>().join(" "),
            other => plain(other),
        };
        let member = |name: &str| key.get(name).map(list).unwrap_or_default();
        let values = key.get("values").and_then(Value::as_array);
        let shown: Vec<String> = values.into_iter().flatten().map(|value| of(value, "shown")).collect();
        table.row(vec![
            Cell::plain(of(key, "name")),
            Cell::new(&state, tone),
            Cell::plain(shown.join(" ")),
            Cell::plain(member("models")),
            Cell::plain(member("tags")),
            Cell::plain(of(key, "expires")),
        ]);
    }
    table.for_stdout()
}

fn of(value: &Value, name: &str) -> String {
    value.get(name).map(plain).unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn in_path(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

// === what was typed ===

impl New {
    fn name(&self) -> &str {
        self.named.as_deref().unwrap_or(&self.name)
    }
}

impl May {
    /// What is typed, over what is there.
    fn lay_over(&self, body: &mut Map<String, Value>) {
        if !self.models.is_empty() {
            body.insert("models".to_owned(), self.models.clone().into());
        }
        if !self.tags.is_empty() {
            let mut tags = body.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
            tags.extend(self.tags.iter().map(|(name, value)| (name.clone(), value.clone().into())));
            body.insert("tags".to_owned(), tags.into());
        }
        let before = body.get("limits").and_then(Value::as_object).cloned().unwrap_or_default();
        if let Some(limits) = self.limits(&before) {
            body.insert("limits".to_owned(), limits.into());
        }
        if !self.budget.is_empty() {
            body.insert("budget".to_owned(), self.budget.clone().into());
        }
        body.extend(self.words.clone().unwrap_or_default());
    }

    fn limits(&self, before: &Map<String, Value>) -> Option<Map<String, Value>> {
        let typed = [("rpm", self.rpm), ("tpm", self.tpm), ("concurrency", self.concurrency)];
        let typed: Vec<_> =
            typed.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number?.into()))).collect();
        if typed.is_empty() {
            return None;
        }
        let mut limits = before.clone();
        limits.extend(typed);
        Some(limits)
    }
}

impl Ends {
    fn add(&self, body: &mut Map<String, Value>) {
        put(body, "expires", self.expires.as_deref());
        put(body, "expires_in", self.lasts.as_deref());
    }
}

fn put(body: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    body.extend(value.map(|value| (name.to_owned(), value.into())));
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn budget(text: &str) -> Result<Value, String> {
    let (usd, per) = text.split_once('/').ok_or("write it as USD/PERIOD, for example 50/month")?;
    let per = match per {
        "day" | "week" | "month" | "lifetime" => json!(per),
        span => json!({"rolling": span}),
    };
    Ok(json!({"usd": usd, "per": per}))
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is not a JSON object: {error}"))
}

// === without a gateway ===

fn pepper() -> Option<Secret> {
    std::env::var("TOLLGATE_PEPPER").ok().filter(|pepper| !pepper.is_empty()).map(Secret::new)
}

fn offline(name: &str) -> ExitCode {
    let key = keys::generate();
    println!("{}", key.expose());
    match pepper() {
        Some(pepper) => {
            let hash = hex::encode(keys::hash(&pepper, key.expose()));
            eprintln!("\nShown once. In the configuration:\n\n  - {{name: {name:?}, hash: \"hmac-sha256:{hash}\"}}");
        }
        None => eprintln!(
            "\nShown once. Put it in the environment of the gateway, and in the configuration:\n\n  - {{name: {name:?}, key: \"${{MY_KEY}}\"}}\n\n\
             To keep only its hash, set TOLLGATE_PEPPER (and `auth: {{pepper: \"${{TOLLGATE_PEPPER}}\"}}`) and run this again."
        ),
    }
    ExitCode::SUCCESS
}

fn hash() -> ExitCode {
    let Some(pepper) = pepper() else {
        eprintln!("tollgate: set TOLLGATE_PEPPER to the pepper of the configuration first");
        return ExitCode::from(2);
    };
    let mut key = String::new();
    if let Err(error) = std::io::stdin().read_line(&mut key) {
        eprintln!("tollgate: {error}");
        return ExitCode::from(1);
    }
    let key = key.trim();
    if key.len() < 16 {
        eprintln!("tollgate: a key has at least 16 characters");
        return ExitCode::from(1);
    }
    println!("hmac-sha256:{}", hex::encode(keys::hash(&pepper, key)));
    ExitCode::SUCCESS
}
