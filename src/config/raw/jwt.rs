//! Who may issue tokens that stand in the place of a key (`auth.jwt`), as typed.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{At, Caps, KeyBudget, KeyLimits, Map, OneOrMany, Period};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// `iss` of its tokens, exactly as they hold it, e.g. `https://login.example.com/realms/main`.
    #[schemars(required)]
    pub issuer: Option<At<String>>,
    /// What a token must hold in `aud`: one of these.
    #[schemars(required)]
    pub audience: Option<OneOrMany<At<String>>>,
    /// Stands before a caller's name in logs and rules: `NAME:ada`. Default: the issuer's host.
    pub name: Option<At<String>>,
    /// Where its keys are (a JWK set): https, or http on this machine. Default: as told at
    /// `ISSUER/.well-known/openid-configuration`.
    pub jwks_url: Option<At<String>>,
    /// Signatures that are taken. Default: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`.
    pub algorithms: Option<Vec<At<String>>>,
    /// Where the token stands alone, as an identity-aware proxy sends it. Default: where keys stand (`Authorization: Bearer`
    /// among others).
    pub header: Option<At<String>>,
    /// The claim that says who calls. Default: `sub`.
    pub caller: Option<At<String>>,
    /// Claims that become tags: tag to claim. `groups.0` is the first of a list, `realm.name` a member of a member; a name with dots
    /// in it is written as a JSON pointer, `/https:~1~1example.com~1team`.
    pub claims: Option<Map<At<String>>>,
    /// Fixed tags of each call.
    pub tags: Option<Map<At<String>>>,
    /// Claims that a token must hold, and with which value: one text or several, with `*` for any characters. In a list any item will
    /// do.
    pub required: Option<Map<OneOrMany<At<String>>>>,
    /// Models its callers may use; `*` stands for any characters. Default: all.
    pub models: Option<Vec<At<String>>>,
    /// A claim with the models of this caller (a list, or names with spaces between), within `models`. A token without it may use
    /// none.
    pub models_claim: Option<At<String>>,
    /// Whether its callers may use paths that Tollgate does not read. Default: only when neither `models` nor `models_claim` is
    /// written.
    pub opaque: Option<bool>,
    /// Where calls wait for a provider, callers get turns in this proportion. Default: 1.
    #[schemars(range(min = 1, max = 10_000))]
    pub weight: Option<u32>,
    /// How much each of its callers may use.
    pub limits: Option<At<KeyLimits>>,
    /// What each of its callers may spend: one budget, or a list of them that must all have enough.
    pub budget: Option<OneOrMany<At<KeyBudget>>>,
    /// What one call may be at most.
    pub caps: Option<Caps>,
    /// How far the issuer's clock and ours may be apart. Default: `60s`, at most `5m`.
    pub leeway: Option<At<Period>>,
    /// How often its keys are read again; an unknown one makes that happen at once, every 30 s at most. Default: `10m`.
    pub refresh: Option<At<Period>>,
    /// How long the last keys serve while the issuer cannot be asked; then its tokens are refused. Default: `24h`.
    pub stale: Option<At<Period>>,
}
