//! Every file that AAM writes can be read by its owner only, whatever the umask of the user.

use crate::support::daemon::{Workspace, intent, until};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `aam` with a umask that takes nothing away.
fn without_umask(workspace: &Workspace, arguments: &[&str]) -> Command {
    let command = workspace.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.current_dir(workspace.dir.path()).env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

/// The modes of all files and folders below `folder`, by their path from there.
fn modes(folder: &Path, prefix: &str, found: &mut BTreeMap<String, u32>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let meta = entry.metadata().expect("its mode");
        if meta.is_dir() {
            found.insert(format!("{name}/"), meta.permissions().mode() & 0o777);
            modes(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, meta.permissions().mode() & 0o777);
        }
    }
}

/// A running process, which is killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_can_read_what_aam_writes() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    // A token that was restored from a backup with the rights of everybody.
    let token = workspace.path("var/aam.db.admin-token");
    std::fs::create_dir(workspace.path("var")).expect("a folder");
    std::fs::set_permissions(workspace.path("var"), PermissionsExt::from_mode(0o700)).expect("its mode");
    std::fs::write(&token, format!("aam_{}\n", "x".repeat(43))).expect("a token");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o644)).expect("its mode");
    let serve = ["serve", "--port", "0", "--log-file", "var/aam.log"];
    let _daemon = Running(without_umask(&workspace, &serve).spawn().expect("the daemon runs"));
    until("the daemon has written its files", || async {
        let there = ["aam.db-shm", "aam.db.listener-key"].map(|name| workspace.path(&format!("var/{name}")).exists());
        (
            there == [true, true] && std::fs::metadata(&token).is_ok_and(|meta| meta.permissions().mode() & 0o077 == 0),
            String::new(),
        )
    })
    .await;
    std::fs::write(workspace.path("value"), "0p9o8i7u-not-a-real-one").expect("a value");
    let mut set = without_umask(&workspace, &["secret", "set", "A_TOKEN"]);
    set.stdin(std::fs::File::open(workspace.path("value")).expect("a value"));
    assert!(set.status().expect("it runs").success());
    // A plan that is written over a file that everybody can read.
    std::fs::write(workspace.path("var/plan.json"), "").expect("a file");
    std::fs::set_permissions(workspace.path("var/plan.json"), PermissionsExt::from_mode(0o666)).expect("its mode");
    assert!(without_umask(&workspace, &["plan", "--out", "var/plan.json"]).status().expect("it runs").code() != Some(1));
    let mut found = BTreeMap::new();
    modes(&workspace.path("var"), "", &mut found);
    let expected = [
        "aam.db",
        "aam.db-shm",
        "aam.db-wal",
        "aam.db.admin-token",
        "aam.db.listener-key",
        "aam.db.lock",
        "aam.log",
        "plan.json",
        "secrets/",
        "secrets/A_TOKEN",
    ];
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), expected, "a new file belongs into this list");
    for (name, mode) in &found {
        assert_eq!(*mode, if name.ends_with('/') { 0o700 } else { 0o600 }, "{name}");
    }
}
