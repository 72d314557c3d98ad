//! `orama-agent`: PID 1 of an OramaOS node and its only root process. Reads as the story of a boot: mounts,
//! console, kernel settings, configuration, actors, and at the end the machine's end. If anything before the
//! actors fails, the process ends, the kernel panics and reboots, and boot counting does the rest.

mod agent_log;
mod api;
mod config;
mod console;
mod facts;
mod image;
mod pid1;
mod ports;
mod roster;
mod trial;
mod wiring;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use agent_log::{AgentLog, LogLayer};
use console::Terminal;
use orama_actors::ports::Console;
use ports::Screen;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!(
            "orama-agent {}: PID 1 of an OramaOS node; it does nothing on other systems. Build an image with \
             `cargo xtask image` and boot that.",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::FAILURE;
    }
    match run() {
        Ok(never) => match never {},
        Err(error) => eprintln!("orama-agent: {}\r", orama_actors::describe(&*error)),
    }
    ExitCode::FAILURE
}

fn run() -> Result<std::convert::Infallible, Box<dyn std::error::Error>> {
    let not_taken = pid1::memory::keep_little();
    pid1::mounts::mount_early()?;
    let terminal = Arc::new(Terminal::open()?);
    let log = AgentLog::default();
    tracing_subscriber::registry()
        .with(LogLayer { log: log.clone(), terminal: Arc::clone(&terminal) }.with_filter(agent_log::filter()))
        .init();
    orama_actors::supervise::install_panic_hook();
    let screen = Arc::new(Screen { terminal, log });

    let image = image::read()?;
    let slot = image.booted.slot;
    screen.line(&format!("agent {} is PID 1, slot {slot}, root verified", env!("CARGO_PKG_VERSION")));
    for missed in not_taken.into_iter().chain(pid1::hardening::apply(Path::new("/proc/sys"))) {
        tracing::warn!("{missed}");
    }
    pid1::power::take_ctrl_alt_del()?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is installed already")?;
    let config = config::load(Path::new(config::PATH))?;

    let end = actix_rt::System::new().block_on(wiring::run(config, image, Arc::clone(&screen)))?;
    // The console thread has its last lines to write.
    std::thread::sleep(std::time::Duration::from_millis(200));
    Err(format!("the kernel refuses to end the machine: {}", pid1::power::end(end)).into())
}
