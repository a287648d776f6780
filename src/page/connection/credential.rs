//! Where the credential is stored, who provides it, and when it ends. Never the credential itself.

use super::ConnectionDetails;
use super::evidence;
use crate::model::Timestamp;
use crate::page::parts;
use maud::{Markup, html};
use serde_json::{Map, Value};

/// What is known about the credential.
#[derive(Clone, Debug, Default)]
pub struct CredentialSection {
    /// The locator of the intent. `None` if it does not have one.
    pub locator: Option<String>,
    /// The provider that resolved it: `env`, `file`, `vault`, `sp` or `consent`.
    pub provider: Option<String>,
    /// The scopes that were granted, as far as the vendor says.
    pub scopes: Vec<String>,
    /// When a token ends that AAM renews by itself.
    pub valid_until: Option<Timestamp>,
    /// When the credential ends, if a person has to replace it.
    pub ends_at: Option<Timestamp>,
    /// What ends and what to do, if the end is near.
    pub ending: Option<(String, String)>,
    /// Further facts that the provider recorded.
    pub facts: Map<String, Value>,
    /// When the attempt ended that recorded them.
    pub found_at: Option<Timestamp>,
}

pub(super) fn section(details: &ConnectionDetails) -> Markup {
    let credential = &details.credential;
    html! {
        section id="credential" aria-labelledby="credential-title" {
            h2 id="credential-title" { "Credential" }
            @match &credential.locator {
                Some(_) => (known(details)),
                None => p { "The intent does not name a credential." },
            }
        }
    }
}

fn known(details: &ConnectionDetails) -> Markup {
    let credential = &details.credential;
    html! {
        dl.pairs {
            @if let Some(locator) = &credential.locator { dt { "Stored at" } dd { code { (locator) } } }
            dt { "Provider" } dd { @match &credential.provider { Some(provider) => (provider_name(provider)), None => span.quiet { "not resolved yet" } } }
            @if !credential.scopes.is_empty() { dt { "Scopes" } dd { ul.chips { @for scope in &credential.scopes { li { code { (scope) } } } } } }
            @if let Some(at) = credential.valid_until { dt { "Token valid until" } dd { (parts::time(at)) span.quiet { " (AAM renews it)" } } }
            dt { "Ends" } dd { @match credential.ends_at { Some(at) => (parts::time(at)), None => span.quiet { "no end is known that needs a person" } } }
        }
        @if let Some((title, fix)) = &credential.ending { p.warn { "! " (title) } (parts::fix(fix)) }
        @if let Some(link) = &details.consent_link { p { "Consent is due: " a href=(link) rel="noreferrer" { (link) } } }
        @if !credential.facts.is_empty() {
            details id="credential-facts" { summary { "What the provider recorded" @if let Some(at) = credential.found_at { " at " (parts::time(at)) } } (evidence::list(&credential.facts)) }
        }
        p.quiet { "AAM shows where the credential is stored, never its value." }
    }
}

fn provider_name(provider: &str) -> &str {
    match provider {
        "env" => "an environment variable or a stored secret (env)",
        "file" => "a file (file)",
        "vault" => "the vault (vault)",
        "sp" => "a service principal (sp)",
        "consent" => "a consent of the owner (consent)",
        other => other,
    }
}
