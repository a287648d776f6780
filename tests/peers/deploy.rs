//! The files of docs/deploy and the Dockerfile, judged by the programs of others that read them: the schemas of Kubernetes, hadolint,
//! systemd, logrotate; and the binary, run as the image and the manifests run it.

use crate::harness::variable;
use crate::support::daemon::{Workspace, intent, stderr, stdout, until};
use crate::support::network::free_port;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

peer_tests! {
    [Deploy]: the_manifests_are_valid_and_restricted, the_dockerfile_has_no_finding, systemd_accepts_the_unit,
        logrotate_loses_no_line, the_binary_needs_one_folder_to_write;
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run(command: &mut Command) -> Output {
    // Debian keeps some of these programs where only root looks.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    command.env("PATH", path).stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
}

async fn the_manifests_are_valid_and_restricted() {
    let folder = file("docs/deploy/kubernetes");
    let mut validate = Command::new(variable("DEPLOY", "VALIDATE"));
    validate.args(["--strict", "--quiet"]);
    for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") && !["kustomization.yaml", "policy.yaml"].contains(&name.as_str()) {
            validate.arg(entry.path());
        }
    }
    assert_success(&run(&mut validate));
    assert_success(&run(Command::new(variable("DEPLOY", "PYTHON")).arg(variable("DEPLOY", "SCRIPT")).arg(&folder)));
    // Both judges see a mistake.
    let workspace = Workspace::new();
    let copy = |from: &str, to: &str| {
        let text = std::fs::read_to_string(folder.join("deployment.yaml")).expect("read");
        assert!(text.contains(from), "{from}");
        std::fs::write(workspace.path("wrong.yaml"), text.replace(from, to)).expect("written");
        workspace.path("wrong.yaml")
    };
    let wrong = copy("replicas: 1", "replica: 1");
    assert!(!run(Command::new(variable("DEPLOY", "VALIDATE")).args(["--strict", "--quiet"]).arg(wrong)).status.success());
}

async fn the_dockerfile_has_no_finding() {
    assert_success(&run(Command::new(variable("DEPLOY", "HADOLINT")).arg(file("Dockerfile"))));
    let text = std::fs::read_to_string(file("Dockerfile")).expect("read");
    for line in ["USER 10001:10001", "HEALTHCHECK", "cargo install --locked --path ."] {
        assert!(text.contains(line), "{line}");
    }
}

/// The unit with `binary` as its program.
fn unit(workspace: &Workspace, binary: &str) -> PathBuf {
    let text = std::fs::read_to_string(file("docs/deploy/aam.service")).expect("read");
    let text = text.replace("/usr/local/bin/aam", binary);
    // What is commented out is valid too.
    let text: Vec<&str> = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase())).unwrap_or(line)
        })
        .collect();
    std::fs::write(workspace.path("aam.service"), text.join("\n") + "\n").expect("written");
    workspace.path("aam.service")
}

async fn systemd_accepts_the_unit() {
    let workspace = Workspace::new();
    let unit = unit(&workspace, env!("CARGO_BIN_EXE_aam"));
    assert!(std::fs::read_to_string(&unit).expect("read").contains("\nLoadCredential="));
    assert!(accepted(&unit, 15).contains("Service cannot create network namespaces"));
    // systemd reads the drop-in because of its folder. Connectors need the namespaces user, net, mnt and pid, and no others.
    let folder = workspace.path("aam.service.d");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::copy(file("docs/deploy/aam.service.d/airbyte.conf"), folder.join("airbyte.conf")).expect("copied");
    let judged = accepted(&unit, 20);
    for line in [
        "Service may create network namespaces",
        "Service may allocate netlink sockets",
        "Service may create process namespaces",
        "Service cannot create IPC namespaces",
        "Service processes cannot acquire new privileges",
    ] {
        assert!(judged.contains(line), "{line}: {judged}");
    }
}

/// Asserts that systemd accepts the unit and that its exposure is at most `exposure`; returns what systemd says. 0 is the exposure
/// of a service that may do nothing, and 100 that of a service without any restriction.
fn accepted(unit: &Path, exposure: u32) -> String {
    let verified = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(unit));
    // The folder of the drop-in has this name too.
    assert!(!stderr(&verified).contains("aam.service"), "{}", stderr(&verified));
    assert_success(&verified);
    let mut judge = Command::new("systemd-analyze");
    judge.args(["--no-pager", "security", "--offline=true", &format!("--threshold={exposure}")]).arg(unit);
    let judged = run(&mut judge);
    let text = stdout(&judged);
    assert!(judged.status.success() && text.contains("Overall exposure level"), "{text}{}", stderr(&judged));
    text
}

async fn logrotate_loses_no_line() {
    let mut workspace = Workspace::new();
    let log = workspace.path("aam.log");
    workspace.set("AAM_LOG_FILE", &log.display().to_string());
    let daemon = workspace.serve().await;
    let me = |flag: &str| stdout(&run(Command::new("id").arg(flag))).trim().to_string();
    let user = format!("{} {}", me("-un"), me("-gn"));
    let text = std::fs::read_to_string(file("docs/deploy/aam.logrotate")).expect("read");
    let text = text
        .replace("/var/log/aam/aam.log", &log.display().to_string())
        .replace("aam aam\n", &format!("{user}\n"))
        .replace("systemctl reload aam.service", &format!("kill -HUP {}", daemon.pid()));
    std::fs::write(workspace.path("logrotate.conf"), text).expect("written");
    let mut pushed = Vec::new();
    for round in 0..3 {
        let answer = daemon.push(&intent("filesource", &workspace.csv(&format!("{round}.csv"), 3))).await;
        let id = answer.body["connection_id"].as_str().expect("an id").to_string();
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        until("the attempt is logged in the file of that name", || async { (read().contains(&id), read()) }).await;
        pushed.push(id);
        let mut rotate = Command::new("logrotate");
        rotate.args(["--force", "--state"]).arg(workspace.path("state")).arg(workspace.path("logrotate.conf"));
        assert_success(&run(&mut rotate));
    }
    daemon.stop().await;
    // One old file waits for the next rotation, and the one before is compressed.
    let kept = std::fs::read_to_string(workspace.path("aam.log.1")).expect("the last one");
    assert!(kept.contains(&pushed[2]), "{kept}");
    assert!(workspace.path("aam.log.2.gz").exists() && workspace.path("aam.log.3.gz").exists());
}

/// `aam` as the image and the manifests run it: another user, no capability, a root file system that cannot be written and holds
/// only the binary and its libraries, intents and policy read-only, and one folder to write.
fn contained(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-user", "--unshare-ipc", "--unshare-uts", "--uid", "10001", "--gid", "10001", "--cap-drop", "ALL"]);
    for folder in ["/lib", "/lib64", "/usr/lib", "/etc/ssl", "/etc/resolv.conf"] {
        command.args(["--ro-bind-try", folder, folder]);
    }
    let path = |name: &str| workspace.path(name).display().to_string();
    command.args(["--ro-bind", env!("CARGO_BIN_EXE_aam"), "/usr/local/bin/aam"]);
    command.args(["--ro-bind", &path("intents"), "/etc/aam/intents", "--ro-bind", &path("policy"), "/etc/aam/policy"]);
    command.args(["--ro-bind", &path("data"), &path("data"), "--bind", &path("var"), "/var/lib/aam", "--proc", "/proc"]);
    command.args(["--dev", "/dev", "--remount-ro", "/", "--chdir", "/var/lib/aam", "--die-with-parent", "--clearenv"]);
    for (name, value) in [
        ("AAM_INTENTS", "/etc/aam/intents"),
        ("AAM_POLICY", "/etc/aam/policy/policy.yaml"),
        ("AAM_REGISTRY", "/var/lib/aam/aam.db"),
        ("AAM_BIND", "127.0.0.1"),
        ("AAM_LOG_FORMAT", "json"),
    ] {
        command.args(["--setenv", name, value]);
    }
    command.arg("/usr/local/bin/aam").args(arguments);
    command
}

/// Ends a process when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn the_binary_needs_one_folder_to_write() {
    let workspace = Workspace::new();
    std::fs::create_dir(workspace.path("var")).expect("a folder");
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    let port = free_port().to_string();
    let log = std::fs::File::create(workspace.path("log")).expect("a log");
    let mut serve = contained(&workspace, &["serve", "--port", &port]);
    let _serve = Ended(serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("bwrap starts"));
    let logged = || std::fs::read_to_string(workspace.path("log")).unwrap_or_default();
    until("the health check of the image passes", || async {
        let health = run(&mut contained(&workspace, &["health", "--port", &port]));
        (health.status.success(), format!("{}{}", stderr(&health), logged()))
    })
    .await;
    until("the connection is ACTIVE", || async {
        let status = run(&mut contained(&workspace, &["status"]));
        (stdout(&status).contains("+ ACTIVE"), stdout(&status) + &stderr(&status))
    })
    .await;
    let lock = std::fs::read_to_string(workspace.path("var/aam.db.lock")).expect("the lock");
    let pid = serde_json::from_str::<serde_json::Value>(&lock).expect("JSON")["pid"].to_string();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("the user");
    assert_eq!(map.split_whitespace().next(), Some("10001"), "{map}");
    let denied = run(&mut contained(&workspace, &["backup", "/copy.db"]));
    assert!(denied.status.code() == Some(1) && stderr(&denied).contains("cannot write the backup"), "{}", stderr(&denied));
    assert_success(&run(&mut contained(&workspace, &["backup", "/var/lib/aam/copy.db"])));
    assert!(!logged().contains("Read-only file system"), "{}", logged());
}
