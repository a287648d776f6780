//! What can go wrong with a vault, each with its own text and a fix. Texts of the vault are quoted and contain no secret.

use super::api::VaultResponse;
use crate::credentials::redact;
use crate::model::{Class, Failure, Timestamp};
use crate::policy::credentials::{VaultLogin, VaultPath, VaultPolicy};
use url::Url;

/// What a response says about the server.
pub enum Readiness {
    /// The response is about the call itself.
    Ready,
    /// The server wants the call at another path of the same origin.
    Moved(String),
    NotReady(Box<Failure>),
    /// A server error; the status of the seal says more.
    Unclear,
}

/// Says which responses come from a server that cannot answer now. The status codes are those of
/// <https://openbao.org/api-docs/system/health/> and <https://developer.hashicorp.com/vault/api-docs#http-status-codes>.
pub fn not_ready(vault: &VaultPolicy, response: &VaultResponse) -> Readiness {
    let not_ready = |failure: Failure| Readiness::NotReady(Box::new(with_vendor_text(failure, response)));
    match response.status {
        301 | 302 | 303 | 307 | 308 => redirected(vault, response),
        404 if response.vendor_text().contains("namespace not found") => not_ready(wrong_namespace(vault)),
        // A node answers 412 if it has not yet received the write that the token depends on.
        412 => not_ready(Failure::new(
            Class::Remote,
            format!("the vault {} is not up to date with its active node", vault.address),
            "no action is required: AAM tries again; if it stays, check the replication of the vault",
        )),
        472 => not_ready(standby(vault, "the active node of a secondary for disaster recovery")),
        473 => not_ready(standby(vault, "a performance standby")),
        501 => not_ready(not_initialized(vault)),
        500.. => Readiness::Unclear,
        _ => Readiness::Ready,
    }
}

/// The failure of a server error. `seal` is the answer about the seal, if there is one.
pub fn unavailable(vault: &VaultPolicy, response: &VaultResponse, seal: Option<&VaultResponse>) -> Failure {
    let address = &vault.address;
    let says = |name: &str| seal.and_then(|seal| seal.body.get(name)).and_then(serde_json::Value::as_bool);
    let text = response.vendor_text();
    let failure = if says("initialized") == Some(false) {
        not_initialized(vault)
    } else if says("sealed") == Some(true) || text.to_ascii_lowercase().contains("is sealed") {
        Failure::new(
            Class::Remote,
            format!("the vault {address} is sealed"),
            "unseal it (bao operator unseal, or vault operator unseal), and find out why it was sealed; AAM tries again by itself",
        )
    } else if text.contains("active cluster node") || text.contains("standby") {
        standby(vault, "a standby node that does not find its active node")
    } else {
        Failure::new(
            Class::Remote,
            format!("the vault {address} answered with the server error {}", response.status),
            "read the log of the vault; AAM tries again by itself",
        )
    };
    with_vendor_text(failure, response)
}

fn not_initialized(vault: &VaultPolicy) -> Failure {
    Failure::new(
        Class::Remote,
        format!("the vault {} is not initialized", vault.address),
        "initialize and unseal it (bao operator init, bao operator unseal), or correct credentials.vault.address in the policy",
    )
}

fn standby(vault: &VaultPolicy, what: &str) -> Failure {
    Failure::new(
        Class::Remote,
        format!("the vault {} is {what} and does not read secrets", vault.address),
        "in the policy, set credentials.vault.address to the active node, or to a load balancer that always leads there",
    )
}

/// A standby node redirects to the active node. On another origin, the token would go to a server that the policy does not
/// name.
fn redirected(vault: &VaultPolicy, response: &VaultResponse) -> Readiness {
    let target = response.location.as_deref().and_then(|location| Url::parse(&vault.address).ok()?.join(location).ok());
    let refused = |title: String, fix: String| {
        Readiness::NotReady(Box::new(
            Failure::new(Class::EgressRefused, title, fix).detail(format!("status {}", response.status)),
        ))
    };
    let address = &vault.address;
    let Some(target) = target else {
        return refused(
            format!("the vault {address} redirects to an invalid URL"),
            "ask the operator of the vault to correct api_addr in its configuration".to_string(),
        );
    };
    let same = Url::parse(address).is_ok_and(|own| own.origin() == target.origin());
    if let (true, Some(path)) = (same, target.path().strip_prefix("/v1/")) {
        return match percent_encoding::percent_decode_str(path).decode_utf8() {
            Ok(path) => Readiness::Moved(path.into_owned()),
            Err(_) => {
                refused(format!("the vault {address} redirects to an invalid URL"), "read the log of the vault".to_string())
            }
        };
    }
    let there = redact::scrub_and_cut(&target.origin().ascii_serialization(), 200);
    refused(
        format!("the vault {address} is a standby node: it redirects to {there}, and AAM does not send its token there"),
        format!(
            "if {there} is the active node of this vault, set credentials.vault.address in the policy to it, or to a load balancer that always leads to the active node"
        ),
    )
}

/// The failure of a vault that redirects again and again.
pub fn redirect_loop(vault: &VaultPolicy) -> Failure {
    Failure::new(
        Class::Remote,
        format!("the vault {} redirects again and again", vault.address),
        "set credentials.vault.address in the policy to the active node of the vault",
    )
}

fn wrong_namespace(vault: &VaultPolicy) -> Failure {
    let namespace = vault.namespace.as_deref().unwrap_or("root");
    Failure::new(
        Class::CredentialMissing,
        format!("the vault {} does not have the namespace {namespace}", vault.address),
        "correct credentials.vault.namespace in the policy; bao namespace list shows the namespaces that exist",
    )
}

/// The failure of a call that got no response. The class stays, so that a wait or a policy line stays too.
pub fn unreachable(vault: &VaultPolicy, failure: Failure) -> Failure {
    let address = &vault.address;
    match failure.class {
        Class::Throttled if failure.title.starts_with("rate limited") => Failure {
            title: format!("rate limited by the vault {address}"),
            fix: "no action is required: AAM waits and tries again; if this happens often, raise the vault's rate limit quota for AAM, or lower credentials.caps.vault.per_second in the policy".to_string(),
            ..failure
        },
        Class::EgressRefused if failure.title.starts_with("POST") && failure.title.contains("is redirected") => Failure {
            title: format!("the vault {address} redirects logins and renewals, so it is a standby node"),
            fix: "set credentials.vault.address in the policy to the active node, or to a load balancer that always leads there (curl ADDRESS/v1/sys/leader names it)".to_string(),
            ..failure
        },
        Class::Throttled | Class::BreakerOpen | Class::Misconfigured | Class::Bug | Class::Interrupted => failure,
        _ => Failure {
            title: format!("could not read from the vault {address}: {}", failure.title),
            fix: failure.fix.replace("network.ca_file", "credentials.vault.ca_file"),
            ..failure
        },
    }
}

/// The failure for an address that is not a URL with a host. The policy's parser refuses it before.
pub fn invalid_address(vault: &VaultPolicy) -> Failure {
    Failure::new(
        Class::Misconfigured,
        format!("credentials.vault.address {} is not the URL of a vault", vault.address),
        "write it as https://HOST:PORT",
    )
}

/// The failure for a body that is not a JSON object.
pub fn invalid_body(vault: &VaultPolicy) -> Failure {
    invalid_answer(vault, "is not a JSON object")
}

/// The failure for an answer that a vault never gives.
pub fn invalid_answer(vault: &VaultPolicy, what: &str) -> Failure {
    Failure::new(
        Class::Remote,
        format!("the answer of the vault {} {what}", vault.address),
        "check that credentials.vault.address in the policy is the address of a vault and not of another service or a sign-in page",
    )
}

/// The failure for a locator while the policy names no vault.
pub fn no_vault(locator: &crate::model::Locator) -> Failure {
    const EXAMPLE: &str = "credentials: {vault: {address: \"https://vault.acme.example:8200\", login: {method: approle, role_id: \"env:VAULT_ROLE_ID\", secret_id: \"file:/etc/aam/secret_id\"}}}";
    Failure::new(
        Class::CredentialMissing,
        format!("{locator} names a secret of a vault, and the policy does not name a vault"),
        format!("name it in the policy, for example {EXAMPLE}; without a vault, write env:NAME instead of {locator}"),
    )
}

/// The failure for a locator that does not name a secret.
pub fn invalid_locator(
    locator: &crate::model::Locator,
    error: &crate::policy::credentials::vault_path::InvalidVaultPath,
) -> Failure {
    Failure::new(Class::CredentialMissing, format!("{locator} {}", error.reason), error.fix.clone())
}

/// Where a secret is in the API, for the rule that would allow it.
pub struct ApiPath<'a> {
    /// The path of the locator.
    pub path: &'a VaultPath,
    /// The path of the API, for example `secret/data/aam/github`.
    pub api: &'a str,
    /// The mount and the rest of the path, for KV version 2.
    pub versioned: Option<(&'a str, &'a str)>,
}

/// The rule of a vault policy that allows reading `api`.
fn rule(api: &str) -> String {
    format!("path {} {{ capabilities = [\"read\"] }}", serde_json::Value::from(api))
}

/// The failure for a secret that AAM's token may not read.
pub fn denied(vault: &VaultPolicy, place: &ApiPath<'_>, response: &VaultResponse) -> Failure {
    if let Some(failure) = raw_path(place, response) {
        return failure;
    }
    let failure = Failure::new(
        Class::CredentialMissing,
        format!("the vault {} does not let AAM read {} (403)", vault.address, place.api),
        format!("add this rule to the vault policy of AAM's login: {}", rule(place.api)),
    );
    with_vendor_text(failure, response)
}

/// The failure for a mount that AAM's token may not see, or that does not exist: the vault does not distinguish them.
pub fn denied_mount(vault: &VaultPolicy, path: &VaultPath, response: &VaultResponse) -> Failure {
    let (mount, rest) = path.path().split_once('/').unwrap_or((path.path(), ""));
    let leased = rest.starts_with("creds/") || rest.starts_with("sts/") || rest.starts_with("static-creds/");
    let (wanted, note) = match leased {
        true => (path.path().to_string(), ""),
        false if rest.starts_with("data/") => (path.path().to_string(), ""),
        false => (format!("{mount}/data/{rest}"), " (KV version 2; for KV version 1 leave out data/)"),
    };
    let failure = Failure::new(
        Class::CredentialMissing,
        format!(
            "the vault {} does not let AAM read {} (403), or it does not have a secrets engine at {mount}/{}",
            vault.address,
            path.path(),
            vault.namespace.as_ref().map(|namespace| format!(" in the namespace {namespace}")).unwrap_or_default()
        ),
        format!(
            "add this rule to the vault policy of AAM's login: {}{note}; bao secrets list shows the mounts that exist",
            rule(&wanted)
        ),
    );
    with_vendor_text(failure, response)
}

/// The failure for a secret that does not exist.
pub fn not_found(vault: &VaultPolicy, place: &ApiPath<'_>, response: &VaultResponse) -> Failure {
    if let Some(failure) = raw_path(place, response) {
        return failure;
    }
    let path = place.path.path();
    let write = match place.versioned {
        Some((mount, rest)) => format!("bao kv put -mount={mount} {rest} FIELD=-"),
        None => format!("bao kv put {path} FIELD=-"),
    };
    let failure = Failure::new(
        Class::CredentialMissing,
        format!("the vault {} does not have a secret at {path} (404)", vault.address),
        format!("correct credential_locator, or write the secret ({write})"),
    );
    with_vendor_text(failure, response)
}

/// The failure for a locator with the path of the API in it, which has `data/` behind the mount.
fn raw_path(place: &ApiPath<'_>, response: &VaultResponse) -> Option<Failure> {
    let (mount, rest) = place.versioned?;
    let bare = rest.strip_prefix("data/").or_else(|| rest.strip_prefix("metadata/")).filter(|bare| !bare.is_empty())?;
    let field = place.path.field().unwrap_or("FIELD");
    let failure = Failure::new(
        Class::CredentialMissing,
        format!("vault:{} is the path of the vault's API, not of a secret ({})", place.path.path(), response.status),
        format!("write vault:{mount}/{bare}#{field}: AAM adds data/ itself, because {mount}/ is KV version 2"),
    );
    Some(with_vendor_text(failure, response))
}

/// The failure for a deleted or destroyed version of a secret in KV version 2.
pub fn removed(mount: &str, rest: &str, version: u64, deleted_at: &str, destroyed: bool) -> Failure {
    let secret = format!("version {version} of the secret {mount}/{rest}");
    match destroyed {
        true => Failure::new(
            Class::CredentialMissing,
            format!("{secret}, the newest one, is destroyed and cannot be restored"),
            format!("write a new version: bao kv put -mount={mount} {rest} FIELD=-"),
        ),
        false => {
            let since = Timestamp::parse(deleted_at).map(|at| format!(" since {}", at.rfc3339())).unwrap_or_default();
            Failure::new(
                Class::CredentialMissing,
                format!("{secret}, the newest one, is deleted{since}"),
                format!("restore it (bao kv undelete -mount={mount} -versions={version} {rest}), or write a new version"),
            )
        }
    }
}

/// The failure of a login that the vault refused.
pub fn login_refused(vault: &VaultPolicy, response: &VaultResponse) -> Failure {
    let address = &vault.address;
    let (what, fix) = match &vault.login {
        VaultLogin::Approle { mount, secret_id, .. } => (
            format!("the AppRole login at auth/{mount}"),
            format!(
                "create a new secret id (bao write -f auth/{mount}/role/ROLE/secret-id) and store it in {secret_id}; role_id is shown by bao read auth/{mount}/role/ROLE/role-id"
            ),
        ),
        VaultLogin::Kubernetes { mount, role, token_file } => (
            format!("the login of the Kubernetes service account with the role {role} at auth/{mount}"),
            format!(
                "check with bao read auth/{mount}/role/{role} that the role allows the namespace and the name of the service account whose token is {}",
                token_file.display()
            ),
        ),
        VaultLogin::Jwt { mount, role, .. } => (
            format!("the JWT login with the role {role} at auth/{mount}"),
            format!(
                "check with bao read auth/{mount}/role/{role} that the role allows the issuer, audience and subject of the JWT, and that the JWT has not expired"
            ),
        ),
        VaultLogin::Token { .. } | VaultLogin::TokenFile { .. } => ("AAM's token".to_string(), "store a valid token".to_string()),
    };
    let fix = match response.status {
        403 | 404 => format!(
            "check credentials.vault.login.mount and credentials.vault.namespace in the policy (bao auth list shows the mounts of logins); then {fix}"
        ),
        _ => fix,
    };
    let failure =
        Failure::new(Class::CredentialMissing, format!("the vault {address} refused {what} ({})", response.status), fix);
    with_vendor_text(failure, response)
}

/// The failure for a token that the vault does not know any more.
pub fn token_refused(vault: &VaultPolicy, response: &VaultResponse) -> Failure {
    let (what, fix) = match &vault.login {
        VaultLogin::TokenFile { file } => (
            format!("the token in {} is expired, revoked or not valid", file.display()),
            "check that the agent which writes the file is running and logged in".to_string(),
        ),
        VaultLogin::Token { token } => (
            format!("the token of {token} is expired, revoked or not valid"),
            format!(
                "create a new one (bao token create -policy=aam -period=768h -orphan) and store it in {token}; credentials.vault.login with method approle, kubernetes or jwt logs in again by itself"
            ),
        ),
        _ => (
            "the token of AAM's login is expired, revoked or not valid".to_string(),
            "AAM logs in again at the next attempt".to_string(),
        ),
    };
    let failure = Failure::new(Class::CredentialMissing, format!("the vault {} refused AAM: {what}", vault.address), fix);
    with_vendor_text(failure, response)
}

/// The failure for any other response to a read.
pub fn unexpected(vault: &VaultPolicy, place: &ApiPath<'_>, response: &VaultResponse) -> Failure {
    let failure = Failure::new(
        Class::CredentialMissing,
        format!("the vault {} did not read {} ({})", vault.address, place.api, response.status),
        "correct credential_locator, or the role or secrets engine that it names; the detail shows what the vault answered",
    );
    with_vendor_text(failure, response)
}

fn with_vendor_text(failure: Failure, response: &VaultResponse) -> Failure {
    let text = response.vendor_text();
    let status = response.status;
    match text.is_empty() {
        true => failure.detail(format!("the vault answered {status}")),
        false => failure.detail(format!("the vault answered {status}: \"{text}\"")),
    }
}
