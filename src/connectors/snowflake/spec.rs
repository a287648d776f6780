//! The part of `families/snowflake.yaml` that this engine reads: what the vendor's error codes and privileges mean.

use crate::connectors::CallCounts;
use crate::families::{self, Family};
use crate::model::{Class, PostRule};
use serde::Deserialize;
use std::sync::LazyLock;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnowflakeSpec {
    /// One resource id of each spelling, for messages and `aam families`.
    pub address: Address,
    pub privilege: Privileges,
    pub errors: Vec<ErrorRule>,
    pub posts: Vec<PostRule>,
    /// The calls of an attempt whose user has two roles, for `aam families`.
    pub calls: CallCounts,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub examples: Vec<String>,
}

/// What privileges allow. A privilege is written as `PRIVILEGE ON OBJECT TYPE`, as SHOW GRANTS names both; `*` at the end of
/// a pattern stands for any text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privileges {
    /// Roles of every account that may do more than read.
    pub admin_roles: Vec<String>,
    /// Privileges that show metadata only.
    pub ok: Vec<String>,
    /// Privileges that only read, but read rows.
    pub content: Vec<String>,
    /// Privileges that allow more than reading.
    pub over: Vec<String>,
}

/// What privileges on an object allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allows {
    Metadata,
    Content,
    MoreThanReading,
    /// The family file does not name the privilege.
    Unknown,
}

impl Privileges {
    /// Returns what `grant`, in the form `PRIVILEGE ON OBJECT TYPE`, allows.
    #[must_use]
    pub fn judge(&self, grant: &str) -> Allows {
        let listed = |patterns: &[String]| {
            patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => grant.starts_with(start),
                None => pattern == grant,
            })
        };
        // What only reads is named exactly, so that a privilege that is not in the file is never taken for one.
        match () {
            () if listed(&self.ok) => Allows::Metadata,
            () if listed(&self.content) => Allows::Content,
            () if listed(&self.over) => Allows::MoreThanReading,
            () => Allows::Unknown,
        }
    }
}

/// A rule for one kind of error response. Every condition that is written must hold; the first rule wins.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// The codes of Snowflake, of which one must match.
    #[serde(default)]
    pub codes: Vec<String>,
    /// The HTTP statuses, of which one must match.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Texts of which the message must contain one, ignoring case.
    #[serde(default)]
    pub text: Vec<String>,
    class: String,
    pub title: String,
    pub fix: String,
}

impl ErrorRule {
    #[must_use]
    pub fn class(&self) -> Class {
        Class::ALL.into_iter().find(|class| class.as_str() == self.class).unwrap_or(Class::Remote)
    }

    #[must_use]
    pub fn fits(&self, status: u16, code: &str, message: &str) -> bool {
        let message = message.to_lowercase();
        (self.codes.is_empty() || self.codes.iter().any(|known| known == code))
            && (self.status.is_empty() || self.status.contains(&status))
            && (self.text.is_empty() || self.text.iter().any(|text| message.contains(&text.to_lowercase())))
    }
}

impl SnowflakeSpec {
    /// Parses the part of the family file that this engine reads.
    ///
    /// # Errors
    /// Returns a message that describes the defect of the file.
    pub fn from_family(family: &Family) -> Result<SnowflakeSpec, String> {
        let value = family.lowcode.clone().ok_or("the file has no keys for the engine")?;
        let spec: SnowflakeSpec = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let unknown = |rule: &&ErrorRule| !Class::ALL.iter().any(|class| class.as_str() == rule.class);
        match spec.errors.iter().find(unknown) {
            Some(rule) => Err(format!("the class {} is not known", rule.class)),
            None => Ok(spec),
        }
    }
}

static SPEC: LazyLock<Option<SnowflakeSpec>> = LazyLock::new(|| SnowflakeSpec::from_family(families::find("snowflake")?).ok());

/// Returns the specification of the family `snowflake`. It is `None` only if the family file has a defect, which a test
/// excludes.
#[must_use]
pub fn spec() -> Option<&'static SnowflakeSpec> {
    SPEC.as_ref()
}

#[cfg(test)]
mod tests {
    use super::super::statements::{self, CONTEXT, IDENTITY};
    use super::*;
    use crate::model::{Allowed, BodyRule};

    #[test]
    fn the_family_file_lists_exactly_the_statements_of_the_code() {
        let spec = SnowflakeSpec::from_family(families::find("snowflake").unwrap()).unwrap();
        let [rule] = spec.posts.as_slice() else { panic!("one address") };
        let BodyRule::Json(body) = &rule.body else { panic!("a JSON body") };
        let Allowed::Sql(listed) = &body["statement"] else { panic!("statements") };
        let sent = [
            CONTEXT.sql(),
            IDENTITY.sql(),
            statements::grants("{}").replace("\"{}\"", "{name}"),
            statements::DATABASES.to_string(),
            statements::TABLES.to_string(),
            statements::VIEWS.to_string(),
            statements::COLUMNS.to_string(),
            statements::columns_of_database("{}").replace("\"{}\"", "{name}"),
            statements::columns_of_schema("{}", "{}").replace("\"{}\"", "{name}"),
            statements::columns_of_relation("{}", "{}", "{}").replace("\"{}\"", "{name}"),
        ];
        assert_eq!(listed.as_slice(), sent);
    }

    /// Every privilege that Snowflake documents has a verdict, and it is the one in the table.
    #[test]
    fn every_known_privilege_has_its_verdict() {
        let table = format!("{}/tests/data/scopes/snowflake.txt", env!("CARGO_MANIFEST_DIR"));
        let table = std::fs::read_to_string(table).unwrap();
        let lines: Vec<&str> = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert!(lines.len() > 140, "{} privileges", lines.len());
        let spec = spec().unwrap();
        for line in lines {
            let (expected, grant) = line.split_once(' ').unwrap();
            let found = match spec.privilege.judge(grant.trim()) {
                Allows::Metadata => "ok",
                Allows::Content => "content",
                Allows::MoreThanReading => "over",
                Allows::Unknown => "unknown",
            };
            assert_eq!(found, expected, "{grant}");
        }
    }
}
