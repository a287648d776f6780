//! The keys of a family file that only the low-code engine reads. They describe what a manifest cannot express.
//!
//! Unknown keys are refused when the file is read. `{name}` in a text is replaced by the part of the address with that
//! name. The `title` and `fix` of a rule may contain `{resource}`, `{stream}`, `{call}` (method, address and path),
//! `{missing}` and `{granted}`.

pub use super::auth_spec::{AuthMethod, FirstStream, OAuth1};
pub use super::blind_spec::{Blind, SeesRecords};
pub use super::grant_spec::{GrantSource, MethodPrivilege, Privilege, UnlistedGrant};
pub use super::limit_spec::{Limit, Usage, UsagePattern};
pub use super::signing_spec::SignedService;
pub use super::text_spec::{EmptyNote, TextPattern, WholePattern, WrongKind};
pub use crate::connectors::CallCounts;
use crate::model::PostRule;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The part of a `families/*.yaml` file that only families of this engine have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilySpec {
    pub address: Address,
    /// The authentication methods, least privileged first. AAM uses the first one whose fields the credential has.
    pub auth: Vec<AuthMethod>,
    pub identity: Vec<Identity>,
    pub privilege: Privilege,
    pub errors: Errors,
    /// Credentials of other kinds that people store by mistake.
    #[serde(default)]
    pub wrong_kinds: Vec<WrongKind>,
    #[serde(default)]
    pub limits: Vec<Limit>,
    #[serde(default)]
    pub posts: Vec<PostRule>,
    /// The services of AWS whose requests are signed with the access key.
    #[serde(default)]
    pub signing: Vec<SignedService>,
    /// Schemas that the vendor describes.
    #[serde(default)]
    pub schemas: Vec<DescribedSchema>,
    /// Where the vendor names the time or the day at which the credential ends.
    #[serde(default)]
    pub ends: Option<EndSource>,
    /// What it means that all streams of a resource are empty, if a resource of this vendor is never empty.
    #[serde(default)]
    pub blind: Option<Blind>,
    /// What it means that one stream is empty, if that is usual and has a reason that people should know.
    #[serde(default)]
    pub empty: Option<EmptyNote>,
    /// The calls that AAM makes at most, if the source's lists fit into one page each.
    #[serde(default)]
    pub calls: Option<CallCounts>,
    /// The header `User-Agent` of all calls, if the vendor asks for a form of its own. `{version}` is the version of AAM.
    #[serde(default)]
    pub user_agent: String,
    /// An Airbyte low-code manifest.
    pub source: Value,
}

/// How a resource id maps to the address of an API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The base URL of the API, for kinds that have none of their own. The policy can override it with the family's
    /// `base_url`.
    #[serde(default)]
    pub base_url: String,
    /// The kinds of resources. The first kind that matches the resource id is used.
    pub kinds: Vec<ResourceKind>,
    /// The account whose quota the calls use, for kinds that do not name their own.
    #[serde(default = "host_part")]
    pub account: String,
    /// Base URLs of the vendor's other servers by name. The name is a key of the manifest's config, and `{server.NAME}` in
    /// `posts`.
    #[serde(default)]
    pub servers: BTreeMap<String, String>,
    /// The field of the credential that names the base URL of the API. If the credential has it, the resource id must name the
    /// same host; for kinds without a base URL, it is the base URL.
    #[serde(default)]
    pub credential_url: Option<String>,
    /// The host names that belong to the vendor; `*` matches any text. A kind with `hosts: listed` accepts them although the
    /// policy does not list them.
    #[serde(default)]
    pub vendor_hosts: Vec<String>,
}

fn host_part() -> String {
    "{host}".to_string()
}

/// One kind of resource.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceKind {
    /// The name of the kind, for example `organization`.
    pub name: String,
    /// Templates of the resource ids of this kind, with `{part}` placeholders. The first template that matches is used.
    pub ids: Vec<String>,
    /// One resource id for each template, shown to people as the accepted forms.
    #[serde(default)]
    pub examples: Vec<String>,
    /// The regular expression for each part, anchored at both ends.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// True if a resource id may also be written as a URL: with a scheme, a query, the default port or a slash at its end,
    /// all of which are left out before it is matched. The fixed text of `ids` then matches in any case.
    #[serde(default)]
    pub url: bool,
    /// The parts that match in any case and are used in lower case.
    #[serde(default)]
    pub lower: Vec<String>,
    /// Parts that a resource id does not name, with their values.
    #[serde(default)]
    pub set: BTreeMap<String, PartValue>,
    /// The base URL of this kind, in place of that of `address`.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The account of this kind, in place of that of `address`.
    #[serde(default)]
    pub account: Option<String>,
    /// Which hosts a resource id of this kind may name.
    #[serde(default)]
    pub hosts: HostRule,
    /// The streams of `source` that exist for this kind, in the order in which the tiny sync reads them.
    pub streams: Vec<String>,
    /// If present, the streams are those that `source.dynamic_streams` generates, and this is the maximum number of them
    /// that discovery describes. `streams` then only names those that come first if they exist.
    #[serde(default)]
    pub generated: Option<usize>,
    /// True if the streams that `dynamic_streams` of `source` generate exist for this kind too. They are described, and the
    /// tiny sync does not read them.
    #[serde(default)]
    pub dynamic: bool,
    /// With `dynamic`, the maximum number of generated streams that discovery describes. Without it, all of them are.
    #[serde(default)]
    pub described: Option<usize>,
    /// With `dynamic`, streams whose last response has a text at this JSON pointer if the source has more than was generated.
    #[serde(default)]
    pub more: BTreeMap<String, String>,
    /// With `dynamic`, the names of the dynamic streams whose generated streams the tiny sync also reads, after `streams`.
    #[serde(default)]
    pub sampled: Vec<String>,
}

/// Which hosts a resource id may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostRule {
    /// Those that the patterns of the parts match.
    #[default]
    Any,
    /// Those that `families.NAME.hosts` of the policy lists, and the vendor's own.
    Listed,
}

/// The value of a part: a template, or a template whose result is changed.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum PartValue {
    Template(String),
    Changed(ChangedPart),
}

/// A template, and how its result is changed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedPart {
    pub value: String,
    /// Texts to replace, with their replacements.
    #[serde(default)]
    pub replace: BTreeMap<String, String>,
    #[serde(default)]
    pub lower: bool,
    #[serde(default)]
    pub upper: bool,
}

/// The part of a stream's schema that the vendor describes, for example the attributes that a company added.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedSchema {
    /// The stream whose schema it is; `*` stands for all.
    pub stream: String,
    /// The stream of `source` that describes it. If the credential is not allowed to read it, the schema of the manifest is
    /// used.
    pub from: String,
    /// JSON pointers to objects of its first record whose keys are the names of fields, and whose values have a `type`.
    /// `{stream}` and the parts of the resource id can be used in them.
    #[serde(default)]
    pub fields: Vec<String>,
    /// How each of its records describes one field. It replaces `fields`.
    #[serde(default)]
    pub each: Option<FieldRecord>,
    /// JSON pointer to the object of the stream's schema that gets the fields.
    pub into: String,
}

/// Where a record that describes one field has its parts, as JSON pointers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldRecord {
    pub name: String,
    #[serde(default)]
    pub title: Option<String>,
    /// The vendor's name of the type.
    pub r#type: String,
    /// The vendor's name of the type of the items of a list.
    #[serde(default)]
    pub items: Option<String>,
    /// The JSON schema of each of the vendor's types, for example `{"type": "string", "format": "date"}`. A type that is not
    /// listed is one of JSON schema, or left out.
    #[serde(default)]
    pub types: BTreeMap<String, Value>,
}

/// Where the vendor names the end of the credential.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndSource {
    /// A stream that is read for another reason; it is not read for this.
    pub stream: String,
    /// JSON pointer into its response.
    pub field: String,
}

/// The call that proves which account the credential and the address belong to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The name of the kind of resource that this call is for. A call of `or` needs none.
    #[serde(default)]
    pub kind: String,
    /// The stream of `source` to read; its first record identifies the account. It is not listed as data.
    pub stream: String,
    /// Fields of the record that must equal a part of the resource id after both are normalized.
    #[serde(rename = "match", default)]
    pub matches: Vec<Match>,
    /// Alternatives: all fields of at least one of them must match, too.
    #[serde(default)]
    pub any: Vec<Vec<Match>>,
    /// True if the stream must yield exactly one record, because a vendor that ignores a filter returns several.
    #[serde(default)]
    pub only: bool,
    /// With `only`, the header that names how many records fit the request, also those that the credential may not see.
    #[serde(default)]
    pub total: String,
    /// Fields of the record to copy into the evidence.
    #[serde(default)]
    pub show: Vec<String>,
    /// What it means that the fields do not match, if that is not the resource id's fault.
    #[serde(default)]
    pub mismatch: Option<MismatchText>,
    /// How the identity is proven if the credential is not allowed to read `stream`.
    #[serde(default)]
    pub claim: Option<ClaimIdentity>,
    /// True if a response proves the identity although it does not name the account: the vendor gives each account a host of
    /// its own. What the response names must match nevertheless.
    #[serde(default)]
    pub host: bool,
    /// With `host`, what the evidence says if the response does not name the account, and if not the host alone is the account's
    /// own. It may contain parts of the resource id.
    #[serde(default)]
    pub accepted: String,
    /// With `host`, what shows that this vendor answered, because any server may accept a call: JSON pointers into the record,
    /// or `header:NAME`. One of them has to be there; empty means that nothing is asked for.
    #[serde(default)]
    pub marks: Vec<String>,
    /// Calls that prove the same, in order, if the credential is not allowed to make this one or if the vendor answers that
    /// its resource does not exist.
    #[serde(default)]
    pub or: Vec<Identity>,
    /// The data streams of a resource that this call proves, if they are not those of its kind.
    #[serde(default)]
    pub streams: Vec<String>,
}

impl Identity {
    /// Returns this call and those that prove the same.
    pub fn calls(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(self).chain(&self.or)
    }

    /// Returns the names of all streams that an attempt may read because of this rule.
    pub fn stream_names(&self) -> impl Iterator<Item = &String> {
        self.calls().flat_map(|rule| rule.streams.iter().chain([&rule.stream]))
    }
}

/// The text for an identity that does not match. `{met}` stands for the value of the first field that must match.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MismatchText {
    pub title: String,
    pub fix: String,
    /// The name of a `model::Class`, if the failure is another one than `wrong_service`.
    #[serde(default)]
    pub class: Option<String>,
}

/// An identity that the claims of an accepted access token prove.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimIdentity {
    /// The stream that is read to see that the vendor accepts the token. Only then are its claims believed, because AAM does
    /// not verify its signature.
    pub stream: String,
    /// Claims that must equal a part of the resource id.
    #[serde(rename = "match")]
    pub matches: Vec<Match>,
    /// Claims to copy into the evidence.
    #[serde(default)]
    pub show: Vec<String>,
    /// True if the claims are used before the identity's own call, which is left out if they name the account.
    #[serde(default)]
    pub first: bool,
}

/// One field that must match the resource id.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// JSON pointer to a value of the record. With `*` in place of a key, one of the values must match:
    /// `/verifiedDomains/*/name`. `/link:REL` is the URL of that relation in the `Link` header of the response.
    pub field: String,
    /// The expected value, with `{part}` placeholders.
    pub equals: String,
    #[serde(default)]
    pub normal: Normal,
    /// True if a record without the field is accepted. At least one other field must match then.
    #[serde(default)]
    pub optional: bool,
}

/// How two texts are normalized before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normal {
    #[default]
    Exact,
    /// Ignores case.
    Caseless,
    /// Compares the first 15 characters: Salesforce writes the same id with 15 or with 18 characters.
    First15,
    /// Compares only letters and digits, and ignores case.
    Alphanumeric,
    /// The value that was found begins with the expected one: the host proves the account, and the value is its kind of id.
    Prefix,
    /// Compares the hosts of two addresses. Scheme, port, path and case do not matter.
    Host,
    /// Compares hosts and paths. Scheme, port, a slash at the end and case do not matter.
    Url,
}

/// How to recognize the vendor's error responses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Where the vendor's own message is: JSON pointers, `header:NAME`, or `text:BEGINNING` for a body that is not JSON and
    /// begins with this text. An error response that has none of them is not in the vendor's format, so another service
    /// may have sent it.
    pub messages: Vec<String>,
    /// What successful responses must say; without it, they are not the vendor's answer.
    #[serde(default)]
    pub requires: Vec<RequiredBody>,
    /// The rules in order; the first match wins. If no rule matches, the HTTP status decides.
    pub rules: Vec<Rule>,
}

/// Values that the successful responses of some streams must have, because another body proves nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredBody {
    /// The streams; `*` matches any text.
    pub streams: Vec<String>,
    /// For each JSON pointer into the body, the values of which one must be there. An empty list: any value but null.
    pub body: BTreeMap<String, Vec<Value>>,
}

/// A rule for one kind of error response. All conditions must match.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The streams whose responses the rule matches; empty means any stream. `*` matches any text. The login request of a
    /// stream belongs to the stream `NAME_login_requester`.
    #[serde(default)]
    pub streams: Vec<String>,
    /// The kinds of resources that the rule is for; empty means any kind.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// If present, whether the identity of the resource must have been proven before.
    #[serde(default)]
    pub proven: Option<bool>,
    /// The statuses that the rule matches; empty means any status.
    #[serde(default)]
    pub status: Vec<u16>,
    /// For each header name (in lower case), texts of which the value must contain one. With an empty list, the header
    /// must only be present.
    #[serde(default)]
    pub header: BTreeMap<String, Vec<String>>,
    /// For each JSON pointer into the body, the values of which one must match.
    #[serde(default)]
    pub body: BTreeMap<String, Vec<Value>>,
    /// Texts of which the body must contain one, ignoring case.
    #[serde(default)]
    pub text: Vec<String>,
    /// A regular expression that must match somewhere in the body. Its named groups can be used in `title` and `fix`, for
    /// example `(?P<code>AADSTS[0-9]+)` as `{code}`.
    #[serde(default)]
    pub text_pattern: Option<TextPattern>,
    /// Hosts of which the response must come from one; `*` matches any text.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Authentication methods of which one must be in use.
    #[serde(default)]
    pub auth: Vec<String>,
    /// The name of a `model::Class`.
    pub class: String,
    pub title: String,
    pub fix: String,
    /// Where the response names the missing permission: JSON pointers, or `header:NAME`.
    #[serde(default)]
    pub missing: Vec<String>,
    /// The missing permission, for a response that does not name it.
    #[serde(default)]
    pub permission: String,
    /// True if the permissions that `missing` finds are alternatives, of which one is enough.
    #[serde(default)]
    pub alternatives: bool,
    /// Places in the same form whose values are shown in the detail.
    #[serde(default)]
    pub shown: Vec<String>,
    /// Where the response names the granted permissions, in the same form as `missing`.
    #[serde(default)]
    pub granted: Vec<String>,
    /// For `throttled`, the seconds to wait if the response does not say how long.
    #[serde(default)]
    pub wait: Option<u64>,
}
