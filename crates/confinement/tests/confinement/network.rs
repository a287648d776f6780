//! The network, which is one proxy.

use std::net::TcpListener;

use confinement::Confined;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{ATTEMPTS, enforceable, lines, python_lines, python_plan, run, spawn, text};

#[tokio::test]
async fn the_proxy_is_reached_from_inside_and_accepted_outside() {
    if !enforceable("proxy").await {
        return;
    }
    let script = "
import os, socket, urllib.parse
proxy = urllib.parse.urlsplit(os.environ['HTTPS_PROXY'])
with socket.create_connection((proxy.hostname, proxy.port)) as connection:
    connection.sendall(b'ping')
    print(connection.recv(4).decode())
";
    let (mut plan, _directory) = python_plan(script);
    plan.environment.push(("HTTPS_PROXY".to_string(), "{proxy}".to_string()));
    let Confined { listener, stdout, stderr, mut process, .. } = spawn(&plan).await.unwrap();
    let (mut connection, _) = listener.accept().await.unwrap();
    let mut bytes = [0; 4];
    connection.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    connection.write_all(b"pong").await.unwrap();
    assert_eq!(text(stdout).await, "pong\n", "{}", text(stderr).await);
    assert!(process.wait().await.unwrap().success());
}

#[tokio::test]
async fn neither_the_loopback_of_the_host_nor_another_host_is_reached() {
    if !enforceable("other hosts").await {
        return;
    }
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    let script = format!(
        "{ATTEMPTS}
import socket
attempt('host', lambda: socket.create_connection(('127.0.0.1', {port}), 5))
attempt('other', lambda: socket.create_connection(('192.0.2.1', 443), 5))
attempt('other6', lambda: socket.create_connection(('2001:db8::1', 443), 5))
attempt('metadata', lambda: socket.create_connection(('169.254.169.254', 80), 5))
",
        port = host.local_addr().unwrap().port()
    );
    let outcome = python_lines(&script).await;
    assert_eq!(outcome[..2], ["host ECONNREFUSED", "other ENETUNREACH"]);
    assert!(outcome[2..].iter().all(|line| !line.ends_with("allowed")), "{outcome:?}");
    assert!(host.accept().is_err(), "a connection arrived");
}

#[tokio::test]
async fn only_tcp_sockets_can_be_opened() {
    if !enforceable("sockets").await {
        return;
    }
    let script = format!(
        "{ATTEMPTS}
import socket as s
attempt('tcp', lambda: s.socket(s.AF_INET, s.SOCK_STREAM))
attempt('tcp6', lambda: s.socket(s.AF_INET6, s.SOCK_STREAM | s.SOCK_NONBLOCK, s.IPPROTO_TCP))
attempt('pair', lambda: s.socketpair(s.AF_UNIX, s.SOCK_STREAM))
attempt('udp', lambda: s.socket(s.AF_INET, s.SOCK_DGRAM))
attempt('udp6', lambda: s.socket(s.AF_INET6, s.SOCK_DGRAM | s.SOCK_CLOEXEC))
attempt('raw', lambda: s.socket(s.AF_INET, s.SOCK_RAW, s.IPPROTO_ICMP))
attempt('ping', lambda: s.socket(s.AF_INET, s.SOCK_DGRAM, s.IPPROTO_ICMP))
attempt('packet', lambda: s.socket(s.AF_PACKET, s.SOCK_RAW))
attempt('unix', lambda: s.socket(s.AF_UNIX, s.SOCK_STREAM))
attempt('unix datagram', lambda: s.socket(s.AF_UNIX, s.SOCK_DGRAM))
attempt('netlink', lambda: s.socket(s.AF_NETLINK, s.SOCK_RAW))
attempt('vsock', lambda: s.socket(s.AF_VSOCK, s.SOCK_STREAM))
attempt('mptcp', lambda: s.socket(s.AF_INET, s.SOCK_STREAM, 262))
attempt('sctp', lambda: s.socket(s.AF_INET, s.SOCK_STREAM, 132))
attempt('datagram pair', lambda: s.socketpair(s.AF_UNIX, s.SOCK_DGRAM))
"
    );
    let outcome = python_lines(&script).await;
    assert_eq!(outcome[..3], ["tcp allowed", "tcp6 allowed", "pair allowed"]);
    assert_eq!(outcome.len(), 15);
    for line in &outcome[3..] {
        assert!(line.ends_with(" EPERM"), "{line}");
    }
}

#[tokio::test]
async fn the_program_does_not_inherit_files_or_the_listening_socket() {
    if !enforceable("open files").await {
        return;
    }
    // Files of this process that are not marked to be closed, as a careless parent of it could have left them.
    let open = tempfile::tempfile().unwrap();
    rustix::io::fcntl_setfd(&open, rustix::io::FdFlags::empty()).unwrap();
    let script = "
import os
def is_open(number):
    try:
        os.fstat(number)
        return True
    except OSError:
        return False
print([number for number in range(256) if is_open(number)])
";
    let (plan, _directory) = python_plan(script);
    assert_eq!(lines(&run(&plan).await), ["[0, 1, 2]"]);
}
