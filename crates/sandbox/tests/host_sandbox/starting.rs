//! What surrounds a start: prepare steps, the notification socket, Landlock, tracing, what a start finds changed.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::mpsc::channel;

use orama_sandbox::{Preparation, PrepareError, Seen, Variables, Watcher};

use crate::null;
use crate::rig::{AUDIT, ENFORCE, REFUSE, Rig, cgroup_base, in_full};

const UNIX: &str =
    "[[seccomp.allow]]\nsyscalls = [\"socket\", \"connect\", \"bind\", \"sendto\"]\nwhy = \"test\"\n";

#[test]
fn steps_run_the_binary_in_the_sandbox_and_only_when_due() {
    let mut rig = Rig::new();
    rig.sections = format!(
        "[[prepare]]\narguments = [\"write\", \"{data}/made\"]\nunless_exists = \"{data}/made\"\n\
         [[prepare]]\narguments = [\"exit\", \"3\"]\ntimeout_seconds = 7\n",
        data = rig.data().display()
    );
    let prepared = rig.prepare(&["report"]);
    let [make, fail] = prepared.steps() else { panic!("two steps") };
    assert!(make.is_due().expect("look"));
    assert_eq!(make.timeout.as_secs(), 60);
    let running = prepared.spawn_step(make, null(), null()).expect("spawn");
    assert!(running.wait_blocking().expect("wait").success());
    assert!(!make.is_due().expect("look"), "it has made what it is to make");
    assert_eq!(fail.timeout.as_secs(), 7);
    assert!(fail.is_due().expect("look"), "a step that makes nothing is always due");
    let running = prepared.spawn_step(fail, null(), null()).expect("spawn");
    assert_eq!(running.wait_blocking().expect("wait").code(), Some(3));
}

#[test]
fn a_service_tells_that_it_is_ready_and_the_kernel_who_says_so() {
    let mut rig = Rig::new();
    rig.seccomp = format!("{REFUSE}\n{UNIX}");
    rig.sections = "[readiness]\nnotify = true\n".to_owned();
    let prepared = rig.prepare(&["notify", "READY=1\nSTATUS=fine"]);
    for _ in 0..2 {
        let mut running = prepared.spawn(null(), null()).expect("spawn");
        let socket = running.take_notify().expect("socket");
        assert!(running.take_notify().is_none());
        let pid = running.pid();
        assert!(running.wait_blocking().expect("wait").success());
        let (text, sender) = receive(&socket);
        assert_eq!(text, "READY=1\nSTATUS=fine");
        assert_eq!(sender, pid);
    }
    // What an earlier start has said is not this one's.
    let mut running = prepared.spawn(null(), null()).expect("spawn");
    assert!(running.wait_blocking().expect("wait").success());
    drop(running.take_notify());
    let mut running = prepared.spawn(null(), null()).expect("spawn");
    let socket = running.take_notify().expect("socket");
    let pid = running.pid();
    assert!(running.wait_blocking().expect("wait").success());
    assert_eq!(receive(&socket).1, pid);
}

/// One message and the pid of its sender.
fn receive(socket: &OwnedFd) -> (String, i32) {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut bytes = [0; 256];
    let mut control = nix::cmsg_space!(nix::sys::socket::UnixCredentials);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags).expect("a message");
    let length = message.bytes;
    let sender = message.cmsgs().expect("control").find_map(|control| match control {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials.pid()),
        _ => None,
    });
    (String::from_utf8_lossy(&bytes[..length]).into_owned(), sender.expect("credentials"))
}

/// Version of the kernel's Landlock.
fn abi(rig: &mut Rig) -> u32 {
    rig.prepare(&["report"]).fence().abi
}

#[test]
fn ports_outside_the_lists_are_refused_where_the_kernel_can() {
    let mut rig = Rig::new();
    if abi(&mut rig) < 4 {
        rig.sections = "[landlock]\nmode = \"require\"\ntcp_connect = [1]\n".to_owned();
        let error = rig.try_prepare(&["report"]).expect_err("an old kernel");
        assert!(matches!(error, PrepareError::Landlock { .. }), "{}", in_full(&error));
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    for (list, outcome) in [(port, "ok"), (1, "errno")] {
        rig.sections = format!("[landlock]\nmode = \"require\"\ntcp_connect = [{list}]\ntcp_bind = [1]\n");
        let end = rig.run(&["connect", &format!("127.0.0.1:{port}")]);
        assert_eq!(end.of("connect").0, outcome, "{end:?}");
        let end = rig.run(&["listen", "127.0.0.1:0"]);
        assert_eq!(end.of("listen"), ("errno", libc::EACCES), "{end:?}");
    }
    rig.sections = "[landlock]\nmode = \"off\"\n".to_owned();
    assert_eq!(rig.run(&["listen", "127.0.0.1:0"]).of("listen").0, "ok");
}

#[test]
fn abstract_sockets_of_the_machine_are_out_of_reach_where_the_kernel_can() {
    let mut rig = Rig::new();
    let name = format!("orama-bait-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("address");
    let _listener = UnixListener::bind_addr(&address).expect("bind");
    let fenced = abi(&mut rig) >= 6;
    for (mode, reachable) in [("off", true), ("best_effort", !fenced)] {
        rig.sections = format!("[landlock]\nmode = \"{mode}\"\n");
        let end = rig.run(&["abstract", &name]);
        let expected = if reachable { ("ok", 0) } else { ("errno", libc::EPERM) };
        assert_eq!(end.of("abstract"), expected, "{mode}: {end:?}");
    }
    assert_eq!(rig.prepared().fence().missing.is_empty(), fenced, "what is missing is said");
}

#[test]
fn landlock_keeps_a_service_from_running_and_writing_what_it_may_only_read() {
    let mut rig = Rig::new();
    if abi(&mut rig) < 2 {
        return;
    }
    let proc = "/proc/self/oom_score_adj";
    assert_eq!(rig.run(&["write", proc]).of(proc), ("errno", libc::EACCES));
    let (from, to) = (rig.data().join("a/file"), rig.data().join("b/file"));
    for folder in ["a", "b"] {
        let folder = rig.data().join(folder);
        fs::create_dir_all(&folder).expect("make");
        nix::unistd::chown(&folder, Some(rig.uid.into()), Some(rig.uid.into())).expect("chown");
    }
    let (from, to) = (from.to_str().expect("utf-8"), to.to_str().expect("utf-8"));
    assert_eq!(rig.run(&["write", from]).of(from), ("ok", 1));
    // Landlock forbids this unless it is granted.
    assert_eq!(rig.run(&["rename", from, to]).of("rename"), ("ok", 0));
}

#[test]
fn a_trace_sees_every_call_and_changes_nothing() {
    for (seccomp, outcome) in [(AUDIT, "errors [1]"), (REFUSE, "errors [13]"), (ENFORCE, "")] {
        let mut rig = Rig::new();
        rig.seccomp = seccomp.to_owned();
        let policy = rig.policy(&["refused", "threads", "1", "1"]);
        let variables = Variables { node_id: "n".to_owned(), wg_ip: [127, 0, 0, 1].into() };
        let base = cgroup_base();
        let prepared = Preparation::new(&policy, &variables).base(&base).trace().prepare().expect("prepare");
        let (mut out, out_end) = std::io::pipe().expect("pipe");
        let mut running = prepared.spawn(out_end.into(), null()).expect("spawn");
        let (told, seen) = channel();
        let watcher = Watcher::start_tracing(move |event| told.send(event).expect("told")).expect("watcher");
        watcher.add(running.take_listener().expect("listener"));
        running.wait_blocking().expect("wait");
        drop(watcher);
        let mut said = String::new();
        out.read_to_string(&mut said).expect("read");
        assert_eq!(said.trim(), outcome, "{seccomp}");
        let seen: Vec<Seen> = seen.iter().collect();
        let allowed = |name: &str| {
            seen.iter().any(|event| matches!(event, Seen::Allowed { call, .. } if call.name() == name))
        };
        assert!(allowed("mmap") && allowed("openat") && !allowed("acct"), "{seccomp}");
        let refused: Vec<String> = seen
            .iter()
            .filter_map(|event| match event {
                Seen::Refused(refusal) => Some(refusal.call.name()),
                Seen::Allowed { .. } | Seen::Denied { .. } => None,
            })
            .collect();
        assert_eq!(refused, ["acct"], "{seccomp}");
        prepared.cgroup().remove().expect("remove");
    }
}

#[test]
fn each_start_has_a_new_tmp_and_what_was_replaced_meanwhile() {
    let mut rig = Rig::new();
    rig.prepare(&["write", "/tmp/file"]);
    for _ in 0..3 {
        let (mut out, out_end) = std::io::pipe().expect("pipe");
        let running = rig.prepared().spawn(out_end.into(), null()).expect("spawn");
        assert!(running.wait_blocking().expect("wait").success());
        let mut said = String::new();
        out.read_to_string(&mut said).expect("read");
        assert_eq!(said.trim(), "/tmp/file ok 1");
        // Another binary in its place, another data directory: another inode each.
        let probe = rig.folder.join("probe");
        fs::copy(&probe, rig.folder.join("probe.new")).expect("copy");
        fs::rename(rig.folder.join("probe.new"), &probe).expect("rename");
        fs::remove_dir_all(rig.data()).expect("remove");
        fs::create_dir(rig.data()).expect("make");
        nix::unistd::chown(&rig.data(), Some(rig.uid.into()), Some(rig.uid.into())).expect("chown");
    }
}
