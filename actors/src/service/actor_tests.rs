//! The service and services actors with real, unsandboxed children.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::*;
use crate::boot::machine::Phase as BootPhase;
use crate::facts::Identity;
use crate::ports::{Exit, LaunchFailure, Launcher, Usage};
use crate::services::{
    OrderError, RefusedService, RestartService, Roster, ServicesActor, StartAll, StopAll, StopService,
    TailError, TailLog, supervise_services,
};
use crate::supervise::{INTENSITY, lock, supervise};

const SOON: Duration = Duration::from_secs(30);

/// A process group. Its end shows as the end of a pipe whose other end is the child's standard input.
struct Group {
    child: Mutex<std::process::Child>,
    pid: Pid,
    end: std::io::PipeReader,
    walls: Arc<TestBox>,
}

/// What the children say of their box, as a test wants it.
#[derive(Default)]
struct TestBox {
    usage: Mutex<Usage>,
    notify: std::sync::OnceLock<OwnedFd>,
}

impl Child for Group {
    fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
    fn signal(&self, signal: i32) -> std::io::Result<()> {
        Ok(kill(self.pid, Signal::try_from(signal)?)?)
    }
    fn kill_all(&self) -> std::io::Result<()> {
        let _ = killpg(self.pid, Signal::SIGKILL);
        Ok(())
    }
    fn try_reap(&self) -> std::io::Result<Option<Exit>> {
        let status = lock(&self.child).try_wait()?;
        Ok(status.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }))
    }
    fn usage(&self) -> Usage {
        *lock(&self.walls.usage)
    }
    fn notify_socket(&self) -> Option<BorrowedFd<'_>> {
        self.walls.notify.get().map(AsFd::as_fd)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.kill_all();
    }
}

/// Starts the program that a test gave to a service.
struct Programs(BTreeMap<&'static str, Vec<&'static str>>, Arc<TestBox>);

impl Launcher for Programs {
    fn spawn(
        &self,
        service: &str,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Box<dyn Child>, LaunchFailure> {
        self.run(&self.0[service], stdout, stderr)
    }

    fn prepare(
        &self,
        service: &str,
        step: usize,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Option<Box<dyn Child>>, LaunchFailure> {
        // `name/0` is the first step of `name`; one that is not there has nothing to do.
        let program = self.0.get(format!("{service}/{step}").as_str());
        program.map(|program| self.run(program, stdout, stderr)).transpose()
    }
}

impl Programs {
    fn run(
        &self,
        program: &[&'static str],
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Box<dyn Child>, LaunchFailure> {
        let (end, input) = std::io::pipe().unwrap();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).env_clear().process_group(0);
        command.stdin(Stdio::from(OwnedFd::from(input))).stdout(stdout).stderr(stderr);
        let child = command.spawn().map_err(|error| LaunchFailure(error.to_string()))?;
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        Ok(Box::new(Group { child: Mutex::new(child), pid, end, walls: Arc::clone(&self.1) }))
    }
}

/// A console that breaks once, when it has to print the given line: the only way to panic an actor from outside.
#[derive(Default)]
struct Breaking {
    on: Mutex<Option<&'static str>>,
    lines: Mutex<Vec<String>>,
}

impl Console for Breaking {
    fn line(&self, text: &str) {
        lock(&self.lines).push(text.to_owned());
        let breaks = lock(&self.on).take_if(|on| on == &text).is_some();
        assert!(!breaks, "the console broke");
    }
}

fn plan(name: &str, after: &[&str]) -> ServicePlan {
    ServicePlan {
        name: name.into(),
        after: after.iter().map(ToString::to_string).collect(),
        rules: machine::Rules {
            steps: Vec::new(),
            ready_within: None,
            backoff_initial: Duration::from_millis(20),
            backoff_maximum: Duration::from_millis(100),
            intensity: 2,
            window: Duration::from_secs(60),
            stop_grace: Duration::from_millis(300),
        },
        stop_signal: 15,
        reload_signal: None,
        uid: nix::unistd::getuid().as_raw(),
        limits: reasons::Limits { pids: Some(8), ..reasons::Limits::default() },
        readiness: ReadinessPlan::None,
        liveness: None,
        seccomp: "audit".into(),
    }
}

struct House {
    registry: Registry,
    console: Arc<Breaking>,
    walls: Arc<TestBox>,
    logs: tempfile::TempDir,
}

fn house(plans: Vec<ServicePlan>, programs: &[(&'static str, &[&'static str])]) -> House {
    house_in(BootPhase::StartingServices, true, plans, programs)
}

fn house_in(
    phase: BootPhase,
    volume_ready: bool,
    plans: Vec<ServicePlan>,
    programs: &[(&'static str, &[&'static str])],
) -> House {
    let registry = Registry::default();
    let facts = &registry.facts;
    facts.set_identity(Identity { node_id: "node-10.0.0.4".into(), wg_ip: Ipv4Addr::LOCALHOST });
    facts.set_phase(phase, "");
    facts.set_volume_ready(volume_ready);
    let logs = tempfile::tempdir().unwrap();
    let walls = Arc::<TestBox>::default();
    let programs = programs.iter().map(|(name, program)| (*name, program.to_vec())).collect();
    let programs = Programs(programs, Arc::clone(&walls));
    let (early, facts) = (logs.path().join("early"), registry.facts.clone());
    let places = log::Logs::with_early(logs.path(), &early, move || facts.node().volume_ready);
    let launch = LaunchThread::start_with(Arc::new(programs), places).unwrap();
    registry.facts.refusals().open(&[], launch.logs().clone());
    let refused = vec![RefusedService { name: "coredns".into(), reason: "line 3: no such key".into() }];
    let roster = Arc::new(Roster { plans: plans.into_iter().map(Arc::new).collect(), refused });
    let console = Arc::new(Breaking::default());
    let screen: Arc<dyn Console> = console.clone();
    let links = supervise_services(&registry, &roster, &launch, &screen, |gave_up| panic!("{gave_up}"));
    let owned = registry.clone();
    supervise(
        "services",
        &registry.services,
        &registry.restarts,
        INTENSITY,
        |_| (),
        move |_| ServicesActor::new(owned.clone(), roster.clone(), launch.clone(), links.clone()),
    );
    House { registry, console, walls, logs }
}

impl House {
    async fn wait(&self, service: &str, what: impl Fn(&ServiceStatus) -> bool) -> ServiceStatus {
        let deadline = Instant::now() + SOON;
        loop {
            let status = self.registry.facts.services().get(service).cloned();
            if let Some(status) = status.as_ref().filter(|status| what(status)) {
                return status.clone();
            }
            assert!(Instant::now() < deadline, "{service}: {status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn running(&self, service: &str) -> ServiceStatus {
        self.wait(service, |status| status.state == "running" && status.pid.is_some()).await
    }

    async fn start(&self) {
        self.registry.services.ask(StartAll).await.unwrap();
    }

    async fn tail(&self, name: &str, lines: usize) -> Result<String, TailError> {
        self.registry.services.ask(TailLog { name: name.into(), lines }).await.unwrap()
    }

    async fn stop_all(&self) {
        self.registry.services.ask(StopAll { why: "the test is over".into() }).await.unwrap();
    }
}

fn alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid.try_into().unwrap()), None).is_ok()
}

#[actix::test]
async fn services_start_in_order_and_stop_with_their_processes() {
    let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut first = plan("rqlite", &[]);
    first.readiness =
        ReadinessPlan::Probe(ProbePlan::Tcp(Arc::new(move |vars| format!("{}:{port}", vars.wg_ip))));
    first.rules.ready_within = Some(SOON);
    let sleep: &[&str] = &["/bin/sleep", "60"];
    let house = house(
        vec![first, plan("gateway", &["rqlite", "coredns"]), plan("olric", &[])],
        &[("rqlite", sleep), ("gateway", sleep), ("olric", sleep)],
    );
    house.start().await;
    house.running("olric").await;
    house.wait("rqlite", |status| status.state == "starting" && status.pid.is_some()).await;
    assert_eq!(
        house.registry.facts.services()["gateway"].state,
        "waiting",
        "it waits for the first to be ready"
    );
    let _ready = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let pid = house.running("rqlite").await.pid.unwrap();
    house.running("gateway").await;
    assert_eq!(house.registry.facts.services()["coredns"].state, "refused");
    assert!(house.console.lines.lock().unwrap().contains(&"service rqlite running".to_owned()));
    house.stop_all().await;
    let services = house.registry.facts.services();
    assert!(
        ["rqlite", "olric", "gateway"].iter().all(|name| services[*name].state == "stopped"),
        "{services:?}"
    );
    assert!(!alive(pid));
}

#[actix::test]
async fn a_killed_service_comes_back_with_another_process() {
    let house = house(vec![plan("olric", &[])], &[("olric", &["/bin/sleep", "60"])]);
    house.start().await;
    let before = house.running("olric").await;
    kill(Pid::from_raw(before.pid.unwrap().try_into().unwrap()), Signal::SIGKILL).unwrap();
    let after = house.wait("olric", |status| {
        status.state == "running" && status.pid != before.pid && status.restarts == 1
    });
    assert!(after.await.pid.is_some());
    house.stop_all().await;
}

#[actix::test]
async fn a_service_that_keeps_ending_is_given_up_and_its_words_are_kept() {
    let house = house(vec![plan("ipfs", &[])], &[("ipfs", &["/usr/bin/seq", "1", "5"])]);
    house.start().await;
    let status = house.wait("ipfs", |status| status.state == "failed").await;
    assert!(status.reason.contains("failed 3 times within 60 s, last: ended"), "{}", status.reason);
    assert_eq!(status.restarts, 2);
    let alarms = house.registry.facts.node().alarms;
    assert!(alarms.iter().any(|alarm| alarm.starts_with("service ipfs given up")), "{alarms:?}");
    for _ in 0..100 {
        if house.tail("ipfs", 100).await.unwrap().lines().count() == 15 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(house.tail("ipfs", 2).await.unwrap(), "4\n5\n");
    assert_eq!(house.tail("ipfs", usize::MAX).await.unwrap(), "1\n2\n3\n4\n5\n".repeat(3));
}

#[actix::test]
async fn a_service_survives_the_panic_of_its_actor() {
    let house = house(vec![plan("olric", &[])], &[("olric", &["/bin/sleep", "60"])]);
    *lock(&house.console.on) = Some("service olric running");
    house.start().await;
    let status = house.running("olric").await;
    assert_eq!(house.registry.restarts.read()["service-olric"].count, 1);
    assert_eq!(status.restarts, 0, "the service was not restarted");
    let lines = lock(&house.console.lines).clone();
    assert_eq!(lines, ["service olric running"; 2], "said by both generations");
    // The new generation watches the child of the old one.
    kill(Pid::from_raw(status.pid.unwrap().try_into().unwrap()), Signal::SIGKILL).unwrap();
    house.wait("olric", |after| after.state == "running" && after.pid != status.pid).await;
    house.stop_all().await;
}

#[actix::test]
async fn a_service_that_ignores_its_signal_is_killed_with_all_it_started() {
    let mut deaf = plan("gateway", &[]);
    deaf.stop_signal = Signal::SIGCONT as i32;
    // `env` replaces nothing: sh keeps a child of its own in the group.
    let house = house(vec![deaf], &[("gateway", &["/bin/sh", "-c", "/bin/sleep 61 & echo $!; wait"])]);
    house.start().await;
    house.running("gateway").await;
    let mut grandchild = String::new();
    for _ in 0..200 {
        grandchild = house.tail("gateway", 1).await.unwrap().trim().to_owned();
        if !grandchild.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let start = Instant::now();
    let stop = StopService { name: "gateway".into() };
    house.registry.services.ask(stop).await.unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300), "the grace time was kept");
    let stat = || {
        let mut text = String::new();
        let file = std::fs::File::open(format!("/proc/{grandchild}/stat"));
        file.and_then(|mut file| file.read_to_string(&mut text)).map(|_| text)
    };
    let gone = || stat().map_or(true, |stat| stat.contains(") Z "));
    for _ in 0..100 {
        if gone() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the grandchild {grandchild} lives: {:?}", stat());
}

#[actix::test]
async fn orders_are_refused_by_name() {
    let house = house(vec![plan("olric", &[])], &[("olric", &["/bin/nothing-here"])]);
    let services = &house.registry.services;
    let unknown = services.ask(RestartService { name: "../etc".into() }).await.unwrap();
    assert_eq!(unknown, Err(OrderError::Unknown("../etc".into())));
    let refused = services.ask(RestartService { name: "coredns".into() }).await.unwrap();
    assert!(matches!(refused, Err(OrderError::Refused { .. })));
    assert!(matches!(house.tail("../../etc/passwd", 5).await, Err(TailError::Unknown(_))));
    house.start().await;
    let status = house.wait("olric", |status| status.state == "failed").await;
    assert!(status.reason.contains("not started: No such file"), "{}", status.reason);
    house.registry.facts.set_volume_ready(false);
    let locked = services.ask(RestartService { name: "olric".into() }).await.unwrap();
    assert!(matches!(locked, Err(OrderError::NotNow { .. })));
    assert!(matches!(house.tail("olric", 5).await, Err(TailError::Locked)));
}

#[path = "early_tests.rs"]
mod early;

#[path = "box_tests.rs"]
mod boxes;
