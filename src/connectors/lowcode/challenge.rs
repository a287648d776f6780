//! The parameters of an authentication challenge such as `WWW-Authenticate` (RFC 9110, section 11.6.1). Pure.

/// Returns the parameter `name` of `challenge`. The value may be quoted. The name matches in any case.
#[must_use]
pub fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let (before, after) = rest.split_once('=')?;
        let key = before.rsplit([' ', ',', '\t']).find(|part| !part.is_empty()).unwrap_or_default();
        let after = after.trim_start();
        let (value, behind) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let (value, behind) = after.split_at(after.find([',', ' ']).unwrap_or(after.len()));
                (value.to_string(), behind)
            }
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value).filter(|value| !value.is_empty());
        }
        rest = behind;
    }
}

/// Returns the text up to the closing quote, without its escapes, and what follows. A text without a closing quote ends with
/// the challenge.
fn unquoted(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_of_challenges_are_found() {
        // The header of Okta as okta/okta-sdk-golang#145 quotes it, and that of GitLab's Rack::OAuth2.
        let okta = r#"Bearer authorization_uri="http://acme.okta.com/oauth2/v1/authorize", realm="http://acme.okta.com", scope="okta.groups.read", error="insufficient_scope", error_description="The access token provided does not contain the required scopes.", resource="/api/v1/groups""#;
        assert_eq!(parameter(okta, "scope").as_deref(), Some("okta.groups.read"));
        assert_eq!(parameter(okta, "error").as_deref(), Some("insufficient_scope"));
        assert_eq!(parameter(okta, "Resource").as_deref(), Some("/api/v1/groups"));
        assert_eq!(parameter(okta, "nonce"), None);
        assert_eq!(parameter(r#"Bearer error=invalid_token, scope="a \"b\" c""#, "scope").as_deref(), Some(r#"a "b" c"#));
        assert_eq!(parameter("Bearer error=invalid_token, scope=x", "error").as_deref(), Some("invalid_token"));
        for nothing in ["", "Bearer", "Basic realm=\"", "scope=", "=", "a=\"b", "Bearer scope=\"\""] {
            assert_eq!(parameter(nothing, "scope"), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_challenge_is_survived(challenge in "\\PC{0,60}", name in "[a-z]{1,6}") {
            let _ = parameter(&challenge, &name);
        }
    }
}
