//! The vault-guardian program: command line, log, signals. Everything else is the library's.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use vault_guardian::{FileConfig, Overrides, StorePlace, serve};

/// Largest configuration file, bytes.
const CONFIG_LIMIT_BYTES: u64 = 64 * 1024;

/// Keeps secrets, such as shares of disk keys, for the nodes of an Orama cluster.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the V2 secrets API over HTTP until SIGTERM or SIGINT.
    ///
    /// Requests and answers are not encrypted: listen on an address of the WireGuard overlay. The log goes
    /// to standard error; RUST_LOG sets what it holds (default: info).
    #[command(after_help = "\
Examples:
  vault-guardian serve --listen 10.0.0.11:7500 --data /var/lib/vault-guardian
  vault-guardian serve --config /etc/orama/guardian.toml

Configuration file (TOML; the command line wins):
  listen = \"10.0.0.11:7500\"
  data = \"/var/lib/vault-guardian\"
  listen_anywhere = false
  requests_per_minute = 120      # per client address
  window = \"15m\"                 # a silent owner is absent after this
  hold_down = \"10m\"              # shares of an absent or moved owner wait so long; 0s: never
  operator_token_sha256 = \"...\"  # who may approve and revoke
  mesh_control = \"/run/mesh.sock\" # tells the public addresses behind WireGuard")]
    Serve(Box<Serve>),
}

#[derive(clap::Args)]
struct Serve {
    /// Address to listen on; the port defaults to 7500
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    listen: Option<String>,
    /// Directory of the secrets; made if missing, closed to other users
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// On an OramaOS node: the socket of its agent, which keeps the secrets instead of a directory
    #[arg(long, value_name = "SOCKET", conflicts_with = "data")]
    agent: Option<PathBuf>,
    /// TOML file with the same settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Allow 0.0.0.0 and ::, which expose the secrets' API to every network
    #[arg(long)]
    listen_anywhere: bool,
    /// How long an owner of disk keys may be silent before it is absent, such as 15m
    #[arg(long, value_name = "TIME")]
    window: Option<String>,
    /// How long shares of disk keys wait when their owner was absent or asks from a new address, such as 10m
    #[arg(long, value_name = "TIME")]
    hold_down: Option<String>,
    /// SHA-256, in hex, of the token with which operators see, approve and revoke what is held down
    #[arg(long, value_name = "HEX")]
    operator_token_sha256: Option<String>,
    /// Control socket of the owner of the WireGuard interface, such as that of `orama mesh serve`
    #[arg(long, value_name = "SOCKET", conflicts_with = "agent")]
    mesh_control: Option<PathBuf>,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    let Command::Serve(arguments) = Arguments::parse().command;
    match run(*arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("vault-guardian: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Serve) -> Result<(), Box<dyn Error>> {
    let Serve { listen, data, agent, config, listen_anywhere, .. } = arguments;
    let place = data.map(StorePlace::Files).or(agent.map(StorePlace::Agent));
    let more = Overrides {
        window: arguments.window,
        hold_down: arguments.hold_down,
        operator_token_sha256: arguments.operator_token_sha256,
        mesh_control: arguments.mesh_control,
    };
    let file = match config {
        Some(path) => FileConfig::parse(&read_config(&path)?)?,
        None => FileConfig::default(),
    };
    let config = file.complete(listen, listen_anywhere, place, more)?;
    let kept = match &config.store {
        StorePlace::Files(data) => format!("in {}", data.display()),
        StorePlace::Agent(socket) => format!("by the agent at {}", socket.display()),
    };
    actix_rt::System::new().block_on(async move {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (address, server) = serve(config)?;
        let handle = server.handle();
        tracing::info!(%address, kept, "listening");
        actix_rt::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!("{name}: finishing what runs, then stopping");
            handle.stop(true).await;
        });
        server.await?;
        tracing::info!("stopped");
        Ok(())
    })
}

fn read_config(path: &std::path::Path) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(CONFIG_LIMIT_BYTES + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > CONFIG_LIMIT_BYTES {
        return Err(format!("{} is larger than {CONFIG_LIMIT_BYTES} bytes", path.display()).into());
    }
    Ok(text)
}
