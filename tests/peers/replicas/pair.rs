//! A PostgreSQL primary and its synchronous standby, which can be killed, promoted and built anew, and whose disks can be filled.

use crate::harness::variable;
use crate::support::network::free_port;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The administrator of the servers.
const SUPER: &str = "super";
/// The name by which the primary knows its standby.
const STANDBY: &str = "standby";
/// How long anything may take that a server does.
const MAX_WAIT: Duration = Duration::from_secs(60);

static NUMBER: AtomicU32 = AtomicU32::new(1);

/// Who uses the disks. There is one pair of them, and tests run at the same time.
static DISKS: Mutex<()> = Mutex::new(());

/// Two servers; the slot of the primary changes with each promotion.
pub struct Pair {
    bin: PathBuf,
    ids: (u32, u32),
    /// Where the data of each server is.
    folders: [PathBuf; 2],
    /// The disk of each server, if they have their own.
    disks: Option<[PathBuf; 2]>,
    /// Where each server writes its log, which is not on the disk that is filled.
    logs: [PathBuf; 2],
    _turn: Option<MutexGuard<'static, ()>>,
    /// The port of each server, 0 before it was started.
    pub ports: Arc<[AtomicU16; 2]>,
    pub primary: usize,
}

impl Pair {
    /// Starts both servers and waits until the standby is synchronous. With `on_disks`, each has a disk of its own, if disks can be
    /// mounted here.
    pub fn start(on_disks: bool) -> Pair {
        let of = |name: &str| variable("POSTGRES_PAIR", name);
        let id = |name: &str| of(name).parse().expect("a number");
        let disks =
            Some([PathBuf::from(of("DISK_A")), PathBuf::from(of("DISK_B"))]).filter(|disks| on_disks && disks[0].is_dir());
        let turn = disks.as_ref().map(|_| DISKS.lock().unwrap_or_else(PoisonError::into_inner));
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let own = |slot: usize| PathBuf::from(of("FOLDER")).join(format!("pair-{}-{number}-{slot}", std::process::id()));
        let place = |slot: usize| disks.as_ref().map_or_else(|| own(slot), |disks| disks[slot].join("data"));
        let pair = Pair {
            bin: of("BIN").into(),
            ids: (id("RUN_UID"), id("RUN_GID")),
            folders: [place(0), place(1)],
            logs: [0, 1].map(|slot| own(slot).with_extension("log")),
            _turn: turn,
            disks,
            ports: Arc::new([AtomicU16::new(0), AtomicU16::new(0)]),
            primary: 0,
        };
        pair.initialize();
        pair.start_server(0);
        pair.build_standby();
        pair
    }

    fn initialize(&self) {
        let data = self.folders[0].display().to_string();
        // Segments of 1 MB, so that a full disk is noticed soon.
        self.program(
            "initdb",
            &["-D", &data, "-U", SUPER, "--auth=trust", "-E", "UTF8", "--locale=C", "--wal-segsize=1", "--no-sync"],
        );
        // What decides about durability is as the server has it by default: fsync, full_page_writes, synchronous_commit.
        let settings = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 200\n\
                        min_wal_size = 4MB\nmax_wal_size = 128MB\nwal_keep_size = 32MB\nwal_retrieve_retry_interval = 500ms\n";
        append(&self.folders[0].join("postgresql.conf"), settings);
        let hba = format!(
            "host all {SUPER} 127.0.0.1/32 trust\nhost replication {SUPER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        );
        std::fs::write(self.folders[0].join("pg_hba.conf"), hba).expect("written");
    }

    /// A program of PostgreSQL, as the user that the servers run as.
    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.args(arguments).current_dir("/").env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(self.ids.0).gid(self.ids.1);
        }
        command
    }

    /// Runs a program that must succeed.
    fn program(&self, name: &str, arguments: &[&str]) {
        if let Err(error) = self.try_program(name, arguments) {
            panic!("{name} {arguments:?}: {error}");
        }
    }

    /// Runs a program whose output goes to a file, because a server that it starts keeps its output open.
    fn try_program(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        let log = tempfile::tempfile().expect("a file");
        let (out, err) = (log.try_clone().expect("a file"), log.try_clone().expect("a file"));
        let status = self.command(name, arguments).stdout(out).stderr(err).status().map_err(|error| error.to_string())?;
        let mut text = String::new();
        let mut log = log;
        let _ = std::io::Seek::rewind(&mut log).and_then(|()| std::io::Read::read_to_string(&mut log, &mut text));
        if status.success() { Ok(()) } else { Err(text) }
    }

    /// Starts the server of a slot: at its port if it has one already, else at a free one.
    fn start_server(&self, slot: usize) {
        let (data, log) = (self.folders[slot].display().to_string(), self.logs[slot].display().to_string());
        let mut last = String::new();
        for _ in 0..5 {
            let port = match self.ports[slot].load(Ordering::Relaxed) {
                0 => free_port(),
                port => port,
            };
            match self.try_program("pg_ctl", &["-D", &data, "-w", "-t", "60", "-l", &log, "-o", &format!("-p {port}"), "start"]) {
                Ok(()) => return self.ports[slot].store(port, Ordering::Relaxed),
                Err(error) => last = error,
            }
        }
        panic!("the server did not start: {last}{}", std::fs::read_to_string(log).unwrap_or_default());
    }

    fn port(&self, slot: usize) -> u16 {
        self.ports[slot].load(Ordering::Relaxed)
    }

    /// The port of the primary.
    pub fn primary_port(&self) -> u16 {
        self.port(self.primary)
    }

    /// Runs SQL as the administrator at the primary; returns the rows, one in each line.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let port = self.primary_port().to_string();
        let arguments = [
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "-U",
            SUPER,
            "-d",
            database,
            "-c",
            sql,
        ];
        let output = self.command("psql", &arguments).env("PGOPTIONS", "-c statement_timeout=20s").output();
        let output = output.map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Builds the standby in the slot that is not the primary's, and makes it synchronous.
    pub fn build_standby(&self) {
        let slot = 1 - self.primary;
        let _ = std::fs::remove_dir_all(&self.folders[slot]);
        let source = format!("host=127.0.0.1 port={} user={SUPER} application_name={STANDBY}", self.primary_port());
        let data = self.folders[slot].display().to_string();
        self.program("pg_basebackup", &["-d", &source, "-D", &data, "-R", "-X", "stream", "-c", "fast", "--no-sync"]);
        // Once it is promoted it does not have a standby, and would wait for one forever.
        append(&self.folders[slot].join("postgresql.auto.conf"), "synchronous_standby_names = ''\n");
        self.ports[slot].store(0, Ordering::Relaxed);
        self.start_server(slot);
        self.sql("postgres", &format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'")).expect("set");
        self.sql("postgres", "SELECT pg_reload_conf()").expect("reloaded");
        self.until_synchronous();
    }

    /// Waits until everything that the primary commits is at the standby, too.
    pub fn until_synchronous(&self) {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'";
        until("the standby is synchronous", || match self.sql("postgres", sql) {
            Ok(count) => (count == "1", count),
            Err(error) => (false, error),
        });
    }

    /// Kills all processes of the primary at once, as a machine that loses its power, and promotes the standby.
    pub fn fail_over(&mut self) {
        kill_server(&self.folders[self.primary]);
        self.primary = 1 - self.primary;
        let data = self.folders[self.primary].display().to_string();
        self.program("pg_ctl", &["-D", &data, "-w", "-t", "60", "promote"]);
    }

    /// Whether the disks can be filled.
    pub fn has_disks(&self) -> bool {
        self.disks.is_some()
    }

    /// Fills the disk of the primary, and waits until the server cannot write any more.
    pub fn fill(&self) {
        let Some(disks) = &self.disks else { return };
        let filler = disks[self.primary].join("filler");
        let output = Command::new("df").args(["-B1", "--output=avail"]).arg(&disks[self.primary]).output().expect("df");
        let free: u64 =
            String::from_utf8_lossy(&output.stdout).lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("bytes");
        let most = free.saturating_sub(1 << 20).to_string();
        let status = Command::new("fallocate").args(["-l", &most]).arg(&filler).status().expect("fallocate");
        assert!(status.success(), "the disk was not filled");
        let mut rest = std::fs::OpenOptions::new().append(true).open(&filler).expect("opened");
        while std::io::Write::write_all(&mut rest, &[0; 4096]).is_ok() {}
        // The segments of the log that exist already are used up first.
        let write = "SELECT pg_logical_emit_message(true, 'fill', repeat('x', 900000)); SELECT pg_switch_wal()";
        until("the server does not have space any more", || (self.sql("postgres", write).is_err(), String::new()));
    }

    /// Frees the disks, and starts the primary if it ended because of them.
    pub fn free(&self) {
        for disk in self.disks.iter().flatten() {
            let _ = std::fs::remove_file(disk.join("filler"));
        }
        let data = self.folders[self.primary].display().to_string();
        until("the primary accepts writes again", || {
            if self.try_program("pg_ctl", &["-D", &data, "status"]).is_err() {
                self.start_server(self.primary);
            }
            match self.sql("postgres", "SELECT pg_logical_emit_message(true, 'freed', 'x')") {
                Ok(_) => (true, String::new()),
                Err(error) => (false, error),
            }
        });
        self.until_synchronous();
    }

    /// The end of the log of the primary.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.logs[self.primary]).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for (folder, log) in self.folders.iter().zip(&self.logs) {
            kill_server(folder);
            let _ = std::fs::remove_dir_all(folder);
            let _ = std::fs::remove_file(log);
        }
        for disk in self.disks.iter().flatten() {
            let _ = std::fs::remove_file(disk.join("filler"));
        }
    }
}

/// Kills the server whose data is in `folder` with all of its processes.
fn kill_server(folder: &Path) {
    let file = std::fs::read_to_string(folder.join("postmaster.pid")).unwrap_or_default();
    let Some(main) = file.lines().next().and_then(|line| line.parse::<i32>().ok()) else { return };
    if !is_running(main) || !command_line(main).contains(&folder.display().to_string()) {
        return;
    }
    // While the first process is stopped, it starts no further ones.
    send(main, nix::sys::signal::Signal::SIGSTOP);
    let mut all = children(main);
    all.push(main);
    for pid in &all {
        send(*pid, nix::sys::signal::Signal::SIGKILL);
    }
    until("all processes of the server ended", || (!all.iter().any(|pid| is_running(*pid)), String::new()));
}

/// Sends a signal; a process that has ended does not get it.
pub fn send(pid: i32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

fn command_line(pid: i32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// The state and the parent of a process.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may contain anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_running(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z' && state != 'X')
}

fn children(of: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, parent)| parent == of)).collect()
}

fn append(path: &Path, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("opened");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
}

/// Waits until `probe` returns true; it also returns what it saw.
fn until(what: &str, mut probe: impl FnMut() -> (bool, String)) {
    let started = Instant::now();
    loop {
        let (done, seen) = probe();
        if done {
            return;
        }
        assert!(started.elapsed() < MAX_WAIT, "timed out waiting until {what}; last seen: {seen}");
        std::thread::park_timeout(Duration::from_millis(25));
    }
}
