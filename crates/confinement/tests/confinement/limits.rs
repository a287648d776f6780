//! What a program may use up.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use confinement::{End, Launcher, Usage, Weaker};

use crate::{ATTEMPTS, enforceable, finish, launcher, lines, not_run, python_plan, run, shell_plan, spawn, until};

#[tokio::test]
async fn memory_beyond_the_limit_is_not_given() {
    if !enforceable("memory").await {
        return;
    }
    let script = "
bytearray(10 << 20)
try:
    bytearray(200 << 20)
    print('given')
except MemoryError:
    print('refused')
";
    let (mut plan, _directory) = python_plan(script);
    plan.limits.memory = 100 << 20;
    assert_eq!(lines(&run(&plan).await), ["refused"]);
    plan.limits.memory = 400 << 20;
    assert_eq!(lines(&run(&plan).await), ["given"]);
}

#[tokio::test]
async fn processor_time_ends_also_for_a_program_that_ignores_the_warning() {
    if !enforceable("processor time").await {
        return;
    }
    let (mut plan, _directory) = python_plan("while True: pass");
    plan.limits.cpu_seconds = 1;
    assert_eq!(run(&plan).await.status.signal(), Some(libc::SIGXCPU));
    let (mut plan, _directory) = python_plan("import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass");
    plan.limits.cpu_seconds = 1;
    assert_eq!(run(&plan).await.status.signal(), Some(libc::SIGKILL));
}

#[tokio::test]
async fn large_files_many_files_and_core_dumps_are_refused() {
    if !enforceable("files").await {
        return;
    }
    let script = format!(
        "{ATTEMPTS}
import os, resource
def large():
    with open('large', 'wb', buffering=0) as file:
        for _ in range(3):
            file.write(bytes(1 << 20))
attempt('large', large)
attempt('many', lambda: [os.open('/dev/null', os.O_RDONLY) for _ in range(100)])
print(resource.getrlimit(resource.RLIMIT_CORE))
attempt('raise', lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000)))
"
    );
    let (mut plan, directory) = python_plan(&script);
    plan.limits.file_bytes = 2 << 20;
    plan.limits.open_files = 40;
    let outcome = run(&plan).await;
    // Python says "not allowed to raise maximum limit" with an error of another kind, which ends the script.
    assert!(outcome.stderr.contains("not allowed to raise") && !outcome.status.success(), "{outcome:?}");
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), ["large EFBIG", "many EMFILE", "(0, 0)"]);
    assert_eq!(std::fs::metadata(directory.path().join("large")).unwrap().len(), 2 << 20);
}

#[tokio::test]
async fn usage_counts_the_whole_group() {
    if !enforceable("usage").await {
        return;
    }
    let script = "
import os, time
for _ in range(2):
    if os.fork() == 0:
        break
data = bytearray(b'x') * (50 << 20)
time.sleep(60)
";
    let (plan, _directory) = python_plan(script);
    let mut confined = spawn(&plan).await.unwrap();
    let process = &confined.process;
    until("three processes hold 150 MB", || {
        let usage = process.usage().unwrap();
        usage.processes == 3 && usage.resident_bytes > 150 << 20
    })
    .await;
    confined.process.end(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(confined.process.usage().unwrap().processes, 0);
}

/// Python's `multiprocessing` shares memory this way.
#[tokio::test]
async fn shared_memory_is_counted_and_small() {
    if !enforceable("shared memory").await {
        return;
    }
    let script = format!(
        "{ATTEMPTS}
import mmap, time
file = open('/dev/shm/shared', 'w+b')
file.truncate(12 << 20)
shared = mmap.mmap(file.fileno(), 12 << 20)
shared.write(b'x' * (12 << 20))
attempt('large', lambda: open('/dev/shm/large', 'wb', buffering=0).write(b'x' * (1 << 20)) and open('/dev/shm/larger', 'wb', buffering=0).write(b'x' * (8 << 20)) == 8 << 20 or print('cut'))
attempt('zero', lambda: open('/dev/zero', 'rb'))
attempt('anonymous', lambda: mmap.mmap(-1, 1 << 20))
time.sleep(600)
"
    );
    let (plan, _directory) = python_plan(&script);
    let mut confined = spawn(&plan).await.unwrap();
    let mut output = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(&mut confined.stdout));
    for expected in ["cut", "large allowed", "zero EACCES", "anonymous EPERM"] {
        assert_eq!(output.next_line().await.unwrap().as_deref(), Some(expected));
    }
    let (used, alone) = (confined.process.usage().unwrap(), 12_u64 << 20);
    assert!(used.resident_bytes > alone + (4 << 20), "{used:?}");
    confined.process.end(std::time::Duration::ZERO).await.unwrap();
}

/// A connection within the program would hold its buffers. It cannot accept one.
#[tokio::test]
async fn connections_hold_little_memory_of_the_kernel() {
    if !enforceable("connections").await {
        return;
    }
    let settings = rustix::fs::statvfs("/proc/sys/net").map(|found| found.f_flag);
    if settings.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY)) {
        return not_run("connections", "/proc/sys is read-only here");
    }
    let script = "
import os, socket, urllib.parse
try:
    socket.socket().listen()
    print('listens')
except PermissionError:
    print('refused')
proxy = urllib.parse.urlsplit(os.environ['HTTP_PROXY'])
sent, waiting = 0, []
for _ in range(16):
    waiting.append(socket.create_connection((proxy.hostname, proxy.port), 5))
    waiting[-1].setblocking(False)
    try:
        while True:
            sent += waiting[-1].send(bytes(1 << 16))
    except BlockingIOError:
        pass
print(sent < 16 << 20)
";
    let (mut plan, _directory) = python_plan(script);
    plan.environment.push(("HTTP_PROXY".to_string(), "{proxy}".to_string()));
    assert_eq!(lines(&run(&plan).await), ["refused", "True"]);
}

#[tokio::test]
async fn a_group_that_exceeds_the_sum_is_killed() {
    if !enforceable("sum").await {
        return;
    }
    let bounds = Usage { resident_bytes: 200 << 20, processes: 5, threads: 50, descriptors: 200, ..Usage::default() };
    let bomb = "import os, time\nfor _ in range(6): os.fork()\ntime.sleep(600)";
    let eater = "import os, time\nfor _ in range(2): os.fork()\ndata = bytearray(b'x') * (100 << 20)\ntime.sleep(600)";
    // What waits in its sockets is memory of the kernel.
    let sockets = "import socket, time\npairs = [socket.socketpair() for _ in range(120)]\ntime.sleep(600)";
    let threads = "import threading, time\nfor _ in range(60): threading.Thread(target=time.sleep, args=(600,)).start()";
    // The first thread ends, and then the kernel says of the process itself that it has ended.
    let hidden = "import ctypes, threading, time
def eat():
    time.sleep(0.2)
    data = bytearray(b'x') * (300 << 20)
    time.sleep(600)
threading.Thread(target=eat).start()
ctypes.CDLL(None).syscall(60, 0)";
    for script in [bomb, eater, sockets, threads, hidden] {
        let (plan, _directory) = python_plan(script);
        let mut confined = spawn(&plan).await.unwrap();
        let end = confined.process.wait_within(bounds).await.unwrap();
        assert!(matches!(end, End::Exceeded(usage) if usage.exceeds(&bounds)), "{end:?}");
        let id = rustix::process::Pid::from_raw(confined.process.id()).unwrap();
        until("the group is gone", || rustix::process::test_kill_process_group(id).is_err()).await;
    }
    let (plan, _directory) = python_plan("raise SystemExit(3)");
    let end = spawn(&plan).await.unwrap().process.wait_within(bounds).await.unwrap();
    assert!(matches!(end, End::Exited(status) if status.code() == Some(3)), "{end:?}");
}

/// The kernel does not count the processes of root, so the launcher runs as another user here.
#[tokio::test]
async fn processes_beyond_the_limit_are_refused_to_a_user_other_than_root() {
    let name = "processes beyond the limit";
    if !enforceable(name).await {
        return;
    }
    let root = rustix::process::geteuid().is_root();
    if root && !Path::new("/usr/bin/setpriv").exists() {
        return not_run(name, "this runs as root and setpriv is not installed");
    }
    let script = "i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done; echo all started";
    let (mut plan, directory) = shell_plan(script);
    plan.limits.processes = 8;
    plan.environment.push(("PATH".to_string(), "/usr/bin:/bin".to_string()));
    let place = tempfile::tempdir().unwrap();
    let mut launcher: Launcher = launcher();
    if root {
        let copy = place.path().join("launcher");
        std::fs::copy(&launcher.program, &copy).unwrap();
        std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
        let arguments = ["--reuid", "65534", "--regid", "65534", "--clear-groups", copy.to_str().unwrap()];
        launcher = Launcher { program: "/usr/bin/setpriv".into(), arguments: arguments.map(String::from).to_vec() };
    }
    let confined = confinement::spawn(&launcher, &plan, Weaker::Refused).await.unwrap();
    let outcome = finish(confined).await;
    assert!(!outcome.stdout.contains("all started"), "{outcome:?}");
    assert!(outcome.stderr.to_lowercase().contains("fork"), "{outcome:?}");
}
