//! The limit on open files of this process, and how many attempts it leaves room for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that everything but the attempts may use: the registry, the watched folders, and the connections of the
/// API, of which there are at most 512.
const RESERVED_FILES: u64 = 700;
/// The files of one attempt: the socket of its current call, and one that is kept open for the next call to the same
/// host.
const FILES_PER_ATTEMPT: u64 = 2;

/// Raises the soft limit on open files to the hard limit. Most systems start a process with a soft limit of 1,024,
/// for the sake of programs that use `select(2)`. AAM uses epoll.
fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    }
}

/// How many attempts may run at the same time, so that none of them fails because the process has no file left.
#[must_use]
pub fn max_attempts() -> usize {
    attempts_within(raise_limit())
}

/// The number of attempts that `files` open files allow. `None` stands for no limit.
fn attempts_within(files: Option<u64>) -> usize {
    let attempts = files.map_or(u64::MAX, |files| files.saturating_sub(RESERVED_FILES) / FILES_PER_ATTEMPT);
    usize::try_from(attempts).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_bounds_the_attempts() {
        assert_eq!(attempts_within(Some(1024)), 162);
        assert_eq!(attempts_within(Some(20_000)), 9650);
        assert_eq!(attempts_within(Some(256)), 1);
        assert_eq!(attempts_within(None), usize::MAX);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_limit() {
        raise_limit();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
