//! The statements that a session has prepared.

use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::Statement;

/// The maximum number of statements that a session keeps.
const MAX_STATEMENTS: usize = 256;

/// Prepared statements by their text. The one that was not used for the longest time makes room for a new one.
#[derive(Default)]
pub(super) struct Statements {
    kept: HashMap<Arc<str>, (Statement, u64)>,
    uses: u64,
}

impl Statements {
    pub(super) fn get(&mut self, sql: &str) -> Option<Statement> {
        self.uses += 1;
        let (statement, used) = self.kept.get_mut(sql)?;
        *used = self.uses;
        Some(statement.clone())
    }

    pub(super) fn insert(&mut self, sql: Arc<str>, statement: Statement) {
        if self.kept.len() >= MAX_STATEMENTS {
            let oldest = self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(sql, _)| Arc::clone(sql));
            oldest.map(|sql| self.kept.remove(&sql));
        }
        self.kept.insert(sql, (statement, self.uses));
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Forgets all statements if the server says that one of them is not valid any more.
    pub(super) fn check(&mut self, sqlstate: Option<&str>) {
        // `feature_not_supported` is "cached plan must not change result type".
        if matches!(sqlstate, Some("0A000" | "26000")) {
            self.clear();
        }
    }
}
