//! The pages on which people sign in. Their readers are not known yet, so these pages have no navigation.

use super::frame::bare_document;
use super::parts;
use maud::{Markup, html};

/// What the page to sign in shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignIn {
    /// Where the form is sent.
    pub action: String,
    /// The page that is shown afterwards: a path of this server.
    pub next: String,
    /// Why the last try failed; empty at first.
    pub problem: String,
    /// What the reader has just done; may be empty.
    pub note: String,
    /// Where tokens come from, in one sentence.
    pub source: String,
    /// How people sign in at the issuer, if the policy says so.
    pub issuer: Option<IssuerLink>,
    /// The name of the reader, if they are signed in already.
    pub signed_in_as: Option<String>,
}

/// The way to the issuer at which people sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerLink {
    /// Where the link leads to: an address of this server, which sends the browser on.
    pub href: String,
    /// The host of the issuer.
    pub host: String,
}

/// Renders the page to sign in.
#[must_use]
pub fn document(page: &SignIn) -> String {
    let main = html! {
        section.sign-in {
            h1 { "Sign in" }
            @if !page.note.is_empty() { p role="status" { (page.note) } }
            @if let Some(name) = &page.signed_in_as {
                p { "You are signed in as " strong { (name) } ". " a href=(page.next) { "Go on" } ", or sign in as somebody else." }
            }
            @if !page.problem.is_empty() { p #problem.problem role="alert" { span aria-hidden="true" { "✕ " } (page.problem) } }
            @if let Some(issuer) = &page.issuer {
                p { a #issuer.button.primary href=(issuer.href) { "Sign in at " (issuer.host) } }
                p.or.quiet { "or with a token" }
            }
            (token_form(page))
        }
    };
    bare_document("Sign in", &main)
}

fn token_form(page: &SignIn) -> Markup {
    let failed = !page.problem.is_empty();
    html! {
        form.card method="post" action=(page.action) {
            input type="hidden" name="next" value=(page.next);
            label for="token" { "Token" }
            input #token type="password" name="token" autocomplete="off" autocapitalize="none" spellcheck="false" maxlength="1024" required
                autofocus aria-describedby="source" aria-invalid=[failed.then_some("true")];
            p #source.quiet { (page.source) }
            p.quiet { "A session ends after 12 hours, with the token, and when AAM restarts." }
            button.primary { "Sign in" }
        }
    }
}

/// Renders the page that stands between another site and a page of this one. The browser sends the cookie of the session only
/// if the request comes from a page of this server, and this is one.
#[must_use]
pub fn forward(next: &str) -> String {
    let main = html! {
        section.sign-in {
            h1 { "One moment" }
            p { "The page opens by itself. " a #next href=(next) { "Open it now" } }
        }
    };
    bare_document("One moment", &main)
}

/// Renders why a person could not sign in at the issuer.
#[must_use]
pub fn trouble(title: &str, fix: &str, detail: &str, again: &str) -> String {
    let main = html! {
        section.sign-in {
            h1 { "You are not signed in" }
            p { (title) "." }
            (parts::fix(fix))
            @if !detail.is_empty() { p.quiet { (detail) } }
            p { a.button href=(again) { "Back to sign in" } }
        }
    };
    bare_document("You are not signed in", &main)
}

/// Renders that the policy gives no role to a person. `claims` are the names of the claims that its roles ask for, and
/// whether the person has it. Values are not shown: the page says nothing about who may do what.
#[must_use]
pub fn no_role(name: &str, claims: &[(String, bool)], again: &str) -> String {
    let main = html! {
        section.sign-in {
            h1 { "You do not have a role in AAM" }
            p { "The issuer knows you as " strong { (name) } ", and no role of the policy fits you." }
            h2 { "What the roles ask for" }
            ul {
                @for (claim, is_there) in claims {
                    li {
                        "claim " code { (claim) } ": "
                        @if *is_there { "the issuer sent it, and its value gives no role" } @else { strong { "missing" } ", the issuer did not send it" }
                    }
                }
            }
            (parts::fix("Ask the people who run AAM for a role under api.oidc.roles, or the people who run the issuer to send the missing claim in the ID token."))
            p { a.button href=(again) { "Back to sign in" } }
        }
    };
    bare_document("You do not have a role in AAM", &main)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "\"><script>alert(1)</script>\u{202e}";

    #[test]
    fn the_token_is_typed_unseen_and_hostile_texts_are_inert() {
        let page = SignIn {
            action: "/ui/sign-in".to_string(),
            next: EVIL.to_string(),
            problem: EVIL.to_string(),
            note: EVIL.to_string(),
            source: EVIL.to_string(),
            issuer: Some(IssuerLink { href: "/ui/oidc/begin".to_string(), host: EVIL.to_string() }),
            signed_in_as: Some(EVIL.to_string()),
        };
        let text = document(&page);
        assert!(text.contains("type=\"password\"") && text.contains("autocomplete=\"off\""), "{text}");
        let claims = [(EVIL.to_string(), false)];
        for text in [text, forward(EVIL), trouble(EVIL, EVIL, EVIL, EVIL), no_role(EVIL, &claims, EVIL)] {
            assert!(!text.contains("<script>alert") && !text.contains('\u{202e}'), "{text}");
        }
    }

    #[test]
    fn only_a_failed_try_is_announced_and_only_a_configured_issuer_is_offered() {
        let first = document(&SignIn::default());
        assert!(!first.contains("role=\"alert\"") && !first.contains("aria-invalid") && !first.contains("id=\"issuer\""));
        let failed = document(&SignIn { problem: "This is not the admin token.".to_string(), ..SignIn::default() });
        assert!(failed.contains("role=\"alert\"") && failed.contains("aria-invalid=\"true\""), "{failed}");
    }
}
