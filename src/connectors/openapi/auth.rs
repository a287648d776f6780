//! Turns `securitySchemes` and a credential into request headers. Secrets are sent only in headers, never in a URL.

use super::operations::SecurityRequirement;
use super::parameters::is_header;
use super::refs::{DocumentSet, Node};
use super::settings::ServiceSettings;
use crate::credentials::redact;
use crate::credentials::{Credential, Secret};
use crate::model::{Class, Failure};
use crate::policy::ServiceAuth;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;

/// The authentication of one call.
#[derive(Clone, Debug, Default)]
pub struct CallAuth {
    pub headers: Vec<(String, Secret)>,
    /// The names of the schemes that are used, for messages; empty for a call without a credential.
    pub schemes: Vec<String>,
    /// The scopes that the description requires.
    pub scopes: Vec<String>,
    /// Whether a scheme is oauth2 or openIdConnect; only these have scopes.
    pub scoped: bool,
}

/// How a credential is sent: one entry of `components.securitySchemes`, or what the policy or the service names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    Header(String),
    Bearer,
    Basic,
    /// oauth2 or openIdConnect. AAM uses an access token that has already been issued.
    Token,
    /// A scheme of the header `Authorization` with this name, followed by the secret.
    Named(String),
    /// A scheme that AAM does not support, with the reason.
    Unsupported(String),
}

/// Builds the headers for an operation with these security requirements. Uses the scheme that the policy names for this
/// service, otherwise the first requirement that the credential satisfies.
///
/// # Errors
/// `CredentialMissing`, naming the scheme; `Unsupported` if every requirement has a scheme that AAM does not support.
pub fn authorize(
    documents: &DocumentSet,
    requirements: &[SecurityRequirement],
    credential: Option<&Credential>,
    settings: &ServiceSettings,
) -> Result<CallAuth, Failure> {
    if let Some(auth) = credential.and_then(signed) {
        return Ok(auth);
    }
    if let Some(auth) = &settings.auth {
        if *auth == ServiceAuth::None {
            return Ok(CallAuth::default());
        }
        let sent = credential.and_then(|credential| by_policy(auth, credential));
        return sent.ok_or_else(|| unfit_for_policy(auth, credential, settings));
    }
    let mut missing = Vec::new();
    let mut unsupported = Vec::new();
    for requirement in requirements.iter().filter(|requirement| !requirement.is_empty()) {
        match satisfy(documents, requirement, credential) {
            Ok(auth) => return Ok(auth),
            Err(AuthProblem::Missing(message)) => missing.push(message),
            Err(AuthProblem::Unsupported(message)) => unsupported.push(message),
        }
    }
    // A scheme that is not defined says nothing, so the service decides, as if the description did not declare security.
    let undefined = requirements.iter().flatten().any(|(name, _)| declared(documents, name).is_none());
    if undefined || requirements.is_empty() || requirements.iter().any(Vec::is_empty) {
        return Ok(CallAuth::default());
    }
    if missing.is_empty() {
        return Err(Failure::new(
            Class::Unsupported,
            "the service requires authentication that AAM does not support",
            format!(
                "ask the owner of the service whether it accepts the key in a header or as a bearer token; if it does, {}",
                settings.fix("auth: {header: X-Api-Key}")
            ),
        )
        .detail(unsupported.join("; ")));
    }
    let needed = missing.join("; or ");
    Err(missing_secret(credential, &needed, settings)
        .detail(requirements.iter().map(scheme_names).collect::<Vec<_>>().join(" or ")))
}

/// The failure for a credential that does not exist or does not have the secret `needed`.
fn missing_secret(credential: Option<&Credential>, needed: &str, settings: &ServiceSettings) -> Failure {
    let unfit = "not satisfy any security requirement of the service";
    let (title, fix) = match credential {
        None => (
            "the description requires a credential, but the intent does not name one".to_string(),
            format!(
                "set credential_locator, for example env:SERVICE_TOKEN, to {needed}; if the service does not need one, {}",
                settings.fix("auth: none")
            ),
        ),
        Some(credential) => {
            let title = match credential.plain() {
                Some(_) => format!("the credential is a plain value, which does {unfit}"),
                None => format!("the credential has the fields {}, which do {unfit}", credential.field_names().join(", ")),
            };
            (title, format!("store where credential_locator points {needed}"))
        }
    };
    Failure::new(Class::CredentialMissing, title, fix)
}

/// The failure for a credential that cannot be sent in the way that the policy names.
fn unfit_for_policy(auth: &ServiceAuth, credential: Option<&Credential>, settings: &ServiceSettings) -> Failure {
    let needed = match auth {
        ServiceAuth::Basic => "user:password, or JSON with username and password".to_string(),
        ServiceAuth::Bearer | ServiceAuth::None => "the bearer token, or JSON with the field token".to_string(),
        ServiceAuth::Header(name) => format!("the value for the header {name}, or JSON with the field api_key"),
    };
    missing_secret(credential, &needed, settings)
        .detail(format!("the policy sends the credential of this service as {}", auth.message()))
}

/// Builds the headers in the way that the policy names. Returns `None` if the credential does not have what it needs.
#[must_use]
pub fn by_policy(auth: &ServiceAuth, credential: &Credential) -> Option<CallAuth> {
    let scheme = match auth {
        ServiceAuth::None => return None,
        ServiceAuth::Bearer => Scheme::Bearer,
        ServiceAuth::Basic => Scheme::Basic,
        ServiceAuth::Header(name) => Scheme::Header(name.clone()),
    };
    let header = for_scheme(&scheme, credential)?;
    Some(CallAuth { headers: vec![header], schemes: vec![format!("{} of the policy", auth.message())], ..CallAuth::default() })
}

/// The authentication of a credential that signs requests: the session adds the signature, whatever the description says.
#[must_use]
pub fn signed(credential: &Credential) -> Option<CallAuth> {
    let signer = credential.signer()?;
    Some(CallAuth { schemes: vec![format!("{} signature", signer.scheme())], ..CallAuth::default() })
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
            Scheme::Named(_) => format!("the token (scheme {name})"),
            Scheme::Unsupported(reason) => reason.clone(),
        };
    }
    let mut text = "JSON with one field per scheme:".to_string();
    for (name, _) in schemes {
        let _ = write!(text, " {name}");
    }
    text
}

/// The definition of a security scheme. Returns `None` if the description does not define it, or if it is a `$ref` that cannot be resolved.
fn declared<'a>(documents: &'a DocumentSet, name: &str) -> Option<Node<'a>> {
    let schemes = documents.root().get("components").and_then(|node| node.get("securitySchemes"));
    schemes.and_then(|node| node.get(name)).and_then(|node| documents.follow(node).ok())
}

fn scheme(documents: &DocumentSet, name: &str) -> Scheme {
    let Some(node) = declared(documents, name) else {
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
        Scheme::Named(name) => one(&TOKEN_FIELDS).or_else(|| one(&KEY_FIELDS)).map(|text| {
            let prefixed = text.split_once(' ').filter(|(first, _)| first.eq_ignore_ascii_case(name));
            let bare = prefixed.map_or(text, |(_, rest)| rest.trim());
            ("authorization".to_string(), Secret::new(format!("{name} {bare}")))
        }),
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

/// The authentication with the only scheme of the description that the credential satisfies. It is for operations whose
/// `security` is missing although the description defines schemes. Returns `None` if there are several such schemes.
#[must_use]
pub fn only_declared(documents: &DocumentSet, credential: &Credential) -> Option<CallAuth> {
    let declared = documents.root().get("components").and_then(|node| node.get("securitySchemes"))?;
    let mut found = declared
        .fields()
        .filter_map(|(name, _)| satisfy(documents, &vec![(name.to_string(), Vec::new())], Some(credential)).ok());
    found.next().filter(|_| found.next().is_none())
}

/// The header for a scheme that the description does not declare. Returns `None` if the credential does not have what the
/// scheme needs, or has a value that is not valid in a header.
#[must_use]
pub fn for_scheme(scheme: &Scheme, credential: &Credential) -> Option<(String, Secret)> {
    header(scheme, "", credential, true).filter(|(name, value)| is_header(name, value.expose()))
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
            "dangling": {"$ref": "#/components/securitySchemes/gone"},
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
        let auth = authorize(&documents(), &requirements(list), credential.as_ref(), &ServiceSettings::default())?;
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
        for scheme in ["query", "cookie"] {
            assert_eq!(sent(&[&[scheme]], Some("k1")).unwrap_err().class, Class::Unsupported, "{scheme}");
        }
        assert_eq!(sent(&[&["query"], &["key"]], Some("k1")).unwrap(), ["x-api-key: k1"]);
    }

    #[test]
    fn an_undefined_scheme_counts_as_undeclared() {
        for scheme in ["undefined", "dangling"] {
            assert!(sent(&[&[scheme]], Some("k1")).unwrap().is_empty(), "{scheme}");
            assert!(sent(&[&[scheme]], None).unwrap().is_empty(), "{scheme}");
            assert_eq!(sent(&[&[scheme], &["key"]], Some("k1")).unwrap(), ["x-api-key: k1"], "{scheme}");
        }
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

    #[test]
    fn the_policy_names_the_scheme() {
        let sent = |auth: &ServiceAuth, credential: &str| {
            let auth = by_policy(auth, &Credential::read(Secret::new(credential.into())))?;
            Some(format!("{}: {}", auth.headers[0].0, auth.headers[0].1.expose()))
        };
        assert_eq!(sent(&ServiceAuth::Header("X-Api-Key".into()), "k"), Some("x-api-key: k".into()));
        assert_eq!(sent(&ServiceAuth::Header("Authorization".into()), "Token k"), Some("authorization: Token k".into()));
        assert_eq!(sent(&ServiceAuth::Bearer, r#"{"token":"t"}"#), Some("authorization: Bearer t".into()));
        assert_eq!(sent(&ServiceAuth::Basic, "u:p"), Some("authorization: Basic dTpw".into()));
        assert_eq!(sent(&ServiceAuth::Basic, "t"), None);
    }
}
