//! Returns free memory to the system. The only unsafe code of the crate.

#![expect(unsafe_code, reason = "the standard library has no safe call for malloc_trim")]

/// Returns the memory that a burst of work has freed to the system. This takes a few milliseconds, so call it when no
/// work is waiting.
///
/// The C library keeps freed memory for later allocations. A daemon that has just planned 100,000 connections
/// does not need it again soon.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn release_free() {
    // SAFETY: `malloc_trim` takes a number, does its own locking and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other C libraries return free memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn release_free() {}
