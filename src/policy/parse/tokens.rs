//! Who may call the HTTP API, under which names and how often.

use super::super::read::{Reader, Spot};
use super::super::yaml::shown;
use super::super::{Api, ApiRate, Token, TokenScope};
use super::grants::grant;
use super::listener::{ancestor, cors, host, rate};
use super::oidc::oidc;
use crate::model::{ADMIN_TOKEN, Digest, Timestamp};

pub fn api(r: &mut Reader, spot: &Spot<'_>) -> Option<Api> {
    let fields =
        r.fields(spot, &["hosts", "rate", "cors", "frame_ancestors", "api_key_header", "enforce_slo", "mcp", "oidc", "tokens"])?;
    let hosts = r.field(&fields, "hosts", Vec::new(), |r, spot| r.unique(spot, "hosts", host));
    let rate = r.field(&fields, "rate", ApiRate::default(), rate);
    let cors_origins = r.field(&fields, "cors", Vec::new(), cors);
    let frame_ancestors = r.field(&fields, "frame_ancestors", Vec::new(), |r, spot| r.unique(spot, "origins", ancestor));
    let api_key_header = r.field(&fields, "api_key_header", false, Reader::boolean);
    let enforce_slo = r.field(&fields, "enforce_slo", false, Reader::boolean);
    let mcp = r.field(&fields, "mcp", false, Reader::boolean);
    let oidc = r.optional(&fields, "oidc", oidc);
    let mut tokens: Vec<Token> = Vec::new();
    for item in fields.get("tokens").and_then(|spot| r.list(&spot, "tokens")).unwrap_or_default() {
        let Some(token) = token(r, &item) else {
            continue;
        };
        if tokens.iter().any(|other| other.name == token.name) {
            r.report(&item, format!("the name {} is used by two tokens", shown(&token.name)), "give each token its own name");
        }
        if let Some(other) = tokens.iter().find(|other| other.sha256 == token.sha256) {
            let message = format!("this token and {} have the same sha256", shown(&other.name));
            r.report(&item, message, "create a token for each caller with aam token new");
        }
        tokens.push(token);
    }
    Some(Api { hosts, rate, cors_origins, frame_ancestors, api_key_header, enforce_slo, mcp, oidc, tokens })
}

fn token(r: &mut Reader, spot: &Spot<'_>) -> Option<Token> {
    let fields = r.fields(spot, &["name", "sha256", "scopes", "namespaces", "expires", "locators", "hosts"])?;
    let name = r.required(&fields, "name", "name the caller, for example name: aod");
    let name = name.and_then(|spot| token_name(r, &spot));
    let sha256 = r.required(&fields, "sha256", "aam token new prints it").and_then(|spot| sha256(r, &spot));
    let allowed = TokenScope::ALL.map(TokenScope::as_str);
    let scopes = r.required(&fields, "scopes", "for example scopes: [registry:read]");
    let scopes = scopes.and_then(|spot| filled(r, &spot, "scopes", |r, item| r.one_of(item, "scope", &allowed)));
    let namespaces = r.required(&fields, "namespaces", "for example namespaces: [autonomy]");
    let namespaces = namespaces.and_then(|spot| filled(r, &spot, "namespaces", |r, item| r.namespace(item)));
    let expires = r.optional(&fields, "expires", expires);
    let grant = grant(r, &fields);
    Some(Token {
        name: name?,
        sha256: sha256?,
        scopes: TokenScope::ALL.into_iter().filter(|scope| scopes.iter().flatten().any(|name| *name == scope.as_str())).collect(),
        namespaces: namespaces?.into_iter().collect(),
        expires,
        grant,
    })
}

/// Intents that are pushed with the admin token have the origin `api:admin` and may name every credential, so no other
/// token may have this name.
fn token_name(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let name = r.name(spot, "the name of a token")?;
    if name == ADMIN_TOKEN {
        r.report(spot, "the name admin is reserved for the admin token", "give this token another name");
        return None;
    }
    Some(name)
}

/// Reads when a token ends: an instant, or a day, at whose end in UTC it ends.
fn expires(r: &mut Reader, spot: &Spot<'_>) -> Option<Timestamp> {
    let text = r.text(spot, "a day or an RFC 3339 timestamp")?;
    let end = token_end(text);
    if end.is_none() {
        let hint = "write a day, for example 2027-06-30, or an instant, for example 2027-06-30T12:00:00Z";
        r.report(spot, format!("{} is neither a day nor an RFC 3339 timestamp", shown(text)), hint);
    }
    end
}

/// Parses when a token ends. A day is included: the token ends with it, in UTC.
#[must_use]
pub fn token_end(text: &str) -> Option<Timestamp> {
    match text.len() {
        10 => Timestamp::parse(&format!("{text}T00:00:00Z")).ok().map(Timestamp::next_day),
        _ => Timestamp::parse(text).ok(),
    }
}

/// A list with at least one item.
fn filled<'a, T: PartialEq>(
    r: &mut Reader,
    spot: &Spot<'a>,
    of: &str,
    read: impl FnMut(&mut Reader, &Spot<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    if r.list(spot, of)?.is_empty() {
        r.report(spot, format!("a token without {of} is useless"), "list at least one, or remove the token");
    }
    r.unique(spot, of, read)
}

/// Messages do not repeat the value, because it may be the token itself, pasted by mistake.
fn sha256(r: &mut Reader, spot: &Spot<'_>) -> Option<Digest> {
    let digest = Digest::parse(r.text(spot, "a SHA-256 in hex")?);
    if digest.is_none() {
        r.report(
            spot,
            "sha256 is not 64 hex digits",
            "write the SHA-256 of the token, never the token itself; aam token new prints both",
        );
    }
    digest
}
