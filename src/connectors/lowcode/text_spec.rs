//! The patterns of a family file, and the key `wrong_kinds`.

use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A regular expression that is searched in a text, ignoring case.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct TextPattern(pub Regex);

impl TryFrom<String> for TextPattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<TextPattern, regex::Error> {
        RegexBuilder::new(&text).case_insensitive(true).build().map(TextPattern)
    }
}

/// A regular expression that is anchored at both ends.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct WholePattern(pub Regex);

impl TryFrom<String> for WholePattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<WholePattern, regex::Error> {
        RegexBuilder::new(&format!("^(?:{text})$")).dot_matches_new_line(true).build().map(WholePattern)
    }
}

/// A credential of another kind, which would be refused by the vendor without saying so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongKind {
    /// What the credential is, for example `a Slack token`.
    pub name: String,
    /// A regular expression, anchored at both ends, for a text credential or for `field`.
    #[serde(default)]
    pub pattern: Option<WholePattern>,
    /// The field of a JSON credential that `pattern` is for; empty means the fields of all ways to log in.
    #[serde(default)]
    pub field: String,
    /// The fields that the JSON object has.
    #[serde(default)]
    pub fields: Vec<String>,
    /// The fields that it does not have.
    #[serde(default)]
    pub without: Vec<String>,
    /// The values that fields have.
    #[serde(default)]
    pub values: BTreeMap<String, WholePattern>,
    /// The values that claims of an access token have, by JSON pointer.
    #[serde(default)]
    pub claims: BTreeMap<String, WholePattern>,
    /// The kinds of resources for which the credential is of the wrong kind; empty means all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// What to store instead.
    pub fix: String,
}

/// The note of a resource of which one stream is empty.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyNote {
    pub stream: String,
    /// JSON pointers in braces stand for values of the identity record, for example `{/login}`.
    pub note: String,
}
