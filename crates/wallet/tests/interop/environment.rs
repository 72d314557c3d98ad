//! The Python environment with the other implementations: made once for each pin below the target directory, from the
//! package index, and kept. Says what to install when it cannot be made.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/requirements.txt");
/// Cargo's own place for what tests leave behind.
const CACHE: &str = env!("CARGO_TARGET_TMPDIR");

/// The folder of programs of the environment, which exists and is complete.
pub fn programs() -> PathBuf {
    // Also tells apart the interpreters that an environment links to.
    let probe = "import ensurepip, sys; print(sys.version, sys.executable)";
    let version = run(Command::new("python3").args(["-c", probe]), "install the Debian package python3-venv");
    let requirements =
        fs::read_to_string(REQUIREMENTS).unwrap_or_else(|error| panic!("{REQUIREMENTS}: {error}"));
    let pin = Sha256::new().chain_update(&version).chain_update(&requirements).finalize();
    let pin: String = pin.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = Path::new(CACHE).join(format!("wallet-interop-{pin}"));
    // One test program at a time makes it.
    let lock = File::create(Path::new(CACHE).join("wallet-interop.lock")).expect("the cache can be written");
    lock.lock().expect("the cache can be locked");
    let ready = folder.join("ready");
    if !ready.exists() {
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("half an environment can be removed");
        }
        println!("making {}", folder.display());
        let mut make = Command::new("python3");
        run(make.args(["-m", "venv"]).arg(&folder), "install the Debian package python3-venv");
        let mut install = Command::new(folder.join("bin/python"));
        install.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        // Nothing is compiled, and no build script of theirs runs.
        install.args(["--no-cache-dir", "--only-binary=:all:", "--requirement", REQUIREMENTS]);
        run(&mut install, "it needs the Python package index");
        fs::write(&ready, "").expect("the environment can be marked");
    }
    folder.join("bin")
}

/// The command as the owner of the target directory, so that nothing in there belongs to root.
pub fn unprivileged(command: &mut Command) -> &mut Command {
    let owner = fs::metadata(CACHE).expect("cargo made the folder");
    let ours = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    if ours == 0 && owner.uid() != 0 {
        command.uid(owner.uid()).gid(owner.gid()).env("HOME", CACHE);
    }
    command
}

fn run(command: &mut Command, hint: &str) -> String {
    let output =
        unprivileged(command).output().unwrap_or_else(|error| panic!("{command:?}: {error}: {hint}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed ({}): {hint}\n{complaint}", output.status);
    String::from_utf8(output.stdout).expect("a program that speaks UTF-8")
}
