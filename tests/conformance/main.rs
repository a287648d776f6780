//! The conformance suite: the cases of docs/sandbox.md for each vendor of the sandbox, through the built daemon.
//!
//! `make conformance` builds the sandbox and runs it. All selected cases run at once before the first result is printed;
//! `cargo test --test conformance -- okta` runs those of one vendor.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test ends with a panic")]

#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "../support/daemon.rs"]
mod daemon;
mod lab;
mod measure;
#[allow(dead_code, reason = "other test binaries use the rest")]
#[path = "../support/network.rs"]
mod network;
#[path = "../support/operator_token.rs"]
mod operator_token;
mod table;
mod vendor;

use lab::{Lab, root};
use libtest_mimic::{Arguments, Failed, Trial};
use measure::Results;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use table::FamilyFile;
use vendor::{Case, Cases, Vendor};

/// The test that compares the table in docs/families.md. It runs only together with all cases.
const TABLE: &str = "docs::table";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let families = FamilyFile::load_all(&families_folder());
    let vendors: Vec<(Vendor, Cases)> = Vendor::load_all(&root().join("sandbox"))
        .into_iter()
        .map(|vendor| {
            let cases = vendor.cases();
            (vendor, cases)
        })
        .collect();
    let results = Arc::new(results(&arguments, &vendors));
    let whole = arguments.filter.is_none() && arguments.skip.is_empty();
    let mut trials = Vec::new();
    for (vendor, cases) in &vendors {
        trials.extend(vendor_trials(vendor, cases, &families, &results));
    }
    for family in &families {
        let proven = vendors.iter().any(|(vendor, _)| vendor.family == family.id) || family.other_proof().is_some();
        trials.push(trial(format!("{}::is_proven", family.id), move || match proven {
            true => Ok(()),
            false => Err("the family is connected, but sandbox/ has no file for it".to_owned()),
        }));
    }
    if whole {
        let text = table::table(&families, &vendors, &results);
        trials.push(trial(TABLE.to_owned(), move || table::compare(&root().join("docs/families.md"), &text)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The family files that the daemon uses.
fn families_folder() -> std::path::PathBuf {
    std::env::var_os("AAM_DRAFT_FAMILIES").map_or_else(|| root().join("src/families"), Into::into)
}

fn trial(name: String, run: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(Failed::from))
}

/// Whether the command line selects the test `name`, as `libtest_mimic` decides it.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let fits = |pattern: &String| if arguments.exact { name == pattern } else { name.contains(pattern.as_str()) };
    arguments.filter.as_ref().is_none_or(fits) && !arguments.skip.iter().any(fits)
}

/// Runs the selected cases, with those that other selected tests need.
fn results(arguments: &Arguments, vendors: &[(Vendor, Cases)]) -> Results {
    if arguments.list {
        return Results::default();
    }
    let selected = |case: &&Case| {
        let good_for = [format!("{}::calls", case.family), format!("{}::violations", case.family)];
        is_selected(arguments, &case.test()) || (case.name == "good" && good_for.iter().any(|test| is_selected(arguments, test)))
    };
    let cases: Vec<&Case> = vendors.iter().flat_map(|(_, cases)| &cases.run).filter(selected).collect();
    let concerned: BTreeSet<&str> = cases.iter().map(|case| case.family.as_str()).collect();
    let vendors: Vec<&Vendor> =
        vendors.iter().map(|(vendor, _)| vendor).filter(|vendor| concerned.contains(vendor.family.as_str())).collect();
    if cases.is_empty() {
        return Results::default();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let lab = Lab::start(&root(), &vendors, &cases).await;
        measure::run(lab, &vendors, &cases).await
    })
}

/// The tests of one vendor: its cases, that none is missing, its calls, and that each of them is described.
fn vendor_trials(vendor: &Vendor, cases: &Cases, families: &[FamilyFile], results: &Arc<Results>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for case in &cases.run {
        let (name, results) = (case.test(), Arc::clone(results));
        trials.push(trial(name.clone(), move || match results.cases.get(&name) {
            Some(differences) if differences.is_empty() => Ok(()),
            Some(differences) => Err(differences.join("\n")),
            None => Err("the case did not run".to_owned()),
        }));
    }
    let missing = cases.missing.join(", ");
    trials.push(trial(format!("{}::cases_are_complete", vendor.family), move || match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("sandbox/FAMILY.yaml has neither a case nor a reason to skip it for: {missing}")),
    }));
    let (family, also_written) = (vendor.family.clone(), vendor.conformance.calls.clone());
    let expected = families.iter().find(|file| file.id == family).and_then(|file| file.calls);
    let counted = results.calls.get(&family).copied();
    // The calls of a vendor that serves other families depend on what it serves.
    if vendor.is_family() {
        trials.push(trial(format!("{family}::calls"), move || {
            let counted = counted.ok_or("the calls could not be counted, because the good case failed")?;
            let text = format!("calls: {{onboarding: {}, health: {}}}", counted.onboarding, counted.health);
            let expected =
                expected.ok_or(format!("src/families/{family}.yaml does not say its calls; counted at the sandbox: {text}"))?;
            if (expected.onboarding, expected.health) != (counted.onboarding, counted.health) {
                return Err(format!("src/families/{family}.yaml says {expected:?}; counted at the sandbox: {text}"));
            }
            match also_written.and_then(|value| serde_json::from_value::<table::Calls>(value).ok()) {
                Some(written) if written != expected => {
                    Err(format!("sandbox/{family}.yaml says {written:?}, the family {expected:?}"))
                }
                _ => Ok(()),
            }
        }));
    }
    let violations = results.violations.get(&vendor.family).cloned().unwrap_or_default();
    trials.push(trial(format!("{}::violations", vendor.family), move || match violations.is_empty() {
        true => Ok(()),
        false => Err(format!("calls that the vendor's file does not describe:\n{}", violations.join("\n"))),
    }));
    trials
}
