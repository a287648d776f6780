//! A PostgreSQL server of its own for the bench, with the settings of the distribution, and what pgbench does with it.

use crate::Measured;
use crate::fixture::Fixture;
use std::io::{Read, Seek};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long pgbench works, in seconds.
const PGBENCH_SECONDS: &str = "20";
/// The administrator of the server.
const SUPER: &str = "super";

/// The server. It ends when this is dropped.
pub struct Server {
    bin: PathBuf,
    ids: (u32, u32),
    data: PathBuf,
    port: u16,
}

/// What was written to the tables.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Inserted, updated and deleted rows.
    pub written: u64,
    /// The mean number of bytes of a row of the ledger.
    pub bytes: u64,
}

impl Rows {
    /// What was written after `before`.
    pub fn since(self, before: Rows) -> Rows {
        Rows { written: self.written.saturating_sub(before.written), bytes: self.bytes }
    }
}

impl Server {
    /// The variable with the credential of the registry.
    pub const SECRET: &str = "BENCH_DATABASE";
    /// The password of the roles.
    pub const PASSWORD: &str = "bench";

    /// Starts a server. `make bench` finds its programs, and the user whom it runs as.
    pub fn start() -> Measured<Server> {
        let of = |name: &str| {
            std::env::var(format!("AAM_TEST_POSTGRES_PAIR_{name}"))
                .map_err(|_| format!("AAM_TEST_POSTGRES_PAIR_{name} is not set; make bench sets it"))
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let data = PathBuf::from(of("FOLDER")?).join(format!("bench-{port}"));
        let server = Server { bin: of("BIN")?.into(), ids: (of("RUN_UID")?.parse()?, of("RUN_GID")?.parse()?), data, port };
        let data = server.data.display().to_string();
        server.program("initdb", &["-D", &data, "-U", SUPER, "--auth=trust", "-E", "UTF8", "--locale=C"])?;
        let log = server.data.with_extension("log").display().to_string();
        let options = format!("-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=");
        server.program("pg_ctl", &["-D", &data, "-w", "-l", &log, "-o", &options, "start"])?;
        Ok(server)
    }

    /// Prepares a registry. Returns its URL.
    pub fn registry(&self, fixture: &Fixture) -> Measured<String> {
        for role in ["aam_owner", "aam"] {
            self.sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD '{}'", Server::PASSWORD))?;
        }
        self.sql("postgres", "CREATE DATABASE aam OWNER aam_owner")?;
        let url = |role: &str| format!("postgres://{role}@127.0.0.1:{}/aam?credential=env:{}", self.port, Server::SECRET);
        let log = fixture.home().join("init.log");
        let mut command = crate::daemon::aam(fixture, Path::new(&url("aam")), &log)?;
        command.env(Server::SECRET, Server::PASSWORD);
        let status = command.args(["registry", "init", "--registry", &url("aam_owner"), "--role", "aam"]).status()?;
        if !status.success() {
            return Err(format!("aam registry init ended with {status}: {}", std::fs::read_to_string(log)?).into());
        }
        Ok(url("aam"))
    }

    /// What was written to the registry so far.
    pub fn rows(&self) -> Measured<Rows> {
        // The sums of a session are published when it ends or is idle.
        let written = self.sql("aam", "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables")?;
        let bytes = self.sql(
            "aam",
            "SELECT coalesce(avg(pg_column_size(l.*)), 0)::bigint FROM (SELECT * FROM aam.ledger LIMIT 10000) AS l",
        )?;
        Ok(Rows { written: written.parse()?, bytes: bytes.parse()? })
    }

    /// The rows that pgbench inserts in a second with `sessions` sessions, each transaction with `rows` rows of `bytes` bytes.
    pub fn limit(&self, sessions: usize, rows: f64, bytes: u64) -> Measured<f64> {
        self.sql("aam", "CREATE TABLE plain (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, filler text)")?;
        let script = self.data.with_extension("sql");
        std::fs::write(
            &script,
            format!("INSERT INTO plain (filler) SELECT repeat('x', {bytes}) FROM generate_series(1, {rows});\n"),
        )?;
        let (sessions, port, script) = (sessions.to_string(), self.port.to_string(), script.display().to_string());
        let text = self.program(
            "pgbench",
            &[
                "-n",
                "-M",
                "prepared",
                "-T",
                PGBENCH_SECONDS,
                "-c",
                &sessions,
                "-j",
                &sessions,
                "-f",
                &script,
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                SUPER,
                "aam",
            ],
        )?;
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        self.sql("aam", "DROP TABLE plain")?;
        Ok(rate.ok_or_else(|| format!("pgbench did not say its rate: {text}"))? * rows)
    }

    fn sql(&self, database: &str, sql: &str) -> Measured<String> {
        let port = self.port.to_string();
        let text = self.program(
            "psql",
            &["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &port, "-U", SUPER, "-c", sql, database],
        )?;
        Ok(text.trim().to_string())
    }

    /// Runs a program of PostgreSQL as the user of the server, and returns what it printed. The output goes to a file, because a
    /// server that it starts keeps its output open.
    fn program(&self, name: &str, arguments: &[&str]) -> Measured<String> {
        let mut output = tempfile::tempfile()?;
        let mut command = Command::new(self.bin.join(name));
        command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        if rustix::process::geteuid().is_root() {
            command.uid(self.ids.0).gid(self.ids.1);
        }
        let status = command.status()?;
        let mut text = String::new();
        output.rewind()?;
        output.read_to_string(&mut text)?;
        if status.success() {
            return Ok(text);
        }
        Err(format!("{name} ended with {status}: {text}").into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.program("pg_ctl", &["-D", &self.data.display().to_string(), "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.data);
    }
}
