//! A hostile service under `orama policy run`, as root: the result of every attempt is asserted, under a profile
//! that answers with an errno and under one that kills. What it leaves behind or hoards is asserted too.

#[path = "host_policy_run/rig.rs"]
mod rig;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::libc;
use rig::{Mode, Rig, SIGSYS_CODE};

/// The errors that an attempt may meet behind the filter.
type Wall = &'static [i32];

const ABSENT: Wall = &[libc::ENOENT];
const READ_ONLY: Wall = &[libc::EROFS, libc::EACCES];
const NOT_EXECUTABLE: Wall = &[libc::EACCES];

/// Attempts that the filter lets through, and what stops them. All others must meet the filter.
fn walls() -> BTreeMap<&'static str, Wall> {
    let walls: &[(&'static str, Wall)] = &[
        ("clone3", &[libc::ENOSYS]),
        ("tgkill_init", &[libc::EPERM]),
        ("raise_own_nofile", &[libc::EPERM]),
        ("read_others_data", ABSENT),
        ("list_others_data", ABSENT),
        ("read_shadow", ABSENT),
        ("read_root_home", ABSENT),
        ("read_environ_of_init", ABSENT),
        ("read_root_of_init", ABSENT),
        ("read_memory_of_parent", ABSENT),
        ("read_kcore", ABSENT),
        ("read_kallsyms", ABSENT),
        ("read_proc_sys", ABSENT),
        ("write_core_pattern", ABSENT),
        ("write_sysrq", ABSENT),
        ("read_sys", ABSENT),
        ("read_cgroup", ABSENT),
        ("read_dev_mem", ABSENT),
        ("read_kmsg", ABSENT),
        ("read_disks", ABSENT),
        ("write_passwd", READ_ONLY),
        ("write_usr", READ_ONLY),
        ("write_root", READ_ONLY),
        ("write_dev", READ_ONLY),
        ("write_own_binary", READ_ONLY),
        ("write_own_uid_map", &[libc::EACCES, libc::EPERM]),
        ("write_own_oom_score", &[libc::EACCES, libc::EPERM]),
        ("climb_out_of_data", ABSENT),
        ("climb_out_of_proc_root", ABSENT),
        ("climb_out_of_cwd", ABSENT),
        ("symlink_out", ABSENT),
        ("hardlink_out", &[libc::EXDEV, libc::EPERM, libc::EACCES]),
        ("rename_out", &[libc::EXDEV]),
        ("execute_from_data", NOT_EXECUTABLE),
        ("execute_from_tmp", NOT_EXECUTABLE),
        ("execute_shell", ABSENT),
        ("abstract_socket", &[libc::EPERM]),
        ("named_socket", ABSENT),
        ("forbidden_port", &[libc::EACCES]),
        ("inherited_descriptors", &[libc::EBADF]),
    ];
    walls.iter().copied().collect()
}

fn attempts(rig: &Rig) -> Vec<String> {
    let listed = rig.hostile(Mode::Errno, &["list"]);
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let names: Vec<String> = listed.stdout.lines().map(str::to_owned).collect();
    assert!(names.len() > 90, "{names:?}");
    for name in walls().keys() {
        assert!(names.iter().any(|known| known == name), "no attempt `{name}`");
    }
    names
}

#[test]
fn every_attempt_fails_and_the_service_lives_under_an_errno_profile() {
    let rig = Rig::new();
    let (names, walls) = (attempts(&rig), walls());
    let end = rig.hostile(Mode::Errno, &["all", rig.bait()]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let results: BTreeMap<&str, &str> = end.stdout.lines().filter_map(|line| line.split_once(' ')).collect();
    for name in &names {
        let result = results.get(name.as_str()).unwrap_or_else(|| panic!("no word about {name}: {end:?}"));
        let errno: i32 = result.parse().unwrap_or_else(|_| panic!("{name}: {result}"));
        match walls.get(name.as_str()) {
            None => assert_eq!(errno, rig::REFUSED, "{name} did not meet the filter"),
            Some(known) => assert!(known.contains(&errno), "{name}: {errno}, not {known:?}"),
        }
    }
    // Each kind is told as it happens, with the call in words, what decided, and a patch.
    for told in ["bpf(", "socket(AF_PACKET, SOCK_RAW", "mount(\"none\", \"/tmp\"", "[[seccomp.allow]]"] {
        assert!(end.stderr.contains(told), "{told} is not in {}", end.stderr);
    }
    assert_eq!(end.stderr.matches("refused: acct(").count(), 1);
    assert!(end.stderr.contains("ended with exit code 0"), "{}", end.stderr);
}

#[test]
fn every_attempt_that_meets_the_filter_is_death_under_a_kill_profile() {
    let rig = Rig::new();
    let (names, walls) = (attempts(&rig), walls());
    for name in &names {
        let end = rig.hostile(Mode::Kill, &["try", name, rig.bait()]);
        match walls.get(name.as_str()) {
            None => {
                assert_eq!((end.code, end.stdout.as_str()), (Some(SIGSYS_CODE), ""), "{name}: {end:?}");
                assert!(end.stderr.contains("refused: "), "{name} was killed in silence: {end:?}");
                assert!(end.stderr.contains("was ended by SIGSYS"), "{name}: {end:?}");
            }
            Some(known) => {
                let errno =
                    end.stdout.trim().strip_prefix(name.as_str()).and_then(|text| text.trim().parse().ok());
                assert!(errno.is_some_and(|errno| known.contains(&errno)), "{name}: {end:?}");
                assert!(end.stderr.contains("nothing was refused"), "{name}: {end:?}");
            }
        }
    }
}

#[test]
fn other_architectures_are_death_in_every_mode() {
    let rig = Rig::new();
    for mode in [Mode::Errno, Mode::Kill, Mode::Audit] {
        for order in ["x32", "int80"] {
            let end = rig.hostile(mode, &[order]);
            assert_eq!((end.code, end.stdout.as_str()), (Some(SIGSYS_CODE), ""), "{order} {mode:?}: {end:?}");
        }
    }
}

#[test]
fn nothing_outlives_its_end_or_its_stop() {
    let rig = Rig::new();
    let end = rig.hostile(Mode::Errno, &["outlive"]);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.stdout, "left behind\n");
    assert!(end.stderr.contains("1 of its processes outlived it and were killed"), "{}", end.stderr);
    assert_eq!(rig.processes(), Vec::<i32>::new());

    let mut running = rig.start(Mode::Errno, &["deaf"]);
    assert_eq!(running.line(), "deaf");
    let begin = Instant::now();
    running.signal(libc::SIGTERM);
    let end = running.finish();
    assert_eq!(end.code, Some(128 + libc::SIGKILL), "{end:?}");
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(5),
        "a grace of 1 s took {took:?}"
    );
    assert_eq!(rig.processes(), Vec::<i32>::new());

    // A second request does not wait for the end of the grace.
    let mut running = rig.start(Mode::LongGrace, &["deaf"]);
    assert_eq!(running.line(), "deaf");
    let begin = Instant::now();
    running.signal(libc::SIGINT);
    std::thread::sleep(Duration::from_millis(500));
    running.signal(libc::SIGINT);
    assert_eq!(running.finish().code, Some(128 + libc::SIGKILL));
    assert!(begin.elapsed() < Duration::from_secs(10));

    let running = rig.start(Mode::Errno, &["mute"]);
    std::thread::sleep(Duration::from_millis(300));
    running.signal(libc::SIGTERM);
    assert_eq!(running.finish().code, Some(128 + libc::SIGTERM));
    assert_eq!(rig.processes(), Vec::<i32>::new());
}

#[test]
fn what_it_hoards_has_an_end() {
    let rig = Rig::new();
    let end = rig.hostile(Mode::Errno, &["hoard", rig.data()]);
    assert_eq!(end.code, Some(0), "{end:?}");
    let lines: Vec<&str> = end.stdout.lines().collect();
    let expected = [
        format!("tmp {} {}", 1 << 20, libc::ENOSPC),
        format!("data {} {}", 4 << 20, libc::EFBIG),
        // Beside its three streams and the listing.
        format!("files {} {}", 32 - 3, libc::EMFILE),
    ];
    assert_eq!(lines, expected, "{end:?}");
}

#[test]
fn it_has_the_profile_s_environment_and_our_streams() {
    let rig = Rig::new();
    let mut running = rig.start(Mode::Errno, &["echo"]);
    running.stdin().write_all(b"through and through\n").expect("write");
    let end = running.finish();
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "through and through\n"), "{end:?}");
    let end = rig.hostile(Mode::Errno, &["environment"]);
    let mut lines: Vec<&str> = end.stdout.lines().collect();
    lines.sort_unstable();
    let data = format!("DATA={}", rig.data());
    let port = format!("BAIT_PORT={}", rig.port());
    assert_eq!(lines, [port.as_str(), &data, "descriptors 4"], "{end:?}");
    assert_eq!(rig.hostile(Mode::Errno, &["exit", "42"]).code, Some(42));
}
