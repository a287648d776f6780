//! Where memory comes from, and how what a burst of work leaves behind goes back. The only unsafe code.
//!
//! The daemon has mimalloc: a thousand attempts over two threads took a quarter less processor with it than with
//! the C library's allocator, most of it in blocks that one thread takes and another frees. `aam lowcode` is a
//! short process of one thread that is held to its peak memory, and the C library packs half a megabyte tighter.
//! So the command line decides, once, before the first block is given out: each block goes back to where it came
//! from.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait, and Rust has no word for malloc_trim")]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

struct Chosen;

#[global_allocator]
static ALLOCATOR: Chosen = Chosen;

const UNKNOWN: u8 = 0;
const SMALL: u8 = 1;
const FAST: u8 = 2;

/// `mi_option_arena_eager_commit` of mimalloc.h, version 2, which the bindings do not name: with it the memory of a
/// burst stays with the process, 58 in place of 33 MB after 10,000 connections.
const ARENA_EAGER_COMMIT: libmimalloc_sys::mi_option_t = 4;

static CHOICE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether blocks come from the C library. The answer never changes: a process keeps its command line, and two
/// threads that ask first find the same.
#[inline]
fn small() -> bool {
    match CHOICE.load(Ordering::Relaxed) {
        UNKNOWN => choose(),
        choice => choice == SMALL,
    }
}

#[cold]
fn choose() -> bool {
    let small = is_command();
    if !small {
        // SAFETY: sets one number, before the first block is asked for.
        unsafe { libmimalloc_sys::mi_option_set(ARENA_EAGER_COMMIT, 0) };
    }
    CHOICE.store(if small { SMALL } else { FAST }, Ordering::Relaxed);
    small
}

/// Whether this is `aam lowcode ...`. Nothing may be allocated to find out.
#[cfg(target_os = "linux")]
fn is_command() -> bool {
    let mut line = [0u8; 4096];
    // SAFETY: the path ends with a zero; `read` writes at most as many bytes as the buffer has.
    let read = unsafe {
        let file = libc::open(c"/proc/self/cmdline".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return false;
        }
        let read = libc::read(file, line.as_mut_ptr().cast(), line.len());
        libc::close(file);
        read
    };
    is_lowcode(usize::try_from(read).ok().and_then(|read| line.get(..read)).unwrap_or_default())
}

/// `line` is a command line as the system tells it: a zero after each word.
#[cfg(any(target_os = "linux", test))]
fn is_lowcode(line: &[u8]) -> bool {
    line.split(|byte| *byte == 0).nth(1) == Some(b"lowcode".as_slice())
}

#[cfg(not(target_os = "linux"))]
fn is_command() -> bool {
    false
}

// SAFETY: both allocators keep the contract of the trait, and one process uses one of them.
unsafe impl GlobalAlloc for Chosen {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is handed on, here and below.
        unsafe { if small() { System.alloc(layout) } else { MiMalloc.alloc(layout) } }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `small` answers as it did when the block was given out.
        unsafe { if small() { System.dealloc(block, layout) } else { MiMalloc.dealloc(block, layout) } }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { if small() { System.alloc_zeroed(layout) } else { MiMalloc.alloc_zeroed(layout) } }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `dealloc`.
        unsafe { if small() { System.realloc(block, layout, size) } else { MiMalloc.realloc(block, layout, size) } }
    }
}

/// Gives free memory back to the system: mimalloc does so by itself, SQLite's comes from the C library. Takes some
/// milliseconds: call it when nothing waits.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: `malloc_trim` takes a number, locks the allocator itself and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_short_command_packs_tightly() {
        assert!(is_lowcode(b"/usr/bin/aam\0lowcode\0read\0"));
        for other in [b"aam\0serve\0".as_slice(), b"aam\0", b"", b"aam\0once\0lowcode\0", b"lowcode\0"] {
            assert!(!is_lowcode(other));
        }
        // This process is not that command, and its choice stands.
        assert!(!small() && !small());
    }
}
