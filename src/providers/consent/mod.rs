//! `consent:NAME`: an OAuth grant that an owner or administrator gives once.
//!
//! The life of a grant: an attempt without a grant gets a link ([`CredentialProvider::provide`]); the page of the link shows
//! what is asked for ([`ConsentProvider::view`]); its button leads to the vendor ([`ConsentProvider::begin`]); the vendor
//! sends the browser back to the callback, which proves the account and stores the grant ([`ConsentProvider::complete`]).

mod types;

use super::{CredentialProvider, CredentialRequest, ProvidedCredential, Providers, not_served};
use crate::clock::Clock;
use crate::families::{CustomSources, Family};
use crate::model::{Failure, Locator, PlannedCall};
use crate::policy::Policy;
use futures_util::future::BoxFuture;
use std::sync::Arc;
pub use types::{
    CallbackQuery, ConsentCode, ConsentGiven, ConsentProblem, ConsentScope, ConsentView, LinkCode, LinkProblem, LinkState, Proof,
    Prove, ProvedAccount,
};
use url::Url;

/// What the consent pages and commands work with. The policy is the one in force.
#[derive(Clone)]
pub struct ConsentContext<'a> {
    pub providers: &'a Providers,
    pub policy: Arc<Policy>,
    pub sources: Arc<CustomSources>,
}

/// Resolves `consent:` locators.
pub struct ConsentProvider {}

impl ConsentProvider {
    pub fn new(_clock: &Arc<dyn Clock>) -> ConsentProvider {
        ConsentProvider {}
    }

    /// Returns what the page of a link shows. It changes nothing.
    ///
    /// # Errors
    /// Returns a [`LinkProblem`] if no link has this id, if its signature is not valid, or if it cannot be read.
    pub async fn view(&self, _context: &ConsentContext<'_>, _link_id: &str) -> Result<ConsentView, LinkProblem> {
        Err(LinkProblem::not_found())
    }

    /// Starts the authorization that the link asks for, because a person clicked its button. State, nonce and PKCE verifier
    /// are on disk before this returns, so a restart between the click and the callback changes nothing. Returns the
    /// vendor's authorization URL, which contains no secret.
    ///
    /// # Errors
    /// Returns a [`LinkProblem`] if the link cannot be used any more.
    pub async fn begin(&self, _context: &ConsentContext<'_>, _link_id: &str) -> Result<Url, LinkProblem> {
        Err(LinkProblem::not_found())
    }

    /// Ends the authorization with the parameters that the vendor gave to the callback: checks state, issuer and errors,
    /// exchanges the code, has the account proven by `prove`, and stores the grant only if it passed. Otherwise the tokens
    /// are discarded, and revoked if the vendor can do that; the link stays usable until its end.
    ///
    /// # Errors
    /// Returns a [`ConsentProblem`].
    pub async fn complete(
        &self,
        _context: &ConsentContext<'_>,
        _query: &CallbackQuery,
        _prove: Prove<'_>,
    ) -> Result<ConsentGiven, ConsentProblem> {
        Err(ConsentProblem::new(ConsentCode::UnknownState, "this answer belongs to no consent that was started here", ""))
    }
}

impl CredentialProvider for ConsentProvider {
    fn provide<'a>(
        &'a self,
        _: &'a Providers,
        request: &'a CredentialRequest,
    ) -> BoxFuture<'a, Result<ProvidedCredential, Failure>> {
        Box::pin(async move { Err(not_served(&request.locator)) })
    }

    fn planned_calls(&self, _: &Policy, _: &Locator, _: &Family) -> Vec<PlannedCall> {
        Vec::new()
    }
}
