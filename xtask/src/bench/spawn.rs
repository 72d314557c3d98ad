//! `cargo xtask bench spawn`: what the sandbox costs. Starts of a static program that ends at once, against a bare
//! process and against other sandboxes, interleaved; then the throughput of real services inside against outside.
//! Prints the aims beside what was measured; fails when one is missed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::samples::{aim, busy, line, median};
use crate::image::{self, ImageError};
use crate::images::{self, ImagesError};
use crate::setup::{self, SetupError};
use crate::workspace::{Workspace, WorkspaceError, cargo};
use crate::{host, workspace};

/// Ours against a bare process, at most.
const AGAINST_BARE: f64 = 2.0;
/// Bubblewrap against ours, at least.
const AGAINST_BUBBLEWRAP: f64 = 3.0;
/// What the profile may cost a service of its throughput.
const THROUGHPUT_LOSS: f64 = 0.03;

#[derive(clap::Args)]
pub struct Arguments {
    /// Starts of each contestant.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    rounds: u32,
    /// Leave out the services: they are large to build.
    #[arg(long)]
    spawn_only: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("setting up")]
    Setup(#[from] SetupError),
    #[error("finding the workspace")]
    Workspace(#[from] WorkspaceError),
    #[error("building the services")]
    Services(#[from] ImageError),
    #[error("copying a service's configuration")]
    Configuration(#[from] ImagesError),
    #[error("using {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("running {0}")]
    Run(String, #[source] std::io::Error),
    #[error("{0} failed: {1}")]
    Failed(String, String),
    #[error("no cgroup v2 hierarchy is mounted on this machine")]
    NoCgroup,
    #[error("missed: {0}")]
    Missed(String),
}

/// A folder of root's for what is measured, gone when dropped. Not below /tmp, which sandboxes have their own of.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _left_in_var_tmp = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    fn new() -> Result<Place, SpawnError> {
        let place = Place(PathBuf::from(format!("/var/tmp/orama-bench-{}", std::process::id())));
        fs::create_dir_all(place.0.join("oci/rootfs/proc")).map_err(|source| place.failed("oci", source))?;
        for folder in ["dev", "sys", "tmp", "usr", "etc"] {
            let path = place.0.join("oci/rootfs").join(folder);
            fs::create_dir_all(&path).map_err(|source| SpawnError::File { path, source })?;
        }
        Ok(place)
    }

    fn failed(&self, name: &str, source: std::io::Error) -> SpawnError {
        SpawnError::File { path: self.0.join(name), source }
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, SpawnError> {
        let path = self.0.join(name);
        fs::write(&path, text).map_err(|source| self.failed(name, source))?;
        Ok(path)
    }
}

pub fn run(arguments: &Arguments) -> Result<(), SpawnError> {
    setup::ensure()?;
    let workspace = Workspace::find()?;
    let bench = build_bench(&workspace)?;
    busy();
    let place = Place::new()?;
    let cgroup = cgroup_base()?;
    let mut missed = spawns(arguments.rounds, &bench, &place, &cgroup)?;
    if !arguments.spawn_only {
        missed.extend(throughput(&workspace, &bench, &place, &cgroup)?);
    }
    if missed.is_empty() { Ok(()) } else { Err(SpawnError::Missed(missed.join("; "))) }
}

/// As shipped: in release mode.
fn build_bench(workspace: &Workspace) -> Result<PathBuf, SpawnError> {
    let mut build = cargo();
    build.current_dir(&workspace.root);
    build.args(["build", "--release", "--package", "orama-sandbox", "--bin", "sandbox-bench"]);
    run_to_end(&mut build)?;
    Ok(workspace.target.join("release/sandbox-bench"))
}

fn run_to_end(command: &mut Command) -> Result<(), SpawnError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| SpawnError::Run(name.clone(), error))?;
    if status.success() { Ok(()) } else { Err(SpawnError::Failed(name, status.to_string())) }
}

/// Runs the measuring program as root and gives its output, lines of a name and numbers.
fn measure(bench: &Path, arguments: &[&OsStr]) -> Result<String, SpawnError> {
    let name = bench.display().to_string();
    let output = host::as_root(bench.as_os_str(), &[("PATH", OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin"))])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| SpawnError::Run(name.clone(), error))?;
    if !output.status.success() {
        return Err(SpawnError::Failed(name, output.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn spawns(rounds: u32, bench: &Path, place: &Place, cgroup: &Path) -> Result<Vec<String>, SpawnError> {
    let program = place.0.join("true");
    let source = place.write("true.c", "int main(void) { return 0; }\n")?;
    run_to_end(Command::new("gcc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source))?;
    let inside = place.0.join("oci/rootfs/true");
    fs::copy(&program, &inside).map_err(|source| place.failed("oci/rootfs/true", source))?;
    place.write("oci/rootfs/etc/os-release", "ID=bench\n")?;
    place.write("oci/config.json", &bundle(&place.0.join("oci"))?)?;
    let profile = place.write("profile.toml", &profile(&place.0, &program, cgroup))?;
    let (place, program) = (place.0.display(), program.display());
    let contestants = [
        format!(
            "bubblewrap bwrap --unshare-all --share-net --die-with-parent --new-session --ro-bind {program} /true \
             --proc /proc --dev /dev --tmpfs /tmp /true"
        ),
        format!("crun crun run --bundle {place}/oci orama-bench-crun"),
        format!("runc runc run --bundle {place}/oci orama-bench-runc"),
        format!(
            "systemd-nspawn systemd-nspawn --quiet --register=no --keep-unit --directory={place}/oci/rootfs /true"
        ),
    ];
    let contestants = contestants.join(" -- ");
    let rounds = rounds.to_string();
    let mut arguments: Vec<&OsStr> =
        ["spawn".as_ref(), rounds.as_ref(), cgroup.as_os_str(), profile.as_os_str()].to_vec();
    arguments.extend(contestants.split_ascii_whitespace().map(OsStr::new));
    let output = measure(bench, &arguments)?;
    Ok(spawn_table(&output))
}

/// Prints the starts; gives what was missed.
fn spawn_table(output: &str) -> Vec<String> {
    let samples = samples(output);
    let of = |name: &str| samples.get(name).map_or(f64::NAN, |samples| median(samples));
    println!(
        "{:<58} {:>8} {:>8} {:>8}",
        "start of a static program to its end, µs", "least", "median", "most"
    );
    let bare = of("bare");
    for name in ["bare", "ours", "ours+prepare", "bubblewrap", "crun", "runc", "systemd-nspawn"] {
        match samples.get(name) {
            Some(times) => {
                let what = format!("{name} ({:.2} × bare)", median(times) / bare);
                println!("{}", line(&what, times));
            }
            None => println!("{name}: did not run here"),
        }
    }
    output.lines().filter_map(|line| line.strip_prefix("# ")).for_each(|note| println!("{note}"));
    let mut missed = Vec::new();
    let ratio = of("ours") / bare;
    aim(&mut missed, format!("ours {ratio:.2} × bare, aim at most {AGAINST_BARE:.1}"), ratio <= AGAINST_BARE);
    let ratio = of("bubblewrap") / of("ours");
    let words = format!("bubblewrap {ratio:.2} × ours, aim at least {AGAINST_BUBBLEWRAP:.1}");
    aim(&mut missed, words, ratio >= AGAINST_BUBBLEWRAP);
    missed
}

fn samples(output: &str) -> BTreeMap<String, Vec<f64>> {
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (name, value) in output.lines().filter_map(|line| line.split_once(' ')) {
        if let Ok(value) = value.parse() {
            samples.entry(name.to_owned()).or_default().push(value);
        }
    }
    samples
}

/// runc's own default, with our program.
fn bundle(folder: &Path) -> Result<String, SpawnError> {
    run_to_end(Command::new("runc").arg("spec").current_dir(folder))?;
    let path = folder.join("config.json");
    let text = fs::read(&path).map_err(|source| SpawnError::File { path: path.clone(), source })?;
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/true"]);
    Ok(config.to_string())
}

/// Everything a profile of ours has: the limits only where this machine has the controllers.
fn profile(place: &Path, program: &Path, cgroup: &Path) -> String {
    let controllers = cgroup.parent().map(|mount| mount.join("cgroup.controllers"));
    let controllers = controllers.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let has = |name: &str| controllers.split_ascii_whitespace().any(|known| known == name);
    let limits: Vec<&str> =
        [("memory", "memory_bytes = 536870912"), ("pids", "pids = 256"), ("cpu", "cpu_weight = 100")]
            .into_iter()
            .filter_map(|(controller, limit)| has(controller).then_some(limit))
            .collect();
    format!(
        "version = 1\nname = \"bench\"\nbinary = \"{}\"\n[user]\nuid = 61999\n\
         [filesystem]\nwritable = [\"{}/data\"]\n[rlimits]\nnofile = 1024\n[cgroup]\n{}\n\
         [landlock]\ntcp_bind = [4001, 4002]\ntcp_connect = [4001, 4002]\n\
         [seccomp]\nmode = \"enforce\"\nsets = [\"base\", \"files\", \"fsync\", \"network\", \"interfaces\"]\n",
        program.display(),
        place.display(),
        limits.join("\n"),
    )
}

fn cgroup_base() -> Result<PathBuf, SpawnError> {
    let path = Path::new("/proc/self/mounts");
    let mounts = fs::read_to_string(path).map_err(|source| SpawnError::File { path: path.into(), source })?;
    let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = lines.find(|fields| fields.get(2) == Some(&"cgroup2")).ok_or(SpawnError::NoCgroup)?;
    Ok(Path::new(mount[1]).join("orama-bench"))
}

/// rqlited and coredns, each twice at once: inside its profile on 127.0.0.2, outside on 127.0.0.3.
fn throughput(
    workspace: &workspace::Workspace,
    bench: &Path,
    place: &Place,
    cgroup: &Path,
) -> Result<Vec<String>, SpawnError> {
    let mut missed = Vec::new();
    for (service, binary, config) in [("rqlite", "rqlited", None), ("coredns", "coredns", Some("coredns"))] {
        let program = image::service_for_bench(&workspace.root, &workspace.target, binary)?;
        let path = workspace.root.join("policies").join(format!("{service}.toml"));
        let text = fs::read_to_string(&path).map_err(|source| SpawnError::File { path, source })?;
        let mut text = text.replace("/opt/orama/.orama/data/", &format!("{}/data/", place.0.display()));
        if let Some(folder) = config {
            // The node's own configuration; a copy, because the tree may be below /tmp.
            let here = place.0.join(folder);
            images::copy_folder(&workspace.root.join("image").join(folder), &here)?;
            text = text.replace(&format!("/etc/orama/{folder}"), &here.display().to_string());
        }
        let profile = place.write(&format!("{service}.toml"), &text)?;
        let arguments: Vec<&OsStr> = vec![
            "throughput".as_ref(),
            service.as_ref(),
            cgroup.as_os_str(),
            profile.as_os_str(),
            program.as_os_str(),
            place.0.as_os_str(),
        ];
        let samples = samples(&measure(bench, &arguments)?);
        let of = |name: &str| samples.get(name).map_or(&[][..], Vec::as_slice);
        println!(
            "\n{:<58} {:>8} {:>8} {:>8}",
            format!("{service}, requests a second"),
            "least",
            "median",
            "most"
        );
        println!("{}", line("inside its profile", of("inside")));
        println!("{}", line("outside", of("outside")));
        println!("{}", line("inside / outside, slice by slice", of("ratio")));
        let loss = 1.0 - median(of("ratio"));
        let words = format!(
            "{service} loses {:.1} % of its throughput, aim at most {:.0} %",
            loss * 100.0,
            THROUGHPUT_LOSS * 100.0
        );
        aim(&mut missed, words, loss <= THROUGHPUT_LOSS);
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_aims_are_named() {
        let output = "bare 100\nours 150\nbubblewrap 600\n# crun: no\nnoise\n";
        assert!(spawn_table(output).is_empty());
        let missed = spawn_table(&output.replace("ours 150", "ours 250"));
        assert_eq!(missed.len(), 2, "{missed:?}");
        assert!(missed[0].starts_with("ours 2.50 × bare"), "{missed:?}");
        assert_eq!(spawn_table("bare 1\nours 1\n").len(), 1, "a contestant that did not run proves nothing");
    }
}
