//! What each tier runs: which cargo call, which test programs, as whom, and for how long.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Count, Report, libtest};
use crate::host;
use crate::workspace::{TestTarget, Workspace, cargo};

/// A cold build of everything takes 8 minutes on two cores; the tests themselves seconds.
const UNIT_LIMIT: Duration = Duration::from_secs(60 * 60);
/// The slowest host test takes about a minute.
const HOST_LIMIT: Duration = Duration::from_secs(10 * 60);
/// The host test that builds whole images: without any cache it compiles the agent and all services first, which took
/// over 10 minutes on two busy cores.
const IMAGE_TEST: (&str, Duration) = ("host_image", Duration::from_secs(40 * 60));
/// The slowest scenario boots a dozen times, at 10 s to 20 s each.
const SCENARIO_LIMIT: Duration = Duration::from_secs(20 * 60);
/// An image with all services is built first; the story itself takes two minutes.
const DEMO_LIMIT: Duration = Duration::from_secs(40 * 60);
/// Scenarios that wait for minutes until obsolete shares are swept or an owner counts as absent: they wait together.
const WAITING: [&str; 2] = ["reshare", "theft"];

pub fn style(workspace: &Workspace, report: &mut Report) {
    let started = Instant::now();
    let mut format = cargo();
    format.current_dir(&workspace.root).args(["fmt", "--all", "--check"]);
    report.add_step("style", "rustfmt", started, status(&mut format));

    let started = Instant::now();
    let mut clippy = cargo();
    clippy.current_dir(&workspace.root).args(["clippy", "--workspace", "--lib", "--bins", "--tests"]);
    for target in workspace.separate_tests() {
        clippy.args(["--test", &target.name]);
    }
    clippy.args(["--", "--deny", "warnings"]);
    report.add_step("style", "clippy", started, status(&mut clippy));
}

pub fn unit(workspace: &Workspace, report: &mut Report) {
    let started = Instant::now();
    let mut command = cargo();
    command.current_dir(&workspace.root).args(["test", "--workspace", "--no-fail-fast"]);
    let (count, note) = libtest::run(&mut command, UNIT_LIMIT);
    report.add("unit", "cargo test", started, count, note);
}

pub fn host(workspace: &Workspace, only: &str, report: &mut Report) {
    for target in separate(workspace, only, |target| target.package != "qemu-tests") {
        let limit = if target.name == IMAGE_TEST.0 { IMAGE_TEST.1 } else { HOST_LIMIT };
        run_target(workspace, "host", &target, &[], limit, report);
    }
}

pub fn vm(workspace: &Workspace, only: &str, report: &mut Report) {
    let started = Instant::now();
    let images = match crate::images::for_tests(workspace) {
        Ok(images) => images,
        Err(error) => {
            let reason = crate::chain(&error);
            return report.add_step("vm", "image", started, Err(reason));
        }
    };
    report.add_step("vm", "image", started, Ok(()));
    let environment = [("ORAMA_TEST_IMAGES", images.as_os_str())];
    let scenarios = separate(workspace, only, |target| target.package == "qemu-tests");
    let (waiting, working): (Vec<_>, Vec<_>) =
        scenarios.iter().partition(|target| WAITING.contains(&target.name.as_str()));
    for target in working {
        run_target(workspace, "vm", target, &environment, SCENARIO_LIMIT, report);
    }
    std::thread::scope(|scope| {
        let run = |target| {
            let mut report = Report::default();
            run_target(workspace, "vm", target, &environment, SCENARIO_LIMIT, &mut report);
            report
        };
        let running: Vec<_> = waiting.into_iter().map(|target| scope.spawn(move || run(target))).collect();
        for scenario in running {
            match scenario.join() {
                Ok(its) => report.append(its),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
}

/// The README's first command, as a newcomer runs it. Through cargo: by now this very program may have been built
/// anew, and the file that we were started from be gone.
pub fn demo(workspace: &Workspace, report: &mut Report) {
    let started = Instant::now();
    println!("\n== vm demo");
    let mut demo = cargo();
    demo.current_dir(&workspace.root).args(["xtask", "demo", "--once"]);
    let (count, note) = libtest::run(&mut demo, DEMO_LIMIT);
    report.add_step("vm", "demo", started, if count.failed == 0 { Ok(()) } else { Err(note) });
}

fn separate(workspace: &Workspace, only: &str, keep: impl Fn(&TestTarget) -> bool) -> Vec<TestTarget> {
    let mut targets = workspace.separate_tests();
    targets.retain(|target| keep(target) && target.name.contains(only));
    targets
}

fn run_target(
    workspace: &Workspace,
    tier: &'static str,
    target: &TestTarget,
    environment: &[(&str, &OsStr)],
    limit: Duration,
    report: &mut Report,
) {
    let started = Instant::now();
    println!("\n== {tier} {}", target.name);
    let program = match build(workspace, target) {
        Ok(program) => program,
        Err(reason) => return report.add_step(tier, &target.name, started, Err(reason)),
    };
    let mut all: Vec<(&str, &OsStr)> = environment.to_vec();
    all.push(("CARGO_MANIFEST_DIR", target.folder.as_os_str()));
    all.push(("RUST_BACKTRACE", OsStr::new("1")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    all.push(("PATH", &path));
    let mut command = host::as_root(program.as_os_str(), &all);
    // One at a time: the tests of one file share a node, and two cores run one node well.
    command.current_dir(&target.folder).arg("--test-threads=1");
    let (count, note) = libtest::run(&mut command, limit);
    if count == Count::default() {
        return report.add_step(tier, &target.name, started, Err("ran no test".into()));
    }
    report.add(tier, &target.name, started, count, note);
}

/// Builds as the user who called us, so that nothing in the target directory belongs to root.
fn build(workspace: &Workspace, target: &TestTarget) -> Result<PathBuf, String> {
    let output = cargo()
        .current_dir(&workspace.root)
        .args(["test", "--no-run", "--message-format", "json-render-diagnostics"])
        .args(["--package", &target.package, "--test", &target.name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err("does not build".into());
    }
    executable(&String::from_utf8_lossy(&output.stdout), &target.name)
        .ok_or_else(|| "cargo named no program for it".into())
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let target = message.get("target")?;
        if message.get("reason")? != "compiler-artifact" || target.get("name")? != name {
            return None;
        }
        target.get("kind")?.as_array()?.iter().find(|kind| *kind == "test")?;
        Some(Path::new(message.get("executable")?.as_str()?).to_owned())
    })
}

fn status(command: &mut Command) -> Result<(), String> {
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ended with {status}")),
        Err(error) => Err(format!("could not be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_the_named_test_is_found_among_the_messages() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"host_x"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"host_y"},"executable":"/t/host_y-1"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"host_x"},"executable":"/t/host_x-2"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "host_x"), Some(PathBuf::from("/t/host_x-2")));
        assert_eq!(executable(messages, "host_z"), None);
    }
}
