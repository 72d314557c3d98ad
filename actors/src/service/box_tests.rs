//! What a service says of itself and what its box says of it: prepare steps, notify, reload, walls, refusals, logs.

use std::os::unix::net::UnixDatagram;

use nix::sys::socket::{setsockopt, sockopt};
use orama_policy::{Call, Consequence};

use super::*;
use crate::service::log::ROTATE_BYTES;
use crate::services::ReloadService;

const SLEEP: &[&str] = &["/bin/sleep", "60"];

fn with_steps(steps: usize) -> ServicePlan {
    let mut plan = plan("olric", &[]);
    plan.rules.steps = vec![SOON; steps];
    plan
}

impl House {
    async fn log_has(&self, service: &str, what: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let text = self.tail(service, 1000).await.unwrap();
            if text.contains(what) {
                return text;
            }
            assert!(Instant::now() < deadline, "no {what:?} in {text:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn reload(&self, name: &str) -> Result<(), OrderError> {
        self.registry.services.ask(ReloadService { name: name.into() }).await.unwrap()
    }
}

#[actix::test]
async fn prepare_steps_come_first_and_speak_into_the_log() {
    let programs: &[(_, &[&str])] =
        &[("olric/0", &["/bin/echo", "one"]), ("olric/2", &["/bin/echo", "three"]), ("olric", SLEEP)];
    let house = house(vec![with_steps(3)], programs);
    house.start().await;
    house.running("olric").await;
    assert_eq!(house.log_has("olric", "three").await, "one\nthree\n", "the second had nothing to do");
    assert_eq!(house.registry.facts.services()["olric"].restarts, 0);
    house.stop_all().await;
}

#[actix::test]
async fn a_failed_step_is_a_failed_start_with_its_last_words() {
    let script = "echo begun; echo 'no space left' >&2; exit 3";
    let programs: &[(_, &[&str])] =
        &[("olric/0", &["/bin/echo", "one"]), ("olric/1", &["/bin/sh", "-c", script]), ("olric", SLEEP)];
    let house = house(vec![with_steps(2)], programs);
    house.start().await;
    let status = house.wait("olric", |status| status.state == "failed").await;
    assert!(status.reason.contains("prepare step 2: exit code 3: no space left"), "{}", status.reason);
    assert_eq!(status.pid, None);
}

#[actix::test]
async fn a_step_that_hangs_is_killed_with_all_it_started() {
    let mut slow = with_steps(1);
    slow.rules.steps = vec![Duration::from_millis(200)];
    slow.rules.intensity = 1;
    let hang: &[&str] = &["/bin/sh", "-c", "/bin/sleep 62 & wait"];
    let house = house(vec![slow], &[("olric/0", hang), ("olric", SLEEP)]);
    house.start().await;
    let status = house.wait("olric", |status| status.state == "preparing").await;
    assert_eq!((status.pid, status.reason.as_str()), (None, "prepare step 1 of 1"));
    let status = house.wait("olric", |status| status.state == "failed").await;
    assert!(status.reason.contains("prepare step 1 was not done within"), "{}", status.reason);
}

#[actix::test]
async fn a_service_says_itself_when_it_is_ready() {
    let mut plan = plan("olric", &[]);
    plan.readiness = ReadinessPlan::Notify;
    plan.rules.ready_within = Some(SOON);
    let house = house(vec![plan], &[("olric", SLEEP)]);
    let path = house.logs.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    setsockopt(&socket, sockopt::PassCred, &true).unwrap();
    house.walls.notify.set(socket.into()).unwrap();
    house.start().await;
    house.wait("olric", |status| status.state == "starting" && status.pid.is_some()).await;
    let service = UnixDatagram::unbound().unwrap();
    service.set_nonblocking(true).unwrap();
    service.send_to(b"STATUS=joining 2 of 3", &path).unwrap();
    let status = house.wait("olric", |status| !status.message.is_empty()).await;
    assert_eq!((status.state.as_str(), status.message.as_str()), ("starting", "joining 2 of 3"));
    service.send_to(b"READY=1\nSTATUS=joined", &path).unwrap();
    let status = house.running("olric").await;
    assert_eq!(status.message, "joined");
    // A flood costs a few wake-ups a second; orders still come through.
    for _ in 0..200 {
        let _ = service.send_to(b"STATUS=busy", &path);
    }
    house.stop_all().await;
    assert_eq!(house.registry.facts.services()["olric"].state, "stopped");
}

#[actix::test]
async fn reload_is_a_signal_for_what_runs_and_has_one() {
    let mut able = plan("olric", &[]);
    able.reload_signal = Some(Signal::SIGUSR1 as i32);
    let script = "trap 'echo again' USR1; echo up; while :; do /bin/sleep 0.02; done";
    let house =
        house(vec![able, plan("ipfs", &[])], &[("olric", &["/bin/sh", "-c", script]), ("ipfs", SLEEP)]);
    house.start().await;
    house.running("ipfs").await;
    house.log_has("olric", "up").await;
    house.reload("olric").await.unwrap();
    house.log_has("olric", "again").await;
    let unable = house.reload("ipfs").await.unwrap_err();
    assert!(unable.to_string().contains("no [reload] section"), "{unable}");
    assert_eq!(house.reload("nothing").await, Err(OrderError::Unknown("nothing".into())));
    assert_eq!(house.registry.facts.services()["olric"].restarts, 0);
    house.stop_all().await;
    let late = house.reload("olric").await.unwrap_err();
    assert!(late.to_string().contains("it is stopped, and only a running service"), "{late}");
}

#[actix::test]
async fn walls_are_told_while_a_service_runs_and_in_its_end() {
    let house = house(vec![plan("olric", &[])], &[("olric", SLEEP)]);
    house.start().await;
    let pid = house.running("olric").await.pid;
    lock(&house.walls.usage).forks_refused = 7;
    let status = house.wait("olric", |status| !status.reason.is_empty()).await;
    assert_eq!(status.reason, "at its limit of 8 processes (cgroup.pids): 7 attempts to make more failed");
    assert_eq!((status.state.as_str(), status.pid), ("running", pid), "it is left alone");
    lock(&house.walls.usage).oom_kills = 1;
    kill(Pid::from_raw(pid.unwrap().try_into().unwrap()), Signal::SIGKILL).unwrap();
    let status = house.wait("olric", |status| status.state == "backoff").await;
    assert!(status.reason.contains("out of memory"), "{}", status.reason);
    house.stop_all().await;
}

#[actix::test]
async fn a_refusal_is_told_once_counted_always_and_outlives_the_actor() {
    let house = house(vec![plan("olric", &[])], &[("olric", SLEEP)]);
    house.start().await;
    let pid = house.running("olric").await.pid.unwrap();
    let refusals = house.registry.facts.refusals().clone();
    let watcher = std::thread::spawn(move || {
        for _ in 0..5000 {
            refusals.record("olric", Call::new(41, [16, 3, 0, 0, 0, 0]), Consequence::Killed);
        }
    });
    watcher.join().unwrap();
    let text = house.log_has("olric", "refused system call socket(").await;
    assert_eq!(text.lines().count(), 1, "{text}");
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGSYS).unwrap();
    let status = house.wait("olric", |status| status.state == "backoff").await;
    assert_eq!(status.pid, None, "it has ended");
    assert!(status.reason.starts_with("killed for calling socket("), "{}", status.reason);
    assert_eq!(status.refusals, 5000);
    let answer = house.registry.facts.refusals().read(Some("olric"));
    assert_eq!((answer.refusals.len(), answer.refusals[0].count), (1, 5000));
    assert!(house.registry.facts.refusals().read(Some("gateway")).refusals.is_empty());
    // The next run has nothing to do with it.
    let pid = house.wait("olric", |status| status.state == "running").await.pid.unwrap();
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGSYS).unwrap();
    let status = house.wait("olric", |status| status.state == "backoff" && status.restarts == 2).await;
    assert!(status.reason.contains("without a refusal on record"), "{}", status.reason);
    house.stop_all().await;
}

#[actix::test]
async fn a_log_is_bounded_and_readable_while_a_service_writes_hard() {
    let line = "0123456789abcdef0123456789abcdef";
    let house = house(vec![plan("olric", &[])], &[("olric", &["/usr/bin/yes", line])]);
    house.start().await;
    house.running("olric").await;
    let size = |name: &str| std::fs::metadata(house.logs.path().join(name)).map_or(0, |data| data.len());
    let deadline = Instant::now() + SOON;
    let mut reads = 0;
    while size("olric.log.1") == 0 || reads < 20 {
        let text = house.tail("olric", 100).await.unwrap();
        for note in 0..3 {
            house.registry.facts.refusals().record("olric", Call::new(note, [0; 6]), Consequence::Runs);
        }
        let lines: Vec<&str> = text.lines().collect();
        let whole = &lines[..lines.len().saturating_sub(1)];
        assert!(whole.iter().all(|text| *text == line || text.contains("[agent]")), "{text}");
        assert!(size("olric.log") <= ROTATE_BYTES && size("olric.log.1") <= ROTATE_BYTES);
        reads += 1;
        assert!(Instant::now() < deadline, "never rotated");
    }
    house.stop_all().await;
    let files: Vec<_> =
        std::fs::read_dir(house.logs.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
}
