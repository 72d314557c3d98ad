//! What a thousand idle services cost the agent: as many ServiceActors, each with a child that does nothing, in one
//! process; bytes each from the growth of resident memory. Run by `cargo xtask bench actors`. The children are
//! descriptors without processes: what a process costs is the kernel's and the service's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_actors::ports::{Child, Console, Exit, LaunchFailure, Launcher, Usage};
use orama_actors::registry::Registry;
use orama_actors::service::launch::LaunchThread;
use orama_actors::service::machine::Rules;
use orama_actors::service::reasons::Limits;
use orama_actors::service::{ReadinessPlan, ServicePlan, Start};
use orama_actors::services::{Roster, ServiceLinks, supervise_services};

type Failure = Box<dyn std::error::Error>;

/// Started before anything is measured: code pages, the allocator's first arenas, threads.
const WARM_UP: usize = 50;
/// Started at a time: the launch thread takes 64 orders.
const BATCH: usize = 32;
/// Nothing here computes for longer.
const LIMIT: Duration = Duration::from_secs(60);

struct Silent;

impl Console for Silent {
    fn line(&self, _: &str) {}
}

/// Holds its output open, as a running service does, and a pipe in place of a pidfd.
struct Idle {
    end: OwnedFd,
    _writer: OwnedFd,
    _output: [OwnedFd; 2],
}

impl Child for Idle {
    fn pid(&self) -> u32 {
        1
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    fn signal(&self, _: i32) -> std::io::Result<()> {
        Ok(())
    }

    fn kill_all(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn try_reap(&self) -> std::io::Result<Option<Exit>> {
        Ok(None)
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn notify_socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

struct Pipes;

impl Launcher for Pipes {
    fn spawn(&self, _: &str, stdout: OwnedFd, stderr: OwnedFd) -> Result<Box<dyn Child>, LaunchFailure> {
        let (end, writer) = nix::unistd::pipe().map_err(|error| LaunchFailure(error.to_string()))?;
        Ok(Box::new(Idle { end, _writer: writer, _output: [stdout, stderr] }))
    }

    fn prepare(
        &self,
        _: &str,
        _: usize,
        _: OwnedFd,
        _: OwnedFd,
    ) -> Result<Option<Box<dyn Child>>, LaunchFailure> {
        Ok(None)
    }
}

fn plan(name: String) -> Arc<ServicePlan> {
    Arc::new(ServicePlan {
        name,
        after: Vec::new(),
        rules: Rules {
            steps: Vec::new(),
            ready_within: None,
            backoff_initial: Duration::from_secs(1),
            backoff_maximum: Duration::from_secs(30),
            intensity: 5,
            window: Duration::from_secs(300),
            stop_grace: Duration::from_secs(10),
        },
        stop_signal: 15,
        reload_signal: None,
        uid: 65_000,
        limits: Limits::default(),
        readiness: ReadinessPlan::None,
        liveness: None,
        seccomp: "enforce".into(),
    })
}

fn main() -> Result<(), Failure> {
    let count = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    actix_rt::System::new().block_on(measure(count))
}

async fn measure(count: usize) -> Result<(), Failure> {
    let registry = Registry::default();
    let logs = std::env::temp_dir();
    let launch = LaunchThread::start(Arc::new(Pipes), &logs)?;
    let console: Arc<dyn Console> = Arc::new(Silent);
    let make = |prefix: &str, count: usize| -> ServiceLinks {
        let plans = (0..count).map(|number| plan(format!("{prefix}-{number}"))).collect();
        let roster = Roster { plans, refused: Vec::new() };
        supervise_services(&registry, &roster, &launch, &console, |gave_up| panic!("{gave_up}"))
    };
    let warm = make("warm", WARM_UP);
    start(&registry, &warm).await?;
    let before = resident_bytes()?;
    let links = make("idle", count);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let waiting = resident_bytes()?;
    start(&registry, &links).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let running = resident_bytes()?;
    let each = |bytes: u64| bytes.saturating_sub(before) / count as u64;
    println!("actors {count} waiting {} running {}", each(waiting), each(running));
    Ok(())
}

/// Until each has a child and runs.
async fn start(registry: &Registry, links: &ServiceLinks) -> Result<(), Failure> {
    let deadline = Instant::now() + LIMIT;
    let names: Vec<&String> = links.keys().collect();
    for batch in names.chunks(BATCH) {
        for name in batch {
            links[*name].tell(Start)?;
        }
        loop {
            let services = registry.facts.services();
            if batch.iter().all(|name| services.get(*name).is_some_and(|status| status.healthy)) {
                break;
            }
            if Instant::now() >= deadline {
                return Err("the services do not start".into());
            }
            drop(services);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    Ok(())
}

/// The second number of statm (proc(5)), in pages of 4 KiB.
fn resident_bytes() -> Result<u64, Failure> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm.split(' ').nth(1).ok_or("statm has no second number")?.parse()?;
    Ok(pages * 4096)
}
