//! `cargo xtask setup`: names the Debian packages that are missing and installs them.
//! Does not install Rust or Go: it says when they are missing.

use std::ffi::OsStr;
use std::process::Command;

use crate::host;
use crate::image::packages::FOR_BUILDING;

#[derive(clap::Args)]
pub struct Arguments {
    /// Install without asking (also when CI=true).
    #[arg(long, short)]
    pub yes: bool,
    /// Only say what is missing; exit 1 when something is.
    #[arg(long)]
    pub check: bool,
}

/// What running a node and a cluster needs, beside what building an image needs.
const RUNTIME_PACKAGES: [&str; 9] = [
    "qemu-system-x86", // the virtual machines
    "ovmf",            // their firmware
    "curl",            // requests that the orama command would never send, and what the demo tells to try
    "dnsmasq-base",    // the DHCP server of the uplink's host test and of segments with several machines
    "iproute2",        // the cluster's network namespace and its segments
    "cryptsetup-bin",  // opens headers that a test cut out of a disk
    "fdisk",           // sfdisk reads the partition tables of images
    "python3",         // docs/tools: rebuilding a volume key with a separate program
    "python3-venv",    // other wallets, which crates/wallet is tested against
];

/// What compiling the workspace needs: SQLite and rqlite are C.
const BUILD_PACKAGES: [&str; 2] = ["gcc", "libc6-dev"];

/// Other sandboxes: what `bench spawn` measures ours against.
const CONTESTANTS: [&str; 4] = ["bubblewrap", "crun", "runc", "systemd-container"];

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("{tool} is missing: install it as the README says ({hint})")]
    Toolchain { tool: &'static str, hint: &'static str },
    #[error("running dpkg-query; this needs Debian or a system like it")]
    Query(#[source] std::io::Error),
    #[error("missing Debian packages: {0}")]
    Missing(String),
    #[error("not installed, as nobody agreed: run `sudo apt-get install {0}`, or use --yes")]
    Declined(String),
    #[error("running {command}")]
    Run {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{command} failed ({status})")]
    Failed { command: String, status: std::process::ExitStatus },
}

pub fn run(arguments: &Arguments) -> Result<(), SetupError> {
    toolchains()?;
    let missing = missing()?;
    if missing.is_empty() {
        println!("set-up: everything is there");
        return Ok(());
    }
    let list = missing.join(" ");
    println!("set-up: missing Debian packages: {list}");
    if arguments.check {
        return Err(SetupError::Missing(list));
    }
    if !host::is_root() {
        println!("set-up: they are installed with sudo apt-get");
    }
    let agreed = arguments.yes || host::unattended() || host::is_root() || host::confirm("Install them now?");
    if !agreed {
        return Err(SetupError::Declined(list));
    }
    apt(&["update", "--quiet"])?;
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(missing.iter().copied());
    apt(&install)
}

/// The set-up that `demo` and `test` do first: silent when nothing is missing.
pub fn ensure() -> Result<(), SetupError> {
    toolchains()?;
    if missing()?.is_empty() {
        return Ok(());
    }
    run(&Arguments { yes: false, check: false })
}

fn toolchains() -> Result<(), SetupError> {
    let needed = [
        ("cargo", "--version", "https://rustup.rs"),
        ("cargo-clippy", "--version", "rustup component add clippy"),
        ("rustfmt", "--version", "rustup component add rustfmt"),
        ("go", "version", "https://go.dev/dl, in PATH"),
    ];
    for (tool, argument, hint) in needed {
        let works = Command::new(tool).arg(argument).output().is_ok_and(|output| output.status.success());
        if !works {
            return Err(SetupError::Toolchain { tool, hint });
        }
    }
    Ok(())
}

/// Packages that dpkg does not know as installed, sorted, each once.
fn missing() -> Result<Vec<&'static str>, SetupError> {
    let mut needed: Vec<&'static str> = Vec::new();
    needed.extend(RUNTIME_PACKAGES);
    needed.extend(BUILD_PACKAGES);
    needed.extend(CONTESTANTS);
    needed.extend(FOR_BUILDING.iter().map(|required| required.package));
    needed.sort_unstable();
    needed.dedup();
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\\n"])
        .args(&needed)
        .output()
        .map_err(SetupError::Query)?;
    let installed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(without_installed(needed, &installed))
}

fn without_installed(needed: Vec<&'static str>, dpkg: &str) -> Vec<&'static str> {
    let installed =
        |package: &str| dpkg.lines().any(|line| line.split_once(' ') == Some((package, "installed")));
    needed.into_iter().filter(|package| !installed(package)).collect()
}

fn apt(arguments: &[&str]) -> Result<(), SetupError> {
    let command = format!("apt-get {}", arguments.join(" "));
    println!("set-up: {command}");
    let status = host::as_root(OsStr::new("apt-get"), &[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))])
        .args(arguments)
        .status()
        .map_err(|source| SetupError::Run { command: command.clone(), source })?;
    if !status.success() {
        return Err(SetupError::Failed { command, status });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_installed_counts() {
        let dpkg = "ovmf installed\nfdisk config-files\n";
        assert_eq!(without_installed(vec!["fdisk", "mtools", "ovmf"], dpkg), ["fdisk", "mtools"]);
    }
}
