//! The values that the consent pages, the callback and the commands exchange with the provider. They contain no secret,
//! except [`CallbackQuery`] and [`Proof`].

use crate::credentials::{Credential, Secret};
use crate::model::{ConnectionId, Evidence, Failure, Timestamp};
use futures_util::future::BoxFuture;

/// What the page of a link shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentView {
    pub link_id: String,
    pub connection: ConnectionId,
    pub namespace: String,
    /// The source type, for example `github`.
    pub family: String,
    /// The name of the system, for example `GitHub`.
    pub family_title: String,
    pub resource_ids: Vec<String>,
    /// The owner of the connection, as the intent names them.
    pub owner: String,
    /// The name in `credentials.consents`.
    pub consent: String,
    /// What is asked for.
    pub scopes: Vec<ConsentScope>,
    /// The host of the vendor's consent page, with the port unless it is the default.
    pub vendor_host: String,
    /// Who has to consent if the owner alone cannot, for example an administrator of the tenant.
    pub given_by: Option<String>,
    /// When the link ends.
    pub ends: Timestamp,
    pub state: LinkState,
    /// When the grant was given, if the state is [`LinkState::Given`].
    pub given_at: Option<Timestamp>,
}

/// One right that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentScope {
    /// The scope, in the vendor's terms.
    pub name: String,
    /// What it lets AAM read, in plain language. `None` for a scope that only the policy names.
    pub about: Option<String>,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// The button can be used.
    Open,
    /// The button was used, and the vendor has not answered yet. It can be used again, for example after a closed tab.
    InProgress,
    /// Consent was given with this link.
    Given,
    /// The link ended before consent was given.
    Expired,
    /// Another link took its place, because the connection, its owner or the policy changed, or the grant was revoked.
    Replaced,
}

/// Why a link does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCode {
    /// No link has this id, or its signature is not valid.
    NotFound,
    /// The link was used, has ended or was replaced.
    Gone,
    /// The policy does not have the consent or the key of the store any more, or a setting of it is not valid.
    NotConfigured,
    /// The store or the key cannot be read or written.
    Store,
}

/// A link that does not work, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkProblem {
    pub code: LinkCode,
    pub title: String,
    pub fix: String,
}

impl LinkProblem {
    /// Creates a problem.
    #[must_use]
    pub fn new(code: LinkCode, title: impl Into<String>, fix: impl Into<String>) -> LinkProblem {
        LinkProblem { code, title: title.into(), fix: fix.into() }
    }

    /// The problem of an id that no link has.
    #[must_use]
    pub fn not_found() -> LinkProblem {
        LinkProblem::new(
            LinkCode::NotFound,
            "this consent link was not found",
            "copy the link again from the connection: aam status CONNECTION, or aam consent link CONNECTION",
        )
    }
}

/// The parameters of the callback.
#[derive(Clone, Debug, Default)]
pub struct CallbackQuery {
    pub state: Option<String>,
    pub code: Option<Secret>,
    /// The issuer that sent the answer (RFC 9207).
    pub iss: Option<String>,
    pub error: Option<String>,
    pub error_description: Option<String>,
    /// True if a parameter occurs more than once, which RFC 6749, section 3.1, forbids.
    pub repeated: bool,
}

impl CallbackQuery {
    /// Reads the query of the callback. Unknown parameters are ignored.
    #[must_use]
    pub fn parse(query: &str) -> CallbackQuery {
        let mut parsed = CallbackQuery::default();
        let mut code = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "state" => &mut parsed.state,
                "code" => &mut code,
                "iss" => &mut parsed.iss,
                "error" => &mut parsed.error,
                "error_description" => &mut parsed.error_description,
                _ => continue,
            };
            parsed.repeated |= slot.replace(value.into_owned()).is_some();
        }
        parsed.code = code.map(Secret::new);
        parsed
    }
}

/// What has to be proven before a grant is stored: that the credential opens the source that the resource ids name.
pub struct Proof {
    pub connection: ConnectionId,
    pub namespace: String,
    pub family: String,
    pub resource_ids: Vec<String>,
    pub credential: Credential,
}

/// What the proof found at the source.
#[derive(Clone, Debug, Default)]
pub struct ProvedAccount {
    /// The evidence of the step `upsert`: the account or tenant, by the source's own statement.
    pub evidence: Evidence,
}

/// Proves the account: opens the source, as the step `upsert` of an attempt does. Its failure names what was found instead.
/// It runs inside the attempt's secrets of [`super::ConsentProvider::complete`].
pub type Prove<'a> = Box<dyn FnOnce(Proof) -> BoxFuture<'a, Result<ProvedAccount, Failure>> + Send + 'a>;

/// A consent that was given and stored.
#[derive(Clone, Debug)]
pub struct ConsentGiven {
    pub link_id: String,
    pub connection: ConnectionId,
    pub namespace: String,
    pub family_title: String,
    pub consent: String,
    /// The scopes that the vendor granted.
    pub scopes: Vec<String>,
    pub evidence: Evidence,
    /// What a person should know although the consent was stored, for example scopes that were granted in excess.
    pub warning: Option<Failure>,
}

/// Why a consent was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentCode {
    /// The callback was not formed as the standard says.
    BadRequest,
    /// The state is unknown, was used before, or is too old.
    UnknownState,
    /// The answer names another issuer than the one that was asked.
    WrongIssuer,
    /// The person or the vendor refused: `access_denied`, `consent_required` and the like.
    Denied,
    /// The vendor failed: `server_error`, `temporarily_unavailable`, or its token endpoint did not answer.
    Vendor,
    /// The token endpoint refused the code or the client.
    Refused,
    /// The vendor granted less than AAM needs, or no refresh token.
    TooFewScopes,
    /// The account or tenant is not the one of the connection.
    WrongAccount,
    /// The proof failed for another reason, for example because the source could not be reached.
    NotProven,
    /// The link was replaced or the policy does not have the consent any more.
    Gone,
    /// The store or the key cannot be read or written.
    Store,
}

/// A consent that was not stored, and what to do.
#[derive(Clone, Debug)]
pub struct ConsentProblem {
    pub code: ConsentCode,
    pub title: String,
    pub fix: String,
    /// The vendor's or the source's own text, scrubbed. May be empty.
    pub detail: String,
    /// The link that the person can try again, if it is known and still open.
    pub link_id: Option<String>,
    pub connection: Option<ConnectionId>,
}

impl ConsentProblem {
    /// Creates a problem; the other fields are public.
    #[must_use]
    pub fn new(code: ConsentCode, title: impl Into<String>, fix: impl Into<String>) -> ConsentProblem {
        ConsentProblem { code, title: title.into(), fix: fix.into(), detail: String::new(), link_id: None, connection: None }
    }
}

/// A grant, as `aam consent list` shows it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GrantListing {
    pub consent: String,
    pub connection: ConnectionId,
    pub namespace: String,
    pub family: String,
    pub resource_ids: Vec<String>,
    pub owner: String,
    /// The scopes that the vendor granted.
    pub scopes: Vec<String>,
    pub since: Timestamp,
    pub refreshed: Option<Timestamp>,
    /// When the owner has to give consent again, if that is known.
    pub ends: Option<Timestamp>,
}

/// A link that waits for consent, as `aam consent list` and `aam consent link` show it.
#[derive(Clone, Debug)]
pub struct LinkListing {
    /// The address to send to the owner. `None` if the policy does not describe the consent any more.
    pub url: Option<String>,
    pub connection: ConnectionId,
    pub consent: String,
    pub owner: String,
    pub ends: Timestamp,
    pub state: LinkState,
}
