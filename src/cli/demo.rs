//! `tollgate demo`: the gateway, with simulated providers behind it in the same process.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use clap::Args;

use super::{complain, logs};
use crate::app::{self, Start};
use crate::config::watch::Live;
use crate::config::{self, Environment};
use crate::simulator::{Options, Simulator};

/// The demo's key: no secret, it opens nothing but a simulation on loopback.
const DEMO_KEY: &str = "sk-tollgate-demo";

#[derive(Debug, Args)]
pub struct Demo {
    /// Data port; loopback only.
    #[arg(long, default_value = "127.0.0.1:4000")]
    listen: SocketAddr,
    /// Admin port; loopback only.
    #[arg(long, default_value = "127.0.0.1:4001")]
    admin: SocketAddr,
    /// The virtual key.
    #[arg(long, default_value = DEMO_KEY)]
    key: String,
    /// Milliseconds between two pieces of a streamed answer.
    #[arg(long, default_value_t = 30)]
    pace_ms: u64,
}

/// The providers that speak another dialect: where their API begins, what else they need, and a model of theirs.
const DIALECTS: [(&str, &str, &str, &str, &str); 4] = [
    ("anthropic", "/v1", API_KEY, "claude-sonnet-4-5", "claude-sonnet-4-5"),
    ("gemini", "/v1beta", API_KEY, "gemini-2.5-flash", "gemini-2.5-flash"),
    (
        "bedrock",
        "",
        "region: us-east-1, access_key_id: AKIASIMULATED, secret_access_key: simulated-secret-access-key",
        "nova-lite",
        "us.amazon.nova-lite-v1:0",
    ),
    ("cohere", "", API_KEY, "command-a", "command-a-03-2025"),
];
const API_KEY: &str = "api_key: simulated-provider-key";

/// Models of the first provider; each is carried to the simulator under its own name.
const MODELS: [&str; 23] = [
    "gpt-4o-mini",
    "gpt-4o",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "gpt-realtime",
    "sim-fast",
    "sim-429",
    "sim-500",
    "sim-503",
    "sim-400",
    "sim-401",
    "sim-404",
    "sim-context",
    "sim-filter",
    "sim-flaky",
    "sim-hang",
    "sim-hang-stream",
    "sim-cut",
    "sim-slow",
    "sim-think",
    "sim-error-event",
    "sim-no-usage",
    "sim-long",
];

pub fn run(arguments: &Demo) -> ExitCode {
    if !(arguments.listen.ip().is_loopback() && arguments.admin.ip().is_loopback()) {
        eprintln!("tollgate: the demo listens on loopback only: its key is printed in the documentation");
        return ExitCode::from(2);
    }
    let provider = match simulate(arguments.pace_ms) {
        Ok(address) => address,
        Err(error) => {
            eprintln!("tollgate: the simulated providers could not be started: {error}");
            return ExitCode::from(1);
        }
    };
    let text = configuration(arguments, provider);
    let checked = match config::load_str("demo", &text, &Environment::from_fn(|_| None)) {
        Ok(checked) => checked,
        Err(errors) => return complain(&errors),
    };
    let live = Live::new(checked, None, Environment::from_fn(|_| None));
    logs::start(&live.load().log);
    greet(arguments);
    app::run(live, Start::Fresh)
}

/// Start the simulator on a port of its own, on a thread of its own.
fn simulate(pace_ms: u64) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let options = Options {
        api_key: Some("simulated-provider-key".to_owned()),
        pace: std::time::Duration::from_millis(pace_ms),
        ..Options::default()
    };
    std::thread::Builder::new().name("simulator".into()).spawn(move || {
        runtime.block_on(async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => Simulator::new(options).serve(listener).await,
                Err(error) => tracing::error!("the simulator: {error}"),
            }
        });
    })?;
    Ok(address)
}

fn configuration(arguments: &Demo, provider: SocketAddr) -> String {
    let mut models: String = MODELS.iter().map(|m| format!("  {m}: sim/{m}\n")).collect();
    let mut providers = format!("  sim: {{kind: openai, base_url: \"http://{provider}/v1\", {API_KEY}}}\n");
    for (name, path, credential, model, theirs) in DIALECTS {
        providers += &format!("  {name}: {{base_url: \"http://{provider}{path}\", {credential}}}\n");
        models += &format!("  {model}: \"{name}/{theirs}\"\n");
    }
    let key = serde_json::Value::from(arguments.key.as_str());
    format!(
        "listen: {}\nadmin: {{listen: \"{}\"}}\nlog: {{access: stdout}}\nproviders:\n{providers}\
         opaque: {{provider: sim}}\nmodels:\n{models}keys:\n  - {{name: demo, key: {key}}}\n",
        arguments.listen, arguments.admin
    )
}

fn greet(arguments: &Demo) {
    let (base, admin, key) = (arguments.listen, arguments.admin, &arguments.key);
    eprintln!(
        r#"Tollgate demo: a gateway at http://{base}, simulated providers behind it. Copy and paste:

curl -N http://{base}/v1/chat/completions \
  -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \
  -d '{{"model":"gpt-4o-mini","stream":true,"messages":[{{"role":"user","content":"Hello!"}}]}}'

from openai import OpenAI
client = OpenAI(base_url="http://{base}/v1", api_key="{key}")
print(client.chat.completions.create(model="gpt-4o-mini", messages=[{{"role": "user", "content": "Hello!"}}]).choices[0].message.content)

import OpenAI from "openai";
const client = new OpenAI({{ baseURL: "http://{base}/v1", apiKey: "{key}" }});
console.log((await client.responses.create({{ model: "gpt-4o-mini", input: "Hello!" }})).output_text);

Any client, any model: OpenAI's SDK to claude-sonnet-4-5, nova-lite or command-a as above, and Anthropic's API to a Gemini model:

curl http://{base}/v1/messages \
  -H "x-api-key: {key}" -H "Content-Type: application/json" \
  -d '{{"model":"gemini-2.5-flash","max_tokens":200,"messages":[{{"role":"user","content":"Hello!"}}]}}'

Metrics: curl http://{admin}/metrics     Misbehaving models: sim-429 sim-500 sim-hang sim-cut sim-slow sim-think ...
One JSON line per call follows on stdout. Ctrl-C ends it.
"#
    );
}
