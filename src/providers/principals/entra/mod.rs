//! `kind: entra`: an app registration of Microsoft Entra ID, by client credentials (learn.microsoft.com, "Microsoft identity
//! platform and the OAuth 2.0 client credentials flow").

mod certificate;
mod refusals;

use super::issued::token_credential;
use super::oauth2_client::{ASSERTION_LIFETIME, JWT_BEARER_ASSERTION};
use super::token_request::{NoToken, TokenRefusal, TokenRequest};
use super::{MintContext, Minted};
use crate::credentials::{Secret, jwt, redact};
use crate::model::{Class, Failure, Timestamp};
use crate::operator_file;
use crate::providers::cache::Fetched;
use certificate::SigningCertificate;
use std::time::Duration;

const AUTHORITY: &str = "https://login.microsoftonline.com";

/// The resource of families that name none.
const GRAPH_SCOPE: &str = "https://graph.microsoft.com/.default";

/// Microsoft always names the end of a token; the shortest documented is one hour.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);

/// The maximum size of the file with a workload's token in bytes.
pub const MAX_TOKEN_FILE_BYTES: u64 = 64 << 10;

/// What the app proved itself with, for the fix of a refusal.
enum AppProof {
    /// Whether the stored secret has the form of a secret's id.
    Secret {
        looks_like_id: bool,
    },
    Certificate {
        thumbprint: String,
    },
    Federated,
}

pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let (tenant, client_id) = (context.text("tenant")?, context.text("client_id")?);
    let authority = authority(context);
    let url = context.url(&format!("{authority}/{tenant}/oauth2/v2.0/token"))?;
    let audience = url.to_string();
    let mut request = TokenRequest::new(url, "client_credentials");
    request.add("client_id", client_id);
    let scope = scope(context, authority);
    request.add("scope", &scope);
    let mut key_ends_at = None;
    let proof = if context.principal.locator("certificate").is_some() {
        let certificate = SigningCertificate::load(context).await?;
        key_ends_at = Some(certificate.ends_at);
        let assertion = assertion(context, &certificate, client_id, &audience)?;
        request.add("client_assertion_type", JWT_BEARER_ASSERTION);
        request.add_secret("client_assertion", assertion);
        AppProof::Certificate { thumbprint: certificate.sha1_hex() }
    } else if let Some(file) = context.principal.text("federated_token_file") {
        request.add("client_assertion_type", JWT_BEARER_ASSERTION);
        request.add_secret("client_assertion", token_file(context, "federated_token_file", file).await?);
        AppProof::Federated
    } else {
        let secret = context.secret_text("secret").await?;
        let looks_like_id = uuid::Uuid::parse_str(secret.expose().trim()).is_ok();
        request.add_secret("client_secret", secret);
        AppProof::Secret { looks_like_id }
    };
    match context.request_token(request).await {
        Ok(token) => {
            let mut minted = token_credential(token, &[], DEFAULT_LIFETIME);
            minted.value.key_ends_at = key_ends_at;
            Ok(minted)
        }
        Err(NoToken::Failed(failure)) => Err(failure),
        Err(NoToken::Refused(refusal)) => Err(refused(context, &proof, &scope, refusal)),
    }
}

/// Returns the scope: that of the policy, otherwise `.default` of the family's resource. Client credentials get the
/// application permissions that an administrator granted, never single scopes (AADSTS1002012).
fn scope(context: &MintContext<'_>, authority: &str) -> String {
    if let Some(scopes) = context.principal.list("scopes") {
        return scopes.join(" ");
    }
    let scopes = context.scopes();
    let resource = scopes.iter().find_map(|scope| {
        let (resource, _) = scope.rsplit_once('/')?;
        // The permission follows the last slash. What stands before it is an identifier URI.
        resource.contains("://").then(|| format!("{}/.default", in_cloud(resource, authority)))
    });
    resource.unwrap_or_else(|| GRAPH_SCOPE.to_string())
}

/// The address of the login service, without a slash at its end.
fn authority<'a>(context: &MintContext<'a>) -> &'a str {
    context.principal.text("authority").unwrap_or(AUTHORITY).trim_end_matches('/')
}

/// The resources of the global cloud with their counterparts in the national clouds, by the login hosts of these clouds
/// (learn.microsoft.com, "Microsoft Graph national cloud deployments"; "Azure Government endpoints"; "Azure China developer
/// guide"). The cloud of the Department of Defense has the login host of the US Government, so its Graph has to be named in
/// `scopes`.
const NATIONAL_CLOUDS: [(&[&str], &str, &str); 2] = [
    (&["login.microsoftonline.us"], "https://graph.microsoft.us", "https://management.usgovcloudapi.net"),
    (
        &["login.chinacloudapi.cn", "login.partner.microsoftonline.cn"],
        "https://microsoftgraph.chinacloudapi.cn",
        "https://management.chinacloudapi.cn",
    ),
];

/// Returns `resource` as it is called in the cloud whose login service is `authority`.
fn in_cloud<'r>(resource: &'r str, authority: &str) -> &'r str {
    let host = authority.split_once("://").map_or(authority, |(_, rest)| rest);
    let cloud = NATIONAL_CLOUDS.iter().find(|(hosts, ..)| hosts.contains(&host));
    match (cloud, resource) {
        (Some((_, graph, _)), "https://graph.microsoft.com") => graph,
        (Some((.., management)), "https://management.azure.com") => management,
        _ => resource,
    }
}

/// The assertion that is signed with the certificate's key (learn.microsoft.com, "Microsoft identity platform application
/// authentication certificate credentials").
fn assertion(
    context: &MintContext<'_>,
    certificate: &SigningCertificate,
    client_id: &str,
    audience: &str,
) -> Result<Secret, Failure> {
    let now = context.providers.clock.now();
    let mut claims = jwt::assertion_claims(client_id, client_id, audience, now, ASSERTION_LIFETIME);
    claims.insert("nbf".to_string(), now.0.div_euclid(1000).into());
    let signed = jwt::sign(&certificate.key, Some(jwt::JwtAlgorithm::Ps256), certificate.header(), &claims);
    signed.map_err(|unusable| {
        let mut failure = context.unusable_key("certificate", &unusable);
        failure.fix = "use a certificate with an RSA key: Microsoft accepts no other for apps".to_string();
        failure
    })
}

/// Reads the token of the workload. The platform replaces the file, so it is read at each mint.
///
/// # Errors
/// Returns `CredentialMissing`, which names the file.
pub async fn token_file(context: &MintContext<'_>, key: &str, path: &str) -> Result<Secret, Failure> {
    let missing = |what: String| {
        let fix = format!(
            "check that the platform mounts the token there and that AAM may read it, or correct credentials.principals.{}.{key}",
            context.name
        );
        Failure::new(
            Class::CredentialMissing,
            format!("the token file {path} of the service principal {} {what}", context.name),
            fix,
        )
    };
    let file = std::path::PathBuf::from(path);
    let read = tokio::task::spawn_blocking(move || operator_file::read_text(&file, MAX_TOKEN_FILE_BYTES));
    let text = match read.await {
        Ok(Ok(text)) => zeroize::Zeroizing::new(text),
        Ok(Err(error)) => return Err(missing(format!("cannot be read: {error}"))),
        Err(error) => return Err(missing(format!("cannot be read: {error}"))),
    };
    if text.trim().is_empty() {
        return Err(missing("is empty".to_string()));
    }
    redact::learn_value(text.trim());
    Ok(Secret::new(text.trim().to_string()))
}

fn refused(context: &MintContext<'_>, proof: &AppProof, scope: &str, mut refusal: TokenRefusal) -> Failure {
    let mut codes = refusals::codes(&refusal.description);
    if codes.first() == Some(&"7000215") && matches!(proof, AppProof::Secret { looks_like_id: true }) {
        codes.insert(0, refusals::SECRET_ID);
    }
    if !matches!(proof, AppProof::Certificate { .. }) {
        // AAM signed nothing, so its clock does not matter.
        refusal.server_date = None;
    }
    let known = codes.into_iter().find(|code| refusals::RULES.iter().any(|rule| rule.errors.contains(code)));
    let (thumbprint, used) = match proof {
        AppProof::Certificate { thumbprint } => (thumbprint.as_str(), "certificate"),
        AppProof::Secret { .. } => ("", "secret"),
        AppProof::Federated => ("", "federated_token_file"),
    };
    let stored = match proof {
        AppProof::Federated => format!("the file {}", context.principal.text(used).unwrap_or_default()),
        _ => context.stored(used),
    };
    let resource = scope.split(' ').next().unwrap_or_default();
    let values = [
        ("scope", scope.to_string()),
        ("resource", resource.strip_suffix("/.default").unwrap_or(resource).to_string()),
        ("thumbprint", thumbprint.to_string()),
        ("authority", authority(context).to_string()),
        ("stored", stored),
        ("least_privilege", context.request.family.least_privilege.clone()),
    ];
    let rules = context.refusals_with("Microsoft", refusals::RULES, &values);
    let mut view = context.refusal(&refusal);
    if let Some(code) = known {
        view.error = code;
    }
    let mut failure = rules.failure(&view);
    if known.is_some() {
        // The code is part of Microsoft's text already.
        failure.detail = format!("Microsoft answered HTTP {}: {:?}", refusal.status, refusal.description);
    }
    failure
}

/// The moment at which a certificate ends, as a person reads it.
fn day(at: Timestamp) -> String {
    at.rfc3339().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::in_cloud;

    #[test]
    fn each_cloud_has_resources_of_its_own() {
        let (graph, management) = ("https://graph.microsoft.com", "https://management.azure.com");
        for (authority, resource, expected) in [
            ("https://login.microsoftonline.com", graph, graph),
            ("https://login.microsoftonline.us", graph, "https://graph.microsoft.us"),
            ("https://login.microsoftonline.us", management, "https://management.usgovcloudapi.net"),
            ("https://login.chinacloudapi.cn", graph, "https://microsoftgraph.chinacloudapi.cn"),
            ("https://login.partner.microsoftonline.cn", management, "https://management.chinacloudapi.cn"),
            ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "https://dod-graph.microsoft.us"),
            ("http://127.0.0.1:8080", graph, graph),
        ] {
            assert_eq!(in_cloud(resource, authority), expected, "{authority}");
        }
    }
}
