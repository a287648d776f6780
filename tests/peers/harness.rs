//! Runs the tests whose peers are present, and lists the tests that it did not run.

use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::ExitCode;

/// Set by `make peers` and in CI: a test whose peer is missing then fails instead of being left out.
const REQUIRE_PEERS: &str = "AAM_REQUIRE_PEERS";

/// A server or program that `scripts/peers/<name>.sh` installs and starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    Postgres,
    Postgres18,
    Mariadb,
    Moto,
    Nanio,
    Fastapi,
    Litestar,
    Ninja,
    Spectacular,
    Nestjs,
    Chromadb,
    Prism,
    Cdk,
    Chromium,
    Browser,
    Authlib,
    Openbao,
    Oidc,
    Oauthlib,
    Okta,
    Salesforce,
    Servicenow,
    Snowduck,
    Drivemock,
    Sqlapi,
    Graph,
    Gitlab,
    Google,
    Zendesk,
    Zoom,
    Pagerduty,
    Netsuite,
    Workday,
    Atlassian,
    Azure,
    Supabase,
    Files,
    Datadog,
    Smongo,
    Nx27017,
    Boto3,
    Apiclients,
    Listeners,
    Deploy,
    AirbytePlatform,
    AirbyteConnectors,
    PostgresPair,
}

impl Peer {
    /// The name of the peer's script.
    fn as_str(self) -> &'static str {
        match self {
            Peer::Postgres => "postgres",
            Peer::Postgres18 => "postgres18",
            Peer::Mariadb => "mariadb",
            Peer::Moto => "moto",
            Peer::Nanio => "nanio",
            Peer::Fastapi => "fastapi",
            Peer::Litestar => "litestar",
            Peer::Ninja => "ninja",
            Peer::Spectacular => "spectacular",
            Peer::Nestjs => "nestjs",
            Peer::Chromadb => "chromadb",
            Peer::Prism => "prism",
            Peer::Cdk => "cdk",
            Peer::Chromium => "chromium",
            Peer::Browser => "browser",
            Peer::Authlib => "authlib",
            Peer::Openbao => "openbao",
            Peer::Oidc => "oidc",
            Peer::Oauthlib => "oauthlib",
            Peer::Okta => "okta",
            Peer::Salesforce => "salesforce",
            Peer::Servicenow => "servicenow",
            Peer::Snowduck => "snowduck",
            Peer::Drivemock => "drivemock",
            Peer::Sqlapi => "sqlapi",
            Peer::Graph => "graph",
            Peer::Gitlab => "gitlab",
            Peer::Google => "google",
            Peer::Zendesk => "zendesk",
            Peer::Zoom => "zoom",
            Peer::Pagerduty => "pagerduty",
            Peer::Netsuite => "netsuite",
            Peer::Workday => "workday",
            Peer::Atlassian => "atlassian",
            Peer::Azure => "azure",
            Peer::Supabase => "supabase",
            Peer::Files => "files",
            Peer::Datadog => "datadog",
            Peer::Smongo => "smongo",
            Peer::Nx27017 => "nx27017",
            Peer::Boto3 => "boto3",
            Peer::Apiclients => "apiclients",
            Peer::Listeners => "listeners",
            Peer::Deploy => "deploy",
            Peer::AirbytePlatform => "airbyte_platform",
            Peer::AirbyteConnectors => "airbyte_connectors",
            Peer::PostgresPair => "postgres_pair",
        }
    }

    /// A variable that the peer's script always sets.
    fn marker(self) -> &'static str {
        match self {
            Peer::Postgres | Peer::Postgres18 | Peer::Mariadb | Peer::Smongo | Peer::Nx27017 => "PORT",
            Peer::Moto | Peer::Nanio => "ENDPOINT",
            Peer::Fastapi | Peer::Litestar | Peer::Ninja | Peer::Spectacular | Peer::Nestjs | Peer::Chromadb | Peer::Oauthlib => {
                "URL"
            }
            Peer::Snowduck | Peer::Drivemock => "URL",
            Peer::Okta | Peer::Salesforce | Peer::Datadog => "RECORDINGS",
            Peer::Servicenow | Peer::Sqlapi => "MOCK",
            Peer::Prism => "GITHUB",
            Peer::Graph | Peer::Workday | Peer::Atlassian | Peer::Azure | Peer::Files => "CHECKED",
            Peer::Gitlab | Peer::Zendesk | Peer::Zoom | Peer::Netsuite => "CONNECTOR",
            Peer::Google => "ORGANIZATIONS",
            Peer::Pagerduty => "SCRIPT",
            Peer::Supabase => "NODE",
            Peer::Cdk | Peer::Boto3 | Peer::Listeners | Peer::Deploy | Peer::AirbytePlatform => "PYTHON",
            Peer::AirbyteConnectors => "PYTHON_VERSION",
            Peer::Apiclients => "MODULES",
            Peer::Chromium | Peer::PostgresPair => "BIN",
            Peer::Browser => "NODE_MODULES",
            Peer::Openbao => "DEV_URL",
            Peer::Authlib | Peer::Oidc => "TOKEN_URL",
        }
    }

    fn is_present(self) -> bool {
        std::env::var_os(variable_name(&self.as_str().to_uppercase(), self.marker())).is_some()
    }
}

fn variable_name(peer: &str, name: &str) -> String {
    format!("AAM_TEST_{peer}_{name}")
}

/// A variable that the script of `peer` (in capitals) set.
pub fn variable(peer: &str, name: &str) -> String {
    let full = variable_name(peer, name);
    std::env::var(&full).unwrap_or_else(|_| panic!("{full} is not set; run make peers"))
}

/// A test and the peers without which it cannot run.
pub struct PeerTest {
    pub name: &'static str,
    pub peers: &'static [Peer],
    pub run: fn(),
}

impl PeerTest {
    fn missing(&self) -> Vec<&'static str> {
        self.peers.iter().filter(|peer| !peer.is_present()).map(|peer| peer.as_str()).collect()
    }
}

/// Lists the tests of a module with the peers that each of them needs. A test that is not listed is dead code, which
/// `make check-lints` reports.
macro_rules! peer_tests {
    ($([$($peer:ident),*]: $($name:ident),+;)+) => {
        pub fn tests() -> Vec<$crate::harness::PeerTest> {
            let mut tests = Vec::new();
            $({
                const PEERS: &[$crate::harness::Peer] = &[$($crate::harness::Peer::$peer),*];
                $(tests.push($crate::harness::PeerTest {
                    name: concat!(module_path!(), "::", stringify!($name)),
                    peers: PEERS,
                    run: || $crate::harness::block_on($name()),
                });)+
            })+
            tests
        }
    };
}

/// Runs one test. Two threads, so that a test that waits for a process does not stop its own servers.
pub fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// Runs the tests that the command line selects; takes the arguments of `cargo test`.
pub fn run(tests: Vec<Vec<PeerTest>>) -> ExitCode {
    let arguments = Arguments::from_args();
    let required = std::env::var_os(REQUIRE_PEERS).is_some_and(|value| !value.is_empty());
    let mut left_out: BTreeMap<Vec<&'static str>, Vec<&'static str>> = BTreeMap::new();
    let mut trials = Vec::new();
    for test in tests.into_iter().flatten() {
        let name = test.name.trim_start_matches("peers::");
        let missing = test.missing();
        trials.push(match (missing.is_empty(), required) {
            (true, _) => Trial::test(name, move || {
                (test.run)();
                Ok(())
            }),
            (false, true) => Trial::test(name, move || Err(Failed::from(format!("not run: {} missing", missing.join(", "))))),
            (false, false) => {
                if is_selected(&arguments, name) {
                    left_out.entry(missing).or_default().push(name);
                }
                Trial::test(name, || Err(Failed::from("its peers are missing"))).with_ignored_flag(true)
            }
        });
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list && !left_out.is_empty() {
        eprint!("{}", report(&left_out));
    }
    conclusion.exit_code()
}

/// Whether the command line asks for the test `name`.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |filter: &String| if arguments.exact { name == filter } else { name.contains(filter.as_str()) };
    arguments.filter.as_ref().is_none_or(matches) && !arguments.skip.iter().any(matches)
}

/// The tests that were not run, grouped by the peers that are missing.
fn report(left_out: &BTreeMap<Vec<&'static str>, Vec<&'static str>>) -> String {
    let count: usize = left_out.values().map(Vec::len).sum();
    let mut text =
        format!("\nNOT RUN: {count} tests, because their peers are missing. `make peers` starts them and runs all tests.\n");
    for (peers, names) in left_out {
        let _ = writeln!(
            text,
            "  {} missing (scripts/with_peers.sh {} -- cargo test --test peers):",
            peers.join(", "),
            peers.join(" ")
        );
        for name in names {
            let _ = writeln!(text, "    {name}");
        }
    }
    text
}

/// The JSON response of `url`.
pub async fn get_json(url: &str) -> serde_json::Value {
    http_client().get(url).send().await.expect("a response").json().await.expect("JSON")
}

/// A client that ignores the proxy settings of the environment.
pub fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}
