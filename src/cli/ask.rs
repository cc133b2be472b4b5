//! Asks the gateway that runs, at its admin port. Where that is and what opens it stands in the configuration file; without one it is where a
//! gateway without a file has it, and the token is that of `TOLLGATE_ADMIN_TOKEN`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use reqwest::header::HeaderValue;

use super::{complain, files};
use crate::config::{self, Environment, Secret};

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4001);
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer.
const LARGEST: usize = 64 << 20;
/// The gateway could not be asked.
const UNREACHED: u8 = 3;

/// An admin port.
pub struct Admin {
    address: SocketAddr,
    token: Option<Secret>,
    patience: Duration,
}

/// An answer, whatever it says.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

// === impl Admin ===

impl Admin {
    /// `Err`: what was wrong has been said.
    pub fn find(named: Option<&Path>) -> Result<Admin, ExitCode> {
        Admin::find_any(named)?.ok_or_else(|| {
            eprintln!("tollgate: the configuration switches the admin port off: there is nobody to ask");
            ExitCode::from(UNREACHED)
        })
    }

    /// `None`: there is no admin port.
    pub fn find_any(named: Option<&Path>) -> Result<Option<Admin>, ExitCode> {
        let Some(path) = files::find(named) else {
            let token = std::env::var("TOLLGATE_ADMIN_TOKEN").ok().filter(|token| !token.is_empty()).map(Secret::new);
            return Ok(Some(Admin { address: DEFAULT, token, patience: PATIENCE }));
        };
        let admin = config::admin(&path, &Environment::process()).map_err(|errors| complain(&errors))?;
        let Some(mut address) = admin.listen else { return Ok(None) };
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        Ok(Some(Admin { address, token: admin.token, patience: PATIENCE }))
    }

    /// What takes longer than a look.
    pub fn patient(self, patience: Duration) -> Admin {
        Admin { patience, ..self }
    }

    pub fn get(&self, path: &str) -> Result<Answer, ExitCode> {
        self.known(self.ask(reqwest::Method::GET, path, Vec::new())?)
    }

    pub fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, ExitCode> {
        self.known(self.ask(reqwest::Method::POST, path, body)?)
    }

    /// `Err`: there was no answer, or the token was refused, and that has been said.
    pub fn ask(&self, method: reqwest::Method, path: &str, body: Vec<u8>) -> Result<Answer, ExitCode> {
        self.ask_if_there(method, path, body)?.ok_or_else(|| self.unreached("nobody listens there"))
    }

    /// `None`: nobody listens there.
    pub fn ask_if_there(&self, method: reqwest::Method, path: &str, body: Vec<u8>) -> Result<Option<Answer>, ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
            runtime.block_on(async {
                match tokio::time::timeout(self.patience, self.exchange(method, path, body)).await {
                    Ok(Ok(answer)) => Ok(Some(answer)),
                    Ok(Err(error)) if error.is_connect() => Ok(None),
                    Ok(Err(error)) => Err(innermost(&error)),
                    Err(_) => Err(format!("no answer within {} s", self.patience.as_secs())),
                }
            })
        });
        let answer = asked.map_err(|why| self.unreached(&why))?;
        if answer.as_ref().is_none_or(|answer| answer.status != 401) {
            return Ok(answer);
        }
        eprintln!(
            "tollgate: {}: it does not take this admin token: that of the running gateway is needed",
            self.address
        );
        Err(ExitCode::from(UNREACHED))
    }

    /// A path that every gateway of this version has.
    pub fn known(&self, answer: Answer) -> Result<Answer, ExitCode> {
        if answer.status != 404 || is_known(&answer.body) {
            return Ok(answer);
        }
        eprintln!("tollgate: {}: it does not know this question: it is another version, or no Tollgate", self.address);
        Err(ExitCode::from(UNREACHED))
    }

    fn unreached(&self, why: &str) -> ExitCode {
        eprintln!("tollgate: no gateway could be asked at {}: {why}", self.address);
        ExitCode::from(UNREACHED)
    }

    async fn exchange(&self, method: reqwest::Method, path: &str, body: Vec<u8>) -> reqwest::Result<Answer> {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        let mut request = client.request(method, format!("http://{}{path}", self.address)).body(body);
        // for the audit, as far as it is known
        if let Some(user) = std::env::var("USER").ok().and_then(|user| HeaderValue::try_from(user).ok()) {
            request = request.header("x-tollgate-actor", user);
        }
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let mut answer = request.send().await?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}

/// Whether it is an answer about what was asked for, and not about the path.
fn is_known(body: &[u8]) -> bool {
    let told: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    told.is_some_and(|told| told["error"].as_str().is_some_and(|error| error != "unknown path"))
}

/// The cause that says most: the last one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
