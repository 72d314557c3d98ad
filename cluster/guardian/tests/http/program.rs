//! The program: help, refusals, signals, a kill and what is left after it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::client::{folder, identity, request};

const PROGRAM: &str = env!("CARGO_BIN_EXE_vault-guardian");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Program {
    child: Child,
    address: SocketAddr,
    log: BufReader<std::process::ChildStderr>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Already gone when the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(data: &Path) -> Program {
    let mut child = Command::new(PROGRAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .env_clear()
        .env("RUST_LOG", "debug")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut program = Program { child, address: ([0, 0, 0, 0], 0).into(), log };
    for _ in 0..20 {
        let mut line = String::new();
        assert!(program.log.read_line(&mut line).unwrap() > 0, "the guardian ended before it listened");
        if let Some((_, rest)) = line.split_once("address=") {
            program.address = rest.split_whitespace().next().unwrap().parse().unwrap();
            return program;
        }
    }
    panic!("the guardian never said where it listens");
}

impl Program {
    fn session(&self) -> String {
        let post = |path: &str, body: Value| {
            let answer = request(self.address, "POST", path, None, body.to_string().as_bytes());
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.body
        };
        let mut body = post("/v2/vault/auth/challenge", json!({ "identity": identity('a') }));
        body["identity"] = json!(identity('a'));
        let session = post("/v2/vault/auth/session", body);
        format!("{}:{}:{}", identity('a'), session["expiry_ns"], session["tag"].as_str().unwrap())
    }

    fn signal(&mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
        let status = self.child.wait().unwrap();
        let mut log = String::new();
        self.log.read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

#[test]
fn help_says_what_there_is() {
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let output = run(arguments);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("serve"));
    }
    let help = text(&run(&["serve", "--help"]).stdout);
    for word in ["--listen", "--data", "--config", "--listen-anywhere", "10.0.0.11:7500", "SIGTERM"] {
        assert!(help.contains(word), "{word} missing in:\n{help}");
    }
    assert!(!run(&[]).status.success());
}

#[test]
fn refusals_name_the_reason_on_one_line() {
    let folder = folder();
    let data = folder.path().to_str().unwrap();
    let config = folder.path().join("guardian.toml");
    let config = config.to_str().unwrap();
    std::fs::write(config, "listen = '10.0.0.1'\nlisten_everywhere = true\n").unwrap();
    let refuse = |arguments: &[&str], reason: &str| {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains(reason), "{error} does not say {reason}");
    };
    refuse(&["serve", "--listen", "0.0.0.0:7500", "--data", data], "refusing to listen on every address");
    refuse(&["serve", "--listen", "[::]:7500", "--data", data], "refusing to listen on every address");
    refuse(&["serve", "--listen", "everywhere", "--data", data], "`everywhere` is not an address");
    refuse(&["serve", "--data", data], "no address to listen on");
    refuse(&["serve", "--listen", "127.0.0.1:0"], "no data directory");
    refuse(&["serve", "--config", config], "listen_everywhere");
    refuse(&["serve", "--config", "/nowhere/guardian.toml"], "cannot read /nowhere/guardian.toml");
    // Of no interface here: the documentation's addresses (RFC 5737).
    refuse(&["serve", "--listen", "192.0.2.1:7500", "--data", data], "cannot listen on 192.0.2.1:7500");
    refuse(&["serve", "--listen", "127.0.0.1:0", "--data", "/proc/nowhere"], "data directory /proc/nowhere");
}

#[test]
fn a_killed_guardian_keeps_its_secrets_and_a_terminated_one_says_goodbye() {
    let folder = folder();
    let mut program = start(folder.path());
    let token = program.session();
    let share = STANDARD.encode("a very secret share");
    let body = json!({ "share": share, "version": 1 }).to_string();
    let put = request(program.address, "PUT", "/v2/vault/secrets/one", Some(&token), body.as_bytes());
    assert_eq!(put.status, 200, "{}", put.body);
    let (code, _) = program.signal(Signal::SIGKILL);
    assert_eq!(code, None);

    let mut program = start(folder.path());
    let get = |token: &str| request(program.address, "GET", "/v2/vault/secrets/one", Some(token), b"");
    assert_eq!(get(&token).status, 401, "a session outlived its guardian");
    let token = program.session();
    assert_eq!(get(&token).body["share"], share);
    let (code, log) = program.signal(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SIGTERM") && log.contains("stopped"), "{log}");
    // Even at its most talkative, the log holds no share, no token and no identity.
    assert!(log.contains("/v2/vault/secrets/one"), "{log}");
    for secret in [share.as_str(), &token, token.rsplit(':').next().unwrap(), &identity('a')] {
        assert!(!log.contains(secret), "the log holds {secret}:\n{log}");
    }
}
