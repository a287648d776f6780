//! Marks of accounts and hosts that outlive the process: see [`crate::egress::AccountMark`]. Also the commands of everything that
//! replicas share of the limits.

use super::command::Command;
use super::followed::database_time;
use super::writer::Writer;
use super::{Registry, RegistryError};
use crate::egress::{AccountMark, HeldAccount, MarkKind, MarkStore, MarkSubject, OtherHolders};
use crate::model::Timestamp;
use futures_util::future::BoxFuture;
use sqlstore::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a mark is kept after its end, so that other replicas see that a breaker was closed.
const KEPT_MS: i64 = 60_000;

/// A command that concerns the limits of accounts.
pub(super) enum LimitsCommand {
    StoreMarks(Vec<AccountMark>),
    ReadMarks,
    /// Writes the row of `holder` for `account`.
    Hold {
        account: String,
        holder: String,
    },
    /// Extends rows of `holder`. Each account comes with the parts on which the process counts.
    Renew {
        accounts: Vec<(String, u32)>,
        holder: String,
    },
    /// Ends all rows of `holder`.
    Release {
        holder: String,
    },
    /// Reads the rows of others, of `account` or of all accounts of `holder`.
    Others {
        account: Option<String>,
        holder: String,
    },
}

/// The answer to a [`LimitsCommand`].
pub(super) enum LimitsAnswer {
    /// The version of each mark. 0: another mark of the same account lasts longer.
    Stored(Vec<i64>),
    Marks(Vec<AccountMark>),
    Held(HeldAccount),
    Renewed(Vec<bool>),
    Others(OtherHolders),
    Released,
}

/// What waits for the answer to a command.
pub(super) type PendingAnswer = oneshot::Receiver<Result<LimitsAnswer, RegistryError>>;

impl LimitsCommand {
    /// Returns names for the rows that the command changes and that others may change, too. A transaction that takes a lock for each
    /// of them before it changes the first, in their order, cannot wait for another one that waits for it.
    pub(super) fn shared_rows(&self) -> BTreeSet<String> {
        match self {
            LimitsCommand::StoreMarks(marks) => marks.iter().map(|mark| row_name(mark.kind.subject(), &mark.key)).collect(),
            _ => BTreeSet::new(),
        }
    }
}

fn row_name(subject: MarkSubject, key: &str) -> String {
    format!("mark {} {key}", subject.as_str())
}

impl Registry {
    /// Hands a command to the writer before this returns.
    pub(super) fn ask_limits(&self, ask: LimitsCommand) -> PendingAnswer {
        let (reply, answer) = oneshot::channel();
        // If the writer has ended, the sender of the answer was dropped, too.
        let _ = self.commands.send(Command::Limits { ask, reply });
        answer
    }

    /// Reads the marks that are stored, with what remains of each of them.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn account_marks(&self) -> Result<Vec<AccountMark>, RegistryError> {
        if self.location.postgres().is_none() {
            let now = self.clock.now();
            return self.reader.with(|db| read(db, now.0));
        }
        // Read by the writer after what this process stored before, because its commands are executed in their order.
        match self.ask_limits(LimitsCommand::ReadMarks).await.map_err(|_| RegistryError::Closed)?? {
            LimitsAnswer::Marks(marks) => Ok(marks),
            _ => Ok(Vec::new()),
        }
    }
}

impl MarkStore for Registry {
    fn store(&self, marks: Vec<AccountMark>) -> BoxFuture<'static, Result<Vec<i64>, String>> {
        let answer = self.ask_limits(LimitsCommand::StoreMarks(marks));
        Box::pin(async move {
            match answer.await.map_err(|_| RegistryError::Closed.to_string())?.map_err(|error| error.to_string())? {
                LimitsAnswer::Stored(versions) => Ok(versions),
                _ => Ok(Vec::new()),
            }
        })
    }
}

impl Writer {
    /// Executes one command in the open transaction.
    pub(super) fn limits(&mut self, ask: LimitsCommand) -> Result<LimitsAnswer, RegistryError> {
        let now = self.now();
        match ask {
            LimitsCommand::StoreMarks(marks) => Ok(LimitsAnswer::Stored(store(&self.db, &marks, time(&self.db, now)?)?)),
            LimitsCommand::ReadMarks => Ok(LimitsAnswer::Marks(read(&self.db, time(&self.db, now)?)?)),
            LimitsCommand::Hold { account, holder } => Ok(LimitsAnswer::Held(self.hold_account(&account, &holder)?)),
            LimitsCommand::Renew { accounts, holder } => Ok(LimitsAnswer::Renewed(self.renew_accounts(&accounts, &holder)?)),
            LimitsCommand::Release { holder } => {
                self.release_accounts(&holder)?;
                Ok(LimitsAnswer::Released)
            }
            LimitsCommand::Others { account, holder } => {
                Ok(LimitsAnswer::Others(self.other_holders(account.as_deref(), &holder)?))
            }
        }
    }
}

/// The time from which marks count: that of the database, because the clocks of replicas differ, or `now` for a file.
fn time(db: &Connection, now: Timestamp) -> Result<i64, RegistryError> {
    if db.is_postgres() { Ok(database_time(db)?.0) } else { Ok(now.0) }
}

/// Stores marks, and deletes those that ended a while ago. Returns the version of each mark.
fn store(db: &Connection, marks: &[AccountMark], now: i64) -> Result<Vec<i64>, RegistryError> {
    // In the order of the keys, so that two replicas that store the same marks do not wait for each other.
    let mut order: Vec<usize> = (0..marks.len()).collect();
    order.sort_by_key(|index| marks.get(*index).map(AccountMark::subject));
    let mut versions = vec![0; marks.len()];
    // A mark of an account only becomes longer, and of two marks of a breaker the later one counts.
    let sql = "INSERT INTO account_marks (subject, key, kind, set_at, ends_at, reason, version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4)
               ON CONFLICT (subject, key) DO UPDATE SET kind = excluded.kind, set_at = excluded.set_at, ends_at = excluded.ends_at,
                 reason = excluded.reason,
                 version = CASE WHEN excluded.version > account_marks.version THEN excluded.version ELSE account_marks.version + 1 END
               WHERE account_marks.subject = 'host' OR excluded.ends_at > account_marks.ends_at
               RETURNING version";
    let mut put = db.prepare_cached(sql)?;
    for index in order {
        let (Some(mark), Some(version)) = (marks.get(index), versions.get_mut(index)) else { continue };
        // PostgreSQL does not store this character, and no vendor has it in the name of an account.
        if mark.key.contains('\0') {
            continue;
        }
        let ends_at = Timestamp(now).plus(mark.remaining).0;
        let (subject, kind) = (mark.kind.subject().as_str(), mark.kind.as_str());
        let stored = put.query_row(params![subject, mark.key, kind, now, ends_at, mark.reason], |row| row.get(0)).optional()?;
        *version = stored.unwrap_or(0);
    }
    drop(put);
    let expired = match db.is_postgres() {
        // Without waiting for another replica that deletes them, too.
        true => {
            "DELETE FROM account_marks WHERE (subject, key) IN
               (SELECT subject, key FROM account_marks WHERE ends_at <= ?1 ORDER BY subject, key FOR UPDATE SKIP LOCKED)"
        }
        false => "DELETE FROM account_marks WHERE ends_at <= ?1",
    };
    db.prepare_cached(expired)?.execute([now.saturating_sub(KEPT_MS)])?;
    Ok(versions)
}

/// Reads all marks.
fn read(db: &Connection, now: i64) -> Result<Vec<AccountMark>, RegistryError> {
    let mut statement = db.prepare_cached("SELECT kind, key, set_at, ends_at, reason, version FROM account_marks")?;
    let mut rows = statement.query([])?;
    let mut marks = Vec::new();
    while let Some(row) = rows.next()? {
        let kind: String = row.get(0)?;
        // A newer version of AAM may have kinds that this one does not know.
        let Some(kind) = MarkKind::ALL.into_iter().find(|known| known.as_str() == kind) else { continue };
        let (set_at, ends_at): (i64, i64) = (row.get(2)?, row.get(3)?);
        // If the clock was set back, a mark does not last longer than when it was set.
        let remaining = ends_at.saturating_sub(now).min(ends_at.saturating_sub(set_at)).max(0);
        let remaining = Duration::from_millis(u64::try_from(remaining).unwrap_or(0));
        marks.push(AccountMark { kind, key: row.get(1)?, remaining, reason: row.get(4)?, version: row.get(5)? });
    }
    Ok(marks)
}
