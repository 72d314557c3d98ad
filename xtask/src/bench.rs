//! `cargo xtask bench boot`: how long an enrolled node takes from power-on to all services, against the floor:
//! the same kernel on the same disk with an init that only opens the volume. Interleaved in one run, as only
//! ratios of numbers from one run mean anything. Prints the limits beside what was measured.

mod actors;
mod samples;
mod spawn;
mod unlock;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_keyshare::{CombineError, Envelope, EnvelopeError, ShareSeal, combine};
use qemu_tests::artifacts::Image;
use qemu_tests::disk::{DiskError, Header};
use qemu_tests::guardian_client::{FetchError, fetch_all};
use qemu_tests::net::{RootlessError, again_in_user_namespace};
use qemu_tests::operator::OperatorError;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario, ScenarioError};
use qemu_tests::vm::{MachineError, Start, uptime_seconds};

use crate::image::{self, ImageError};
use crate::images::{self, Built, ImagesError};
use crate::setup::{self, SetupError};
use crate::workspace::{Workspace, WorkspaceError};

use samples::{Samples, line};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Agent start to all services spawned, against the whole boot and the floor.
    Boot {
        /// How often each kind of boot is measured.
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
        runs: u32,
    },
    /// Starts in the sandbox against a bare process and other sandboxes; throughput of services inside and outside.
    Spawn(spawn::Arguments),
    /// Fetching shares from guardians 50 ms away; splitting and combining keys against vsss-rs. Fails when an aim is missed.
    Unlock(unlock::Arguments),
    /// Memory of idle ServiceActors; exit code 1 when one takes more than 30 kB.
    Actors {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=10_000))]
        count: u32,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("setting up")]
    Setup(#[from] SetupError),
    #[error("finding the workspace")]
    Workspace(#[from] WorkspaceError),
    #[error(transparent)]
    Spawn(#[from] spawn::SpawnError),
    #[error(transparent)]
    Unlock(#[from] unlock::UnlockError),
    #[error(transparent)]
    Actors(#[from] actors::ActorsError),
    #[error("preparing the image")]
    Images(#[from] ImagesError),
    #[error("preparing the floor")]
    Floor(#[from] ImageError),
    #[error("a private network without root")]
    Rootless(#[from] RootlessError),
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("the header's early state is not as documented")]
    EarlyState,
    #[error("cutting out the header")]
    Disk(#[from] DiskError),
    #[error("fetching shares")]
    Shares(#[from] FetchError),
    #[error("reading a share")]
    Envelope(#[from] EnvelopeError),
    #[error("putting the key together")]
    Combine(#[from] CombineError),
    #[error("using {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("no time on the console line {0:?}")]
    NoTime(String),
    #[error("no rootfs_bytes_without_services in {0}")]
    Manifest(PathBuf),
}

/// Seconds of one boot of the node.
struct Boot {
    /// Power-on to all services spawned, on the clock of this machine.
    whole: f64,
    /// Kernel start to all services spawned, on the node's clock.
    uptime: f64,
    /// Agent start to all services spawned, on the node's clock.
    agent: f64,
}

pub fn run(arguments: &Arguments) -> Result<(), BenchError> {
    match &arguments.what {
        What::Boot { runs } => boot(*runs),
        What::Spawn(arguments) => Ok(spawn::run(arguments)?),
        What::Unlock(arguments) => Ok(unlock::run(arguments)?),
        What::Actors { count } => Ok(actors::run(&Workspace::find()?, *count)?),
    }
}

fn boot(runs: u32) -> Result<(), BenchError> {
    setup::ensure()?;
    let built = images::small(&Workspace::find()?)?;
    if let Some(status) = again_in_user_namespace(&[])? {
        println!("(measured in a user namespace: {status})");
        return Ok(());
    }
    let mut scenario = Scenario::prepare_in(&built.artifacts, "bench", Image::Small)?;
    let node = enroll(&mut scenario)?;
    println!("rss, idle after enrollment: {}", rss(&scenario, &node)?);
    let floor = floor(&mut scenario, &built, &node)?;
    measure(&mut scenario, &node, &built, &floor, runs)?;
    println!("rootfs without services: {}", rootfs(&built)?);
    Ok(())
}

fn enroll(scenario: &mut Scenario) -> Result<Enrolled, BenchError> {
    scenario.machine.power_on()?;
    scenario.wait_enrollment_mode()?;
    let node = scenario.enroll()?;
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT)?;
    scenario.wait_healthy(&node.node_id)?;
    Ok(node)
}

/// Long after everything has started: what stays is what counts.
fn rss(scenario: &Scenario, node: &Enrolled) -> Result<String, BenchError> {
    std::thread::sleep(Duration::from_secs(20));
    let bytes = scenario.operator.status(&node.node_id)?.agent.rss_bytes;
    Ok(limit(bytes, 12 << 20))
}

fn rootfs(built: &Built) -> Result<String, BenchError> {
    let path = built.image.folder.join("manifest.json");
    let text = std::fs::read(&path).map_err(|source| BenchError::File { path: path.clone(), source })?;
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let bytes = manifest["rootfs_bytes_without_services"].as_u64().ok_or(BenchError::Manifest(path))?;
    Ok(limit(bytes, 16 << 20))
}

fn limit(bytes: u64, limit: u64) -> String {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let verdict = if bytes <= limit { "within" } else { "OVER" };
    format!("{:.1} MiB, {verdict} the limit of {:.0} MiB", mib(bytes), mib(limit))
}

/// An initramfs that carries the node's volume key, which is put together from shares for this.
fn floor(scenario: &mut Scenario, built: &Built, node: &Enrolled) -> Result<PathBuf, BenchError> {
    switch_off(scenario, node)?;
    let folder = scenario.cluster.folder().to_owned();
    let header = Header::cut_out(&scenario.machine.disk(), &folder.join("header"))?;
    let guardians: Vec<_> = scenario.cluster.guardians().iter().map(|guardian| guardian.socket()).collect();
    let state = header.early_state()?;
    let seal = share_seal(&state).ok_or(BenchError::EarlyState)?;
    let mut envelopes = Vec::new();
    for bytes in fetch_all(scenario.network(), &guardians, &state)? {
        envelopes.push(Envelope::decode_sealed(&bytes, &seal)?);
    }
    let needed = envelopes.first().map_or(0, |envelope| envelope.threshold.k());
    let key = combine(envelopes.iter().map(|envelope| &envelope.share), needed)?;
    let key_file = folder.join("volume.key");
    std::fs::write(&key_file, key.expose())
        .map_err(|source| BenchError::File { path: key_file.clone(), source })?;
    let initrd = folder.join("floor-initrd");
    image::floor_initrd(&built.options, &key_file, &initrd)?;
    Ok(initrd)
}

/// What opens the shares of the node whose header this is.
fn share_seal(early_state: &serde_json::Value) -> Option<ShareSeal> {
    let key = STANDARD.decode(early_state["wireguard"]["private_key"].as_str()?).ok()?;
    let volume = u128::from_str_radix(&early_state["volume_uuid"].as_str()?.replace('-', ""), 16).ok()?;
    Some(ShareSeal::new(&key.try_into().ok()?, volume.to_be_bytes()))
}

fn switch_off(scenario: &mut Scenario, node: &Enrolled) -> Result<(), BenchError> {
    scenario.operator.command(&node.node_id, "poweroff", None)?;
    scenario.machine.wait_off(Duration::from_secs(120))?;
    Ok(())
}

fn measure(
    scenario: &mut Scenario,
    node: &Enrolled,
    built: &Built,
    floor_initrd: &Path,
    runs: u32,
) -> Result<(), BenchError> {
    let kernel = |initrd: &Path| Start::Kernel {
        kernel: built.image.kernel.clone(),
        initrd: initrd.to_owned(),
        command_line: built.image.cmdline.clone(),
    };
    let mut samples = Samples::default();
    for run in 1..=runs {
        scenario.machine.start_from(Start::Firmware);
        let firmware = boot_node(scenario, node)?;
        scenario.machine.start_from(kernel(&built.image.initrd));
        let direct = boot_node(scenario, node)?;
        scenario.machine.start_from(kernel(floor_initrd));
        let floor = boot_floor(scenario)?;
        println!(
            "run {run}: with firmware {:.1} s; kernel directly {:.1} s; floor {floor:.1} s",
            firmware.whole, direct.whole
        );
        samples.whole.push(firmware.whole);
        samples.share.push(firmware.agent / firmware.whole);
        samples.agent.push(firmware.agent);
        samples.direct_uptime.push(direct.uptime);
        samples.floor.push(floor);
        samples.ratio.push(direct.uptime / floor);
    }
    println!("\n{:<58} {:>8} {:>8} {:>8}", "", "least", "median", "most");
    println!("{}", line("power-on to all services, with firmware, s", &samples.whole));
    println!("{}", line("agent start to all services, s", &samples.agent));
    println!("{}", line("  its share of the whole boot", &samples.share));
    println!("{}", line("kernel start to all services, s", &samples.direct_uptime));
    println!("{}", line("floor: kernel start to volume open, s", &samples.floor));
    println!("{}", line("  node against floor (aim: at most 1.5)", &samples.ratio));
    Ok(())
}

fn boot_node(scenario: &mut Scenario, node: &Enrolled) -> Result<Boot, BenchError> {
    let power_on = Instant::now();
    scenario.machine.power_on()?;
    let agent = stamp(&scenario.machine.wait_for("is PID 1", BOOT_LIMIT)?)?;
    let spawned = stamp(&scenario.machine.wait_for("orama: all services spawned", BOOT_LIMIT)?)?;
    let whole = power_on.elapsed().as_secs_f64();
    scenario.wait_healthy(&node.node_id)?;
    switch_off(scenario, node)?;
    Ok(Boot { whole, uptime: spawned, agent: spawned - agent })
}

/// Seconds from the kernel's start to an open volume.
fn boot_floor(scenario: &mut Scenario) -> Result<f64, BenchError> {
    scenario.machine.power_on()?;
    let line = scenario.machine.wait_for("floor: volume open, uptime ", BOOT_LIMIT)?;
    scenario.machine.wait_off(Duration::from_secs(60))?;
    let seconds = line.split("uptime ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    seconds.ok_or(BenchError::NoTime(line))
}

fn stamp(line: &str) -> Result<f64, BenchError> {
    uptime_seconds(line).ok_or_else(|| BenchError::NoTime(line.to_owned()))
}
