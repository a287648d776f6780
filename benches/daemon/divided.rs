//! The memory of replicas: a registry of connections that all work, copied into PostgreSQL, and 1, 2 and 4 processes on it.

use crate::Measured;
use crate::daemon::{self, Daemon};
use crate::fixture::Fixture;
use crate::replicas::REPLICAS;
use crate::scale_fill;
use crate::server::Server;
use crate::stats::{ms, timed};
use crate::table::Table;
use std::path::Path;

/// The number of partitions that the replicas divide.
const PARTITIONS: usize = 64;

/// Measures the resident memory of the largest process when each has packed the connections of the others.
pub fn measure(count: usize, table: &mut Table) -> Measured<()> {
    let fixture = Fixture::of_known(0)?;
    let filled = fixture.registry("filled");
    scale_fill::in_own_process(&filled, &fixture, count)?;
    let server = Server::start()?;
    let url = server.registry(&fixture)?;
    let log = fixture.home().join("migrate.log");
    let mut copy = daemon::aam(&fixture, &filled, &log)?;
    let status = copy.env(Server::SECRET, Server::PASSWORD).args(["registry", "migrate", "--to", &url]).status()?;
    if !status.success() {
        return Err(format!("aam registry migrate ended with {status}: {}", std::fs::read_to_string(log)?).into());
    }
    let mut alone = 0.0;
    for replicas in REPLICAS {
        let log = |number: usize| fixture.home().join(format!("divided-{replicas}-{number}.log"));
        let start = |number: usize| {
            let mut command = daemon::aam(&fixture, Path::new(&url), &log(number))?;
            let folder = fixture.home().join(format!("divided-{replicas}-{number}"));
            std::fs::create_dir(&folder)?;
            command.env(Server::SECRET, Server::PASSWORD).current_dir(folder);
            Daemon::spawn(command, log(number))
        };
        let mut daemons: Vec<Daemon> = (0..replicas).map(start).collect::<Measured<_>>()?;
        for daemon in &mut daemons {
            daemon.wait("with the connections of others packed", |daemon| {
                let packed = daemon.logged("connections of other replicas are packed")?;
                let last = packed.last().and_then(|line| daemon::number(line, "packed"));
                Ok(last == Some((PARTITIONS - PARTITIONS / replicas) as u64))
            })?;
        }
        let resident = daemons.iter().map(Daemon::resident).collect::<Measured<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
        if replicas == 1 {
            alone = resident;
        }
        let of = |figure: &str| format!("{count} connections, PostgreSQL, replicas: {replicas}: {figure}");
        table.add(
            of("resident memory of the largest"),
            format!("{resident:.1} MB"),
            format!("{alone:.1} MB"),
            format!("{:.2}", resident / alone),
            "-",
            true,
        );
        let first = daemons.first().ok_or("no daemon was started")?;
        let (funnel, took) = timed(|| first.get("/metrics/funnel"));
        funnel?;
        table.add(of("GET /metrics/funnel for the first time"), ms(took), "", "", "-", true);
        daemons.into_iter().try_for_each(Daemon::stop)?;
    }
    Ok(())
}
