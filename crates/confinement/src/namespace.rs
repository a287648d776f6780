//! A network that contains one proxy: a network namespace of this process, with nothing but its own loopback.
//!
//! The launcher listens inside the namespace and hands the listening socket to the caller, who accepts connections on it
//! from outside. A socket stays in the namespace in which it was made.
//!
//! The process gets a mount namespace too, for a `/dev/shm` of its own: Python's `multiprocessing` keeps its semaphores
//! there, and in the one of the machine a program would meet those of others.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set, set_capabilities};

/// The port of the proxy inside a network of its own. Nothing else listens there.
pub(crate) const PORT: u16 = 3128;

/// The connections to the proxy that may wait until they are accepted.
const BACKLOG: i32 = 64;

/// The least, the usual and the largest bytes of the buffers of a connection. Without these, a program could fill some
/// megabytes for each.
const SOCKET_MEMORY: [(&str, &str); 2] =
    [("/proc/sys/net/ipv4/tcp_wmem", "4096 65536 262144"), ("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 262144")];

/// Who the program is inside its user namespace: not root, so that `execve` takes all capabilities away.
const IDENTITY: u32 = 1000;

/// Where programs keep memory that several processes share.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// What a namespace of its own gives to the program.
pub(crate) struct Namespace {
    pub listener: TcpListener,
    /// Whether `/dev/shm` is the program's own. It is not where a container does not have that folder.
    pub shared_memory: bool,
    /// Whether the processes that this one starts from now on are in a process namespace of their own, or why not.
    pub processes: Result<(), String>,
}

/// Moves this process into a network of its own and listens there.
///
/// # Errors
/// The reason in a sentence. The process may have moved partly by then, so it must not start a program any more.
pub(crate) fn enter() -> Result<Namespace, String> {
    let (entered, processes) = match unshare_all(CloneFlags::CLONE_NEWPID) {
        Ok(entered) => (entered, Ok(())),
        // The kernel has moved this process nowhere, so it can be asked for less.
        Err(error) => {
            let reason = format!("a process namespace is not allowed: {error}");
            (
                unshare_all(CloneFlags::empty())
                    .map_err(|error| format!("a user and network namespace is not allowed: {error}"))?,
                Err(reason),
            )
        }
    };
    if let Entered::User { user, group } = entered {
        let map = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text)
                .map_err(|error| format!("{file} of a new user namespace cannot be written: {error}"))
        };
        // The kernel accepts a map of groups from an unprivileged process only after this.
        map("setgroups", "deny".to_string())?;
        map("uid_map", format!("{IDENTITY} {user} 1"))?;
        map("gid_map", format!("{IDENTITY} {group} 1"))?;
    }
    start_loopback().map_err(|error| format!("the loopback of a new network namespace does not start: {error}"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))
        .map_err(|error| format!("a new network namespace does not allow to listen: {error}"))?;
    // What waits to be accepted holds memory of the kernel, which nothing counts.
    rustix::net::listen(&listener, BACKLOG)
        .map_err(|error| format!("a new network namespace does not allow to listen: {error}"))?;
    // A container may have made these files read-only.
    for (file, limits) in SOCKET_MEMORY {
        let _ = fs::write(file, limits);
    }
    Ok(Namespace { listener, shared_memory: own_shared_memory().is_ok(), processes })
}

/// The namespaces that this process is in now.
enum Entered {
    /// A user namespace of its own, whose maps are to be written, and the others.
    User { user: u32, group: u32 },
    /// A system without user namespaces gives the others to a privileged process.
    Others,
}

fn unshare_all(more: CloneFlags) -> Result<Entered, nix::errno::Errno> {
    let others = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | more;
    let user = rustix::process::geteuid().as_raw();
    let group = rustix::process::getegid().as_raw();
    match unshare(CloneFlags::CLONE_NEWUSER | others) {
        Ok(()) => Ok(Entered::User { user, group }),
        Err(error) => unshare(others).map(|()| Entered::Others).map_err(|_| error),
    }
}

/// Puts an empty file system over `/dev/shm`, which ends with the last process of the namespace. It is small, because
/// nothing else counts the memory that is written to it.
fn own_shared_memory() -> rustix::io::Result<()> {
    // A mount must not appear outside: the mounts of a privileged process are shared until this.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", SHARED_MEMORY, "tmpfs", flags, c"size=16m,nr_inodes=4096,mode=0700")
}

/// Gives up every capability, also those that a program would get back because its user is root.
pub(crate) fn drop_capabilities() -> Result<(), String> {
    // Without the capability to do so, the process is not privileged, and a program cannot become so either.
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Bits beyond the last capability of the kernel are not valid.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => break,
            Err(error) => return Err(format!("a capability could not be given up: {error}")),
        }
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    // A service manager may forbid the call; a process without capabilities does not need it.
    if capabilities(None).is_ok_and(|own| own == none) {
        return Ok(());
    }
    set_capabilities(None, none).map_err(|error| format!("the capabilities could not be given up: {error}"))
}

/// Sets the loopback interface up, by a message to the kernel's routing socket. The address 127.0.0.1 comes with it.
fn start_loopback() -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &loopback_message(), SendFlags::empty())?;
    let mut answer = [0_u8; 4096];
    let (_, length) = recv(&socket, answer.as_mut_slice(), RecvFlags::empty())?;
    match answer.get(..length).and_then(error_of) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::other("the routing socket gave an answer that is too short")),
    }
}

/// `RTM_NEWLINK` for interface 1, which is the loopback in every network namespace, with the flag `IFF_UP`.
fn loopback_message() -> Vec<u8> {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_WITH_ANSWER: u16 = 0x1 | 0x4;
    const LOOPBACK_INDEX: u32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    // struct nlmsghdr: length, type, flags, sequence number, port.
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family, padding and type; index; flags; which flags to change.
    message.extend([0; 4]);
    message.extend(LOOPBACK_INDEX.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message
}

/// The error code of an answer: `struct nlmsgerr` follows the header of 16 bytes and begins with it.
fn error_of(answer: &[u8]) -> Option<i32> {
    Some(i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{error_of, loopback_message};

    #[test]
    fn the_message_has_the_length_that_it_says() {
        let message = loopback_message();
        assert_eq!(message.len(), 32);
        assert_eq!(message.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)), Some(32));
    }

    #[test]
    fn a_short_answer_is_not_a_success() {
        assert_eq!(error_of(&[0; 19]), None);
        assert_eq!(error_of(&[0; 36]), Some(0));
    }
}
