//! Kind `salesforce`: JWT bearer (a certificate and a user) or client credentials (a secret and the app's run-as user).
//!
//! Sources: help.salesforce.com, "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration" and "OAuth 2.0 Client
//! Credentials Flow for Server-to-Server Integration" \[V\]; the issues named in the rules. Neither flow lets a request narrow
//! the scopes of the app \[V\].

use super::issued::token_credential;
use super::refusal::RefusalRule;
use super::token_request::TokenRequest;
use super::{Fetched, MintContext, Minted};
use crate::credentials::{Secret, jwt};
use crate::model::{Class, Failure};
use crate::policy::credentials::Principal;
use serde_json::Map;
use std::time::Duration;
use url::Url;

const VENDOR: &str = "Salesforce";

/// Salesforce accepts assertions of at most 3 minutes \[V\].
const ASSERTION_LIFETIME: Duration = Duration::from_secs(150);

/// Responses have no `expires_in` \[V\]: a token lives as long as the session of its user, whose timeout an administrator sets
/// to between 15 minutes and 24 hours (2 hours by default) \[K\]. A token is used for the shortest of these times only, so that
/// no setting ends it while AAM believes in it; a new one costs one call.
const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The texts are those of Salesforce's "OAuth 2.0 Authorization Errors" \[V\] and of restforce#674, omniphx/forrest#278,
/// pozil/pub-sub-api-node-client#58 and salesforcedictionary.com \[R\].
const REFUSALS: &[RefusalRule] = &[
    RefusalRule::permission(
        &[],
        &["hasn't approved this consumer", "has not approved this consumer"],
        "the user {username} may not use the Salesforce app of service principal {principal}",
        "ask the administrator: in the app's policies set Permitted Users to Admin approved users are pre-authorized, and add a profile or permission set of the user; then aam heal",
    ),
    RefusalRule::policy(
        &[],
        &["audience is invalid"],
        "Salesforce does not accept the audience of service principal {principal}",
        "write audience: https://login.salesforce.com for production or https://test.salesforce.com for a sandbox",
    ),
    RefusalRule::policy(
        &[],
        &["request not supported on this domain"],
        "client credentials of service principal {principal} do not work on the host {domain}",
        "write the organization's own host as domain: Setup > My Domain > Current My Domain URL, https://MYDOMAIN.my.salesforce.com",
    ),
    RefusalRule::permission(
        &[],
        &["no client credentials user enabled"],
        "the Salesforce app of service principal {principal} has no user for client credentials",
        "ask the administrator: in the app's policies tick Enable Client Credentials Flow and choose a user in Run As who may only read; changes take up to ten minutes to work",
    ),
    RefusalRule::clock(
        &["invalid_grant"],
        &["expired", "not yet valid", "issued in the future"],
        "Salesforce does not accept the time of the assertion of service principal {principal}",
        "correct the clock of this machine (timedatectl set-ntp true; chronyc tracking shows the difference), then aam heal",
    ),
    RefusalRule::permission(
        &["inactive_user", "inactive_org", "invalid_grant"],
        &["inactive user", "user is locked", "inactive organization", "user is frozen", "ip restricted"],
        "Salesforce does not let the user of service principal {principal} log in",
        "ask the administrator for the reason in Setup > Login History; the user is inactive, frozen or locked, or login IP ranges exclude this machine",
    ),
    RefusalRule::clock(
        &["invalid_grant"],
        &["invalid assertion", "invalid_assertion", "signature"],
        "Salesforce does not accept the assertion of service principal {principal}: the key does not belong to the app's certificate, or the user does not exist",
        "upload the certificate that belongs to key (the app > Settings > OAuth Settings > Use digital signatures), and check username {username}; a changed app takes up to ten minutes to work",
    ),
    RefusalRule::new(
        &["invalid_client_id"],
        &[],
        "Salesforce does not know the client id of service principal {principal} yet or any more",
        "a new or changed app takes up to ten minutes to work: wait for that first, then aam heal. If it stays, write the Consumer Key of the app as client_id, and check that domain {domain} is the organization of the app",
    ),
    RefusalRule::new(
        &["invalid_client", "invalid_client_credentials"],
        &[],
        "Salesforce does not accept the client secret of service principal {principal} yet or any more",
        "a new or changed app takes up to ten minutes to work: wait for that first, then aam heal. If it stays, store the Consumer Secret again (the app > Settings > OAuth Settings > Consumer Key and Secret)",
    ),
    RefusalRule::permission(
        &["OAUTH_APP_BLOCKED", "app_not_found", "OAUTH_EC_APP_NOT_FOUND"],
        &[],
        "the Salesforce app of service principal {principal} is blocked or not installed in this organization",
        "ask the administrator to install it (Setup > Connected Apps OAuth Usage > Install), or to create it as an External Client App of this organization",
    ),
    RefusalRule::policy(
        &["unsupported_grant_type", "unauthorized_client"],
        &[],
        "the Salesforce app of service principal {principal} does not have this flow turned on",
        "ask the administrator to tick Enable Client Credentials Flow or Enable JWT Bearer Flow in the OAuth settings of the app; changes take up to ten minutes to work",
    ),
    RefusalRule::new(
        &["invalid_grant"],
        &[],
        "Salesforce refused the login of service principal {principal}",
        "ask the administrator for the reason in Setup > Login History; a changed app takes up to ten minutes to work",
    ),
];

/// Asks for a token.
///
/// # Errors
/// Returns the failure of a locator or of the call, what the refusal means, or `WrongService` if the token is for a host of
/// another organization.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let domain = context.endpoint("domain", "")?;
    let url = context.url(&format!("{}/services/oauth2/token", context.text("domain")?))?;
    let form = match context.principal.locator("secret") {
        Some(_) => client_credentials(context).await?,
        None => assertion(context, &domain).await?,
    };
    let request = TokenRequest { url, form, headers: Vec::new(), basic: None };
    let issued = context.request_token(request).await.map_err(|reason| context.no_token(VENDOR, REFUSALS, reason))?;
    let named = issued.fields.get("instance_url").and_then(serde_json::Value::as_str).unwrap_or_default();
    let instance = match named {
        "" => domain,
        named => instance(&domain, named).ok_or_else(|| foreign(context, &domain, named))?,
    };
    let host = instance.host_str().unwrap_or_default().to_string();
    let origin = instance.origin().ascii_serialization();
    Ok(token_credential(issued, &[("instance_url", &origin), ("host", &host)], TOKEN_LIFETIME))
}

async fn client_credentials(context: &MintContext<'_>) -> Result<Vec<(&'static str, Secret)>, Failure> {
    if let Some(failure) = unusable(context.principal) {
        return Err(failure);
    }
    Ok(vec![
        ("grant_type", Secret::new("client_credentials".to_string())),
        ("client_id", Secret::new(context.text("client_id")?.to_string())),
        ("client_secret", context.secret_text("secret").await?),
    ])
}

async fn assertion(context: &MintContext<'_>, domain: &Url) -> Result<Vec<(&'static str, Secret)>, Failure> {
    let key = context.private_key("key").await?;
    let audience = context.principal.text("audience").unwrap_or_else(|| audience_of(domain));
    let now = context.providers.clock.now();
    let claims = jwt::assertion_claims(context.text("client_id")?, context.text("username")?, audience, now, ASSERTION_LIFETIME);
    // Salesforce accepts RS256 only [V].
    let signed = jwt::sign(&key, Some(jwt::JwtAlgorithm::Rs256), Map::new(), &claims);
    Ok(vec![
        ("grant_type", Secret::new("urn:ietf:params:oauth:grant-type:jwt-bearer".to_string())),
        ("assertion", signed.map_err(|unusable| context.unusable_key("key", &unusable))?),
    ])
}

/// The failure for client credentials on a host that all organizations share.
#[must_use]
pub fn unusable(principal: &Principal) -> Option<Failure> {
    principal.locator("secret")?;
    let domain = Url::parse(principal.text("domain")?).ok().filter(is_shared)?;
    let title =
        format!("client credentials do not work on {}, which all organizations share", domain.host_str().unwrap_or_default());
    let fix = "write the organization's own host as domain: Setup > My Domain > Current My Domain URL, https://MYDOMAIN.my.salesforce.com";
    Some(Failure::new(Class::Misconfigured, title, fix))
}

/// Whether the host is one of those that all organizations share.
fn is_shared(domain: &Url) -> bool {
    matches!(domain.host_str(), Some("login.salesforce.com" | "test.salesforce.com"))
}

/// The audience that belongs to a host: that of sandboxes for a sandbox, whose My Domain has the form `NAME--SANDBOX` \[V\].
fn audience_of(domain: &Url) -> &'static str {
    let host = domain.host_str().unwrap_or_default();
    let sandbox =
        host == "test.salesforce.com" || host.ends_with(".sandbox.my.salesforce.com") || first_label(host).contains("--");
    if sandbox { "https://test.salesforce.com" } else { "https://login.salesforce.com" }
}

/// Returns the instance if it is of the organization of `domain`: the same host, another host of Salesforce with the same My
/// Domain, or any host of Salesforce if `domain` is one that all organizations share.
fn instance(domain: &Url, named: &str) -> Option<Url> {
    let instance = Url::parse(named).ok()?;
    if instance.origin() == domain.origin() {
        return Some(instance);
    }
    let (own, host) = (domain.host_str()?, instance.host_str()?);
    let of_salesforce = |host: &str| host.ends_with(".salesforce.com");
    let same_organization = is_shared(domain) || (of_salesforce(own) && first_label(own) == first_label(host));
    let plain = instance.scheme() == "https" && instance.port().is_none() && instance.username().is_empty();
    (plain && of_salesforce(host) && same_organization).then_some(instance)
}

fn first_label(host: &str) -> &str {
    host.split('.').next().unwrap_or_default()
}

fn foreign(context: &MintContext<'_>, domain: &Url, named: &str) -> Failure {
    let named = crate::credentials::redact::scrub_and_cut(named, 100);
    Failure::new(
        Class::WrongService,
        format!(
            "{} issued a token for {named}, which is not a host of the same Salesforce organization",
            domain.host_str().unwrap_or_default()
        ),
        format!("check domain of credentials.principals.{}: Setup > My Domain > Current My Domain URL", context.name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_audience_follows_from_the_host() {
        for (host, sandbox) in [
            ("acme.my.salesforce.com", false),
            ("login.salesforce.com", false),
            ("test.salesforce.com", true),
            ("acme--uat.sandbox.my.salesforce.com", true),
            ("acme--uat.my.salesforce.com", true),
        ] {
            let expected = if sandbox { "https://test.salesforce.com" } else { "https://login.salesforce.com" };
            assert_eq!(audience_of(&url(&format!("https://{host}"))), expected, "{host}");
        }
    }

    #[test]
    fn a_token_is_used_at_hosts_of_its_organization_only() {
        for (domain, named, accepted) in [
            ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com", true),
            ("https://acme.my.salesforce.com", "https://acme.develop.my.salesforce.com", true),
            ("https://login.salesforce.com", "https://acme.my.salesforce.com", true),
            ("https://acme.my.salesforce.com", "https://evil.my.salesforce.com", false),
            ("https://acme.my.salesforce.com", "https://acme.evil.example", false),
            ("https://acme.my.salesforce.com", "http://acme.my.salesforce.com", false),
            ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com.evil.example", false),
            ("https://acme.my.salesforce.com", "https://acme.my.salesforce.com:8443", false),
            ("https://login.salesforce.com", "https://evil.example", false),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080", true),
            ("http://127.0.0.1:8080", "https://127.my.salesforce.com", false),
            ("https://acme.my.salesforce.com", "not a url", false),
        ] {
            assert_eq!(instance(&url(domain), named).is_some(), accepted, "{domain} {named}");
        }
    }
}
