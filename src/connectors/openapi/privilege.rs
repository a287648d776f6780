//! What the credential may do beyond reading, as far as anybody can tell without trying.

use super::auth::Auth;
use super::operations::{Operations, Way};
use crate::model::Privilege;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeSet;

/// The verdict for the credential that `auth` sends.
///
/// Only a token that names its scopes (`scope` of RFC 9068, `scp` as Microsoft Entra writes it) can be judged; keys and
/// passwords cannot be asked.
#[must_use]
pub fn verdict(auth: &Auth, operations: &Operations) -> Privilege {
    if auth.schemes.is_empty() {
        return Privilege::Unknown {
            reason: "the operations that are read ask for no credential, so there are no rights to ask about".into(),
        };
    }
    let covers =
        |ways: &Vec<Way>| ways.iter().any(|way| !way.is_empty() && way.iter().all(|(name, _)| auth.schemes.contains(name)));
    let writing = operations.writing.iter().filter(|ways| covers(ways)).count();
    if let Some(granted) = auth.scoped.then(|| granted(auth)).flatten() {
        return scopes(&granted, auth, operations);
    }
    let mut reason =
        format!("the service offers no way to ask what a credential of the scheme {} may do", auth.schemes.join(" and "));
    if writing > 0 {
        reason.push_str(&format!(
            ", and the description has {writing} writing operations under it; give AAM a credential that may only read"
        ));
    }
    Privilege::Unknown { reason }
}

fn scopes(granted: &BTreeSet<String>, auth: &Auth, operations: &Operations) -> Privilege {
    let named = |ways: &mut dyn Iterator<Item = &Way>| -> BTreeSet<String> {
        ways.flatten().filter(|(name, _)| auth.schemes.contains(name)).flat_map(|(_, scopes)| scopes.iter().cloned()).collect()
    };
    let read = named(&mut operations.list.iter().flat_map(|operation| &operation.security));
    let write = named(&mut operations.writing.iter().flatten());
    let over: Vec<String> = granted.iter().filter(|scope| write.contains(*scope) && !read.contains(*scope)).cloned().collect();
    if !over.is_empty() {
        return Privilege::Over { grants: over };
    }
    let unexplained: Vec<&str> = granted.iter().filter(|scope| !read.contains(*scope)).map(String::as_str).collect();
    let shared = granted.iter().any(|scope| write.contains(scope));
    if unexplained.is_empty() && !shared && !granted.is_empty() {
        return Privilege::Ok;
    }
    let reason = if shared {
        "the description asks for the same scopes to read and to write".to_string()
    } else {
        format!("the token's scopes ({}) are not those that the description names for reading", unexplained.join(", "))
    };
    Privilege::Unknown { reason }
}

/// The scopes that a JWT names. It is not verified: the service does that; this only reads along.
fn granted(auth: &Auth) -> Option<BTreeSet<String>> {
    let token = auth.headers.iter().find_map(|(_, value)| value.expose().strip_prefix("Bearer "))?;
    let payload = token.split('.').nth(1).filter(|_| token.matches('.').count() == 2)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    let claim = claims.get("scope").or_else(|| claims.get("scp"))?;
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    Some(match claim {
        Value::String(text) => words(text).into_iter().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).flat_map(words).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::openapi::operations::Operation;
    use crate::credentials::Secret;
    use serde_json::json;

    fn ways(scopes: &[&str]) -> Vec<Way> {
        vec![vec![("oauth".to_string(), scopes.iter().map(|scope| (*scope).to_string()).collect())]]
    }

    fn judge(claims: &Value) -> Privilege {
        let token = format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let auth = Auth {
            headers: vec![("authorization".into(), Secret::new(token))],
            schemes: vec!["oauth".into()],
            scopes: vec![],
            scoped: true,
        };
        let get = Operation {
            name: "a".into(),
            path: "/a".into(),
            call: Err(String::new()),
            limit: None,
            security: ways(&["read"]),
            answer: None,
            marked: false,
        };
        verdict(&auth, &Operations { list: vec![get], writing: vec![ways(&["write"])], ..Operations::default() })
    }

    #[test]
    fn scopes_of_a_token_are_judged() {
        assert_eq!(judge(&json!({"scope": "read"})), Privilege::Ok);
        assert_eq!(judge(&json!({"scp": ["read", "write"]})), Privilege::Over { grants: vec!["write".into()] });
        assert!(matches!(judge(&json!({"scope": "read other"})), Privilege::Unknown { .. }));
        assert!(matches!(judge(&json!({"scope": ""})), Privilege::Unknown { .. }));
        assert!(matches!(judge(&json!({"sub": "x"})), Privilege::Unknown { reason } if reason.contains("1 writing operations")));
    }

    #[test]
    fn an_open_service_is_unknown() {
        assert!(matches!(verdict(&Auth::default(), &Operations::default()), Privilege::Unknown { .. }));
    }
}
