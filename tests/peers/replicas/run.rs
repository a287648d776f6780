//! The run: replicas, their database, vendors and clients, and what the faults do to them.

use super::client::{Clients, document};
use super::faults::{Fault, Kind};
use super::pair::Pair;
use super::proxy::{Mode, Proxy};
use super::replica::{Address, Replica};
use super::vendor::{GROUP, Processes, Source, Vendors, secret, sources};
use crate::support::daemon::{Workspace, stderr};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

pub const DATABASE: &str = "registry";
pub const OWNER: &str = "registry_owner";
pub const ROLE: &str = "registry_aam";
/// How long an attempt may take: less than a lease.
pub const ATTEMPT: Duration = Duration::from_secs(10);
/// How long the replicas may take to answer a push again after a promotion.
const AFTER_PROMOTION: Duration = Duration::from_secs(10);
/// How long they may take after any other fault. A process that was killed waits for its own lease.
const AFTER_FAULT: Duration = Duration::from_secs(45);

/// A fault that lasts.
struct Active {
    fault: Fault,
    until: Instant,
}

pub struct Run {
    pub replicas: Vec<Replica>,
    pub clients: Clients,
    pub vendors: Vendors,
    pub pair: Pair,
    /// The last group of sources is not for the clients: two are in the folders, the others are for probes.
    pub sources: Vec<Source>,
    active: Vec<Active>,
    probes: usize,
    pub counts: BTreeMap<Kind, usize>,
    pub problems: Vec<String>,
    pub slowest_promotion: Duration,
    started: Instant,
    /// Whether a replica accepted a push since its process started.
    ready: BTreeMap<usize, bool>,
}

/// Creates the roles and the database of the registry.
pub fn prepare(pair: &Pair, workspace: &mut Workspace) {
    for role in [OWNER, ROLE] {
        pair.sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{role}'")).expect("a role");
        workspace.set(role, role);
    }
    pair.sql("postgres", &format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")).expect("a database");
    let url = format!("postgres://{OWNER}@127.0.0.1:{}/{DATABASE}?credential=env:{OWNER}", pair.primary_port());
    let output = workspace.run(&["registry", "init", "--registry", &url, "--role", ROLE]);
    assert!(output.status.success(), "{}", stderr(&output));
}

/// The registry at two servers.
pub fn registry_url(ports: [u16; 2]) -> String {
    let [first, second] = ports;
    format!(
        "postgres://{ROLE}@127.0.0.1:{first},127.0.0.1:{second}/{DATABASE}?credential=env:{ROLE}&target_session_attrs=read-write"
    )
}

impl Run {
    pub async fn start(replicas: usize, connections: usize) -> Run {
        let pair = block_in_place(|| Pair::start(true));
        block_in_place(|| prepare(&pair, &mut Workspace::new()));
        let (sources, processes) = (sources(connections + GROUP), Processes::default());
        let vendors = Vendors::start(&sources, std::sync::Arc::clone(&processes)).await;
        let mut started = Vec::new();
        for index in 0..replicas {
            let proxy = Proxy::start(std::sync::Arc::clone(&pair.ports)).await;
            let workspace = workspace(&sources, connections, &vendors, proxy.ports);
            started.push(Replica::start(index, workspace, proxy, std::sync::Arc::clone(&processes)));
        }
        let clients = Clients::new(started.iter().map(|replica| replica.address.clone()).collect());
        let mut run = Run {
            replicas: started,
            clients,
            vendors,
            pair,
            sources,
            active: Vec::new(),
            probes: 0,
            counts: BTreeMap::new(),
            problems: Vec::new(),
            slowest_promotion: Duration::ZERO,
            started: Instant::now(),
            ready: BTreeMap::new(),
        };
        run.recover("the start", AFTER_FAULT).await;
        run
    }

    /// Does all faults and ends them.
    pub async fn suffer(&mut self, faults: &[Fault]) {
        for (number, fault) in faults.iter().enumerate() {
            while self.conflicts(fault) {
                self.end_next().await;
            }
            self.begin(number, *fault).await;
            if !fault.overlaps || number + 1 == faults.len() {
                while !self.active.is_empty() {
                    self.end_next().await;
                }
                self.recover(&format!("fault {number}, {}", fault.kind), AFTER_FAULT).await;
            }
            self.vendors.collect().await;
        }
    }

    /// Whether a fault has to wait for the end of others: one replica has one fault at a time and the database one, and one replica
    /// is always without a fault, if there are several.
    fn conflicts(&self, fault: &Fault) -> bool {
        if self.replicas.len() == 1 && !self.active.is_empty() {
            return true;
        }
        let of_database = fault.kind.is_of_database();
        let replicas = self.active.iter().filter(|one| !one.fault.kind.is_of_database()).count();
        let most = self.replicas.len().saturating_sub(1).max(1);
        self.active.iter().any(|one| match of_database {
            true => one.fault.kind.is_of_database(),
            false => !one.fault.kind.is_of_database() && one.fault.replica == fault.replica,
        }) || (!of_database && replicas >= most)
    }

    async fn begin(&mut self, number: usize, fault: Fault) {
        let (accepted, calls) = (self.clients.record().accepted.len(), self.vendors.calls().len());
        let place = if fault.kind.is_of_database() { String::new() } else { format!(" at replica {}", fault.replica) };
        eprintln!(
            "{:6.1} s, {accepted} accepted, {calls} calls: fault {number}: {} for {} ms{place}",
            self.started.elapsed().as_secs_f64(),
            fault.kind,
            fault.hold.as_millis()
        );
        *self.counts.entry(fault.kind).or_default() += 1;
        self.watch();
        if fault.kind == Kind::FailOver {
            // A process that was started just now has more time than the promotion gives it.
            self.recover("the faults before a promotion", AFTER_FAULT).await;
            block_in_place(|| self.pair.until_synchronous());
        }
        let hour = Duration::from_secs(3600);
        let replica = &mut self.replicas[fault.replica];
        match fault.kind {
            Kind::Kill => {
                replica.kill();
                self.ready.insert(fault.replica, false);
            }
            Kind::StopShort | Kind::StopLong => replica.stop(),
            Kind::Cut => replica.proxy.cut(Mode::Open),
            Kind::Refuse => replica.proxy.cut(Mode::Refuse),
            Kind::StallShort | Kind::StallLong => replica.proxy.set(Mode::Stall),
            Kind::Clock => replica.set_clock(hour, fault.is_slow),
            Kind::FailOver => block_in_place(|| self.pair.fail_over()),
            Kind::DiskFull => block_in_place(|| self.pair.fill()),
        }
        for one in &mut self.replicas {
            one.may_end |= fault.kind.is_of_database() || one.address.index == fault.replica;
        }
        self.active.push(Active { fault, until: Instant::now() + fault.hold });
        if fault.kind == Kind::FailOver {
            let took = self.recover("the promotion", AFTER_PROMOTION).await;
            self.slowest_promotion = self.slowest_promotion.max(took);
        }
    }

    /// Waits for the end of the fault that ends next, and undoes it.
    async fn end_next(&mut self) {
        let Some(next) = self.active.iter().enumerate().min_by_key(|(_, one)| one.until).map(|(index, _)| index) else { return };
        let Active { fault, until } = self.active.remove(next);
        tokio::time::sleep_until(until.into()).await;
        let replica = &mut self.replicas[fault.replica];
        match fault.kind {
            Kind::Kill => replica.restart(),
            Kind::StopShort | Kind::StopLong => replica.go_on(),
            Kind::Cut => {}
            Kind::Refuse | Kind::StallShort | Kind::StallLong => replica.proxy.set(Mode::Open),
            Kind::Clock => replica.set_clock(Duration::ZERO, false),
            Kind::FailOver => block_in_place(|| self.pair.build_standby()),
            Kind::DiskFull => block_in_place(|| self.pair.free()),
        }
        self.watch();
    }

    /// Notes the processes that ended by themselves.
    fn watch(&mut self) {
        for replica in &mut self.replicas {
            let index = replica.address.index;
            replica.may_end &= !self.ready.get(&index).copied().unwrap_or(false);
            if let Some(problem) = replica.ended() {
                self.problems.push(problem);
                replica.restart();
                self.ready.insert(index, false);
            }
        }
    }

    /// Waits until every replica without a fault accepts a push; returns how long it took. If that is too long, it is noted.
    pub async fn recover(&mut self, after: &str, limit: Duration) -> Duration {
        let started = Instant::now();
        let faulty: Vec<usize> =
            self.active.iter().filter(|one| !one.fault.kind.is_of_database()).map(|one| one.fault.replica).collect();
        let mut waiting: Vec<usize> = (0..self.replicas.len()).filter(|index| !faulty.contains(index)).collect();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        while let Some(index) = waiting.first().copied() {
            ticks.tick().await;
            self.watch();
            let seen = match self.probe(index).await {
                Ok(()) => {
                    waiting.remove(0);
                    self.ready.insert(index, true);
                    continue;
                }
                Err(seen) => seen,
            };
            if started.elapsed() > limit {
                let log = self.replicas[index].log();
                let problem = format!(
                    "replica {index} did not accept a push within {limit:?} after {after}: {seen}; its log ends with:\n{log}"
                );
                eprintln!("{problem}");
                self.problems.push(problem);
                waiting.remove(0);
            }
        }
        started.elapsed()
    }

    /// Pushes an intent to one replica.
    async fn probe(&mut self, index: usize) -> Result<(), String> {
        self.probes += 1;
        let own = self.sources.len() - GROUP + 2 + index % (GROUP - 2);
        let source = self.sources[own].clone();
        let marker = format!("probe-{}@acme.example", self.probes);
        let address: &Address = &self.replicas[index].address;
        let (http, body) = (&self.clients.http, document(&source, &marker));
        let (status, answer) = address.send(http, reqwest::Method::POST, "/connections/onboard", Some(&body)).await?;
        if !(200..300).contains(&status) {
            return Err(format!("{status} {answer}"));
        }
        self.clients.accept(&source, &marker, &answer);
        Ok(())
    }
}

/// The workspace of a replica: its own folders with the same policy and the same intents as those of the others.
fn workspace(sources: &[Source], connections: usize, vendors: &Vendors, ports: [u16; 2]) -> Workspace {
    let mut workspace = Workspace::new();
    for source in sources {
        workspace.set(&source.name, &json!({"token": secret(source)}).to_string());
    }
    workspace.set(ROLE, ROLE);
    workspace.set("AAM_REGISTRY", &registry_url(ports));
    for source in sources.iter().skip(connections).take(2) {
        workspace.intent_file(&format!("{}.json", source.name), &document(source, "folder@acme.example"));
    }
    workspace.replace("policy/policy.yaml", policy(vendors).to_string().as_bytes());
    workspace
}

/// The caps of the policy: the first family has one that the rate reaches, the second one that the day reaches.
pub fn cap(account: &str) -> super::checks::Cap {
    match account.ends_with(".zendesk.com") {
        true => super::checks::Cap { per_second: 4.0, burst: 15, per_day: 150 },
        false => super::checks::Cap { per_second: 3.0, burst: 12, per_day: 20_000 },
    }
}

fn policy(vendors: &Vendors) -> serde_json::Value {
    let entry = |account: &str| {
        let cap = cap(account);
        json!({"per_second": cap.per_second, "burst": cap.burst, "per_day": cap.per_day, "concurrency": 2})
    };
    json!({
        "version": 1,
        "allowlist": ["okta", "zendesk"],
        "network": vendors.network(),
        "safe_mode": {"max_items": 20, "step_timeout": "6s", "attempt_timeout": format!("{}s", ATTEMPT.as_secs())},
        "caps": {"families": {"okta": entry("a.okta.com"), "zendesk": entry("a.zendesk.com")}},
        "backoff": {"initial": "300ms", "max": "4s", "jitter": 0.0},
        "breaker": {"failures": 1000},
        "reconcile": {"concurrency": 16, "resync": "1s"},
    })
}
