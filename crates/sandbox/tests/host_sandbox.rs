//! The sandbox for real, as root: a probe is started in it and says what it can and cannot do.
//! Needs a mounted cgroup v2 hierarchy. Limits whose controller is missing there must be refused by name.

#[path = "host_sandbox/limits.rs"]
mod limits;
#[path = "host_sandbox/rig.rs"]
mod rig;
#[path = "host_sandbox/starting.rs"]
mod starting;
#[path = "host_sandbox/watching.rs"]
mod watching;

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use orama_sandbox::Outcome::Ran;
use orama_sandbox::{SpawnError, Stage};
use rig::{AUDIT, ENFORCE, REFUSE, Rig, in_full, killed_by};

/// Both ends of a start that is expected to fail.
fn null() -> OwnedFd {
    fs::File::options().write(true).open("/dev/null").expect("open /dev/null").into()
}

fn refused(rig: &Rig) -> SpawnError {
    rig.prepared().spawn(null(), null()).expect_err("must not start")
}

#[test]
fn the_service_is_who_and_where_its_policy_says() {
    let mut rig = Rig::new();
    let outcome = rig.run(&["report"]);
    assert!(outcome.status.success(), "{outcome:?}");
    let values = outcome.values();
    let ids = [rig.uid.to_string(), rig.uid.to_string(), rig.uid.to_string(), rig.uid.to_string()].join(",");
    for (key, expected) in [
        ("Uid", ids.as_str()),
        ("Gid", ids.as_str()),
        ("Groups", ""),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Seccomp_filters", "1"),
        ("SigIgn", "0000000000001000"),
        ("SigBlk", "0000000000000000"),
        ("hostname", rig.name()),
        ("cwd", rig.data().to_str().expect("utf-8")),
        ("env.PLACE", rig.data().to_str().expect("utf-8")),
        ("env.NODE", "node-7 10.0.0.7"),
        ("death_signal", "9"),
        ("dev", "fd,full,null,random,stderr,stdin,stdout,urandom,zero"),
        ("visible_processes", "1"),
        // stdin, stdout, stderr and the listing itself
        ("fds", "4"),
    ] {
        assert_eq!(values.get(key).map(String::as_str), Some(expected), "{key} in {outcome:?}");
    }
    assert_eq!(values.keys().filter(|key| key.starts_with("env.")).count(), 2, "{outcome:?}");
    for hidden in ["sys", "root", "home", "boot", "run", "srv", "mnt"] {
        assert!(!values["root"].split(',').any(|name| name == hidden), "{hidden} in {}", values["root"]);
    }
}

#[test]
fn named_capabilities_and_no_others_reach_the_service() {
    let mut rig = Rig::new();
    rig.sections = "[capabilities]\nambient = [\"CAP_NET_BIND_SERVICE\"]".to_owned();
    let values = rig.run(&["report"]).values();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(values[set], "0000000000000400", "{set}");
    }
}

#[test]
fn nothing_of_others_is_visible() {
    let secret = Rig::new();
    fs::create_dir(secret.data()).expect("make");
    fs::write(secret.data().join("secret"), "x").expect("write");
    let mut rig = Rig::new();
    let path = secret.data().join("secret");
    let path = path.to_str().expect("utf-8");
    let hidden = [
        path,
        "/proc/1/status",
        "/proc/1/root",
        "/proc/kallsyms",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/net/tcp",
        "/sys/kernel",
        "/etc/shadow",
        "/root",
        "/dev/kmsg",
        "/dev/mem",
        "/dev/tty",
        "/opt/orama",
        "/var/tmp/orama-sandbox-escape/../..",
    ];
    let mut args = vec!["look"];
    args.extend(hidden);
    args.extend(["/proc/self/status", "/etc/passwd"]);
    let outcome = rig.run(&args);
    for path in hidden {
        assert_eq!(outcome.of(path), ("errno", libc::ENOENT), "{outcome:?}");
    }
    assert_eq!(outcome.of("/proc/self/status").0, "ok");
    assert_eq!(outcome.of("/etc/passwd").0, "ok");
}

#[test]
fn writing_works_in_the_own_places_only() {
    let mut rig = Rig::new();
    let readable = rig.folder.join("readable");
    fs::create_dir(&readable).expect("make");
    // Open to everybody outside: only the mount stands in the way.
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o777)).expect("set mode");
    fs::set_permissions(rig.folder.join("probe"), fs::Permissions::from_mode(0o777)).expect("set mode");
    rig.readable = vec![readable.clone()];
    let own = rig.data().join("file");
    let own = own.to_str().expect("utf-8").to_owned();
    let readable = readable.join("file").to_str().expect("utf-8").to_owned();
    let binary = rig.folder.join("probe").to_str().expect("utf-8").to_owned();
    let outcome = rig.run(&[
        "write",
        &own,
        "/tmp/file",
        "/dev/null",
        &readable,
        &binary,
        "/file",
        "/etc/passwd",
        "/etc/file",
        "/dev/file",
        "/proc/self/uid_map",
        "/usr/file",
    ]);
    for good in [own.as_str(), "/tmp/file", "/dev/null"] {
        assert_eq!(outcome.of(good), ("ok", 1), "{good} in {outcome:?}");
    }
    let refusals = [libc::EROFS, libc::EACCES, libc::ENOENT, libc::EPERM];
    for bad in [
        readable.as_str(),
        &binary,
        "/file",
        "/etc/passwd",
        "/etc/file",
        "/dev/file",
        "/usr/file",
        "/proc/self/uid_map",
    ] {
        let (word, errno) = outcome.of(bad);
        assert!(word == "errno" && refusals.contains(&errno), "{bad} in {outcome:?}");
    }
    assert_eq!(outcome.of(&readable).1, libc::EROFS);
    assert_eq!(outcome.of(&binary).1, libc::EROFS);
    let status = fs::metadata(rig.data()).expect("data directory");
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (rig.uid, rig.uid, 0o700));
    assert_eq!(fs::metadata(&own).expect("file").uid(), rig.uid);
    assert!(!PathBuf::from("/tmp/file").exists(), "the private /tmp is not private");
}

#[test]
fn the_private_tmp_has_a_size_and_nothing_runs_from_writable_places() {
    let mut rig = Rig::new();
    let outcome = rig.run(&["fill", "/tmp/big"]);
    assert_eq!(outcome.stdout.trim(), format!("written {} errno {}", 1 << 20, libc::ENOSPC), "{outcome:?}");
    fs::copy(rig.folder.join("probe"), rig.data().join("copy")).expect("copy");
    let copy = rig.data().join("copy").to_str().expect("utf-8").to_owned();
    assert_eq!(rig.run(&["exec", &copy]).of("exec"), ("errno", libc::EACCES));
}

#[test]
fn hostile_calls_are_refused_by_errno_and_the_service_lives() {
    let mut rig = Rig::new();
    rig.seccomp = REFUSE.to_owned();
    let outcome = rig.run(&["hostile"]);
    assert!(outcome.status.success(), "{outcome:?}");
    for line in outcome.stdout.lines().filter(|line| !line.starts_with("set_id")) {
        let expected = if line.starts_with("clone3") { libc::ENOSYS } else { libc::EACCES };
        assert!(line.ends_with(&format!(" errno {expected}")), "{line} in {outcome:?}");
    }
    assert_eq!(outcome.stdout.lines().count(), 26, "{outcome:?}");
}

#[test]
fn without_the_filter_the_other_walls_still_stand() {
    let mut rig = Rig::new();
    let outcome = rig.run(&["hostile"]);
    for walled in [
        "mount",
        "umount",
        "pivot_root",
        "chroot",
        "ptrace",
        "module",
        "finit_module",
        "kexec",
        "packet_socket",
        "raw_socket",
        "kill_init",
        "setuid",
        "sethostname",
        "reboot",
        "mknod",
    ] {
        assert_eq!(outcome.of(walled).0, "errno", "{walled} in {outcome:?}");
    }
    assert_eq!(outcome.of("clone3"), ("errno", libc::ENOSYS));
}

#[test]
fn enforce_kills_for_an_unknown_call_and_audit_tells_it() {
    let number = libc::SYS_bpf.to_string();
    let mut rig = Rig::new();
    rig.seccomp = ENFORCE.to_owned();
    let outcome = rig.run(&["syscall", &number]);
    assert_eq!(killed_by(outcome.status), Some(libc::SIGSYS), "{outcome:?}");
    assert_eq!(outcome.stdout, "");

    let mut rig = Rig::new();
    rig.seccomp = AUDIT.to_owned();
    let outcome = rig.run(&["syscall", &number]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(outcome.of(&number).0, "errno");
    let [refusal] = outcome.refusals.as_slice() else { panic!("one refusal in {outcome:?}") };
    assert!(refusal.call.describe().starts_with("bpf("), "{refusal:?}");
    assert_eq!((refusal.outcome, refusal.service.as_str()), (Ran, rig.name()));
}

#[test]
fn foreign_architectures_are_killed_in_every_mode() {
    for mode in [AUDIT, ENFORCE, REFUSE] {
        let mut rig = Rig::new();
        rig.seccomp = mode.to_owned();
        let outcome = rig.run(&["int80"]);
        assert_eq!(killed_by(outcome.status), Some(libc::SIGSYS), "int 0x80 under {mode}: {outcome:?}");
        let x32_getpid = (0x4000_0000 | libc::SYS_getpid).to_string();
        let outcome = rig.run(&["syscall", &x32_getpid]);
        assert_eq!(killed_by(outcome.status), Some(libc::SIGSYS), "x32 under {mode}: {outcome:?}");
    }
}

#[test]
fn argument_rules_and_named_denials_decide() {
    let mut rig = Rig::new();
    rig.seccomp = format!(
        "{REFUSE}\n[[seccomp.deny]]\nsyscalls = [\"io_uring_setup\"]\nerrno = \"ENOSYS\"\nwhy = \"probe\"\n\
         [[seccomp.allow]]\nsyscalls = [\"socket\"]\nwhy = \"test\"\n\
         arguments = [{{ index = 0, value = \"AF_NETLINK\" }}, {{ index = 2, value = 0 }}]\n"
    );
    let outcome = rig.run(&["hostile"]);
    assert_eq!(outcome.of("netlink_socket"), ("ok", 0));
    assert_eq!(outcome.of("packet_socket"), ("errno", libc::EACCES));
    assert_eq!(outcome.of("io_uring"), ("errno", libc::ENOSYS));
}

#[test]
fn the_base_set_has_threads_and_no_forks() {
    let mut rig = Rig::new();
    rig.seccomp = REFUSE.to_owned();
    assert_eq!(rig.run(&["thread"]).stdout, "thread ran\n");
    assert_eq!(rig.run(&["fork"]).stdout.trim(), format!("forks=0 errno={}", libc::EACCES));
}

#[test]
fn kill_all_reaches_what_has_daemonized() {
    let mut rig = Rig::new();
    let mut started = rig.start(&["daemonize"]);
    assert_eq!(started.line(), "daemon");
    let cgroup = started.running.cgroup().clone();
    assert!(cgroup.pids().expect("pids").len() >= 2);
    started.running.signal(libc::SIGTERM).expect("signal");
    started.running.wait_blocking().expect("wait");
    assert!(cgroup.is_populated().expect("populated"), "the daemon outlives its parent");
    assert_eq!(refused(&rig).stage, Stage::Leftovers, "a second start beside leftovers");
    started.running.kill_all().expect("kill");
    let deadline = Instant::now() + Duration::from_secs(5);
    while cgroup.is_populated().expect("populated") {
        assert!(Instant::now() < deadline, "{:?} survive", cgroup.pids());
        std::thread::sleep(Duration::from_millis(5));
    }
    cgroup.remove().expect("remove");
    assert!(!cgroup.path().exists());
}

#[test]
fn a_deaf_service_is_signalled_waited_for_and_killed_through_its_pidfd() {
    let mut rig = Rig::new();
    let mut started = rig.start(&["hardened-sleep"]);
    assert_eq!(started.line(), "deaf");
    started.running.signal(libc::SIGTERM).expect("signal");
    std::thread::sleep(Duration::from_millis(100));
    assert!(started.running.try_wait().expect("wait").is_none(), "SIGTERM was to be ignored");
    started.running.signal(libc::SIGKILL).expect("signal");
    let status = started.running.wait_blocking().expect("wait");
    assert_eq!(killed_by(status), Some(libc::SIGKILL));
    started.running.signal(libc::SIGTERM).expect("signalling the dead is no error");
    assert_eq!(rig.run(&["exit", "7"]).status.code(), Some(7));
}

#[test]
fn namespaces_of_choice() {
    let mut rig = Rig::new();
    rig.sections = "[namespaces]\npid = true\nnet = true\n".to_owned();
    let values = rig.run(&["report"]).values();
    assert_eq!(values["Pid"], "1");
    let mut rig = Rig::new();
    rig.sections = "[namespaces]\nuts = false\n".to_owned();
    let own = nix::unistd::gethostname().expect("host name").into_string().expect("utf-8");
    assert_eq!(rig.run(&["report"]).values()["hostname"], own);
}

#[test]
fn a_start_that_fails_names_its_stage_and_object() {
    let mut rig = Rig::new();
    rig.prepare(&["report"]);
    fs::remove_dir(rig.data()).expect("remove");
    let error = refused(&rig);
    assert_eq!((error.stage, error.errno()), (Stage::ShowPath, libc::ENOENT));
    let expected = format!("show path {}: No such file or directory (os error 2)", rig.data().display());
    assert_eq!(in_full(&error), expected);

    let mut rig = Rig::new();
    rig.prepare(&["report"]);
    fs::write(rig.folder.join("probe"), "no program").expect("write");
    let error = refused(&rig);
    assert_eq!((error.stage, error.errno()), (Stage::Exec, libc::ENOEXEC));
    assert!(error.to_string().ends_with("/probe"), "{error}");

    let mut rig = Rig::new();
    rig.prepare(&["report"]);
    fs::remove_file(rig.folder.join("probe")).expect("remove");
    assert_eq!(refused(&rig).stage, Stage::ShowPath);
    let error = rig.try_prepare(&["report"]).expect_err("no binary");
    let expected = format!("inspect binary {}: No such file", rig.folder.join("probe").display());
    assert!(in_full(&error).starts_with(&expected), "{error}");
}

#[test]
fn data_directories_of_others_and_symlinks_are_refused() {
    let mut rig = Rig::new();
    symlink("/etc", rig.data()).expect("link");
    let error = rig.try_prepare(&["report"]).expect_err("a symlink");
    assert!(in_full(&error).contains("symbolic links"), "{}", in_full(&error));

    let mut rig = Rig::new();
    fs::create_dir(rig.data()).expect("make");
    fs::write(rig.data().join("file"), "root's").expect("write");
    let error = rig.try_prepare(&["report"]).expect_err("root's data");
    assert!(in_full(&error).contains("it belongs to uid 0 gid 0, not to uid"), "{}", in_full(&error));
}
