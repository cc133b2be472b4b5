//! What a provider offers: the vendor's rows, by model, with the entry's own paths, manners and preferences on top.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Checker;
use super::provider::Slots;
use crate::config::error::nearest;
use crate::config::raw::{self, At};
use crate::config::snapshot::{BaseUrl, Offer, Pattern};
use crate::config::vendors::{Row, Vendor};
use crate::dialect::{Manners, Operation, ThinkingForm};

/// The keys of an entry that this file reads.
pub(super) struct Typed {
    pub paths: raw::Map<At<String>>,
    pub stream_paths: raw::Map<At<String>>,
    pub bridge: Option<Vec<At<String>>>,
    pub manners: raw::Manners,
    pub betas: Option<Vec<At<String>>>,
}

/// A path as typed: `None` for `off`.
type Own = Vec<(Operation, Option<String>)>;

impl Checker<'_> {
    /// `base`: `None` when the address itself is wrong; everything else is checked all the same.
    pub(super) fn offers(
        &mut self,
        typed: Typed,
        vendor: &Vendor,
        base: Option<&BaseUrl>,
        slots: &Slots,
        path: &str,
    ) -> Vec<Offer> {
        let own = self.own_paths(typed.paths, &format!("{path}.paths"));
        let own_stream = self.own_paths(typed.stream_paths, &format!("{path}.stream_paths"));
        let bridge = typed.bridge.map(|list| self.bridge(list, &format!("{path}.bridge")));
        let betas = typed.betas.map(|list| self.betas(&list, &format!("{path}.betas")));
        let elsewhere = vendor.elsewhere.as_ref().filter(|_| base.is_some_and(|base| !is_vendors(base, vendor)));
        let base = base.map_or("", |base| &base.path);
        let mut offers: Vec<Offer> = vendor
            .rows()
            .map(|row| {
                let (vendors_bridge, vendors_manners) =
                    elsewhere.map_or((row.bridge, row.manners), |e| (&e.bridge, &e.manners));
                Offer {
                    models: row.patterns.iter().map(|text| Pattern::new(text)).collect(),
                    paths: paths(row, base, slots),
                    stream_paths: stream_paths(row, base, slots),
                    bridge: vendors_bridge.iter().filter_map(|name| Operation::from_name(name)).collect(),
                    manners: manners(vendors_manners, &typed.manners, slots),
                    betas: row.betas.iter().map(|text| Pattern::new(text)).collect(),
                }
            })
            .collect();
        overlay(&mut offers, |offer| &mut offer.paths, own, base, slots);
        overlay(&mut offers, |offer| &mut offer.stream_paths, own_stream, base, slots);
        for offer in &mut offers {
            if let Some(betas) = &betas {
                offer.betas.clone_from(betas);
            }
            if let Some(bridge) = &bridge {
                offer.bridge.clone_from(bridge);
            } else if offer.bridge.is_empty() {
                offer.bridge = Operation::ALL.into_iter().filter(|operation| operation.dialect().is_some()).collect();
            }
            let Offer { paths, bridge, stream_paths, .. } = offer;
            bridge.retain(|operation| paths.contains_key(operation));
            stream_paths.retain(|operation, _| paths.contains_key(operation));
        }
        offers
    }

    fn own_paths(&mut self, typed: raw::Map<At<String>>, below: &str) -> Own {
        let mut own = Own::new();
        for (name, value) in typed.0 {
            let Some(operation) = self.operation(&name, below) else { continue };
            let text = &value.value;
            let is_path = text.starts_with('/') || text.starts_with("../");
            if text == "off" {
                own.push((operation, None));
            } else if is_path && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
                own.push((operation, Some(text.clone())));
            } else {
                let message = format!(
                    "{below}.{operation}: {} is not a path: begin it with \"/\", without spaces, or write \"off\"",
                    value.quoted()
                );
                self.faults.wrong(value.place, below, message);
            }
        }
        own
    }

    fn operation(&mut self, name: &At<String>, below: &str) -> Option<Operation> {
        let found = Operation::from_name(&name.value);
        if found.is_none() {
            let names: Vec<&str> = Operation::ALL.iter().map(|o| o.name()).collect();
            let advice = match nearest(&name.value, names.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("write one of {}", names.join(", ")),
            };
            self.faults.wrong(name.place, below, format!("{below}: no operation {}: {advice}", name.quoted()));
        }
        found
    }

    fn bridge(&mut self, typed: Vec<At<String>>, below: &str) -> Vec<Operation> {
        let mut bridge = Vec::with_capacity(typed.len());
        for at in typed {
            let Some(operation) = self.operation(&at, below) else { continue };
            if operation.dialect().is_none() {
                let message = format!("{below}: {} holds no conversation: remove it", at.quoted());
                self.faults.wrong(at.place, below, message);
            } else if !bridge.contains(&operation) {
                bridge.push(operation);
            }
        }
        bridge
    }

    fn betas(&mut self, typed: &[At<String>], below: &str) -> Vec<Pattern> {
        for at in typed {
            if at.value.is_empty() || !at.value.bytes().all(|b| b.is_ascii_graphic() && b != b',') {
                let message = format!("{below}: {} is not a name or pattern: one a line, without commas", at.quoted());
                self.faults.wrong(at.place, below, message);
            }
        }
        typed.iter().map(|at| Pattern::new(&at.value)).collect()
    }
}

/// At the vendor's own address, or at a regional one below it.
fn is_vendors(base: &BaseUrl, vendor: &Vendor) -> bool {
    let Some(own) = vendor.base_url.as_deref().and_then(|url| super::base_url::base_url(url).ok()) else {
        return true;
    };
    *base.host == *own.host || base.host.strip_suffix(&*own.host).is_some_and(|rest| rest.ends_with('.'))
}

fn paths(row: Row<'_>, base: &str, slots: &Slots) -> BTreeMap<Operation, Arc<str>> {
    let path = |name: &String| {
        let operation = Operation::from_name(name)?;
        let text = row.paths.get(name).map_or(operation.path(), String::as_str);
        Some((operation, resolve(base, text, slots)))
    };
    row.operations.iter().filter_map(path).collect()
}

fn stream_paths(row: Row<'_>, base: &str, slots: &Slots) -> BTreeMap<Operation, Arc<str>> {
    let path = |name: &String| {
        let operation = Operation::from_name(name)?;
        let text = row.stream_paths.get(name).map(String::as_str).or(operation.stream_path())?;
        Some((operation, resolve(base, text, slots)))
    };
    row.operations.iter().filter_map(path).collect()
}

/// The entry's own paths: in each offer that has the operation, else in the one for all models. `off` takes it out of all.
fn overlay(
    offers: &mut [Offer],
    of: impl Fn(&mut Offer) -> &mut BTreeMap<Operation, Arc<str>>,
    own: Own,
    base: &str,
    slots: &Slots,
) {
    for (operation, text) in own {
        let resolved = text.map(|text| resolve(base, &text, slots));
        let mut found = false;
        for paths in offers.iter_mut().map(&of).filter(|paths| paths.contains_key(&operation)) {
            found = true;
            match &resolved {
                Some(path) => drop(paths.insert(operation, path.clone())),
                None => drop(paths.remove(&operation)),
            }
        }
        if let (false, Some(path), Some(last)) = (found, resolved, offers.last_mut()) {
            of(last).insert(operation, path);
        }
    }
}

/// From the root of the host. Each `../` in front leaves one part of the base (RFC 3986 section 5.2.4).
fn resolve(base: &str, text: &str, slots: &Slots) -> Arc<str> {
    let (mut base, mut rest) = (base, text);
    while let Some(after) = rest.strip_prefix("../") {
        base = base.rsplit_once('/').map_or("", |(above, _)| above);
        rest = after;
    }
    slots.fill(&format!("{base}/{}", rest.trim_start_matches('/'))).into()
}

fn manners(vendors: &raw::Manners, own: &raw::Manners, slots: &Slots) -> Manners {
    let raw::Manners {
        max_completion_tokens,
        developer_role,
        no_json_schema,
        cache_control,
        reasoning_object,
        thinking,
        anthropic_version,
        vertex,
    } = own;
    let flag = |own: &Option<bool>, vendors: Option<bool>| own.or(vendors).unwrap_or(false);
    Manners {
        max_completion_tokens: flag(max_completion_tokens, vendors.max_completion_tokens),
        developer_role: flag(developer_role, vendors.developer_role),
        no_json_schema: flag(no_json_schema, vendors.no_json_schema),
        cache_control: flag(cache_control, vendors.cache_control),
        reasoning_object: flag(reasoning_object, vendors.reasoning_object),
        thinking: match thinking.or(vendors.thinking) {
            None | Some(raw::ThinkingForm::ReasoningContent) => ThinkingForm::ReasoningContent,
            Some(raw::ThinkingForm::Reasoning) => ThinkingForm::Reasoning,
            Some(raw::ThinkingForm::Parts) => ThinkingForm::Parts,
            Some(raw::ThinkingForm::Nowhere) => ThinkingForm::Nowhere,
        },
        anthropic_version: anthropic_version.as_ref().or(vendors.anthropic_version.as_ref()).map(|v| v.as_str().into()),
        vertex: flag(vertex, vendors.vertex),
        region: (!slots.region.is_empty()).then(|| slots.region.as_str().into()),
    }
}
