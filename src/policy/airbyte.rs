//! The section `airbyte`: connectors that run as processes of their own, and a company's own Airbyte.
//!
//! A connector in Python or Java is code that AAM did not write. The policy says which one serves a source type, in which
//! version, what it may call, and how much memory it may take. `docs/airbyte.md` explains the keys.

mod origins;
mod served;
mod template;

use super::{Policy, size_text};
use crate::model::{Locator, PostRule};
pub use origins::AllowedOrigin;
pub(super) use origins::origin;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
pub(super) use template::each_text;
pub use template::{CredentialField, Placeholder, ResourcePart, fill, placeholders};
use url::Url;

/// The folder of installed connectors if the policy does not name one.
pub const DEFAULT_DIR: &str = "var/airbyte";
/// The bytes that all connectors together may take if the policy does not say.
pub const DEFAULT_MEMORY_BYTES: u64 = 1 << 30;
/// The bytes that one connector may take if the policy does not say.
pub const DEFAULT_CONNECTOR_BYTES: u64 = 512 << 20;
/// The name of the engine that runs connectors as processes.
pub const PROCESS_ENGINE: &str = "airbyte";
/// The name of the engine that works through a company's own Airbyte.
pub const PLATFORM_ENGINE: &str = "airbyte_platform";

/// How long a step and an attempt may take by default if a connector runs as a process, in seconds. A command of a large
/// connector takes 10 s on a busy machine before it makes its first request, and a step may run two commands.
pub const PROCESS_SECONDS: (u64, u64) = (60, 180);
/// How long a step and an attempt may take through the company's own Airbyte, in seconds: each check and each discovery starts a
/// job there, which takes 10 s to 2 minutes \[K\].
pub const PLATFORM_SECONDS: (u64, u64) = (180, 600);

/// The section `airbyte`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Airbyte {
    /// The folder of installed connectors, relative to the working directory of the process.
    pub dir: PathBuf,
    /// The bytes that all running connectors together may take.
    #[serde(serialize_with = "size_text::serialize")]
    pub memory: u64,
    /// Whether connectors run also where the kernel cannot confine files, network or system calls completely.
    pub allow_weaker_confinement: bool,
    /// The connectors by the source types that they serve: families or custom source types.
    pub connectors: BTreeMap<String, ConnectorPolicy>,
    /// The company's own Airbyte.
    pub platform: Option<Platform>,
}

/// A connector that runs as a process. What the policy leaves out comes from the description that AAM ships for the
/// connector, so all values are those in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectorPolicy {
    pub run: Run,
    /// The version of the package, or the tag of the image. It is empty for a command that the policy gives no version.
    pub version: String,
    /// The SHA-256 in lower-case hex: of the lock file of a package, of the program of a command, or of an image.
    pub sha256: Option<String>,
    /// The config of the connector. Its texts may hold placeholders, see [`Placeholder`]; [`ConnectorPolicy::filled_config`]
    /// fills them.
    pub config: Map<String, Value>,
    /// The hosts that it may call: origins such as `https://api.acme.example`, and texts with placeholders, as they are
    /// written. [`ConnectorPolicy::origins`] fills them.
    pub hosts: Vec<String>,
    /// The POST requests that only read.
    pub posts: Vec<PostRule>,
    /// The bytes that one run may take.
    #[serde(serialize_with = "size_text::serialize")]
    pub memory: u64,
    /// The streams of which the tiny sync reads the first that the source has. If empty, the first stream of the catalog.
    pub streams: Vec<String>,
    /// Files and folders that it may read besides its program, relative to the working directory of the process.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readable: Vec<PathBuf>,
}

/// What runs a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// A package of the Python package registry, for example `airbyte-source-okta`, which `aam airbyte install` installs.
    Package(String),
    /// A program and its first arguments.
    Command(Vec<String>),
    /// An image that podman or docker runs, without its tag.
    Image(String),
}

/// A company's own Airbyte, self-managed or in the cloud.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Platform {
    /// The address of its API, for example `https://airbyte.acme.example/api/public/v1`.
    #[serde(serialize_with = "as_text")]
    pub url: Url,
    /// The id of the workspace in which AAM creates its sources.
    pub workspace: String,
    /// Where the application's client id and secret, or a user name and a password, are stored.
    pub credential: Locator,
}

fn as_text<S: serde::Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(url.as_str())
}

/// Which engine the policy wants for a source type: `families.NAME.engine`. Ordered by how much code that AAM did not write
/// may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// AAM's own engine, also if the policy lists a connector.
    Native,
    /// A connector that the policy lists under `airbyte.connectors`, otherwise AAM's own engine.
    #[default]
    Auto,
    /// The connector of the policy, otherwise the company's own Airbyte.
    Airbyte,
}

impl EngineChoice {
    /// The values of `families.NAME.engine`.
    pub const NAMES: [&str; 3] = ["auto", "native", "airbyte"];

    /// Whether this is what holds if the policy says nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == EngineChoice::default()
    }

    /// Returns the value in the policy.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Native => "native",
            EngineChoice::Airbyte => "airbyte",
        }
    }

    /// The reverse of [`EngineChoice::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<EngineChoice> {
        [EngineChoice::Auto, EngineChoice::Native, EngineChoice::Airbyte].into_iter().find(|choice| choice.as_str() == text)
    }
}

/// The engine that serves a source type under a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineInForce {
    /// AAM's own engine, which the file of the family names.
    Native,
    /// A connector that runs as a process.
    Process,
    /// The company's own Airbyte.
    Platform,
}

impl EngineInForce {
    /// Returns the name in `aam families` and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.engine_name().unwrap_or("native")
    }

    /// Returns the name of the engine, or `None` for the one that the file of the family names.
    #[must_use]
    pub fn engine_name(self) -> Option<&'static str> {
        match self {
            EngineInForce::Native => None,
            EngineInForce::Process => Some(PROCESS_ENGINE),
            EngineInForce::Platform => Some(PLATFORM_ENGINE),
        }
    }
}

impl Default for Airbyte {
    fn default() -> Airbyte {
        Airbyte {
            dir: PathBuf::from(DEFAULT_DIR),
            memory: DEFAULT_MEMORY_BYTES,
            allow_weaker_confinement: false,
            connectors: BTreeMap::new(),
            platform: None,
        }
    }
}

impl Airbyte {
    /// The connector that serves the source type `name`.
    #[must_use]
    pub fn connector(&self, name: &str) -> Option<&ConnectorPolicy> {
        self.connectors.get(name)
    }

    /// The virtual environment of a version of a package: `DIR/source-okta-0.3.26`.
    #[must_use]
    pub fn environment(&self, package: &str, version: &str) -> PathBuf {
        self.dir.join(format!("{}-{version}", connector_name(package)))
    }

    /// The file beside the virtual environment that pins every package of it with its digest.
    #[must_use]
    pub fn lock_file(&self, package: &str, version: &str) -> PathBuf {
        self.dir.join(format!("{}-{version}.lock", connector_name(package)))
    }

    /// The program of an installed package.
    #[must_use]
    pub fn program(&self, package: &str, version: &str) -> PathBuf {
        self.environment(package, version).join("bin").join(connector_name(package))
    }
}

/// The name of a connector, and of the command of its package: the package's without `airbyte-`.
#[must_use]
pub fn connector_name(package: &str) -> &str {
    package.strip_prefix("airbyte-").unwrap_or(package)
}

impl Run {
    /// The word for what runs the connector: `package`, `command` or `image`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Run::Package(_) => "package",
            Run::Command(_) => "command",
            Run::Image(_) => "image",
        }
    }

    /// For people: `airbyte-source-okta`, `command /opt/source`, `image airbyte/source-okta`.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Run::Package(name) => name.clone(),
            Run::Command(command) => format!("command {}", command.join(" ")),
            Run::Image(image) => format!("image {image}"),
        }
    }

    /// The name of the connector, for example `source-okta`, by which AAM knows what it ships about it.
    #[must_use]
    pub fn connector_name(&self) -> &str {
        match self {
            Run::Package(name) => connector_name(name),
            Run::Command(command) => {
                let program = command.first().map(Path::new).and_then(Path::file_name);
                program.and_then(|name| name.to_str()).unwrap_or_default()
            }
            Run::Image(image) => image.rsplit('/').next().unwrap_or_default(),
        }
    }
}

impl EngineInForce {
    /// The seconds that a step and an attempt may take, if they differ from the defaults of `safe_mode`. `of_vendor` are those of
    /// a family whose vendor answers slowly.
    #[must_use]
    pub fn seconds(self, of_vendor: Option<(u64, u64)>) -> Option<(u64, u64)> {
        match self {
            EngineInForce::Platform => Some(PLATFORM_SECONDS),
            EngineInForce::Process => {
                let (step, attempt) = of_vendor.unwrap_or_default();
                Some((step.max(PROCESS_SECONDS.0), attempt.max(PROCESS_SECONDS.1)))
            }
            EngineInForce::Native => of_vendor,
        }
    }
}

impl Policy {
    /// The engine that serves the source type `name`. The parser has refused `engine: airbyte` without a connector and
    /// without a platform.
    #[must_use]
    pub fn engine(&self, name: &str) -> EngineInForce {
        let choice = self.families.get(name).map(|family| family.engine).unwrap_or_default();
        let has_connector = self.airbyte.connectors.contains_key(name);
        match choice {
            EngineChoice::Native => EngineInForce::Native,
            EngineChoice::Auto | EngineChoice::Airbyte if has_connector => EngineInForce::Process,
            EngineChoice::Airbyte if self.airbyte.platform.is_some() => EngineInForce::Platform,
            EngineChoice::Auto | EngineChoice::Airbyte => EngineInForce::Native,
        }
    }

    /// The part of the section that can change the outcome for the source type `name`, or `None` if AAM's own engine
    /// serves it.
    pub(super) fn airbyte_slice(&self, name: &str) -> Option<Value> {
        let weaker = self.airbyte.allow_weaker_confinement;
        match self.engine(name) {
            EngineInForce::Native => None,
            EngineInForce::Process => {
                Some(json!({"dir": self.airbyte.dir, "weaker": weaker, "connector": self.airbyte.connector(name)}))
            }
            EngineInForce::Platform => Some(json!({"platform": self.airbyte.platform})),
        }
    }
}

#[cfg(test)]
#[path = "airbyte_tests.rs"]
mod tests;
