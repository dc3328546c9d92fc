//! The program. It only returns the exit code; the library does everything else.

use std::process::ExitCode;

fn main() -> ExitCode {
    wf0_agent::commands::main()
}
