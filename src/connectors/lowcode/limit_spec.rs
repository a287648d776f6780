//! The keys `limits` and `calls` of a family file.

use regex::Regex;
use serde::Deserialize;

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
    /// The length of the window in seconds, for a vendor that does not say when the window ends. It then begins with the
    /// first call that AAM makes.
    #[serde(default)]
    pub lasts: Option<u64>,
    /// The header that names the bucket, if the vendor has several.
    #[serde(default)]
    pub bucket: String,
    /// The share of the limit that AAM may use, from 0 to 1.
    pub share: f64,
}

/// A header such as `api-usage=18/5000`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub header: String,
    pub pattern: UsagePattern,
}

/// A regular expression whose first group is the number of used calls and whose second one is the limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct UsagePattern(pub Regex);

impl TryFrom<String> for UsagePattern {
    type Error = String;

    fn try_from(text: String) -> Result<UsagePattern, String> {
        let pattern = Regex::new(&text).map_err(|error| error.to_string())?;
        match pattern.captures_len() {
            3 => Ok(UsagePattern(pattern)),
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
        let Limit { window, limit, reset, usage, lasts, share, .. } = self;
        match () {
            () if limit.is_empty() == usage.is_none() => Err(format!("the limit of the {window} needs either limit or usage")),
            () if reset.is_empty() == lasts.is_none() => Err(format!("the limit of the {window} needs either reset or lasts")),
            () if !(*share > 0.0 && *share <= 1.0) => {
                Err(format!("the share of the limit of the {window} is not between 0 and 1"))
            }
            () => Ok(()),
        }
    }
}
