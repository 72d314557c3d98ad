//! The folder of images and host-side programs that the demo, the VM tier and the benchmark share. Building
//! is the image module's work; this file says which images there are and what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use qemu_tests::artifacts::{self, Artifacts};
use qemu_tests::pki::PkiError;

use crate::image::{self, Image, ImageError, ImageOptions};
use crate::workspace::Workspace;

/// How a machine in the private network finds its gateway: slirp shows the host at 10.0.2.2.
const AGENT_TOML: &str = "\
# The gateway of the demo and of the VM tests, as a machine in QEMU sees it.
[gateway]
url = \"https://10.0.2.2:7443\"
ca = \"/etc/orama/gateway-ca.pem\"
";

/// What the broken variant has for rqlite: line 3 is no TOML.
const BROKEN_POLICY: &str = "version = 1\nname = \"rqlite\"\nbinary = = \"/opt/orama/bin/rqlited\"\n";

/// Services of the small image: a database to write to, and the gateway that takes health reports. They are quick
/// to start under emulation and fit into 256 MiB.
const SMALL: [&str; 2] = ["rqlite", "gateway"];

#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    #[error("building the image")]
    Build(#[from] ImageError),
    #[error("making certificates")]
    Pki(#[from] PkiError),
    #[error("preparing {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// What was built, and where the harness finds it.
pub struct Built {
    pub artifacts: Artifacts,
    pub image: Image,
    pub options: ImageOptions,
}

/// The image that the demo boots: the product, with all services.
pub fn for_demo(workspace: &Workspace) -> Result<Built, ImagesError> {
    let artifacts = folder(workspace)?;
    let options = options(workspace, &artifacts, "image")?;
    finish(artifacts, options, artifacts::Image::Node)
}

/// The image of [`SMALL`]: what the benchmark and most scenarios boot.
pub fn small(workspace: &Workspace) -> Result<Built, ImagesError> {
    let artifacts = folder(workspace)?;
    let mut options = options(workspace, &artifacts, "small")?;
    options.policies = Some(small_policies(workspace, &artifacts, "small-policies")?);
    finish(artifacts, options, artifacts::Image::Small)
}

/// What the VM scenarios boot; returns the folder that `ORAMA_TEST_IMAGES` names.
pub fn for_tests(workspace: &Workspace) -> Result<PathBuf, ImagesError> {
    let built = for_demo(workspace)?;
    small(workspace)?;
    let mut options = options(workspace, &built.artifacts, "bad-policy")?;
    let policies = small_policies(workspace, &built.artifacts, "bad-policies")?;
    let broken = policies.join("rqlite.toml");
    fs::write(&broken, BROKEN_POLICY).map_err(|source| ImagesError::File { path: broken, source })?;
    options.policies = Some(policies);
    finish(built.artifacts.clone(), options, artifacts::Image::BadPolicy)?;
    Ok(built.artifacts.folder().to_owned())
}

fn folder(workspace: &Workspace) -> Result<Artifacts, ImagesError> {
    let folder = workspace.target.join("demo");
    fs::create_dir_all(&folder).map_err(|source| ImagesError::File { path: folder.clone(), source })?;
    Ok(Artifacts::at(&folder))
}

/// Builds, and puts everything where the harness looks for it.
fn finish(artifacts: Artifacts, options: ImageOptions, kind: artifacts::Image) -> Result<Built, ImagesError> {
    let image = image::build(&options)?;
    place(&image.disk, &artifacts.image_path(kind))?;
    for program in &image.host_programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        place(program, &artifacts.program_path(&name))?;
    }
    Ok(Built { artifacts, image, options })
}

/// A folder of its own with the profiles of [`SMALL`] and all sets.
fn small_policies(workspace: &Workspace, artifacts: &Artifacts, name: &str) -> Result<PathBuf, ImagesError> {
    let (from, to) = (workspace.root.join("policies"), artifacts.folder().join(name));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImagesError::File { path, source }
    };
    match fs::remove_dir_all(&to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&to)(error)),
        _ => {}
    }
    copy_folder(&from.join("sets"), &to.join("sets"))?;
    for service in SMALL {
        let file = format!("{service}.toml");
        fs::copy(from.join(&file), to.join(&file)).map_err(failed(&from.join(&file)))?;
    }
    Ok(to)
}

fn options(workspace: &Workspace, artifacts: &Artifacts, out: &str) -> Result<ImageOptions, ImagesError> {
    let agent_toml = artifacts.folder().join("agent.toml");
    fs::write(&agent_toml, AGENT_TOML)
        .map_err(|source| ImagesError::File { path: agent_toml.clone(), source })?;
    let mut options = ImageOptions::new(&workspace.root, &workspace.target);
    options.agent_toml = Some(agent_toml);
    options.gateway_ca = Some(artifacts.pki()?.authority);
    options.gateway_toml = Some(workspace.root.join("cluster/gateway/node-gateway.toml"));
    options.out = Some(artifacts.folder().join(out));
    Ok(options)
}

/// A link, so that nothing large is copied; replaces what is there.
fn place(from: &Path, to: &Path) -> Result<(), ImagesError> {
    let failed = |source| ImagesError::File { path: to.to_owned(), source };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    match fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::os::unix::fs::symlink(from, to).map_err(failed)
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), ImagesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImagesError::File { path, source }
    };
    fs::create_dir_all(to).map_err(failed(to))?;
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let path = entry.map_err(failed(from))?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(failed(&path))?;
        }
    }
    Ok(())
}
