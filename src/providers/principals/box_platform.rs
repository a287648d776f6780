//! Kind `box`: a platform app of Box, by JWT (the settings file that Box generates) or by client credentials.
//!
//! Sources: developer.box.com, "JWT without SDKs", "Client Credentials Grant", "Downscope token" and "Common errors" \[V\];
//! support.box.com, "Please check the 'sub' claim" and "Cannot obtain token based on the enterprise configuration" \[V\].

use super::issued::token_credential;
use super::refusal::RefusalRule;
use super::token_request::{IssuedToken, TokenRequest};
use super::{Fetched, MintContext, Minted};
use crate::credentials::private_key::PrivateKey;
use crate::credentials::{Secret, jwt};
use crate::model::{Class, Failure};
use serde_json::{Map, Value};
use std::time::Duration;
use url::Url;

const VENDOR: &str = "Box";
const TOKEN_URL: &str = "https://api.box.com/oauth2/token";

/// The audience of assertions, also where requests go to another address \[V\].
const AUDIENCE: &str = TOKEN_URL;

/// Box accepts assertions of at most 60 seconds \[V\].
const ASSERTION_LIFETIME: Duration = Duration::from_secs(45);

/// The documented lifetime, for a response without `expires_in` \[V\].
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

const REFUSALS: &[RefusalRule] = &[
    RefusalRule::permission(
        &["unauthorized_client"],
        &[],
        "the Box app of service principal {principal} is not authorized by the administrator of the enterprise",
        "ask the administrator to authorize it: Admin Console > Integrations > Platform Apps Manager > Add Platform App, with the client id of the app; after each change of the app it must be authorized again",
    ),
    RefusalRule::permission(
        &[],
        &["based on the enterprise configuration"],
        "the Box app of service principal {principal} may not get this token",
        "in the Developer Console set App Access Level to App + Enterprise Access, and for user_id also Generate user access tokens; then ask the administrator to authorize the app again",
    ),
    RefusalRule::clock(
        &["invalid_grant"],
        &["'exp'", "'iat'", "'nbf'", "current date/time"],
        "Box does not accept the time of the assertion of service principal {principal}",
        "correct the clock of this machine (timedatectl set-ntp true; chronyc tracking shows the difference), then aam heal",
    ),
    RefusalRule::policy(
        &["invalid_grant", "invalid_request"],
        &["'sub'", "subject"],
        "Box does not accept the subject of service principal {principal}",
        "write enterprise_id: the Enterprise ID of Admin Console > Account & Billing for the service account, or user_id: the id of a managed or app user of that enterprise; an e-mail address or a client id cannot be used",
    ),
    RefusalRule::new(
        &["invalid_grant"],
        &["'jti'"],
        "Box received an assertion of service principal {principal} twice",
        "a proxy between this machine and Box repeats requests: turn that off",
    ),
    RefusalRule::clock(
        &["invalid_grant", "invalid_client"],
        &["'kid'", "public key", "signature", "assertion"],
        "Box does not accept the signature of service principal {principal}",
        "store the settings file again as Box generated it (Developer Console > the app > Configuration > Generate a Public/Private Keypair); the public key may have been removed from the app",
    ),
    RefusalRule::policy(
        &["unsupported_grant_type", "invalid_request"],
        &["grant type", "grant_type"],
        "the Box app of service principal {principal} does not use this way to log in",
        "choose Server Authentication (with JWT for config, Client Credentials Grant for secret) when the app is created in the Developer Console",
    ),
    RefusalRule::new(
        &["invalid_client"],
        &[],
        "Box does not accept the client id and client secret of service principal {principal}",
        "store the client secret of Developer Console > the app > Configuration > OAuth 2.0 Credentials again; for config, store the whole settings file again",
    ),
    RefusalRule::permission(
        &["invalid_scope"],
        &[],
        "the Box app of service principal {principal} does not have the scope that AAM needs",
        "tick Read all files and folders stored in Box in Developer Console > the app > Configuration > Application Scopes, and ask the administrator to authorize the app again",
    ),
    RefusalRule::new(
        &["invalid_grant"],
        &[],
        "Box refused the login of service principal {principal}",
        "compare the settings with Developer Console > the app > Configuration, and ask the administrator whether the app is still authorized",
    ),
];

/// Asks for a token, and exchanges it for one with the family's least scopes.
///
/// # Errors
/// Returns the failure of a locator or of the call, or what the refusal means.
pub async fn mint(context: &MintContext<'_>) -> Result<Fetched<Minted>, Failure> {
    let url = context.endpoint("token_url", TOKEN_URL)?;
    let (form, subject) = match context.principal.locator("config") {
        Some(_) => assertion(context).await?,
        None => client_credentials(context).await?,
    };
    let issued = send(context, &url, form).await?;
    let scopes = context.scopes();
    let issued =
        if scopes.is_empty() { issued } else { narrowed(send(context, &url, exchange(&issued, &scopes)).await?, &scopes) };
    Ok(token_credential(issued, &[(subject.kind.field(), &subject.id)], TOKEN_LIFETIME))
}

async fn send(context: &MintContext<'_>, url: &Url, form: Vec<(&'static str, Secret)>) -> Result<IssuedToken, Failure> {
    let request = TokenRequest { url: url.clone(), form, headers: Vec::new(), basic: None };
    context.request_token(request).await.map_err(|reason| context.no_token(VENDOR, REFUSALS, reason))
}

/// Neither way to log in lets a request narrow the scopes, so the token is exchanged for a narrower one ("Downscope token").
fn exchange(issued: &IssuedToken, scopes: &[String]) -> Vec<(&'static str, Secret)> {
    let text = |text: &str| Secret::new(text.to_string());
    vec![
        ("grant_type", text("urn:ietf:params:oauth:grant-type:token-exchange")),
        ("subject_token", issued.access_token.clone()),
        ("subject_token_type", text("urn:ietf:params:oauth:token-type:access_token")),
        ("scope", text(&scopes.join(" "))),
    ]
}

/// Names the scopes of an exchanged token. Box lists them in `restricted_to` \[V\]; a response without any has exactly the scopes
/// that were asked for (RFC 8693, section 2.2.1).
fn narrowed(issued: IssuedToken, scopes: &[String]) -> IssuedToken {
    let restricted = issued.fields.get("restricted_to").and_then(Value::as_array).into_iter().flatten();
    let mut named: Vec<&str> = restricted.filter_map(|entry| entry.get("scope")?.as_str()).collect();
    named.dedup();
    let own = if named.is_empty() { scopes.join(" ") } else { named.join(" ") };
    IssuedToken { scope: issued.scope.clone().or(Some(own)), ..issued }
}

/// Whom a token is for.
struct Subject {
    kind: SubjectKind,
    id: String,
}

#[derive(Clone, Copy)]
enum SubjectKind {
    /// The service account of the app in an enterprise.
    Enterprise,
    User,
}

impl SubjectKind {
    fn as_str(self) -> &'static str {
        match self {
            SubjectKind::Enterprise => "enterprise",
            SubjectKind::User => "user",
        }
    }

    /// The name of the field of the credential that has the id.
    fn field(self) -> &'static str {
        match self {
            SubjectKind::Enterprise => "enterprise_id",
            SubjectKind::User => "user_id",
        }
    }
}

fn subject(context: &MintContext<'_>, of_settings: Option<&str>) -> Result<Subject, Failure> {
    if let Some(id) = context.principal.text("user_id") {
        return Ok(Subject { kind: SubjectKind::User, id: id.to_string() });
    }
    match context.principal.text("enterprise_id").or(of_settings) {
        Some(id) => Ok(Subject { kind: SubjectKind::Enterprise, id: id.to_string() }),
        None => Err(context.lacks("enterprise_id")),
    }
}

async fn client_credentials(context: &MintContext<'_>) -> Result<(Vec<(&'static str, Secret)>, Subject), Failure> {
    let subject = subject(context, None)?;
    let text = |text: &str| Secret::new(text.to_string());
    let form = vec![
        ("grant_type", text("client_credentials")),
        ("client_id", text(context.text("client_id")?)),
        ("client_secret", context.secret_text("secret").await?),
        ("box_subject_type", text(subject.kind.as_str())),
        ("box_subject_id", text(&subject.id)),
    ];
    Ok((form, subject))
}

async fn assertion(context: &MintContext<'_>) -> Result<(Vec<(&'static str, Secret)>, Subject), Failure> {
    let stored = context.secret("config").await?;
    let settings = Settings::read(&stored).map_err(|lacking| not_settings(context, lacking))?;
    let subject = subject(context, settings.enterprise_id.as_deref())?;
    let key = PrivateKey::parse(&settings.private_key, settings.passphrase.as_ref());
    let key = key.map_err(|unusable| context.unusable_key("config", &unusable))?;
    let mut header = Map::new();
    header.insert("kid".to_string(), settings.public_key_id.into());
    let now = context.providers.clock.now();
    let mut claims = jwt::assertion_claims(&settings.client_id, &subject.id, AUDIENCE, now, ASSERTION_LIFETIME);
    claims.insert("box_sub_type".to_string(), subject.kind.as_str().into());
    // Box accepts RS256, RS384 and RS512 [V].
    let signed = jwt::sign(&key, Some(jwt::JwtAlgorithm::Rs256), header, &claims);
    let form = vec![
        ("grant_type", Secret::new("urn:ietf:params:oauth:grant-type:jwt-bearer".to_string())),
        ("client_id", Secret::new(settings.client_id)),
        ("client_secret", settings.client_secret),
        ("assertion", signed.map_err(|unusable| context.unusable_key("config", &unusable))?),
    ];
    Ok((form, subject))
}

/// The settings file that Box generates for an app with JWT.
struct Settings {
    client_id: String,
    client_secret: Secret,
    public_key_id: String,
    private_key: Secret,
    passphrase: Option<Secret>,
    enterprise_id: Option<String>,
}

impl Settings {
    /// # Errors
    /// Returns the name of the field that is missing.
    fn read(stored: &crate::credentials::Credential) -> Result<Settings, &'static str> {
        let app = stored.field("boxAppSettings").ok_or("boxAppSettings")?;
        let app: Value = serde_json::from_str(app.expose()).map_err(|_| "boxAppSettings")?;
        let text =
            |pointer: &str| app.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_string);
        Ok(Settings {
            client_id: text("/clientID").ok_or("boxAppSettings.clientID")?,
            client_secret: Secret::new(text("/clientSecret").ok_or("boxAppSettings.clientSecret")?),
            public_key_id: text("/appAuth/publicKeyID").ok_or("boxAppSettings.appAuth.publicKeyID")?,
            private_key: Secret::new(text("/appAuth/privateKey").ok_or("boxAppSettings.appAuth.privateKey")?),
            passphrase: text("/appAuth/passphrase").map(Secret::new),
            enterprise_id: stored
                .field("enterpriseID")
                .map(|id| id.expose().to_string())
                .filter(|id| !matches!(id.as_str(), "" | "0")),
        })
    }
}

fn not_settings(context: &MintContext<'_>, lacking: &str) -> Failure {
    Failure::new(
        Class::CredentialMissing,
        format!("config of the service principal {} is not the settings file of a Box app: {lacking} is missing", context.name),
        "store the whole file that Developer Console > the app > Configuration > Generate a Public/Private Keypair downloads; the client secret is in it only if it was visible before",
    )
}
