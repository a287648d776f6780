//! Which processes use an account, and on how many parts of its limits each of them counts: see [`crate::egress::AccountHolders`].
//! Only a registry in PostgreSQL has several processes.

use super::account_marks::{LimitsAnswer, LimitsCommand, PendingAnswer};
use super::writer::Writer;
use super::{Registry, RegistryError};
use crate::egress::{AccountHolders, HOLDER_LEASE, HeldAccount, OtherHolders};
use futures_util::future::BoxFuture;
use sqlstore::params;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// The name of this process among all that use the database. It is never used again.
static PROCESS: LazyLock<String> = LazyLock::new(|| format!("{}-{:016x}", std::process::id(), fastrand::u64(..)));

/// The rows that a process with a name of its own writes.
struct RegistryHolders {
    registry: Arc<Registry>,
    holder: String,
}

/// Returns what divides the limits of accounts among the processes that use `registry`. `None` for a file, which one process uses.
#[must_use]
pub fn account_holders(registry: &Arc<Registry>) -> Option<Arc<dyn AccountHolders>> {
    replica_name(registry).map(|holder| holders_as(registry, holder))
}

/// As [`account_holders`], with the name `holder`.
pub(super) fn holders_as(registry: &Arc<Registry>, holder: String) -> Arc<dyn AccountHolders> {
    Arc::new(RegistryHolders { registry: Arc::clone(registry), holder })
}

/// The name of this process, if other processes use the registry, too.
fn replica_name(registry: &Registry) -> Option<String> {
    registry.location().postgres().map(|_| PROCESS.clone())
}

async fn answered(answer: PendingAnswer) -> Result<LimitsAnswer, String> {
    answer.await.map_err(|_| RegistryError::Closed.to_string())?.map_err(|error| error.to_string())
}

fn unexpected() -> String {
    "the registry answered another question".to_string()
}

impl AccountHolders for RegistryHolders {
    fn hold(&self, account: String) -> BoxFuture<'static, Result<HeldAccount, String>> {
        let answer = self.registry.ask_limits(LimitsCommand::Hold { account, holder: self.holder.clone() });
        Box::pin(async move {
            match answered(answer).await? {
                LimitsAnswer::Held(held) => Ok(held),
                _ => Err(unexpected()),
            }
        })
    }

    fn renew(&self, accounts: Vec<(String, u32)>) -> BoxFuture<'static, Result<Vec<bool>, String>> {
        let answer = self.registry.ask_limits(LimitsCommand::Renew { accounts, holder: self.holder.clone() });
        Box::pin(async move {
            match answered(answer).await? {
                LimitsAnswer::Renewed(renewed) => Ok(renewed),
                _ => Err(unexpected()),
            }
        })
    }

    fn release(&self) -> BoxFuture<'static, Result<(), String>> {
        let answer = self.registry.ask_limits(LimitsCommand::Release { holder: self.holder.clone() });
        Box::pin(async move { answered(answer).await.map(drop) })
    }

    fn others(&self, account: Option<String>) -> BoxFuture<'static, Result<OtherHolders, String>> {
        let answer = self.registry.ask_limits(LimitsCommand::Others { account, holder: self.holder.clone() });
        Box::pin(async move {
            match answered(answer).await? {
                LimitsAnswer::Others(others) => Ok(others),
                _ => Err(unexpected()),
            }
        })
    }
}

impl Writer {
    pub(super) fn hold_account(&self, account: &str, holder: &str) -> Result<HeldAccount, RegistryError> {
        let mut statement = self.db.prepare_cached(include_str!("migrations/postgres/holder_take.sql"))?;
        let (parts, idle) = statement
            .query_row(params![account, holder, lease_ms()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)))?;
        let idle = idle.map(|idle| Duration::from_millis(u64::try_from(idle).unwrap_or(0)));
        Ok(HeldAccount { parts: u32::try_from(parts).unwrap_or(u32::MAX), idle })
    }

    /// Extends rows, and deletes those that ended long ago.
    pub(super) fn renew_accounts(&self, accounts: &[(String, u32)], holder: &str) -> Result<Vec<bool>, RegistryError> {
        let given: serde_json::Map<String, serde_json::Value> =
            accounts.iter().map(|(account, parts)| (account.clone(), (*parts).into())).collect();
        let given = serde_json::Value::Object(given).to_string();
        let mut statement = self.db.prepare_cached(include_str!("migrations/postgres/holder_renew.sql"))?;
        let rows = statement.query_map(params![holder, given, lease_ms()], |row| row.get::<_, String>(0))?;
        let renewed = rows.collect::<sqlstore::Result<BTreeSet<String>>>()?;
        let old = "DELETE FROM account_holders WHERE (account, holder) IN
                     (SELECT account, holder FROM account_holders WHERE ends_at <= clock_timestamp() - interval '1 hour'
                      ORDER BY account, holder LIMIT 1000 FOR UPDATE SKIP LOCKED)";
        self.db.prepare_cached(old)?.execute([])?;
        Ok(accounts.iter().map(|(account, _)| renewed.contains(account)).collect())
    }

    pub(super) fn release_accounts(&self, holder: &str) -> Result<(), RegistryError> {
        let sql = "UPDATE account_holders SET ends_at = clock_timestamp() WHERE holder = ?1 AND ends_at > clock_timestamp()";
        self.db.prepare_cached(sql)?.execute([holder])?;
        Ok(())
    }

    pub(super) fn other_holders(&self, account: Option<&str>, holder: &str) -> Result<OtherHolders, RegistryError> {
        let mut statement = self.db.prepare_cached(include_str!("migrations/postgres/holder_others.sql"))?;
        let mut rows = statement.query(params![holder, account])?;
        let mut others = OtherHolders::new();
        while let Some(row) = rows.next()? {
            let parts: i64 = row.get(1)?;
            others.entry(row.get(0)?).or_default().push(u32::try_from(parts).unwrap_or(u32::MAX));
        }
        Ok(others)
    }
}

fn lease_ms() -> i64 {
    i64::try_from(HOLDER_LEASE.as_millis()).unwrap_or(i64::MAX)
}
