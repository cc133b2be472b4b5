//! The command line: one sub-command a file. Data goes to stdout, everything else to stderr.
//!
//! Exit codes: 0 done, 1 the input is at fault, 2 usage, 3 the gateway could not be reached.

mod ask;
mod check;
mod completions;
mod demo;
mod explain;
mod files;
mod keys;
mod logs;
mod schema;
mod serve;
mod status;
mod table;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// One gate between applications and every model and tool they use.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, propagate_version = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (SIGHUP or a changed file: reload; SIGTERM: drain; SIGQUIT: hand over).
    Serve(Serve),
    /// Validate a configuration: every error with file:line:column, what is wrong and what to write.
    Check(ConfigFile),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// How the running gateway is: providers, targets, breakers, endpoints.
    Status(status::Arguments),
    /// What would become of a request: key, rule, targets in order, losses, price. Nothing is sent.
    Explain(explain::Arguments),
    /// What was spent: sums by model, key, team, ..; one call's arithmetic; a period at other prices.
    Usage(usage::Arguments),
    /// Virtual keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Run the gateway with built-in simulated providers: the first request works with no account.
    Demo(demo::Demo),
    /// Print a shell's completion script.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Default, Args)]
struct ConfigFile {
    /// Configuration file [default: tollgate.yaml here, then in the usual config folders].
    #[arg(short, long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
    config: Option<PathBuf>,
}

#[derive(Debug, Default, Args)]
struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// Take the listeners over from the running process, which is then sent SIGQUIT.
    #[arg(long)]
    upgrade: bool,
}

/// Run the program.
pub fn run() -> ExitCode {
    // before anything that could make a TLS connection
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(file) => match files::find(file.config.as_deref()) {
            Some(path) => check::run(&path),
            None => {
                eprintln!("tollgate: no configuration file; name one with -c FILE");
                ExitCode::from(2)
            }
        },
        Command::Schema => schema::run(),
        Command::Status(arguments) => status::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Usage(arguments) => usage::run(&arguments),
        Command::Keys(command) => keys::run(&command),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Completions { shell } => completions::run(shell),
    }
}

/// Tell every error of a configuration, and how many there are.
fn complain(errors: &[crate::config::ConfigError]) -> ExitCode {
    for error in errors {
        eprintln!("{error}");
    }
    eprintln!("tollgate: {} error{} in the configuration", errors.len(), if errors.len() == 1 { "" } else { "s" });
    ExitCode::from(1)
}

fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
