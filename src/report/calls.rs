//! Recorded calls as text for people and as JSON for programs.

use crate::model::text::{counted, printable};
use crate::model::{CallPurpose, InterruptedAttempt, StoredCall};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use utoipa::ToSchema;

/// One call that AAM made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallBody {
    /// When the call began.
    pub at: String,
    /// The connection that the call was made for.
    pub connection_id: String,
    /// Empty if the call belongs to no connection, as a message to a webhook.
    pub namespace: String,
    /// The family of the connection. Calls outside of attempts have the name of what made them: `vault`, `token` or `webhook`.
    pub source_type: String,
    /// The attempt that made the call; null if none did.
    pub attempt: Option<CallAttemptBody>,
    /// Whether the call went to the source, to a vault or token endpoint for the credential, or to a webhook.
    pub purpose: CallPurpose,
    /// The HTTP method, or the protocol: `postgres`, `mysql`, `mongodb`, `sqlite`, `READ FILE`, `DNS SRV`.
    pub method: String,
    /// The host, with the port if it is not that of the scheme or protocol; `local` for files.
    pub host: String,
    /// The path without its query, or the database with a slash before it. It is empty for webhooks, because it may be a secret.
    pub path: String,
    /// The SQL statement with `?` for its values, the command of MongoDB with its collection, or the operation that a POST names.
    pub statement: Option<String>,
    /// The status of the HTTP response; null if there was none.
    pub status: Option<u16>,
    /// The bytes of the response, after decompression. For the connection of a database, the bytes in both directions.
    pub bytes: u64,
    /// The bytes that were sent, if they are known on their own.
    pub sent_bytes: Option<u64>,
    pub duration_ms: u64,
    /// The class of the failure; null if the call succeeded.
    pub error: Option<String>,
    /// The rule that allowed the call.
    pub rule: String,
}

/// The attempt that a call belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CallAttemptBody {
    /// The entry of the ledger with its outcome; null if the attempt found nothing new.
    pub seq: Option<u64>,
    pub begun_at: String,
    /// Why it was due.
    pub why: String,
    /// The digest of the policy that was in force.
    pub policy: String,
    /// The number of its calls that are not listed, because there were too many.
    pub calls_not_listed: u64,
}

/// An attempt whose calls are not recorded, because the process ended while it ran. The log has them at level `info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterruptedAttemptBody {
    /// The entry of the ledger with its outcome.
    pub seq: u64,
    pub connection_id: String,
    pub begun_at: String,
    pub message: String,
}

impl InterruptedAttemptBody {
    /// Formats an attempt.
    #[must_use]
    pub fn new(attempt: &InterruptedAttempt) -> InterruptedAttemptBody {
        let InterruptedAttempt { seq, connection, begun_at, .. } = attempt;
        let begun_at = begun_at.rfc3339();
        let message = format!(
            "attempt {seq} of {connection}, which began at {begun_at}, was interrupted: its calls are not recorded; look for them in \
             the log of that time, which has them at level info"
        );
        InterruptedAttemptBody { seq: *seq, connection_id: connection.to_string(), begun_at, message }
    }
}

impl CallBody {
    /// Formats a stored call.
    #[must_use]
    pub fn new(call: StoredCall) -> CallBody {
        let text = |text: String| (!text.is_empty()).then_some(text);
        let attempt = call.begun_at.map(|begun_at| CallAttemptBody {
            seq: call.attempt,
            begun_at: begun_at.rfc3339(),
            why: call.why.unwrap_or_default(),
            policy: call.policy.map(|policy| policy.to_string()).unwrap_or_default(),
            calls_not_listed: call.cut,
        });
        CallBody {
            at: call.at.rfc3339(),
            connection_id: call.connection,
            namespace: call.namespace,
            source_type: call.family,
            attempt,
            purpose: call.target.purpose,
            method: call.target.method,
            host: call.target.host,
            path: call.target.path,
            statement: text(call.target.statement),
            status: call.status,
            bytes: call.bytes,
            sent_bytes: call.sent,
            duration_ms: call.ms,
            error: text(call.error),
            rule: call.target.rule,
        }
    }
}

/// The columns of the table, and the number of characters that each is padded to at most.
const COLUMNS: [(&str, usize); 10] = [
    ("AT", 24),
    ("FAMILY", 16),
    ("CONNECTION", 8),
    ("FOR", 7),
    ("METHOD", 9),
    ("HOST", 40),
    ("STATUS", 12),
    ("BYTES", 9),
    ("MS", 6),
    ("PATH OR STATEMENT", 0),
];

/// Formats calls as a table. `total` is the number of all that match.
#[must_use]
pub fn table(calls: &[CallBody], total: u64, interrupted: &[InterruptedAttemptBody]) -> String {
    if calls.is_empty() {
        return format!("no call is recorded that matches\n{}", notes(interrupted));
    }
    let head = COLUMNS.map(|(name, _)| name.to_string());
    let rows: Vec<[String; 10]> = calls.iter().map(cells).collect();
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| {
            let longest = rows.iter().chain([&head]).map(|row| row[column].chars().count()).max().unwrap_or(0);
            longest.min(COLUMNS[column].1.max(COLUMNS[column].0.len()))
        })
        .collect();
    let mut text = String::new();
    for row in [&head].into_iter().chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let shown = calls.len();
    let _ = match usize::try_from(total).unwrap_or(usize::MAX) {
        total if total > shown => {
            writeln!(text, "\nthe newest {shown} of {}; --limit {total} shows all, --json also the rules", counted(total, "call"))
        }
        total => writeln!(text, "\n{}; --json also shows the rule that allowed each", counted(total, "call")),
    };
    text + &notes(interrupted)
}

/// Returns a line for each attempt whose calls are not recorded, after an empty line.
fn notes(interrupted: &[InterruptedAttemptBody]) -> String {
    let mut text = String::new();
    for (index, attempt) in interrupted.iter().enumerate() {
        let separator = if index == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{separator}{}", printable(&attempt.message, &[]));
    }
    text
}

fn cells(call: &CallBody) -> [String; 10] {
    let what = call.statement.as_ref().unwrap_or(&call.path);
    let status = match (&call.status, &call.error) {
        (_, Some(error)) => error.clone(),
        (Some(status), None) => status.to_string(),
        (None, None) => "ok".to_string(),
    };
    [
        call.at.clone(),
        call.source_type.clone(),
        call.connection_id.chars().take(8).collect(),
        call.purpose.as_str().to_string(),
        call.method.clone(),
        call.host.clone(),
        status,
        call.bytes.to_string(),
        call.duration_ms.to_string(),
        what.clone(),
    ]
    .map(|cell| printable(&cell, &[]).into_owned())
}
