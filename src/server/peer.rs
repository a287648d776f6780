//! Which user runs the program at the other end of a TCP connection on this machine, as the kernel says. A command that
//! cannot read the key of the listener, because another user runs it, learns from this whether it may send its token.
//!
//! Linux lists every socket of the network namespace with the user id of its owner in `/proc/net/tcp` and `/proc/net/tcp6`
//! (proc_net_tcp(5)).

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The state of a connected socket in these files.
const ESTABLISHED: &str = "01";

/// Returns the user id of the process that accepted the connection from `local`, our end, to `peer`. Returns `None` if the
/// kernel lists no such socket, for example because the process is in another container.
///
/// # Errors
/// If the kernel does not list sockets.
pub fn owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let mut error = None;
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let lines = match File::open(file) {
            Ok(file) => BufReader::new(file).lines(),
            Err(failed) => {
                error = Some(failed);
                continue;
            }
        };
        for line in lines.map_while(Result::ok) {
            if let Some((theirs, ours, uid)) = socket(&line)
                && (theirs, ours) == (canonical(peer), canonical(local))
            {
                return Ok(Some(uid));
            }
        }
    }
    // Without IPv6, the second file does not exist.
    error.filter(|error| error.kind() != ErrorKind::NotFound || !Path::new("/proc/net/tcp").exists()).map_or(Ok(None), Err)
}

/// Returns the user who owns `path`, or the nearest folder above it that may be looked at.
///
/// # Errors
/// If the path does not exist.
pub fn owner_of(path: &Path) -> io::Result<u32> {
    let path = std::path::absolute(path)?;
    let mut last = ErrorKind::NotFound.into();
    for place in path.ancestors() {
        match std::fs::metadata(place) {
            Ok(metadata) => return Ok(metadata.uid()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// The name of a user, or its number for `sudo -u` if the machine has no name for it.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

/// Parses one line: local address, remote address and user id of a connected socket that a process holds.
fn socket(line: &str) -> Option<(SocketAddr, SocketAddr, u32)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, state, _, _, _, uid, _, inode, ..] = fields.as_slice() else { return None };
    // A connection that no process has accepted has no inode, and the user id 0.
    if *state != ESTABLISHED || *inode == "0" {
        return None;
    }
    Some((address(local)?, address(remote)?, uid.parse().ok()?))
}

/// Parses `0100007F:1388`. The kernel writes the words of an address in the byte order of the machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(host.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match host.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// A socket for both families reports IPv4 in another form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_says_who_accepted_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (local, peer) = (client.local_addr().expect("ours"), client.peer_addr().expect("theirs"));
        let _accepted = listener.accept().expect("accepted");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(owner(local, peer).expect("listed"), Some(own));
        assert_eq!(owner(SocketAddr::new(local.ip(), 1), peer).expect("listed"), None);
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        // The addresses are those of a little-endian machine.
        let line = "  19: 0100007F:1388 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000  1000        0 514620 1 0000 20";
        let found = socket(line).expect("a socket");
        if cfg!(target_endian = "little") {
            assert_eq!(found, ("127.0.0.1:5000".parse().unwrap(), "127.0.0.1:54000".parse().unwrap(), 1000));
        }
        let mapped = "0000000000000000FFFF00000100007F:1388";
        if cfg!(target_endian = "little") {
            assert_eq!(address(mapped), Some("127.0.0.1:5000".parse().unwrap()));
        }
        for other in [line.replace(" 01 ", " 0A "), line.replace("514620", "0"), "sl local_address".to_string(), String::new()] {
            assert_eq!(socket(&other), None, "{other}");
        }
    }

    #[test]
    fn the_owner_of_a_registry_is_found_through_a_closed_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(owner_of(folder.path()).expect("there"), own);
        assert_eq!(owner_of(&folder.path().join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_001), "#4000000001");
    }
}
