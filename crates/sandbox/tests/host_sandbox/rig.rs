//! Builds a policy around the probe, starts it and collects what it says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use orama_policy::{Policy, Sets};
use orama_sandbox::{PrepareError, Prepared, Refusal, Running, Variables, Watcher, prepare_in};

/// Longest life of a probe in a test.
const PATIENCE: Duration = Duration::from_secs(20);

/// One service: its own folder, uid, name and cgroup, gone when dropped.
pub struct Rig {
    pub folder: PathBuf,
    pub uid: u32,
    name: String,
    /// TOML sections beside those that every policy of ours has.
    pub sections: String,
    pub readable: Vec<PathBuf>,
    pub seccomp: String,
    pub tmp_bytes: u32,
    prepared: Option<Prepared>,
}

/// What a probe has left.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    #[allow(dead_code, reason = "for the messages of failed assertions")]
    pub stderr: String,
    pub refusals: Vec<Refusal>,
}

impl Outcome {
    /// Lines of the form `key=value`.
    pub fn values(&self) -> BTreeMap<String, String> {
        let pairs = self.stdout.lines().filter_map(|line| line.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Lines of the form `what ok|errno number`.
    pub fn of(&self, what: &str) -> (&str, i32) {
        let found = self.stdout.lines().find_map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            (words.len() == 3 && words[0] == what).then(|| (words[1], words[2].parse().expect("number")))
        });
        found.unwrap_or_else(|| panic!("no word about {what} in {self:?}"))
    }
}

pub const AUDIT: &str = "mode = \"audit\"\nsets = [\"base\", \"files\"]";
pub const ENFORCE: &str = "mode = \"enforce\"\nsets = [\"base\", \"files\"]";
pub const REFUSE: &str =
    "mode = \"enforce\"\ndefault_action = \"errno\"\nerrno = \"EACCES\"\nsets = [\"base\", \"files\"]";

impl Rig {
    pub fn new() -> Rig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "the host tests of the sandbox need root");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let folder = PathBuf::from(format!("/var/tmp/orama-sandbox-{pid}-{number}"));
        fs::create_dir_all(&folder).expect("make the test folder");
        fs::copy(env!("CARGO_BIN_EXE_sandbox-probe"), folder.join("probe")).expect("copy the probe");
        Rig {
            folder,
            uid: 61_000 + number,
            name: format!("probe-{pid}-{number}"),
            sections: String::new(),
            readable: Vec::new(),
            seccomp: AUDIT.to_owned(),
            tmp_bytes: 1 << 20,
            prepared: None,
        }
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn policy(&self, args: &[&str]) -> Policy {
        let text = format!(
            "version = 1\nname = \"{name}\"\nbinary = \"{folder}/probe\"\narguments = {args:?}\n\
             environment = {{ PLACE = \"${{data}}\", NODE = \"${{node_id}} ${{wg_ip}}\" }}\n\
             user = {{ uid = {uid} }}\n{sections}\n\
             [filesystem]\nwritable = [\"{folder}/data\"]\nreadable = {readable:?}\ntmp_bytes = {tmp}\n\
             [seccomp]\n{seccomp}\n",
            name = self.name,
            folder = self.folder.display(),
            uid = self.uid,
            sections = self.sections,
            readable = self.readable,
            tmp = self.tmp_bytes,
            seccomp = self.seccomp,
        );
        let sets = Sets::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/sets"));
        Policy::parse("test", &text, &sets).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    pub fn try_prepare(&mut self, args: &[&str]) -> Result<(), PrepareError> {
        let variables =
            Variables { node_id: "node-7".to_owned(), wg_ip: "10.0.0.7".parse().expect("address") };
        self.prepared = Some(prepare_in(&cgroup_base(), &self.policy(args), &variables)?);
        Ok(())
    }

    pub fn prepared(&self) -> &Prepared {
        self.prepared.as_ref().expect("prepared")
    }

    pub fn prepare(&mut self, args: &[&str]) -> &Prepared {
        self.try_prepare(args).unwrap_or_else(|error| panic!("{}", in_full(&error)));
        self.prepared()
    }

    pub fn start(&mut self, args: &[&str]) -> Started {
        let prepared = self.prepare(args);
        let (out, out_end) = std::io::pipe().expect("pipe");
        let (err, err_end) = std::io::pipe().expect("pipe");
        let mut running = prepared
            .spawn(OwnedFd::from(out_end), OwnedFd::from(err_end))
            .unwrap_or_else(|error| panic!("{}", in_full(&error)));
        let (told, refusals) = channel();
        let watcher = Watcher::start(move |refusal| told.send(refusal).expect("the test listens"));
        let watcher = watcher.expect("watcher");
        watcher.add(running.take_listener().expect("listener"));
        Started { running, watcher, refusals, out: OwnedFd::from(out), err: OwnedFd::from(err) }
    }

    pub fn run(&mut self, args: &[&str]) -> Outcome {
        self.start(args).finish()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(prepared) = &self.prepared {
            // The folder of a failed test may stay; its processes may not.
            let _already_failing = prepared.cgroup().empty(Duration::from_secs(5));
            let _already_failing = prepared.cgroup().remove();
        }
        let _already_failing = fs::remove_dir_all(&self.folder);
    }
}

pub struct Started {
    pub running: Running,
    watcher: Watcher,
    refusals: Receiver<Refusal>,
    out: OwnedFd,
    err: OwnedFd,
}

impl Started {
    /// The first line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0];
        let mut out = fs::File::from(self.out.try_clone().expect("duplicate"));
        while out.read(&mut byte).expect("read output") == 1 && byte[0] != b'\n' {
            line.push(byte[0].into());
        }
        line
    }

    /// Waits for its end, killing it when it takes too long, and collects its output.
    pub fn finish(self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.running.try_wait().expect("wait") {
                break status;
            }
            if Instant::now() > deadline {
                self.running.kill_all().expect("kill");
                self.running.wait_blocking().expect("wait");
                panic!("the probe did not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        self.running.kill_all().expect("kill leftovers");
        let text = |fd: OwnedFd| {
            let mut text = String::new();
            fs::File::from(fd).read_to_string(&mut text).expect("read output");
            text
        };
        let (stdout, stderr) = (text(self.out), text(self.err));
        drop(self.watcher);
        Outcome { status, stdout, stderr, refusals: self.refusals.iter().collect() }
    }
}

pub fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

pub fn killed_by(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// A folder of this test run in the cgroup v2 hierarchy, wherever this machine has it.
pub fn cgroup_base() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup2")
        .expect("the host tests of the sandbox need a mounted cgroup v2 hierarchy");
    Path::new(mount[1]).join("orama-test")
}

/// Whether the hierarchy could limit this.
pub fn has_controller(name: &str) -> bool {
    let file = cgroup_base().parent().expect("mount").join("cgroup.controllers");
    fs::read_to_string(file).expect("controllers").split_whitespace().any(|controller| controller == name)
}
