//! The keys `limits` and `calls` of a family file.

use regex::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A rate limit that the vendor reports in response headers. AAM uses only a share of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The length of the window as shown to people, for example `hour` or `day`.
    pub window: String,
    /// The header that gives the limit. `remaining` and `reset` are also names of response headers; a vendor that does not
    /// send them has no such key.
    #[serde(default)]
    pub limit: String,
    #[serde(default)]
    pub remaining: String,
    #[serde(default)]
    pub reset: String,
    /// The header that gives both the used calls and the limit, in place of `limit` and `remaining`.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The limit itself, for a vendor that documents it and only sends `remaining`.
    #[serde(default)]
    pub size: Option<u64>,
    /// The length of the window in seconds, for a vendor that does not say when the window ends. It then begins with the
    /// first call that AAM makes.
    #[serde(default)]
    pub lasts: Option<u64>,
    /// The header that names the bucket, if the vendor has several.
    #[serde(default)]
    pub bucket: String,
    /// For each header name (in lower case), texts of which the value must contain one, ignoring case. A vendor with several
    /// windows says in such a header which of them the others describe.
    #[serde(default)]
    pub when: BTreeMap<String, Vec<String>>,
    /// The share of the limit that AAM may use, from 0 to 1.
    pub share: f64,
}

/// A header such as `api-usage=18/5000` or `total=100; remaining=99; resets=41`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// The name of the header, in lower case. `*` matches any text: a vendor that has a header of its own for each endpoint has
    /// a bucket for each of them.
    pub header: String,
    pub pattern: UsagePattern,
}

/// A regular expression whose first group is the number of used calls and whose second one is the limit, or whose groups are
/// named `limit`, `remaining` and `reset`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct UsagePattern(pub Regex);

/// The names of the groups of a pattern that also says when the window ends.
const GROUPS: [&str; 3] = ["limit", "remaining", "reset"];

impl UsagePattern {
    /// Returns true if the groups of the pattern are named, so that the header also says when the window ends.
    #[must_use]
    pub fn is_named(&self) -> bool {
        let names: Vec<&str> = self.0.capture_names().flatten().collect();
        GROUPS.iter().all(|group| names.contains(group))
    }
}

impl TryFrom<String> for UsagePattern {
    type Error = String;

    fn try_from(text: String) -> Result<UsagePattern, String> {
        let pattern = UsagePattern(Regex::new(&text).map_err(|error| error.to_string())?);
        match pattern.0.captures_len() {
            _ if pattern.is_named() => Ok(pattern),
            3 => Ok(pattern),
            _ => Err(format!("{text} does not have 2 groups, for the used calls and for the limit")),
        }
    }
}

impl Limit {
    /// Checks that the keys go together.
    ///
    /// # Errors
    /// Returns a message that names the keys.
    pub fn check(&self) -> Result<(), String> {
        let Limit { window, limit, remaining, reset, usage, size, lasts, share, .. } = self;
        let sources = usize::from(!limit.is_empty()) + usize::from(usage.is_some()) + usize::from(size.is_some());
        let has_reset = !reset.is_empty() || usage.as_ref().is_some_and(|usage| usage.pattern.is_named());
        match () {
            () if sources != 1 => Err(format!("the limit of the {window} needs one of limit, usage and size")),
            () if size.is_some() && remaining.is_empty() => Err(format!("size of the limit of the {window} needs remaining")),
            () if has_reset == lasts.is_some() => Err(format!("the limit of the {window} needs either reset or lasts")),
            () if !(*share > 0.0 && *share <= 1.0) => {
                Err(format!("the share of the limit of the {window} is not between 0 and 1"))
            }
            () => Ok(()),
        }
    }
}
