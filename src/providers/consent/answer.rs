//! The vendor's answer at the callback: from its parameters to the stored grant.

use super::access::AccessToken;
use super::exchange::{Client, NoTokens, Tokens, ends_grant, quoted};
use super::format::{ClientAuth, GrantFacts, GrantToken, LinkUse, StoredGrant, StoredLink};
use super::keys::{StoreKeys, random_text};
use super::links::gone;
use super::scopes;
use super::settings::ConsentSettings;
use super::store::{Store, StoreError};
use super::types::{CallbackQuery, ConsentCode, ConsentGiven, ConsentProblem, LinkCode, LinkProblem, Proof, Prove};
use super::{ConsentContext, ConsentProvider, id_token, revoke, token_key};
use crate::credentials::redact::{self, AttemptSecrets};
use crate::credentials::{Credential, Secret};
use crate::fault;
use crate::model::{Class, Failure};
use crate::providers::CredentialRequest;
use crate::providers::cache::{Fetched, Reuse};
use crate::providers::principals::token_request::NoToken;
use std::sync::Arc;

/// What an answer is checked with.
struct Answer<'a> {
    context: &'a ConsentContext<'a>,
    link: StoredLink,
    request: CredentialRequest,
    settings: ConsentSettings,
    store: Arc<Store>,
    keys: Arc<StoreKeys>,
}

impl ConsentProvider {
    /// Ends the authorization with the parameters that the vendor gave to the callback: checks state, issuer and errors,
    /// exchanges the code, has the account proven by `prove`, and stores the grant only if it passed. Otherwise the tokens
    /// are discarded, and revoked if the vendor can do that; the link stays usable until its end.
    ///
    /// A server must run this in a task of its own: if the browser closes the connection, the code is spent nevertheless.
    ///
    /// # Errors
    /// Returns a [`ConsentProblem`].
    pub async fn complete(
        &self,
        context: &ConsentContext<'_>,
        query: &CallbackQuery,
        prove: Prove<'_>,
    ) -> Result<ConsentGiven, ConsentProblem> {
        let bad =
            |title: &str| ConsentProblem::new(ConsentCode::BadRequest, title, "open the consent link again and use its button");
        if query.repeated {
            return Err(bad("the answer of the vendor repeats a parameter, which RFC 6749 forbids"));
        }
        let Some(state) = &query.state else { return Err(bad("the answer of the vendor has no state")) };
        let content = self.store(&context.policy).read().await.map_err(|error| store_problem(&error))?;
        let Some((link, _)) = content.as_ref().and_then(|content| content.pending(state)) else { return Err(unknown_state()) };
        let (id, subject) = (link.id.clone(), link.facts.subject.clone());
        let work = async {
            let found = self.find_link(context, &id).await.map_err(link_problem)?;
            let (link, request, settings, store, keys) = (found.link, found.request, found.settings, found.store, found.keys);
            let answer = Answer { context, link, request, settings, store, keys };
            self.finish(&answer, state, query, prove).await
        };
        match AttemptSecrets::new(&subject.texts()).run(work).await {
            Ok(given) => Ok(given),
            Err(problem) => {
                let content = self.store(&context.policy).read().await.ok().flatten();
                let open = content.and_then(|content| Some(content.link(&id)?.is_open(context.providers.clock.now())));
                let link_id = Some(id).filter(|_| open == Some(true));
                Err(ConsentProblem { link_id, connection: Some(subject.connection), ..problem })
            }
        }
    }

    async fn finish(
        &self,
        answer: &Answer<'_>,
        state: &str,
        query: &CallbackQuery,
        prove: Prove<'_>,
    ) -> Result<ConsentGiven, ConsentProblem> {
        let (settings, request) = (&answer.settings, &answer.request);
        let secrets = answer.take(state).await?;
        fault::boundary("consent_after_state");
        if secrets.settings != settings.digest() {
            return Err(ConsentProblem::new(
                ConsentCode::Gone,
                format!("the policy changed credentials.consents.{} after the button was used", settings.name),
                "open the consent link again and use its button",
            ));
        }
        check_issuer(query, settings)?;
        if let Some(error) = &query.error {
            return Err(denied(error, query.error_description.as_deref().unwrap_or_default(), answer));
        }
        let Some(code) = query.code.as_ref().filter(|code| !code.expose().is_empty()) else {
            let fix = "open the consent link again and use its button";
            return Err(ConsentProblem::new(ConsentCode::BadRequest, "the answer of the vendor has no code", fix));
        };
        redact::learn_value(code.expose());
        let client = Client::new(answer.context.providers, request, settings).await.map_err(refused)?;
        let asked_at = answer.context.providers.clock.now();
        let (tokens, auth) = client.exchange(code, &secrets.verifier).await.map_err(|no| not_exchanged(&client, no))?;
        fault::boundary("consent_after_exchange");
        let access = AccessToken::new(&tokens, asked_at);
        match self.accept(answer, (&tokens, access), auth, &secrets.nonce, prove).await {
            Ok(given) => Ok(given),
            Err(problem) => Err(discarded(problem, &client, &tokens, auth).await),
        }
    }

    /// Checks and proves the tokens, and stores the grant.
    async fn accept(
        &self,
        answer: &Answer<'_>,
        (tokens, access): (&Tokens, AccessToken),
        auth: ClientAuth,
        nonce: &str,
        prove: Prove<'_>,
    ) -> Result<ConsentGiven, ConsentProblem> {
        let settings = &answer.settings;
        check_id_token(tokens, settings, nonce, answer.context)?;
        let asked: Vec<String> = settings.scopes().map(str::to_string).collect();
        let granted = tokens.scopes.clone().unwrap_or_else(|| asked.clone());
        let token = grant_token(tokens, settings)?;
        let subject = &answer.link.facts.subject;
        let proof = Proof {
            connection: subject.connection,
            namespace: subject.namespace.clone(),
            family: subject.family.clone(),
            resource_ids: subject.resource_ids.clone(),
            credential: Credential::read(tokens.access.clone()),
        };
        let proved = prove(proof).await.map_err(|failure| {
            let missing = scopes::missing(&asked, &granted);
            not_proven(failure, &missing, &settings.name, &subject.resource_ids)
        })?;
        fault::boundary("consent_after_proof");
        let facts = answer.grant_facts(tokens, auth, asked.clone(), granted.clone())?;
        let key = token_key(&facts);
        answer.save(facts, token, access).await?;
        // The attempt that follows uses this access token, also if another replica makes it.
        let fetched = Fetched { value: tokens.access.clone(), valid_for: tokens.valid_for };
        let _ = self.tokens.get(&key, &answer.request, Reuse::UntilEnd, || std::future::ready(Ok(fetched))).await;
        Ok(ConsentGiven {
            link_id: answer.link.id.clone(),
            connection: subject.connection,
            namespace: subject.namespace.clone(),
            family_title: settings.family.title.clone(),
            consent: settings.name.clone(),
            warning: scopes::warning(&settings.name, &asked, &granted, &settings.family),
            scopes: granted,
            evidence: proved.evidence,
        })
    }
}

impl Answer<'_> {
    /// Takes the authorization with `state` off the link, so that no other answer can use it, and returns its secrets.
    async fn take(&self, state: &str) -> Result<super::format::PendingSecrets, ConsentProblem> {
        let now = self.context.providers.clock.now();
        let (id, digest) = (self.link.id.clone(), crate::model::Digest::from_bytes(state.as_bytes()));
        let take = move |content: &mut super::format::StoreContent, keys: &StoreKeys| {
            let Some(link) = content.link_mut(&id) else { return Ok(None) };
            let Some(at) = link.pending.iter().position(|pending| pending.state == digest) else { return Ok(None) };
            let pending = link.pending.remove(at);
            Ok(link.secrets(keys, &pending).filter(|_| pending.is_valid(now)))
        };
        let taken = self.store.update(&self.keys, take).await.map_err(|error| store_problem(&error))?;
        if !self.link.is_open(now) {
            return Err(link_problem(gone(&self.link, now)));
        }
        taken.ok_or_else(unknown_state)
    }

    fn grant_facts(
        &self,
        tokens: &Tokens,
        auth: ClientAuth,
        asked: Vec<String>,
        scopes: Vec<String>,
    ) -> Result<GrantFacts, ConsentProblem> {
        Ok(GrantFacts {
            id: random_text().map_err(|error| store_problem(&error.into()))?,
            version: 1,
            subject: self.link.facts.subject.clone(),
            client_id: self.settings.policy.client_id.clone(),
            token_url: self.settings.terms.token_url.to_string(),
            auth,
            asked,
            scopes,
            since: self.context.providers.clock.now(),
            refreshed: None,
            ends: tokens.refresh_ends,
            end_moves: false,
            rotates: None,
            sent: None,
        })
    }

    /// Stores the grant and marks the link as used, in one write.
    async fn save(&self, facts: GrantFacts, token: GrantToken, access: AccessToken) -> Result<(), ConsentProblem> {
        let (id, now, is_shared) = (self.link.id.clone(), facts.since, self.store.is_shared());
        let save = move |content: &mut super::format::StoreContent, keys: &StoreKeys| {
            let Some(link) = content.link_mut(&id).filter(|link| link.is_open(now)) else { return Ok(false) };
            link.used = LinkUse::Given(now);
            link.pending.clear();
            content.replace_links(facts.subject.connection, now);
            let grant = StoredGrant::new(keys, facts, &token)?;
            content.put_grant(if is_shared { grant.with_access(keys, &access)? } else { grant });
            Ok(true)
        };
        match self.store.update(&self.keys, save).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(link_problem(gone(&self.link, now))),
            Err(error) => Err(store_problem(&error)),
        }
    }
}

/// Checks the issuer of the answer (RFC 9207). Without a configured issuer, an answer that names one must name the host of the
/// server that was asked.
fn check_issuer(query: &CallbackQuery, settings: &ConsentSettings) -> Result<(), ConsentProblem> {
    let Some(found) = &query.iss else { return Ok(()) };
    let terms = &settings.terms;
    let right = match &terms.issuer {
        Some(issuer) => issuer.trim_end_matches('/') == found.trim_end_matches('/'),
        None => url::Url::parse(found)
            .is_ok_and(|found| [&terms.authorize_url, &terms.token_url].iter().any(|url| url.origin() == found.origin())),
    };
    if right {
        return Ok(());
    }
    let asked = terms.issuer.clone().unwrap_or_else(|| settings.vendor_host());
    Err(ConsentProblem::new(
        ConsentCode::WrongIssuer,
        format!("the answer comes from {:?}, not from {asked}", redact::scrub_and_cut(found, 200)),
        format!(
            "open the consent link again; if the vendor has this issuer, write it into the policy: credentials.consents.{}.issuer",
            settings.name
        ),
    ))
}

fn check_id_token(
    tokens: &Tokens,
    settings: &ConsentSettings,
    nonce: &str,
    context: &ConsentContext<'_>,
) -> Result<(), ConsentProblem> {
    let issuer = settings.terms.issuer.as_deref();
    let expected =
        id_token::Expected { issuer, client_id: &settings.policy.client_id, nonce, now: context.providers.clock.now() };
    let checked = match &tokens.id_token {
        Some(token) if settings.asks_for("openid") => id_token::check(token, &expected),
        None if settings.asks_for("openid") => Err("there is none, although openid was asked for".to_string()),
        _ => Ok(()),
    };
    checked.map_err(|reason| {
        let reason = redact::scrub_and_cut(&reason, 300);
        ConsentProblem::new(
            ConsentCode::WrongIssuer,
            format!("the ID token of the vendor is not valid: {reason}"),
            "open the consent link again and use its button; if it happens again, compare issuer and client_id in the policy with the vendor",
        )
    })
}

/// Returns what is stored: the refresh token, or an access token without an end.
fn grant_token(tokens: &Tokens, settings: &ConsentSettings) -> Result<GrantToken, ConsentProblem> {
    match (&tokens.refresh, tokens.valid_for) {
        (Some(refresh), _) => Ok(GrantToken::Refresh(refresh.clone())),
        (None, None) => Ok(GrantToken::Access(tokens.access.clone())),
        (None, Some(valid)) => Err(ConsentProblem::new(
            ConsentCode::TooFewScopes,
            format!(
                "the vendor issued no refresh token, so the consent would end in {}",
                crate::policy::duration_text::format(&valid)
            ),
            format!(
                "let the OAuth client of consent:{} use refresh tokens at the vendor, most often with the scope offline_access or the grant type refresh_token",
                settings.name
            ),
        )),
    }
}

/// Revokes the tokens of a consent that is not stored, and says so.
async fn discarded(problem: ConsentProblem, client: &Client<'_>, tokens: &Tokens, auth: ClientAuth) -> ConsentProblem {
    let token: &Secret = tokens.refresh.as_ref().unwrap_or(&tokens.access);
    let revoked = revoke::at_vendor(client, token, tokens.refresh.is_some(), auth).await;
    let note = match revoked {
        revoke::RevokedAtVendor::Revoked => "nothing was stored, and the tokens were revoked",
        _ => "nothing was stored, and the tokens were discarded",
    };
    let detail = if problem.detail.is_empty() { note.to_string() } else { format!("{}; {note}", problem.detail) };
    ConsentProblem { detail, ..problem }
}

/// The problem for an error that the vendor gave to the callback (RFC 6749, section 4.1.2.1; OpenID Connect Core, section
/// 3.1.2.6).
fn denied(error: &str, description: &str, answer: &Answer<'_>) -> ConsentProblem {
    let (error, description) = (redact::scrub_and_cut(error, 100), redact::scrub_and_cut(description, 500));
    let (settings, owner) = (&answer.settings, &answer.request.owner);
    let vendor = settings.vendor_host();
    // Entra: AADSTS65001 and AADSTS90094 ask for an administrator. Google: admin_policy_enforced and org_internal.
    let by_administrator = ["AADSTS65001", "AADSTS90094", "AADSTS900941"].iter().any(|code| description.contains(code))
        || matches!(error.as_str(), "admin_policy_enforced" | "consent_required" | "org_internal");
    let (code, title, fix) = match error.as_str() {
        _ if by_administrator => (
            ConsentCode::Denied,
            format!("{vendor} lets only an administrator give this consent"),
            format!(
                "send the link to {}, or have the OAuth client approved for the organization",
                settings.terms.given_by.as_deref().unwrap_or("an administrator of the organization")
            ),
        ),
        "access_denied" => (
            ConsentCode::Denied,
            format!("consent was not given: {vendor} reports that it was refused"),
            format!("nothing was stored; {owner} can use the link again at any time before it ends"),
        ),
        "server_error" | "temporarily_unavailable" => (
            ConsentCode::Vendor,
            format!("{vendor} could not handle the consent"),
            "nothing was stored; use the link again in some minutes".to_string(),
        ),
        "invalid_scope" => (
            ConsentCode::Denied,
            format!("{vendor} does not know a scope that was asked for, or does not allow it for the OAuth client"),
            format!(
                "allow these scopes for the OAuth client at the vendor: {}; or leave scopes out with credentials.consents.{}.scopes",
                settings.scopes().collect::<Vec<_>>().join(" "),
                settings.name
            ),
        ),
        "unauthorized_client" | "invalid_request" | "unsupported_response_type" | "invalid_client" => (
            ConsentCode::Refused,
            format!("{vendor} does not accept the request of the OAuth client"),
            format!(
                "compare client_id and redirect of credentials.consents.{} with the OAuth client at the vendor: it must allow the authorization code flow and exactly this callback: {}",
                settings.name, settings.policy.redirect
            ),
        ),
        _ => (
            ConsentCode::Denied,
            format!("{vendor} did not give consent"),
            "see the detail for the reason of the vendor; the link can be used again".to_string(),
        ),
    };
    let said = if description.is_empty() { format!("{error:?}") } else { format!("{error:?}, {description:?}") };
    ConsentProblem { detail: format!("the vendor says: {said}"), ..ConsentProblem::new(code, title, fix) }
}

fn not_exchanged(client: &Client<'_>, no: NoTokens) -> ConsentProblem {
    match no.reason {
        NoToken::Refused(refusal) if ends_grant(&refusal) => {
            let problem = ConsentProblem::new(
                ConsentCode::Refused,
                "the vendor does not accept the code: it was used before, has ended, or belongs to another callback",
                "open the consent link again and use its button",
            );
            ConsentProblem { detail: quoted(&refusal), ..problem }
        }
        reason => refused(client.failure(reason)),
    }
}

/// The problem for a failure of the client or of the token endpoint.
fn refused(failure: Failure) -> ConsentProblem {
    let failure = redact::scrub_failure(failure);
    let code = match failure.class {
        Class::CredentialMissing => ConsentCode::Refused,
        _ => ConsentCode::Vendor,
    };
    // A code is never sent twice, so only the owner can try again.
    let fix = match failure.class {
        Class::Remote | Class::Network | Class::BreakerOpen | Class::Throttled => {
            "use the link again in some minutes; if it lasts, see the status page of the vendor".to_string()
        }
        _ => failure.fix,
    };
    ConsentProblem { detail: failure.detail, ..ConsentProblem::new(code, failure.title, fix) }
}

fn not_proven(failure: Failure, missing: &[String], consent: &str, resource_ids: &[String]) -> ConsentProblem {
    let failure = redact::scrub_failure(failure);
    let (code, title, fix) = if failure.class == Class::WrongService {
        let fix = format!("use the link again and log in with an account of {}", resource_ids.join(", "));
        (ConsentCode::WrongAccount, failure.title, fix)
    } else if missing.is_empty() && failure.class == Class::CredentialRejected {
        let fix = format!(
            "use the link again and log in with an account that may read {}; if the new token is rejected too, compare the scopes and the OAuth client of credentials.consents.{consent} in the policy with what the source requires",
            resource_ids.join(", ")
        );
        (ConsentCode::NotProven, failure.title, fix)
    } else if missing.is_empty() {
        (ConsentCode::NotProven, failure.title, failure.fix)
    } else {
        let lack = scopes::missing_failure(consent, missing);
        (ConsentCode::TooFewScopes, format!("{}; so {}", lack.title, failure.title), lack.fix)
    };
    ConsentProblem { detail: failure.detail, ..ConsentProblem::new(code, title, fix) }
}

fn unknown_state() -> ConsentProblem {
    ConsentProblem::new(
        ConsentCode::UnknownState,
        "this answer belongs to no consent that was started here, was used before, or came more than an hour later",
        "open the consent link again and use its button",
    )
}

fn link_problem(problem: LinkProblem) -> ConsentProblem {
    let code = match problem.code {
        LinkCode::Store => ConsentCode::Store,
        LinkCode::NotFound => return unknown_state(),
        LinkCode::Gone | LinkCode::NotConfigured => ConsentCode::Gone,
    };
    ConsentProblem::new(code, problem.title, problem.fix)
}

fn store_problem(error: &StoreError) -> ConsentProblem {
    ConsentProblem::new(ConsentCode::Store, error.to_string(), error.fix())
}
