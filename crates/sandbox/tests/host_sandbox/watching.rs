//! Refused calls for real: who answers them, with what, in which order, and what is told of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use orama_sandbox::{Outcome, Refusal, Watcher};

use crate::null;
use crate::rig::{AUDIT, ENFORCE, REFUSE, Rig, killed_by};

fn rig(seccomp: &str) -> Rig {
    let mut rig = Rig::new();
    rig.seccomp = seccomp.to_owned();
    rig
}

/// With forks, which the base set does not have.
fn forking(seccomp: &str) -> Rig {
    rig(&format!(
        "{seccomp}\n[[seccomp.allow]]\nsyscalls = [\"clone\", \"fork\", \"vfork\", \"wait4\", \"kill\"]\nwhy = \"test\"\n"
    ))
}

const ACCT: &str = "acct(\"/tmp/refused\")";

fn only(refusals: &[Refusal]) -> &Refusal {
    let [refusal] = refusals else { panic!("one refusal in {refusals:?}") };
    refusal
}

#[test]
fn each_mode_answers_in_its_own_way_and_tells_the_same() {
    for (seccomp, outcome, errno) in
        [(AUDIT, Outcome::Ran, libc::EPERM), (REFUSE, Outcome::Errno(libc::EACCES as u32), libc::EACCES)]
    {
        let end = rig(seccomp).run(&["refused", "threads", "1", "1"]);
        assert_eq!(end.stdout.trim(), format!("errors [{errno}]"), "{seccomp}: {end:?}");
        let refusal = only(&end.refusals);
        assert_eq!((refusal.call.describe().as_str(), refusal.outcome), (ACCT, outcome), "{seccomp}");
    }
    let end = rig(ENFORCE).run(&["refused", "threads", "1", "1"]);
    assert_eq!(killed_by(end.status), Some(libc::SIGSYS), "{end:?}");
    assert_eq!(end.stdout, "");
    let refusal = only(&end.refusals);
    assert_eq!((refusal.call.describe().as_str(), refusal.outcome), (ACCT, Outcome::Killed));
}

#[test]
fn a_process_that_would_survive_sigsys_is_killed() {
    for (how, signal) in [
        ("default", libc::SIGSYS),
        ("caught", libc::SIGKILL),
        ("ignored", libc::SIGKILL),
        ("blocked", libc::SIGKILL),
    ] {
        let end = rig(ENFORCE).run(&["refused", "deaf", how]);
        assert_eq!((killed_by(end.status), end.stdout.as_str()), (Some(signal), ""), "{how}: {end:?}");
    }
    let mut first = rig(ENFORCE);
    first.sections = "[namespaces]\npid = true\n".to_owned();
    let end = first.run(&["refused", "deaf", "default"]);
    assert_eq!(killed_by(end.status), Some(libc::SIGKILL), "the first of a PID namespace: {end:?}");
}

#[test]
fn every_call_of_many_threads_is_answered_and_told_once() {
    let end = rig(REFUSE).run(&["refused", "threads", "32", "50"]);
    assert_eq!(end.stdout.trim(), format!("errors [{}]", libc::EACCES));
    assert_eq!(end.refusals.len(), 32 * 50);
    let mut threads: Vec<u32> = end.refusals.iter().map(|refusal| refusal.pid).collect();
    threads.sort_unstable();
    threads.dedup();
    assert_eq!(threads.len(), 32);
}

#[test]
fn signals_neither_lose_nor_repeat_a_call() {
    let end = rig(REFUSE).run(&["refused", "preempted", "2000"]);
    assert_eq!(end.stdout.trim(), format!("errors [{}] signals true", libc::EACCES));
    assert_eq!(end.refusals.len(), 2000);
}

#[test]
fn children_of_the_service_are_watched_too() {
    let end = forking(REFUSE).run(&["refused", "in-child"]);
    let words: Vec<&str> = end.stdout.split_whitespace().collect();
    let refusal = only(&end.refusals);
    assert_eq!(words, ["child", &refusal.pid.to_string(), "status", "0"], "{end:?}");
    // The kill ends the process that made the call, as the kernel's own would.
    let end = forking(ENFORCE).run(&["refused", "in-child"]);
    assert!(end.stdout.trim().ends_with(&format!("status {}", libc::SIGSYS)), "{end:?}");
    assert!(end.status.success(), "{end:?}");
}

#[test]
fn processes_that_die_while_their_call_waits_disturb_nobody() {
    let end = forking(REFUSE).run(&["refused", "dying", "200"]);
    assert_eq!(end.stdout.trim(), format!("last {}", libc::EACCES), "{end:?}");
    assert!(end.refusals.len() > 200, "{}", end.refusals.len());
}

#[test]
fn without_a_listener_nothing_refused_runs() {
    for seccomp in [AUDIT, REFUSE, ENFORCE] {
        let mut rig = rig(seccomp);
        let (out, out_end) = std::io::pipe().expect("pipe");
        let prepared = rig.prepare(&["refused", "threads", "1", "1"]);
        let mut running = prepared.spawn(out_end.into(), null()).expect("spawn");
        drop(running.take_listener().expect("listener"));
        assert!(running.take_listener().is_none());
        assert!(running.wait_blocking().expect("wait").success());
        let said = std::io::read_to_string(out).expect("output");
        assert_eq!(said.trim(), format!("errors [{}]", libc::ENOSYS), "{seccomp}");
    }
}

#[test]
fn a_flood_of_one_service_does_not_starve_another() {
    let (mut loud, mut quiet) = (rig(REFUSE), rig(REFUSE));
    let (names, counts) = ((loud.name().to_owned(), quiet.name().to_owned()), Arc::new(Mutex::new((0, 0))));
    let flooded = Arc::new(AtomicUsize::new(0));
    let sink = {
        let (counts, flooded) = (Arc::clone(&counts), Arc::clone(&flooded));
        move |refusal: Refusal| {
            let mut counts = counts.lock().expect("counts");
            if refusal.service == names.0 {
                counts.0 += 1;
                flooded.fetch_add(1, Ordering::Relaxed);
            } else {
                counts.1 += 1;
            }
        }
    };
    let watcher = Watcher::start(sink).expect("watcher");
    let alone = timed(&mut quiet, &watcher);
    let mut running = loud.prepare(&["refused", "flood"]).spawn(null(), null()).expect("spawn");
    watcher.add(running.take_listener().expect("listener"));
    let deadline = Instant::now() + Duration::from_secs(5);
    while flooded.load(Ordering::Relaxed) < 100 {
        assert!(Instant::now() < deadline, "no flood");
        std::thread::sleep(Duration::from_millis(1));
    }
    let under_flood = timed(&mut quiet, &watcher);
    running.kill_all().expect("kill");
    running.wait_blocking().expect("wait");
    drop(watcher);
    let (loud, quiet) = *counts.lock().expect("counts");
    assert_eq!(quiet, 400);
    assert!(loud > 100);
    // Four flooding threads: a queue of all calls would make it five times and more on top of the contention.
    assert!(under_flood <= alone * 8 + 500, "{alone} ms alone, {under_flood} ms under the flood");
}

/// Milliseconds for 200 refused calls.
fn timed(rig: &mut Rig, watcher: &Watcher) -> u64 {
    let (out, out_end) = std::io::pipe().expect("pipe");
    let mut running = rig.prepare(&["refused", "timed", "200"]).spawn(out_end.into(), null()).expect("spawn");
    watcher.add(running.take_listener().expect("listener"));
    assert!(running.wait_blocking().expect("wait").success());
    let said = std::io::read_to_string(out).expect("output");
    said.trim().rsplit(' ').next().and_then(|number| number.parse().ok()).expect("milliseconds")
}

#[test]
fn a_sink_that_panics_stops_nobody() {
    let mut rig = rig(REFUSE);
    let watcher = Watcher::start(|_| panic!("on purpose")).expect("watcher");
    let mut running = rig.prepare(&["refused", "threads", "2", "5"]).spawn(null(), null()).expect("spawn");
    watcher.add(running.take_listener().expect("listener"));
    assert!(running.wait_blocking().expect("wait").success());
}
