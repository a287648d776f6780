//! Runs the command line and exits with its code.

fn main() -> std::process::ExitCode {
    aam::cli::main()
}
