//! Arguments in, exit code out.

/// Attempts are made on one thread and dropped on another, thousands a second; memory of a burst goes
/// back to the system. It also serves the SQLite that is compiled in.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    aam::cli::main()
}
