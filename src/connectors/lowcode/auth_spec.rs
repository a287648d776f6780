//! The keys of a family file that describe how AAM authenticates.

use super::family_spec::Match;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One way to authenticate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthMethod {
    /// The value of the config field `auth`, by which the manifest selects its authenticator.
    pub name: String,
    /// The way to log in whose fields it needs, as the key `login` of the family file describes it. Its name is `name`
    /// unless this is written.
    #[serde(default)]
    pub login: Option<String>,
    /// The required fields of the way to log in, filled in when the file is read. If a method needs only one field, the
    /// credential may also be plain text.
    #[serde(skip)]
    pub needs: Vec<String>,
    /// The fields of the way to log in that may be missing. Like `needs`, they become keys of the config.
    #[serde(skip)]
    pub optional: Vec<String>,
    /// True if the credential may be a text of the form `A:B`, whose parts are the required fields in their order.
    #[serde(skip)]
    pub is_pair: bool,
    /// If not empty, the method is used only for a credential whose only field begins with one of these texts.
    #[serde(default)]
    pub prefixes: Vec<String>,
    /// If present, a JSON pointer into the claims of the access token. The method is used only for a token that has it.
    #[serde(default)]
    pub claim: Option<String>,
    /// The stream of `source` that is read to prove that the credential works. It is not listed as data. Empty: the call that
    /// proved the identity is repeated.
    #[serde(default)]
    pub health: String,
    /// True if the health step reads `health` even if another call than the first one proved the identity, because that call
    /// does not need the whole credential.
    #[serde(default)]
    pub keeps_health: bool,
    /// A stream that is read before all others because their requests depend on its record.
    #[serde(default)]
    pub first: Option<FirstStream>,
    /// The base URL at which credentials of this method work, in place of that of the kind. It may contain parts that
    /// `first` yields.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The kinds of resources that the method is for; empty means all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The method to try with the same credential if the vendor rejects the credential with this one.
    #[serde(default)]
    pub otherwise: Option<String>,
    /// The class of the failure after which `otherwise` is tried, if it is not `credential_rejected`.
    #[serde(default)]
    pub otherwise_if: String,
    /// The day (`YYYY-MM-DD`) on which the vendor ends all credentials of this method.
    #[serde(default)]
    pub ends: Option<String>,
    /// If present, each request is signed with OAuth 1.0a and HMAC-SHA256 instead of carrying a credential. The fields are
    /// `consumer_key`, `consumer_secret`, `token_id` and `token_secret`. A service principal that signs by itself fits too.
    #[serde(default)]
    pub oauth1: Option<OAuth1>,
}

/// How requests are signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth1 {
    /// The realm of the header, with `{part}` placeholders.
    pub realm: String,
}

/// A stream whose first record becomes part of the config before any other stream is built.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstStream {
    pub stream: String,
    /// The config key that holds the record.
    pub config: String,
    /// JSON pointer to the grants in the record, an object that maps the name of a permission to its level. Each entry
    /// becomes the grant `NAME=LEVEL`.
    #[serde(default)]
    pub grants: String,
    /// Fields of the record that must match the resource id, by kind of resource. A field that the record does not have
    /// proves nothing and is not compared.
    #[serde(default)]
    pub matches: BTreeMap<String, Match>,
    /// Parts that the record yields, with a JSON pointer to each value.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// Data streams that exist only if the two values of the record differ to which these JSON pointers lead.
    #[serde(default)]
    pub differs: BTreeMap<String, (String, String)>,
}
