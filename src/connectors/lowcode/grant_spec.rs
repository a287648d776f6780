//! The key `privilege` of a family file.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// How to find out what the credential may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privilege {
    /// The header of the identity response that lists the grants. Alternatively, `field` is a JSON pointer into its record.
    #[serde(default)]
    pub header: String,
    #[serde(default)]
    pub field: String,
    /// The separator between two grants. Whitespace around a grant is removed.
    #[serde(default)]
    pub separator: String,
    /// Where the grants are named, in place of `header` and `field`. The first source that yields grants decides.
    #[serde(default)]
    pub sources: Vec<GrantSource>,
    /// What differs for an authentication method, by its name.
    #[serde(default)]
    pub by_auth: BTreeMap<String, MethodPrivilege>,
    /// Grants that only allow reading. `*` matches any text.
    #[serde(default)]
    pub ok: Vec<String>,
    /// Grants that allow more than reading. They take precedence over `ok`.
    #[serde(default)]
    pub over: Vec<String>,
    /// Grants that take away the right to write, whatever the others allow.
    #[serde(default)]
    pub read_only: Vec<String>,
    /// Grants that only allow reading, but reading of content, which AAM does not need. The evidence names them.
    #[serde(default)]
    pub content: Vec<String>,
    /// Grants whose reach is decided elsewhere, so that the name does not say what they allow, with the reason to show.
    #[serde(default)]
    pub elsewhere: BTreeMap<String, String>,
    /// What a grant means that none of the lists has.
    #[serde(default)]
    pub unlisted: UnlistedGrant,
    /// The reason to show when the vendor does not list the grants.
    pub absent: String,
}

/// What a grant means that none of the lists of a family has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnlistedGrant {
    /// AAM does not know what it allows.
    #[default]
    Unknown,
    /// It allows more than reading. This is for vendors whose names say by their form what only reads.
    Over,
}

/// One place where grants are named. Exactly one of `header`, `field`, `claim`, `granted` and `stream` is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantSource {
    /// A header of the identity response.
    #[serde(default)]
    pub header: String,
    /// A JSON pointer into the identity record.
    #[serde(default)]
    pub field: String,
    /// A JSON pointer into the claims of the access token, if it is a JWT.
    #[serde(default)]
    pub claim: String,
    /// The scopes that the vendor named when it issued the token to a service principal or for a consent.
    #[serde(default)]
    pub granted: bool,
    /// A stream of `source`, each of whose records names one grant.
    #[serde(default)]
    pub stream: String,
    /// The text of a record's grant, with JSON pointers in braces: `{/role/name}`.
    #[serde(default)]
    pub grants: String,
    /// The values that a record must have for its grant to count, by JSON pointer.
    #[serde(default)]
    pub when: BTreeMap<String, Value>,
    /// True if a stream without records means that the credential has none of the grants: the vendor was asked for some of them
    /// and answered. Otherwise the grants are not known then.
    #[serde(default)]
    pub may_be_empty: bool,
    /// The separator between the grants of a text. Without one, claims and granted scopes are separated by whitespace, and
    /// headers and fields as `privilege.separator` says; the text of a stream's record is one grant.
    #[serde(default)]
    pub separator: String,
    /// A text to put before each grant of this source.
    #[serde(default)]
    pub prefix: String,
    /// Why the grants of this source are only some of those that the credential has. They can prove that it may do too much, and
    /// never that it only reads. A server that does not answer makes the verdict unknown, and the attempt goes on.
    #[serde(default)]
    pub partial: String,
    /// Values by JSON pointer that the last response of the stream has if it names only some of the grants.
    #[serde(default)]
    pub cut_if: BTreeMap<String, Vec<Value>>,
    /// Where the last response of a stream says how many records there are, and where their list is. Fewer items in the list than
    /// this number are only some of the grants.
    #[serde(default)]
    pub total: Option<TotalOfList>,
    /// Further sources without which the grants of this one are incomplete.
    #[serde(default)]
    pub and: Vec<GrantSource>,
}

/// JSON pointers to a list and to the number of all items that it would have in whole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TotalOfList {
    pub count: String,
    pub list: String,
}

impl GrantSource {
    /// Returns true if `body`, the last response of the stream, says that it names only some of the grants.
    #[must_use]
    pub fn is_cut(&self, body: &Value) -> bool {
        let has = |(pointer, values): (&String, &Vec<Value>)| body.pointer(pointer).is_some_and(|found| values.contains(found));
        let is_short = |total: &TotalOfList| {
            let listed = body.pointer(&total.list).and_then(Value::as_array).map_or(0, Vec::len);
            body.pointer(&total.count).and_then(Value::as_u64).is_some_and(|count| count > listed as u64)
        };
        self.cut_if.iter().any(has) || self.total.as_ref().is_some_and(is_short)
    }
}

/// What is known about the grants of an authentication method.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodPrivilege {
    /// Every credential of this method can do these things besides reading.
    #[serde(default)]
    pub over: Vec<String>,
    /// The vendor names no grants for this method; the reason to show.
    #[serde(default)]
    pub unknown: String,
    /// The sources for this method, in place of `privilege.sources`.
    #[serde(default)]
    pub sources: Vec<GrantSource>,
}

impl GrantSource {
    /// Returns true if exactly one place is named, and only a stream has `grants` and `when`.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let texts = [&self.header, &self.field, &self.claim, &self.stream];
        let places = texts.iter().filter(|text| !text.is_empty()).count() + usize::from(self.granted);
        let is_stream = !self.stream.is_empty();
        places == 1
            && is_stream != self.grants.is_empty()
            && (is_stream || self.when.is_empty() && !self.may_be_empty && self.cut_if.is_empty() && self.total.is_none())
            && self.and.iter().all(|source| source.and.is_empty() && source.is_valid())
    }
}

impl Privilege {
    /// Returns false if the verdict on credentials of this authentication method is known without asking a source.
    #[must_use]
    pub fn asks_sources(&self, method: &str) -> bool {
        self.by_auth.get(method).is_none_or(|method| method.over.is_empty() && method.unknown.is_empty())
    }

    /// All sources of the family, with those of single methods.
    pub fn all_sources(&self) -> impl Iterator<Item = &GrantSource> {
        let sources = self.sources.iter().chain(self.by_auth.values().flat_map(|method| &method.sources));
        sources.flat_map(|source| std::iter::once(source).chain(&source.and))
    }
}
