//! SQLite files, `jdbc:sqlite:PATH`.

pub mod catalog;
pub mod errors;
pub mod file;
pub mod place;
mod unread;

use super::driver_session::{DriverSession, LocalRead};
use crate::connectors::local_reads::LocalReads;
use crate::connectors::{Bounds, Connector, Discovery, Opened, Sample};
use crate::egress::statement::{Language, without_values};
use crate::egress::{ConnectionTarget, DriverStatement, Traffic};
use crate::memory_budget::MemoryMeter;
use crate::model::{Catalog, Class, Evidence, Failure, Privilege};
use crate::policy::Policy;
use file::{File, LARGE_MEMORY_BYTES, Mode, SMALL_MEMORY_BYTES};
use futures_util::future::BoxFuture;
use rustix::fs::{Access, access};
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Queries for the identity of a database. These are several short statements in one transaction, because one combined
/// statement takes ten times as long to compile. Counting the schema objects proves that the file is a database.
const IDENTITY: [&str; 4] =
    ["SELECT count(*) FROM sqlite_schema", "PRAGMA page_count", "PRAGMA application_id", "PRAGMA user_version"];

/// An open file.
struct Database {
    file: Arc<Mutex<File>>,
    reads: LocalReads,
    session: Arc<dyn DriverSession>,
    /// The path as it is written in the resource id.
    path: String,
    /// How long the step of the tiny sync may take.
    step_timeout: Duration,
}

/// Finds the file below the policy's roots, opens it read-only and proves that it is a database.
///
/// # Errors
/// `Misconfigured` if the file is outside the roots; `NotFound`; `WrongService` if it is any other kind of file.
pub async fn open(session: Arc<dyn DriverSession>, path: &str, policy: Arc<Policy>) -> Result<Opened, Failure> {
    let read = LocalRead::begin(session.as_ref(), path).await?;
    let written = path.to_string();
    let reads = LocalReads::for_path(Path::new(path), &policy.files.roots);
    let memory = session.memory();
    let work = |meter: MemoryMeter| {
        let (written, policy, session) = (written.clone(), Arc::clone(&policy), Arc::clone(&session));
        reads.run(move || {
            let real = place::locate(&written, &policy.files.roots)?;
            let file = file::open(&real, &written)?;
            let identity = recorded(session.as_ref(), &file, |file| metered(file, &meter, prove))?;
            let privilege = privilege(&real);
            Ok((file, identity, privilege))
        })
    };
    let opened = memory.metered(path, SMALL_MEMORY_BYTES, work).await;
    let (file, identity, privilege) = read.ended(0, opened)?;
    let file = Arc::new(Mutex::new(file));
    let connector =
        Box::new(Database { file, reads, session, path: path.to_string(), step_timeout: policy.safe_mode.step_timeout });
    Ok(Opened { connector, identity, privilege, removal: Vec::new() })
}

/// Runs `work` with the limit on values that the memory allows. If a value is larger than the small limit, the work runs
/// again with more memory.
fn metered<T>(file: &File, memory: &MemoryMeter, work: impl FnOnce(&File) -> Result<T, Failure>) -> Result<T, Failure> {
    file.set_memory(memory);
    let result = work(file);
    if result.as_ref().err().is_some_and(errors::is_too_large) {
        // The meter remembers the refusal, if it refuses.
        let _ = memory.take(LARGE_MEMORY_BYTES);
    }
    result
}

/// Runs `work`, and records the statements that it ran, each different one once with the time of all of them.
fn recorded<T>(session: &dyn DriverSession, file: &File, work: impl FnOnce(&File) -> Result<T, Failure>) -> Result<T, Failure> {
    let result = work(file);
    let error = result.as_ref().err().map(|failure| failure.class.as_str()).unwrap_or_default();
    let (mut different, mut places): (Vec<(String, Duration)>, HashMap<String, usize>) = Default::default();
    for (text, took) in file.take_statements() {
        let text = without_values(&text, Language::Sql);
        match places.get(&text).and_then(|place| different.get_mut(*place)) {
            Some((_, all)) => *all += took,
            None => {
                places.insert(text.clone(), different.len());
                different.push((text, took));
            }
        }
    }
    let last = different.len().saturating_sub(1);
    for (index, (text, took)) in different.into_iter().enumerate() {
        // The last statement is the one that failed.
        let error = if index == last { error } else { "" };
        let target = ConnectionTarget { host: "local", ..ConnectionTarget::default() };
        session.statement(&DriverStatement { protocol: "sqlite", target, text: &text, bytes: 0, took, error });
    }
    result
}

fn prove(file: &File) -> Result<Evidence, Failure> {
    let [objects, pages, application, version] = file.reading("read its schema", |base| {
        let mut found = [0_i64; 4];
        for (slot, sql) in found.iter_mut().zip(IDENTITY) {
            *slot = base.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        }
        Ok(found)
    })?;
    if pages == 0 {
        return Err(Failure::new(
            Class::WrongService,
            format!("{} is empty, so it is not proven to be a SQLite database", file.written),
            "name a database that contains data",
        ));
    }
    let mut evidence = Evidence::new();
    evidence.insert("engine".into(), json!(format!("SQLite {}", rusqlite::version())));
    evidence.insert("schema_objects".into(), json!(objects));
    evidence.insert("page_count".into(), json!(pages));
    evidence.insert("application_id".into(), json!(application));
    evidence.insert("user_version".into(), json!(version));
    evidence.insert("read_only".into(), json!(true));
    if file.mode == Mode::Immutable {
        evidence.insert("opened".into(), json!("immutable: in WAL mode and not in use"));
    }
    Ok(evidence)
}

/// SQLite has no users, so the privilege depends on whether the process may write the file.
fn privilege(real: &Path) -> Privilege {
    match access(real, Access::WRITE_OK) {
        Ok(()) => Privilege::Over { grants: vec!["the daemon's user can write the file".to_string()] },
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS | rustix::io::Errno::PERM) => Privilege::Ok,
        Err(error) => Privilege::Unknown { reason: format!("access(2): {error}") },
    }
}

impl Database {
    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&File) -> Result<T, Failure> + Send + Sync + 'static,
    ) -> Result<T, Failure> {
        let work = Arc::new(work);
        let run = |memory: MemoryMeter| {
            let (file, work, session) = (Arc::clone(&self.file), Arc::clone(&work), Arc::clone(&self.session));
            self.reads.run(move || {
                let file = file.lock().unwrap_or_else(PoisonError::into_inner);
                recorded(session.as_ref(), &file, |file| metered(file, &memory, |file| work(file)))
            })
        };
        self.session.memory().metered(&self.path, SMALL_MEMORY_BYTES, run).await
    }
}

impl Connector for Database {
    fn discover(&self, bounds: Bounds) -> BoxFuture<'_, Result<Discovery, Failure>> {
        Box::pin(self.run(move |file| catalog::discover(file, bounds)))
    }

    fn health(&self) -> BoxFuture<'_, Result<Evidence, Failure>> {
        Box::pin(self.run(prove))
    }

    fn tiny_sync<'a>(&'a self, catalog: &'a Catalog, max_items: u32) -> BoxFuture<'a, Result<Sample, Failure>> {
        let step_timeout = self.step_timeout;
        let known = catalog.skipped.clone();
        Box::pin(self.run(move |file| catalog::sample(file, step_timeout, max_items, &known)))
    }

    fn traffic(&self) -> Traffic {
        self.session.traffic()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unread_tests;
