//! `tollgate keys`: make a virtual key and the line of the configuration that knows it.

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::{Secret, keys};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key. It is shown once; the configuration keeps its hash.
    New {
        /// Name of the key, for logs.
        #[arg(long, default_value = "my-key")]
        name: String,
    },
    /// Print the hash of a key read from standard input.
    Hash,
}

pub fn run(command: &Command) -> ExitCode {
    let pepper = match std::env::var("TOLLGATE_PEPPER") {
        Ok(pepper) if !pepper.is_empty() => Some(Secret::new(pepper)),
        _ => None,
    };
    match command {
        Command::New { name } => {
            let key = keys::generate();
            println!("{}", key.expose());
            match pepper {
                Some(pepper) => {
                    let hash = hex::encode(keys::hash(&pepper, key.expose()));
                    eprintln!(
                        "\nShown once. In the configuration:\n\n  - {{name: {name:?}, hash: \"hmac-sha256:{hash}\"}}"
                    );
                }
                None => eprintln!(
                    "\nShown once. Put it in the environment of the gateway, and in the configuration:\n\n  - {{name: {name:?}, key: \"${{MY_KEY}}\"}}\n\n\
                     To keep only its hash, set TOLLGATE_PEPPER (and `auth: {{pepper: \"${{TOLLGATE_PEPPER}}\"}}`) and run this again."
                ),
            }
            ExitCode::SUCCESS
        }
        Command::Hash => {
            let Some(pepper) = pepper else {
                eprintln!("tollgate: set TOLLGATE_PEPPER to the pepper of the configuration first");
                return ExitCode::from(2);
            };
            let mut key = String::new();
            if let Err(error) = std::io::stdin().read_line(&mut key) {
                eprintln!("tollgate: {error}");
                return ExitCode::from(1);
            }
            let key = key.trim();
            if key.len() < 16 {
                eprintln!("tollgate: a key has at least 16 characters");
                return ExitCode::from(1);
            }
            println!("hmac-sha256:{}", hex::encode(keys::hash(&pepper, key)));
            ExitCode::SUCCESS
        }
    }
}
