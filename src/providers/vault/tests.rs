//! The keeper of tokens and leases against a scripted vault and a clock that jumps.

use super::api::{VaultCall, VaultContext, VaultResponse, VaultTransport};
use super::*;
use crate::egress::{DayBudget, Egress};
use crate::policy::parse::parse;
use crate::providers::{Process, Reading};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// A clock whose two times a test moves.
#[derive(Default)]
struct TestClock(Mutex<(Duration, i64)>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000 + lock(&self.0).1)
    }

    fn monotonic(&self) -> Duration {
        lock(&self.0).0
    }
}

struct NoBudget;

impl DayBudget for NoBudget {
    fn take<'a>(&'a self, _: &'a str, _: i64, wanted: u64, _: u64) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(std::future::ready(Ok(wanted)))
    }
}

/// The beginning of each token.
const TOKEN: &str = "hvs.scripted-token-";

/// Something that ends, in seconds of the true time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) end: u64,
    max: u64,
    ttl: u64,
    pub(super) revoked: bool,
}

/// A vault in memory, which notes each use of what has ended.
#[derive(Default)]
pub(super) struct ScriptedVault {
    now: u64,
    /// The validity and the maximum life of tokens and leases.
    token: (u64, u64),
    lease: (u64, u64),
    pub(super) tokens: BTreeMap<String, Life>,
    /// Leases with their tokens.
    leases: BTreeMap<String, (Life, String)>,
    down: bool,
    denies_renewals: bool,
    reads: usize,
    logins: usize,
    violations: Vec<String>,
    /// Replaces the answer to a read.
    answer: Option<(u16, Value)>,
}

struct Scripted(Arc<Mutex<ScriptedVault>>);

impl VaultTransport for Scripted {
    fn send<'a>(&'a self, _: &'a VaultContext<'a>, call: &'a VaultCall) -> BoxFuture<'a, Result<VaultResponse, Failure>> {
        Box::pin(async move {
            // The vault judges a call when it is sent. Its answer may take any time.
            let answer = {
                let mut vault = lock(&self.0);
                if vault.down { None } else { Some(vault.answer(call)) }
            };
            tokio::task::yield_now().await;
            let Some((status, body)) = answer else {
                return Err(Failure::new(Class::Network, "connection refused", "start it"));
            };
            let body = body.as_object().cloned().unwrap_or_default();
            let location = (status == 307).then(|| "https://active.acme.example:8200/v1/kv/data/a".to_string());
            Ok(VaultResponse { status, body, location })
        })
    }
}

impl ScriptedVault {
    fn answer(&mut self, call: &VaultCall) -> (u16, Value) {
        let now = self.now;
        if call.path.ends_with("/login") {
            let name = format!("{TOKEN}{}", self.logins);
            self.logins += 1;
            let (ttl, max) = self.token;
            self.tokens.insert(name.clone(), Life { end: now + ttl, max: now + max, ttl, revoked: false });
            return (200, json!({"auth": {"client_token": name, "lease_duration": ttl, "renewable": true, "policies": ["aam"]}}));
        }
        if call.path == "sys/seal-status" {
            return (200, json!({"initialized": true, "sealed": false}));
        }
        let token = call.token.as_ref().map(|token| token.expose().to_string()).unwrap_or_default();
        let life = self.tokens[&token];
        if life.revoked {
            return (403, json!({"errors": ["permission denied"]}));
        }
        if now >= life.end {
            self.violations.push(format!("{token} ended at {} and is used at {now}", life.end));
            return (403, json!({"errors": ["permission denied"]}));
        }
        let denied = (403, json!({"errors": ["1 error occurred:\n\t* permission denied\n\n"]}));
        match call.path.as_str() {
            "auth/token/renew-self" if self.denies_renewals => denied,
            "auth/token/renew-self" => {
                let life = self.tokens.get_mut(&token).unwrap();
                life.end = (now + life.ttl).min(life.max);
                (200, json!({"auth": {"lease_duration": life.end - now, "renewable": true}}))
            }
            "auth/token/revoke-self" => {
                self.tokens.get_mut(&token).unwrap().revoked = true;
                self.leases.values_mut().filter(|(_, of)| *of == token).for_each(|(life, _)| life.revoked = true);
                (204, json!({}))
            }
            "sys/leases/renew" if self.denies_renewals => denied,
            "sys/leases/renew" | "sys/leases/revoke" => {
                let id = call.post.as_ref().unwrap().fields[0].1.expose();
                let Some((life, _)) = self.leases.get_mut(id) else { return (400, json!({"errors": ["lease not found"]})) };
                if life.revoked || now >= life.end {
                    return (400, json!({"errors": ["lease not found"]}));
                }
                if call.path.ends_with("revoke") {
                    life.revoked = true;
                    return (204, json!({}));
                }
                life.end = (now + life.ttl).min(life.max);
                (200, json!({"lease_id": id, "renewable": true, "lease_duration": life.end - now}))
            }
            path if path.starts_with("sys/internal/ui/mounts/") => {
                let mount = path.trim_start_matches("sys/internal/ui/mounts/").split('/').next().unwrap();
                let kind = if mount == "kv" { "kv" } else { mount };
                (200, json!({"data": {"path": format!("{mount}/"), "type": kind, "options": {"version": "2"}}}))
            }
            path => {
                self.reads += 1;
                if let Some(answer) = &self.answer {
                    return answer.clone();
                }
                if path.starts_with("kv/") {
                    let fields = json!({"token": format!("value of {path}"), "user": "someone"});
                    return (200, json!({"data": {"data": fields, "metadata": {"version": 3, "deletion_time": ""}}}));
                }
                let (ttl, max) = self.lease;
                let id = format!("{path}/{}", self.leases.len());
                self.leases.insert(id.clone(), (Life { end: now + ttl, max: now + max, ttl, revoked: false }, token));
                let data =
                    json!({"access_key": format!("AKIA{id}"), "secret_key": format!("secret of {id}"), "security_token": null});
                (200, json!({"lease_id": id, "renewable": true, "lease_duration": ttl, "data": data}))
            }
        }
    }

    /// Whether a lease and its token have not ended.
    fn is_valid(&self, id: &str) -> bool {
        let (life, token) = &self.leases[id];
        life.revoked || self.tokens[token].revoked || self.now < life.end && self.now < self.tokens[token].end
    }
}

/// The providers of one process, and what they talk to.
pub(super) struct Setup {
    pub(super) providers: Arc<Providers>,
    pub(super) vault: Arc<Mutex<ScriptedVault>>,
    clock: Arc<TestClock>,
    pub(super) policy: Arc<Policy>,
}

impl Setup {
    pub(super) fn new(token: (u64, u64), lease: (u64, u64)) -> Setup {
        let vault = Arc::new(Mutex::new(ScriptedVault { token, lease, ..ScriptedVault::default() }));
        let text = "version: 1\nallowlist: [openapi]\nsafe_mode: {attempt_timeout: 6s, step_timeout: 3s}\ncredentials: {vault: {address: \"https://vault.acme.example\", \
                    login: {method: approle, role_id: \"env:ROLE\", secret_id: \"env:SECRET\"}}}\n";
        let policy = Arc::new(parse(text, "p").unwrap());
        let clock = Arc::new(TestClock::default());
        Setup { providers: process(&clock, &vault), vault, clock, policy }
    }

    fn request(&self, connection: u32, locator: &str, reading: Reading) -> CredentialRequest {
        CredentialRequest {
            locator: Locator::parse(locator).unwrap(),
            connection: ConnectionId::derive("autonomy", "openapi", &[connection.to_string()]),
            namespace: "autonomy".to_string(),
            owner: "owner@acme.example".to_string(),
            family: Arc::clone(crate::families::find("openapi").unwrap()),
            resource_ids: Arc::from(Vec::new()),
            policy: Arc::clone(&self.policy),
            reading,
        }
    }

    pub(super) async fn read(&self, connection: u32, locator: &str) -> Result<ProvidedCredential, Failure> {
        self.providers.provide(&self.request(connection, locator, Reading::Cached)).await
    }

    /// Moves the true time, the monotonic clock and the clock of the machine by these seconds.
    pub(super) fn pass(&self, truly: u64, monotonic: u64, wall: i64) {
        lock(&self.vault).now += truly;
        let mut clock = lock(&self.clock.0);
        clock.0 += Duration::from_secs(monotonic);
        clock.1 += wall * 1000;
    }
}

fn process(clock: &Arc<TestClock>, vault: &Arc<Mutex<ScriptedVault>>) -> Arc<Providers> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    let transport = Box::new(Scripted(Arc::clone(vault)));
    let vault = VaultProvider::with_transport(&clock, transport);
    let egress = Egress::new(Arc::new(NoBudget));
    let read_env: crate::providers::ReadEnv = Arc::new(|name| Some(format!("the value of {name}")));
    Providers::with_vault(egress, clock, (Process::Recording, read_env), vault)
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn ten_thousand_connections_on_a_hundred_secrets_cost_a_hundred_reads() {
    let setup = Setup::new((3600, 36_000), (60, 600));
    runtime().block_on(async {
        for connection in 0..10_000 {
            let found = setup.read(connection, &format!("vault:kv/secret-{}#token", connection % 100)).await.unwrap();
            assert!(found.credential.plain().is_some() && found.facts.changeable);
        }
    });
    let vault = lock(&setup.vault);
    assert_eq!((vault.reads, vault.logins), (100, 1));
}

#[test]
fn many_connections_share_a_lease_which_is_revoked_with_the_last_one() {
    let setup = Setup::new((3600, 36_000), (60, 600));
    runtime().block_on(async {
        let reads = (0..50).map(|connection| setup.read(connection, "vault:aws/creds/reader"));
        for found in futures_util::future::join_all(reads).await {
            let found = found.unwrap();
            let field = |name: &str| found.credential.field(name).map(|value| value.expose().to_string());
            assert_eq!(field("access_key_id"), Some("AKIAaws/creds/reader/0".to_string()));
            assert_eq!(field("secret_access_key"), Some("secret of aws/creds/reader/0".to_string()));
            assert_eq!(field("session_token"), None);
        }
        for connection in 0..50 {
            assert!(!lock(&setup.vault).leases["aws/creds/reader/0"].0.revoked);
            setup.providers.release(setup.request(connection, "env:X", Reading::Cached).connection).await;
        }
    });
    let vault = lock(&setup.vault);
    assert_eq!((vault.reads, vault.leases["aws/creds/reader/0"].0.revoked), (1, true));
}

#[test]
fn a_lease_without_users_is_revoked() {
    let setup = Setup::new((360_000, 3_600_000), (360_000, 3_600_000));
    runtime().block_on(async {
        setup.read(1, "vault:aws/creds/reader").await.unwrap();
        setup.pass(7 * 3600, 7 * 3600, 7 * 3600);
        setup.providers.vault.keep_all(&setup.providers).await;
        assert!(!lock(&setup.vault).leases["aws/creds/reader/0"].0.revoked, "its connection may be checked every 6 hours");
        setup.pass(6 * 3600, 6 * 3600, 6 * 3600);
        setup.providers.vault.keep_all(&setup.providers).await;
        assert!(lock(&setup.vault).leases["aws/creds/reader/0"].0.revoked);
    });
}

#[test]
fn a_rejected_lease_is_replaced_at_most_once_a_minute() {
    let setup = Setup::new((3600, 36_000), (600, 6000));
    runtime().block_on(async {
        let first = setup.read(1, "vault:aws/creds/reader").await.unwrap().facts.evidence["lease"].to_string();
        setup.read(2, "vault:aws/creds/reader").await.unwrap();
        let anew = |connection| {
            let request = setup.request(connection, "vault:aws/creds/reader", Reading::Anew);
            let providers = Arc::clone(&setup.providers);
            async move { providers.provide(&request).await.unwrap().facts.evidence["lease"].to_string() }
        };
        let second = anew(1).await;
        assert_ne!(first, second);
        // The other connection has not used the new one yet, and gets it.
        assert_eq!(anew(2).await, second);
        assert_eq!(anew(2).await, second);
        assert_eq!(lock(&setup.vault).leases.len(), 2);
        assert!(!lock(&setup.vault).leases["aws/creds/reader/0"].0.revoked, "an attempt may still use it");
        setup.pass(61, 61, 61);
        setup.providers.vault.keep_all(&setup.providers).await;
        assert!(lock(&setup.vault).leases["aws/creds/reader/0"].0.revoked);
        assert_ne!(anew(2).await, second);
    });
}

#[test]
fn answers_that_a_vault_never_gives_and_nodes_that_cannot_answer_are_named() {
    for (status, body, parts) in [
        (200, json!({}), ["does not have data", ""].as_slice()),
        (200, json!({"data": [1]}), &["does not have data"]),
        (200, json!({"data": {"data": "text", "metadata": {"version": 1}}}), &["is not one of KV version 2"]),
        (200, json!({"data": {"metadata": {"version": "x"}}}), &["is not one of KV version 2"]),
        (
            200,
            json!({"data": {"data": {"token": format!("{TOKEN}0")}, "metadata": {"version": 1}}}),
            &["is AAM's own vault token"],
        ),
        (
            400,
            json!({"errors": [format!("bad\u{1b}[31m {TOKEN}0 \n value")]}),
            &["did not read kv/data/a (400)", "bad[31m [redacted] value"],
        ),
        (412, json!({}), &["is not up to date"]),
        (472, json!({}), &["secondary for disaster recovery"]),
        (473, json!({}), &["performance standby"]),
        (501, json!({}), &["is not initialized"]),
        (500, json!({"errors": ["local node not active but active cluster node not found"]}), &["does not find its active node"]),
        (503, json!({"errors": ["Vault is sealed"]}), &["is sealed"]),
        (307, json!({}), &["is a standby node: it redirects to https://active.acme.example:8200"]),
    ] {
        let setup = Setup::new((3600, 36_000), (60, 600));
        lock(&setup.vault).answer = Some((status, body.clone()));
        let secrets = crate::credentials::redact::AttemptSecrets::new(&[]);
        let failure =
            runtime().block_on(secrets.run(setup.read(1, "vault:kv/a#token"))).err().unwrap_or_else(|| panic!("{body}"));
        let text = format!("{}; {}; {}", failure.title, failure.fix, failure.detail);
        parts.iter().for_each(|part| assert!(text.contains(part), "{status} {body}: {part} is not in {text}"));
        assert!(!text.contains(TOKEN), "{text}");
    }
}

#[derive(Clone, Debug)]
enum Action {
    Pass(u64),
    JumpAhead(i64),
    JumpBack(i64),
    Suspend(u64),
    Down(bool),
    DenyRenewals(bool),
    Attempt(u32, bool),
    GiveUp(u32),
    Upkeep,
    Crash,
    Release(u32),
    RevokeAll,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (1..40_u64).prop_map(Action::Pass),
        1 => (1..200_i64).prop_map(Action::JumpAhead),
        1 => (1..200_i64).prop_map(Action::JumpBack),
        1 => (1..200_u64).prop_map(Action::Suspend),
        1 => any::<bool>().prop_map(Action::Down),
        1 => any::<bool>().prop_map(Action::DenyRenewals),
        6 => (0..3_u32, prop::bool::weighted(0.2)).prop_map(|(connection, anew)| Action::Attempt(connection, anew)),
        1 => (0..3_u32).prop_map(Action::GiveUp),
        4 => Just(Action::Upkeep),
        1 => Just(Action::Crash),
        1 => (0..3_u32).prop_map(Action::Release),
        1 => Just(Action::RevokeAll),
    ]
}

proptest! {
    /// A clock that is set back while the machine is suspended shows nothing of the time that passed, so a run has either
    /// the one or the other.
    #[test]
    fn nothing_is_used_after_its_end(
        token in (4..60_u64, 1..5_u64),
        lease in (4..60_u64, 1..5_u64),
        suspends: bool,
        actions in prop::collection::vec(action(), 1..60),
    ) {
        let mut setup = Setup::new((token.0, token.0 * token.1), (lease.0, lease.0 * lease.1));
        runtime().block_on(async {
            for action in actions {
                match action {
                    Action::Pass(seconds) => setup.pass(seconds, seconds, seconds as i64),
                    Action::JumpAhead(seconds) => setup.pass(0, 0, seconds),
                    Action::JumpBack(seconds) if !suspends => setup.pass(0, 0, -seconds),
                    Action::Suspend(seconds) if suspends => setup.pass(seconds, 0, seconds as i64),
                    Action::JumpBack(_) | Action::Suspend(_) => {}
                    Action::Down(down) => lock(&setup.vault).down = down,
                    Action::DenyRenewals(denies) => lock(&setup.vault).denies_renewals = denies,
                    Action::Attempt(connection, anew) => {
                        let reading = if anew { Reading::Anew } else { Reading::Cached };
                        let request = setup.request(connection, "vault:aws/creds/reader", reading);
                        if let Ok(found) = setup.providers.provide(&request).await {
                            let id = found.facts.evidence["lease"].as_str().unwrap().to_string();
                            assert!(lock(&setup.vault).is_valid(&id), "{id} was handed out after its end");
                        }
                    }
                    Action::GiveUp(connection) => {
                        // The attempt ends while its call is under way.
                        let request = setup.request(connection, "vault:aws/creds/reader", Reading::Cached);
                        tokio::select! {
                            biased;
                            _ = setup.providers.provide(&request) => {}
                            () = std::future::ready(()) => {}
                        }
                    }
                    Action::Upkeep => setup.providers.vault.keep_all(&setup.providers).await,
                    Action::Crash => setup.providers = process(&setup.clock, &setup.vault),
                    Action::Release(connection) => {
                        let request = setup.request(connection, "env:X", Reading::Cached);
                        setup.providers.release(request.connection).await;
                    }
                    Action::RevokeAll => {
                        let mut vault = lock(&setup.vault);
                        vault.tokens.values_mut().for_each(|life| life.revoked = true);
                        vault.leases.values_mut().for_each(|(life, _)| life.revoked = true);
                    }
                }
                let violations = std::mem::take(&mut lock(&setup.vault).violations);
                assert!(violations.is_empty(), "{violations:?}");
            }
        });
    }
}
