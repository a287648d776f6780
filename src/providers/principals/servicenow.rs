//! What the refusals of ServiceNow's token endpoint mean for the kind `oauth2_client`: an instance answers several causes with
//! the same text, and none of their codes is the one that RFC 6749 has for it.
//!
//! Sources: servicenow.com/docs, "Client credentials" (Brazil) \[V\]; refractionPOINT/documentation#283 \[R\]; the answer
//! `server_error` with `access_denied` for a client that is not known is reported by many users \[K\].

use super::refusal::RefusalRule;
use super::token_request::TokenRefusal;
use url::Url;

const REFUSALS: &[RefusalRule] = &[
    RefusalRule::permission(
        &["access_denied"],
        &[],
        "{host} does not let the client {client_id} use the grant client_credentials",
        "ask the administrator of the instance to create the system property glide.oauth.inbound.client.credential.grant_type.enabled (true | false) with the value true, and check that the client is active; then aam heal",
    ),
    RefusalRule::permission(
        &["unauthorized_client"],
        &[],
        "the client {client_id} at {host} has no user to act as",
        "ask the administrator of the instance to choose the integration user as OAuth Application User of the client (System OAuth > Application Registry; add the field to the form if it is missing); then aam heal",
    ),
    RefusalRule::new(
        &["server_error", "invalid_client"],
        &["access_denied"],
        "{host} does not accept the client {client_id} with its secret",
        "check client_id and secret against System OAuth > Application Registry, that the client is active, and that its user is active and does not have the role snc_read_only, which blocks the tokens of OAuth; then aam heal",
    ),
];

/// Returns the rules for `refusal` if `endpoint` is the token endpoint of an instance and one of them is about its error.
#[must_use]
pub fn refusals(endpoint: &Url, refusal: &TokenRefusal) -> Option<&'static [RefusalRule]> {
    let known = REFUSALS.iter().any(|rule| {
        rule.errors.contains(&refusal.error.as_str())
            && (rule.texts.is_empty() || rule.texts.iter().any(|text| refusal.description.to_lowercase().contains(text)))
    });
    (endpoint.path().ends_with("/oauth_token.do") && known).then_some(REFUSALS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_an_instance_are_its_own() {
        let instance = Url::parse("https://acme.service-now.com/oauth_token.do").unwrap();
        let other = Url::parse("https://login.acme.example/oauth/token").unwrap();
        for (error, description, known) in [
            ("access_denied", "access_denied", true),
            ("unauthorized_client", "", true),
            ("server_error", "access_denied", true),
            ("server_error", "the database is down", false),
            ("invalid_scope", "access_denied", false),
        ] {
            let refusal = TokenRefusal {
                error: error.to_string(),
                description: description.to_string(),
                status: 401,
                ..TokenRefusal::default()
            };
            assert_eq!(refusals(&instance, &refusal).is_some(), known, "{error} {description}");
            assert!(refusals(&other, &refusal).is_none());
        }
    }
}
