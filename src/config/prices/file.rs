//! A file of prices in our own form, as `conf/models.yaml` tells it in its head. Its faults are told like those of the configuration.

use std::sync::Arc;
use std::sync::LazyLock;

use serde_json::Value as Json;

use super::table::{Form, Kind, Priced, Row, Table};
use super::written::{self, Origin};
use crate::config::error::{Faults, join, nearest, quote};
use crate::config::policy::Info;
use crate::config::raw::price::{PriceFile, PriceKind, PriceRow};
use crate::config::raw::{self, At};
use crate::config::snapshot::Pattern;
use crate::config::{decode, shape, tree, vendors};

static SCHEMA: LazyLock<Json> = LazyLock::new(|| raw::price::schema().to_value());

/// What a row's `like` may name in another table: what its models can do.
pub(in crate::config) type Elsewhere<'a> = &'a dyn Fn(&str, &str) -> Option<Info>;

/// `version`: of the table, where the file has none of its own.
pub(in crate::config) fn read(
    text: &str,
    name: &str,
    version: Arc<str>,
    elsewhere: Elsewhere<'_>,
    faults: &mut Faults,
) -> Option<Table> {
    let mut root = match tree::parse(&name.into(), text) {
        Ok(root) => root,
        Err(error) => {
            faults.wrong(error.place, "", error.message);
            return None;
        }
    };
    let place = root.place;
    if !shape::fit_to(&mut root, &SCHEMA, "PriceFile", faults) {
        return None;
    }
    match decode::decode::<PriceFile>(&root) {
        Ok(file) => Some(build(file, version, elsewhere, faults)),
        Err(failure) => {
            faults.wrong(place, "", format!("the file cannot be read: {failure}"));
            None
        }
    }
}

fn build(file: PriceFile, version: Arc<str>, elsewhere: Elsewhere<'_>, faults: &mut Faults) -> Table {
    let mut table = Table::new(version, Form::Own);
    let mut borrowed = Vec::new();
    let kinds = file.kinds.unwrap_or_default();
    for (name, typed) in &kinds.0 {
        let known = vendors::all();
        if !known.contains_key(&name.value) {
            let advice = match nearest(&name.value, known.keys().map(String::as_str)) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => "write the kind of a provider, or the name of one under \"providers\"".to_owned(),
            };
            faults.wrong(name.place, "kinds", format!("kinds: there is no kind {}: {advice}", name.quoted()));
        }
        for vendor in typed.also.iter().flatten() {
            table.vendors.insert(vendor.clone(), name.value.clone());
        }
        if let Some(like) = &typed.like
            && !kinds.0.iter().any(|(other, _)| other.value == like.value && other.value != name.value)
        {
            let message = format!("kinds.{}.like: there is no other kind {} in this file", name.value, like.quoted());
            faults.wrong(like.place, join("kinds", &name.value), message);
        }
        let built = kind(typed, &table.version, &join("kinds", &name.value), faults);
        borrowed.extend(likes(typed).map(|(at, like, own)| (name.value.clone(), at, like, own)));
        table.kinds.insert(name.value.clone(), built);
    }
    for (name, typed) in &file.providers.unwrap_or_default().0 {
        let built = kind(typed, &table.version, &join("providers", &name.value), faults);
        table.providers.insert(name.value.clone(), built);
        for (at, like, own) in likes(typed) {
            let info = info_of(&table, elsewhere, &like.value);
            lend(table.providers.get_mut(&name.value), at, own, info, like, faults);
        }
    }
    for (name, at, like, own) in borrowed {
        let info = info_of(&table, elsewhere, &like.value);
        lend(table.kinds.get_mut(&name), at, own, info, like, faults);
    }
    table
}

/// The rows that borrow what they can do: their places, whose it is, and what they say themselves.
fn likes(typed: &PriceKind) -> impl Iterator<Item = (usize, &At<String>, Info)> {
    let rows = typed.rows.iter().flatten().enumerate();
    rows.filter_map(|(at, row)| Some((at, row.value.like.as_ref()?, info(row.value.info.as_ref()))))
}

fn info_of(table: &Table, elsewhere: Elsewhere<'_>, like: &str) -> Option<Info> {
    let (kind, name) = like.split_once('/')?;
    table.find(kind, name).map(|found| found.row.info).or_else(|| elsewhere(kind, name))
}

fn lend(kind: Option<&mut Kind>, at: usize, own: Info, info: Option<Info>, like: &At<String>, faults: &mut Faults) {
    match (kind.and_then(|kind| kind.rows.get_mut(at)), info) {
        (Some(row), Some(info)) => row.info = own.over(info),
        (_, None) => faults.wrong(like.place, "like", format!("like: there is no model {}", like.quoted())),
        (None, _) => {}
    }
}

fn kind(typed: &PriceKind, version: &Arc<str>, path: &str, faults: &mut Faults) -> Kind {
    let source: Arc<str> = typed.source.as_deref().unwrap_or("not told").into();
    let mut kind = Kind::new(Arc::clone(&source));
    kind.like = typed.like.as_ref().map(|like| like.value.clone());
    for (n, row) in typed.rows.iter().flatten().enumerate() {
        let path = format!("{path}.rows[{n}]");
        let origin = Origin {
            version: Arc::clone(version),
            source: Arc::clone(&source),
            checked: row.value.checked.as_deref().map(Arc::from),
        };
        let names = row.value.patterns.iter().flat_map(|names| &names.0);
        if let Err(twice) = kind.add(names.clone().map(|at| at.value.as_str()), build_row(&row.value, typed, &origin)) {
            let at = names.clone().find(|at| at.value.eq_ignore_ascii_case(&twice));
            let place = at.map_or(row.place, |at| at.place);
            faults.wrong(place, &path, format!("{path}: {} is there twice: remove one", quote(&twice)));
        }
        judge(&row.value, &path, faults);
    }
    kind
}

fn judge(row: &PriceRow, path: &str, faults: &mut Faults) {
    for (n, price) in row.prices.iter().flat_map(|prices| &prices.0).enumerate() {
        let typed = At { value: price.value.0.clone(), place: price.place, origin: price.origin };
        written::judge(&typed, &format!("{path}.prices[{n}]"), faults);
    }
}

fn build_row(row: &PriceRow, kind: &PriceKind, origin: &Origin) -> Row {
    let prices = row.prices.iter().flat_map(|prices| &prices.0).map(|typed| {
        let typed = &typed.value.0;
        let mut tariff = written::tariff(typed, origin);
        let rates = &mut tariff.standard.rates;
        rates.tool_call = rates.tool_call.or(written::per_thousand(kind.tool_calls).filter(|_| rates.input.is_some()));
        let percent = |typed: Option<u32>| typed.and_then(|percent| u8::try_from(percent).ok());
        tariff.in_region_percent = tariff.in_region_percent.or(percent(kind.in_region));
        let regional = percent(row.regional).map(|percent| Arc::new(tariff.at_regional(percent)));
        let names = typed.names.iter().flatten().map(|name| Pattern::new(&name.to_ascii_lowercase()));
        let borrowed = Arc::new(tariff.of_tokens_alone());
        Priced { names: names.collect(), regional, borrowed: Some(borrowed), tariff: Arc::new(tariff) }
    });
    Row {
        checked: origin.checked.clone(),
        info: info(row.info.as_ref()),
        context_at_least: None,
        prices: prices.collect(),
    }
}

fn info(typed: Option<&raw::Info>) -> Info {
    let Some(raw::Info { context, max_output, vision, audio, documents, tools, json_schema, reasoning }) = typed else {
        return Info::default();
    };
    Info {
        context: *context,
        max_output: *max_output,
        vision: *vision,
        audio: *audio,
        documents: *documents,
        tools: *tools,
        json_schema: *json_schema,
        reasoning: *reasoning,
    }
}
