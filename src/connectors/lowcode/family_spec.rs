//! The keys of a family file that only the low-code engine reads: what a manifest does not say about a vendor.
//!
//! Strict: what is not known here is refused when the file is read. Every text is data. `{name}` in a text
//! stands for a part of the address; in `fix` and `title` also for `missing` and `granted`.

use crate::model::PostRule;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The part of `families/*.yaml` that only families of this engine have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilySpec {
    pub address: Address,
    /// The ways in, the most narrow first. The first whose fields the credential has is taken.
    pub auth: Vec<AuthMethod>,
    pub identity: Vec<Identity>,
    pub privilege: Privilege,
    pub errors: Errors,
    #[serde(default)]
    pub limits: Vec<Limit>,
    #[serde(default)]
    pub posts: Vec<PostRule>,
    /// An Airbyte low-code manifest.
    pub source: Value,
}

/// From a resource id to an address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The base address of the API, unless the policy's `base_url` of the family says otherwise.
    pub base_url: String,
    /// The first that fits is taken.
    pub kinds: Vec<ResourceKind>,
    /// Whose quota the calls use.
    pub account: String,
}

/// One kind of resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceKind {
    /// For example `organization`.
    pub name: String,
    /// What such an id looks like: texts with `{part}`; the first that fits is taken.
    pub ids: Vec<String>,
    /// The pattern of each part, anchored at both ends.
    pub parts: BTreeMap<String, String>,
    /// The streams of `source` that this kind has; the tiny sync reads them in this order.
    pub streams: Vec<String>,
}

/// One way to authenticate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthMethod {
    /// The value of the config field `auth`, which the manifest selects its authenticator by.
    pub name: String,
    /// Fields of the JSON credential. A credential that is not JSON is used as the only field of such a method.
    pub needs: Vec<String>,
    /// The stream of `source`, no data, whose reading proves that the credential works.
    pub health: String,
}

/// The call that proves whom the credential and the address belong to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The kind of resource that it is for.
    pub kind: String,
    /// A stream of `source` that shows no data: its first record is the answer.
    pub stream: String,
    /// Fields of the record that must equal a part, both in normal form.
    #[serde(rename = "match")]
    pub matches: Vec<Match>,
    /// Fields that go into the evidence.
    #[serde(default)]
    pub show: Vec<String>,
}

/// One field that must match.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// JSON pointer in the record.
    pub field: String,
    /// Text with parts.
    pub equals: String,
    #[serde(default)]
    pub normal: Normal,
}

/// How two texts are made comparable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normal {
    #[default]
    Exact,
    /// Upper and lower case are one.
    Caseless,
    /// Salesforce writes one id with 15 and with 18 characters.
    First15,
    /// Only letters and digits, in lower case.
    Alphanumeric,
}

/// What the credential may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privilege {
    /// Where the grants are named: a header of the identity answer, or a pointer into its record.
    #[serde(default)]
    pub header: String,
    #[serde(default)]
    pub field: String,
    /// Between two grants; blanks around them are dropped.
    #[serde(default)]
    pub separator: String,
    /// Grants that only read. `*` stands for any text.
    #[serde(default)]
    pub ok: Vec<String>,
    /// Grants that do more, or see content. They win.
    #[serde(default)]
    pub over: Vec<String>,
    /// Why nothing can be said when the vendor names no grants.
    pub absent: String,
}

/// The vendor's error shapes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// JSON pointers to the vendor's own text in a body.
    pub words: Vec<String>,
    /// The first that fits wins; then the rules of HTTP.
    pub rules: Vec<Rule>,
}

/// One error shape.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Any of these; empty: any status.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Headers (lower case) whose value has one of these texts in it; an empty list: is there.
    #[serde(default)]
    pub header: BTreeMap<String, Vec<String>>,
    /// Pointers whose value is one of these.
    #[serde(default)]
    pub body: BTreeMap<String, Vec<Value>>,
    /// One of these texts stands in the body, in any case.
    #[serde(default)]
    pub text: Vec<String>,
    /// A word of `model::Class`.
    pub class: String,
    pub title: String,
    pub fix: String,
    /// Where the missing permission is named: pointers, or `header:NAME`.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Where the permissions that are there are named.
    #[serde(default)]
    pub granted: Vec<String>,
    /// For `throttled`: seconds to wait where the answer names none.
    #[serde(default)]
    pub wait: Option<u64>,
}

/// A budget that the vendor tells, of which AAM uses a share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// For people: `hour`, `day`.
    pub window: String,
    /// Headers of any answer.
    pub limit: String,
    pub remaining: String,
    pub reset: String,
    /// The header that names the bucket, where there are several.
    #[serde(default)]
    pub bucket: String,
    /// The share that AAM may use, 0 to 1.
    pub share: f64,
}
