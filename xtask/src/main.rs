//! All automation of this repository: set-up, demo, tests, image, benchmark.
//! Owns the command line and the exit code; the work is in one module per command.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod host;
mod image;
mod images;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, boots, tests and measures OramaOS.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot a node in QEMU, enrol it, reboot it and manage it through the gateway.
    Demo(demo::Arguments),
    /// Run the tests of one tier, or of all (the default).
    Test(test::Arguments),
    /// Build the disk image of a node.
    Image(image::ImageArguments),
    /// Name and install the Debian packages that the other commands need.
    Setup(setup::Arguments),
    /// Measure.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let outcome: Result<bool, Box<dyn std::error::Error>> = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&arguments).map_err(Into::into),
        Command::Test(arguments) => test::run(&arguments).map_err(Into::into),
        Command::Image(arguments) => workspace::Workspace::find().map_err(Into::into).and_then(|found| {
            let options = arguments.options(&found.root, &found.target);
            image::run(&options).map(|()| true).map_err(Into::into)
        }),
        Command::Setup(arguments) => setup::run(&arguments).map(|()| true).map_err(Into::into),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| true).map_err(Into::into),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// The error and its sources on one line, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
