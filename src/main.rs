//! Runs the command line and exits with its code.

fn main() -> std::process::ExitCode {
    // AAM starts itself again to confine a connector. A process with threads cannot do that, so this comes before all else.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == aam::connectors::airbyte::LAUNCH_ARGUMENT) {
        return confinement::launch();
    }
    aam::cli::main()
}
