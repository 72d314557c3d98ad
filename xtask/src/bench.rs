//! `cargo xtask bench`.

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Agent start to all services spawned, against the whole boot and the floor.
    Boot,
}

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("not built yet")]
    NotYet,
}

pub fn run(arguments: &Arguments) -> Result<(), BenchError> {
    match arguments.what {
        What::Boot => Err(BenchError::NotYet),
    }
}
