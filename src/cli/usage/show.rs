//! Spending as tables, from the JSON that is told (docs/usage.md).

use serde_json::Value;

use crate::cli::table::{Cell, Table, Tone};

const SUMS: [(&str, &str); 7] = [
    ("CALLS", "calls"),
    ("TRIES", "attempts"),
    ("FAILED", "failed"),
    ("INPUT", "input_tokens"),
    ("CACHED", "cache_read_tokens"),
    ("OUTPUT", "output_tokens"),
    ("USD", "cost_usd"),
];

pub(super) fn sums(told: &Value) -> Table {
    let mut table = Table::default();
    let by: Vec<&str> = list(&told["by"]).filter_map(Value::as_str).collect();
    let period = format!("{} to {}", short(&told["since"]), short(&told["until"]));
    table.line(period, Tone::Quiet);
    let mut names: Vec<String> = by.iter().map(|name| name.to_uppercase()).collect();
    if names.is_empty() {
        names.push(String::new());
    }
    names.extend(SUMS.map(|(name, _)| name.to_owned()));
    table.heading(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for row in list(&told["rows"]).filter(|_| !by.is_empty()) {
        let mut cells: Vec<Cell> = by.iter().map(|name| Cell::plain(word(&row[*name]))).collect();
        cells.extend(SUMS.map(|(_, name)| Cell::plain(word(&row[name]))));
        table.row(cells);
    }
    let total = &told["total"];
    let mut cells = vec![Cell::new("total", Tone::Heading)];
    cells.extend(by.iter().skip(1).map(|_| Cell::plain("")));
    cells.extend(SUMS.map(|(_, name)| Cell::new(word(&total[name]), Tone::Heading)));
    table.row(cells);
    for (name, what) in [
        ("estimated", "tries were booked with numbers of ours, since the provider told none"),
        ("unpriced", "tries have no price and are not in the sum"),
    ] {
        if let Some(count @ 1..) = total[name].as_u64() {
            table.line(format!("{count} {what}"), Tone::Warning);
        }
    }
    if told["truncated"] == true {
        table.line("there are more rows: ask for a shorter period, or filter", Tone::Warning);
    }
    if let Some(behind @ 1..) = told["behind"].as_u64() {
        table.line(format!("{behind} tries are not in the database yet"), Tone::Warning);
    }
    table
}

pub(super) fn call(told: &Value) -> Table {
    let mut table = Table::default();
    table.line(format!("{}: {} USD", word(&told["call"]), word(&told["cost_usd"])), Tone::Heading);
    for attempt in list(&told["attempts"]) {
        one_attempt(&mut table, attempt);
    }
    table
}

fn one_attempt(table: &mut Table, attempt: &Value) {
    table.line("", Tone::Plain);
    let names = [&attempt["provider"], &attempt["upstream_model"]].map(word).join("/");
    let outcome = match attempt["outcome"].as_str() {
        Some(outcome) => outcome.to_owned(),
        None => word(&attempt["state"]),
    };
    let answered = if attempt["answered"] == true { ", the answer" } else { "" };
    let time = attempt["duration_ms"].as_u64().map(|ms| format!(", {}", crate::cli::table::time(ms)));
    let head = format!("try {} at {names}: {outcome}{answered}", word(&attempt["attempt"]));
    table.line(format!("{head}{}", time.unwrap_or_default()), Tone::Heading);
    table.line(format!("  {}, key {}", short(&attempt["at"]), word(&attempt["key"])), Tone::Quiet);
    if let Some(version) = attempt["price"]["version"].as_str() {
        let mut line = format!("  price of {version}");
        if let Some(source) = attempt["price"]["source"].as_str().filter(|source| !source.is_empty()) {
            line = format!("{line}, {source}");
        }
        if let Some(tier @ ("flex" | "priority" | "batch" | "fast" | "other")) =
            attempt["price"]["service_tier"].as_str()
        {
            line = format!("{line}, service tier {tier}");
        }
        table.line(line, Tone::Quiet);
    }
    let basis = match attempt["basis"].as_str() {
        Some("usage") if attempt["estimated"] == true => "  estimated: the provider told no usage",
        Some("worst_case") => "  nobody knows what was used: it is booked with what had been put aside",
        Some("nothing") => "  costs nothing",
        Some("unpriced") => "  no price is known",
        Some("running") => "  has not ended",
        Some("unknown") => "  the tariff it was booked with is not in the ledger",
        _ => "",
    };
    if !basis.is_empty() {
        table.line(basis, Tone::Warning);
    }
    if list(&attempt["lines"]).next().is_some() {
        table.heading(&["  WHAT", "COUNT", "RATE USD", "AMOUNT USD"]);
    }
    for line in list(&attempt["lines"]) {
        let mut what = format!("  {}", word(&line["what"]));
        if let Some(other) = line["billed_as"].as_str() {
            what = format!("{what} (as {other})");
        }
        let cells = [what, word(&line["count"]), word(&line["rate_usd"]), word(&line["amount_usd"])];
        table.row(cells.iter().map(Cell::plain).collect());
    }
    if let Some(cost) = attempt["cost_usd"].as_str() {
        table.row(["  booked", "", "", cost].map(|text| Cell::new(text, Tone::Heading)).to_vec());
    }
}

pub(super) fn repriced(told: &Value) -> Table {
    let mut table = Table::default();
    let period = format!("{} to {}", short(&told["since"]), short(&told["until"]));
    table.line(format!("{period} by {}", word(&told["version"])), Tone::Quiet);
    table.heading(&["MODEL", "TRIES", "REPRICED", "KEPT", "NO PRICE", "BEFORE USD", "AFTER USD", "DIFFERENCE"]);
    for row in list(&told["models"]).chain([&told["total"]]) {
        let names = ["model", "attempts", "repriced", "kept", "unpriced", "before_usd", "after_usd", "difference_usd"];
        table.row(names.map(|name| Cell::plain(word(&row[name]))).to_vec());
    }
    table
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// A time without its fractions.
fn short(value: &Value) -> String {
    let text = word(value);
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}
