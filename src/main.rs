//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    aam::cli::main()
}
