//! The operator of the cluster: the real `orama` command with the operator's key, run in the namespace.
//! Owns the flags; every answer is taken from `--json`.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_protocol::agent::Status;
use orama_protocol::enroll::EnrollResponse;
use orama_protocol::gateway::FleetReport;
use serde::de::DeserializeOwned;

use crate::artifacts::{Artifacts, ArtifactsError};
use crate::cluster::{Cluster, GATEWAY};
use crate::net::Namespace;
use crate::process::interrupted;
use crate::vm::PUBLIC_ADDRESS;

/// Enrols the node whose address follows; the token comes on standard input.
const ENROLL: [&str; 6] = ["node", "enroll", "--token-file", "-", "--no-wait", "--node-ip"];

pub struct Operator {
    network: Arc<Namespace>,
    program: PathBuf,
    authority: PathBuf,
    api_key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("starting orama {command}")]
    Start {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("orama {command} failed ({status}): {message}")]
    Failed { command: String, status: ExitStatus, message: String },
    #[error("orama {command} answered what cannot be read: {answer}")]
    Answer {
        command: String,
        answer: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{node_id} did not become {what} within {} s; last status: {last}", limit.as_secs())]
    Late { node_id: String, what: String, limit: Duration, last: String },
}

/// From the code on the console to the code at the gateway: a TLS handshake.
const REGISTER_LIMIT: Duration = Duration::from_secs(30);
/// Exit code of `orama` for "no such thing"; see its `--help`.
const NOT_FOUND: i32 = 5;

impl OperatorError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Failed { status, .. } if status.code() == Some(NOT_FOUND))
    }

    /// What the command said, when it failed.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed { message, .. } => message,
            Self::Start { .. } | Self::Answer { .. } | Self::Late { .. } => "",
        }
    }
}

impl Operator {
    pub fn of(cluster: &Cluster, artifacts: &Artifacts) -> Result<Self, ArtifactsError> {
        Ok(Self {
            network: Arc::clone(cluster.network()),
            program: artifacts.program("orama")?,
            authority: cluster.pki().authority.clone(),
            api_key: cluster.api_key().to_owned(),
        })
    }

    pub fn gateway_url() -> String {
        format!("https://{GATEWAY}")
    }

    /// A fresh invite token.
    pub fn invite(&self, expiry: &str) -> Result<String, OperatorError> {
        let answer: serde_json::Value = self.ask(&["node", "invite", "--expiry", expiry])?;
        Ok(answer["token"].as_str().unwrap_or_default().to_owned())
    }

    /// Fetches the code from the node and enrols it; does not wait until the node runs.
    pub fn enroll(&self, token: &str) -> Result<EnrollResponse, OperatorError> {
        self.enroll_at(PUBLIC_ADDRESS, token)
    }

    fn enroll_at(&self, public: Ipv4Addr, token: &str) -> Result<EnrollResponse, OperatorError> {
        self.ask_with(&[&ENROLL[..], &[&public.to_string()]].concat(), token)
    }

    /// The same, and again while the gateway does not know the code: a node shows it a moment before, and we
    /// are quicker than people.
    pub fn enroll_when_registered(
        &self,
        public: Ipv4Addr,
        token: &str,
    ) -> Result<EnrollResponse, OperatorError> {
        let started = Instant::now();
        loop {
            match self.enroll_at(public, token) {
                Err(error) if error.is_not_found() && started.elapsed() < REGISTER_LIMIT => {
                    std::thread::sleep(Duration::from_secs(2));
                }
                other => return other,
            }
        }
    }

    /// The same with a code that the node is not asked for.
    pub fn enroll_with_code(&self, token: &str, code: &str) -> Result<EnrollResponse, OperatorError> {
        self.ask_with(&[&ENROLL[..], &[&PUBLIC_ADDRESS.to_string(), "--code", code]].concat(), token)
    }

    pub fn status(&self, node_id: &str) -> Result<Status, OperatorError> {
        self.ask(&["node", "status", "--node-id", node_id])
    }

    /// Asks for the node's status until it is as wanted.
    pub fn wait_status(
        &self,
        node_id: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, OperatorError> {
        let started = Instant::now();
        loop {
            let last = match self.status(node_id) {
                Ok(status) if wanted(&status) => return Ok(status),
                Ok(status) => format!("{status:?}"),
                Err(error) => error.to_string(),
            };
            if started.elapsed() > limit || interrupted() {
                let (node_id, what) = (node_id.to_owned(), what.to_owned());
                return Err(OperatorError::Late { node_id, what, limit, last });
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The log of a service (or `agent`), by service.
    pub fn logs(&self, node_id: &str, service: &str, lines: u32) -> Result<serde_json::Value, OperatorError> {
        self.ask(&["node", "logs", "--node-id", node_id, "--service", service, "--lines", &lines.to_string()])
    }

    /// What a command of ours prints with `--json`.
    pub fn read<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, OperatorError> {
        self.ask(arguments)
    }

    pub fn command(
        &self,
        node_id: &str,
        action: &str,
        service: Option<&str>,
    ) -> Result<serde_json::Value, OperatorError> {
        let mut arguments = vec!["node", "command", "--node-id", node_id, action];
        if let Some(service) = service {
            arguments.extend(["--service", service]);
        }
        self.ask(&arguments)
    }

    /// The report, also when it says that something is not healthy.
    pub fn report(&self) -> Result<FleetReport, OperatorError> {
        let output = self.run(&["monitor", "report"])?;
        decode("monitor report".into(), &output.stdout)
    }

    /// Status code of a bare HTTPS request to the gateway, for what the `orama` command would never send.
    pub fn https(&self, method: &str, path: &str, bearer: &str, body: &str) -> Result<u16, OperatorError> {
        Ok(self.request(method, path, bearer, body)?.0)
    }

    /// Status code and body, with the operator's key.
    pub fn get(&self, path: &str) -> Result<(u16, String), OperatorError> {
        let failed = |source| OperatorError::Start { command: format!("GET {path}"), source };
        let key = std::fs::read_to_string(&self.api_key).map_err(failed)?;
        self.request("GET", path, key.trim(), "")
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        bearer: &str,
        body: &str,
    ) -> Result<(u16, String), OperatorError> {
        let name = || format!("{method} {path} with curl");
        let failed = |source| OperatorError::Start { command: name(), source };
        // In a file for the owner only: arguments are visible to everybody on the machine.
        let mut headers = tempfile::NamedTempFile::new().map_err(failed)?;
        let mut lines = "Content-Type: application/json\n".to_owned();
        if !bearer.is_empty() {
            lines.push_str(&format!("Authorization: Bearer {bearer}\n"));
        }
        headers.write_all(lines.as_bytes()).map_err(failed)?;
        let mut command = self.network.command("curl");
        command.args(["--silent", "--show-error", "--max-time", "60"]);
        command.args(["--write-out", "\n%{http_code}", "--request", method]);
        command.arg("--header").arg(format!("@{}", headers.path().display()));
        if !body.is_empty() {
            command.args(["--data-binary", "@-"]);
        }
        command.arg("--cacert").arg(&self.authority).arg(format!("{}{path}", Self::gateway_url()));
        let output = feed(command, body).map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // 000 is curl's word for no answer.
        let answer = text.rsplit_once('\n').and_then(|(body, status)| {
            Some((status.trim().parse().ok().filter(|status| *status != 0)?, body.to_owned()))
        });
        answer.ok_or_else(|| OperatorError::Failed {
            command: name(),
            status: output.status,
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, OperatorError> {
        self.ask_with(arguments, "")
    }

    fn ask_with<T: DeserializeOwned>(&self, arguments: &[&str], input: &str) -> Result<T, OperatorError> {
        let output = self.execute(arguments, &["--json"], input)?;
        let command = arguments[..2.min(arguments.len())].join(" ");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            let message = format!("{}\n{}", text(&output.stderr), text(&output.stdout)).trim().to_owned();
            return Err(OperatorError::Failed { command, status: output.status, message });
        }
        decode(command, &output.stdout)
    }

    /// What the command prints for a person, whatever its exit code.
    pub fn show(&self, arguments: &[&str]) -> Result<String, OperatorError> {
        let output = self.execute(arguments, &[], "")?;
        let text = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
    }

    /// Runs the command and returns what it wrote, whatever its exit code.
    pub fn run(&self, arguments: &[&str]) -> Result<Output, OperatorError> {
        self.execute(arguments, &["--json"], "")
    }

    fn execute(&self, arguments: &[&str], flags: &[&str], input: &str) -> Result<Output, OperatorError> {
        let failed = |source| OperatorError::Start { command: arguments.join(" "), source };
        let mut command: Command = self.network.command(&self.program);
        command.args(flags).args(arguments).env_clear();
        command.env("ORAMA_GATEWAY", Self::gateway_url());
        command.env("ORAMA_CA", &self.authority).env("ORAMA_API_KEY_FILE", &self.api_key);
        feed(command, input).map_err(failed)
    }
}

/// Runs the command with the text on its standard input and returns what it wrote.
fn feed(mut command: Command, input: &str) -> std::io::Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended without reading: its own message says why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    child.wait_with_output()
}

fn decode<T: DeserializeOwned>(command: String, bytes: &[u8]) -> Result<T, OperatorError> {
    let answer = String::from_utf8_lossy(bytes).trim().to_owned();
    serde_json::from_str(&answer).map_err(|source| OperatorError::Answer { command, answer, source })
}
