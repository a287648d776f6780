//! The section `airbyte`.

use super::super::airbyte::{
    Airbyte, ConnectorPolicy, DEFAULT_CONNECTOR_BYTES, EngineChoice, Platform, Run, each_text, origin, placeholders,
};
use super::super::manifests::{self, value};
use super::super::read::{Fields, Reader, Spot};
use super::super::yaml::NodeKind;
use super::super::{FamilyPolicy, Manifests};
use super::credentials::locator;
use super::reach::secret_address;
use crate::families::airbyte::{KnownConnector, find};
use crate::families::{self, aliases};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Component, PathBuf};

const KEYS: [&str; 5] = ["dir", "memory", "allow_weaker_confinement", "connectors", "platform"];
const CONNECTOR_KEYS: [&str; 9] = ["run", "version", "sha256", "config", "hosts", "posts", "memory", "streams", "readable"];
const RUN_HINT: &str = "write the name of a package (airbyte-source-okta), a command as a list ([/opt/source-acme]), or {image: airbyte/source-okta}";
/// The number of connectors. A policy with more is a mistake.
const MAX_CONNECTORS: usize = 200;
/// The arguments of a command.
const MAX_ARGUMENTS: usize = 32;

pub fn airbyte(r: &mut Reader, spot: &Spot<'_>) -> Option<Airbyte> {
    let fields = r.fields(spot, &KEYS)?;
    let default = Airbyte::default();
    let airbyte = Airbyte {
        dir: r.field(&fields, "dir", default.dir, folder),
        memory: r.field(&fields, "memory", default.memory, Reader::size),
        allow_weaker_confinement: r.field(&fields, "allow_weaker_confinement", false, Reader::boolean),
        connectors: r.field(&fields, "connectors", BTreeMap::new(), connectors),
        platform: r.optional(&fields, "platform", platform),
    };
    for (name, connector) in airbyte.connectors.iter().filter(|(_, connector)| connector.memory > airbyte.memory) {
        let message = format!("the connector {name} may take more memory than all connectors together");
        let hint = format!(
            "raise airbyte.memory to at least {}, or lower airbyte.connectors.{name}.memory",
            super::super::size_text::format(&connector.memory)
        );
        r.report_at(&format!("{}/connectors/{name}/memory", fields.pointer), fields.place, message, hint);
    }
    Some(airbyte)
}

/// Reports families whose engine the policy does not describe. Called when the families and the section were read.
pub fn check_engines(
    r: &mut Reader,
    fields: &Fields<'_>,
    airbyte: &Airbyte,
    manifests: &Manifests,
    all: &BTreeMap<String, FamilyPolicy>,
) {
    let Some(spot) = fields.get("families") else { return };
    let NodeKind::Map(pairs) = &spot.node.kind else { return };
    for (key, node) in pairs {
        let name = key.text.as_str();
        let Some(family) = all.get(name) else { continue };
        let pointer = format!("{}/{name}/engine", spot.pointer);
        let has_connector = airbyte.connectors.contains_key(name);
        match family.engine {
            EngineChoice::Airbyte if !has_connector && airbyte.platform.is_none() => {
                let message =
                    format!("{name} is to be served by Airbyte, but the policy has neither a connector for it nor a platform");
                let connector = families::airbyte::of_family(name).map_or("source-NAME", |known| known.name.as_str());
                let hint = format!(
                    "install one with `aam airbyte install {connector}` and list it as airbyte.connectors.{name}; or describe your own Airbyte as airbyte.platform: {{url, workspace, credential}}"
                );
                r.report_at(&pointer, node.place, message, hint);
            }
            EngineChoice::Native if has_connector && !families::exists(name) && manifests.dir.is_none() => {
                let message = format!("AAM does not have an engine of its own for {name}");
                r.report_at(&pointer, node.place, message, "write engine: auto, or remove the key");
            }
            EngineChoice::Auto | EngineChoice::Native | EngineChoice::Airbyte => {}
        }
    }
}

/// Reads `families.NAME.engine`.
pub fn engine(r: &mut Reader, spot: &Spot<'_>) -> Option<EngineChoice> {
    EngineChoice::parse(r.one_of(spot, "engine", &EngineChoice::NAMES)?)
}

fn folder(r: &mut Reader, spot: &Spot<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(r.text(spot, "the path of a folder")?);
    if path.has_root() && path.parent().is_none() {
        r.report(
            spot,
            "the root directory is not allowed here",
            "write a folder that holds only connectors, for example var/airbyte",
        );
        return None;
    }
    Some(path)
}

fn connectors(r: &mut Reader, spot: &Spot<'_>) -> Option<BTreeMap<String, ConnectorPolicy>> {
    let entries = r.entries(spot, "a mapping from source types to connectors");
    if entries.len() > MAX_CONNECTORS {
        r.report(
            spot,
            format!("there are {} connectors, the limit is {MAX_CONNECTORS}", entries.len()),
            "remove those that are not used",
        );
        return None;
    }
    let mut all = BTreeMap::new();
    for (name, spot) in entries {
        if let Some(family) = aliases::alias(name).filter(|_| !families::exists(name)) {
            let message = format!("{name} is another name of the family {family}");
            r.report(&spot, message, format!("write {family}, or give the source type another name"));
        } else if !families::exists(name) && !families::is_source_name(name) {
            let hint = "write the name of a family, or a name of your own: a lower-case letter, then lower-case letters, digits and _, at most 63 characters";
            r.report(&spot, "invalid source name", hint);
        } else if let Some(connector) = connector(r, &spot) {
            all.insert(name.to_string(), connector);
        }
    }
    Some(all)
}

fn connector(r: &mut Reader, spot: &Spot<'_>) -> Option<ConnectorPolicy> {
    let fields = r.fields(spot, &CONNECTOR_KEYS)?;
    let run = r.required(&fields, "run", RUN_HINT).and_then(|spot| run(r, &spot))?;
    let version = version(r, &fields, &run);
    let known = find(run.connector_name());
    if known.is_none() {
        let what = run.connector_name();
        let hint = format!(
            "write its config with the placeholders {{resource_id}} and {{credential.FIELD}}, or config: {{}}; AAM ships those of {}",
            families::airbyte::all().iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ")
        );
        if fields.get("config").is_none() {
            let message = format!("AAM does not ship a config for {what}, and the key config is missing");
            r.report_at(&fields.pointer, fields.place, message, hint);
        }
    }
    let shipped = |list: fn(&KnownConnector) -> &Vec<String>| known.map(|known| list(known).clone()).unwrap_or_default();
    let default = known.map(|known| known.config.clone()).unwrap_or_default();
    Some(ConnectorPolicy {
        version: version?,
        sha256: r.optional(&fields, "sha256", sha256),
        config: r.field(&fields, "config", default, config),
        hosts: r.field(&fields, "hosts", shipped_hosts(&shipped(|known| &known.hosts)), |r, spot| r.unique(spot, "hosts", host)),
        posts: r.field(&fields, "posts", known.map(|known| known.posts.clone()).unwrap_or_default(), manifests::posts),
        memory: r.field(&fields, "memory", DEFAULT_CONNECTOR_BYTES, Reader::size),
        streams: r.field(&fields, "streams", shipped(|known| &known.streams), streams),
        readable: r.field(&fields, "readable", Vec::new(), |r, spot| r.unique(spot, "paths", readable)),
        run,
    })
}

fn run(r: &mut Reader, spot: &Spot<'_>) -> Option<Run> {
    match &spot.node.kind {
        NodeKind::List(_) => command(r, spot),
        NodeKind::Map(_) => {
            let fields = r.fields(spot, &["image"])?;
            let spot = r.required(&fields, "image", RUN_HINT)?;
            image(r, &spot)
        }
        NodeKind::Scalar { .. } | NodeKind::Broken => {
            let text = r.text(spot, "a package, a command or an image")?;
            if is_token(text) {
                return Some(Run::Package(text.to_string()));
            }
            r.report(spot, "this is not the name of a package", RUN_HINT);
            None
        }
    }
}

fn command(r: &mut Reader, spot: &Spot<'_>) -> Option<Run> {
    let items = r.list(spot, "the program and its arguments")?;
    if items.len() > MAX_ARGUMENTS {
        let message = format!("the command has {} parts, the limit is {MAX_ARGUMENTS}", items.len());
        r.report(spot, message, "put the arguments into a script");
        return None;
    }
    let parts: Vec<String> = items.iter().filter_map(|item| r.text(item, "a part of the command").map(str::to_string)).collect();
    if items.is_empty() {
        r.report(spot, "the command is empty", RUN_HINT);
        return None;
    }
    (parts.len() == items.len()).then_some(Run::Command(parts))
}

fn image(r: &mut Reader, spot: &Spot<'_>) -> Option<Run> {
    let text = r.text(spot, "the name of an image")?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '/' | ':');
    let last = text.rsplit('/').next().unwrap_or_default();
    if text.len() > 255 || last.is_empty() || !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.chars().all(fits) {
        r.report(spot, "this is not the name of an image", "write the name without a tag, for example airbyte/source-okta");
        return None;
    }
    if let Some((name, tag)) = last.split_once(':') {
        let hint = format!("write {}{name} and version: \"{tag}\"", text.strip_suffix(last).unwrap_or_default());
        r.report(spot, "the name of the image has a tag", hint);
        return None;
    }
    Some(Run::Image(text.to_string()))
}

/// Whether `text` can be the name of a package or a version, and a part of the name of a folder.
fn is_token(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    text.len() <= 100 && text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fits)
}

/// Reads the version. A command may leave it out.
fn version(r: &mut Reader, fields: &Fields<'_>, run: &Run) -> Option<String> {
    let hint = match run {
        Run::Package(package) => {
            format!("`aam airbyte install {}` prints the version to write here", super::super::airbyte::connector_name(package))
        }
        Run::Command(_) | Run::Image(_) => "write the tag of the image".to_string(),
    };
    let spot = match run {
        Run::Command(_) => match fields.get("version").filter(|spot| !spot.node.is_null()) {
            Some(spot) => spot,
            None => return Some(String::new()),
        },
        Run::Package(_) | Run::Image(_) => r.required(fields, "version", &hint)?,
    };
    let text = r.text(&spot, "a version")?;
    if !is_token(text) {
        r.report(&spot, "this is not a version", "write one version, for example version: 0.3.26");
        return None;
    }
    Some(text.to_string())
}

fn sha256(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "a SHA-256")?;
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')) {
        return Some(text.to_string());
    }
    r.report(spot, "this is not a SHA-256", "write 64 lower-case hex digits in quotes; `aam airbyte install` prints them");
    None
}

fn config(r: &mut Reader, spot: &Spot<'_>) -> Option<Map<String, Value>> {
    let NodeKind::Map(_) = &spot.node.kind else {
        r.report(
            spot,
            "the config is not a mapping",
            "write the keys of the connector's config, for example config: {start_date: \"2024-01-01T00:00:00Z\"}",
        );
        return None;
    };
    let Value::Object(config) = value(spot.node, 0) else { return None };
    let mut problem = None;
    each_text(&Value::Object(config.clone()), &mut |text| problem = problem.take().or(placeholders(text).err()));
    if let Some(problem) = problem {
        r.report(spot, problem, PLACEHOLDERS);
        return None;
    }
    Some(config)
}

const PLACEHOLDERS: &str = "the placeholders are {resource_id}, {resource_id.host}, {resource_id.label}, {resource_id.tree}, {credential.FIELD} and {credential.FIELD?}";

/// The hosts of a connector that AAM ships, in the form in which the policy has them.
fn shipped_hosts(hosts: &[String]) -> Vec<String> {
    hosts.iter().map(|host| if host.contains('{') { host.clone() } else { format!("https://{host}") }).collect()
}

/// Reads a host, which becomes an origin unless it has a placeholder.
fn host(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "a host")?;
    if !text.contains('{') {
        return manifests::origin(r, spot);
    }
    let found = match placeholders(text) {
        Ok(found) => found,
        Err(problem) => {
            r.report(spot, problem, PLACEHOLDERS);
            return None;
        }
    };
    // Any resource id and any field must give a host; these stand for all of them.
    let is_host = !found.is_empty()
        && !text.contains('*')
        && origin(text, "a.example", &|_| Some("a".to_string())).flatten().is_some_and(|origin| {
            // The mark of a field that may be missing is part of a placeholder, and not of an address.
            let plain = text.replace("?}", "}");
            let rest = plain.split_once("://").map_or(plain.as_str(), |(_, rest)| rest);
            !rest.contains(['/', '?', '#', '@']) && origin.len() > "https://".len()
        });
    if !is_host {
        r.report(
            spot,
            "invalid host",
            "write {resource_id}, {resource_id.host}, or a host such as \"{resource_id.label}.okta.com\"; no path and no *",
        );
        return None;
    }
    Some(text.to_string())
}

fn streams(r: &mut Reader, spot: &Spot<'_>) -> Option<Vec<String>> {
    r.unique(spot, "streams", |r, item| r.text(item, "the name of a stream").map(str::to_string))
}

/// Reads a file or a folder that a connector may read. Which places stay closed is known when the connector starts.
fn readable(r: &mut Reader, spot: &Spot<'_>) -> Option<PathBuf> {
    let text = r.text(spot, "the path of a file or a folder")?;
    let path = PathBuf::from(text);
    let is_whole = path.components().all(|part| matches!(part, Component::RootDir | Component::CurDir));
    if is_whole || text.starts_with('~') || path.components().any(|part| part == Component::ParentDir) {
        r.report(
            spot,
            "this path is not allowed here",
            "write a file or a folder with nothing but the files of the connector, for example /opt/acme; no ~, no .. and no root or working directory",
        );
        return None;
    }
    Some(path)
}

fn platform(r: &mut Reader, spot: &Spot<'_>) -> Option<Platform> {
    let fields = r.fields(spot, &["url", "workspace", "credential"])?;
    let what = "the address of Airbyte's API, for example https://airbyte.acme.example/api/public/v1";
    let url = r
        .required(&fields, "url", &format!("write {what}"))
        .and_then(|spot| secret_address(r, &spot, what, false))
        .and_then(|text| url::Url::parse(&text).ok());
    let workspace = r
        .required(&fields, "workspace", "write the id of the workspace, the UUID behind /workspaces/ in the address of its pages")
        .and_then(|spot| workspace(r, &spot));
    let hint = "write where the client id and secret of an application, or a user name and a password, are stored, for example credential: env:AIRBYTE_APPLICATION";
    let credential = r.required(&fields, "credential", hint).and_then(|spot| locator(r, &spot));
    Some(Platform { url: url?, workspace: workspace?, credential: credential? })
}

fn workspace(r: &mut Reader, spot: &Spot<'_>) -> Option<String> {
    let text = r.text(spot, "the id of a workspace")?;
    match uuid::Uuid::try_parse(text) {
        Ok(id) => Some(id.to_string()),
        Err(_) => {
            r.report(
                spot,
                "the id of the workspace is not a UUID",
                "copy it from the address of the workspace's pages, behind /workspaces/",
            );
            None
        }
    }
}

#[cfg(test)]
#[path = "airbyte_tests.rs"]
mod tests;
