//! The end of a run: waits until nothing happens any more, reads what was recorded, and compares it.

use super::checks::{self, Entry};
use super::faults::LEASE;
use super::run::{ATTEMPT, DATABASE, Run, cap};
use crate::support::daemon::{stderr, stdout};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::block_in_place;

/// How long the replicas may take until nothing happens any more.
const SETTLED: Duration = Duration::from_secs(120);
/// How long until all of them have read the last rows.
const CAUGHT_UP: Duration = Duration::from_secs(15);

impl Run {
    /// Waits until every replica answers, no attempt runs, and no row is added.
    pub async fn settle(&mut self) {
        self.recover("the last fault", Duration::from_secs(60)).await;
        let sql = "SELECT (SELECT count(*) FROM aam.tickets) || ' attempts, row ' ||
                   (SELECT coalesce(max(seq), 0) FROM aam.ledger WHERE kind NOT IN ('chains_anchored', 'calls_recorded'))";
        let (started, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_secs(1)));
        let mut seen: Vec<String> = Vec::new();
        loop {
            ticks.tick().await;
            let now = block_in_place(|| self.pair.sql(DATABASE, sql)).unwrap_or_else(|error| error);
            if !now.starts_with("0 attempts") || seen.last().is_some_and(|last| *last != now) {
                seen.clear();
            }
            seen.push(now);
            if seen.len() > 5 {
                break;
            }
            if started.elapsed() > SETTLED {
                self.problems.push(format!("there are still attempts after {SETTLED:?}: {seen:?}"));
                break;
            }
        }
        self.vendors.collect().await;
    }

    /// Compares all records; adds what is wrong to the problems.
    pub async fn check(&mut self) {
        let (ledger, begins) = self.read();
        let calls = self.vendors.calls();
        let mut stops = BTreeMap::new();
        for replica in &self.replicas {
            stops.extend(replica.stops.clone());
        }
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut found = Vec::new();
        {
            let record = self.clients.record();
            found.extend(checks::lost(&record.accepted, &ledger));
            found.extend(checks::overwritten(&record.last, &ledger));
            found.extend(record.unexpected.iter().cloned());
            if record.accepted.is_empty() || calls.is_empty() {
                found.push("nothing was accepted or called".to_string());
            }
        }
        found.extend(self.missing_from_folders(&ledger));
        found.extend(checks::unpaired(&ledger));
        found.extend(checks::doubled(&calls, &begins, &stops, ms(ATTEMPT)));
        found.extend(checks::late(&calls, &begins, &stops, ms(LEASE)));
        found.extend(checks::above_caps(&calls, cap));
        let unknown = calls.iter().filter(|call| call.by.is_none()).count();
        if unknown * 20 > calls.len() {
            found.push(format!("for {unknown} of {} calls it is not known which process made them", calls.len()));
        }
        found.extend(self.different_funnels().await);
        found.extend(self.verify());
        self.problems.extend(found);
    }

    /// Reads the entries of all connections in the order of their chains, and when attempts began, also those that found nothing
    /// new and have no entry.
    fn read(&self) -> (Vec<Entry>, BTreeMap<String, Vec<u64>>) {
        let names = self.clients.record().names.clone();
        let name = |id: &Value| {
            let id = id.as_str().unwrap_or_default();
            names.get(id).cloned().unwrap_or_else(|| id.to_string())
        };
        let sql = "SET search_path = aam; SELECT json_build_object('at', at, 'connection', connection, 'kind', kind,
                     'marker', CASE WHEN kind = 'intent_accepted' THEN json_extract(body, '$.owner.user') END,
                     'begun', CAST(json_extract(facts, '$.begun_at') AS bigint))
                   FROM ledger WHERE connection IS NOT NULL ORDER BY chain, place";
        let entries = self.rows(sql).into_iter().map(|row| Entry {
            at_ms: row["at"].as_u64().expect("a time"),
            connection: name(&row["connection"]),
            kind: row["kind"].as_str().unwrap_or_default().to_string(),
            marker: row["marker"].as_str().map(str::to_owned),
            begun_ms: row["begun"].as_u64(),
        });
        let entries: Vec<Entry> = entries.collect();
        let sql =
            "SELECT json_build_object('at', begun_at, 'connection', connection) FROM aam.call_batches WHERE begun_at IS NOT NULL";
        let batch = |row: Value| (name(&row["connection"]), row["at"].as_u64().expect("a time"));
        let begins = checks::begins(&entries, self.rows(sql).into_iter().map(batch));
        (entries, begins)
    }

    fn rows(&self, sql: &str) -> Vec<Value> {
        let text = block_in_place(|| self.pair.sql(DATABASE, sql)).expect("rows");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The intents in the folders that the registry does not have, or has in a different number: equal folders make one entry.
    fn missing_from_folders(&self, ledger: &[Entry]) -> Vec<String> {
        let accepted = ledger.iter().filter(|entry| entry.marker.as_deref() == Some("folder@acme.example")).count();
        match accepted {
            2 => Vec::new(),
            other => vec![format!("the folders have 2 intents, and the registry has {other} entries for them")],
        }
    }

    /// Waits until the funnels of all replicas are equal; returns how they differ if they do not become equal.
    async fn different_funnels(&self) -> Vec<String> {
        let namespaces: BTreeSet<&str> = self.sources.iter().map(|source| source.namespace.as_str()).collect();
        let (started, mut ticks) = (Instant::now(), tokio::time::interval(Duration::from_millis(250)));
        loop {
            ticks.tick().await;
            let mut answers = Vec::new();
            for address in self.clients.addresses.iter() {
                let mut all = String::new();
                for namespace in &namespaces {
                    let path = format!("/metrics/funnel?namespace={namespace}&enforce=none");
                    all.push_str(&match address.get(&self.clients.http, &path).await {
                        Ok((200, mut funnel)) => {
                            funnel["as_of"] = Value::Null;
                            funnel["registry_seq"] = Value::Null;
                            funnel.to_string()
                        }
                        other => format!("{other:?}"),
                    });
                }
                answers.push((address.index, all));
            }
            let different = checks::different(&answers);
            if different.is_empty() && answers.iter().all(|(_, answer)| answer.contains("\"eligible\"")) {
                return Vec::new();
            }
            if started.elapsed() > CAUGHT_UP {
                return if different.is_empty() { vec![format!("no funnel: {answers:?}")] } else { different };
            }
        }
    }

    fn verify(&self) -> Vec<String> {
        let Some(replica) = self.replicas.first() else { return Vec::new() };
        let output = block_in_place(|| replica.workspace.run(&["verify"]));
        match output.status.success() {
            true => Vec::new(),
            false => vec![format!("aam verify: {}{}", stdout(&output), stderr(&output))],
        }
    }

    /// Writes the logs of all replicas and of the primary, all rows and all calls into a folder, to find out how something came about.
    pub fn keep(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder");
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("written");
        for replica in &self.replicas {
            let log = std::fs::read_to_string(replica.workspace.path("log")).unwrap_or_default();
            write(&format!("replica-{}.log", replica.address.index), log);
        }
        write("primary.log", self.pair.log());
        let sql = "SELECT row_to_json(ledger) FROM aam.ledger ORDER BY seq";
        write("ledger.jsonl", block_in_place(|| self.pair.sql(DATABASE, sql)).unwrap_or_else(|error| error));
        let calls: Vec<String> = self.vendors.calls().iter().map(|call| format!("{call:?}")).collect();
        write("calls.txt", calls.join("\n"));
        let stops: Vec<String> = self.replicas.iter().map(|replica| format!("{:?}", replica.stops)).collect();
        write("stops.txt", stops.join("\n"));
    }

    /// Prints what happened.
    pub fn summarize(&self, seed: u64, took: Duration) {
        let (ledger, _) = self.read();
        let of_kind = |kind: &str| ledger.iter().filter(|entry| entry.kind == kind).count();
        let calls = self.vendors.calls();
        let record = self.clients.record();
        let withdrawn = record.accepted.iter().filter(|one| one.marker.is_none()).count();
        let mut rows: Vec<(String, String)> = vec![("seed".to_string(), seed.to_string())];
        rows.push(("replicas".to_string(), self.replicas.len().to_string()));
        rows.push(("faults".to_string(), self.counts.values().sum::<usize>().to_string()));
        rows.extend(self.counts.iter().map(|(kind, count)| (format!("  {kind}"), count.to_string())));
        let ended: usize = self.replicas.iter().map(|replica| replica.ended_at_start).sum();
        let processes: BTreeSet<_> = calls.iter().filter_map(|call| call.by).collect();
        rows.extend([
            ("requests of the clients".to_string(), record.requests.to_string()),
            ("  given up".to_string(), record.given_up.to_string()),
            ("intents accepted".to_string(), (record.accepted.len() - withdrawn).to_string()),
            ("withdrawals accepted".to_string(), withdrawn.to_string()),
            ("connections whose last change is certain".to_string(), record.last.len().to_string()),
            ("attempts begun, by the ledger".to_string(), of_kind("attempt_begun").to_string()),
            ("attempts finished, by the ledger".to_string(), of_kind("attempt_finished").to_string()),
            ("calls at the vendors".to_string(), calls.len().to_string()),
            ("processes that called".to_string(), processes.len().to_string()),
            ("starts that ended without the database".to_string(), ended.to_string()),
            ("longest wait for a push after a promotion".to_string(), format!("{:.1} s", self.slowest_promotion.as_secs_f64())),
            ("time".to_string(), format!("{:.0} s", took.as_secs_f64())),
            ("problems".to_string(), self.problems.len().to_string()),
        ]);
        for (name, value) in rows {
            eprintln!("{name:<46} {value:>10}");
        }
    }
}
