//! A mock of GitHub, written from its documentation, and as strict as it: scheme of the Authorization header, User-Agent,
//! media types, version of the API, methods, JSON Web Tokens of apps and the permissions of installation tokens.
//!
//! Sources: docs.github.com, "Getting started with the REST API" (User-Agent, Accept, X-GitHub-Api-Version),
//! "Authenticating to the REST API", "Generating a JSON Web Token (JWT) for a GitHub App", "Generating an installation access
//! token for a GitHub App", "Permissions required for GitHub Apps"; the recorded answers of octokit.rb for the shapes.

use crate::support::lowcode_families::{ReceivedRequest, json_response_with};
use crate::support::openapi::MockResponse;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

/// The id of the app and the id of its only installation.
pub const APP_ID: &str = "99";
pub const INSTALLATION_ID: &str = "4711";

/// The private key of the app, made for the tests only, as PKCS #8 in PEM.
pub fn app_key() -> String {
    let dashes = "-----";
    format!("{dashes}BEGIN PRIVATE KEY{dashes}\n{}{dashes}END PRIVATE KEY{dashes}\n", include_str!("../data/rsa_key.b64"))
}

/// The credential of the app, as JSON.
pub fn app_credential() -> String {
    json!({"app_id": APP_ID, "installation_id": INSTALLATION_ID, "private_key": app_key()}).to_string()
}

/// The organization `acme` as GitHub shows it to personal access tokens. The token decides what the caller may read.
pub fn github(home: &str, request: &ReceivedRequest) -> MockResponse {
    with_app(&json!({"metadata": "read", "members": "read"}))(home, request)
}

/// The same GitHub with an app whose installation in `acme` has `permissions`.
pub fn with_app(permissions: &Value) -> impl Fn(&str, &ReceivedRequest) -> MockResponse + Clone + Send + Sync + 'static {
    let permissions = permissions.clone();
    move |home, request| refused(request).unwrap_or_else(|| answer(home, request, &permissions))
}

/// Refuses what GitHub refuses from everybody.
fn refused(request: &ReceivedRequest) -> Option<MockResponse> {
    if request.header("user-agent").is_none_or(|value| value.trim().is_empty()) {
        return Some((
            403,
            vec![],
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header".into(),
        ));
    }
    let accept = request.header("accept").unwrap_or("*/*");
    if !accept.split(',').any(|kind| kind.trim() == "*/*" || (kind.contains("application/") && kind.contains("json"))) {
        return Some(error(415, "Unsupported 'Accept' header", &[]));
    }
    match request.header("x-github-api-version") {
        None | Some("2022-11-28" | "2026-03-10") => None,
        Some(_) => Some(error(400, "The version is not supported", &[])),
    }
}

/// An error in GitHub's format.
fn error(status: u16, message: &str, headers: &[(&'static str, &str)]) -> MockResponse {
    let mut headers = headers.to_vec();
    headers.push(("x-github-request-id", "C0FE:1"));
    let body = json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string()});
    json_response_with(status, &headers, &body)
}

/// What a token may read.
struct Grants {
    /// The scopes of a classic token, which every response names.
    scopes: Option<&'static str>,
    metadata: bool,
    members: bool,
    /// An installation token belongs to no user.
    user: bool,
}

fn answer(home: &str, request: &ReceivedRequest, installed: &Value) -> MockResponse {
    let not_found = || error(404, "Not Found", &[]);
    if request.path().starts_with("/app/") {
        return app(request, installed);
    }
    // GitHub accepts Bearer and token for all tokens except JSON Web Tokens, which only work for /app.
    let authorization = request.header("authorization").unwrap_or_default();
    let Some(token) = authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("token ")) else {
        return error(401, if authorization.is_empty() { "Requires authentication" } else { "Bad credentials" }, &[]);
    };
    let user = |scopes, metadata, members| Grants { scopes, metadata, members, user: true };
    let grants = match token {
        "gh-token-reads-1" => user(Some("read:org, read:user"), true, true),
        "gh-token-classic-2" => user(Some("repo, read:org"), true, true),
        "gh-token-fine-3" => user(None, true, true),
        "gh-token-narrow-4" => user(None, true, false),
        "gh-token-blind-5" => user(None, false, false),
        "gh-token-sso-6" => {
            let sso = ("x-github-sso", "required; url=https://github.com/orgs/acme/sso?authorization_request=A1");
            return error(403, "Resource protected by organization SAML enforcement.", &[sso]);
        }
        _ => match token.strip_prefix("ghs_") {
            Some(granted) if granted.contains("metadata") || granted.contains("members") => {
                Grants { scopes: None, metadata: granted.contains("metadata"), members: granted.contains("members"), user: false }
            }
            _ => return error(401, "Bad credentials", &[]),
        },
    };
    if !request.call.starts_with("GET ") {
        return not_found();
    }
    let mut headers: Vec<(&'static str, &str)> = grants.scopes.map(|scopes| ("x-oauth-scopes", scopes)).into_iter().collect();
    let caller = if grants.user { "personal access token" } else { "integration" };
    let denied =
        |needs: &str| error(403, &format!("Resource not accessible by {caller}"), &[("x-accepted-github-permissions", needs)]);
    match request.path() {
        "/user" if !grants.user => error(403, "Resource not accessible by integration", &[]),
        "/user" => json_response_with(200, &headers, &json!({"login": "robot", "id": 7})),
        "/installation/repositories" if grants.user => error(
            403,
            "You must authenticate with an installation access token in order to list repositories for an installation.",
            &[],
        ),
        "/installation/repositories" if !grants.metadata => denied("metadata=read"),
        "/installation/repositories" => json_response_with(200, &headers, &json!({"total_count": 1, "repositories": []})),
        "/orgs/acme" => json_response_with(200, &headers, &json!({"login": "Acme", "id": 1})),
        "/orgs/acme/repos" | "/repos/acme/widgets" if !grants.metadata => denied("metadata=read"),
        "/orgs/acme/teams" | "/orgs/acme/members" if !grants.members => denied("members=read"),
        "/orgs/acme/teams" => json_response_with(200, &headers, &json!([{"id": 5, "name": "core", "slug": "core"}])),
        "/orgs/acme/members" => json_response_with(200, &headers, &json!([{"id": 7, "login": "robot"}])),
        "/orgs/acme/repos" => {
            let second = request.call.contains("&page=2");
            let range = if second { 15..25 } else { 0..15 };
            let list: Vec<Value> =
                range.map(|id| json!({"id": id, "name": format!("r{id}"), "full_name": format!("acme/r{id}")})).collect();
            let next = format!("<{home}/orgs/acme/repos?sort=updated&per_page=20&page=2>; rel=\"next\"");
            if !second {
                headers.push(("link", &next));
            }
            json_response_with(200, &headers, &Value::Array(list))
        }
        "/repos/acme/widgets" => {
            json_response_with(200, &headers, &json!({"id": 9, "full_name": "acme/Widgets", "visibility": "private"}))
        }
        "/repos/acme/widgets/contributors" => json_response_with(200, &headers, &json!([{"id": 7, "login": "robot"}])),
        "/repos/acme/widgets/tags" => json_response_with(200, &headers, &json!([])),
        _ => not_found(),
    }
}

/// The calls of an app. They need a JSON Web Token that the app signed.
fn app(request: &ReceivedRequest, installed: &Value) -> MockResponse {
    let authorization = request.header("authorization").unwrap_or_default();
    let Some(token) = authorization.strip_prefix("Bearer ") else {
        return error(401, "A JSON web token could not be decoded", &[]);
    };
    if let Err(reason) = check_jwt(token) {
        return error(401, reason, &[]);
    }
    let installation = format!("/app/installations/{INSTALLATION_ID}");
    match request.call.split_once(' ') {
        Some(("GET", path)) if path == installation => json_response_with(
            200,
            &[],
            &json!({"id": 4711, "app_id": 99, "account": {"login": "Acme", "type": "Organization"}, "permissions": installed,
                "repository_selection": "all", "suspended_at": null}),
        ),
        Some(("POST", path)) if path == format!("{installation}/access_tokens") => token_for(request, installed),
        _ => error(404, "Not Found", &[]),
    }
}

/// Checks the token like GitHub does: signature, algorithm, issuer, and claims that are not in the future or too long.
fn check_jwt(token: &str) -> Result<(), &'static str> {
    let undecodable = "A JSON web token could not be decoded";
    let pieces: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = pieces.as_slice() else { return Err(undecodable) };
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| undecodable);
    let json = |text: &str| serde_json::from_slice::<Value>(&decoded(text)?).map_err(|_| undecodable);
    let (head, parsed) = (json(head)?, json(claims)?);
    let der = STANDARD.decode(include_str!("../data/rsa_key.b64").replace('\n', "")).expect("base64");
    let key = RsaKeyPair::from_pkcs8(&der).expect("a key");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref().to_vec());
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
    if head["alg"] != "RS256" || public.verify(signed.as_bytes(), &decoded(signature)?).is_err() {
        return Err(undecodable);
    }
    if parsed["iss"].to_string().trim_matches('"') != APP_ID {
        return Err("'Issuer' claim ('iss') is not the id of an app");
    }
    // The clock of this GitHub is 30 s behind, so a token that is issued now lies in its future.
    let now = aam::clock::from_env().now().0 / 1000 - 30;
    let claim = |name: &str| parsed[name].as_i64().unwrap_or(i64::MAX);
    match () {
        () if claim("iat") > now => {
            Err("'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued")
        }
        () if parsed["nbf"].as_i64().is_some_and(|from| from > now) => Err("'Not before' claim ('nbf') is in the future"),
        () if claim("exp") <= now => Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ),
        () if claim("exp") > now + 600 => Err("'Expiration time' claim ('exp') is too far in the future"),
        () => Ok(()),
    }
}

/// Creates an installation token with the requested permissions, which must be part of those of the installation.
fn token_for(request: &ReceivedRequest, installed: &Value) -> MockResponse {
    if !request.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return error(400, "Problems parsing JSON", &[]);
    }
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let wanted = body["permissions"].as_object().cloned().unwrap_or_default();
    let rank = |level: &Value| ["read", "write", "admin"].iter().position(|name| level == *name);
    let refused = wanted.iter().any(|(name, level)| rank(level).is_none() || rank(level) > rank(&installed[name]));
    if refused {
        return error(422, "The permissions requested are not granted to this installation.", &[]);
    }
    // Without a list, the token gets all permissions of the installation.
    let granted = if wanted.is_empty() { installed.clone() } else { Value::Object(wanted) };
    let names: Vec<&str> = granted.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let token = format!("ghs_{}_of_the_installation_0001", names.join("_"));
    json_response_with(
        201,
        &[],
        &json!({"token": token, "expires_at": "2099-01-01T00:00:00Z", "permissions": granted, "repository_selection": "all"}),
    )
}
