//! What the pages for people read: the newest entries and whether they match the hash chain, seals, accepted policies, and the
//! calls of the day. Every read is bounded, because anybody who may read can open a page again and again.

use super::archive::{self, ArchivedSteps};
use super::chain::GENESIS;
use super::reader::{COLUMNS, entry};
use super::{CallsVerdict, Reader, RegistryError, Verdict, verify};
use crate::families::{self, aliases::not_understood};
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, Digest, Intent, Timestamp};
use crate::policy::diff::ConnectionLine;
use crate::snapshot::Connection;
use sqlstore::{Connection as Database, OptionalExtension, params};

/// The newest entries of some namespaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecentEntries {
    /// The entries with their hashes, newest first.
    pub entries: Vec<(Entry, Digest)>,
    /// The oldest entry that was looked at, also if it was not wanted; 0 if no entry was.
    pub reached: u64,
}

/// Whether the newest entries match the hash chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestVerdict {
    /// The first entry that was checked. It is greater than `last` if none was, because the last one is too large.
    pub first: u64,
    /// The last entry that was checked.
    pub last: u64,
    /// The first entry that does not match, and why.
    pub broken: Option<(u64, String)>,
}

/// The calls that were taken from the budget of one account today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountUsage {
    /// The family, or `vault`, `token` or `webhook`.
    pub family: String,
    pub account: String,
    pub used: u64,
}

/// The calls that were taken from the budgets of all accounts of one family today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyUsage {
    /// As in [`AccountUsage`].
    pub family: String,
    /// The number of accounts that were called.
    pub accounts: usize,
    /// The calls of the account that was called most.
    pub most: u64,
}

/// An accepted policy with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyText {
    pub at: Timestamp,
    pub digest: Digest,
    pub text: String,
}

impl Reader {
    /// Reads up to `limit` entries with a number below `before` whose namespace is `wanted`, newest first. Looks at up to
    /// `max_rows` entries, so a namespace with few entries may need several calls.
    ///
    /// # Errors
    /// If the registry cannot be read, or if this build cannot parse a row.
    pub fn recent_entries(
        &self,
        before: u64,
        limit: usize,
        max_rows: usize,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<RecentEntries, RegistryError> {
        self.with(|db| {
            let sql = format!("SELECT {COLUMNS}, hash FROM ledger WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2");
            let mut statement = db.prepare_cached(&sql)?;
            let before = i64::try_from(before).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![before, max_rows])?;
            let mut found = RecentEntries::default();
            while let Some(row) = rows.next()? {
                if found.entries.len() >= limit {
                    break;
                }
                found.reached = row.get(0)?;
                let namespace: String = row.get(2)?;
                if wanted(&namespace) {
                    let hash: [u8; 32] = row.get(6)?;
                    found.entries.push((entry(row)?, Digest(hash)));
                }
            }
            Ok(found)
        })
    }

    /// Checks whether the newest entries up to `last` match their hashes and the entries before them: up to `max_rows` of them
    /// with up to `max_bytes` bytes. Nothing else is checked; [`Reader::verify`] checks everything.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn verify_newest(&self, last: u64, max_rows: usize, max_bytes: u64) -> Result<NewestVerdict, RegistryError> {
        self.with(|db| {
            // One transaction, so that the rows are those of one moment.
            let transaction = db.read_transaction()?;
            let first = first_within(&transaction, last, max_rows, max_bytes)?;
            if transaction.is_postgres() {
                return Ok(NewestVerdict { first, last, broken: broken_link(&transaction, first, last)? });
            }
            let found =
                transaction.query_row("SELECT hash FROM ledger WHERE seq = ?1", [first.saturating_sub(1)], |row| row.get(0));
            let before: Option<[u8; 32]> = found.optional()?;
            let head = before.map_or(GENESIS, Digest);
            let (rows, damage, calls) = (first.saturating_sub(1), Vec::new(), CallsVerdict::default());
            let (archives, stored_fold, unused_fold) = Default::default();
            let mut verdict = Verdict { rows, head, broken: None, damage, calls, archives, stored_fold, unused_fold };
            let sql = format!(
                "SELECT seq, at, kind, namespace, connection, facts, {}, prev, hash FROM ledger
                 WHERE seq BETWEEN ?1 AND ?2 ORDER BY seq",
                archive::body_sql(&transaction)
            );
            let mut archived = ArchivedSteps::new(&transaction, self.location())?;
            let mut statement = transaction.prepare_cached(&sql)?;
            let mut rows = statement.query(params![first, last])?;
            let mut broken = None;
            while broken.is_none() && verdict.rows < last {
                let checked = match rows.next() {
                    Ok(Some(row)) => verify::step(row, &verdict, &mut archived),
                    Ok(None) => Err("it is missing".to_string()),
                    Err(error) => Err(format!("the page that holds it cannot be read: {error}")),
                };
                match checked {
                    Ok(head) => {
                        verdict.rows += 1;
                        verdict.head = head;
                    }
                    Err(why) => broken = Some((verdict.rows + 1, why)),
                }
            }
            Ok(NewestVerdict { first, last, broken })
        })
    }

    /// The entry with which `namespace` was sealed, if it was.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn seal_of(&self, namespace: &str) -> Result<Option<Entry>, RegistryError> {
        self.with(|db| {
            let sql =
                format!("SELECT {COLUMNS} FROM ledger WHERE kind = 'namespace_sealed' AND namespace = ?1 ORDER BY seq LIMIT 1");
            let mut statement = db.prepare_cached(&sql)?;
            statement.query_row([namespace], |row| Ok(entry(row))).optional()?.transpose()
        })
    }

    /// The policy that entry `seq` accepted. `None` if the entry does not exist or records something else.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn policy_text(&self, seq: u64) -> Result<Option<PolicyText>, RegistryError> {
        self.with(|db| {
            let sql = format!("SELECT {COLUMNS}, body FROM ledger WHERE seq = ?1 AND kind = 'policy_accepted'");
            let mut statement = db.prepare_cached(&sql)?;
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            let found = statement.query_row([seq], |row| Ok((entry(row), row.get::<_, Option<String>>(6)?))).optional()?;
            let Some((accepted, text)) = found else { return Ok(None) };
            let accepted = accepted?;
            Ok(match (accepted.fact, text) {
                (Fact::PolicyAccepted { policy }, Some(text)) => Some(PolicyText { at: accepted.at, digest: policy, text }),
                _ => None,
            })
        })
    }

    /// The calls that were taken from the budgets of `day`, by family. At most `limit` families.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn budget_by_family(&self, day: i64, limit: usize) -> Result<Vec<FamilyUsage>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached(
                "SELECT substr(account, 1, instr(account, '|') - 1) AS family, count(*), max(used)
                 FROM budget WHERE day = ?1 GROUP BY family ORDER BY family LIMIT ?2",
            )?;
            let rows = statement.query_map(params![day, limit], |row| {
                Ok(FamilyUsage { family: row.get(0)?, accounts: row.get(1)?, most: row.get(2)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The calls that were taken from the budgets of `day` for the accounts of `family`, the most used first. At most `limit`
    /// accounts.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn budget_of_family(&self, day: i64, family: &str, limit: usize) -> Result<Vec<AccountUsage>, RegistryError> {
        self.with(|db| {
            // All keys that begin with the family and a bar, which the primary key finds: `}` is the character after the bar.
            let mut statement = db.prepare_cached(
                "SELECT substr(account, instr(account, '|') + 1), used FROM budget
                 WHERE account >= ?1 || '|' AND account < ?1 || '}' AND day = ?2 ORDER BY used DESC, account LIMIT ?3",
            )?;
            let rows = statement.query_map(params![family, day, limit], |row| {
                Ok(AccountUsage { family: family.to_string(), account: row.get(0)?, used: row.get(1)? })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// What a comparison of policies needs to know about a connection. `None` if its document cannot be read.
    #[must_use]
    pub fn policy_line(&self, id: ConnectionId, known: &Connection) -> Option<ConnectionLine> {
        let intent: Intent = serde_json::from_str(&self.body(known.document).ok()??).ok()?;
        Some(ConnectionLine {
            is_understood: not_understood(&intent).is_empty(),
            id,
            namespace: known.namespace.to_string(),
            source_type: known.source_type.to_string(),
            risk: families::risk(&known.source_type, intent.risk_level.risk()),
            evidence_status: intent.evidence.status,
            confidence: intent.owner.confidence,
            state: known.state(),
            origins: known.origins_in_force().cloned().collect(),
            locator: intent.credential_locator,
            resource_ids: intent.resource_ids,
        })
    }
}

/// Returns the first of the entries from `first` to `last` that does not match the row before it in its chain, and why.
fn broken_link(db: &Database, first: u64, last: u64) -> Result<Option<(u64, String)>, RegistryError> {
    let sql = "SELECT l.seq, l.at, l.kind, l.namespace, l.connection, l.facts, l.body, l.prev, l.hash, before.hash
               FROM ledger AS l LEFT JOIN ledger AS before ON before.chain = l.chain AND before.place = l.place - 1
               WHERE l.seq BETWEEN ?1 AND ?2 ORDER BY l.seq";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params![first, last])?;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let before = row.get::<_, Option<[u8; 32]>>(9)?.map_or(GENESIS, Digest);
        if let Err(why) = verify::step_after(row, seq, &before) {
            return Ok(Some((seq, why)));
        }
    }
    Ok(None)
}

/// The first of the newest entries up to `last` that are at most `max_rows` and hold at most `max_bytes` bytes together.
fn first_within(db: &Database, last: u64, max_rows: usize, max_bytes: u64) -> Result<u64, RegistryError> {
    let body = archive::body_sql(db);
    let sql = format!(
        "SELECT seq, CAST(octet_length(facts) AS BIGINT) + coalesce(octet_length({body}), 0) FROM ledger
         WHERE seq <= ?1 ORDER BY seq DESC LIMIT ?2"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![i64::try_from(last).unwrap_or(i64::MAX), max_rows])?;
    let (mut first, mut bytes) = (last.saturating_add(1), 0_u64);
    while let Some(row) = rows.next()? {
        bytes = bytes.saturating_add(row.get::<_, u64>(1)?);
        if bytes > max_bytes {
            break;
        }
        first = row.get(0)?;
    }
    Ok(first)
}
