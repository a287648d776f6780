//! What must be true after a run. These functions see records of the run only, so that made-up records can prove that each of
//! them finds what it looks for.

use std::collections::{BTreeMap, BTreeSet};

/// A process of a replica: which replica, and how often it was started before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    pub replica: usize,
    pub life: usize,
}

/// A call that the vendor received.
#[derive(Clone, Debug)]
pub struct Call {
    pub at_ms: u64,
    pub connection: String,
    pub account: String,
    /// `None` if the process ended before it could be found out.
    pub by: Option<Process>,
}

/// What the registry says of one connection, in the order of its chain.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at_ms: u64,
    pub connection: String,
    pub kind: String,
    /// The marker of an accepted intent.
    pub marker: Option<String>,
    /// When the attempt of an `attempt_finished` began.
    pub begun_ms: Option<u64>,
}

/// When processes were stopped by SIGSTOP, as (from, to) in milliseconds.
pub type Stops = BTreeMap<Process, Vec<(u64, u64)>>;

/// The cap of an account.
#[derive(Clone, Copy, Debug)]
pub struct Cap {
    pub per_second: f64,
    pub burst: u32,
    pub per_day: u64,
}

/// A push or a withdrawal that was answered as accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    pub connection: String,
    /// `None`: a withdrawal.
    pub marker: Option<String>,
}

/// A call reaches the vendor some time after AAM counted it; the first one later by a handshake. In seconds.
const JITTER: f64 = 3.0;

/// The time of the row of a beginning is that of its commit, a little later than the beginning itself. In milliseconds.
const ROW_MS: u64 = 100;

const DAY_MS: u64 = 86_400_000;

/// Accepted intents and withdrawals that the registry does not have.
pub fn lost(accepted: &[Accepted], ledger: &[Entry]) -> Vec<String> {
    let markers: BTreeSet<(&str, &str)> =
        ledger.iter().filter_map(|entry| Some((entry.connection.as_str(), entry.marker.as_deref()?))).collect();
    let mut withdrawn: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in ledger.iter().filter(|entry| entry.kind == "intent_withdrawn") {
        *withdrawn.entry(&entry.connection).or_default() += 1;
    }
    let mut lost = Vec::new();
    for one in accepted {
        match &one.marker {
            Some(marker) if !markers.contains(&(one.connection.as_str(), marker.as_str())) => {
                lost.push(format!("the accepted intent {marker} of {} is not in the registry", one.connection));
            }
            Some(_) => {}
            None => match withdrawn.get_mut(one.connection.as_str()) {
                Some(left @ 1..) => *left -= 1,
                _ => lost.push(format!("an accepted withdrawal of {} is not in the registry", one.connection)),
            },
        }
    }
    lost
}

/// Connections whose last accepted change is not the last one in the registry. `last` has the marker of the last intent, or `None`
/// for a withdrawal.
pub fn overwritten(last: &BTreeMap<String, Option<String>>, ledger: &[Entry]) -> Vec<String> {
    let is_change = |entry: &&Entry| matches!(entry.kind.as_str(), "intent_accepted" | "intent_withdrawn");
    let found = last.iter().filter_map(|(connection, expected)| {
        let newest = ledger.iter().filter(is_change).rfind(|entry| entry.connection == *connection)?;
        (newest.marker != *expected).then(|| {
            format!("{connection}: the last change in the registry is {:?}, and {expected:?} was accepted last", newest.marker)
        })
    });
    found.collect()
}

/// Attempts that finished twice or without a beginning, that began while another one of the same connection was open or after it
/// was retired, or that are open at the end, when nothing runs any more. The attempt of a connection that is retired meanwhile need
/// not finish, and may finish once.
pub fn unpaired(ledger: &[Entry]) -> Vec<String> {
    let mut open: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut retired, mut ended): (BTreeSet<&str>, BTreeSet<(&str, u64)>) = Default::default();
    let mut found = Vec::new();
    for entry in ledger {
        let (connection, at) = (entry.connection.as_str(), entry.at_ms);
        match entry.kind.as_str() {
            "attempt_begun" if retired.contains(connection) => {
                found.push(format!("{connection}: an attempt began at {at}, after the connection was retired"));
                ended.insert((connection, at));
            }
            "attempt_begun" => {
                if let Some(before) = open.insert(connection, at) {
                    found.push(format!("{connection}: an attempt began at {at} while that of {before} was open"));
                }
            }
            "attempt_finished" => {
                let is_its = |begun: u64| entry.begun_ms.is_some_and(|began| began.abs_diff(begun) <= ROW_MS);
                let of_retired = ended.iter().find(|(other, begun)| *other == connection && is_its(*begun)).copied();
                let is_of_retired = of_retired.is_some_and(|one| ended.remove(&one));
                if !is_of_retired && open.remove(connection).is_none() {
                    found.push(format!("{connection}: an attempt finished at {at} that did not begin"));
                }
            }
            "connection_retired" => {
                retired.insert(connection);
                ended.extend(open.remove(connection).map(|begun| (connection, begun)));
            }
            "intent_accepted" => drop(retired.remove(connection)),
            _ => {}
        }
    }
    found.extend(open.iter().map(|(connection, at)| format!("{connection}: the attempt that began at {at} never finished")));
    found
}

/// When the attempts of each connection began, in order. The beginning of a retry or of a check is written with its end, so what
/// the end says of it counts. A check that found nothing new has only a batch of calls.
pub fn begins(ledger: &[Entry], batches: impl Iterator<Item = (String, u64)>) -> BTreeMap<String, Vec<u64>> {
    let mut open: BTreeMap<String, u64> = BTreeMap::new();
    let mut all: BTreeSet<(String, u64)> = batches.collect();
    for entry in ledger {
        match (entry.kind.as_str(), entry.begun_ms) {
            ("attempt_begun", _) => {
                if let Some(unfinished) = open.insert(entry.connection.clone(), entry.at_ms) {
                    all.insert((entry.connection.clone(), unfinished));
                }
            }
            ("attempt_finished", Some(begun)) => {
                open.remove(&entry.connection);
                all.insert((entry.connection.clone(), begun));
            }
            _ => {}
        }
    }
    all.extend(open);
    let mut begins: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (connection, at) in all {
        begins.entry(connection).or_default().push(at);
    }
    begins
}

/// Attempts that two processes made at the same time, by the calls at the vendor: a process goes on with calls for a connection
/// after another process called for it. It is not a doubled attempt if the first process began a new one in between, which the
/// registry says, or if it was awake for longer than an attempt may take.
pub fn doubled(calls: &[Call], begins: &BTreeMap<String, Vec<u64>>, stops: &Stops, attempt_ms: u64) -> Vec<String> {
    let mut by_connection: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_connection.entry(&call.connection).or_default().push(call);
    }
    let mut found = Vec::new();
    for (connection, mut calls) in by_connection {
        calls.sort_by_key(|call| call.at_ms);
        let begins = begins.get(connection).map_or(&[][..], Vec::as_slice);
        // The last call of each process, and the first call of another one after it.
        let mut last: BTreeMap<Process, (u64, Option<(u64, Process)>)> = BTreeMap::new();
        for call in calls {
            let Some(process) = call.by else { continue };
            if let Some((before, Some((between, other)))) = last.get(&process).copied() {
                let is_new = begins.iter().any(|at| *at >= between && *at <= call.at_ms);
                if !is_new && awake(stops, process, before, call.at_ms) <= attempt_ms {
                    found
                        .push(format!("{connection}: {process:?} called at {before} and {}, {other:?} at {between}", call.at_ms));
                }
            }
            for (one, (_, next)) in &mut last {
                if *one != process && next.is_none() {
                    *next = Some((call.at_ms, process));
                }
            }
            last.insert(process, (call.at_ms, None));
        }
    }
    found
}

/// For how long of the time between two instants the process was not stopped.
fn awake(stops: &Stops, process: Process, from: u64, to: u64) -> u64 {
    let stopped = |(begin, end): &(u64, u64)| (*end).min(to).saturating_sub((*begin).max(from));
    let all: u64 = stops.get(&process).into_iter().flatten().map(stopped).sum();
    to.saturating_sub(from).saturating_sub(all)
}

/// Calls after a process was stopped for longer than a lease, for connections whose attempt another process has begun since: the
/// first call of a process after it went on that comes after an entry `attempt_begun` by which it was replaced.
pub fn late(calls: &[Call], begins: &BTreeMap<String, Vec<u64>>, stops: &Stops, lease_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    for (process, stopped) in stops {
        for (from, to) in stopped.iter().filter(|(from, to)| to - from > lease_ms) {
            let mine = |call: &&Call| call.by == Some(*process);
            let before: BTreeSet<&str> = calls
                .iter()
                .filter(mine)
                .filter(|call| call.at_ms <= *from && call.at_ms + lease_ms >= *from)
                .map(|call| call.connection.as_str())
                .collect();
            for connection in before {
                let begins = begins.get(connection).map_or(&[][..], Vec::as_slice);
                // Somebody else began an attempt while this process was stopped, and it did not begin one itself since.
                let Some(replaced) = begins.iter().rfind(|at| *at > from && *at <= to) else { continue };
                let next = calls.iter().filter(mine).find(|call| call.connection == connection && call.at_ms > *to);
                let Some(next) = next else { continue };
                if !begins.iter().any(|at| *at > *to && *at <= next.at_ms) && next.at_ms - to <= lease_ms {
                    found.push(format!("{connection}: {process:?} was stopped from {from} to {to} and called at {}, although another attempt began at {replaced}", next.at_ms));
                }
            }
        }
    }
    found
}

/// Accounts to which more calls were made than their cap allows, by burst and rate or by day.
pub fn above_caps(calls: &[Call], cap_of: impl Fn(&str) -> Cap) -> Vec<String> {
    let mut by_account: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for call in calls {
        by_account.entry(&call.account).or_default().push(call.at_ms);
    }
    let mut found = Vec::new();
    for (account, mut times) in by_account {
        times.sort_unstable();
        let cap = cap_of(account);
        if let Some((excess, at)) = excess(&times, cap) {
            found.push(format!(
                "{account}: {excess:.1} calls above {} a second and a burst of {} at {at}",
                cap.per_second, cap.burst
            ));
        }
        let mut days: BTreeMap<u64, u64> = BTreeMap::new();
        for at in &times {
            *days.entry(at / DAY_MS).or_default() += 1;
        }
        for (day, count) in days.iter().filter(|(_, count)| **count > cap.per_day) {
            found.push(format!("{account}: {count} calls on day {day}, and {} are allowed", cap.per_day));
        }
    }
    found
}

/// By how many calls the times are above the cap at worst, and when. For all pairs of calls i ≤ j, the calls from i to j must not
/// be more than the burst and what the rate adds in the time between them.
fn excess(times: &[u64], cap: Cap) -> Option<(f64, u64)> {
    let allowed = f64::from(cap.burst) + cap.per_second * JITTER;
    let (mut level, mut before, mut worst) = (0.0_f64, times.first().copied()?, None);
    for at in times {
        let passed = at.saturating_sub(before) as f64 / 1000.0;
        level = (level - passed * cap.per_second).max(0.0) + 1.0;
        before = *at;
        if level > allowed && worst.is_none_or(|(excess, _)| level - allowed > excess) {
            worst = Some((level - allowed, *at));
        }
    }
    worst
}

/// The replicas whose answer is not that of the first one.
pub fn different(answers: &[(usize, String)]) -> Vec<String> {
    let Some((first, expected)) = answers.first() else { return vec!["no replica answered".to_string()] };
    let others = answers.iter().filter(|(_, answer)| answer != expected);
    others.map(|(replica, answer)| format!("replica {replica} says {answer}, replica {first} says {expected}")).collect()
}
