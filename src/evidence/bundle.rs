//! Writes a bundle from the registry.

use super::summary::{self, SummaryInput};
use super::{
    ATTEMPTS, BundleKey, CALLS, ChainBody, FORMAT, HeadBody, INTENTS, LEDGER, MANIFEST, Manifest, POLICIES, PRIVILEGES,
    PUBLIC_KEY, SIGNATURE, SUMMARY, SUMS,
};
use crate::model::{ConnectionId, Digest, Intent, StepReport, Timestamp};
use crate::registry::{CallBatch, LedgerHead, LedgerLine, Reader, RegistryError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The period of a bundle: from `since` until before `until`.
#[derive(Clone, Copy, Debug)]
pub struct BundlePeriod {
    pub since: Timestamp,
    pub until: Timestamp,
    /// When the bundle is written.
    pub now: Timestamp,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BundleWritten {
    pub files: usize,
    pub ledger_rows: u64,
    pub call_batches: u64,
    pub head: LedgerHead,
    /// The fingerprint of the key that signed the bundle.
    pub signed_by: Option<String>,
}

/// Writes the bundle into the new or empty folder `out`.
///
/// # Errors
/// Returns a message if the registry cannot be read, or if `out` is not empty or cannot be written.
pub fn write(reader: &Reader, period: BundlePeriod, out: &Path, key: Option<&BundleKey>) -> Result<BundleWritten, String> {
    let mut folder = BundleFolder::create(out)?;
    let head = reader.head().map_err(text)?;
    let snapshot = reader.snapshot_at(Timestamp(period.until.0 - 1)).map_err(text)?;
    let mut summary = SummaryInput::new(&snapshot, period);
    write_policy_at_start(reader, period, &mut folder, &mut summary)?;
    write_intents_at_start(reader, period, &mut folder)?;
    let ledger = write_ledger(reader, period, &mut folder, &mut summary)?;
    let calls = write_calls(reader, period, &mut folder, &mut summary)?;
    for (id, known) in &snapshot.connections {
        let intent = reader.body(known.document).map_err(text)?.and_then(|body| serde_json::from_str::<Intent>(&body).ok());
        summary.describe(*id, known, intent.as_ref());
    }
    let manifest = Manifest {
        format: FORMAT.to_string(),
        aam_version: env!("CARGO_PKG_VERSION").to_string(),
        created_at: period.now.rfc3339(),
        since: period.since.rfc3339(),
        until: period.until.rfc3339(),
        head: HeadBody { seq: head.seq, hash: head.hash },
        ledger,
        calls,
        calls_dropped_up_to: reader.calls_dropped_up_to().map_err(text)?,
    };
    let text_of = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    folder.write(MANIFEST, text_of.as_bytes())?;
    summary.signed_by = key.map(|key| key.public.fingerprint());
    folder.write(SUMMARY, summary::text(&summary, head).as_bytes())?;
    if let Some(key) = key {
        folder.write(PUBLIC_KEY, key.public.to_pem().as_bytes())?;
    }
    let files = folder.finish(key)?;
    Ok(BundleWritten {
        files,
        ledger_rows: manifest.ledger.count,
        call_batches: manifest.calls.count,
        head,
        signed_by: summary.signed_by,
    })
}

fn text(error: RegistryError) -> String {
    error.to_string()
}

/// The policy that was in force when the period began.
fn write_policy_at_start(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<(), String> {
    let before = reader.snapshot_at(Timestamp(period.since.0 - 1)).map_err(text)?;
    if let Some((digest, seq)) = before.policy {
        let body = reader.body(seq).map_err(text)?.unwrap_or_default();
        folder.policy(digest, &body)?;
        summary.policies.push((digest, before.policy_at));
    }
    Ok(())
}

/// The intents that were in force when the period began.
fn write_intents_at_start(reader: &Reader, period: BundlePeriod, folder: &mut BundleFolder<'_>) -> Result<(), String> {
    let before = reader.snapshot_at(Timestamp(period.since.0 - 1)).map_err(text)?;
    for (id, known) in before.connections.iter().filter(|(_, known)| known.retired.is_none()) {
        let body = reader.body(known.document).map_err(text)?.unwrap_or_default();
        let document: Value = serde_json::from_str(&body).unwrap_or_default();
        folder.line(
            INTENTS,
            &json!({ "in_force_at_start": true, "seq": known.document, "connection_id": id, "namespace": known.namespace, "document": document }),
        )?;
    }
    Ok(())
}

/// The rows of the ledger, and what they say in files of their own.
fn write_ledger(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<ChainBody, String> {
    folder.touch(LEDGER)?;
    let mut chain: Option<ChainBody> = None;
    let mut failed = Ok(());
    reader
        .ledger_lines(period.since, period.until, |line| {
            chain.get_or_insert_with(|| ChainBody::new(line.prev)).add(line.seq, line.hash);
            failed = write_line(&line, folder, summary);
            failed.is_ok()
        })
        .map_err(text)?;
    failed?;
    Ok(chain.unwrap_or(ChainBody::new(Digest::default())))
}

fn write_line(line: &LedgerLine, folder: &mut BundleFolder<'_>, summary: &mut SummaryInput) -> Result<(), String> {
    folder.line(LEDGER, &serde_json::to_value(line).unwrap_or_default())?;
    let facts: Value = serde_json::from_str(&line.facts).unwrap_or_default();
    let body = || serde_json::from_str::<Value>(line.body.as_deref().unwrap_or("null")).unwrap_or_default();
    let at = Timestamp(line.at);
    let readable = |more: Value| {
        let mut value = json!({ "seq": line.seq, "at": at.rfc3339(), "kind": line.kind, "namespace": line.namespace,
            "connection_id": line.connection, "facts": facts });
        if let (Some(value), Value::Object(more)) = (value.as_object_mut(), more) {
            value.extend(more);
        }
        value
    };
    summary.count(&line.kind);
    match line.kind.as_str() {
        "policy_accepted" => {
            let policy = line.body.clone().unwrap_or_default();
            let digest = Digest::from_bytes(policy.as_bytes());
            summary.policies.push((digest, at));
            folder.policy(digest, &policy)
        }
        "intent_accepted" => folder.line(INTENTS, &readable(json!({ "document": body() }))),
        "intent_withdrawn" | "connection_retired" | "departure_confirmed" => folder.line(INTENTS, &readable(json!({}))),
        "attempt_begun" => folder.line(ATTEMPTS, &readable(json!({}))),
        "attempt_finished" => {
            let steps = body();
            let connection = line.connection.as_deref().and_then(|id| ConnectionId::parse(id).ok());
            summary.attempt(connection, facts.get("class").is_none_or(Value::is_null));
            for (resource, privilege) in privileges(&steps) {
                summary.privilege(connection, &resource, &privilege);
                let verdict = json!({ "seq": line.seq, "at": at.rfc3339(), "connection_id": line.connection, "namespace": line.namespace,
                    "resource_id": resource, "privilege": privilege });
                folder.line(PRIVILEGES, &verdict)?;
            }
            folder.line(ATTEMPTS, &readable(json!({ "steps": steps })))
        }
        _ => Ok(()),
    }
}

/// The verdicts of privilege in the reports of an attempt, by resource id. With one resource, the id is empty.
fn privileges(steps: &Value) -> Vec<(String, Value)> {
    let reports: Vec<StepReport> = serde_json::from_value(steps.clone()).unwrap_or_default();
    let mut found = Vec::new();
    for report in reports {
        if let Some(privilege) = report.evidence.get("privilege") {
            found.push((String::new(), privilege.clone()));
        }
        found.extend(
            report.evidence.iter().filter_map(|(resource, value)| Some((resource.clone(), value.get("privilege")?.clone()))),
        );
    }
    found
}

fn write_calls(
    reader: &Reader,
    period: BundlePeriod,
    folder: &mut BundleFolder<'_>,
    summary: &mut SummaryInput,
) -> Result<ChainBody, String> {
    folder.touch(CALLS)?;
    let mut chain: Option<ChainBody> = None;
    let mut failed = Ok(());
    reader
        .call_batches(period.since, period.until, |batch: CallBatch| {
            chain.get_or_insert_with(|| ChainBody::new(batch.prev)).add(batch.batch, batch.hash);
            summary.calls(&batch);
            failed = folder.line(CALLS, &serde_json::to_value(&batch).unwrap_or_default());
            failed.is_ok()
        })
        .map_err(text)?;
    failed?;
    Ok(chain.unwrap_or(ChainBody::new(Digest::default())))
}

/// The folder of a bundle that is being written.
struct BundleFolder<'a> {
    path: &'a Path,
    open: BTreeMap<String, BufWriter<File>>,
    /// The files that are complete.
    written: Vec<String>,
}

impl BundleFolder<'_> {
    fn create(path: &Path) -> Result<BundleFolder<'_>, String> {
        let failed = |error: std::io::Error| format!("could not create the folder {}: {error}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(format!("the folder {} is not empty; name a new folder after --out", path.display()));
        }
        Ok(BundleFolder { path, open: BTreeMap::new(), written: Vec::new() })
    }

    fn new_file(&self, name: &str) -> Result<File, String> {
        let path = self.path.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map_err(|error| format!("could not write {}: {error}", path.display()))
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let written = self.new_file(name)?.write_all(bytes);
        written.map_err(|error| format!("could not write {}: {error}", self.path.join(name).display()))?;
        self.written.push(name.to_string());
        Ok(())
    }

    /// Creates a file that has no lines yet.
    fn touch(&mut self, name: &str) -> Result<&mut BufWriter<File>, String> {
        if !self.open.contains_key(name) {
            let file = BufWriter::new(self.new_file(name)?);
            self.open.insert(name.to_string(), file);
        }
        self.open.get_mut(name).ok_or_else(|| format!("could not open {name}"))
    }

    fn line(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let line = writeln!(self.touch(name)?, "{value}");
        line.map_err(|error| format!("could not write {}: {error}", self.path.join(name).display()))
    }

    /// Writes a version of the policy, once.
    fn policy(&mut self, digest: Digest, policy: &str) -> Result<(), String> {
        let name = format!("{POLICIES}/{digest}.yaml");
        if self.written.contains(&name) {
            return Ok(());
        }
        let folder = self.path.join(POLICIES);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("could not create the folder {}: {error}", folder.display()))?;
        self.write(&name, policy.as_bytes())
    }

    /// Writes the checksums of all files and their signature. Returns the number of files with checksums.
    fn finish(mut self, key: Option<&BundleKey>) -> Result<usize, String> {
        for (name, file) in std::mem::take(&mut self.open) {
            let path = self.path.join(&name);
            file.into_inner().map_err(|error| format!("could not write {}: {error}", path.display()))?;
            self.written.push(name);
        }
        self.written.sort();
        let mut sums = String::new();
        for name in &self.written {
            let path = self.path.join(name);
            let digest = super::check::digest(&path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
            sums.push_str(&format!("{digest}  {name}\n"));
        }
        let files = self.written.len();
        self.write(SUMS, sums.as_bytes())?;
        if let Some(key) = key {
            let signature = key.sign(sums.as_bytes())?;
            self.write(SIGNATURE, &signature)?;
        }
        Ok(files)
    }
}
