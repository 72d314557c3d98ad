//! The operator of the cluster: the real `orama` command with the operator's key, run in the namespace.
//! Owns the flags; every answer is taken from `--json`.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::Arc;

use orama_protocol::agent::Status;
use orama_protocol::enroll::EnrollResponse;
use orama_protocol::gateway::FleetReport;
use serde::de::DeserializeOwned;

use crate::artifacts::{Artifacts, ArtifactsError};
use crate::cluster::{Cluster, GATEWAY};
use crate::net::Namespace;

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
}

impl OperatorError {
    /// What the command said, when it failed.
    pub fn message(&self) -> &str {
        match self {
            Self::Failed { message, .. } => message,
            Self::Start { .. } | Self::Answer { .. } => "",
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

    /// Fetches the code from the node and enrols it.
    pub fn enroll(&self, token: &str) -> Result<EnrollResponse, OperatorError> {
        let node_ip = crate::vm::PUBLIC_ADDRESS.to_string();
        self.ask(&[
            "node",
            "enroll",
            "--node-ip",
            &node_ip,
            "--token",
            token,
            "--gateway",
            &Self::gateway_url(),
        ])
    }

    pub fn status(&self, node_id: &str) -> Result<Status, OperatorError> {
        self.ask(&["node", "status", node_id])
    }

    /// The log of a service (or `agent`), by service.
    pub fn logs(&self, node_id: &str, service: &str, lines: u32) -> Result<serde_json::Value, OperatorError> {
        self.ask(&["node", "logs", node_id, "--service", service, "--lines", &lines.to_string()])
    }

    pub fn command(
        &self,
        node_id: &str,
        action: &str,
        service: Option<&str>,
    ) -> Result<serde_json::Value, OperatorError> {
        let mut arguments = vec!["node", "command", node_id, action];
        arguments.extend(service);
        self.ask(&arguments)
    }

    pub fn report(&self) -> Result<FleetReport, OperatorError> {
        self.ask(&["monitor", "report"])
    }

    fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T, OperatorError> {
        let output = self.run(arguments)?;
        let command = arguments[..2.min(arguments.len())].join(" ");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if !output.status.success() {
            let message = format!("{}\n{}", text(&output.stderr), text(&output.stdout)).trim().to_owned();
            return Err(OperatorError::Failed { command, status: output.status, message });
        }
        let answer = text(&output.stdout);
        serde_json::from_str(&answer).map_err(|source| OperatorError::Answer { command, answer, source })
    }

    /// Runs the command and returns what it wrote, whatever its exit code.
    pub fn run(&self, arguments: &[&str]) -> Result<Output, OperatorError> {
        let mut command: Command = self.network.command(&self.program);
        command.arg("--json").args(arguments).stdin(Stdio::null()).env_clear();
        command.env("ORAMA_GATEWAY", Self::gateway_url());
        command.env("ORAMA_CA", &self.authority).env("ORAMA_API_KEY_FILE", &self.api_key);
        command.output().map_err(|source| OperatorError::Start { command: arguments.join(" "), source })
    }
}
