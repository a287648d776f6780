//! Memory that a burst of work leaves behind.
//!
//! glibc keeps freed memory for later. After a hundred thousand intents that was a third of what the process
//! held, and the next such burst may be weeks away.

/// Gives free memory back to the system. Takes some milliseconds: call it when nothing waits.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the one call of the allocator that Rust has no word for")]
pub fn give_back() {
    // SAFETY: `malloc_trim` takes a number, locks the allocator itself and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
