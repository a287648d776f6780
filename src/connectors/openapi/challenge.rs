//! Sends a credential in the way that a service names in `WWW-Authenticate`, for descriptions that do not say how.

use super::address::host_of;
use super::auth::{CallAuth, Scheme, for_scheme};
use super::classify;
use super::parameters::is_header;
use super::settings::ServiceSettings;
use crate::credentials::Credential;
use crate::credentials::redact;
use crate::egress::HttpResponse;
use crate::model::{Class, Failure};

/// Schemes whose credentials are computed from a challenge or a key, so that a secret cannot be sent as it is (IANA HTTP
/// Authentication Scheme Registry, and the usual vendor schemes).
const COMPUTED: &[&str] = &[
    "digest",
    "ntlm",
    "negotiate",
    "kerberos",
    "hoba",
    "mutual",
    "dpop",
    "gnap",
    "vapid",
    "concealed",
    "privatetoken",
    "hawk",
    "signature",
    "hmac",
];

/// Whether a scheme may be sent as its name and the secret.
fn is_plain_scheme(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let computed = COMPUTED.contains(&lower.as_str()) || ["scram", "aws4", "hmac"].iter().any(|start| lower.starts_with(start));
    !computed && !matches!(lower.as_str(), "basic" | "bearer") && name.len() <= 40 && is_header(name, "")
}

/// Builds the headers in the way that the challenge of `answer` names: Bearer, Basic, or another scheme that is followed by
/// the secret, such as Token. If it names Bearer and Basic, Basic is used for a credential with a user name. Returns `None` if
/// there is no such way, or if the credential does not fit it.
#[must_use]
pub fn by_challenge(answer: &HttpResponse, credential: &Credential) -> Option<CallAuth> {
    let named = named_schemes(answer);
    let has = |name: &str| named.iter().any(|scheme| scheme.eq_ignore_ascii_case(name));
    let has_user =
        credential.any(&["username", "user"]).is_some() || credential.plain().is_some_and(|plain| plain.expose().contains(':'));
    let order = if has_user {
        [("Basic", Scheme::Basic), ("Bearer", Scheme::Bearer)]
    } else {
        [("Bearer", Scheme::Bearer), ("Basic", Scheme::Basic)]
    };
    let standard = order.into_iter().filter(|(name, _)| has(name)).map(|(name, scheme)| (name.to_string(), scheme));
    let others = named.iter().filter(|name| is_plain_scheme(name)).map(|name| (name.clone(), Scheme::Named(name.clone())));
    standard.chain(others).find_map(|(name, scheme)| {
        let header = for_scheme(&scheme, credential)?;
        Some(CallAuth { headers: vec![header], schemes: vec![format!("{name} of WWW-Authenticate")], ..CallAuth::default() })
    })
}

/// The failure for a service that refuses a call without a credential, if it is not known how to send one.
#[must_use]
pub fn unknown_way(answer: &HttpResponse, what: &str, settings: &ServiceSettings) -> Failure {
    let named: Vec<String> = named_schemes(answer).iter().map(|name| redact::scrub_and_cut(name, 40)).collect();
    let reason = match named.as_slice() {
        [] => "neither its description nor its response says how to send one".to_string(),
        named => format!("it asks for {}, in which AAM cannot send this one", named.join(" or ")),
    };
    if named.iter().any(|name| name.eq_ignore_ascii_case("basic")) {
        return Failure::new(
            Class::CredentialMissing,
            format!(
                "{} requires a user name and a password for {what}, but the credential does not have both",
                host_of(&answer.url)
            ),
            "store user:password, or JSON with username and password, where credential_locator points",
        )
        .detail(classify::response_detail(answer));
    }
    Failure::new(
        Class::Misconfigured,
        format!("{} requires a credential for {what}, but {reason}", host_of(&answer.url)),
        format!(
            "find out how the service expects the credential (auth: bearer, auth: basic, or the name of a header) and {}",
            settings.fix("auth: {header: X-Api-Key}")
        ),
    )
    .detail(classify::response_detail(answer))
}

/// The schemes of all challenges in a response (RFC 9110, section 11.6.1).
#[must_use]
pub fn named_schemes(answer: &HttpResponse) -> Vec<String> {
    let challenges = answer.headers.iter().filter(|(name, _)| name == "www-authenticate");
    challenges.flat_map(|(_, value)| schemes_of(value)).collect()
}

fn schemes_of(value: &str) -> Vec<String> {
    // Quoted text, such as a realm, may contain commas and the names of schemes.
    let bare: String = value.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    bare.split(',')
        .filter(|part| !part.split_whitespace().nth(1).is_some_and(|next| next.starts_with('=')))
        .filter_map(|part| part.split_whitespace().next())
        .filter(|name| !name.contains('=') && !name.contains('"'))
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Secret;
    use url::Url;

    fn sent(challenges: &[&str], credential: &str) -> Option<String> {
        let headers = challenges.iter().map(|value| ("www-authenticate".to_string(), (*value).to_string())).collect();
        let url = Url::parse("https://a.example/").unwrap();
        let answer = HttpResponse { status: 401, headers, body: Vec::new().into(), url };
        let auth = by_challenge(&answer, &Credential::read(Secret::new(credential.into())))?;
        Some(auth.headers[0].1.expose().to_string())
    }

    #[test]
    fn a_challenge_names_the_scheme() {
        let basic = Some("Basic dTpw".to_string());
        assert_eq!(sent(&["Bearer"], "t"), Some("Bearer t".into()));
        assert_eq!(sent(&["bearer realm=\"x, Basic y\", error=\"invalid_token\""], "u:p"), Some("Bearer u:p".into()));
        assert_eq!(sent(&["Negotiate, Basic realm=\"x\""], "u:p"), basic);
        assert_eq!(sent(&["Bearer", "Basic realm=x"], "u:p"), basic);
        assert_eq!(sent(&["Basic realm=x, Bearer"], "t"), Some("Bearer t".into()));
        assert_eq!(sent(&["Basic realm=x"], r#"{"username":"u","password":"p"}"#), basic);
        assert_eq!(sent(&["Basic realm=x"], "t"), None);
        assert_eq!(sent(&["Token", "Digest realm=x, nonce=y"], "t"), Some("Token t".into()));
        assert_eq!(sent(&["Token realm=\"api\""], "token t"), Some("Token t".into()));
        assert_eq!(sent(&["ApiKey"], r#"{"api_key":"k"}"#), Some("ApiKey k".into()));
        assert_eq!(sent(&["Token, Bearer"], "t"), Some("Bearer t".into()));
        for computed in ["Digest realm=x, nonce = y", "NTLM", "Negotiate", "HOBA max-age=1", "Mutual", "SCRAM-SHA-256 realm=x"] {
            assert_eq!(sent(&[computed], "t"), None, "{computed}");
        }
        assert_eq!(sent(&[], "t"), None);
    }
}
