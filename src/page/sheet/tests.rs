use super::*;
use crate::model::ledger::{Entry, Fact, Finished};
use crate::model::{Class, ConnectionId, Digest, Origin, Scope, Step};
use crate::snapshot::history::{NAMESPACES, history};
use proptest::prelude::*;
use quick_xml::Reader;
use quick_xml::events::Event;

/// 2026-11-08T18:00:00Z.
const NOW: Timestamp = Timestamp(1_794_160_800_000);
const HOUR_MS: i64 = 3_600_000;

fn finished(class: Option<Class>, title: &str, fix: &str) -> Finished {
    Finished {
        credential_ends_at: None,
        ending_secret: None,
        calls: None,
        begun_at: NOW,
        generation: 1,
        scope: Scope::Full,
        policy: Digest::default(),
        slice: Digest::default(),
        class,
        failed_step: class.map(|_| Step::Health),
        retry_after_ms: None,
        upserted: true,
        healthy: class.is_none(),
        rows: class.is_none().then_some(3),
        latency_ms: class.is_none().then_some(12),
        outcome: Digest::default(),
        title: title.into(),
        fix: fix.into(),
        warnings: Box::default(),
    }
}

/// A ledger in which each of `outcomes` is the attempt of a connection of its own, an hour after the one before it. The last
/// one is at `NOW`.
fn ledger(namespace: &str, outcomes: Vec<Finished>) -> Vec<Entry> {
    let first = NOW.0 - HOUR_MS * (i64::try_from(outcomes.len()).unwrap() - 1);
    let mut entries = Vec::new();
    for (number, outcome) in (0_i64..).zip(outcomes) {
        let seq = u64::try_from(number).unwrap() * 2;
        let id = ConnectionId(uuid::Uuid::from_u128(u128::from(seq) + 1));
        let entry = |seq: u64, fact| Entry {
            seq,
            at: Timestamp(first + number * HOUR_MS),
            namespace: namespace.to_string(),
            connection: Some(id),
            fact,
        };
        entries.push(entry(
            seq + 1,
            Fact::IntentAccepted {
                origin: Origin::folder("a.json"),
                spec: Digest::default(),
                source_type: "jdbc".to_string(),
                locator: None,
            },
        ));
        entries.push(entry(seq + 2, Fact::AttemptFinished(outcome)));
    }
    entries
}

fn sheet(namespace: &str, outcomes: Vec<Finished>) -> Sheet {
    Sheet::new(&Snapshot::fold(&ledger(namespace, outcomes)), namespace, 0.9, NOW)
}

fn company() -> Sheet {
    let passed = || finished(None, "", "");
    let mut outcomes: Vec<Finished> = (0..20).map(|_| passed()).collect();
    outcomes.push(finished(Some(Class::CredentialMissing), "environment variable SHOP is not set", "aam secret set SHOP"));
    outcomes.push(finished(
        Some(Class::Network),
        "connection refused by db.acme.example:5432",
        "start the database, or correct its address",
    ));
    outcomes.push(finished(Some(Class::NotFound), "the database shop does not exist", "correct the name of the database"));
    outcomes.push(finished(Some(Class::Unsupported), "fax is not a known family", "list the family in the policy"));
    outcomes.push(passed());
    sheet("autonomy", outcomes)
}

/// The values of the attribute `y` in a file of XML. Panics if the file is not well-formed.
fn heights(xml: &str) -> Vec<f64> {
    let mut reader = Reader::from_str(xml);
    let (mut heights, mut depth) = (Vec::new(), 0_i64);
    loop {
        match reader.read_event().expect("well-formed XML") {
            Event::Start(start) => {
                depth += 1;
                for attribute in start.attributes() {
                    let attribute = attribute.expect("well-formed attributes");
                    if attribute.key.0 == "y" {
                        heights.push(attribute.value.parse().expect("a number"));
                    }
                }
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(depth, 0, "an element is not closed");
    heights
}

#[test]
fn the_files_of_a_fixed_history() {
    let sheet = company();
    let split = |file: String| file.replace("><", ">\n<");
    insta::with_settings!({snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("sheet_svg", split(svg::svg(&sheet)));
        insta::assert_snapshot!("sheet_html", split(html::html(&sheet)));
    });
}

#[test]
fn the_answer_names_what_is_missing() {
    assert_eq!(company().answer(), ("91 % connected".to_string(), "target 90 % · met".to_string()));
    let failed = |count: usize| (0..count).map(|_| finished(Some(Class::NotFound), "gone", "look")).collect::<Vec<_>>();
    let answer = |outcomes| sheet("autonomy", outcomes).answer();
    assert_eq!(answer(failed(3)).1, "target 90 % · 3 more connections needed");
    assert_eq!(answer(failed(1)).1, "target 90 % · 1 more connection needed");
    assert_eq!(answer(Vec::new()).0, "Nothing received yet");
    assert_eq!(answer(vec![finished(Some(Class::Unsupported), "fax", "")]).0, "Nothing is eligible yet");
}

#[test]
fn hostile_texts_are_inert() {
    let evil = "<script>alert(1)</script>\"'&\u{1}\u{202e}\u{ffff}]]>";
    let sheet = sheet("<b>team</b>\u{0}", vec![finished(Some(Class::NotFound), evil, &format!("{evil}{}", "x".repeat(5000)))]);
    let (xml, page) = (svg::svg(&sheet), html::html(&sheet));
    assert!(!heights(&xml).is_empty());
    for file in [&xml, &page] {
        assert!(!file.contains("<script") && !file.contains("<b>team"), "{file}");
        assert!(!file.contains(['\u{0}', '\u{1}', '\u{202e}', '\u{ffff}']), "{file}");
        assert!(file.contains("&lt;script&gt;alert(1)") && file.contains("&lt;b&gt;team"), "{file}");
        assert!(file.len() < 20_000, "a long fix is cut: {} bytes", file.len());
    }
}

#[test]
fn many_blockers_fit_on_one_page() {
    let causes = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"];
    let long = "with a long explanation of what has to be done, by whom, and in which order, ".repeat(20);
    let outcomes = causes
        .iter()
        .map(|cause| finished(Some(Class::NotFound), &format!("the {cause} {long}"), &format!("ask {cause} {long}")));
    let sheet = sheet("autonomy", outcomes.collect());
    assert_eq!((sheet.blockers.len(), sheet.more), (10, 2));
    let lowest = heights(&svg::svg(&sheet)).into_iter().fold(0.0, f64::max);
    assert!(lowest > 1000.0 && lowest < 1118.0, "the lowest text is at {lowest}");
    let page = html::html(&sheet);
    assert_eq!(page.matches("<strong>1 connection").count(), 10);
    let longest = page.split("<br>").skip(1).filter_map(|rest| rest.split("</li>").next()).map(|fix| fix.chars().count()).max();
    assert!(longest.is_some_and(|longest| (180..210).contains(&longest)), "{longest:?}");
}

#[test]
fn nothing_is_loaded() {
    let sheet = company();
    for file in [svg::svg(&sheet), html::html(&sheet)] {
        let file = file.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http://", "https://", "@import", "href", "<script", "url(h", "src="] {
            assert!(!file.contains(foreign), "{foreign}");
        }
    }
}

#[test]
fn texts_are_broken_at_spaces_and_cut_at_the_end() {
    assert_eq!(wrapped("one two three", 7, 2), ["one two", "three"]);
    assert_eq!(wrapped("one two three four", 7, 2), ["one two", "three…"]);
    assert_eq!(wrapped("one two three", 7, 1), ["one tw…"]);
    assert_eq!(wrapped("abcdefghij", 4, 3), ["abcd", "efgh", "ij"]);
    assert_eq!(wrapped("漢字漢字", 4, 2), ["漢字", "漢字"]);
    assert_eq!(wrapped("", 4, 2), Vec::<String>::new());
}

proptest! {
    #[test]
    fn every_history_gives_a_well_formed_file(entries in history(), target in 0.0..=1.0_f64) {
        let snapshot = Snapshot::fold(&entries);
        for namespace in NAMESPACES {
            let now = entries.last().map_or(NOW, |entry| entry.at);
            prop_assert!(!heights(&svg::svg(&Sheet::new(&snapshot, namespace, target, now))).is_empty());
        }
    }

    #[test]
    fn no_line_is_longer_than_it_may_be(text in "\\PC{0,200}", columns in 2..40_usize, max in 1..5_usize) {
        let lines = wrapped(&text, columns, max);
        prop_assert!(lines.len() <= max);
        prop_assert!(lines.iter().all(|line| width(line) <= columns), "{:?}", lines);
    }
}
