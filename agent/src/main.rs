//! The program `planasonix-agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    planasonix_agent::core_dumps::forbid();
    planasonix_agent::main()
}
