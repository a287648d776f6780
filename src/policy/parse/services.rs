//! The list `families.openapi.services`.

use super::super::read::{Reader, Spot};
use super::super::yaml::{NodeKind, shown};
use super::super::{ServiceAuth, ServicePolicy};
use super::reach::{base_url, health_path, operations};

/// Headers that carry the request itself, so that no credential can be sent in them.
const FRAMING_HEADERS: [&str; 7] =
    ["host", "cookie", "connection", "content-length", "content-type", "transfer-encoding", "accept"];

pub fn services(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<ServicePolicy>> {
    let mut services: Vec<ServicePolicy> = Vec::new();
    for item in r.list(spot, "services")? {
        let Some(service) = service(r, &item) else { continue };
        if services.iter().any(|known| known.pattern == service.pattern) {
            r.report(&item, "this match is listed twice, and only the first applies", "merge the two entries");
        } else {
            services.push(service);
        }
    }
    Some(services)
}

fn service(r: &mut Reader, spot: &Spot<'_>) -> Option<ServicePolicy> {
    let fields = r.fields(spot, &["match", "base_url", "health_path", "deny_operations", "auth"])?;
    let hint = "write the URL of the description or of the service, for example match: https://api.acme.example/*";
    let pattern = r.required(&fields, "match", hint).and_then(|spot| pattern(r, &spot));
    let service = ServicePolicy {
        pattern: String::new(),
        base_url: r.optional(&fields, "base_url", base_url),
        health_path: r.optional(&fields, "health_path", health_path),
        deny_operations: r.field(&fields, "deny_operations", Vec::new(), operations),
        auth: r.optional(&fields, "auth", auth),
    };
    Some(ServicePolicy { pattern: pattern?, ..service })
}

/// Reads a URL in whose path `*` matches any characters. Its host must be spelled out, except for a leading `*.`, so
/// that a reviewer sees which hosts the settings apply to.
fn pattern(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "the URL of a service")?;
    let host = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")).map(|(_, rest)| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        &rest[..end]
    });
    let bare = host.map(|host| host.strip_prefix("*.").unwrap_or(host)).unwrap_or_default();
    let problem = if bare.contains('*') {
        Some(("the host contains *", "write the whole host and * in the path, for example https://api.acme.example/*"))
    } else if bare.is_empty() || text.contains([' ', '#', '\\']) || url::Url::parse(&format!("https://{bare}")).is_err() {
        Some(("this is not the URL of a service", "write https://api.acme.example/openapi.json or https://api.acme.example/*"))
    } else if bare.contains('@') {
        Some(("the URL contains a user name or a password", "remove it; the policy must not contain secrets"))
    } else {
        None
    };
    match problem {
        None => Some(text.to_string()),
        Some((message, hint)) => {
            r.report(spot, message, hint);
            None
        }
    }
}

fn auth(r: &mut Reader, spot: &Spot<'_>) -> Option<ServiceAuth> {
    const HINT: &str = "write auth: bearer, auth: basic, auth: {header: X-Api-Key}, or auth: none";
    if !matches!(spot.node.kind, NodeKind::Map(_)) {
        return match r.text(spot, "bearer, basic, {header: NAME} or none")? {
            "none" => Some(ServiceAuth::None),
            "bearer" => Some(ServiceAuth::Bearer),
            "basic" => Some(ServiceAuth::Basic),
            other => {
                r.report(spot, format!("{} is not a way to send a credential", shown(other)), HINT);
                None
            }
        };
    }
    let fields = r.fields(spot, &["header", "query", "cookie"])?;
    for place in ["query", "cookie"] {
        if let Some(found) = fields.get(place) {
            let message = format!("AAM does not send a credential in a {place}");
            let hint = match place {
                "query" => {
                    "URLs are logged; ask the owner of the service to accept the key in a header: auth: {header: X-Api-Key}"
                }
                _ => HINT,
            };
            r.report(&found, message, hint);
            return None;
        }
    }
    let header = r.required(&fields, "header", HINT)?;
    let name = r.text(&header, "the name of a header")?;
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !name.chars().all(token) || name.len() > 100 || FRAMING_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        r.report(&header, "a credential cannot be sent in this header", "write the name of a header such as X-Api-Key");
        return None;
    }
    Some(ServiceAuth::Header(name.to_string()))
}
