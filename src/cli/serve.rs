//! `tollgate serve`, and `tollgate` alone.

use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use super::{Serve, complain, files, logs};
use crate::app::{self, Start};
use crate::config::watch::{Live, watch};
use crate::config::{self, Environment, keys};

/// Where Ollama listens unless told otherwise.
const OLLAMA: ([u8; 4], u16) = ([127, 0, 0, 1], 11434);

pub fn run(arguments: &Serve) -> ExitCode {
    let start = if arguments.upgrade { Start::Upgrade } else { Start::Fresh };
    match files::find(arguments.file.config.as_deref()) {
        Some(path) => {
            let environment = Environment::process();
            let live = match config::load(&path, &environment) {
                Ok(checked) => Live::new(checked, Some(path.clone()), environment),
                Err(errors) => return complain(&errors),
            };
            logs::start(&live.load().log);
            tracing::info!("configuration {}", path.display());
            if let Err(error) = watch(&live) {
                tracing::error!("the configuration is not watched: {error}");
            }
            app::run(live, start)
        }
        None => from_environment(start),
    }
}

/// No file: the providers whose keys are in the environment, loopback only, one key, shown once.
fn from_environment(start: Start) -> ExitCode {
    let ollama = TcpStream::connect_timeout(&SocketAddr::from(OLLAMA), Duration::from_millis(200)).is_ok();
    let ollama = ollama.then(|| format!("http://127.0.0.1:{}/v1", OLLAMA.1));
    let key = keys::generate();
    let checked = match config::from_environment(&Environment::process(), &key, ollama.as_deref()) {
        Ok(None) => {
            eprintln!(
                "tollgate: no configuration file (tollgate.yaml), and no provider's key in the environment.\n\
                 \n\
                 Set one, for example OPENAI_API_KEY, or write a configuration (see conf/minimal.yaml),\n\
                 or try it without any account:\n\
                 \n    tollgate demo\n"
            );
            return ExitCode::from(1);
        }
        Err(errors) => return complain(&errors),
        Ok(Some(checked)) => checked,
    };
    let live = Live::new(checked, None, Environment::process());
    let snapshot = live.load();
    logs::start(&snapshot.log);
    let providers: Vec<&str> = snapshot.providers.keys().map(|name| name.as_str()).collect();
    let base = snapshot.listen.first().map_or_else(String::new, |l| format!("http://{}/v1", l.address));
    eprintln!(
        "Providers from the environment: {}\n\nexport OPENAI_BASE_URL={base}\nexport OPENAI_API_KEY={}   # shown once; a new one is made at each start\n\n\
         Ask for a model as provider/model, for example {}/MODEL.\n",
        providers.join(", "),
        key.expose(),
        providers.first().unwrap_or(&"openai"),
    );
    app::run(live, start)
}
