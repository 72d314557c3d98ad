//! `orama policy learn` and `test` as root on this machine: what a program did becomes a patch with which it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// A profile for the hostile program that allows it too little even to start.
struct Rig {
    folder: PathBuf,
}

impl Rig {
    fn new() -> Rig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "`orama policy learn` needs root");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/var/tmp/orama-learn-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("make the folder");
        fs::copy(env!("CARGO_BIN_EXE_policy-hostile"), folder.join("program")).expect("copy");
        let rig = Rig { folder };
        rig.write("bare.toml", &rig.profile(63_000 + number, "[]"));
        rig.write("base.toml", &rig.profile(63_000 + number, "[\"base\"]"));
        rig
    }

    fn profile(&self, uid: u32, sets: &str) -> String {
        format!(
            "version = 1\nname = \"learner-{uid}\"\nbinary = \"{}/program\"\narguments = [\"environment\"]\n\
             user = {{ uid = {uid} }}\n[seccomp]\nmode = \"enforce\"\nsets = {sets}\n",
            self.folder.display()
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("write");
    }

    fn orama(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_orama"))
            .arg("policy")
            .args(words)
            .current_dir(&self.folder)
            .output()
            .expect("run orama")
    }

    fn out(&self, words: &[&str], code: i32) -> String {
        let output = self.orama(words);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}\n{stdout}\n{stderr}");
        stdout
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _already_failing = fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn a_learned_patch_is_enough_and_no_run_of_it_is_refused() {
    let rig = Rig::new();
    let end = rig.orama(&["run", "bare.toml"]);
    assert_eq!(end.status.code(), Some(128 + nix::libc::SIGSYS), "it must not start before it has learned");
    let patch = rig.out(&["learn", "bare.toml", "--runs", "2", "--save", "seen.json"], 0);
    assert!(patch.contains("[[seccomp.allow]]") && patch.contains("execve, dup3, close_range"), "{patch}");
    let learned = fs::read_to_string(rig.path("bare.toml")).expect("profile") + &patch;
    rig.write("learned.toml", &learned);
    let end = rig.orama(&["run", "learned.toml"]);
    let told = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(0), "{told}");
    assert!(told.contains("nothing was refused"), "{told}");
    rig.out(&["check", "learned.toml"], 0);
    let tested = rig.out(&["test", "learned.toml"], 0);
    assert!(tested.contains("The kernel does what the profile says."), "{tested}");

    // The recording alone says the same, without a run.
    let again = rig.out(&["learn", "bare.toml", "--recording", "seen.json"], 0);
    let rules =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(rules(&again), rules(&patch));
    assert!(rules(&rig.out(&["learn", "learned.toml", "--recording", "seen.json"], 0)).trim().is_empty());
}

#[test]
fn a_baseline_is_never_exceeded() {
    let rig = Rig::new();
    rig.out(&["learn", "bare.toml", "--save", "seen.json", "--", "/bin/ls", "-l", "/"], 0);
    let told = rig.out(&["learn", "bare.toml", "--recording", "seen.json", "--baseline", "base.toml"], 1);
    assert!(told.contains("# left out, as the baseline does not allow it: "), "{told}");
    let rules: String = told.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert!(!rules.contains("xattr") && rules.contains("\"mmap\""), "{told}");
    rig.write("widened.toml", &(fs::read_to_string(rig.path("bare.toml")).expect("profile") + &told));
    rig.out(&["diff", "base.toml", "widened.toml"], 0);
}

#[test]
fn a_service_that_stays_is_stopped_after_its_time() {
    let rig = Rig::new();
    let told = rig.out(&["learn", "bare.toml", "--for", "1", "--", "/bin/sleep", "50"], 0);
    assert!(told.contains("nanosleep"), "{told}");
}

#[test]
fn json_is_for_programs() {
    let rig = Rig::new();
    let read = |text: &str| -> serde_json::Value { serde_json::from_str(text).expect("JSON") };
    let learned = read(&rig.out(&["learn", "bare.toml", "--json"], 0));
    assert!(learned["patch"].as_str().is_some_and(|patch| patch.contains("[[seccomp.allow]]")), "{learned}");
    let tested = read(&rig.out(&["test", "base.toml", "--json"], 0));
    assert!(tested["tried"].as_u64() > Some(600) && tested["wrong"].as_array().is_some_and(Vec::is_empty));
    let run = rig.orama(&["run", "bare.toml", "--json"]);
    let told: Vec<serde_json::Value> = String::from_utf8_lossy(&run.stderr).lines().map(read).collect();
    assert!(told.iter().any(|line| line["refused"]["outcome"] == "killed"), "{told:?}");
    assert_eq!(told.last().map(|line| line["end"]["exit_code"].clone()), Some(159.into()), "{told:?}");
    assert!(Path::new("/sys/fs/cgroup").is_dir());
}
