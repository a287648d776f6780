//! What is read of a registry in PostgreSQL: nothing that is committed late is missed, long reads have their time, and reads
//! survive the end of their sessions.

use crate::harness::variable;
use crate::registry_postgres::{Database, sources, until_active, workspace};
use crate::replicas::proxy::{Mode, Proxy};
use crate::support::daemon::{Daemon, Workspace, intent, stderr, stdout, until};
use aam::registry::{Location, Reader};
use serde_json::{Value, json};
use sqlstore::Connection;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::{Duration, Instant};

peer_tests! {
    [Postgres]: an_entry_that_is_committed_late_is_not_missed, long_reads_have_the_time_that_they_need,
        replicas_that_ended_are_not_compared_and_are_forgotten, a_database_of_another_version_says_what_to_do,
        reads_go_on_when_their_sessions_end, a_database_that_stalls_holds_up_nothing_else;
}

const LIST: &str = "/connections?namespace=autonomy&limit=1000";

async fn list(daemon: &Daemon, since: Option<&Value>) -> Value {
    let since = since.map_or(String::new(), |seq| format!("&updated_since={seq}"));
    let answer = daemon.get(&format!("{LIST}{since}")).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn has(page: &Value, connection: &str) -> bool {
    page["connections"].as_array().is_some_and(|all| all.iter().any(|one| one["connection_id"] == connection))
}

/// Announces to the replicas that a row will come, as a transaction of a replica does before it takes its numbers.
const ANNOUNCE: &str = "SELECT pg_advisory_xact_lock_shared(registry_tag() |
    (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM ledger_seq))";

/// Begins a transaction and appends the last row of `connection` once more, as another replica would. Returns its number.
fn append(session: &Connection, connection: &str) -> i64 {
    session.begin_write().expect("a transaction");
    session.execute_batch(ANNOUNCE).expect("announced");
    let part = |name: &str| {
        format!(
            "CASE WHEN earlier.{name} IS NULL THEN decode('000000000000000000', 'hex')
             ELSE decode('01', 'hex') || int8send(octet_length(earlier.{name})) || convert_to(earlier.{name}, 'UTF8') END"
        )
    };
    let parts = ["kind", "namespace", "connection", "facts", "body"].map(part).join(" || ");
    let sql = format!(
        "INSERT INTO ledger (seq, at, kind, namespace, connection, facts, body, prev, hash, chain, place)
         WITH number AS MATERIALIZED (SELECT nextval('ledger_seq') AS seq),
           earlier AS (SELECT * FROM ledger WHERE connection = '{connection}' ORDER BY place DESC LIMIT 1),
           last AS (SELECT * FROM ledger WHERE chain = (SELECT chain FROM earlier) ORDER BY place DESC LIMIT 1)
         SELECT number.seq, last.at, earlier.kind, earlier.namespace, earlier.connection, earlier.facts, earlier.body, last.hash,
           sha256(last.hash || int8send(number.seq) || int8send(last.at) || {parts}), last.chain, last.place + 1
         FROM number, earlier, last RETURNING seq"
    );
    session.query_row(&sql, [], |row| row.get(0)).expect("a row")
}

/// Two connections whose rows are in different chains, and not in the first one, which every replica writes to.
fn in_two_chains(database: &Database) -> [String; 2] {
    let admin = database.admin();
    let sql = "SELECT min(connection) FROM aam.ledger WHERE connection IS NOT NULL AND chain <> 0 GROUP BY chain LIMIT 2";
    let mut statement = admin.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    let ids: Vec<String> = rows.collect::<sqlstore::Result<_>>().expect("ids");
    ids.try_into().expect("two connections")
}

/// A reader of this process, with the password in a file.
fn reader(workspace: &Workspace, database: &Database) -> Reader {
    let file = workspace.path("password-of-reader");
    std::fs::write(&file, &database.role).expect("a file");
    let url = database.url(&database.role).replace(&format!("env:{}", database.role), &format!("file:{}", file.display()));
    Reader::open(url.parse::<Location>().expect("a location")).expect("a reader")
}

async fn an_entry_that_is_committed_late_is_not_missed() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 8);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    until("the list shows everything", || async {
        let (page, last) = (list(&daemon, None).await, database.count("SELECT max(seq) FROM aam.ledger"));
        (page["registry_seq"] == json!(last), format!("{} of {last}", page["registry_seq"]))
    })
    .await;
    let [late, other] = in_two_chains(&database);
    let session = Database::session(&database.name, &database.role, &database.role);
    let number = append(&session, &late);

    // While that row is not committed, another connection changes.
    let all = daemon.connections().await;
    let known = all.iter().find(|one| one["connection_id"] == other.as_str()).expect("the other connection");
    let mut changed = intent("filesource", known["resource_ids"][0].as_str().expect("an id"));
    changed["owner"]["user"] = json!("other@acme.example");
    let answer = daemon.push(&changed).await;
    assert!([200, 201, 202].contains(&answer.status), "{}", answer.body);
    let page = list(&daemon, None).await;
    let seq = page["registry_seq"].clone();
    assert!(seq.as_i64().is_some_and(|seq| seq < number), "{seq} promises more than everything before {number}");
    let newer = list(&daemon, Some(&seq)).await;
    assert!(has(&newer, &other) && !has(&newer, &late), "{newer}");
    let reader = reader(&workspace, &database);
    let mut snapshot = reader.snapshot().expect("a fold");
    assert!(snapshot.seq > u64::try_from(number).expect("a number"));

    session.commit().expect("committed");
    until("the late entry is listed", || async {
        let newer = list(&daemon, Some(&seq)).await;
        (has(&newer, &late), newer.to_string())
    })
    .await;
    let mut followed = Vec::new();
    reader.follow(&mut snapshot, |entry| followed.push(i64::try_from(entry.seq).expect("a number"))).expect("followed");
    assert!(followed.contains(&number), "{followed:?}");

    // What another replica answered is not from another registry, even if this one has not read it yet.
    let number = append(&session, &late);
    session.commit().expect("committed");
    let page = list(&daemon, Some(&json!(number))).await;
    assert!(page["registry_seq"].as_i64().is_some_and(|seq| seq > 0), "{page}");
    let refused = daemon.get(&format!("{LIST}&updated_since={}", number + 1_000_000)).await;
    assert!(refused.status == 400 && refused.body.to_string().contains("Read all connections again"), "{}", refused.body);
}

fn start(workspace: &Workspace, arguments: &[&str]) -> Child {
    workspace.command(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// A policy of the table makes two statements take longer than any statement of the daemon may.
async fn long_reads_have_the_time_that_they_need() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 1);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    assert_eq!(daemon.stop().await, Some(0));
    let first = database.count("SELECT min(seq) FROM aam.ledger");
    let owner = Database::session(&database.name, &database.owner, &database.owner);
    let slow = format!(
        "CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN
           IF current_query() LIKE '%count(*) FROM ledger%' OR current_query() LIKE '%FROM entries AS v%' THEN
             PERFORM pg_sleep_for('32 s');
           END IF;
           RETURN true;
         END $$;
         CREATE POLICY slow ON ledger FOR SELECT USING (seq <> {first} OR slow());
         ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
         ALTER TABLE ledger FORCE ROW LEVEL SECURITY"
    );
    owner.execute_batch(&slow).expect("a slow table");
    let query = ["query", "SELECT count(seq) AS n FROM entries", "--json"];
    let children = [
        start(&workspace, &["verify"]),
        start(&workspace, &query),
        start(&workspace, &[&query[..], &["--timeout", "90"]].concat()),
    ];
    let [verified, stopped, answered] = children.map(|child| child.wait_with_output().expect("it ends"));
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    let said = stderr(&stopped);
    assert!(said.contains("did not finish within 30 s") && said.contains("allow more with --timeout"), "{said}");
    assert!(!said.contains("WHERE"), "a condition does not make the copy smaller: {said}");
    assert!(answered.status.success(), "the fix works: {}", stderr(&answered));
    let rows: Value = serde_json::from_str(&stdout(&answered)).expect("JSON");
    assert!(rows[0]["n"].as_i64().is_some_and(|rows| rows > 0), "{rows}");
}

async fn replicas_that_ended_are_not_compared_and_are_forgotten() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 1);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    let killed = "INSERT INTO aam.replicas (name, address, version, policy, ends_at) VALUES
        ('killed', '', '0', repeat('1', 64), clock_timestamp() - interval '1 minute'),
        ('forgotten', '', '0', repeat('2', 64), clock_timestamp() - interval '2 hours')";
    database.admin().execute_batch(killed).expect("two rows");
    let listed = stdout(&workspace.run(&["registry", "replicas"]));
    assert!(listed.contains("killed") && listed.contains("it did not renew its leases"), "{listed}");
    assert!(!listed.contains("different policy files"), "{listed}");
    until("the old row is deleted", || async {
        let names = database.count("SELECT count(*) FROM aam.replicas WHERE name = 'forgotten'");
        (names == 0, names.to_string())
    })
    .await;
    assert_eq!(database.count("SELECT count(*) FROM aam.replicas WHERE name = 'killed'"), 1);
    assert_eq!(database.count("SELECT count(*) FROM aam.replicas WHERE ends_at > clock_timestamp()"), 1);
}

async fn a_database_of_another_version_says_what_to_do() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let owner = Database::session(&database.name, &database.owner, &database.owner);
    let newer = "INSERT INTO schema_migrations SELECT max(version) + 1, repeat('0', 64) FROM schema_migrations";
    owner.execute_batch(newer).expect("a newer version");
    let of_owner = database.url(&database.owner);
    let initialize = ["registry", "init", "--registry", of_owner.as_str(), "--role", database.role.as_str()];
    for arguments in [["status"].as_slice(), &["once"], &["verify"], &initialize] {
        let output = workspace.run(arguments);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert!(!output.status.success() && said.contains("install that version on this machine"), "{arguments:?}: {said}");
        assert!(!said.contains("aam restore"), "that is for a file: {said}");
    }
    // As before the last two migrations of this test: the invented one, and the one that created this function.
    let older = "DELETE FROM schema_migrations WHERE version >= 6; DROP FUNCTION continue_numbers()";
    owner.execute_batch(older).expect("an older version");
    for command in ["status", "once", "verify"] {
        let output = workspace.run(&[command]);
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert!(!output.status.success() && said.contains("stop the replicas of the earlier version"), "{command}: {said}");
        assert!(!said.contains("aam backup"), "that is for a file: {said}");
    }
    let said = stderr(&workspace.run(&["status"]));
    let command = said.split("aam registry init ").nth(1).unwrap_or_else(|| panic!("{said}"));
    let command = command.lines().next().unwrap_or_default().replace("OWNER", &database.owner).replace("NAME", &database.owner);
    let arguments: Vec<&str> = command.split_whitespace().map(|argument| argument.trim_matches('\'')).collect();
    let upgraded = workspace.run(&[&["registry", "init"], arguments.as_slice()].concat());
    assert!(upgraded.status.success(), "{command}: {}", stderr(&upgraded));
    let verified = workspace.run(&["verify"]);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
}

async fn reads_go_on_when_their_sessions_end() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let ids = sources(&workspace, 1);
    let daemon = workspace.serve().await;
    let one = daemon.until_state(&ids[0], "ACTIVE").await;
    let id = one["connection_id"].as_str().expect("an id");
    let ended = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}' AND application_name = 'aam reader'",
        database.role
    );
    // No answer comes from a cache, because each has another limit.
    for round in 0..3 {
        let path = |number: usize| format!("/connections/{id}/versions?limit={}", 100 + 20 * round + number);
        let paths: Vec<String> = (0..8).map(path).collect();
        futures_util::future::join_all(paths.iter().map(|path| daemon.get(path))).await;
        assert!(database.count(&ended) > 0, "sessions were open");
        for number in 8..16 {
            let answer = daemon.get(&path(number)).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.body["versions"].as_array().is_some_and(|versions| !versions.is_empty()), "{}", answer.body);
        }
    }
}

async fn a_database_that_stalls_holds_up_nothing_else() {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    let server = variable("POSTGRES", "PORT");
    let proxy = Proxy::start(Arc::new([AtomicU16::new(server.parse().expect("a port")), AtomicU16::new(0)])).await;
    let url = database.url(&database.role).replace(&format!(":{server}/"), &format!(":{}/", proxy.ports[0]));
    workspace.set("AAM_REGISTRY", &url);
    workspace.write_policy("recheck: {health: 1s, drift: 1s}\n");
    let ids = sources(&workspace, 16);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    proxy.set(Mode::Stall);
    // All connections are due by then, and their attempts wait for the database.
    let (stalled, longest) = (Instant::now(), std::cell::Cell::new(Duration::ZERO));
    until("some seconds are over", || async {
        let asked = Instant::now();
        assert_eq!(daemon.get("/healthz").await.status, 200);
        longest.set(longest.get().max(asked.elapsed()));
        (stalled.elapsed() > Duration::from_secs(8), String::new())
    })
    .await;
    assert!(longest.get() < Duration::from_secs(2), "an answer without the database took {:?}", longest.get());
    proxy.set(Mode::Open);
    let csv = workspace.csv("after.csv", 30);
    until("a push is accepted again", || async {
        let answer = daemon.push(&intent("filesource", &csv)).await;
        ([200, 201, 202].contains(&answer.status), format!("{} {}", answer.status, answer.body))
    })
    .await;
    daemon.until_state(&csv, "ACTIVE").await;
}
