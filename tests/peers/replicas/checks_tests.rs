//! Each check with a made-up violation, and with the lawful case that is nearest to it.

use super::checks::*;
use super::faults::{Kind, schedule};
use std::collections::{BTreeMap, BTreeSet};

const FIRST: Process = Process { replica: 0, life: 1 };
const SECOND: Process = Process { replica: 1, life: 1 };

fn entry(at_ms: u64, kind: &str, marker: Option<&str>) -> Entry {
    Entry { at_ms, connection: "c".to_string(), kind: kind.to_string(), marker: marker.map(str::to_owned), begun_ms: None }
}

fn accepted(marker: Option<&str>) -> Accepted {
    Accepted { connection: "c".to_string(), marker: marker.map(str::to_owned) }
}

fn call(at_ms: u64, by: Process) -> Call {
    Call { at_ms, connection: "c".to_string(), account: "a".to_string(), by: Some(by) }
}

fn begins(times: &[u64]) -> BTreeMap<String, Vec<u64>> {
    BTreeMap::from([("c".to_string(), times.to_vec())])
}

pub async fn lost_intents_are_found() {
    let ledger =
        [entry(1, "intent_accepted", Some("one")), entry(2, "intent_withdrawn", None), entry(3, "intent_accepted", Some("two"))];
    assert_eq!(lost(&[accepted(Some("one")), accepted(None), accepted(Some("two"))], &ledger), Vec::<String>::new());
    assert_eq!(lost(&[accepted(Some("three"))], &ledger).len(), 1);
    assert_eq!(lost(&[accepted(None), accepted(None)], &ledger).len(), 1, "two withdrawals and one in the registry");
    let of_another = Accepted { connection: "d".to_string(), marker: Some("one".to_string()) };
    assert_eq!(lost(&[of_another], &ledger).len(), 1);
    let last = |marker: Option<&str>| BTreeMap::from([("c".to_string(), marker.map(str::to_owned))]);
    assert_eq!(overwritten(&last(Some("two")), &ledger), Vec::<String>::new());
    assert_eq!(overwritten(&last(Some("one")), &ledger).len(), 1, "an older intent is in force");
    assert_eq!(overwritten(&last(None), &ledger).len(), 1, "the withdrawal was undone");
}

pub async fn unpaired_attempts_are_found() {
    let (begun, finished) = (|at| entry(at, "attempt_begun", None), |at| entry(at, "attempt_finished", None));
    assert_eq!(unpaired(&[begun(1), finished(2), begun(3), finished(4)]), Vec::<String>::new());
    assert_eq!(unpaired(&[begun(1), finished(2), begun(3)]).len(), 1, "it never finished");
    let (retired, accepted) = (|at| entry(at, "connection_retired", None), |at| entry(at, "intent_accepted", Some("one")));
    let of = |begun| Entry { begun_ms: Some(begun), ..finished(9) };
    assert_eq!(unpaired(&[begun(1), retired(2), accepted(3), begun(4), finished(5)]), Vec::<String>::new());
    assert_eq!(unpaired(&[begun(1), retired(2), accepted(3), of(1), begun(400), of(400)]), Vec::<String>::new());
    assert_eq!(
        unpaired(&[begun(11), retired(12), accepted(13), of(10)]),
        Vec::<String>::new(),
        "the row was written a little later"
    );
    assert_eq!(unpaired(&[begun(1), retired(2), accepted(3), of(1), of(1)]).len(), 1, "it finished twice");
    assert_eq!(unpaired(&[begun(1), retired(2), of(700)]).len(), 1, "it did not begin");
    assert_eq!(unpaired(&[retired(2), begun(3)]).len(), 1, "it began for a connection that was retired");
    assert_eq!(unpaired(&[finished(1)]).len(), 1, "it did not begin");
    assert_eq!(unpaired(&[begun(1), finished(2), finished(3)]).len(), 1, "it finished twice");
    assert_eq!(unpaired(&[begun(1), begun(2), finished(3)]).len(), 1, "two were open");
}

pub async fn doubled_attempts_are_found() {
    let none = Stops::new();
    let handed_over = [call(1000, FIRST), call(1100, FIRST), call(2000, SECOND), call(2100, SECOND)];
    assert_eq!(doubled(&handed_over, &begins(&[900, 1900]), &none, 10_000), Vec::<String>::new());
    let mixed = [call(1000, FIRST), call(1500, SECOND), call(1600, FIRST)];
    assert_eq!(doubled(&mixed, &begins(&[900, 1400]), &none, 10_000).len(), 1);
    assert_eq!(
        doubled(&mixed, &begins(&[900, 1400, 1550]), &none, 10_000),
        Vec::<String>::new(),
        "it was given back, and began anew"
    );
    let later = [call(1000, FIRST), call(1500, SECOND), call(31_600, FIRST)];
    assert_eq!(doubled(&later, &begins(&[900, 1400]), &none, 10_000), Vec::<String>::new(), "that is another attempt");
    let stopped = Stops::from([(FIRST, vec![(1100, 31_500)])]);
    assert_eq!(
        doubled(&later, &begins(&[900, 1400]), &stopped, 10_000).len(),
        1,
        "it was stopped meanwhile, so it is the same one"
    );
    let mut of_another = mixed.to_vec();
    of_another[1].connection = "d".to_string();
    assert_eq!(doubled(&of_another, &begins(&[900]), &none, 10_000), Vec::<String>::new());
    // An attempt that began at 5 and whose beginning was written at its end, one of a batch, and one that is open.
    let mut finished = entry(9, "attempt_finished", None);
    finished.begun_ms = Some(5);
    let ledger = [entry(9, "attempt_begun", None), finished, entry(30, "attempt_begun", None)];
    assert_eq!(super::checks::begins(&ledger, [("c".to_string(), 20)].into_iter()), begins(&[5, 20, 30]));
}

pub async fn late_calls_are_found() {
    let stopped = Stops::from([(FIRST, vec![(1100, 21_100)])]);
    let calls = [call(1000, FIRST), call(21_200, FIRST), call(21_300, SECOND)];
    assert_eq!(late(&calls, &begins(&[900, 21_000]), &stopped, 15_000).len(), 1, "the second one began at 21000");
    assert_eq!(late(&calls, &begins(&[900]), &stopped, 15_000), Vec::<String>::new(), "it was not replaced");
    assert_eq!(late(&calls, &begins(&[900, 21_000, 21_150]), &stopped, 15_000), Vec::<String>::new(), "it began anew");
    let short = Stops::from([(FIRST, vec![(1100, 11_100)])]);
    assert_eq!(late(&calls, &begins(&[900, 21_000]), &short, 15_000), Vec::<String>::new());
}

pub async fn calls_above_a_cap_are_found() {
    let cap = Cap { per_second: 2.0, burst: 10, per_day: 100 };
    let at = |times: &[u64]| times.iter().map(|at| call(*at, FIRST)).collect::<Vec<_>>();
    let steady: Vec<u64> = (0..60).map(|number| number * 500).collect();
    assert_eq!(above_caps(&at(&steady), |_| cap), Vec::<String>::new());
    // The burst and what the rate adds in the time that a call may take to arrive.
    assert_eq!(above_caps(&at(&[0; 16]), |_| cap), Vec::<String>::new());
    assert_eq!(above_caps(&at(&[0; 17]), |_| cap).len(), 1);
    let fast: Vec<u64> = (0..60).map(|number| number * 250).collect();
    assert_eq!(above_caps(&at(&fast), |_| cap).len(), 1, "twice the rate for 15 s");
    let day: Vec<u64> = (0..101).map(|number| 86_400_000 + number * 1000).collect();
    assert_eq!(above_caps(&at(&day), |_| cap).len(), 1, "101 calls in a day");
    assert_eq!(above_caps(&at(&day[1..]), |_| cap), Vec::<String>::new());
    let mut two = at(&[0; 24]);
    two.iter_mut().step_by(2).for_each(|call| call.account = "b".to_string());
    assert_eq!(above_caps(&two, |_| cap), Vec::<String>::new(), "each account has its own cap");
}

pub async fn different_funnels_are_found() {
    let answers = |texts: &[&str]| texts.iter().enumerate().map(|(index, text)| (index, text.to_string())).collect::<Vec<_>>();
    assert_eq!(different(&answers(&["1", "1", "1"])), Vec::<String>::new());
    assert_eq!(different(&answers(&["1", "2", "1"])).len(), 1);
    assert_eq!(different(&[]).len(), 1);
}

pub async fn a_seed_repeats_its_faults() {
    assert_eq!(schedule(7, 500, 4, true), schedule(7, 500, 4, true));
    assert_ne!(schedule(7, 500, 4, true), schedule(8, 500, 4, true));
    for seed in 0..20 {
        let kinds: BTreeSet<Kind> = schedule(seed, 10, 4, true).iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds.len(), 10, "the first faults are one of each kind");
        let long = schedule(seed, 500, 4, false);
        assert!(long.iter().all(|fault| fault.kind != Kind::DiskFull && fault.replica < 4));
    }
}
