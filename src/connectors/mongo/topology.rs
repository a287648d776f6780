//! Finds the member of a deployment that is read.
//!
//! AAM reads a secondary if there is one, so that it does not weigh on the primary. The members that a server announces are called
//! through the guard like every host, and only if the resource id vouches for them: they are named in it or in its SRV records, or
//! belong to the domain of such a host. Otherwise a server could choose who receives the login.

use super::dial::{Dialer, Link};
use super::hello::Role;
use super::limits;
use super::options::{self, Options, ReadPreference};
use super::uri::{Location, Member, Seeds};
use crate::connectors::driver_session::DriverSession;
use crate::model::{Class, Failure};
use std::collections::VecDeque;
use std::sync::Arc;

/// What DNS says about a cluster, and the options with those of its TXT record.
pub struct Resolved {
    pub seeds: Vec<Member>,
    pub options: Options,
}

/// A connection to the member that is read, and what was found on the way.
pub struct Reached {
    pub link: Link,
    /// Members that were not called, or that failed, each with the reason.
    pub passed_over: Vec<String>,
}

/// Resolves the seeds of `location`.
///
/// # Errors
/// `Network` if the SRV record is not found, with the plain form as its fix; `EgressRefused` if a record points to another domain.
pub async fn resolve(session: &Arc<dyn DriverSession>, location: &Location) -> Result<Resolved, Failure> {
    let mut options = location.options.clone();
    let host = match &location.seeds {
        Seeds::Listed(members) => return Ok(Resolved { seeds: members.clone(), options }),
        Seeds::Service(host) => host,
    };
    let service = options.service_name.clone().unwrap_or_else(|| "mongodb".to_string());
    let records = session.service_records(&service, host).await.map_err(|failure| no_records(location, host, failure))?;
    let domain = service_domain(host);
    if let Some(foreign) = records.hosts.iter().find(|record| !record.host.ends_with(&format!(".{domain}"))) {
        return Err(Failure::new(
            Class::EgressRefused,
            format!("{location}: an SRV record points to {}, which is not in the domain {domain}", foreign.host),
            "MongoDB allows only hosts of the same domain; find out who changed the record, or name the hosts with mongodb://",
        ));
    }
    match records.texts.as_slice() {
        [] => {}
        [text] => options::apply_text_record(&mut options, text)?,
        _ => {
            return Err(Failure::new(
                Class::Misconfigured,
                format!("{location}: the cluster has more than one TXT record"),
                "MongoDB allows one; correct the records, or name the hosts with mongodb://",
            ));
        }
    }
    let seeds = records.hosts.into_iter().map(|record| Member { host: record.host, port: record.port }).collect();
    Ok(Resolved { seeds, options })
}

/// The domain to which the hosts of SRV records must belong: the host without its first label, or the whole host if that would
/// leave less than two labels (specification "Initial DNS Seedlist Discovery").
fn service_domain(host: &str) -> &str {
    match host.split_once('.') {
        Some((_, rest)) if rest.contains('.') => rest,
        _ => host,
    }
}

fn no_records(location: &Location, host: &str, failure: Failure) -> Failure {
    if failure.class != Class::Network {
        return failure;
    }
    let atlas = host.ends_with(".mongodb.net");
    let paused = if atlas { "; a paused or deleted Atlas cluster has no records: resume it in Atlas" } else { "" };
    let fix = format!(
        "check that the resolver of this machine answers: dig SRV _mongodb._tcp.{host} (the name has no address of its own, so ping cannot \
         find it){paused}; if it does not return SRV records, write the hosts instead: \
         mongodb://HOST1:27017,HOST2:27017,HOST3:27017/{}?replicaSet=NAME&tls=true&authSource=admin{}",
        location.database,
        if atlas { " (Atlas shows this form under Connect, Drivers, for an old version of the driver)" } else { "" }
    );
    Failure { title: format!("{location}: {}", failure.title), fix, ..failure }
}

/// Connects to the member that is read.
///
/// # Errors
/// The failure of the seeds if none can be reached; `WrongService` if they belong to another replica set; `Remote` if no member can
/// be read.
pub async fn reach(dialer: &Dialer<'_>, seeds: &[Member]) -> Result<Reached, Failure> {
    let mut search = Search::new(dialer.location, seeds);
    while let Some(member) = search.next() {
        match dialer.connect(&member).await {
            Ok(link) => {
                if let Some(link) = search.judge(link) {
                    return Ok(Reached { link, passed_over: search.passed_over });
                }
            }
            Err(failure) if ends_search(&failure) => return Err(failure),
            Err(failure) => search.failed(&member, failure),
        }
    }
    match search.fallback.take() {
        Some(member) => {
            let link = dialer.connect(&member).await?;
            Ok(Reached { link, passed_over: search.passed_over })
        }
        None => Err(search.failure()),
    }
}

/// Failures that concern the account and not one member.
fn ends_search(failure: &Failure) -> bool {
    matches!(failure.class, Class::Throttled | Class::Misconfigured | Class::Bug)
}

/// The search for the member that is read. It is pure: connections are opened by its caller.
struct Search<'a> {
    location: &'a Location,
    queue: VecDeque<Member>,
    known: Vec<Member>,
    /// The hosts that the resource id vouches for.
    vouched: Vec<Member>,
    connections: usize,
    /// Members that were tried since a member was found that can be read in an emergency.
    tried_since: usize,
    /// A member that is read if no better one is found.
    fallback: Option<Member>,
    passed_over: Vec<String>,
    /// Those of `passed_over` that were announced and are not called.
    not_called: Vec<String>,
    failures: Vec<Failure>,
}

impl<'a> Search<'a> {
    fn new(location: &'a Location, seeds: &[Member]) -> Search<'a> {
        Search {
            location,
            queue: seeds.iter().cloned().collect(),
            known: seeds.to_vec(),
            vouched: seeds.to_vec(),
            connections: 0,
            tried_since: 0,
            fallback: None,
            passed_over: Vec::new(),
            not_called: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// The member to connect to next.
    fn next(&mut self) -> Option<Member> {
        if self.connections >= limits::MAX_CONNECTIONS {
            return None;
        }
        if self.fallback.is_some() {
            if self.tried_since >= limits::MAX_SECONDARIES_TRIED {
                return None;
            }
            self.tried_since += 1;
        }
        self.connections += 1;
        self.queue.pop_front()
    }

    fn failed(&mut self, member: &Member, failure: Failure) {
        self.passed_over.push(format!("{member}: {}", failure.title));
        self.failures.push(failure);
    }

    /// Decides whether the member is read. Otherwise its connection ends here, because an account may have one at a time.
    fn judge(&mut self, link: Link) -> Option<Link> {
        let Link { member, hello, .. } = &link;
        let options = &self.location.options;
        if let Some(failure) = self.wrong_set(member, hello.set_name.as_deref()) {
            let member = member.clone();
            self.failed(&member, failure);
            return None;
        }
        let mode = options.read_preference;
        let direct = options.direct == Some(true);
        let readable = match hello.role {
            Role::Standalone | Role::Router | Role::LoadBalancer => return Some(link),
            Role::Primary if direct || matches!(mode, ReadPreference::Primary | ReadPreference::PrimaryPreferred) => {
                return Some(link);
            }
            Role::Secondary if direct || !matches!(mode, ReadPreference::Primary | ReadPreference::PrimaryPreferred) => {
                return Some(link);
            }
            Role::Primary => mode != ReadPreference::Secondary,
            Role::Secondary => mode != ReadPreference::Primary,
            Role::Arbiter | Role::Unreadable | Role::Uninitialized => false,
        };
        let (member, role) = (member.clone(), hello.role);
        let announced = hello.members.clone();
        let fresh = !direct && self.announce(announced);
        if readable && !fresh && self.queue.is_empty() {
            return Some(link);
        }
        if readable {
            self.fallback.get_or_insert(member);
        } else {
            self.failed(&member, unreadable(self.location, &member, role));
        }
        None
    }

    /// Adds the members that a server announces. Returns whether one of them is new and may be called.
    fn announce(&mut self, members: Vec<Member>) -> bool {
        let mut fresh = false;
        for member in members {
            if self.known.contains(&member) {
                continue;
            }
            self.known.push(member.clone());
            if self.vouched.iter().any(|seed| vouches(seed, &member)) {
                self.queue.push_back(member);
                fresh = true;
            } else {
                let reason = format!("{member}: not called, because the resource id does not name it");
                self.not_called.push(reason.clone());
                self.passed_over.push(reason);
            }
        }
        fresh
    }

    fn wrong_set(&self, member: &Member, set: Option<&str>) -> Option<Failure> {
        let expected = self.location.options.replica_set.as_deref()?;
        let location = self.location;
        let (title, fix) = match set {
            Some(set) if set == expected => return None,
            Some(set) => (
                format!("{location}: {member} belongs to the replica set {set}, not to {expected}"),
                format!("if the host is right, write replicaSet={set} in the resource id; otherwise correct the host"),
            ),
            None => (
                format!("{location}: {member} does not belong to a replica set"),
                "remove replicaSet from the resource id, or correct the host".to_string(),
            ),
        };
        Some(Failure::new(Class::WrongService, title, fix))
    }

    /// The failure if no member can be read: a wrong replica set before everything else. Its detail names the other members and
    /// those that were not called, because one of them may be the one to name in the resource id.
    fn failure(mut self) -> Failure {
        let important = self.failures.iter().position(|failure| failure.class == Class::WrongService).unwrap_or(0);
        if self.failures.is_empty() {
            let title = format!("{}: no member of the deployment can be read", self.location);
            return Failure::new(Class::Remote, title, "check the state of the members: rs.status()");
        }
        let first = self.failures.remove(important);
        let mut parts: Vec<String> = Vec::new();
        parts.extend(Some(first.detail.clone()).filter(|detail| !detail.is_empty()));
        if !self.failures.is_empty() {
            let others: Vec<&str> = self.failures.iter().take(limits::MAX_NAMED).map(|failure| failure.title.as_str()).collect();
            parts.push(format!("the other members: {}", others.join("; ")));
        }
        parts.extend(self.not_called.into_iter().take(limits::MAX_NAMED));
        first.detail(parts.join("; "))
    }
}

/// The failure for a member that is not read: `mode` forbids its role, or its role holds no data that can be read now.
fn unreadable(location: &Location, member: &Member, role: Role) -> Failure {
    let mode = location.options.read_preference;
    let only = match (role, mode) {
        (Role::Secondary, ReadPreference::Primary) => Some("the primary"),
        (Role::Primary, ReadPreference::Secondary) => Some("secondaries"),
        _ => None,
    };
    if let Some(only) = only {
        let mode = mode.as_str();
        return Failure::new(
            Class::Remote,
            format!("{location}: readPreference={mode} allows {only} only, and {member} is a {}", role.as_str()),
            format!(
                "remove readPreference={mode} from the resource id, so that AAM reads this member; or name {only} of the replica set in \
                 it: rs.status() shows the members"
            ),
        );
    }
    let title = format!("{location}: {member} cannot be read: its role is {}", role.as_str());
    let fix = match role {
        Role::Arbiter => "name a member that holds data in the resource id; an arbiter has none",
        Role::Uninitialized => "initiate the replica set: rs.initiate()",
        _ => {
            "wait until the member has started or recovered (rs.status() shows it), or name another member; AAM retries automatically"
        }
    };
    Failure::new(Class::Remote, title, fix)
}

/// Whether a host of the resource id vouches for an announced member: it is the same host, or both belong to the domain of the host
/// of the resource id. A domain has at least two labels.
fn vouches(seed: &Member, member: &Member) -> bool {
    if seed.host == member.host {
        return true;
    }
    if seed.host.parse::<std::net::IpAddr>().is_ok() {
        return false;
    }
    match seed.host.split_once('.') {
        Some((_, domain)) if domain.contains('.') => member.host.ends_with(&format!(".{domain}")),
        _ => false,
    }
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
