//! A helper process seen from the test: started, asked line by line, ended with the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest time one request may take: a TCP connect that must fail gives up after 3 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
const IP: &str = "/usr/sbin/ip";

pub struct PeerProcess {
    child: Child,
    requests: ChildStdin,
    answers: mpsc::Receiver<String>,
    /// Public key of its interface, once it has one.
    pub key: String,
}

impl PeerProcess {
    pub fn start() -> Self {
        // A test that was started in the background inherits SIGINT ignored, and would pass that on.
        let mut child = Command::new("/usr/bin/env")
            .arg("--default-signal=INT,TERM")
            .arg(std::env::current_exe().unwrap())
            .arg(crate::inner_process::ARGUMENT)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary starts again");
        let requests = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, answers) = mpsc::channel();
        // So that a helper that hangs fails the test instead of hanging it.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut process = Self { child, requests, answers, key: String::new() };
        assert_eq!(process.answer("start"), "ready");
        process
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ask(&mut self, request: &str) -> String {
        writeln!(self.requests, "{request}").expect("the helper lives");
        self.answer(request)
    }

    fn answer(&mut self, request: &str) -> String {
        match self.answers.recv_timeout(ANSWER_LIMIT) {
            Ok(answer) => answer,
            Err(error) => panic!("helper did not answer {request:?}: {error}, {:?}", self.child.try_wait()),
        }
    }

    /// Sends the signal and expects the helper to die of it.
    pub fn ends_by(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        for _ in 0..200 {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.signal(), Some(signal as i32), "{status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the helper is deaf to {signal}");
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        // It may be dead already: that is what some scenarios are about.
        let _dead_already = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Runs `ip` in the network namespace of a helper.
pub fn ip(pid: u32, arguments: &[&str]) {
    let status = Command::new("/usr/bin/nsenter")
        .args([&format!("--net=/proc/{pid}/ns/net"), IP])
        .args(arguments)
        .env_clear()
        .status()
        .expect("/usr/bin/nsenter starts");
    assert!(status.success(), "ip {arguments:?} in the namespace of {pid}: {status}");
}

/// A is 192.168.77.1, B is 192.168.77.2, on a cable of their own.
pub fn connect_by_veth(a: &mut PeerProcess, b: &mut PeerProcess) {
    let (pid_a, pid_b) = (a.pid().to_string(), b.pid().to_string());
    ip(
        std::process::id(),
        &["link", "add", "cable", "netns", &pid_a, "type", "veth", "peer", "name", "cable", "netns", &pid_b],
    );
    for (pid, address) in [(a.pid(), "192.168.77.1/24"), (b.pid(), "192.168.77.2/24")] {
        ip(pid, &["address", "add", address, "dev", "cable"]);
        ip(pid, &["link", "set", "cable", "up"]);
    }
}
