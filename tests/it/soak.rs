//! Five hours of 120 connections in simulated time. `AAM_BENCH_ONLY=soak cargo bench --bench daemon` runs the long one.

use crate::support::simulation::soak::{self, Sample, Size};
use std::process::Command;
use std::time::Duration;

/// Set in the process in which the soak runs. Handles and threads are counted for a whole process, and the one of the test runs
/// other tests at the same time.
const CHILD: &str = "AAM_TEST_SOAK";

const SIZE: Size = Size { connections: 120, total: Duration::from_secs(5 * 3600), checks: 10, step: Duration::from_secs(120) };

#[test]
fn hours_of_rechecks_rotations_and_faults_end_as_scripted_and_leave_nothing_behind() {
    if std::env::var_os(CHILD).is_some() {
        return run();
    }
    let name = "soak::hours_of_rechecks_rotations_and_faults_end_as_scripted_and_leave_nothing_behind";
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "the soak ran: {text}");
}

fn run() {
    let folder = tempfile::tempdir().unwrap();
    let report = soak::in_own_runtime(SIZE, folder.path(), &mut |_| {}).unwrap();
    // A process of a few seconds is still warming up.
    let problems: Vec<&String> = report.problems.iter().filter(|problem| !problem.starts_with("memory")).collect();
    assert!(problems.is_empty(), "{problems:#?}\n{:#?}\n{:#?}", report.counts, report.samples);
    let (first, last) = (report.samples.first().unwrap(), report.samples.last().unwrap());
    assert!(last.opened > 1500 && last.rows > first.rows, "each connection was checked about 18 times: {last:?}");
}

#[test]
fn a_soak_notices_what_grows() {
    let sample = |at: usize, grows: [usize; 3]| {
        let [handles, threads, memory] = grows.map(|each| each * at / 10);
        let resident = f64::from(u32::try_from(100 + memory).unwrap());
        let after = Duration::from_secs(at as u64);
        Sample { after, opened: 0, rows: 0, resident, handles: 20 + handles, threads: 5 + threads }
    };
    let problems = |grows: [usize; 3]| soak::not_flat(&(0..100).map(|at| sample(at, grows)).collect::<Vec<_>>());
    assert!(problems([0, 0, 0]).is_empty());
    for (grows, name) in [([2, 0, 0], "file handles"), ([0, 1, 0], "threads"), ([0, 0, 2], "memory")] {
        let found = problems(grows);
        assert!(found.len() == 1 && found.iter().all(|problem| problem.starts_with(name)), "{name}: {found:?}");
    }
}
