//! Where the images and the host-side programs come from: one folder that the demo, the VM tier and
//! the benchmark share. Building them is the image module's work; this file says which ones.

use std::path::PathBuf;

use crate::workspace::Workspace;

#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error("no image can be built yet")]
    NotYet,
}

/// Builds what the VM scenarios boot and returns the folder.
pub fn for_tests(_workspace: &Workspace) -> Result<PathBuf, ImagesError> {
    Err(ImagesError::NotYet)
}
