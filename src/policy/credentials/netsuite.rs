//! What the keys of a service principal of the kind `netsuite` mean together, and the two spellings of an account. \[V\] docs.oracle.com, NetSuite online help, "The Authorization Headers" and "URLs for
//! Account-Specific Domains": a sandbox is `1234567_SB1` in the realm and `1234567-sb1` in host names.

use super::Principal;

/// Returns the realm: the account id in upper case, with `_SB1` for a sandbox.
#[must_use]
pub fn realm(account: &str) -> String {
    account.trim().to_uppercase().replace('-', "_")
}

/// Returns the first label of the host: the account id in lower case, with `-sb1` for a sandbox.
#[must_use]
pub fn host_label(account: &str) -> String {
    account.trim().to_lowercase().replace('_', "-")
}

/// Returns the origin of the account's REST web services.
#[must_use]
pub fn origin(account: &str) -> String {
    format!("https://{}.suitetalk.api.netsuite.com", host_label(account))
}

/// Returns the token endpoint of OAuth 2.0.
#[must_use]
pub fn token_url(principal: &Principal) -> String {
    let own = || format!("{}/services/rest/auth/oauth2/v1/token", origin(principal.text("account").unwrap_or_default()));
    principal.text("token_url").map_or_else(own, str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realm_and_host_come_from_one_id() {
        for account in ["1234567_SB1", "1234567-sb1", "1234567_sb1", " 1234567-SB1 "] {
            assert_eq!(
                (realm(account), host_label(account)),
                ("1234567_SB1".to_string(), "1234567-sb1".to_string()),
                "{account}"
            );
        }
        assert_eq!((realm("tstdrv1234567"), host_label("TSTDRV1234567")), ("TSTDRV1234567".into(), "tstdrv1234567".into()));
    }
}
