//! `cargo xtask demo`.

#[derive(clap::Args)]
pub struct Arguments {
    /// End after the reboot: exit 0, or the failed step, its reason and the serial log.
    #[arg(long)]
    once: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("not built yet")]
    NotYet,
}

pub fn run(arguments: &Arguments) -> Result<bool, DemoError> {
    let _ = arguments.once;
    Err(DemoError::NotYet)
}
