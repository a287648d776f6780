//! Which system calls are refused, enforced by a filter that the kernel runs for each call.
//!
//! Everything is allowed but what is listed here: programs in Python, Java and Go use several hundred calls, and the
//! dangerous ones are few and known. A refused call fails with `EPERM`, so the program can report it.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    sock_filter,
};

mod calls;

use calls::{REFUSED, REFUSED_NEW, REFUSED_OLD};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Built<T> = Result<T, seccompiler::BackendError>;

/// The flags of `clone` that make a namespace, and `CLONE_PARENT`, whose child would be a child of the caller.
const CLONE_REFUSED: [u64; 8] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0000_8000];
/// The part of a socket's type that is not a flag.
const SOCKET_TYPE_MASK: u64 = 0xf;
const PR_SET_PDEATHSIG: u64 = 1;
/// `F_SETOWN`, `F_SETSIG` and `F_SETOWN_EX`: they make the kernel send a signal of choice to a process of choice.
const FCNTL_REFUSED: [u64; 3] = [8, 10, 15];
/// `TIOCSTI` and `TIOCLINUX` type into a terminal; `FIOSETOWN` and `SIOCSPGRP` do what `F_SETOWN` does; the last two,
/// `FS_IOC_SETFLAGS` and `FS_IOC_FSSETXATTR`, change attributes of a file that is only readable.
const IOCTL_REFUSED: [u64; 6] = [0x5412, 0x541c, 0x8901, 0x8902, 0x4008_6602, 0x401c_5820];
const PRIO_USER: u64 = 2;
const IOPRIO_WHO_USER: u64 = 3;

/// `MAP_SHARED` with `MAP_ANONYMOUS`, and `MAP_HUGETLB`: memory that stays when a process gives its pages back and is then part
/// of no resident size, and memory that is never part of one. Programs share memory through `/dev/shm` instead, which is small.
const MMAP_REFUSED: [u64; 2] = [0x21, 0x4_0000];

/// The filters, ready to be applied.
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Builds the filters. `signals_are_scoped` says that Landlock refuses signals to other programs; without it, a signal
    /// may only go to the sender itself and to its own group.
    ///
    /// # Errors
    /// The reason in a sentence.
    pub(crate) fn new(signals_are_scoped: bool) -> Result<Self, String> {
        // Reading the mode fails in a kernel that was built without seccomp.
        rustix::thread::secure_computing_mode().map_err(|_| "this kernel does not have seccomp".to_string())?;
        let architecture = TargetArch::try_from(std::env::consts::ARCH)
            .map_err(|_| format!("seccomp filters are not known for {}", std::env::consts::ARCH))?;
        let failed = |error: seccompiler::BackendError| format!("the seccomp filter cannot be built: {error}");
        let refused = filter(rules(signals_are_scoped).map_err(failed)?, libc::EPERM, architecture).map_err(failed)?;
        // The flags of clone3 lie in memory, where a filter cannot see them. libc uses clone if clone3 does not exist.
        let absent = filter(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS, architecture).map_err(failed)?;
        Ok(Self(vec![refused, absent]))
    }

    /// Applies the filters to this process and to everything that it will start. They cannot be taken back.
    pub(crate) fn apply(&self) -> Result<(), String> {
        let apply = |program| seccompiler::apply_filter(program);
        self.0.iter().try_for_each(|program| apply(program)).map_err(|error| format!("the seccomp filter was refused: {error}"))
    }
}

/// Compiles rules into a filter that answers a match with an error.
fn filter(rules: Rules, errno: i32, architecture: TargetArch) -> Built<BpfProgram> {
    let errno = SeccompAction::Errno(errno.unsigned_abs());
    let mut program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture)?.try_into()?;
    if architecture == TargetArch::x86_64 {
        // The x32 calls have numbers of their own, which no rule knows. Jumps are relative, so more may stand before them.
        program.splice(0..0, refuse_x32());
    }
    Ok(program)
}

/// Loads the number of the call, and refuses it with `ENOSYS` if it has the bit of x32.
fn refuse_x32() -> [sock_filter; 3] {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    const RETURN_ERRNO: u32 = 0x0005_0000;
    [
        sock_filter { code: LOAD_WORD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_GREATER_OR_EQUAL, jt: 0, jf: 1, k: X32_BIT },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: RETURN_ERRNO | libc::ENOSYS.unsigned_abs() },
    ]
}

fn rules(signals_are_scoped: bool) -> Built<Rules> {
    // An empty list of conditions matches every use of the call.
    let mut rules: Rules = REFUSED.iter().chain(REFUSED_OLD).chain(&REFUSED_NEW).map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, socket_rules()?);
    rules.insert(libc::SYS_socketpair, socketpair_rules()?);
    let clone = CLONE_REFUSED.iter().map(|flag| one(0, SeccompCmpOp::MaskedEq(*flag), *flag));
    rules.insert(libc::SYS_clone, clone.collect::<Built<_>>()?);
    let mmap = MMAP_REFUSED.iter().map(|flags| one(3, SeccompCmpOp::MaskedEq(*flags), *flags));
    rules.insert(libc::SYS_mmap, mmap.collect::<Built<_>>()?);
    rules.insert(libc::SYS_prctl, vec![one(0, SeccompCmpOp::Eq, PR_SET_PDEATHSIG)?]);
    let command_is = |value: &u64| one(1, SeccompCmpOp::Eq, *value);
    rules.insert(libc::SYS_fcntl, FCNTL_REFUSED.iter().map(command_is).collect::<Built<_>>()?);
    rules.insert(libc::SYS_ioctl, IOCTL_REFUSED.iter().map(command_is).collect::<Built<_>>()?);
    // Process 0 is the caller itself. Another process of the same user could be slowed down or stopped by these.
    for call in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ] {
        rules.insert(call, vec![one(0, SeccompCmpOp::Ne, 0)?]);
    }
    for (call, whole_user) in [(libc::SYS_setpriority, PRIO_USER), (libc::SYS_ioprio_set, IOPRIO_WHO_USER)] {
        rules.insert(call, vec![one(0, SeccompCmpOp::Eq, whole_user)?, one(1, SeccompCmpOp::Ne, 0)?]);
    }
    if !signals_are_scoped {
        let own = u64::from(std::process::id());
        rules.insert(libc::SYS_kill, vec![all(&[(0, SeccompCmpOp::Ne, 0), (0, SeccompCmpOp::Ne, own)])?]);
        rules.insert(libc::SYS_tgkill, vec![one(0, SeccompCmpOp::Ne, own)?]);
        for call in [libc::SYS_tkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_pidfd_send_signal] {
            rules.insert(call, Vec::new());
        }
    }
    Ok(rules)
}

/// Only TCP over IPv4 and IPv6. A protocol other than the default one would be MPTCP or SCTP, which Landlock does not see.
fn socket_rules() -> Built<Vec<SeccompRule>> {
    let domain = |family: i32| (0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs()));
    let mut rules = vec![all(&[domain(libc::AF_INET), domain(libc::AF_INET6)])?];
    rules.extend(types_except(&[libc::SOCK_STREAM])?);
    rules.push(all(&[(2, SeccompCmpOp::Ne, 0), (2, SeccompCmpOp::Ne, u64::from(libc::IPPROTO_TCP.unsigned_abs()))])?);
    Ok(rules)
}

/// Only pairs that stay pairs: a datagram socket of a pair could still send to the socket of a service.
fn socketpair_rules() -> Built<Vec<SeccompRule>> {
    let mut rules = vec![one(0, SeccompCmpOp::Ne, u64::from(libc::AF_UNIX.unsigned_abs()))?];
    rules.extend(types_except(&[libc::SOCK_STREAM, libc::SOCK_SEQPACKET])?);
    Ok(rules)
}

/// A rule for each type of socket that is not allowed: a filter cannot compare masked bits for inequality.
fn types_except(allowed: &[i32]) -> Built<Vec<SeccompRule>> {
    let refused = (0..=SOCKET_TYPE_MASK).filter(|kind| !allowed.iter().any(|one| u64::from(one.unsigned_abs()) == *kind));
    refused.map(|kind| one(1, SeccompCmpOp::MaskedEq(SOCKET_TYPE_MASK), kind)).collect()
}

/// A rule with one condition on the lower half of an argument, which is all that the kernel reads of an `int`.
fn one(argument: u8, operator: SeccompCmpOp, value: u64) -> Built<SeccompRule> {
    all(&[(argument, operator, value)])
}

/// A rule whose conditions all have to hold.
fn all(conditions: &[(u8, SeccompCmpOp, u64)]) -> Built<SeccompRule> {
    let condition = |(argument, operator, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    };
    SeccompRule::new(conditions.iter().map(condition).collect::<Built<_>>()?)
}
