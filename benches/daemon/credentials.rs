//! Ten thousand connections on a hundred secrets: once as environment variables, once in a vault (OpenBao).

use crate::Measured;
use crate::daemon::{self, number};
use crate::fixture::{Fixture, SECRETS};
use crate::http::Client;
use crate::stats::{median, seconds, timed};
use crate::table::Table;
use std::time::Duration;

/// The number of runs of each side, which take turns.
const RUNS: usize = 3;

/// Measures both sides with `count` connections. `make bench` starts OpenBao and names it in the environment.
pub fn measure(count: usize, table: &mut Table) -> Measured<()> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set; make bench starts OpenBao"));
    let (url, token) = (variable("AAM_TEST_OPENBAO_DEV_URL")?, variable("AAM_TEST_OPENBAO_DEV_TOKEN")?);
    store(&url, &token)?;
    let by_variable = Fixture::of_files_with_credentials(count, "env:BENCH_SECRET_", "{}")?;
    let vault = format!("{{vault: {{address: \"{url}\", login: {{method: token, token: \"env:BENCH_VAULT_LOGIN\"}}}}}}");
    let by_vault = Fixture::of_files_with_credentials(count, "vault:bench/", &vault)?;
    let (mut plain, mut vaulted, mut reads) = (vec![], vec![], vec![]);
    for run in 0..RUNS {
        plain.push(once(&by_variable, run, &token)?.0);
        let (took, made) = once(&by_vault, run, &token)?;
        vaulted.push(took);
        reads.push(made);
    }
    let most = reads.into_iter().max().unwrap_or_default();
    let (plain, vaulted) = (median(&plain), median(&vaulted));
    let ratio = vaulted.as_secs_f64() / plain.as_secs_f64();
    let figure = format!("{count} connections on {SECRETS} vault secrets");
    table.add(
        &figure,
        seconds(vaulted),
        format!("{} (env: variables)", seconds(plain)),
        format!("{ratio:.2}"),
        "<= 1.10",
        ratio <= 1.10,
    );
    table.add(&format!("{figure}, reads"), most.to_string(), "none".to_string(), "-".to_string(), "<= 100", most <= SECRETS);
    Ok(())
}

/// Creates the mount and the secrets.
fn store(url: &str, token: &str) -> Measured<()> {
    let port = url.rsplit(':').next().unwrap_or_default().parse()?;
    let send = |path: &str, body: &str| Client::connect(port)?.post(path, ("X-Vault-Token", token), body);
    // The mount exists already if the bench runs again on the same server.
    send("/v1/sys/mounts/bench", r#"{"type": "kv", "options": {"version": "2"}}"#)?;
    for secret in 0..SECRETS {
        let status = send(&format!("/v1/bench/data/{secret}"), &format!(r#"{{"data": {{"token": "bench-secret-{secret}"}}}}"#))?;
        if status != 200 {
            return Err(format!("the vault answered {status} when a secret was stored").into());
        }
    }
    Ok(())
}

/// The wall time of one `aam once` on an empty registry, and the number of secrets that it read from the vault.
fn once(fixture: &Fixture, run: usize, token: &str) -> Measured<(Duration, usize)> {
    let registry = fixture.registry(&format!("run-{run}"));
    let log = registry.with_extension("once.log");
    let mut command = daemon::aam(fixture, &registry, &log)?;
    command.env("BENCH_VAULT_LOGIN", token);
    for secret in 0..SECRETS {
        command.env(format!("BENCH_SECRET_{secret}"), format!("bench-secret-{secret}"));
    }
    let (status, took) = timed(|| command.arg("once").status());
    let status = status?;
    if !status.success() {
        let last = daemon::lines(&log, "")?.pop().unwrap_or_default();
        return Err(format!("aam once ended with {status}; its log ends with: {last}").into());
    }
    let calls = daemon::lines(&log, "/v1/bench/data/")?;
    Ok((took, calls.iter().filter(|line| number(line, "status") == Some(200)).count()))
}
