//! The binary of the trials.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    trials::commands::main()
}
