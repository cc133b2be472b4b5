//! The vendors of `conf/providers.yaml`, compiled in. Owns the table's form; what an entry of the configuration makes of a row
//! is `check`'s business.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::raw::{Manners, StreamUsage};

/// A row; the head of the file says what each key means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vendor {
    /// `None`: the configuration must say it (Azure: a host per customer).
    pub base_url: Option<String>,
    #[serde(default)]
    pub base_urls: BTreeMap<String, String>,
    pub auth: VendorAuth,
    /// With `auth: header`.
    pub header: Option<String>,
    /// Variables with the key, for a start without a file.
    pub env: Vec<String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub forward: Vec<String>,
    pub operations: Vec<String>,
    #[serde(default)]
    pub paths: BTreeMap<String, String>,
    #[serde(default)]
    pub stream_paths: BTreeMap<String, String>,
    #[serde(default)]
    pub bridge: Vec<String>,
    #[serde(default)]
    pub manners: Manners,
    #[serde(default)]
    pub betas: Vec<String>,
    #[serde(default)]
    pub models: Vec<Models>,
    pub elsewhere: Option<Elsewhere>,
    pub api_version: Option<String>,
    pub stream_usage: StreamUsage,
}

/// What is offered for some models. Without `operations` it is what the vendor offers for all others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Models {
    #[serde(rename = "match")]
    pub patterns: Vec<String>,
    #[serde(default)]
    pub operations: Vec<String>,
    #[serde(default)]
    pub paths: BTreeMap<String, String>,
    #[serde(default)]
    pub stream_paths: BTreeMap<String, String>,
    #[serde(default)]
    pub bridge: Vec<String>,
    #[serde(default)]
    pub manners: Manners,
    #[serde(default)]
    pub betas: Vec<String>,
}

/// What differs when the address is not the vendor's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Elsewhere {
    pub bridge: Vec<String>,
    #[serde(default)]
    pub manners: Manners,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum VendorAuth {
    Bearer,
    Header,
    /// No credential is needed; one that is configured is sent as a bearer token.
    None,
    Aws,
    Google,
}

/// What is offered for the models that `patterns` fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub patterns: &'a [String],
    pub operations: &'a [String],
    pub paths: &'a BTreeMap<String, String>,
    pub stream_paths: &'a BTreeMap<String, String>,
    pub bridge: &'a [String],
    pub manners: &'a Manners,
    pub betas: &'a [String],
}

static VENDORS: LazyLock<BTreeMap<String, Vendor>> = LazyLock::new(|| {
    let text = include_str!("../../conf/providers.yaml");
    serde_saphyr::from_str(text).expect("conf/providers.yaml is compiled in, and a test reads it")
});

pub(super) fn all() -> &'static BTreeMap<String, Vendor> {
    &VENDORS
}

// === impl Vendor ===

impl Vendor {
    /// By model, in the order in which they are tried. The last one fits every model.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        static EVERY: LazyLock<[String; 1]> = LazyLock::new(|| ["*".to_owned()]);
        let whole = Row {
            patterns: EVERY.as_slice(),
            operations: &self.operations,
            paths: &self.paths,
            stream_paths: &self.stream_paths,
            bridge: &self.bridge,
            manners: &self.manners,
            betas: &self.betas,
        };
        let some = self.models.iter().map(move |m| match m.operations.as_slice() {
            [] => Row { patterns: &m.patterns, ..whole },
            operations => Row {
                patterns: &m.patterns,
                operations,
                paths: &m.paths,
                stream_paths: &m.stream_paths,
                bridge: &m.bridge,
                manners: &m.manners,
                betas: &m.betas,
            },
        });
        some.chain([whole])
    }

    /// Whether a key of the configuration (`region`, ..) has a place in its addresses.
    pub fn has_slot(&self, name: &str) -> bool {
        let slot = format!("{{{name}}}");
        let paths = self.rows().flat_map(|row| row.paths.values().chain(row.stream_paths.values()));
        self.base_url.iter().chain(paths).any(|text| text.contains(&slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Operation;

    #[test]
    fn every_vendor_names_known_operations_and_a_way_to_its_key() {
        assert_eq!(all().len(), 21);
        for (name, vendor) in all() {
            for row in vendor.rows() {
                assert!(!row.operations.is_empty() && !row.patterns.is_empty(), "{name}");
                let paths = row.paths.keys().chain(row.stream_paths.keys());
                for operation in row.operations.iter().chain(paths).chain(row.bridge) {
                    assert!(Operation::from_name(operation).is_some(), "{name}: {operation}");
                    assert!(row.operations.contains(operation), "{name}: {operation}");
                }
            }
            assert_eq!(vendor.auth == VendorAuth::Header, vendor.header.is_some(), "{name}");
            assert_eq!(vendor.base_url.is_none(), name == "azure", "{name}");
            let keyed = matches!(vendor.auth, VendorAuth::Bearer | VendorAuth::Header) && name != "azure";
            assert_eq!(vendor.env.is_empty(), !keyed, "{name}");
        }
    }

    #[test]
    fn models_without_operations_have_those_of_the_vendor() {
        let vertex = &all()["vertex"];
        let google = vertex.rows().find(|row| row.patterns == ["google/*"]).unwrap();
        assert_eq!(google.operations, vertex.operations);
        assert!(google.manners.vertex == Some(true));
        assert_eq!(vertex.rows().last().unwrap().patterns, ["*"]);
        assert!(vertex.has_slot("project") && vertex.has_slot("location") && !vertex.has_slot("region"));
        assert!(all()["bedrock"].has_slot("region"));
    }
}
