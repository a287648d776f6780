//! The sections network, files, caps and families.

use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::{NodeKind, shown};
use super::super::{Cap, Caps, EngineChoice, FamilyPolicy, Files, ListedServer, LoginHost, Network};
use super::section;
use super::services::services;
use crate::model::recipient::{is_loopback, normal_host};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

pub fn network(r: &mut Reader, fields: &Fields<'_>) -> Network {
    let default = Network { allow_private: Vec::new(), proxy: None, ca_file: None, allow_weak_login: Vec::new() };
    let Some(fields) = section(r, fields, "network", &["allow_private", "proxy", "ca_file", "allow_weak_login"]) else {
        return default;
    };
    Network {
        allow_private: r.field(&fields, "allow_private", Vec::new(), |r, spot| r.unique(spot, "address ranges", range)),
        proxy: r
            .optional(&fields, "proxy", |r, spot| address(r, spot, "the URL of a proxy, for example http://proxy.example:3128")),
        ca_file: r.optional(&fields, "ca_file", |r, spot| r.text(spot, "the path of a PEM file").map(PathBuf::from)),
        allow_weak_login: r
            .field(&fields, "allow_weak_login", Vec::new(), |r, spot| r.unique(spot, "hosts of database servers", login_host)),
    }
}

/// Reads a host with an optional port. Patterns and ranges are refused: each server that may receive a password without
/// proof of its identity is reviewed by name.
fn login_host(r: &mut Reader, spot: &Spot<'_>) -> Option<LoginHost> {
    let text = r.text(spot, "a host, or host:port")?;
    let host = LoginHost::parse(text);
    if host.is_none() {
        let hint = "write the host as in the resource id, for example db.example or db.example:5432";
        r.report(spot, format!("{} is neither a host nor host:port", shown(text)), hint);
    }
    host
}

/// Reads a CIDR range. Its address must be the first of the range, so that its extent cannot be misread.
fn range(r: &mut Reader, spot: &Spot<'_>) -> Option<IpNet> {
    let text = r.text(spot, "an address range")?;
    let Ok(net) = text.parse::<IpNet>() else {
        let hint = match text.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(one)) => format!("write {one}/32 for this one address"),
            Ok(std::net::IpAddr::V6(one)) => format!("write {one}/128 for this one address"),
            Err(_) => "write address/prefix, for example 10.0.0.0/8 or fd00::/8".to_string(),
        };
        r.report(spot, format!("{} is not a valid address range", shown(text)), hint);
        return None;
    };
    if net.trunc() != net {
        r.report(
            spot,
            format!("`{net}` is not the first address of its range"),
            format!("write {} if the whole range is meant", net.trunc()),
        );
        return None;
    }
    Some(net)
}

/// Reads an http or https URL without user info, query and fragment. Messages do not repeat it, because it may hold a
/// secret.
pub fn address(r: &mut Reader, spot: &Spot<'_>, what: &str) -> Option<String> {
    let text = r.text(spot, what)?;
    let problem = match url::Url::parse(text) {
        Err(error) => Some((format!("the URL is not valid: {error}"), format!("write {what}"))),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some(("the scheme must be http or https".to_string(), format!("write {what}")))
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Some((
            "the URL contains a user name or a password".to_string(),
            "remove it; the policy must not contain secrets".to_string(),
        )),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            Some(("the URL has a query or a fragment".to_string(), "remove everything after the path".to_string()))
        }
        Ok(_) => None,
    };
    match problem {
        None => Some(text.to_string()),
        Some((message, hint)) => {
            r.report(spot, message, hint);
            None
        }
    }
}

/// Reads the URL of a server that gets a secret or issues a token: https, or http on this machine. With `metadata`, http is
/// also allowed to the link-local addresses of metadata services, which have no other.
pub fn secret_address(r: &mut Reader, spot: &Spot<'_>, what: &str, metadata: bool) -> Option<String> {
    let text = address(r, spot, what)?;
    let safe = url::Url::parse(&text).is_ok_and(|url| {
        let host = normal_host(url.host_str().unwrap_or_default());
        url.scheme() == "https" || is_loopback(&host) || metadata && is_metadata_address(&host)
    });
    if !safe {
        r.report(
            spot,
            "this server would be called without TLS, so secrets and tokens would cross the network in clear text",
            "write https://; http:// is allowed for this machine only, for example http://127.0.0.1:PORT",
        );
    }
    safe.then_some(text)
}

/// Whether `host` is link-local, or the address of AWS's metadata services for IPv6 (`fd00:ec2::/32`).
fn is_metadata_address(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            matches!(address.segments(), [0xfd00, 0x0ec2, ..]) || matches!(address.segments(), [0xfe80..=0xfebf, ..])
        }
        Err(_) => false,
    }
}

const ROOT_HINT: &str = "write the folder that holds the data, for example roots: [/srv/data]";

pub fn files(r: &mut Reader, spot: &Spot<'_>) -> Option<Files> {
    let fields = r.fields(spot, &["roots"])?;
    if let Some(spot) = fields.get("roots").filter(|spot| matches!(&spot.node.kind, NodeKind::Scalar { text, .. } if text == "/"))
    {
        r.report(&spot, "the root directory is not allowed here", ROOT_HINT);
        return None;
    }
    let root = |r: &mut Reader, item: &Spot<'_>| {
        let path = PathBuf::from(r.text(item, "the path of a folder")?);
        if path.has_root() && path.parent().is_none() {
            r.report(item, "the root directory is not allowed here", ROOT_HINT);
            return None;
        }
        Some(path)
    };
    Some(Files { roots: r.field(&fields, "roots", Vec::new(), |r, spot| r.unique(spot, "folders", root)) })
}

pub fn default_cap() -> Cap {
    Cap { per_second: 5.0, burst: 10, per_day: 2000, concurrency: 2 }
}

pub fn caps(r: &mut Reader, spot: &Spot<'_>) -> Option<Caps> {
    let fields = r.fields(spot, &["default", "families"])?;
    let default = r.field(&fields, "default", default_cap(), |r, spot| cap(r, spot, false));
    let mut families = BTreeMap::new();
    if let Some(spot) = fields.get("families") {
        for (family, spot) in r.by_family(&spot) {
            if let Some(cap) = cap(r, &spot, true) {
                families.insert(family.to_string(), cap);
            }
        }
    }
    Some(Caps { default, families })
}

/// Reads one budget. The entry of a family must set all four limits, because a default for a missing one could
/// exceed what the vendor allows.
pub fn cap(r: &mut Reader, spot: &Spot<'_>, complete: bool) -> Option<Cap> {
    const NAMES: [&str; 4] = ["per_second", "burst", "per_day", "concurrency"];
    let fields = r.fields(spot, &NAMES)?;
    if complete {
        for name in NAMES {
            r.required(
                &fields,
                name,
                "the cap of a family sets all four limits; `aam check --effective` shows the current values",
            );
        }
    }
    let base = default_cap();
    Some(Cap {
        per_second: r.field(&fields, "per_second", base.per_second, |r, spot| r.number(spot, 0.0..=100_000.0, true)),
        burst: r.field(&fields, "burst", base.burst, |r, spot| r.whole32(spot, 1..=1_000_000)),
        per_day: r.field(&fields, "per_day", base.per_day, |r, spot| r.whole(spot, 1..=1_000_000_000_000)),
        concurrency: r.field(&fields, "concurrency", base.concurrency, |r, spot| r.whole32(spot, 1..=10_000)),
    })
}

pub fn families(r: &mut Reader, spot: &Spot<'_>) -> BTreeMap<String, FamilyPolicy> {
    let entries = r.by_family(spot);
    let read = |(family, spot): (&str, Spot<'_>)| Some((family.to_string(), family_policy(r, family, &spot)?));
    entries.into_iter().filter_map(read).collect()
}

fn family_policy(r: &mut Reader, family: &str, spot: &Spot<'_>) -> Option<FamilyPolicy> {
    const KEYS: [&str; 7] = ["engine", "base_url", "hosts", "region", "health_path", "deny_operations", "services"];
    // Other families do not have services.
    let keys = if family == "openapi" { &KEYS[..] } else { &KEYS[..6] };
    let fields = r.fields(spot, keys)?;
    Some(FamilyPolicy {
        engine: r.field(&fields, "engine", EngineChoice::default(), super::airbyte::engine),
        base_url: r.optional(&fields, "base_url", base_url),
        hosts: r.field(&fields, "hosts", Vec::new(), |r, spot| servers(r, family, spot)),
        region: r.optional(&fields, "region", |r, spot| r.name(spot, "a region")),
        health_path: r.optional(&fields, "health_path", health_path),
        deny_operations: r.field(&fields, "deny_operations", Vec::new(), operations),
        services: r.field(&fields, "services", Vec::new(), services),
    })
}

/// Reads the servers of a family whose product companies run themselves. Patterns are refused: each server that may receive
/// a credential is reviewed by name.
fn servers(r: &mut Reader, family: &str, spot: &Spot<'_>) -> Option<Vec<ListedServer>> {
    let server = |r: &mut Reader, item: &Spot<'_>| {
        let text = r.text(item, "a host, host:port or host:port/path")?;
        let server = ListedServer::parse(text);
        if server.is_none() {
            let hint = format!("write a server, for example {family}.acme.example or {family}.acme.example:8443/{family}");
            r.report(item, "the server is not a host with an optional port and path", hint);
        }
        server
    };
    let servers = r.unique(spot, "servers", server)?;
    if crate::families::find(family).is_some_and(|family| !family.lists_hosts()) && !servers.is_empty() {
        let hint = "remove hosts; to reach another server of this family, write its address as base_url";
        r.report(spot, format!("{family} has no resource ids with a server of your own"), hint);
        return None;
    }
    Some(servers)
}

pub(super) fn base_url(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    address(r, spot, "a URL, for example https://ghe.example/api/v3")
}

pub(super) fn health_path(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "a path")?;
    // `//host` would be another server.
    if !text.starts_with('/') || text.starts_with("//") || text.contains([' ', '\\', '#']) {
        r.report(spot, "health_path is not a path on the server", "write a path such as /healthz");
        return None;
    }
    Some(text.to_string())
}

pub(super) fn operations(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<String>> {
    r.unique(spot, "operations", |r, item| r.text(item, "an operationId or a path").map(str::to_string))
}
