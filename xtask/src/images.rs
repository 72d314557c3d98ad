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

/// What images for tests and measurements have besides: an owner whose secret key is 32 bytes 0x11. The demo has none,
/// as everybody knows this one.
const TEST_OWNER: &str = "
[owner]
wallet = \"0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A\"
";

/// What the broken variant has for rqlite: line 3 is no TOML.
const BROKEN_POLICY: &str = "version = 1\nname = \"rqlite\"\nbinary = = \"/opt/orama/bin/rqlited\"\n";

/// Services of the small image: a database to write to, and the gateway that takes health reports. They are quick
/// to start under emulation and fit into 256 MiB.
const SMALL: [&str; 2] = ["rqlite", "gateway"];

/// The one service of the image for whole clusters: what nodes are to each other.
const KEEPER: [&str; 1] = ["vault-guardian"];

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
    owned(workspace, "small", &SMALL, artifacts::Image::Small)
}

/// An image with these services only, whose owner is [`TEST_OWNER`].
fn owned(
    workspace: &Workspace,
    name: &str,
    services: &[&str],
    kind: artifacts::Image,
) -> Result<Built, ImagesError> {
    let artifacts = folder(workspace)?;
    let mut options = options(workspace, &artifacts, name)?;
    let owned = artifacts.folder().join("agent-owned.toml");
    fs::write(&owned, [AGENT_TOML, TEST_OWNER].concat())
        .map_err(|source| ImagesError::File { path: owned.clone(), source })?;
    options.agent_toml = Some(owned);
    options.policies = Some(policies_of(workspace, &artifacts, &format!("{name}-policies"), services)?);
    finish(artifacts, options, kind)
}

/// What the VM scenarios boot; returns the folder that `ORAMA_TEST_IMAGES` names.
pub fn for_tests(workspace: &Workspace) -> Result<PathBuf, ImagesError> {
    let built = small(workspace)?;
    owned(workspace, "keeper", &KEEPER, artifacts::Image::Keeper)?;
    twins(workspace)?;
    let mut options = options(workspace, &built.artifacts, "bad-policy")?;
    let policies = policies_of(workspace, &built.artifacts, "bad-policies", &SMALL)?;
    let broken = policies.join("rqlite.toml");
    fs::write(&broken, BROKEN_POLICY).map_err(|source| ImagesError::File { path: broken, source })?;
    options.policies = Some(policies);
    finish(built.artifacts.clone(), options, artifacts::Image::BadPolicy)?;
    abuse(workspace, &built.artifacts)?;
    Ok(built.artifacts.folder().to_owned())
}

/// The product, and each service a second time: see [`twin`].
fn twins(workspace: &Workspace) -> Result<Built, ImagesError> {
    let artifacts = folder(workspace)?;
    let mut options = options(workspace, &artifacts, "twins")?;
    let policies = artifacts.folder().join("twin-policies");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImagesError::File { path, source }
    };
    replace_folder(&workspace.root.join("policies"), &policies)?;
    for entry in fs::read_dir(workspace.root.join("policies")).map_err(failed(&policies))? {
        let path = entry.map_err(failed(&policies))?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".toml")) {
            let text = fs::read_to_string(&path).map_err(failed(&path))?;
            let to = policies.join(format!("{name}-twin.toml"));
            fs::write(&to, twin(name, &text)).map_err(failed(&to))?;
        }
    }
    options.policies = Some(policies);
    finish(artifacts, options, artifacts::Image::Twins)
}

/// The profile under another name, uid and data folder, started after the real one: a start that fails, because the
/// ports are taken, in the very sandbox of the service. It gives up after the second time.
fn twin(name: &str, text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        lines.push(match line.split_once(" = ") {
            Some(("name", _)) => format!("name = \"{name}-twin\"\nafter = [\"{name}\"]"),
            Some(("after", _)) | Some(("intensity", _)) => continue,
            Some(("uid", uid)) => format!("uid = 1{uid}"),
            Some(("writable", _)) => format!("writable = [\"/opt/orama/.orama/data/{name}-twin\"]"),
            _ if line == "[restart]" => format!("{line}\nintensity = 1"),
            _ => line.to_owned(),
        });
    }
    if !text.contains("\n[restart]\n") {
        lines.push("[restart]\nintensity = 1".into());
    }
    lines.join("\n") + "\n"
}

/// The small image with the profiles of qemu-tests/abusers beside its own.
fn abuse(workspace: &Workspace, artifacts: &Artifacts) -> Result<Built, ImagesError> {
    let mut options = options(workspace, artifacts, "abuse")?;
    let policies = policies_of(workspace, artifacts, "abuse-policies", &SMALL)?;
    copy_folder(&workspace.root.join("qemu-tests/abusers"), &policies)?;
    options.policies = Some(policies);
    finish(artifacts.clone(), options, artifacts::Image::Abuse)
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

/// A folder of its own with the profiles of these services and all sets.
fn policies_of(
    workspace: &Workspace,
    artifacts: &Artifacts,
    name: &str,
    services: &[&str],
) -> Result<PathBuf, ImagesError> {
    let (from, to) = (workspace.root.join("policies"), artifacts.folder().join(name));
    replace_folder(&from, &to)?;
    for file in fs::read_dir(&to).map_err(|source| ImagesError::File { path: to.clone(), source })?.flatten()
    {
        let path = file.path();
        if path.is_file() && !services.iter().any(|name| path.ends_with(format!("{name}.toml"))) {
            fs::remove_file(&path).map_err(|source| ImagesError::File { path, source })?;
        }
    }
    Ok(to)
}

/// Copies a folder to where nothing of an earlier copy is left.
fn replace_folder(from: &Path, to: &Path) -> Result<(), ImagesError> {
    match fs::remove_dir_all(to) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(ImagesError::File { path: to.to_owned(), source })
        }
        _ => copy_folder(from, to),
    }
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

/// Copies a folder with all that is below it; `to` may be there already.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), ImagesError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_the_profile_in_another_place() {
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        for name in ["rqlite", "olric", "ipfs", "ipfs-cluster", "gateway", "coredns", "vault-guardian"] {
            let text = fs::read_to_string(policies.join(format!("{name}.toml"))).unwrap();
            let twin: toml::Table = twin(name, &text).parse().unwrap();
            let original: toml::Table = text.parse().unwrap();
            assert_eq!(twin["name"].as_str(), Some(format!("{name}-twin").as_str()));
            assert_eq!(twin["after"][0].as_str(), Some(name));
            assert_eq!(
                twin["user"]["uid"].as_integer(),
                original["user"]["uid"].as_integer().map(|uid| uid + 10_000)
            );
            assert_eq!(twin["restart"]["intensity"].as_integer(), Some(1));
            for same in ["binary", "seccomp", "cgroup"] {
                assert_eq!(twin[same], original[same], "{name}");
            }
        }
    }
}
