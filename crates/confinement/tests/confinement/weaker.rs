//! A system that does not allow new namespaces, played by a user namespace in which their number is limited to 0.

use std::net::TcpListener;
use std::process::Command;

use confinement::{Confined, Enforcement, Error, Launcher, Weaker};
use tokio::io::AsyncWriteExt;

use crate::{ATTEMPTS, enforceable, launcher, not_run, python_plan, text};

/// A launcher that runs where no network namespace can be made.
fn without_namespaces() -> Launcher {
    without("user net")
}

/// A launcher that runs where the named kinds of namespaces cannot be made.
fn without(kinds: &str) -> Launcher {
    let inner = format!("for kind in {kinds}; do echo 0 >/proc/sys/user/max_${{kind}}_namespaces; done; exec \"$0\"");
    let inner = inner.as_str();
    let program = launcher().program;
    let arguments = ["--user", "--map-root-user", "/bin/sh", "-c", inner, program.to_str().unwrap()];
    Launcher { program: "/usr/bin/unshare".into(), arguments: arguments.map(String::from).to_vec() }
}

async fn playable(test: &str) -> bool {
    let unshare = Command::new("/usr/bin/unshare").args(["--user", "--map-root-user", "true"]).status();
    if !unshare.is_ok_and(|status| status.success()) {
        not_run(test, "the program unshare cannot make a user namespace");
        return false;
    }
    enforceable(test).await
}

#[tokio::test]
async fn less_than_everything_is_refused_unless_it_is_allowed() {
    if !playable("weaker confinement").await {
        return;
    }
    let (plan, _directory) = python_plan("print('ran')");
    let error = confinement::spawn(&without_namespaces(), &plan, Weaker::Refused).await.unwrap_err();
    assert!(error.to_string().contains("network: a user and network namespace is not allowed"), "{error}");
    let Error::NotEnforceable(support) = error else { panic!("{error}") };
    assert!(matches!(&support.processes, Enforcement::Partial(_)), "{support:?}");
    assert_eq!((&support.files, &support.system_calls), (&Enforcement::Full, &Enforcement::Full));
}

#[tokio::test]
async fn without_a_network_of_its_own_a_program_reaches_the_port_of_its_proxy_alone() {
    if !playable("weaker network").await {
        return;
    }
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let script = format!(
        "{ATTEMPTS}
import os, socket, urllib.parse
proxy = urllib.parse.urlsplit(os.environ['HTTP_PROXY'])
attempt('proxy', lambda: print(socket.create_connection((proxy.hostname, proxy.port), 5).recv(4).decode()))
attempt('host', lambda: socket.create_connection(('127.0.0.1', {port}), 5))
attempt('listen', lambda: socket.create_server(('127.0.0.1', 0)))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt('passwd', lambda: open('/etc/passwd'))
",
        port = host.local_addr().unwrap().port()
    );
    let (mut plan, _directory) = python_plan(&script);
    plan.environment.push(("HTTP_PROXY".to_string(), "{proxy}".to_string()));
    let confined = confinement::spawn(&without_namespaces(), &plan, Weaker::Allowed).await.unwrap();
    let Confined { listener, stdout, stderr, support, mut process } = confined;
    assert!(matches!(support.network, Enforcement::Partial(_)), "{support:?}");
    let (mut connection, _) = listener.accept().await.unwrap();
    connection.write_all(b"pong").await.unwrap();
    drop(connection);
    let (stdout, stderr) = (text(stdout).await, text(stderr).await);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines, ["pong", "proxy allowed", "host EACCES", "listen EPERM", "udp EPERM", "passwd EACCES"], "{stderr}");
    assert!(process.wait().await.unwrap().success());
    assert!(host.accept().is_err(), "a connection arrived");
}

/// The program takes the place of its launcher then, and everything but the end of its processes is as usual.
#[tokio::test]
async fn without_a_process_namespace_a_program_runs_if_that_is_allowed_and_it_is_said() {
    if !playable("no process namespace").await {
        return;
    }
    // The group is killed when its program ends, so the program waits for what it started.
    let script = "import os\nchild = os.fork()\nprint('ran', flush=True)\nif child: os.waitpid(child, 0)\nos._exit(5)";
    let (plan, _directory) = python_plan(script);
    let error = confinement::spawn(&without("pid"), &plan, Weaker::Refused).await.unwrap_err();
    assert!(error.to_string().contains("processes: a process namespace is not allowed"), "{error}");
    let confined = confinement::spawn(&without("pid"), &plan, Weaker::Allowed).await.unwrap();
    assert_eq!(confined.support.network, Enforcement::Full);
    let outcome = crate::finish(confined).await;
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(5), "ran\nran\n"), "{outcome:?}");
}
