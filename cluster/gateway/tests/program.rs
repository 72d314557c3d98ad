//! The program itself: its commands, its files, and socket activation.

mod harness;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use harness::public_key;

const PROGRAM: &str = env!("CARGO_BIN_EXE_orama-gateway");

fn write_config(folder: &Path, more: &str) -> String {
    let path = folder.join("gateway.toml");
    let data = folder.join("data/gateway.db");
    let text = format!("[public]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"{}\"\n{more}", data.display());
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).env_clear().output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// A gateway process, killed when the test is over.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts and waits for the line that says that it serves. The log's reader goes away after it, on purpose: a gateway
/// must outlive whoever reads its log.
fn serve(command: &mut Command) -> (Process, Vec<String>) {
    let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = Vec::new();
    for line in BufReader::new(process.0.stderr.take().unwrap()).lines().take(50) {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains("serving operators") {
            return (process, lines);
        }
    }
    panic!("does not serve: {lines:#?}");
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "[agent]\nprot = 1\n");
    let output = run(&["serve", "--config", &config]);
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(error.contains("gateway.toml") && error.contains("line 6") && error.contains("prot"), "{error}");
    let output = run(&["serve", "--config", "/nowhere/gateway.toml"]);
    assert!(text(&output.stderr).contains("/nowhere/gateway.toml"), "{}", text(&output.stderr));
}

#[test]
fn hosts_are_added_changed_listed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "");
    let add = |id: &str, ip: &str, key: &str, more: &[&str]| {
        let fixed = ["peer", "add", "--config", &config, "--node-id", id, "--wg-ip", ip, "--public-key", key];
        run(&[&fixed[..], &["--endpoint", "192.0.2.1:51820"], more].concat())
    };
    let key = public_key(7);
    assert!(add("node-10.0.0.11", "10.0.0.11", &key, &[]).status.success());
    assert!(add("node-10.0.0.12", "10.0.0.12", &key, &["--no-guardian"]).status.success());
    assert!(add("node-10.0.0.12", "10.0.0.12", &key, &["--guardian"]).status.success(), "again is a change");
    for (id, ip, key, wrong) in [
        ("node-10.0.0.13", "10.0.0.12", key.as_str(), "belongs to node-10.0.0.12"),
        ("node-10.0.1.1", "10.0.1.1", &key, "not a host of 10.0.0.0/24"),
        ("node-10.0.0.14", "10.0.0.14", "abc", "--public-key"),
        ("a b", "10.0.0.14", &key, "--node-id"),
    ] {
        let output = add(id, ip, key, &[]);
        assert!(!output.status.success() && text(&output.stderr).contains(wrong), "{}", text(&output.stderr));
    }
    let list = || text(&run(&["peer", "list", "--config", &config]).stdout);
    let line = |last| format!("node-10.0.0.{last}\t10.0.0.{last}\t192.0.2.1:51820\t{key}\tpeer\tguardian\n");
    assert_eq!(list(), line(11) + &line(12));
    let remove = || run(&["peer", "remove", "--config", &config, "--node-id", "node-10.0.0.11"]);
    assert!(remove().status.success());
    assert!(!remove().status.success());
    assert_eq!(list(), line(12));
}

#[actix_web::test]
async fn the_key_is_made_once_kept_private_and_rotated_under_a_running_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "");
    let (_process, lines) = serve(Command::new(PROGRAM).env_clear().args(["serve", "--config", &config]));
    let data = folder.path().join("data");
    for (file, mode) in
        [("gateway.db", 0o600), ("admin.key", 0o600), ("gateway.key", 0o600), ("cluster.secret", 0o600)]
    {
        let found = data.join(file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    let old = std::fs::read_to_string(data.join("admin.key")).unwrap();
    assert!(lines.iter().any(|line| line.contains("admin.key")), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(old.trim())), "the key is not in the log");

    let output = run(&["admin-key", "rotate", "--config", &config]);
    assert_eq!(text(&output.stdout).trim(), data.join("admin.key").display().to_string());
    let new = std::fs::read_to_string(data.join("admin.key")).unwrap();
    assert_ne!(old, new);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = harness::trusting(&data.join("gateway.crt"));
    let url = format!("https://{}/v1/fleet/report", address(&lines));
    for (key, expected) in [(old, 401), (new, 200)] {
        let sent = client.get(&url).bearer_auth(key.trim()).send().await.unwrap();
        assert_eq!(sent.status(), expected);
    }
}

fn address(lines: &[String]) -> String {
    let line = lines.last().unwrap();
    let rest = line.split("address=").nth(1).unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

#[actix_web::test]
async fn an_inherited_socket_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let expected = socket.local_addr().unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--config", &config]);
    let fd = socket.as_raw_fd();
    // SAFETY: dup2 is async-signal-safe, and the closure calls nothing else and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::libc::dup2(fd, 3).eq(&3).then_some(()).ok_or_else(std::io::Error::last_os_error)
        });
    }
    let (_process, lines) = serve(command.env_clear().env("LISTEN_FDS", "1"));
    assert_eq!(address(&lines), expected.to_string());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = harness::trusting(&folder.path().join("data/gateway.crt"));
    let sent = client.get(format!("https://{expected}/v1/fleet/report")).send().await.unwrap();
    assert_eq!(sent.status(), 401);
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_config(folder.path(), "");
    // Descriptor 3 is not open in a fresh child.
    let output =
        Command::new(PROGRAM).args(["serve", "--config", &config]).env("LISTEN_FDS", "1").output().unwrap();
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("file descriptor 3"), "{}", text(&output.stderr));
}
