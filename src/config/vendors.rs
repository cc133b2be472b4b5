//! The vendors of `conf/providers.yaml`, compiled in. Owns the table's form; what an entry of the configuration makes of a row
//! is `check`'s business.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::raw::StreamUsage;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vendor {
    /// `None`: the configuration must say it (Azure: a host per customer).
    pub base_url: Option<String>,
    pub auth: VendorAuth,
    /// With `auth: header`.
    pub header: Option<String>,
    /// Variables with the key, for a start without a file.
    pub env: Vec<String>,
    pub operations: Vec<String>,
    #[serde(default)]
    pub paths: BTreeMap<String, String>,
    pub api_version: Option<String>,
    pub stream_usage: StreamUsage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum VendorAuth {
    Bearer,
    Header,
    /// No credential is needed; one that is configured is sent as a bearer token.
    None,
}

/// Vendors of the documented product that this version does not speak to.
pub(super) const LATER: [&str; 3] = ["anthropic", "bedrock", "vertex"];

static VENDORS: LazyLock<BTreeMap<String, Vendor>> = LazyLock::new(|| {
    let text = include_str!("../../conf/providers.yaml");
    serde_saphyr::from_str(text).expect("conf/providers.yaml is compiled in, and a test reads it")
});

pub(super) fn all() -> &'static BTreeMap<String, Vendor> {
    &VENDORS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Operation;

    #[test]
    fn every_vendor_names_known_operations_and_a_way_to_its_key() {
        assert_eq!(all().len(), 18);
        for (name, vendor) in all() {
            assert!(!vendor.operations.is_empty(), "{name}");
            for operation in vendor.operations.iter().chain(vendor.paths.keys()) {
                assert!(Operation::from_name(operation).is_some(), "{name}: {operation}");
                assert!(vendor.operations.contains(operation), "{name}: {operation}");
            }
            assert_eq!(vendor.auth == VendorAuth::Header, vendor.header.is_some(), "{name}");
            assert_eq!(vendor.base_url.is_none(), name == "azure", "{name}");
            assert_eq!(vendor.env.is_empty(), vendor.auth != VendorAuth::Bearer, "{name}");
        }
    }
}
