//! An order for the rows that several replicas change, such as the budgets of accounts.
//!
//! Two transactions that change the same rows in different orders wait for each other, and PostgreSQL ends one of them. So a
//! transaction locks the names of all the rows that it is going to change before it changes the first of them, always in the same
//! order.

use super::RegistryError;
use super::command::Command;
use crate::egress::BudgetReservation;
use crate::model::Digest;
use sqlstore::{Connection, params};
use std::collections::{BTreeSet, VecDeque};

impl Command {
    /// Returns names for the rows that the command changes and that other replicas may change, too.
    pub(super) fn shared_rows(&self) -> BTreeSet<String> {
        match self {
            Command::Begin { budget_reservations, .. } => budget_reservations.iter().map(reserved).collect(),
            Command::TakeBudget { account, day, .. } => BTreeSet::from([budget_row(account, *day)]),
            Command::Limits { ask, .. } => ask.shared_rows(),
            Command::StoreAnswer { key, .. } => BTreeSet::from([format!("answer {} {}", key.caller, key.key)]),
            Command::AskToHeal { connections } => connections.iter().map(|connection| format!("heal {connection}")).collect(),
            _ => BTreeSet::new(),
        }
    }
}

fn reserved(reservation: &BudgetReservation) -> String {
    budget_row(&reservation.account, reservation.day)
}

fn budget_row(account: &str, day: i64) -> String {
    format!("budget {day} {account}")
}

/// Locks the rows that `commands` are going to change until the open transaction ends. Called once in a transaction, before it
/// changes one of them. Does nothing on SQLite, which has one writer.
///
/// # Errors
/// If the database cannot be reached.
pub(super) fn lock(db: &Connection, commands: &VecDeque<Command>) -> Result<(), RegistryError> {
    if !db.is_postgres() {
        return Ok(());
    }
    let rows: BTreeSet<String> = commands.iter().flat_map(Command::shared_rows).collect();
    if rows.is_empty() {
        return Ok(());
    }
    // The numbers are sorted and not the names, because two names may have the same number.
    let numbers: BTreeSet<i64> = rows.iter().map(|row| number(row)).collect();
    let numbers = serde_json::Value::from(numbers.into_iter().map(|number| number.to_string()).collect::<Vec<_>>()).to_string();
    // A function in FROM returns the numbers in their order, and each is locked before the next one is read.
    let sql = "SELECT count(*) FROM (SELECT pg_advisory_xact_lock(CAST(number AS BIGINT))
               FROM json_array_elements_text(CAST(CAST(?1 AS TEXT) AS json)) AS number OFFSET 0) AS locked";
    db.prepare_cached(sql)?.query_row(params![numbers], |row| row.get::<_, i64>(0))?;
    Ok(())
}

/// The number of the lock of a row.
fn number(row: &str) -> i64 {
    let digest = Digest::from_bytes(row.as_bytes());
    let half: [u8; 8] = digest.0.first_chunk().copied().unwrap_or_default();
    // The other half of the numbers is for the locks of `ledger_horizon`.
    i64::from_be_bytes(half) | i64::MIN
}
