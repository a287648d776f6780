//! From the text of the policy file to a [`Policy`], or to every problem of it at once.

use super::read::{Fields, Reader, Spot};
use super::{
    Api, Backoff, Breaker, Cap, Caps, Eligibility, FamilyPolicy, Files, Network, Policy, Recheck,
    Reconcile, SafeMode, Slo, Token, TokenScope, yaml,
};
use crate::model::{Digest, Problem, Risk};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

const KEYS: [&str; 15] = [
    "version",
    "namespace",
    "slo",
    "eligibility",
    "safe_mode",
    "allowlist",
    "network",
    "files",
    "caps",
    "backoff",
    "breaker",
    "recheck",
    "reconcile",
    "families",
    "api",
];

/// Reads a policy. `file` is the name that problems carry.
///
/// Total and bounded: any text gives an answer. Only `version` and `allowlist` are required.
///
/// # Errors
/// Every problem of the text, in the order of the file.
pub fn parse(text: &str, file: &str) -> Result<Policy, Vec<Problem>> {
    let (root, problems) = yaml::read(text);
    // Without a tree and without a problem the file holds nothing but comments.
    let readable = root.is_some() || problems.is_empty();
    let nothing = yaml::Node {
        place: crate::model::Place { line: 1, column: 1 },
        kind: yaml::Kind::Map(Vec::new()),
    };
    let root = root.unwrap_or(nothing);
    let mut reader = Reader { problems };
    let policy = if readable {
        top(&mut reader, &root, Digest::of(text.as_bytes()))
    } else {
        None
    };
    let mut problems = reader.problems;
    match policy {
        Some(policy) if problems.is_empty() => Ok(policy),
        _ => {
            problems.sort_by_key(|problem| problem.place);
            Err(problems
                .into_iter()
                .map(|problem| problem.in_file(file))
                .collect())
        }
    }
}

fn top(r: &mut Reader, root: &yaml::Node, digest: Digest) -> Option<Policy> {
    let fields = r.fields(
        &Spot {
            node: root,
            pointer: String::new(),
        },
        &KEYS,
    )?;
    let version = r
        .required(&fields, "version", "write version: 1")
        .and_then(|spot| r.whole32(&spot, 1..=1))
        .unwrap_or(1);
    let allowlist = r
        .required(
            &fields,
            "allowlist",
            "list the families that may be connected, for example allowlist: [github, slack]",
        )
        .map(|spot| allowlist(r, &spot))
        .unwrap_or_default();
    Some(Policy {
        version,
        namespace: r.field(&fields, "namespace", "autonomy".to_string(), namespace),
        slo: r.field(&fields, "slo", slo_default(), slo),
        eligibility: eligibility(r, &fields),
        safe_mode: safe_mode(r, &fields),
        allowlist,
        network: network(r, &fields),
        files: r.field(&fields, "files", Files { roots: Vec::new() }, files),
        caps: r.field(
            &fields,
            "caps",
            Caps {
                default: default_cap(),
                families: BTreeMap::new(),
            },
            caps,
        ),
        backoff: backoff(r, &fields),
        breaker: breaker(r, &fields),
        recheck: recheck(r, &fields),
        reconcile: reconcile(r, &fields),
        families: fields
            .get("families")
            .map(|spot| families(r, &spot))
            .unwrap_or_default(),
        api: r.field(&fields, "api", Api::default(), api),
        digest,
    })
}

/// The namespace of new work; `demo` is never written after its seed.
fn namespace(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let name = r.name(spot, "a namespace")?;
    if name == "demo" {
        r.complain(
            spot,
            "nothing new may be written to the namespace demo",
            "write namespace: autonomy, or another name",
        );
        return None;
    }
    Some(name)
}

fn allowlist(r: &mut Reader, spot: &Spot<'_>) -> BTreeSet<String> {
    let family = |r: &mut Reader, item: &Spot<'_>| {
        let name = r.text(item, "the name of a family")?.to_string();
        r.known_family(&name, &item.pointer, item.node.place)
            .then_some(name)
    };
    r.unique(spot, "families", family)
        .unwrap_or_default()
        .into_iter()
        .collect()
}

/// The keys of the section `name`, if it is written and is a mapping.
fn section<'a>(
    r: &mut Reader,
    fields: &Fields<'a>,
    name: &str,
    keys: &[&str],
) -> Option<Fields<'a>> {
    fields.get(name).and_then(|spot| r.fields(&spot, keys))
}

/// One duration of a section that may be missing.
fn wait(r: &mut Reader, fields: Option<&Fields<'_>>, name: &str, default: Duration) -> Duration {
    fields.map_or(default, |fields| {
        r.field(fields, name, default, Reader::duration)
    })
}

fn slo_default() -> Slo {
    Slo { coverage: 0.9 }
}

fn slo(r: &mut Reader, spot: &Spot<'_>) -> Option<Slo> {
    let fields = r.fields(spot, &["coverage"])?;
    Some(Slo {
        coverage: r.field(&fields, "coverage", slo_default().coverage, |r, spot| {
            r.number(spot, 0.0..=1.0, false)
        }),
    })
}

fn eligibility(r: &mut Reader, fields: &Fields<'_>) -> Eligibility {
    let default = Eligibility {
        evidence: vec!["Sanctioned".to_string()],
        max_risk: Risk::High,
        min_confidence: 0.0,
    };
    let Some(fields) = section(
        r,
        fields,
        "eligibility",
        &["evidence", "max_risk", "min_confidence"],
    ) else {
        return default;
    };
    let statuses = |r: &mut Reader, spot: &Spot<'_>| {
        let values = r.unique(spot, "values of evidence.status", |r, item| {
            r.text(item, "a value of evidence.status")
                .map(str::to_string)
        })?;
        if values.is_empty() {
            r.complain(
                spot,
                "without a status nothing is eligible",
                "write [Sanctioned]",
            );
        }
        Some(values)
    };
    let risk = |r: &mut Reader, spot: &Spot<'_>| {
        Some(match r.word(spot, "risk level", &["low", "med", "high"])? {
            "low" => Risk::Low,
            "med" => Risk::Med,
            _ => Risk::High,
        })
    };
    Eligibility {
        evidence: r.field(&fields, "evidence", default.evidence, statuses),
        max_risk: r.field(&fields, "max_risk", default.max_risk, risk),
        min_confidence: r.field(
            &fields,
            "min_confidence",
            default.min_confidence,
            |r, spot| r.number(spot, 0.0..=1.0, false),
        ),
    }
}

fn safe_mode(r: &mut Reader, fields: &Fields<'_>) -> SafeMode {
    let fields = section(
        r,
        fields,
        "safe_mode",
        &["max_items", "step_timeout", "attempt_timeout"],
    );
    let mode = SafeMode {
        max_items: fields.as_ref().map_or(20, |fields| {
            r.field(fields, "max_items", 20, |r, spot| r.whole32(spot, 1..=20))
        }),
        step_timeout: wait(r, fields.as_ref(), "step_timeout", Duration::from_secs(20)),
        attempt_timeout: wait(
            r,
            fields.as_ref(),
            "attempt_timeout",
            Duration::from_secs(60),
        ),
    };
    if let Some(fields) = fields.filter(|_| mode.attempt_timeout < mode.step_timeout) {
        let message = "attempt_timeout is shorter than step_timeout";
        r.complain_at(
            &fields.pointer,
            fields.place,
            message,
            "an attempt has several steps: give it more time than one step",
        );
    }
    mode
}

fn network(r: &mut Reader, fields: &Fields<'_>) -> Network {
    let nothing = Network {
        allow_private: Vec::new(),
        proxy: None,
        ca_file: None,
    };
    let Some(fields) = section(r, fields, "network", &["allow_private", "proxy", "ca_file"]) else {
        return nothing;
    };
    Network {
        allow_private: r.field(&fields, "allow_private", Vec::new(), |r, spot| {
            r.unique(spot, "address ranges", range)
        }),
        proxy: r.optional(&fields, "proxy", |r, spot| {
            address(
                r,
                spot,
                "a proxy address, for example http://proxy.example:3128",
            )
        }),
        ca_file: r.optional(&fields, "ca_file", |r, spot| {
            r.text(spot, "the path of a PEM file").map(PathBuf::from)
        }),
    }
}

/// A CIDR range whose address is the first of the range, so that nobody misreads its width.
fn range(r: &mut Reader, spot: &Spot<'_>) -> Option<IpNet> {
    let text = r.text(spot, "an address range")?;
    let Ok(net) = text.parse::<IpNet>() else {
        let hint = match text.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(one)) => format!("write {one}/32 for this one address"),
            Ok(std::net::IpAddr::V6(one)) => format!("write {one}/128 for this one address"),
            Err(_) => "write address/prefix, for example 10.0.0.0/8 or fd00::/8".to_string(),
        };
        r.complain(
            spot,
            format!("{} is no address range", super::read::shown(text)),
            hint,
        );
        return None;
    };
    if net.trunc() != net {
        r.complain(
            spot,
            format!("`{net}` does not begin its range"),
            format!("write {} if the whole range is meant", net.trunc()),
        );
        return None;
    }
    Some(net)
}

/// An http or https address without user info, query and fragment. Never repeated: it may hold a secret.
fn address(r: &mut Reader, spot: &Spot<'_>, what: &str) -> Option<String> {
    let text = r.text(spot, what)?;
    let problem = match url::Url::parse(text) {
        Err(error) => Some((
            format!("this is no address: {error}"),
            format!("write {what}"),
        )),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Some((
            "the scheme must be http or https".to_string(),
            format!("write {what}"),
        )),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Some((
            "the address holds a user name or password".to_string(),
            "remove it: the policy is no place for secrets".to_string(),
        )),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => Some((
            "the address has a query or fragment".to_string(),
            "end it with the path".to_string(),
        )),
        Ok(_) => None,
    };
    match problem {
        None => Some(text.to_string()),
        Some((message, hint)) => {
            r.complain(spot, message, hint);
            None
        }
    }
}

fn files(r: &mut Reader, spot: &Spot<'_>) -> Option<Files> {
    let fields = r.fields(spot, &["roots"])?;
    let root = |r: &mut Reader, item: &Spot<'_>| {
        let path = PathBuf::from(r.text(item, "the path of a folder")?);
        if path.has_root() && path.parent().is_none() {
            r.complain(
                item,
                "the whole file system is no root",
                "name the folder that holds the data",
            );
            return None;
        }
        Some(path)
    };
    Some(Files {
        roots: r.field(&fields, "roots", Vec::new(), |r, spot| {
            r.unique(spot, "folders", root)
        }),
    })
}

fn default_cap() -> Cap {
    Cap {
        per_second: 5.0,
        burst: 10,
        per_day: 2000,
        concurrency: 2,
    }
}

fn caps(r: &mut Reader, spot: &Spot<'_>) -> Option<Caps> {
    let fields = r.fields(spot, &["default", "families"])?;
    let default = r.field(&fields, "default", default_cap(), |r, spot| {
        cap(r, spot, false)
    });
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

/// One budget. A family's entry names all four figures: filling a gap from `caps.default` could
/// raise a figure above what the vendor allows.
fn cap(r: &mut Reader, spot: &Spot<'_>, complete: bool) -> Option<Cap> {
    const NAMES: [&str; 4] = ["per_second", "burst", "per_day", "concurrency"];
    let fields = r.fields(spot, &NAMES)?;
    if complete {
        for name in NAMES {
            r.required(
                &fields,
                name,
                "a family's cap names all four; `aam check --effective` shows its present figures",
            );
        }
    }
    let base = default_cap();
    Some(Cap {
        per_second: r.field(&fields, "per_second", base.per_second, |r, spot| {
            r.number(spot, 0.0..=100_000.0, true)
        }),
        burst: r.field(&fields, "burst", base.burst, |r, spot| {
            r.whole32(spot, 1..=1_000_000)
        }),
        per_day: r.field(&fields, "per_day", base.per_day, |r, spot| {
            r.whole(spot, 1..=1_000_000_000_000)
        }),
        concurrency: r.field(&fields, "concurrency", base.concurrency, |r, spot| {
            r.whole32(spot, 1..=10_000)
        }),
    })
}

fn backoff(r: &mut Reader, fields: &Fields<'_>) -> Backoff {
    let fields = section(r, fields, "backoff", &["initial", "max", "jitter"]);
    let backoff = Backoff {
        initial: wait(r, fields.as_ref(), "initial", Duration::from_secs(5)),
        max: wait(r, fields.as_ref(), "max", Duration::from_secs(900)),
        jitter: fields.as_ref().map_or(0.2, |fields| {
            r.field(fields, "jitter", 0.2, |r, spot| {
                r.number(spot, 0.0..=1.0, false)
            })
        }),
    };
    if let Some(fields) = fields.filter(|_| backoff.max < backoff.initial) {
        r.complain_at(
            &fields.pointer,
            fields.place,
            "max is shorter than initial",
            "waits grow from initial to max",
        );
    }
    backoff
}

fn breaker(r: &mut Reader, fields: &Fields<'_>) -> Breaker {
    let fields = section(r, fields, "breaker", &["failures", "open_for"]);
    Breaker {
        failures: fields.as_ref().map_or(5, |fields| {
            r.field(fields, "failures", 5, |r, spot| r.whole32(spot, 1..=1000))
        }),
        open_for: wait(r, fields.as_ref(), "open_for", Duration::from_secs(30)),
    }
}

fn recheck(r: &mut Reader, fields: &Fields<'_>) -> Recheck {
    let fields = section(
        r,
        fields,
        "recheck",
        &["health", "drift", "awaiting_credentials"],
    );
    Recheck {
        health: wait(r, fields.as_ref(), "health", Duration::from_secs(6 * 3600)),
        drift: wait(r, fields.as_ref(), "drift", Duration::from_secs(24 * 3600)),
        awaiting_credentials: wait(
            r,
            fields.as_ref(),
            "awaiting_credentials",
            Duration::from_secs(300),
        ),
    }
}

fn reconcile(r: &mut Reader, fields: &Fields<'_>) -> Reconcile {
    let fields = section(r, fields, "reconcile", &["concurrency", "resync"]);
    let attempts = |r: &mut Reader, spot: &Spot<'_>| {
        r.whole(spot, 1..=10_000)
            .and_then(|value| usize::try_from(value).ok())
    };
    Reconcile {
        concurrency: fields
            .as_ref()
            .map_or(64, |fields| r.field(fields, "concurrency", 64, attempts)),
        resync: wait(r, fields.as_ref(), "resync", Duration::from_secs(30)),
    }
}

fn families(r: &mut Reader, spot: &Spot<'_>) -> BTreeMap<String, FamilyPolicy> {
    let entries = r.by_family(spot);
    let read =
        |(family, spot): (&str, Spot<'_>)| Some((family.to_string(), family_policy(r, &spot)?));
    entries.into_iter().filter_map(read).collect()
}

fn family_policy(r: &mut Reader, spot: &Spot<'_>) -> Option<FamilyPolicy> {
    let fields = r.fields(
        spot,
        &["base_url", "region", "health_path", "deny_operations"],
    )?;
    let path = |r: &mut Reader, spot: &Spot<'_>| {
        let text = r.text(spot, "a path")?;
        // `//host` would be an address of its own.
        if !text.starts_with('/') || text.starts_with("//") || text.contains([' ', '\\', '#']) {
            r.complain(
                spot,
                "a health path is relative to the server",
                "write a path such as /healthz",
            );
            return None;
        }
        Some(text.to_string())
    };
    let operation =
        |r: &mut Reader, item: &Spot<'_>| r.text(item, "an operationId").map(str::to_string);
    Some(FamilyPolicy {
        base_url: r.optional(&fields, "base_url", |r, spot| {
            address(
                r,
                spot,
                "an address, for example https://ghe.example/api/v3",
            )
        }),
        region: r.optional(&fields, "region", |r, spot| r.name(spot, "a region")),
        health_path: r.optional(&fields, "health_path", path),
        deny_operations: r.field(&fields, "deny_operations", Vec::new(), |r, spot| {
            r.unique(spot, "operations", operation)
        }),
    })
}

fn api(r: &mut Reader, spot: &Spot<'_>) -> Option<Api> {
    let fields = r.fields(spot, &["tokens"])?;
    let mut tokens: Vec<Token> = Vec::new();
    for item in fields
        .get("tokens")
        .and_then(|spot| r.list(&spot, "tokens"))
        .unwrap_or_default()
    {
        let Some(token) = token(r, &item) else {
            continue;
        };
        if tokens.iter().any(|other| other.name == token.name) {
            r.complain(
                &item,
                format!(
                    "a second token is called {}",
                    super::read::shown(&token.name)
                ),
                "give each token a name of its own",
            );
        }
        if let Some(other) = tokens.iter().find(|other| other.sha256 == token.sha256) {
            let message = format!(
                "this token and {} have the same sha256",
                super::read::shown(&other.name)
            );
            r.complain(
                &item,
                message,
                "make a token for each caller: aam token new",
            );
        }
        tokens.push(token);
    }
    Some(Api { tokens })
}

fn token(r: &mut Reader, spot: &Spot<'_>) -> Option<Token> {
    let fields = r.fields(spot, &["name", "sha256", "scopes", "namespaces"])?;
    let name = r.required(&fields, "name", "name the caller, for example name: aod");
    let name = name.and_then(|spot| r.name(&spot, "the name of a token"));
    let sha256 = r
        .required(&fields, "sha256", "aam token new prints it")
        .and_then(|spot| sha256(r, &spot));
    let words = TokenScope::ALL.map(TokenScope::word);
    let scopes = r.required(&fields, "scopes", "for example scopes: [registry:read]");
    let scopes =
        scopes.and_then(|spot| filled(r, &spot, "scopes", |r, item| r.word(item, "scope", &words)));
    let namespaces = r.required(&fields, "namespaces", "for example namespaces: [autonomy]");
    let namespaces = namespaces.and_then(|spot| {
        filled(r, &spot, "namespaces", |r, item| {
            r.name(item, "a namespace")
        })
    });
    Some(Token {
        name: name?,
        sha256: sha256?,
        scopes: TokenScope::ALL
            .into_iter()
            .filter(|scope| scopes.iter().flatten().any(|word| *word == scope.word()))
            .collect(),
        namespaces: namespaces?.into_iter().collect(),
    })
}

/// A list with at least one item.
fn filled<'a, T: PartialEq>(
    r: &mut Reader,
    spot: &Spot<'a>,
    of: &str,
    read: impl FnMut(&mut Reader, &Spot<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    if r.list(spot, of)?.is_empty() {
        r.complain(
            spot,
            format!("a token without {of} can do nothing"),
            "name at least one, or remove the token",
        );
    }
    r.unique(spot, of, read)
}

/// The value is never repeated: the token itself may have been pasted here.
fn sha256(r: &mut Reader, spot: &Spot<'_>) -> Option<Digest> {
    let digest = Digest::parse(r.text(spot, "a SHA-256 in hex")?);
    if digest.is_none() {
        r.complain(
            spot,
            "sha256 is not 64 hex digits",
            "write the SHA-256 of the token, never the token: aam token new prints both",
        );
    }
    digest
}

#[cfg(test)]
pub(super) mod tests;
