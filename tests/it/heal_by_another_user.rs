//! `aam heal` by a user who cannot read the key of the daemon's listener.

use crate::support::daemon::{Workspace, intent, stderr, stdout};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A user who is not the one of the tests. Only root can run a command as another user; otherwise, the key is made
/// unreadable for its own user, who then has the same proof left.
const NOBODY: u32 = 65534;

/// A copy of the workspace's command that this other user may run.
fn as_other(workspace: &Workspace, arguments: &[&str], token: &str) -> Command {
    let mut command = workspace.command(arguments);
    command.env("AAM_TOKEN", token).stdin(Stdio::null());
    if is_root() {
        // The build's folder may be closed to other users.
        let copy = workspace.path("aam");
        if !copy.exists() {
            std::fs::copy(env!("CARGO_BIN_EXE_aam"), &copy).expect("copied");
        }
        std::fs::set_permissions(workspace.dir.path(), std::fs::Permissions::from_mode(0o755)).expect("changed");
        let mut other = Command::new(copy);
        other.args(arguments).current_dir(workspace.dir.path()).env_clear().stdin(Stdio::null());
        other.envs(command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
        other.uid(NOBODY).gid(NOBODY);
        return other;
    }
    let key = workspace.path("var/aam.db.listener-key");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o000)).expect("changed");
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_says_that_the_owner_of_the_registry_runs_the_daemon() {
    let workspace = Workspace::new();
    workspace.intent_file("a.json", &intent("filesource", &workspace.csv("a.csv", 3)));
    let daemon = workspace.serve().await;
    let (port, admin) = (daemon.port.to_string(), daemon.token.expose().to_string());
    let healed = as_other(&workspace, &["heal", "--port", &port], &admin).output().expect("the binary runs");
    assert!(healed.status.success(), "{}{}", stdout(&healed), stderr(&healed));
    // Without a token, the message says what to set.
    let none = as_other(&workspace, &["heal", "--port", &port], "").output().expect("the binary runs");
    assert!(none.status.code() == Some(1) && stderr(&none).contains("set AAM_TOKEN"), "{}", stderr(&none));
    // Another registry of the same user is another daemon.
    let other = workspace.path("var/other.db").display().to_string();
    let refused =
        as_other(&workspace, &["heal", "--port", &port, "--registry", &other], &admin).output().expect("the binary runs");
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("no token was sent"), "{}", stderr(&refused));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_another_user_gets_no_token() {
    if !is_root() {
        return;
    }
    // The daemon of another user, with a registry of its own, answers in place of the one that is asked for.
    let (workspace, theirs) = (Workspace::new(), Workspace::new());
    workspace.run(&["once"]);
    let daemon = theirs.serve().await;
    let port = daemon.port.to_string();
    let registry = workspace.path("var").display().to_string();
    let chowned = Command::new("chown").args(["-R", "1234:1234", &registry]).status().expect("chown");
    assert!(chowned.success());
    let refused = as_other(&workspace, &["heal", "--port", &port], "a-token-of-nobody").output().expect("the binary runs");
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    let text = stderr(&refused);
    assert!(text.contains("no token was sent") && text.contains("the user root runs it"), "{text}");
    assert!(text.contains("sudo -u '#1234' aam"), "{text}");
    assert!(!daemon.log().contains("/connections/heal"), "{}", daemon.log());
}
