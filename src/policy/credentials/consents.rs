//! What is asked for by a consent, and where: what the family states, replaced or narrowed by the policy.

use super::ConsentPolicy;
use crate::families::{OAuth, OAuthScope};
use std::collections::BTreeMap;
use url::Url;

/// The OAuth 2 server of a consent, and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentTerms {
    pub authorize_url: Url,
    pub token_url: Url,
    pub revoke_url: Option<Url>,
    pub issuer: Option<String>,
    /// The scopes to ask for. `about` is empty for a scope that only the policy names.
    pub scopes: Vec<OAuthScope>,
    pub separator: String,
    pub pkce: bool,
    /// Further parameters of the authorization request.
    pub parameters: BTreeMap<String, String>,
    pub given_by: Option<String>,
    pub resend: bool,
}

/// Why the entry of a consent cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsProblem {
    /// The key of the entry that is missing or not valid.
    pub key: &'static str,
    pub message: String,
    pub hint: String,
}

impl ConsentPolicy {
    /// Returns the terms of the consent. `oauth` is what its family states.
    ///
    /// The policy may replace every address, for a server that the company runs itself. It may only narrow the scopes of
    /// the family, because those are the least that AAM needs and nothing beyond them was reviewed as harmless. If the
    /// family states none, the list of the policy is the list.
    ///
    /// # Errors
    /// Returns every problem of the entry.
    pub fn terms(&self, oauth: Option<&OAuth>) -> Result<ConsentTerms, Vec<TermsProblem>> {
        let mut problems = Vec::new();
        let mut url = |key: &'static str, own: &Option<String>, template: Option<&String>, required: bool| {
            let found = match (own, template) {
                (Some(url), _) => Ok(Some(url.clone())),
                (None, Some(template)) => self.fill(template).map(Some),
                (None, None) => Ok(None),
            };
            let parsed = match found {
                Ok(Some(text)) => Url::parse(&text).map(Some).map_err(|error| {
                    let message = format!("the address {text} is not valid: {error}");
                    TermsProblem { key, message, hint: format!("write {key}, or correct values") }
                }),
                Ok(None) if required => Err(TermsProblem {
                    key,
                    message: format!("the key {key} is missing: {} has no OAuth 2 server of its own", self.family),
                    hint: format!("write {key}: https://..., as the documentation of the server shows it"),
                }),
                Ok(None) => Ok(None),
                Err(name) => Err(TermsProblem {
                    key: "values",
                    message: format!("the value {name} is missing, which an address of {} contains", self.family),
                    hint: format!("write values: {{{name}: ...}}"),
                }),
            };
            parsed.unwrap_or_else(|problem| {
                problems.push(problem);
                None
            })
        };
        let authorize_url = url("authorize_url", &self.authorize_url, oauth.map(|oauth| &oauth.authorize_url), true);
        let token_url = url("token_url", &self.token_url, oauth.map(|oauth| &oauth.token_url), true);
        // The revocation endpoint and the issuer of the family belong to the family's own server.
        let own_server = self.token_url.is_some();
        let family = oauth.filter(|_| !own_server);
        let revoke_url = url("revoke_url", &self.revoke_url, family.and_then(|oauth| oauth.revoke_url.as_ref()), false);
        let issuer = match (&self.issuer, family.and_then(|oauth| oauth.issuer.as_ref())) {
            (Some(issuer), _) => Some(issuer.clone()),
            (None, Some(template)) => self.fill(template).ok(),
            (None, None) => None,
        };
        let scopes = self.asked_scopes(oauth).unwrap_or_else(|problem| {
            problems.push(problem);
            Vec::new()
        });
        problems.extend(self.unused_values(oauth));
        problems.dedup();
        match (authorize_url, token_url) {
            (Some(authorize_url), Some(token_url)) if problems.is_empty() => Ok(ConsentTerms {
                authorize_url,
                token_url,
                revoke_url,
                issuer,
                scopes,
                separator: oauth.map_or(" ", |oauth| &oauth.separator).to_string(),
                pkce: oauth.is_none_or(|oauth| oauth.pkce) || own_server,
                parameters: oauth.map(|oauth| oauth.parameters.clone()).unwrap_or_default(),
                given_by: oauth.and_then(|oauth| oauth.given_by.clone()),
                resend: family.is_some_and(|oauth| oauth.resend),
            }),
            _ => Err(problems),
        }
    }

    fn asked_scopes(&self, oauth: Option<&OAuth>) -> Result<Vec<OAuthScope>, TermsProblem> {
        let problem = |message, hint| TermsProblem { key: "scopes", message, hint };
        let Some(own) = &self.scopes else {
            return oauth.map(|oauth| oauth.scopes.clone()).ok_or_else(|| {
                let message = format!("the key scopes is missing: {} has no list of least scopes", self.family);
                problem(message, "write the scopes that only read what AAM needs".to_string())
            });
        };
        if own.is_empty() {
            return Err(problem("the list is empty".to_string(), "write at least one scope, or remove the key".to_string()));
        }
        let Some(oauth) = oauth else {
            return Ok(own.iter().map(|name| OAuthScope { name: name.clone(), about: String::new() }).collect());
        };
        let known = || oauth.scopes.iter().chain(&oauth.more_scopes);
        let all: Vec<&str> = known().map(|scope| scope.name.as_str()).collect();
        match own.iter().find(|name| !all.contains(&name.as_str())) {
            Some(wide) => Err(problem(
                format!("{wide} is not one of the scopes of {}, which the policy can only narrow", self.family),
                format!("remove it; the scopes are {}", all.join(", ")),
            )),
            None => Ok(known().filter(|scope| own.contains(&scope.name)).cloned().collect()),
        }
    }

    /// A value that no address of the family contains is most likely mistyped.
    fn unused_values(&self, oauth: Option<&OAuth>) -> Option<TermsProblem> {
        let templates: Vec<&str> = oauth.map_or(Vec::new(), |oauth| {
            let optional = [oauth.revoke_url.as_deref(), oauth.issuer.as_deref()].into_iter().flatten();
            [oauth.authorize_url.as_str(), oauth.token_url.as_str()].into_iter().chain(optional).collect()
        });
        let used = |name: &String| templates.iter().any(|template| template.contains(&format!("{{{name}}}")));
        let unused = self.values.keys().find(|name| !used(name))?;
        let message = format!("no address of {} contains the value {unused}", self.family);
        Some(TermsProblem { key: "values", message, hint: "correct its name, or remove it".to_string() })
    }

    /// Fills the values into an address of the family. Returns the name of the first missing value as the error.
    fn fill(&self, template: &str) -> Result<String, String> {
        let (mut out, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').unwrap_or((after, ""));
            out.push_str(before);
            out.push_str(self.values.get(name).ok_or_else(|| name.to_string())?);
            rest = behind;
        }
        Ok(out + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oauth() -> OAuth {
        let scope = |name: &str| serde_json::json!({"name": name, "about": format!("reads {name}")});
        serde_json::from_value(serde_json::json!({
            "authorize_url": "https://login.example/{tenant}/authorize", "token_url": "https://login.example/{tenant}/token",
            "revoke_url": "https://login.example/{tenant}/revoke", "issuer": "https://login.example/{tenant}",
            "scopes": [scope("a"), scope("b")], "source": "[-] a test"
        }))
        .unwrap()
    }

    fn policy(change: impl FnOnce(&mut ConsentPolicy)) -> ConsentPolicy {
        let mut policy = ConsentPolicy {
            family: "acme".to_string(),
            client_id: "id".to_string(),
            client_secret: None,
            auth: None,
            redirect: "https://aam.example/consent/callback".to_string(),
            scopes: None,
            authorize_url: None,
            token_url: None,
            revoke_url: None,
            issuer: None,
            values: BTreeMap::new(),
        };
        change(&mut policy);
        policy
    }

    fn tenant(policy: &mut ConsentPolicy) {
        policy.values.insert("tenant".to_string(), "t1".to_string());
    }

    #[test]
    fn the_addresses_of_the_family_are_filled_and_the_scopes_are_those_of_the_family() {
        let terms = policy(tenant).terms(Some(&oauth())).unwrap();
        assert_eq!(terms.token_url.as_str(), "https://login.example/t1/token");
        assert_eq!(terms.issuer.as_deref(), Some("https://login.example/t1"));
        assert_eq!(terms.scopes, oauth().scopes);
    }

    #[test]
    fn the_policy_narrows_scopes_and_never_widens_them() {
        let scopes = |list: &'static [&'static str]| {
            policy(|policy| {
                tenant(policy);
                policy.scopes = Some(list.iter().map(ToString::to_string).collect());
            })
            .terms(Some(&oauth()))
        };
        assert_eq!(scopes(&["b"]).unwrap().scopes.len(), 1);
        let mut of_teams = oauth();
        of_teams.more_scopes = vec![OAuthScope { name: "team".to_string(), about: "Reads the team.".to_string() }];
        let mut team = policy(tenant);
        assert_eq!(
            team.terms(Some(&of_teams)).unwrap().scopes,
            oauth().scopes,
            "they are not asked for unless the policy names them"
        );
        team.scopes = Some(vec!["team".to_string()]);
        assert_eq!(team.terms(Some(&of_teams)).unwrap().scopes, of_teams.more_scopes);
        let refused = scopes(&["b", "write"]).unwrap_err();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].message.contains("write is not one of the scopes") && refused[0].hint.contains("a, b"), "{refused:?}");
        assert_eq!(scopes(&[]).unwrap_err()[0].key, "scopes");
    }

    #[test]
    fn a_family_without_a_server_needs_addresses_and_scopes() {
        let keys: Vec<&str> = policy(|_| {}).terms(None).unwrap_err().iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["authorize_url", "token_url", "scopes"]);
        let own = policy(|policy| {
            policy.authorize_url = Some("https://own.example/authorize".to_string());
            policy.token_url = Some("https://own.example/token".to_string());
            policy.scopes = Some(vec!["read".to_string()]);
        });
        let terms = own.terms(None).unwrap();
        assert!(terms.pkce && terms.scopes[0].name == "read");
    }

    #[test]
    fn a_server_of_the_company_replaces_the_revocation_endpoint_and_the_issuer_too() {
        let own = policy(|policy| {
            policy.authorize_url = Some("https://own.example/authorize".to_string());
            policy.token_url = Some("https://own.example/token".to_string());
        });
        let terms = own.terms(Some(&oauth())).unwrap();
        assert_eq!((terms.revoke_url, terms.issuer), (None, None));
    }

    #[test]
    fn a_value_that_is_missing_or_not_used_is_named() {
        let missing = policy(|_| {}).terms(Some(&oauth())).unwrap_err();
        assert!(missing.iter().all(|problem| problem.key == "values" && problem.message.contains("tenant")), "{missing:?}");
        let unused = policy(|policy| {
            tenant(policy);
            policy.values.insert("tenat".to_string(), "t".to_string());
        });
        assert!(unused.terms(Some(&oauth())).unwrap_err()[0].message.contains("tenat"));
    }
}
