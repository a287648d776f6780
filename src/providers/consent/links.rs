//! The links with which owners give consent: one open link for each connection.

use super::format::{LinkUse, Reason, StoredLink, Subject};
use super::keys::StoreKeys;
use super::settings::ConsentSettings;
use super::store::{Store, StoreError};
use super::{ConsentContext, ConsentProvider};
use super::{ConsentScope, ConsentView, LinkCode, LinkProblem, LinkState};
use crate::credentials::redact::AttemptSecrets;
use crate::model::{Class, Failure, Timestamp};
use crate::providers::{CredentialRequest, Process, Providers};
use std::sync::Arc;

/// Says why consent is needed; `reason` is `None` if it was not given yet, or was revoked.
fn title(reason: Option<&Reason>, consent: &str, owner: &str) -> String {
    match reason {
        None => format!("{owner} has not given consent:{consent} yet"),
        Some(Reason::OtherClient) => {
            format!("consent:{consent} was given to another OAuth client or token endpoint than the policy names now")
        }
        Some(Reason::Ended(_)) => format!("the vendor does not accept the grant of consent:{consent} any more"),
        Some(Reason::Lost(at)) => format!(
            "the response to a refresh of consent:{consent} was lost at {}, so the grant may have ended and is not used again",
            at.rfc3339()
        ),
        Some(Reason::Damaged) => format!("the stored grant of consent:{consent} is damaged and cannot be decrypted"),
    }
}

/// A link that was looked up, with everything that belongs to it.
pub struct FoundLink {
    pub link: StoredLink,
    pub request: CredentialRequest,
    pub settings: ConsentSettings,
    pub store: Arc<Store>,
    pub keys: Arc<StoreKeys>,
}

impl ConsentProvider {
    /// Returns the failure of an attempt that needs consent. Its fix contains the link, which stays the same until it is
    /// used, has ended or is replaced.
    pub(super) async fn ask(
        &self,
        providers: &Providers,
        request: &CredentialRequest,
        settings: &ConsentSettings,
        store: &Arc<Store>,
        mut reason: Option<Reason>,
    ) -> Failure {
        let owner = &request.owner;
        let keys = match self.keys(providers, request).await {
            Ok(keys) => keys,
            Err(failure) => return failure,
        };
        let subject = Subject::new(request, &settings.name);
        let fix = match self.link(store, &keys, subject, reason.clone(), providers.clock.now()).await {
            Ok(Some(link)) => {
                // The grant is gone since, and the link still says why.
                reason = reason.or_else(|| link.facts.reason.clone());
                let (url, ends) = (settings.link_url(&link.id), link.facts.ends.rfc3339());
                match &settings.terms.given_by {
                    Some(who) => format!("send this link to {owner} or to {who}, before it ends at {ends}: {url}"),
                    None => format!("send this link to {owner}, before it ends at {ends}: {url}"),
                }
            }
            Ok(None) => format!(
                "put the intent into the intents folder or push it; the connection then shows the link for {owner}: aam status {}",
                request.connection
            ),
            Err(error) => return error.failure(),
        };
        let failure = Failure::new(Class::CredentialMissing, title(reason.as_ref(), &settings.name, owner), fix);
        match reason {
            Some(Reason::Ended(detail)) => failure.detail(detail),
            _ => failure,
        }
    }

    /// Returns the open link of `subject`, or creates one. `aam test` writes nothing, so it gets only a link that exists.
    pub(super) async fn link(
        &self,
        store: &Arc<Store>,
        keys: &Arc<StoreKeys>,
        subject: Subject,
        reason: Option<Reason>,
        now: Timestamp,
    ) -> Result<Option<StoredLink>, StoreError> {
        let content = store.read().await?;
        if let Some(link) = content.as_ref().and_then(|content| content.open_link(keys, &subject, now)) {
            return Ok(Some(link.clone()));
        }
        if self.process == Process::Test {
            return Ok(None);
        }
        store.put_link(keys, subject, reason, now).await.map(Some)
    }

    /// Returns the link called `id` with its settings.
    pub(super) async fn find_link(&self, context: &ConsentContext<'_>, id: &str) -> Result<FoundLink, LinkProblem> {
        let store = self.store(&context.policy);
        let content = store.read().await.map_err(|error| broken_store(&error))?;
        let Some(link) = content.as_ref().and_then(|content| content.link(id)).cloned() else {
            return Err(LinkProblem::not_found());
        };
        let subject = &link.facts.subject;
        let configured = |failure: Failure| LinkProblem::new(LinkCode::NotConfigured, failure.title, failure.fix);
        let request = subject.request(context).ok_or_else(|| {
            let title = format!("the policy does not know the source type {} any more", subject.family);
            LinkProblem::new(LinkCode::NotConfigured, title, "ask the administrator of AAM")
        })?;
        let settings = ConsentSettings::find(&subject.consent, &context.policy, &request.family).map_err(configured)?;
        let keys = self
            .keys(context.providers, &request)
            .await
            .map_err(|failure| LinkProblem::new(LinkCode::Store, failure.title, failure.fix))?;
        if !content.is_some_and(|content| content.fits(&keys)) {
            return Err(broken_store(&store.wrong_key()));
        }
        if !link.is_signed(&keys) {
            return Err(LinkProblem::not_found());
        }
        Ok(FoundLink { link, request, settings, store, keys })
    }

    /// Returns what the page of a link shows. It changes nothing.
    ///
    /// # Errors
    /// Returns a [`LinkProblem`] if no link has this id, if its signature is not valid, or if it cannot be read.
    pub async fn view(&self, context: &ConsentContext<'_>, link_id: &str) -> Result<ConsentView, LinkProblem> {
        let found = AttemptSecrets::new(&[]).run(self.find_link(context, link_id)).await?;
        let FoundLink { link, request, settings, .. } = found;
        let state = state(&link, context.providers.clock.now());
        let scopes = settings.terms.scopes.iter().map(|scope| ConsentScope {
            name: scope.name.clone(),
            about: Some(scope.about.clone()).filter(|about| !about.is_empty()),
        });
        Ok(ConsentView {
            scopes: scopes.collect(),
            vendor_host: settings.vendor_host(),
            given_by: settings.terms.given_by.clone(),
            link_id: link.id,
            connection: request.connection,
            namespace: request.namespace,
            family: request.family.id.to_string(),
            family_title: request.family.title.clone(),
            resource_ids: link.facts.subject.resource_ids,
            owner: request.owner,
            consent: settings.name,
            ends: link.facts.ends,
            state,
            given_at: match link.used {
                LinkUse::Given(at) => Some(at),
                LinkUse::Unused | LinkUse::Replaced(_) => None,
            },
        })
    }
}

/// The state of `link` at `now`.
pub fn state(link: &StoredLink, now: Timestamp) -> LinkState {
    match link.used {
        LinkUse::Given(_) => LinkState::Given,
        LinkUse::Replaced(_) => LinkState::Replaced,
        LinkUse::Unused if now >= link.facts.ends => LinkState::Expired,
        LinkUse::Unused if link.pending.iter().any(|pending| pending.is_valid(now)) => LinkState::InProgress,
        LinkUse::Unused => LinkState::Open,
    }
}

/// The problem of a link that cannot be used at `now`.
pub fn gone(link: &StoredLink, now: Timestamp) -> LinkProblem {
    let title = match state(link, now) {
        LinkState::Given => "consent was already given with this link",
        LinkState::Expired => "this consent link has ended",
        _ => "another link took the place of this one",
    };
    let fix =
        "if consent is still needed, the connection shows a new link: aam status CONNECTION, or aam consent link CONNECTION";
    LinkProblem::new(LinkCode::Gone, title, fix)
}

/// The problem of a store that cannot be used.
pub fn broken_store(error: &StoreError) -> LinkProblem {
    LinkProblem::new(LinkCode::Store, error.to_string(), error.fix())
}
