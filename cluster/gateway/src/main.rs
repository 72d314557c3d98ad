//! Command line of the gateway: `serve`, and the commands that change its store beside it.

#![forbid(unsafe_code)]

mod peer;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use orama_gateway::{Config, admin_key, listener, open_registry};
use tracing_subscriber::EnvFilter;

/// The Orama gateway: operator API over HTTPS, enrollment of nodes, and the way to their agents.
#[derive(Parser)]
#[command(name = "orama-gateway", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGINT or SIGTERM
    Serve(ConfigFile),
    /// The operators' API key
    #[command(subcommand)]
    AdminKey(AdminKey),
    /// Hosts that exist without enrolment: guardians, Ubuntu nodes
    #[command(subcommand)]
    Peer(peer::Peer),
}

#[derive(Args)]
struct ConfigFile {
    /// Configuration, TOML (docs/gateway.md)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum AdminKey {
    /// Make a new key; the old one stops working at once
    Rotate(ConfigFile),
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // First of all: rustls panics at its first use when it has to guess the provider.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("orama-gateway: another cryptography provider is installed already");
        return ExitCode::FAILURE;
    }
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orama-gateway: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(file) => serve(&file),
        Command::AdminKey(AdminKey::Rotate(file)) => {
            let config = Config::load(&file.config)?;
            let path = admin_key::rotate(&open_registry(&config)?, config.data_folder())?;
            println!("{}", path.display());
            Ok(())
        }
        Command::Peer(command) => peer::run(command),
    }
}

fn serve(file: &ConfigFile) -> Result<(), Failure> {
    // Before anything else opens a descriptor.
    let inherited = listener::activated(&listener::Activation::from_environment())?;
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn")),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would report a broken stderr on stderr, and panic over that: who reads our log may come and go.
        .log_internal_errors(false)
        .init();
    let config = Config::load(&file.config)?;
    actix_web::rt::System::new().block_on(async move {
        orama_gateway::start(config, inherited).await?.wait().await;
        Ok(())
    })
}

/// One line: the error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
