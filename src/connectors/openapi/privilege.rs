//! Determines what the credential may do beyond reading, as far as this is possible without trying it.

use super::auth::CallAuth;
use super::operations::{Operations, SecurityRequirement};
use crate::model::Privilege;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::collections::BTreeSet;

/// Determines the privilege of the credential that `auth` sends. `has_credential` is false if the intent does not name one.
///
/// This is possible only for a token that names its scopes, in `scope` (RFC 9068) or in `scp` (Microsoft Entra). API keys
/// and passwords do not reveal their permissions.
#[must_use]
pub fn assess(auth: &CallAuth, operations: &Operations, has_credential: bool) -> Privilege {
    if auth.schemes.is_empty() {
        let reason = if has_credential {
            "the description does not require a credential for the operations that AAM reads, so its rights were not checked"
        } else {
            "the operations that AAM reads do not need a credential, so its rights were not checked"
        };
        return Privilege::Unknown { reason: reason.into() };
    }
    let covers = |requirements: &Vec<SecurityRequirement>| {
        requirements
            .iter()
            .any(|requirement| !requirement.is_empty() && requirement.iter().all(|(name, _)| auth.schemes.contains(name)))
    };
    let writing = operations.writing.iter().filter(|requirements| covers(requirements)).count();
    if let Some(granted) = auth.scoped.then(|| token_scopes(auth)).flatten() {
        return assess_scopes(&granted, auth, operations);
    }
    let mut reason =
        format!("the service does not report the rights of a credential of the scheme {}", auth.schemes.join(" and "));
    if writing > 0 {
        let operations = if writing == 1 { "operation" } else { "operations" };
        reason.push_str(&format!(
            ", and the description has {writing} writing {operations} for it; give AAM a credential that can only read"
        ));
    }
    Privilege::Unknown { reason }
}

fn assess_scopes(granted: &BTreeSet<String>, auth: &CallAuth, operations: &Operations) -> Privilege {
    let named = |requirements: &mut dyn Iterator<Item = &SecurityRequirement>| -> BTreeSet<String> {
        requirements
            .flatten()
            .filter(|(name, _)| auth.schemes.contains(name))
            .flat_map(|(_, scopes)| scopes.iter().cloned())
            .collect()
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
        "the description requires the same scopes for reading and for writing".to_string()
    } else {
        format!("the scopes of the token ({}) are not the ones that the description requires for reading", unexplained.join(", "))
    };
    Privilege::Unknown { reason }
}

/// The scopes in the claims of a JWT. AAM does not verify the signature, because the service does.
fn token_scopes(auth: &CallAuth) -> Option<BTreeSet<String>> {
    let token = auth.headers.iter().find_map(|(_, value)| value.expose().strip_prefix("Bearer "))?;
    let payload = token.split('.').nth(1).filter(|_| token.matches('.').count() == 2)?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    let claim = claims.get("scope").or_else(|| claims.get("scp"))?;
    let split = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    Some(match claim {
        Value::String(text) => split(text).into_iter().collect(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).flat_map(split).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::openapi::operations::{Obstacle, Operation, Uncallable};
    use crate::connectors::openapi::side_effects::NameRisk;
    use crate::credentials::Secret;
    use serde_json::json;

    fn requirements(scopes: &[&str]) -> Vec<SecurityRequirement> {
        vec![vec![("oauth".to_string(), scopes.iter().map(|scope| (*scope).to_string()).collect())]]
    }

    fn judge(claims: &Value) -> Privilege {
        let token = format!("Bearer e30.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let auth = CallAuth {
            headers: vec![("authorization".into(), Secret::new(token))],
            schemes: vec!["oauth".into()],
            scopes: vec![],
            scoped: true,
        };
        let get = Operation {
            name: "a".into(),
            path: "/a".into(),
            call: Err(Uncallable::new(Obstacle::Request, "")),
            limit: None,
            security: requirements(&["read"]),
            answer: None,
            marked: false,
            deprecated: false,
            named_like_a_list: false,
            risk: NameRisk::Harmless,
        };
        assess(&auth, &Operations { list: vec![get], writing: vec![requirements(&["write"])], ..Operations::default() }, true)
    }

    #[test]
    fn scopes_of_a_token_are_assessed() {
        assert_eq!(judge(&json!({"scope": "read"})), Privilege::Ok);
        assert_eq!(judge(&json!({"scp": ["read", "write"]})), Privilege::Over { grants: vec!["write".into()] });
        assert!(matches!(judge(&json!({"scope": "read other"})), Privilege::Unknown { .. }));
        assert!(matches!(judge(&json!({"scope": ""})), Privilege::Unknown { .. }));
        assert!(matches!(judge(&json!({"sub": "x"})), Privilege::Unknown { reason } if reason.contains("1 writing operation ")));
    }

    #[test]
    fn an_open_service_is_unknown() {
        assert!(matches!(assess(&CallAuth::default(), &Operations::default(), false), Privilege::Unknown { .. }));
    }
}
