//! Calls that reach into other processes or into the kernel, and privileges.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::{ATTEMPTS, enforceable, lines, python_lines, python_plan, run};

/// Calls a system call by its number and prints its name with the name of the error.
const CALL: &str = "
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments])
    print(name, 'allowed' if result >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)
";

#[tokio::test]
async fn dangerous_calls_are_refused_before_the_kernel_looks_at_them() {
    if !enforceable("system calls").await {
        return;
    }
    let calls = [
        ("setsid", libc::SYS_setsid),
        ("setpgid", libc::SYS_setpgid),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("mount", libc::SYS_mount),
        ("open_tree", libc::SYS_open_tree),
        ("chroot", libc::SYS_chroot),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("shmget", libc::SYS_shmget),
        ("mq_open", libc::SYS_mq_open),
        ("inotify_add_watch", libc::SYS_inotify_add_watch),
        ("fchmodat2", 452),
        ("file_setattr", 469),
        ("setuid", libc::SYS_setuid),
        ("memfd_create", libc::SYS_memfd_create),
        ("bind", libc::SYS_bind),
        ("listen", libc::SYS_listen),
        ("accept", libc::SYS_accept),
        ("accept4", libc::SYS_accept4),
    ];
    let mut script = CALL.to_string();
    for (name, number) in calls {
        script.push_str(&format!("call({name:?}, {number}, 0, 0, 0, 0, 0)\n"));
    }
    let expected: Vec<String> = calls.iter().map(|(name, _)| format!("{name} EPERM")).collect();
    assert_eq!(python_lines(&script).await, expected);
}

#[tokio::test]
async fn dangerous_arguments_are_refused_and_harmless_ones_are_not() {
    if !enforceable("system calls").await {
        return;
    }
    let (clone, clone3, prctl, fcntl) = (libc::SYS_clone, libc::SYS_clone3, libc::SYS_prctl, libc::SYS_fcntl);
    let (prlimit, setpriority, ioctl) = (libc::SYS_prlimit64, libc::SYS_setpriority, libc::SYS_ioctl);
    let mmap = libc::SYS_mmap;
    let script = format!(
        "{CALL}
import os, signal, threading
call('new user namespace', {clone}, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
call('new network namespace', {clone}, 0x40000000 | signal.SIGCHLD, 0, 0, 0, 0)
call('child of the caller', {clone}, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0)
call('clone3', {clone3}, 0, 0)
call('outlive the caller', {prctl}, 1, 0, 0, 0, 0)
call('signal on input', {fcntl}, 0, 8, 1)
call('type into a terminal', {ioctl}, 0, 0x5412, 0)
call('own limit', {prlimit}, 0, 7, 0, 0)
call('limit of the parent', {prlimit}, os.getppid(), 7, 0, 0)
call('slow down the user', {setpriority}, 2, 0, 19)
call('slow down itself', {setpriority}, 0, 0, 19)
call('private memory', {mmap}, 0, 4096, 3, 0x22, -1, 0)
call('shared memory without a file', {mmap}, 0, 4096, 3, 0x21, -1, 0)
call('memory in huge pages', {mmap}, 0, 2 << 20, 3, 0x40022, -1, 0)
thread = threading.Thread(target=print, args=('a thread runs',))
thread.start()
thread.join()
if os.fork() == 0:
    os._exit(0)
print('a child ends with', os.wait()[1])
"
    );
    let expected = [
        "new user namespace EPERM",
        "new network namespace EPERM",
        "child of the caller EPERM",
        "clone3 ENOSYS",
        "outlive the caller EPERM",
        "signal on input EPERM",
        "type into a terminal EPERM",
        "own limit allowed",
        "limit of the parent EPERM",
        "slow down the user EPERM",
        "slow down itself allowed",
        "private memory allowed",
        "shared memory without a file EPERM",
        "memory in huge pages EPERM",
        "a thread runs",
        "a child ends with 0",
    ];
    assert_eq!(python_lines(&script).await, expected);
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn numbers_of_another_calling_convention_do_not_lead_around_the_filter() {
    if !enforceable("x32").await {
        return;
    }
    // getpid is harmless and allowed by its usual number.
    let script = format!("{CALL}\ncall('usual', 39)\ncall('x32', 0x40000000 + 39)\ncall('x32 setsid', 0x40000000 + 112)\n");
    assert_eq!(python_lines(&script).await, ["usual allowed", "x32 ENOSYS", "x32 setsid ENOSYS"]);
}

#[tokio::test]
async fn a_process_of_the_same_user_gets_no_signal() {
    if !enforceable("signals").await {
        return;
    }
    let mut victim = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let script = format!(
        "{ATTEMPTS}
import os, signal
victim = {victim}
attempt('kill', lambda: os.kill(victim, signal.SIGKILL))
attempt('pidfd', lambda: signal.pidfd_send_signal(os.pidfd_open(victim), signal.SIGKILL))
attempt('parent', lambda: os.kill(os.getppid(), signal.SIGKILL))
child = os.fork()
if child == 0:
    signal.pause()
attempt('child', lambda: os.kill(child, signal.SIGKILL))
print(os.waitpid(child, 0)[1])
",
        victim = victim.id()
    );
    // The other processes do not exist where the program is. Its parent is the first process there, which no signal ends.
    assert_eq!(python_lines(&script).await, ["kill ESRCH", "pidfd ESRCH", "parent allowed", "child allowed", "9"]);
    assert!(victim.try_wait().unwrap().is_none(), "the other process has ended");
    victim.kill().unwrap();
    assert_eq!(victim.wait().unwrap().signal(), Some(libc::SIGKILL));
}

#[tokio::test]
async fn the_program_has_no_privileges_and_is_not_root() {
    if !enforceable("privileges").await {
        return;
    }
    let script = "
wanted = ('Uid', 'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Umask')
for line in open('/proc/self/status'):
    name, value = line.split(':')
    if name in wanted:
        print(name, value.split()[0])
";
    let (mut plan, _directory) = python_plan(script);
    plan.readable.push("/proc".into());
    let zero = "0000000000000000";
    let mut expected = vec!["Umask 0077".to_string(), "Uid 1000".to_string()];
    expected.extend(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|name| format!("{name} {zero}")));
    expected.extend(["NoNewPrivs 1".to_string(), "Seccomp 2".to_string()]);
    assert_eq!(lines(&run(&plan).await), expected);
}
