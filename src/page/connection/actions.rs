//! What the reader may do with the connection.

use super::ConnectionDetails;
use crate::page::parts::csrf;
use maud::{Markup, html};

/// Whether the reader may do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Allowed,
    /// Why not, in one sentence.
    Refused(String),
}

/// The two things that can be done on the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    /// The value that the forms send back.
    pub csrf: String,
    pub verify: Action,
    pub withdraw: Action,
}

/// What the reader has just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Verify,
    /// The check that was asked for has ended.
    Verified,
    /// A check was asked for, but nothing is called while the departure of the connection is held.
    Held,
    Withdraw,
}

impl Done {
    /// Every value.
    pub const ALL: [Done; 4] = [Done::Verify, Done::Verified, Done::Held, Done::Withdraw];

    /// Returns the value of the parameter `done`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Done::Verify => "verify",
            Done::Verified => "verified",
            Done::Held => "held",
            Done::Withdraw => "withdraw",
        }
    }

    /// Parses the value of the parameter `done`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Done> {
        Done::ALL.into_iter().find(|done| done.as_str() == text)
    }

    fn message(self) -> &'static str {
        match self {
            Done::Verify => {
                "A check was requested. The page shows its result when it has ended; reload the page if it does not update itself."
            }
            Done::Verified => "The check has ended. The page shows its result.",
            Done::Held => "Nothing is called for this connection while its departure is held. Confirm or undo the change first.",
            Done::Withdraw => "The intents of this connection were withdrawn. Its history is kept.",
        }
    }
}

/// Says what the reader has just done.
pub(super) fn done(details: &ConnectionDetails) -> Markup {
    html! { @if let Some(done) = details.done { p.done role="status" { (done.message()) } } }
}

/// Renders the forms, or why the reader does not have them.
pub(super) fn forms(details: &ConnectionDetails) -> Markup {
    let Some(actions) = &details.actions else { return html! {} };
    let address = |action: &str| details.links.to(&format!("{}/{action}", details.path()), &[]);
    html! {
        div.actions id="actions" {
            @match &actions.verify {
                Action::Allowed => form method="post" action=(address("verify")) {
                    (csrf(&actions.csrf)) button type="submit" { "Verify now" }
                    span.quiet { "Runs all seven steps at once. They only read." }
                },
                Action::Refused(why) => p.quiet { (why) },
            }
            @match &actions.withdraw {
                Action::Allowed => details.withdraw id="withdraw" {
                    summary { "Withdraw…" }
                    (consequences())
                    form method="post" action=(address("withdraw")) {
                        (csrf(&actions.csrf)) button.danger type="submit" { "Withdraw this connection" }
                    }
                },
                Action::Refused(why) => p.quiet { (why) },
            }
        }
    }
}

/// What withdrawing does, for the second step.
fn consequences() -> Markup {
    html! {
        p { "This withdraws every intent that was pushed for this connection, whichever token pushed it." }
        ul {
            li { "The connection becomes retired, and AAM does not call its source any more." }
            li { "It is in no figure of the funnel any more." }
            li { "Its history, catalog and calls are kept in the ledger, and your name is recorded." }
            li { "A push of the same intent brings it back. It is then proven again from the start." }
        }
        p { "Nothing is deleted or changed at the source, and its credential stays where it is stored." }
    }
}
