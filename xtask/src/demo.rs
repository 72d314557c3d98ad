//! `cargo xtask demo`: set-up, image, and then the story of one node from its first boot to the second, with
//! the real programs around it. Owns the order of the stages, Ctrl-C and the exit; the story is in story.rs.

mod narrator;
mod story;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use qemu_tests::artifacts::Artifacts;
use qemu_tests::net::{RootlessError, again_in_user_namespace};
use qemu_tests::process;

use crate::images::{self, ImagesError};
use crate::setup::{self, SetupError};
use crate::workspace::{Workspace, WorkspaceError};

use narrator::Narrator;

#[derive(clap::Args)]
pub struct Arguments {
    /// End after the reboot: exit 0, or the failed step, its reason and the serial log.
    #[arg(long)]
    once: bool,
    /// Port of the gateway on 127.0.0.1; any free one when it is taken.
    #[arg(long, value_name = "PORT", default_value_t = 7443)]
    port: u16,
    /// Folder of a finished image: the demo starts itself again with this when it is not root.
    #[arg(long, hide = true, value_name = "FOLDER")]
    built: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("setting up")]
    Setup(#[from] SetupError),
    #[error("finding the workspace")]
    Workspace(#[from] WorkspaceError),
    #[error("preparing the image")]
    Images(#[from] ImagesError),
    #[error("a private network without root")]
    Rootless(#[from] RootlessError),
    #[error("taking over SIGINT and SIGTERM")]
    Signals(#[source] nix::Error),
}

/// How the story ended.
enum End {
    Told,
    Failed,
    Interrupted,
}

pub fn run(arguments: &Arguments) -> Result<bool, DemoError> {
    let folder = match &arguments.built {
        Some(folder) => folder.clone(),
        None => {
            println!("set-up, and the image (the first time takes minutes):");
            setup::ensure()?;
            images::for_demo(&Workspace::find()?)?.artifacts.folder().to_owned()
        }
    };
    let built = ["--built".as_ref(), folder.as_os_str()];
    let more = if arguments.built.is_some() { &[][..] } else { &built[..] };
    if let Some(status) = again_in_user_namespace(more)? {
        return Ok(status.success());
    }
    // Before any thread starts: all of them inherit it.
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGINT);
    wanted.add(Signal::SIGTERM);
    wanted.thread_block().map_err(DemoError::Signals)?;
    let signals = SignalFd::new(&wanted).map_err(DemoError::Signals)?;
    let end = tell(&folder, arguments, &signals)?;
    Ok(matches!(end, End::Told))
}

/// Tells the story on a thread of its own, so that this one can hear Ctrl-C.
fn tell(folder: &Path, arguments: &Arguments, signals: &SignalFd) -> Result<End, DemoError> {
    let artifacts = Artifacts::at(folder);
    let narrator = Narrator::start();
    std::thread::scope(|scope| {
        let teller = scope.spawn(|| match story::tell(&artifacts, arguments.port, &narrator) {
            Ok(told) => {
                if !arguments.once {
                    told.invite_to_try(&narrator);
                    while !process::interrupted() {
                        std::thread::sleep(std::time::Duration::from_millis(100));
                    }
                    println!("\nending the node and its cluster");
                }
                End::Told
            }
            Err(_) if process::interrupted() => {
                println!("\ninterrupted; the node and its cluster are gone");
                End::Interrupted
            }
            Err(failure) => {
                narrator.failed(&failure);
                End::Failed
            }
        });
        while !teller.is_finished() {
            if signalled(signals)? {
                process::interrupt();
            }
        }
        match teller.join() {
            Ok(end) => Ok(end),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Waits a moment for a signal; true when one came.
fn signalled(signals: &SignalFd) -> Result<bool, DemoError> {
    let mut descriptors = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut descriptors, PollTimeout::from(100_u16)) {
        Ok(0) | Err(nix::Error::EINTR) => Ok(false),
        Ok(_) => signals.read_signal().map(|signal| signal.is_some()).map_err(DemoError::Signals),
        Err(error) => Err(DemoError::Signals(error)),
    }
}
