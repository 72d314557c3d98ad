//! A hostile program with its profile and its bait, and the real command that runs it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

/// What the errno profile answers: nothing else in these tests fails with it.
pub const REFUSED: i32 = libc::EOPNOTSUPP;
/// The exit code of a service that SIGSYS ended.
pub const SIGSYS_CODE: i32 = 128 + libc::SIGSYS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Errno,
    Kill,
    Audit,
    /// As `Errno`, with a minute to stop.
    LongGrace,
}

pub struct Rig {
    folder: PathBuf,
    bait: String,
    data: String,
    uid: u32,
    port: u16,
    _listeners: (TcpListener, UnixListener),
}

#[derive(Debug)]
pub struct End {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// One for all rigs of this process: the name is the whole machine's.
fn abstract_bait() -> &'static UnixListener {
    static BAIT: OnceLock<UnixListener> = OnceLock::new();
    BAIT.get_or_init(|| {
        let address = SocketAddr::from_abstract_name("orama-bait").expect("address");
        UnixListener::bind_addr(&address).expect("abstract bait")
    })
}

impl Rig {
    pub fn new() -> Rig {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "`orama policy run` needs root");
        abstract_bait();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/var/tmp/orama-hostile-{}-{number}", std::process::id()));
        let bait = folder.join("bait");
        fs::create_dir_all(&bait).expect("make the bait");
        let open =
            |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
        fs::write(bait.join("secret"), "secret").expect("write the bait");
        let socket = UnixListener::bind(bait.join("socket")).expect("bind the bait");
        for (path, mode) in [("", 0o755), ("bait", 0o777), ("bait/secret", 0o666), ("bait/socket", 0o777)] {
            open(&folder.join(path), mode);
        }
        let program = folder.join("hostile");
        fs::copy(env!("CARGO_BIN_EXE_policy-hostile"), &program).expect("copy the program");
        // Only the mount stands between it and its own binary.
        open(&program, 0o777);
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind the port");
        let port = tcp.local_addr().expect("address").port();
        Rig {
            bait: bait.to_str().expect("utf-8").to_owned(),
            data: folder.join("data").to_str().expect("utf-8").to_owned(),
            uid: 62_000 + number,
            folder,
            port,
            _listeners: (tcp, socket),
        }
    }

    pub fn bait(&self) -> &str {
        &self.bait
    }

    pub fn data(&self) -> &str {
        &self.data
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn profile(&self, mode: Mode, args: &[&str]) -> PathBuf {
        let (seccomp, grace) = match mode {
            Mode::Errno => ("mode = \"enforce\"\ndefault_action = \"errno\"\nerrno = \"EOPNOTSUPP\"", 1),
            Mode::Kill => ("mode = \"enforce\"", 1),
            Mode::Audit => ("mode = \"audit\"", 1),
            Mode::LongGrace => ("mode = \"enforce\"", 60),
        };
        let text = format!(
            "version = 1\nname = \"hostile-{uid}\"\nbinary = \"{folder}/hostile\"\narguments = {args:?}\n\
             environment = {{ DATA = \"${{data}}\", BAIT_PORT = \"{port}\" }}\n[user]\nuid = {uid}\n\
             [stop]\ngrace_seconds = {grace}\n[filesystem]\nwritable = [\"{data}\"]\ntmp_bytes = 1048576\n\
             [rlimits]\nnofile = 32\nfsize_bytes = 4194304\n\
             [landlock]\ntcp_bind = [1]\ntcp_connect = [1]\n\
             [seccomp]\n{seccomp}\nsets = [\"base\", \"files\", \"network\"]\n\
             [[seccomp.allow]]\nsyscalls = [\"socket\"]\nwhy = \"to try Landlock\"\n\
             arguments = [{{ index = 0, value = \"AF_UNIX\" }}]\n\
             [[seccomp.allow]]\nsyscalls = [\"clone\"]\nwhy = \"plain forks, to try to outlive the stop\"\n\
             arguments = [{{ index = 0, op = \"masked_eq\", mask = 0x7e020000, value = 0 }}]\n\
             [[seccomp.allow]]\nsyscalls = [\"setsid\"]\nwhy = \"to try to outlive the stop\"\n",
            uid = self.uid,
            folder = self.folder.display(),
            port = self.port,
            data = self.data,
        );
        let path = self.folder.join("profile.toml");
        fs::write(&path, text).expect("write the profile");
        path
    }

    pub fn start(&self, mode: Mode, args: &[&str]) -> Started {
        let child = Command::new(env!("CARGO_BIN_EXE_orama"))
            .args(["policy", "run"])
            .arg(self.profile(mode, args))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start orama");
        Started { child }
    }

    pub fn hostile(&self, mode: Mode, args: &[&str]) -> End {
        self.start(mode, args).finish()
    }

    /// Processes of the service's user, anywhere on this machine.
    pub fn processes(&self) -> Vec<i32> {
        let line = format!("Uid:\t{0}\t{0}\t{0}\t{0}", self.uid);
        let entries = fs::read_dir("/proc").expect("/proc");
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let status = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // The dead that PID 1 has not reaped do nothing any more.
        let lives = |text: String| text.contains(&line) && !text.contains("State:\tZ");
        pids.filter(|pid| lives(status(pid))).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _already_failing =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        let _already_failing = fs::remove_dir_all(&self.folder);
    }
}

pub struct Started {
    child: Child,
}

impl Started {
    pub fn stdin(&mut self) -> impl Write {
        self.child.stdin.take().expect("stdin")
    }

    /// The next line of the service's output.
    pub fn line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().expect("stdout");
        let mut line = Vec::new();
        let mut byte = [0];
        while stdout.read(&mut byte).expect("read") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("utf-8")
    }

    pub fn signal(&self, signal: i32) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(signal).expect("signal"))
            .expect("kill");
    }

    pub fn finish(mut self) -> End {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().expect("wait");
        assert_eq!(output.status.signal(), None, "orama itself was ended by a signal");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        End { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
