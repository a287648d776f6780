//! Evidence of a registry in PostgreSQL: bundles of its chains, each kind of forgery, heads, and backups.

use crate::harness::variable;
use crate::registry_postgres::{Database, replica, sources, until_active, until_divided, workspace};
use crate::support::bundles::{Forgery, correct_head, forge, head, ledger, manifest, other_chain, seal, write_manifest};
use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use crate::support::snapshot::assert_snapshot;
use aam::model::Timestamp;
use aam::registry::LedgerLine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

peer_tests! {
    [Postgres]: a_bundle_of_a_database_verifies_on_another_machine, each_forgery_of_the_chains_is_found,
        forged_calls_of_a_database_are_found, a_bundle_of_a_period_in_the_middle_ends_with_the_next_anchor,
        only_the_leader_writes_the_head_that_shows_a_cut_database, a_database_is_backed_up_with_its_own_programs;
}

/// What differs between two runs.
const FILTERS: [(&str, &str); 7] = [
    (r"/tmp/[^ ]*/", "FOLDER/"),
    (r"[0-9a-f]{64}", "HASH"),
    (r"\[[0-9a-f]{12}\]", "[DIGEST]"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r"source-\d+", "source-N"),
    (r"AAM \d+\.\d+\.\d+", "AAM VERSION"),
];

/// A workspace with a registry in a database, in which `count` connections were proven and AAM was stopped.
async fn audited(count: usize) -> (Workspace, Database) {
    let (mut workspace, database) = (workspace(), Database::new());
    database.prepare(&mut workspace);
    run(&workspace, count).await;
    (workspace, database)
}

/// Runs AAM until the intents are proven, and stops it in an orderly way.
async fn run(workspace: &Workspace, count: usize) {
    let ids = sources(workspace, count);
    let daemon = workspace.serve().await;
    until_active(&daemon, &ids).await;
    assert_eq!(daemon.stop().await, Some(0));
}

fn bundle(workspace: &Workspace, name: &str, more: &[&str]) -> PathBuf {
    let out = workspace.path(name);
    let folder = out.display().to_string();
    let written = workspace.run(&[&["evidence", "--since", "1d", "--out", &folder], more].concat());
    assert!(written.status.success(), "{}", stderr(&written));
    out
}

/// Verifies a bundle where there is neither a registry nor a policy.
fn verify(folder: &Path, more: &[&str]) -> Output {
    let elsewhere = Workspace::new();
    std::fs::remove_file(elsewhere.path("policy/policy.yaml")).expect("removed");
    elsewhere.run(&[&["verify", "--bundle", &folder.display().to_string()], more].concat())
}

fn accepted(folder: &Path, more: &[&str]) -> String {
    let verified = verify(folder, more);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    stdout(&verified)
}

fn refused(folder: &Path, more: &[&str]) -> String {
    let verified = verify(folder, more);
    assert_eq!(verified.status.code(), Some(1), "{}{}", stdout(&verified), stderr(&verified));
    assert!(stderr(&verified).contains("is not intact"), "{}", stderr(&verified));
    stderr(&verified)
}

/// A copy of a bundle that a forger changes.
fn copy(folder: &Path, name: &str) -> PathBuf {
    let copy = folder.with_file_name(name);
    let copied = Command::new("cp").arg("-r").arg(folder).arg(&copy).status().expect("cp");
    assert!(copied.success());
    copy
}

async fn a_bundle_of_a_database_verifies_on_another_machine() {
    let (workspace, database) = audited(12).await;
    let key = workspace.path("evidence.key").display().to_string();
    assert!(workspace.run(&["evidence", "keygen", &key]).status.success());
    let out = workspace.path("all").display().to_string();
    let written = workspace.run(&["evidence", "--since", "1d", "--out", &out, "--key", &key]);
    assert!(written.status.success(), "{}", stderr(&written));
    let folder = workspace.path("all");
    let verified = accepted(&folder, &["--key", &format!("{key}.pub"), "--expect", &head(&folder)]);
    assert!(verified.contains("has the expected hash") && verified.contains("signed by the key"), "{verified}");
    assert!(verified.contains("is an anchor: it names the last row of every chain, and all of them are there\n"), "{verified}");
    let lines = ledger(&folder);
    let rows = database.count("SELECT count(*) FROM aam.ledger");
    assert_eq!(i64::try_from(lines.len()), Ok(rows), "the bundle has every row");
    let batches = std::fs::read_to_string(folder.join("calls.jsonl")).expect("calls").lines().count();
    assert_eq!(i64::try_from(batches), Ok(database.count("SELECT count(*) FROM aam.call_batches")));
    let chains = manifest(&folder)["chains"]["ledger"].as_array().expect("chains").len();
    assert_eq!(i64::try_from(chains), Ok(database.count("SELECT count(DISTINCT chain) FROM aam.ledger")));
    assert!(chains > 4, "{chains}");
    let finished = std::fs::read_to_string(folder.join("attempts.jsonl")).expect("attempts");
    assert_eq!(finished.lines().filter(|line| line.contains("\"attempt_finished\"")).count(), 12);
    let numbers = [(r"\d+ rows", "N rows"), (r"\d+ chains", "N chains"), (r"\d+ batches", "N batches"), (r"row \d+", "row N")];
    let filters: Vec<(&str, &str)> = FILTERS.into_iter().chain(numbers).chain([(r"head \d+:", "head N:")]).collect();
    assert_snapshot("evidence_of_a_database_verified", &(stdout(&written) + &verified), &filters);
    let summary = std::fs::read_to_string(folder.join("SUMMARY.md")).expect("a summary");
    assert!(summary.contains("| chains_anchored |") && summary.contains("source-11.csv"), "{summary}");
    let files = summary.split_once("## Files").expect("the files").1;
    assert_snapshot("evidence_of_a_database_files", files, &filters);
}

/// The place in `lines` of a row of a connection that is not the first one of its chain and has another one after it.
fn inner(lines: &[LedgerLine]) -> usize {
    let of_chain = |chain: Option<u32>| lines.iter().filter(|line| line.chain == chain).count();
    let is_inner = |line: &LedgerLine| line.kind == "attempt_begun" && line.chain != Some(0) && of_chain(line.chain) > 2;
    lines.iter().position(is_inner).expect("an inner row")
}

async fn each_forgery_of_the_chains_is_found() {
    let (workspace, _database) = audited(8).await;
    let whole = bundle(&workspace, "whole", &[]);
    let lines = ledger(&whole);
    let at = inner(&lines);
    let chain = lines[at].chain;
    let forged = |name: &str, how: Forgery, change: &dyn Fn(&mut Vec<LedgerLine>)| {
        let (folder, mut lines) = (copy(&whole, name), lines.clone());
        change(&mut lines);
        forge(&folder, lines, how);
        folder
    };
    accepted(&forged("same", Forgery::Chains, &|_| {}), &[]);

    let change = |lines: &mut Vec<LedgerLine>| lines[at].facts = lines[at].facts.replace("new", "old");
    assert_ne!(lines[at].facts, lines[at].facts.replace("new", "old"));
    let found = refused(&forged("changed", Forgery::AsGiven, &change), &[]);
    assert!(found.contains("does not match the hash chain"), "{found}");
    let found = refused(&forged("changed_chain", Forgery::Chains, &change), &[]);
    assert!(found.contains("is an anchor that names row") && found.contains("has its place with another hash"), "{found}");

    let leave_out = |lines: &mut Vec<LedgerLine>| drop(lines.remove(at));
    let found = refused(&forged("left_out", Forgery::AsGiven, &leave_out), &[]);
    assert!(found.contains("rows between them were left out"), "{found}");
    let found = refused(&forged("left_out_chain", Forgery::Chains, &leave_out), &[]);
    assert!(found.contains("which has rows only up to"), "{found}");
    let found = refused(&forged("without_chain", Forgery::Chains, &|lines| lines.retain(|line| line.chain != chain)), &[]);
    assert!(found.contains("which has rows only up to 0 in ledger.jsonl: its end was cut off"), "{found}");

    let moved = |lines: &mut Vec<LedgerLine>| lines[at].chain = Some(other_chain(&lines[at]));
    let found = refused(&forged("moved", Forgery::ChainsAndAnchors, &moved), &[]);
    assert!(found.contains("which is not that of its connection"), "{found}");

    let last = lines.iter().rposition(|line| line.chain == chain).expect("a row");
    let cut = |lines: &mut Vec<LedgerLine>| drop(lines.remove(last));
    for (name, how) in [("cut", Forgery::AsGiven), ("cut_chain", Forgery::Chains)] {
        let found = refused(&forged(name, how, &cut), &[]);
        assert!(found.contains("its end was cut off"), "{found}");
    }
    // With the anchors at the end, the first chain ends before the head.
    let first_anchor = lines.iter().position(|line| line.kind == "chains_anchored").expect("an anchor");
    let folder = forged("cut_all", Forgery::AsGiven, &|lines| lines.truncate(first_anchor));
    assert!(refused(&folder, &[]).contains("its end is missing"));

    forged_anchors(&whole, &lines);
}

/// Anchors that were changed, and the head that shows that all of it was written anew.
fn forged_anchors(whole: &Path, lines: &[LedgerLine]) {
    let at = inner(lines);
    let anchor = lines.iter().rposition(|line| line.kind == "chains_anchored").expect("an anchor");
    let with = |name: &str, change: &dyn Fn(&mut Vec<Value>)| {
        let (folder, mut lines) = (copy(whole, name), lines.to_vec());
        let mut facts: Value = serde_json::from_str(&lines[anchor].facts).expect("facts");
        change(facts["chains"].as_array_mut().expect("chains"));
        lines[anchor].facts = facts.to_string();
        forge(&folder, lines, Forgery::Chains);
        correct_head(&folder);
        refused(&folder, &[])
    };
    let found = with("anchor_hash", &|chains| chains[0]["hash"] = json!("0".repeat(64)));
    assert!(found.contains("has its place with another hash"), "{found}");
    let found = with("anchor_short", &|chains| drop(chains.pop()));
    assert!(found.contains("is an anchor that does not name chain"), "{found}");
    let found = with("anchor_late", &|chains| chains[0]["place"] = json!(chains[0]["place"].as_u64().expect("a place") - 1));
    assert!(found.contains("as its last one, and row"), "{found}");
    // Only a head that was kept elsewhere shows that every chain and every anchor was written anew.
    let (folder, mut forged) = (copy(whole, "anew"), lines.to_vec());
    forged.remove(at);
    forge(&folder, forged, Forgery::ChainsAndAnchors);
    assert!(refused(&folder, &[]).contains("as the hash of this row, the head"));
    correct_head(&folder);
    accepted(&folder, &[]);
    assert!(refused(&folder, &["--expect", &head(whole)]).contains("does not have the expected hash"));
}

async fn forged_calls_of_a_database_are_found() {
    let (workspace, _database) = audited(6).await;
    let whole = bundle(&workspace, "whole", &[]);
    let text = std::fs::read_to_string(whole.join("calls.jsonl")).expect("calls");
    let batches: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a batch")).collect();
    assert!(batches.iter().all(|batch| batch["attempt"].is_u64()), "{text}");
    let forged = |name: &str, change: &dyn Fn(&mut Vec<Value>)| {
        let (folder, mut batches) = (copy(&whole, name), batches.clone());
        change(&mut batches);
        let text: String = batches.iter().map(|batch| format!("{batch}\n")).collect();
        std::fs::write(folder.join("calls.jsonl"), text).expect("written");
        let mut manifest = manifest(&folder);
        let left = |part: &Value| batches.iter().any(|batch| batch["chain"] == part["chain"]);
        manifest["chains"]["calls"].as_array_mut().expect("parts").retain(left);
        write_manifest(&folder, &manifest);
        seal(&folder, None);
        refused(&folder, &[])
    };
    let found = forged("changed", &|batches| batches[0]["family"] = json!("s3"));
    assert!(found.contains("line 1 of calls.jsonl") && found.contains("does not match the hash chain"), "{found}");
    let moved = |batches: &mut Vec<Value>| batches[0]["chain"] = json!((batches[0]["chain"].as_u64().expect("a chain") + 1) % 64);
    let found = forged("moved", &moved);
    assert!(found.contains("which is not that of its connection"), "{found}");
    let chain = batches[0]["chain"].clone();
    let found = forged("left_out", &|batches| batches.retain(|batch| batch["chain"] != chain));
    assert!(found.contains("is missing in calls.jsonl, but row"), "{found}");
    let found = forged("all", &|batches| batches.clear());
    assert!(found.contains("is missing in calls.jsonl, but row") && found.contains("more that rows name"), "{found}");
}

/// The first instant after every row of the ledger.
fn after_all(database: &Database) -> Timestamp {
    Timestamp(database.count("SELECT max(at) FROM aam.ledger") + 1)
}

async fn a_bundle_of_a_period_in_the_middle_ends_with_the_next_anchor() {
    let (workspace, database) = audited(4).await;
    let since = after_all(&database);
    run(&workspace, 8).await;
    let until = after_all(&database);
    // Each run ends with an anchor, and the first of these two ends the bundle.
    run(&workspace, 12).await;
    run(&workspace, 16).await;
    let more = ["--since", &since.rfc3339(), "--until", &until.rfc3339()];
    let out = workspace.path("middle").display().to_string();
    let written = workspace.run(&[&["evidence", "--out", &out], &more[..]].concat());
    assert!(written.status.success(), "{}", stderr(&written));
    let folder = workspace.path("middle");
    let lines = ledger(&folder);
    let is_of_period = |line: &&LedgerLine| line.at >= since.0 && line.at < until.0;
    let in_database = format!("SELECT count(*) FROM aam.ledger WHERE at >= {} AND at < {}", since.0, until.0);
    assert_eq!(i64::try_from(lines.iter().filter(is_of_period).count()), Ok(database.count(&in_database)));
    let before = lines.iter().filter(|line| line.at < since.0).count();
    let chains = format!("SELECT count(DISTINCT chain) FROM aam.ledger WHERE at < {}", since.0);
    assert_eq!(i64::try_from(before), Ok(database.count(&chains)), "the row before the period of each chain");
    let last = lines.last().expect("rows");
    assert!(last.kind == "chains_anchored" && last.at >= until.0, "{last:?}");
    assert!(lines.iter().filter(|line| line.kind == "chains_anchored" && line.at >= until.0).count() == 1);
    // The files for people have the period only: the second run proved four more connections.
    let attempts = std::fs::read_to_string(folder.join("attempts.jsonl")).expect("attempts");
    assert_eq!(attempts.lines().filter(|line| line.contains("\"attempt_finished\"")).count(), 4);
    let verified = accepted(&folder, &["--expect", &format!("{}:{}", last.seq, last.hash)]);
    assert!(verified.contains("all of them are there\n") && verified.contains("has the expected hash"), "{verified}");
    assert!(
        accepted(&folder, &["--expect", &head(&folder)]).contains("its hash was not computed"),
        "the head is after the period"
    );

    // Rows that are left out at the beginning or at the end of a period are found as well.
    let of_connection = |line: &LedgerLine| line.chain != Some(0) && line.at >= since.0 && line.place != Some(1);
    let chain = lines.iter().find(|line| of_connection(line)).and_then(|line| line.chain);
    if chain.is_some() {
        let mut forged: Vec<LedgerLine> = lines.clone();
        let rows: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].chain == chain).collect();
        rows.iter().take(2).rev().for_each(|at| drop(forged.remove(*at)));
        let beginning = copy(&folder, "beginning");
        forge(&beginning, forged, Forgery::AsGiven);
        let found = refused(&beginning, &[]);
        assert!(found.contains("rows before it were left out") || found.contains("its end was cut off"), "{found}");
    }
    let end = copy(&folder, "end");
    let closing = lines.iter().position(|line| line.at >= until.0).expect("rows after the period");
    forge(&end, lines[..closing].to_vec(), Forgery::AsGiven);
    assert!(refused(&end, &[]).contains("which is not an anchor after the period"));
}

async fn only_the_leader_writes_the_head_that_shows_a_cut_database() {
    let (mut first, database) = (workspace(), Database::new());
    database.prepare(&mut first);
    let heads = first.path("heads.log");
    first.write_policy(&format!("evidence: {{head_file: {}}}\n", heads.display()));
    let second = replica(&first, &database);
    let ids = sources(&first, 6);
    let leader = first.serve().await;
    until_active(&leader, &ids).await;
    let read = || std::fs::read_to_string(&heads).unwrap_or_default();
    until("the leader wrote a head", || async { (read().lines().count() == 1, read()) }).await;
    let other = second.serve().await;
    until_divided(&database, &[32, 32]).await;
    assert_eq!(other.stop().await, Some(0));
    assert_eq!(read().lines().count(), 1, "a replica that does not lead writes no head: {}", read());
    let csv = first.csv("late.csv", 3);
    first.intent_file("late.json", &json!(intent("filesource", &csv)));
    leader.until_state(&csv, "ACTIVE").await;
    assert_eq!(leader.stop().await, Some(0));
    let lines = read();
    let (start, stop) = lines.trim_end().split_once('\n').expect("a head at the start and one at the stop");
    let last = |line: &str| line.rsplit(' ').next().expect("a head").to_string();
    for head in [last(start), last(stop)] {
        let verified = first.run(&["verify", "--expect", &head]);
        assert!(verified.status.success() && stdout(&verified).contains("has the expected hash"), "{}", stderr(&verified));
    }
    // The owner cuts off everything after the first head. What is left is intact by itself.
    let (seq, _) = last(start).split_once(':').map(|(seq, hash)| (seq.to_string(), hash.to_string())).expect("a head");
    let owner = Database::session(&database.name, &database.owner, &database.owner);
    let cut = format!(
        "ALTER TABLE ledger DISABLE TRIGGER ALL; ALTER TABLE call_batches DISABLE TRIGGER ALL; ALTER TABLE call_rows DISABLE TRIGGER ALL;
         DELETE FROM call_rows WHERE batch IN (SELECT batch FROM call_batches WHERE attempt IS NULL OR attempt > {seq});
         DELETE FROM call_batches WHERE attempt IS NULL OR attempt > {seq}; DELETE FROM ledger WHERE seq > {seq};
         DO $$
         DECLARE one record;
         BEGIN
           FOR one IN SELECT tgrelid::regclass AS owner, tgname AS name FROM pg_trigger
             WHERE NOT tgisinternal AND tgrelid IN ('ledger'::regclass, 'call_batches'::regclass, 'call_rows'::regclass)
           LOOP
             EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', one.owner, one.name);
           END LOOP;
         END $$;
         DELETE FROM call_targets WHERE target NOT IN (SELECT target FROM call_rows)"
    );
    owner.execute_batch(&cut).expect("cut");
    let found = first.run(&["verify", "--expect", &last(stop)]);
    assert_eq!(found.status.code(), Some(1), "{}", stdout(&found));
    assert!(stderr(&found).contains("its end was cut off"), "{}", stderr(&found));
}

/// Runs a program of PostgreSQL as the administrator of the server.
fn program(name: &str, arguments: &[&str]) {
    let mut command = Command::new(Path::new(&variable("POSTGRES", "BIN")).join(name));
    let port = variable("POSTGRES", "PORT");
    command.args(["-h", "127.0.0.1", "-p", &port, "-U", &variable("POSTGRES", "SUPER")]).args(arguments);
    let output = command.env("PGPASSWORD", variable("POSTGRES", "SUPER_PASSWORD")).output().expect("the program runs");
    assert!(output.status.success(), "{name} {arguments:?}: {}", stderr(&output));
}

async fn a_database_is_backed_up_with_its_own_programs() {
    let (mut workspace, database) = audited(6).await;
    let refused = [workspace.run(&["backup", "copy.db"]), workspace.run(&["restore", "copy.db"])];
    let texts = refused.map(|output| {
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    });
    let names = [(r"registry_\d+_\d+", "DATABASE"), (r"owner_\d+_\d+", "OWNER"), (r"127\.0\.0\.1:\d+", "HOST:PORT")];
    assert_snapshot("backup_of_a_database", &texts.concat(), &names);
    let before = stdout(&workspace.run(&["status", "--format", "json"]));
    let dump = workspace.path("aam.dump").display().to_string();
    program("pg_dump", &["--format=custom", "--schema=aam", &format!("--file={dump}"), &database.name]);
    let restored = format!("{}_restored", database.name);
    program("createdb", &[&format!("--owner={}", database.owner), &restored]);
    program("pg_restore", &["--exit-on-error", &format!("--dbname={restored}"), &dump]);
    let url = database.url(&database.role).replace(&format!("/{}?", database.name), &format!("/{restored}?"));
    workspace.set("AAM_REGISTRY", &url);
    let verified = workspace.run(&["verify"]);
    assert!(verified.status.success(), "{}{}", stdout(&verified), stderr(&verified));
    assert_eq!(stdout(&workspace.run(&["status", "--format", "json"])), before, "the restored registry has the same connections");
    let daemon = workspace.serve().await;
    until("AAM works with the restored registry", || async {
        let funnel = daemon.funnel().await;
        (funnel["active"] == json!(6), funnel.to_string())
    })
    .await;
    assert_eq!(daemon.stop().await, Some(0));
    // A row that was changed in the copy is found.
    let admin = Database::session(&restored, &variable("POSTGRES", "SUPER"), &variable("POSTGRES", "SUPER_PASSWORD"));
    let change = "ALTER TABLE ledger DISABLE TRIGGER ALL; UPDATE ledger SET namespace = 'other' WHERE kind = 'intent_accepted'";
    admin.execute_batch(change).expect("changed");
    let verified = workspace.run(&["verify"]);
    assert!(verified.status.code() == Some(1) && stderr(&verified).contains("does not match its hash"), "{}", stderr(&verified));
    assert!(stderr(&verified).contains("with pg_restore"), "{}", stderr(&verified));
    let out = workspace.path("changed").display().to_string();
    let evidence = workspace.run(&["evidence", "--since", "1d", "--out", &out]);
    assert!(evidence.status.code() == Some(1) && stderr(&evidence).contains("no bundle was written"), "{}", stderr(&evidence));
}
