//! The system calls that are refused whatever their arguments are.

use libc::c_long;

/// A list of the numbers that belong to the names.
macro_rules! refused {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Calls that every architecture has.
pub(super) const REFUSED: &[c_long] = refused! {
    // Out of the process group, which is ended as a whole.
    SYS_setsid SYS_setpgid
    // Into other processes.
    SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_process_mrelease SYS_kcmp
    SYS_pidfd_getfd SYS_migrate_pages SYS_move_pages
    // Around this filter: requests in a ring are not system calls.
    SYS_io_uring_setup SYS_io_uring_enter SYS_io_uring_register
    // Into other namespaces and file systems.
    SYS_unshare SYS_setns SYS_mount SYS_umount2 SYS_move_mount SYS_open_tree SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick
    SYS_mount_setattr SYS_pivot_root SYS_chroot SYS_open_by_handle_at SYS_name_to_handle_at
    // Into the kernel.
    SYS_bpf SYS_userfaultfd SYS_perf_event_open SYS_kexec_load SYS_init_module SYS_finit_module
    SYS_delete_module SYS_syslog SYS_lookup_dcookie SYS_quotactl SYS_quotactl_fd SYS_acct SYS_swapon SYS_swapoff SYS_reboot
    SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex SYS_sethostname SYS_setdomainname SYS_vhangup
    SYS_nfsservctl
    // Secrets that other programs of the same user keep in the kernel.
    SYS_keyctl SYS_add_key SYS_request_key
    // Objects that the programs of a user share by name.
    SYS_shmget SYS_shmat SYS_shmctl SYS_semget SYS_semop SYS_semctl SYS_semtimedop SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl
    SYS_mq_open SYS_mq_unlink
    // Files in memory: neither a limit of this crate nor the resident size of a process counts what is written there.
    SYS_memfd_create SYS_memfd_secret
    // Connections that end in the program itself: what waits in their buffers is memory of the kernel, which nothing counts. The
    // listener of the proxy is the launcher's.
    SYS_bind SYS_listen SYS_accept SYS_accept4
    // What happens to files that the program may not read.
    SYS_fanotify_init SYS_inotify_add_watch
    // Mode, owner, attributes and times of files: Landlock does not check these, and the caller's own files have the
    // same owner as the program.
    SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_utimensat SYS_setxattr SYS_lsetxattr SYS_fsetxattr
    SYS_removexattr SYS_lremovexattr SYS_fremovexattr
    // Another identity. Nothing of it would be granted; refusing it says so.
    SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups SYS_setfsuid SYS_setfsgid
};

/// Calls that x86 has beside the ones above.
#[cfg(target_arch = "x86_64")]
pub(super) const REFUSED_OLD: &[c_long] = refused! {
    SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_utimes SYS_futimesat SYS_iopl SYS_ioperm SYS_modify_ldt
    SYS_kexec_file_load SYS_uselib SYS_ustat SYS__sysctl
};
/// `kexec_file_load` has this number everywhere else, and libc does not name it everywhere.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const REFUSED_OLD: &[c_long] = &[294];

/// Calls that libc does not name everywhere yet; their numbers are the same everywhere: `fchmodat2`, `setxattrat`,
/// `removexattrat`, `open_tree_attr` and `file_setattr`.
pub(super) const REFUSED_NEW: [c_long; 5] = [452, 463, 466, 467, 469];
