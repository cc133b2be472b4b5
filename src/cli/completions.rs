//! `tollgate completions SHELL`.

use std::process::ExitCode;

pub fn run(shell: clap_complete::Shell) -> ExitCode {
    clap_complete::generate(shell, &mut super::command(), "tollgate", &mut std::io::stdout());
    ExitCode::SUCCESS
}
