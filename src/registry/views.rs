//! The views of the registry that `aam query` reads, with their columns. They are a contract: views and columns may be added,
//! but keep their names. A test compares this list with the schema, and `docs/sql.md` is generated from it.

/// A view, or a table that `aam query` computes.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub name: &'static str,
    pub about: &'static str,
    pub columns: &'static [Column],
    /// True if only `aam query` has it: it holds what AAM computes from the entries.
    pub computed: bool,
}

/// A column: name, type and content.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: &'static str,
    pub about: &'static str,
}

const fn column(name: &'static str, kind: &'static str, about: &'static str) -> Column {
    Column { name, kind, about }
}

const fn view(name: &'static str, about: &'static str, columns: &'static [Column]) -> View {
    View { name, about, columns, computed: false }
}

const fn computed(name: &'static str, about: &'static str, columns: &'static [Column]) -> View {
    View { name, about, columns, computed: true }
}

const SEQ: Column = column("seq", "integer", "the number of the entry in the ledger");
const AT: Column = column("at", "integer", "milliseconds since 1970 UTC");
const NAMESPACE: Column = column("namespace", "text", "the namespace; empty for the whole registry");
const CONNECTION: Column = column("connection", "text", "the id of the connection");
const SOURCE_TYPE: Column = column("source_type", "text", "the family or custom source");
const VERSION: Column = column("version", "integer", "the version of the catalog, counted from 1");

/// All views, those that are computed first.
pub const VIEWS: [View; 21] = [
    computed(
        "connections",
        "the connections as aam status lists them",
        &[
            CONNECTION,
            NAMESPACE,
            SOURCE_TYPE,
            column("resource_ids", "text", "JSON array"),
            column("owner", "text", "owner.user of the intent"),
            column("status", "text", "the state, for example ACTIVE"),
            column("credential_locator", "text", "where the credential is stored; NULL if the source needs none"),
            column("risk", "text", "low, med or high"),
            column("created", "text", "when it was first asked for, RFC 3339"),
            column("changed", "text", "when the latest attempt found something new, RFC 3339"),
            column(
                "checked",
                "text",
                "when it was last checked, RFC 3339; NULL before the first check; working state that aam verify does not cover",
            ),
            column("failures", "integer", "failed attempts in a row; working state that aam verify does not cover"),
            column("title", "text", "why it is not ACTIVE; empty if it is"),
            column("fix", "text", "what to do"),
            column("catalog_version", "integer", "the version of its catalog; NULL before the first"),
        ],
    ),
    computed(
        "privileges",
        "what the credentials may do, as aam privileges lists it; one row for each resource",
        &[
            CONNECTION,
            NAMESPACE,
            SOURCE_TYPE,
            column("resource_id", "text", "the resource; NULL if nothing was checked"),
            column("verdict", "text", "over, unknown, not_checked or ok"),
            column("grants", "text", "the excess permissions, JSON array"),
            column("statements", "text", "what an administrator pastes to take them away, JSON array"),
            column("steps", "text", "what an administrator does otherwise, JSON array"),
            column("reason", "text", "why the verdict is unknown"),
            column("found_at", "text", "when the verdict was recorded, RFC 3339"),
        ],
    ),
    computed(
        "drift",
        "the changes of catalogs, as aam drift lists them; one row for each change",
        &[
            SEQ,
            column("at", "text", "when the later version was found, RFC 3339"),
            CONNECTION,
            NAMESPACE,
            SOURCE_TYPE,
            column("previous_version", "integer", "the earlier version"),
            column("catalog_version", "integer", "the later version"),
            column("change", "text", "stream_added, stream_removed, field_added, field_removed, type_changed or key_changed"),
            column("stream", "text", "the stream"),
            column("field", "text", "the field; NULL for the stream as a whole"),
            column("type_before", "text", "the type before the change as JSON; NULL without a type"),
            column("type_after", "text", "the type after the change as JSON; NULL without a type"),
            column("breaking", "integer", "1 if consumers break"),
            column("acknowledged_by", "text", "who took note; NULL if it was not acknowledged"),
            column("acknowledged_at", "text", "when, RFC 3339"),
        ],
    ),
    view(
        "attempts_begun",
        "attempts that began",
        &[SEQ, AT, NAMESPACE, CONNECTION, column("facts", "text", "JSON: why, scope, generation, policy")],
    ),
    view(
        "attempts_finished",
        "attempts that ended with something new",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            column("facts", "text", "JSON: class and title of the failure, rows, latency, warnings"),
            column("steps", "text", "JSON array: the reports of the steps with their evidence"),
        ],
    ),
    view(
        "calls",
        "the calls that AAM made, as aam calls lists them; kept as long as the policy says",
        &[
            column("batch", "integer", "the batch: the calls of one attempt, or others that were recorded together"),
            column("call", "integer", "the number of the call in its batch"),
            column("at", "integer", "when it began, milliseconds since 1970 UTC"),
            column("connection", "text", "the connection"),
            NAMESPACE,
            column("family", "text", "the family or custom source"),
            column("attempt", "integer", "the entry attempt_finished; NULL if the attempt found nothing new"),
            column("begun_at", "integer", "when the attempt began; NULL outside of attempts"),
            column("why", "text", "why the attempt was due"),
            column("policy", "text", "the digest of the policy in force, in hex"),
            column("purpose", "text", "source, vault, token or webhook"),
            column("method", "text", "the HTTP method, or the protocol, for example postgres"),
            column("host", "text", "the host, with the port if it is not the default"),
            column("path", "text", "the path, without a query; the database with a slash before it; or the file"),
            column("statement", "text", "the text of a statement, without values, or the operation that a POST names"),
            column("rule", "text", "the rule that allowed the call"),
            column("status", "integer", "the HTTP status; NULL if there was no response"),
            column("sent", "integer", "the bytes that were sent; NULL if they are not known"),
            column("bytes", "integer", "the bytes of the response; for a database, those in both directions"),
            column("ms", "integer", "the duration in milliseconds"),
            column("error", "text", "why it failed; empty if it did not"),
        ],
    ),
    view(
        "catalogs",
        "catalogs, each with its version",
        &[SEQ, AT, NAMESPACE, CONNECTION, VERSION, column("catalog", "text", "JSON, in the form of Airbyte")],
    ),
    view(
        "confirmations",
        "departures that were held and confirmed",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            column("cause", "text", "the digest of the change"),
            column("confirmed_by", "text", "who confirmed it"),
        ],
    ),
    view(
        "credentials_expiring",
        "warnings that a credential ends",
        &[SEQ, AT, NAMESPACE, CONNECTION, column("title", "text", "what ends, and when")],
    ),
    view(
        "drift_acknowledgements",
        "who took note of schema changes",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            VERSION,
            column("acknowledged_by", "text", "who"),
            column("note", "text", "what they wrote"),
        ],
    ),
    view(
        "entries",
        "all entries of the ledger, without their bodies",
        &[
            SEQ,
            AT,
            column("kind", "text", "what the entry records, for example intent_accepted"),
            NAMESPACE,
            CONNECTION,
            column("facts", "text", "JSON"),
            column("hash", "text", "the hash of the chain up to this entry, in hex"),
        ],
    ),
    view(
        "handoffs",
        "what discovery tools handed over",
        &[
            SEQ,
            AT,
            NAMESPACE,
            column("run", "text", "the discovery run"),
            column("handoff", "text", "the id of the handoff"),
            column("facts", "text", "JSON: counts, token, tenant"),
            column("candidates", "text", "JSON: every candidate, and what became of it"),
        ],
    ),
    view(
        "intent_problems",
        "files of the intents folder whose problems changed",
        &[SEQ, AT, column("file", "text", "the file"), column("problems", "text", "JSON: the first problems and their number")],
    ),
    view(
        "intents",
        "intents that were accepted",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            column("origin", "text", "the file or the token it came from"),
            column("document", "text", "JSON: the intent"),
        ],
    ),
    view(
        "policy_rejections",
        "policies that were not valid",
        &[SEQ, AT, column("problems", "text", "JSON: the first problems and their number")],
    ),
    view(
        "policy_versions",
        "policies that came into force",
        &[SEQ, AT, column("policy", "text", "the digest"), column("text", "text", "the policy file")],
    ),
    view("retirements", "connections that no intent asked for any more", &[SEQ, AT, NAMESPACE, CONNECTION]),
    view(
        "schema_changes",
        "changes of catalogs as sentences; one row for each change",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            VERSION,
            column("breaking", "integer", "1 if consumers break"),
            column("change", "text", "the change"),
        ],
    ),
    view(
        "steps",
        "the steps of the attempts; one row for each step",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            column("number", "integer", "1 to 7"),
            column("step", "text", "for example discover"),
            column("status", "text", "passed, warned, failed or skipped"),
            column("duration_ms", "integer", "milliseconds"),
            column("class", "text", "the class of the failure or warning; empty without a failure or warning"),
            column("title", "text", "what happened"),
            column("fix", "text", "what to do"),
        ],
    ),
    view(
        "webhook_deliveries",
        "messages that webhooks accepted",
        &[
            SEQ,
            AT,
            column("webhook", "text", "its name in the policy"),
            column("up_to", "integer", "the last entry it received"),
            column("events", "integer", "events in the message"),
        ],
    ),
    view(
        "withdrawals",
        "intents that were withdrawn",
        &[
            SEQ,
            AT,
            NAMESPACE,
            CONNECTION,
            column("origin", "text", "the file or the token it came from"),
            column("reason", "text", "why; may be empty"),
        ],
    ),
];

/// Returns the view with this name, whatever its case.
#[must_use]
pub fn find(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|view| view.name.eq_ignore_ascii_case(name))
}

impl View {
    /// Returns the names of the columns, separated by commas.
    #[must_use]
    pub fn column_names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }
}
