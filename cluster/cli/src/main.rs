//! The `orama` command: what an operator does to nodes, through the gateway. This file is the composition
//! root: it reads the command line, runs one command and turns its failure into an exit code.

#![forbid(unsafe_code)]

mod bounded;
mod connection;
mod failure;
mod gateway;
mod mesh;
mod monitor;
mod node;
mod output;
mod policy;
mod text;
mod tunnel;
mod wallet;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::output::Output;

/// Manages OramaOS nodes through their gateway.
#[derive(Parser)]
#[command(name = "orama", version, after_help = failure::EXIT_CODES_HELP)]
struct Cli {
    /// Print JSON: the answer on stdout; progress and errors on stderr, one object a line.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: connection::Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Invites, enrolls and manages nodes.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Watches the fleet.
    #[command(subcommand)]
    Monitor(monitor::MonitorCommand),
    /// WireGuard on this machine.
    #[command(subcommand)]
    Mesh(mesh::MeshCommand),
    /// Writes, checks, tries and compares service profiles; needs no node.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
}

fn main() -> ExitCode {
    // With more than one provider in the build rustls would refuse to choose.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("error: a TLS provider was installed twice");
        return ExitCode::FAILURE;
    }
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    let output = Output::new(cli.json);
    match run(cli, &output) {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// The command line, with what is about the gateway out of the help of commands that have no use for one.
fn command() -> clap::Command {
    let command = Cli::command();
    let about_gateway: Vec<clap::Arg> = command
        .get_arguments()
        .filter(|argument| argument.get_help_heading() == Some(connection::HEADING))
        .map(|argument| argument.clone().hide(true))
        .collect();
    command.mut_subcommand("policy", |policy| {
        let hidden = |sub: clap::Command| match sub.get_name() {
            "learn" => sub,
            _ => sub.args(&about_gateway),
        };
        let names: Vec<String> = policy.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        // `learn` asks one for what a node has refused. The group's own list must not hide it there.
        names.into_iter().fold(policy, |policy, name| policy.mut_subcommand(name, hidden))
    })
}

fn run(cli: Cli, output: &Output) -> Result<ExitCode, failure::Failure> {
    match cli.command {
        Command::Node(command) => node::run(command, &cli.connection, output)?,
        Command::Monitor(monitor::MonitorCommand::Report) => {
            monitor::report(&cli.connection.with_key()?, output)?;
        }
        Command::Mesh(command) => mesh::run(command, output)?,
        Command::Policy(command) => return policy::run(command, &cli.connection, output),
    }
    Ok(ExitCode::SUCCESS)
}
