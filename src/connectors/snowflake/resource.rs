//! What a resource id of Snowflake means: an account identifier in one of the spellings that Snowflake and people use.
//!
//! Sources: docs.snowflake.com, "Account identifiers" \[V\]: `organization-account` is preferred; the account locator needs
//! region and cloud in most regions; a host has hyphens where the account name has underscores; `organization.account` is how
//! SQL and the page of Snowflake name an account. Addresses of Snowsight \[V\]: `app.snowflake.com/ORGANIZATION/ACCOUNT` and
//! `app.snowflake.com/REGION/LOCATOR`.

use crate::credentials::snowflake::{AccountIdentifier, DOMAINS};
use url::Url;

/// An account of Snowflake, as a resource id names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountResource {
    /// The host of the account.
    pub host: String,
    /// The name in the claims of a key-pair token, in upper case.
    pub token_account: String,
    pub name: AccountName,
}

/// Which of the two names of an account the resource id has. Both are in upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountName {
    /// What `CURRENT_ACCOUNT()` returns.
    Locator(String),
    /// What `CURRENT_ORGANIZATION_NAME()` and `CURRENT_ACCOUNT_NAME()` return.
    Organization { organization: String, account: String },
}

/// The region whose accounts have neither region nor cloud in their host \[V\].
const REGION_WITHOUT_NAME: &str = "us-west-2";

impl AccountResource {
    /// Parses a resource id. Returns `None` if it does not name an account of Snowflake.
    #[must_use]
    pub fn parse(id: &str) -> Option<AccountResource> {
        let id = id.trim();
        let identifier = match id.split_once("://") {
            Some(("https", _)) => from_url(&Url::parse(id).ok()?)?,
            Some(_) => return None,
            None if id.contains('/') => from_url(&Url::parse(&format!("https://{id}")).ok()?)?,
            None => id.strip_prefix("account_").unwrap_or(id).to_string(),
        };
        let lower = identifier.to_lowercase();
        let domain = DOMAINS.into_iter().find(|domain| lower.ends_with(domain)).unwrap_or_default();
        let bare = lower.strip_suffix(domain).unwrap_or(&lower);
        let (first, rest) = bare.split_once('.').unwrap_or((bare, ""));
        // ORGANIZATION.ACCOUNT: a region always has a hyphen, and the name of an account never has one.
        let is_account = !matches!(rest, "" | "privatelink" | "global") && !rest.contains(['-', '.']);
        let identifier = if is_account { format!("{first}-{rest}{domain}") } else { lower.clone() };
        let parsed = AccountIdentifier::parse(&identifier)?;
        let by_region = !is_account && !matches!(rest, "" | "privatelink");
        let name = match parsed.name.split_once('-').filter(|_| !by_region) {
            Some((organization, account)) if is_plain(organization) && !account.is_empty() => {
                AccountName::Organization { organization: organization.to_string(), account: account.to_string() }
            }
            Some(_) => return None,
            None => AccountName::Locator(parsed.name.clone()),
        };
        Some(AccountResource { host: parsed.host, token_account: parsed.name, name })
    }

    /// The account in the form that Snowflake recommends, for messages.
    #[must_use]
    pub fn display(&self) -> String {
        match &self.name {
            AccountName::Locator(locator) => locator.clone(),
            AccountName::Organization { organization, account } => format!("{organization}-{account}"),
        }
    }
}

/// Returns the account identifier or the host in an address that was copied from a browser.
fn from_url(url: &Url) -> Option<String> {
    let host = url.host_str()?.to_lowercase();
    let plain = url.username().is_empty() && url.password().is_none() && url.port().is_none();
    let is_app = ["app.snowflake.com", "app.snowflake.cn"].contains(&host.as_str())
        || (host.starts_with("app.") && DOMAINS.iter().any(|domain| host.ends_with(domain)));
    if !plain {
        return None;
    }
    if !is_app {
        return DOMAINS.iter().any(|domain| host.ends_with(domain)).then_some(host);
    }
    let mut segments = url.path_segments()?;
    let (first, second) = (segments.next()?, segments.next().filter(|text| !text.is_empty())?);
    let private = if host.contains(".privatelink.") { ".privatelink" } else { "" };
    // The name of an organization has no hyphen, and a region always has one.
    Some(match first.contains('-') {
        true if first == REGION_WITHOUT_NAME => format!("{second}{private}"),
        true => format!("{second}.{first}{private}"),
        false => format!("{first}-{second}{private}"),
    })
}

fn is_plain(organization: &str) -> bool {
    !organization.is_empty() && organization.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(id: &str) -> Option<(String, String, String)> {
        let resource = AccountResource::parse(id)?;
        let host = resource.host.strip_suffix(".snowflakecomputing.com").unwrap_or(&resource.host).to_string();
        Some((host, resource.token_account.clone(), resource.display()))
    }

    #[test]
    fn every_spelling_of_an_account_is_understood() {
        for (id, host, token_account) in [
            ("acme-prod", "acme-prod", "ACME-PROD"),
            ("ACME-My_Prod", "acme-my-prod", "ACME-MY_PROD"),
            ("acme.prod", "acme-prod", "ACME-PROD"),
            ("acme-prod.privatelink", "acme-prod.privatelink", "ACME-PROD"),
            ("acme-prod.snowflakecomputing.com", "acme-prod", "ACME-PROD"),
            ("account_acme-prod", "acme-prod", "ACME-PROD"),
            ("https://acme-prod.snowflakecomputing.com/console/login#/", "acme-prod", "ACME-PROD"),
            ("https://acme-prod.privatelink.snowflakecomputing.com", "acme-prod.privatelink", "ACME-PROD"),
            ("https://app.snowflake.com/acme/prod/#/data/databases", "acme-prod", "ACME-PROD"),
            ("app.snowflake.com/acme/prod", "acme-prod", "ACME-PROD"),
            ("https://app.privatelink.snowflakecomputing.com/acme/prod/", "acme-prod.privatelink", "ACME-PROD"),
        ] {
            let expected = (host.to_string(), token_account.to_string(), token_account.to_string());
            assert_eq!(parsed(id), Some(expected), "{id}");
        }
        for (id, host) in [
            ("account_xy12345.us-east-1", "xy12345.us-east-1"),
            ("xy12345", "xy12345"),
            ("XY12345.us-east-2.aws", "xy12345.us-east-2.aws"),
            ("xy12345.west-europe.azure.privatelink", "xy12345.west-europe.azure.privatelink"),
            ("xy12345.us-gov-west-1.fhplus.aws", "xy12345.us-gov-west-1.fhplus.aws"),
            ("xy12345.us-east-1.aws.snowflakecomputing.com", "xy12345.us-east-1.aws"),
            ("https://xy12345.us-central1.gcp.snowflakecomputing.com/", "xy12345.us-central1.gcp"),
            ("https://app.snowflake.com/us-east-2.aws/xy12345/", "xy12345.us-east-2.aws"),
            ("https://app.snowflake.com/us-west-2/xy12345/#/homepage", "xy12345"),
            ("https://app.us-east-1.privatelink.snowflakecomputing.com/us-east-1/xy12345", "xy12345.us-east-1.privatelink"),
            ("xy12345.cn-northwest-1", "xy12345.cn-northwest-1.snowflakecomputing.cn"),
            ("https://xy12345.cn-northwest-1.snowflakecomputing.cn", "xy12345.cn-northwest-1.snowflakecomputing.cn"),
        ] {
            assert_eq!(parsed(id), Some((host.to_string(), "XY12345".to_string(), "XY12345".to_string())), "{id}");
        }
        assert_eq!(parsed("xy12345-ab12.global").unwrap().1, "XY12345");
    }

    #[test]
    fn what_names_no_account_is_refused() {
        for id in [
            "",
            "acme prod",
            "-acme",
            "acme-",
            "a_b-c",
            "https://evil.example/acme/prod",
            "https://acme-prod.snowflakecomputing.com.evil.example",
            "https://user@acme-prod.snowflakecomputing.com",
            "https://acme-prod.snowflakecomputing.com:8443",
            "http://acme-prod.snowflakecomputing.com",
            "https://app.snowflake.com/",
            "https://app.snowflake.com/acme",
            "acme-prod/evil",
            "acme-prod?x=1",
            "acme-prod\n.evil",
        ] {
            assert_eq!(parsed(id), None, "{id}");
        }
    }
}
