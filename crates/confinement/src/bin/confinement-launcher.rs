//! The launcher of this crate's tests. A program that uses the crate starts itself instead.

fn main() -> std::process::ExitCode {
    confinement::launch()
}
