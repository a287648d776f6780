//! Turns `securitySchemes` and a credential into request headers. Secrets are sent only in headers, never in a URL.

use super::operations::SecurityRequirement;
use super::parameters::is_header;
use super::refs::DocumentSet;
use crate::credentials::redact;
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Failure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// The authentication of one call.
#[derive(Clone, Debug, Default)]
pub struct CallAuth {
    pub headers: Vec<(String, Secret)>,
    /// The names of the schemes that are used; empty for a call without a credential.
    pub schemes: Vec<String>,
    /// The scopes that the description requires.
    pub scopes: Vec<String>,
    /// Whether a scheme is oauth2 or openIdConnect; only these have scopes.
    pub scoped: bool,
}

/// One entry of `components.securitySchemes`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Header(String),
    Bearer,
    Basic,
    /// oauth2 or openIdConnect. AAM uses an access token that has already been issued.
    Token,
    /// A scheme that AAM does not support, with the reason.
    Unsupported(String),
}

/// Builds the headers for an operation with these security requirements. Uses the first that the credential satisfies.
///
/// # Errors
/// `CredentialMissing`, naming the scheme; `Unsupported` if every requirement has a scheme that AAM does not support.
pub fn authorize(
    documents: &DocumentSet,
    requirements: &[SecurityRequirement],
    credential: Option<&Credential>,
) -> Result<CallAuth, Failure> {
    let mut missing = Vec::new();
    let mut unsupported = Vec::new();
    for requirement in requirements.iter().filter(|requirement| !requirement.is_empty()) {
        match satisfy(documents, requirement, credential) {
            Ok(auth) => return Ok(auth),
            Err(AuthProblem::Missing(message)) => missing.push(message),
            Err(AuthProblem::Unsupported(message)) => unsupported.push(message),
        }
    }
    if requirements.is_empty() || requirements.iter().any(Vec::is_empty) {
        return Ok(CallAuth::default());
    }
    if missing.is_empty() {
        return Err(Failure::new(
            Class::Unsupported,
            "the service requires authentication that AAM does not support",
            "ask the owner of the service to accept the key in a header (an apiKey scheme with `in: header`) or as a bearer token, and to describe that",
        )
        .detail(unsupported.join("; ")));
    }
    let given = match credential {
        None => "the service requires a credential, but the intent does not name one".to_string(),
        Some(credential) if credential.plain().is_some() => {
            "the credential is a plain value, which does not satisfy any security requirement of the service".to_string()
        }
        Some(credential) => format!(
            "the credential has the fields {}, which do not satisfy any security requirement of the service",
            credential.field_names().join(", ")
        ),
    };
    let needed = missing.join("; or ");
    Err(Failure::new(
        Class::CredentialMissing,
        given,
        format!("set credential_locator, for example env:SERVICE_TOKEN, to {needed}"),
    )
    .detail(requirements.iter().map(scheme_names).collect::<Vec<_>>().join(" or ")))
}

fn scheme_names(requirement: &SecurityRequirement) -> String {
    requirement.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" and ")
}

enum AuthProblem {
    Missing(String),
    Unsupported(String),
}

fn satisfy(
    documents: &DocumentSet,
    requirement: &SecurityRequirement,
    credential: Option<&Credential>,
) -> Result<CallAuth, AuthProblem> {
    let schemes: Vec<(&str, Scheme)> = requirement.iter().map(|(name, _)| (name.as_str(), scheme(documents, name))).collect();
    if let Some((_, Scheme::Unsupported(reason))) = schemes.iter().find(|(_, scheme)| matches!(scheme, Scheme::Unsupported(_))) {
        return Err(AuthProblem::Unsupported(reason.clone()));
    }
    let alone = schemes.len() == 1;
    let mut auth =
        CallAuth { scopes: requirement.iter().flat_map(|(_, scopes)| scopes.clone()).collect(), ..CallAuth::default() };
    for (name, scheme) in &schemes {
        let header = credential
            .and_then(|credential| header(scheme, name, credential, alone))
            .ok_or_else(|| AuthProblem::Missing(needed_secret(&schemes)))?;
        if !is_header(&header.0, header.1.expose()) {
            return Err(AuthProblem::Missing(format!(
                "a value without line breaks and other characters that are not allowed in a header (scheme {name})"
            )));
        }
        auth.scoped |= *scheme == Scheme::Token;
        auth.headers.push(header);
        auth.schemes.push((*name).to_string());
    }
    Ok(auth)
}

/// What the credential must contain, for messages.
fn needed_secret(schemes: &[(&str, Scheme)]) -> String {
    if let [(name, scheme)] = schemes {
        return match scheme {
            Scheme::Header(header) => {
                format!("the API key for the header {header} (scheme {name})")
            }
            Scheme::Bearer => format!("the bearer token (scheme {name})"),
            Scheme::Basic => {
                format!("user:password, or JSON with username and password (scheme {name})")
            }
            Scheme::Token => format!(
                "an access token (scheme {name}): this version does not request tokens, so a client id and secret are not enough"
            ),
            Scheme::Unsupported(reason) => reason.clone(),
        };
    }
    let mut text = "JSON with one field per scheme:".to_string();
    for (name, _) in schemes {
        let _ = write!(text, " {name}");
    }
    text
}

fn scheme(documents: &DocumentSet, name: &str) -> Scheme {
    let declared =
        documents.root().get("components").and_then(|node| node.get("securitySchemes")).and_then(|node| node.get(name));
    let Some(node) = declared.and_then(|node| documents.follow(node).ok()) else {
        return Scheme::Unsupported(format!("the description uses the security scheme {name} but does not define it"));
    };
    let lower = |field: &str| node.text(field).unwrap_or_default().to_ascii_lowercase();
    match (lower("type").as_str(), lower("in").as_str(), lower("scheme").as_str()) {
        ("apikey", "header", _) => {
            let header = node.text("name").unwrap_or_default();
            let framing = ["host", "cookie", "content-length", "transfer-encoding", "connection"];
            if framing.contains(&header.to_ascii_lowercase().as_str()) || !is_header(header, "") {
                Scheme::Unsupported(format!("the scheme {name} sends its key in a header that AAM does not set"))
            } else {
                Scheme::Header(header.to_string())
            }
        }
        ("apikey", "query", _) => {
            Scheme::Unsupported(format!("the scheme {name} sends its key in the URL, where logs and proxies record it"))
        }
        ("apikey", "cookie", _) => Scheme::Unsupported(format!("the scheme {name} sends its key in a cookie")),
        ("http", _, "bearer") => Scheme::Bearer,
        ("http", _, "basic") => Scheme::Basic,
        ("oauth2" | "openidconnect", _, _) => Scheme::Token,
        (kind, _, _) => {
            Scheme::Unsupported(format!("the scheme {name} has the unsupported type {}", redact::scrub_and_cut(kind, 40)))
        }
    }
}

const TOKEN_FIELDS: [&str; 4] = ["token", "access_token", "bearer_token", "bearer"];
const KEY_FIELDS: [&str; 3] = ["api_key", "apikey", "key"];

/// Builds the header of one scheme. A field with the name of the scheme takes precedence. A plain value and the common
/// field names are used only if there is a single scheme, because two schemes need two secrets.
fn header(scheme: &Scheme, name: &str, credential: &Credential, alone: bool) -> Option<(String, Secret)> {
    let common = |fields: &[&str]| {
        if alone { credential.plain().or_else(|| credential.any(fields)) } else { None }
    };
    let one = |fields: &[&str]| {
        credential.field(name).or_else(|| common(fields)).map(|secret| secret.expose().trim()).filter(|text| !text.is_empty())
    };
    let bearer = |text: &str| {
        let bare = text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("bearer ")).unwrap_or(text);
        ("authorization".to_string(), Secret::new(format!("Bearer {}", bare.trim())))
    };
    match scheme {
        Scheme::Header(header) => one(&KEY_FIELDS).map(|key| (header.to_ascii_lowercase(), Secret::new(key.to_string()))),
        Scheme::Bearer | Scheme::Token => one(&TOKEN_FIELDS).map(bearer),
        Scheme::Basic => basic(credential.field(name).or_else(|| common(&[])), credential),
        Scheme::Unsupported(_) => None,
    }
}

fn basic(pair: Option<&Secret>, credential: &Credential) -> Option<(String, Secret)> {
    let pair = match (pair, credential.any(&["username", "user"]), credential.field("password")) {
        (Some(pair), _, _) => Secret::new(pair.expose().trim().to_string()),
        (None, Some(user), Some(password)) => Secret::new(format!("{}:{}", user.expose(), password.expose())),
        _ => return None,
    };
    if !pair.expose().contains(':') {
        return None;
    }
    Some(("authorization".into(), Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))))
}

/// The header for requesting a protected description whose `WWW-Authenticate` header is `challenge`.
#[must_use]
pub fn for_document(credential: &Credential, challenge: &str) -> Option<(String, Secret)> {
    let scheme = if challenge.trim_start().to_ascii_lowercase().starts_with("basic") { Scheme::Basic } else { Scheme::Bearer };
    header(&scheme, "", credential, true).filter(|(name, value)| is_header(name, value.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use url::Url;

    fn documents() -> DocumentSet {
        let schemes = json!({
            "bearer": {"type": "http", "scheme": "Bearer"},
            "basic": {"type": "http", "scheme": "basic"},
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            "app": {"type": "apiKey", "in": "header", "name": "X-App-Key"},
            "query": {"type": "apiKey", "in": "query", "name": "k"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "c"},
            "oauth": {"type": "oauth2", "flows": {}},
            "again": {"$ref": "#/components/securitySchemes/bearer"}
        });
        DocumentSet::new(
            Url::parse("https://a.example/openapi.json").unwrap(),
            json!({"components": {"securitySchemes": schemes}}),
        )
    }

    fn requirements(list: &[&[&str]]) -> Vec<SecurityRequirement> {
        list.iter().map(|names| names.iter().map(|name| ((*name).to_string(), vec!["read".to_string()])).collect()).collect()
    }

    fn sent(list: &[&[&str]], credential: Option<&str>) -> Result<Vec<String>, Failure> {
        let credential = credential.map(|text| Credential::read(Secret::new(text.into())));
        let auth = authorize(&documents(), &requirements(list), credential.as_ref())?;
        Ok(auth.headers.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect())
    }

    #[test]
    fn every_header_scheme_is_supported() {
        for (scheme, credential, header) in [
            ("bearer", "t1\n", "authorization: Bearer t1"),
            ("again", "Bearer t1", "authorization: Bearer t1"),
            ("oauth", r#"{"access_token":"t1"}"#, "authorization: Bearer t1"),
            ("bearer", r#"{"bearer":"t1","token":"t2"}"#, "authorization: Bearer t1"),
            ("key", "k1", "x-api-key: k1"),
            ("key", r#"{"api_key":"k1"}"#, "x-api-key: k1"),
            ("basic", "u:p", "authorization: Basic dTpw"),
            ("basic", r#"{"username":"u","password":"p"}"#, "authorization: Basic dTpw"),
        ] {
            assert_eq!(sent(&[&[scheme]], Some(credential)).unwrap(), [header], "{scheme}");
        }
    }

    #[test]
    fn two_schemes_need_two_secrets() {
        let failure = sent(&[&["key", "app"]], Some("k1")).unwrap_err();
        assert_eq!(failure.class, Class::CredentialMissing);
        assert!(failure.fix.contains("key app"), "{}", failure.fix);
        assert_eq!(sent(&[&["key", "app"]], Some(r#"{"key":"a","app":"b"}"#)).unwrap(), ["x-api-key: a", "x-app-key: b"]);
    }

    #[test]
    fn a_secret_never_goes_into_a_url_or_a_cookie() {
        for scheme in ["query", "cookie", "undefined"] {
            assert_eq!(sent(&[&[scheme]], Some("k1")).unwrap_err().class, Class::Unsupported, "{scheme}");
        }
        assert_eq!(sent(&[&["query"], &["key"]], Some("k1")).unwrap(), ["x-api-key: k1"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let failure = sent(&[&["bearer"]], None).unwrap_err();
        assert_eq!((failure.class, failure.detail.as_str()), (Class::CredentialMissing, "bearer"));
        assert!(
            sent(&[&["oauth"]], Some(r#"{"client_id":"i","client_secret":"s"}"#))
                .unwrap_err()
                .fix
                .contains("does not request tokens")
        );
        assert_eq!(sent(&[&["basic"]], Some("no colon")).unwrap_err().class, Class::CredentialMissing);
        assert_eq!(sent(&[&["bearer"]], Some("a\r\nb: c")).unwrap_err().class, Class::CredentialMissing);
    }

    #[test]
    fn optional_security_uses_what_is_there() {
        assert!(sent(&[&["bearer"], &[]], None).unwrap().is_empty());
        assert_eq!(sent(&[&[], &["bearer"]], Some("t")).unwrap(), ["authorization: Bearer t"]);
        assert!(sent(&[], Some("t")).unwrap().is_empty());
    }
}
