//! Reads the versions of catalogs, which changes they brought, and who acknowledged them.

use super::reader::{COLUMNS, entry};
use super::{Reader, RegistryError};
use crate::model::ledger::{Entry, Fact};
use crate::model::{ConnectionId, Intent, Timestamp};
use crate::report::drift::{self, AcknowledgedBody, DriftEntry, DriftFilter};
use crate::snapshot::Connection;
use sqlstore::{OptionalExtension, params};

/// That a person acknowledged the changes of a catalog version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub at: Timestamp,
    pub by: String,
    pub note: String,
}

impl From<Acknowledgement> for AcknowledgedBody {
    fn from(acknowledgement: Acknowledgement) -> AcknowledgedBody {
        let Acknowledgement { at, by, note } = acknowledgement;
        AcknowledgedBody { by, at: at.rfc3339(), note }
    }
}

impl Reader {
    /// Passes the schema changes that `filter` selects to `take`, newest first, until it returns false. With `before`, only entries
    /// with a smaller `seq`. `connection` returns what is known of a connection.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn drift(
        &self,
        filter: &DriftFilter,
        before: Option<u64>,
        connection: impl Fn(ConnectionId) -> Option<Connection>,
        mut take: impl FnMut(DriftEntry) -> bool,
    ) -> Result<(), RegistryError> {
        let mut failed = None;
        self.replaced_catalogs(before, |entry| {
            if filter.since.is_some_and(|since| entry.at < since) {
                return false;
            }
            match self.drift_entry(filter, &entry, &connection) {
                Ok(Some(found)) => take(found),
                Ok(None) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Returns the changes of one entry, if `filter` selects them.
    fn drift_entry(
        &self,
        filter: &DriftFilter,
        entry: &Entry,
        connection: impl Fn(ConnectionId) -> Option<Connection>,
    ) -> Result<Option<DriftEntry>, RegistryError> {
        let (Fact::CatalogRegistered { version, breaking, additive, .. }, Some(id)) = (&entry.fact, entry.connection) else {
            return Ok(None);
        };
        let Some(known) = connection(id).filter(|known| filter.selects(id, known)) else { return Ok(None) };
        if filter.version.is_some_and(|wanted| wanted != *version) {
            return Ok(None);
        }
        if filter.breaking.is_some_and(|wanted| wanted == breaking.is_empty()) {
            return Ok(None);
        }
        let acknowledged = self.acknowledgement(id, *version)?;
        if filter.acknowledged.is_some_and(|wanted| wanted != acknowledged.is_some()) {
            return Ok(None);
        }
        let intent = self.body(known.document)?.and_then(|text| serde_json::from_str::<Intent>(&text).ok());
        let owner = intent.map(|intent| intent.owner.user).unwrap_or_default();
        if !filter.selects_owner(&owner) {
            return Ok(None);
        }
        let (earlier, later) = (self.catalog(id, Some(version - 1))?, self.body(entry.seq)?);
        let mut changes = match (earlier, later) {
            (Some((_, earlier)), Some(later)) => drift::changes(&earlier, &later),
            _ => Vec::new(),
        };
        let breaking_total = changes.iter().filter(|change| change.breaking).count().max(breaking.len());
        let additive_total = changes.iter().filter(|change| !change.breaking).count().max(additive.len());
        changes.truncate(drift::MAX_CHANGES);
        Ok(Some(DriftEntry {
            seq: entry.seq,
            at: entry.at.rfc3339(),
            connection_id: id.to_string(),
            namespace: known.namespace.to_string(),
            source_type: known.source_type.to_string(),
            owner,
            previous_version: version - 1,
            catalog_version: *version,
            breaking: breaking_total > 0,
            breaking_total,
            additive_total,
            changes,
            acknowledged: acknowledged.map(Into::into),
        }))
    }

    /// Passes the entries of all catalogs that replaced an earlier one to `take`, newest first, until it returns false. With
    /// `before`, only entries with a smaller `seq`.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn replaced_catalogs(&self, before: Option<u64>, take: impl FnMut(Entry) -> bool) -> Result<(), RegistryError> {
        self.with_taker(take, |db, take| {
            // The condition is that of the index ledger_drift.
            let version = match db.is_postgres() {
                true => "CAST(json_extract(facts, '$.version') AS BIGINT)",
                false => "json_extract(facts, '$.version')",
            };
            let mut statement = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM ledger WHERE kind = 'catalog_registered' AND {version} > 1 \
                 AND seq < ?1 ORDER BY seq DESC"
            ))?;
            let before = before.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
            let mut rows = statement.query([before])?;
            while let Some(row) = rows.next()? {
                if !take(entry(row)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The entries of all catalogs of a connection, oldest first.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn catalog_entries(&self, connection: ConnectionId) -> Result<Vec<Entry>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM ledger WHERE connection = ?1 AND kind = 'catalog_registered' ORDER BY seq"
            ))?;
            let mut rows = statement.query([connection.to_string()])?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(entry(row)?);
            }
            Ok(entries)
        })
    }

    /// Who first acknowledged the changes of a version of a catalog. `None` if they were not acknowledged.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub fn acknowledgement(&self, connection: ConnectionId, version: u32) -> Result<Option<Acknowledgement>, RegistryError> {
        self.with(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM ledger WHERE kind = 'drift_acknowledged' AND connection = ?1 \
                 AND CAST(json_extract(facts, '$.version') AS BIGINT) = ?2 ORDER BY seq LIMIT 1"
            ))?;
            let found = statement.query_row(params![connection.to_string(), version], |row| Ok(entry(row))).optional()?;
            Ok(found.transpose()?.and_then(|entry| match entry.fact {
                Fact::DriftAcknowledged { by, note, .. } => Some(Acknowledgement { at: entry.at, by, note }),
                _ => None,
            }))
        })
    }
}
