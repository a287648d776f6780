//! Prints the section `airbyte`.

use super::super::airbyte::{Airbyte, ConnectorPolicy, Run};
use super::super::size_text::format as size;
use super::{list, or_null, quoted};
use std::fmt::Write as _;

pub fn airbyte(airbyte: &Airbyte) -> String {
    let mut text = format!(
        "airbyte:\n  dir: {}\n  memory: {}\n  allow_weaker_confinement: {}\n  connectors:",
        quoted(&airbyte.dir.to_string_lossy()),
        size(&airbyte.memory),
        airbyte.allow_weaker_confinement
    );
    if airbyte.connectors.is_empty() {
        text.push_str(" {}");
    }
    for (name, entry) in &airbyte.connectors {
        connector(&mut text, name, entry);
    }
    match &airbyte.platform {
        None => text.push_str("\n  platform: null"),
        Some(platform) => {
            let _ = write!(
                text,
                "\n  platform:\n    url: {}\n    workspace: {}\n    credential: {}",
                quoted(platform.url.as_str()),
                quoted(&platform.workspace),
                quoted(&platform.credential.to_string())
            );
        }
    }
    text
}

fn connector(text: &mut String, name: &str, connector: &ConnectorPolicy) {
    let run = match &connector.run {
        Run::Package(package) => quoted(package),
        Run::Command(command) => list(command),
        Run::Image(image) => format!("{{image: {}}}", quoted(image)),
    };
    let version = Some(&connector.version).filter(|version| !version.is_empty());
    // JSON is valid YAML. What a config holds is not known, so it is not printed in another form.
    let _ = write!(
        text,
        "\n    {name}:\n      run: {run}\n      version: {}\n      sha256: {}\n      config: {}\n      hosts: {}\n      posts:",
        or_null(version),
        or_null(connector.sha256.as_ref()),
        serde_json::to_string(&connector.config).unwrap_or_default(),
        list(&connector.hosts)
    );
    if connector.posts.is_empty() {
        text.push_str(" []");
    }
    for post in &connector.posts {
        let _ = write!(text, "\n        - {}", serde_json::to_string(post).unwrap_or_default());
    }
    let _ = write!(text, "\n      memory: {}\n      streams: {}", size(&connector.memory), list(&connector.streams));
    let _ = write!(text, "\n      readable: {}", list(connector.readable.iter().map(|path| path.to_string_lossy())));
}
