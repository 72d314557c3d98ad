//! The phases of a node, as a pure function `step(state, event) -> state, actions, verdict`.
//! Reads no clock, touches no file, knows no actix. Time reaches it only as events of timers that its own
//! actions asked for; what the actions mean in detail is the boot actor's business.

use std::time::Duration;

/// Pause before the disk or the WireGuard interface is tried again: long enough to read the console.
pub const RETRY: Duration = Duration::from_secs(5);
const ERASING: &str = "erasing the key slots and the header";

/// ```text
///                     begin provisioning
///   Starting ──► Enrolling ──────────────► Provisioning ──┐ provisioned
///    │   │           ▲────────────────────────┘ failed    │
///    │   │                                                ▼
///    │   └─► Joining ─► Unlocking ─► Mounting ─► StartingServices ─► Running
///    │                    │    ▲        │                              │
///    │                    ▼    │        │ early state edited           │
///    │               WaitingForPeers    ▼                              │
///    │               WaitingForOwner                                   │
///    └──────────────────────────────► Degraded                         │
///         header damaged                (for good; status only)        │
///                                                                      ▼
///   every phase ── reboot, power off ─────────────────► Rebooting, PoweringOff
///   Running, or a header that is marked ──► Leaving ── erased ──► reboot, blank
/// ```
/// A node whose header does not say clearly that it was never enrolled cannot reach `Provisioning`,
/// and nothing reaches `StartingServices` but through a mounted volume. From `Unlocking` on the guardian serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Starting,
    Enrolling,
    Provisioning,
    Joining,
    Unlocking,
    WaitingForPeers,
    WaitingForOwner,
    Mounting,
    StartingServices,
    Running,
    Degraded,
    /// For good: everything is stopped, and the header erased.
    Leaving,
    Rebooting,
    PoweringOff,
}

impl Phase {
    /// The name in status, on the console and in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Enrolling => "enrolling",
            Self::Provisioning => "provisioning",
            Self::Joining => "joining",
            Self::Unlocking => "unlocking",
            Self::WaitingForPeers => "waiting-for-peers",
            Self::WaitingForOwner => "waiting-for-owner",
            Self::Mounting => "mounting",
            Self::StartingServices => "starting-services",
            Self::Running => "running",
            Self::Degraded => "degraded",
            Self::Leaving => "leaving",
            Self::Rebooting => "rebooting",
            Self::PoweringOff => "powering-off",
        }
    }

    /// True when the volume is mounted and its early state was found genuine.
    pub fn may_run_services(self) -> bool {
        matches!(self, Self::StartingServices | Self::Running)
    }

    /// True when the guardian may run although the volume is not mounted yet.
    pub fn serves_early(self) -> bool {
        matches!(self, Self::Unlocking | Self::WaitingForPeers | Self::WaitingForOwner | Self::Mounting)
    }

    /// True when the node is on its way down and takes no further orders.
    pub fn is_going_down(self) -> bool {
        matches!(self, Self::Leaving | Self::Rebooting | Self::PoweringOff)
    }
}

/// How the node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Reboot,
    PowerOff,
}

/// What the data partition's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No header, or one that provisioning never committed.
    NotEnrolled {
        why: String,
    },
    Enrolled {
        node_id: String,
    },
    /// There is something, and it cannot be read: never reformatted.
    Damaged {
        why: String,
    },
    /// It is marked for being erased.
    Leaving,
    /// Only after a restart of the actor: the volume is mounted and was found genuine before.
    StillMounted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Started,
    Probed(Found),
    ProbeFailed {
        why: String,
    },
    /// The enroll actor wants to format the volume.
    BeginProvisioning {
        node_id: String,
    },
    ProvisioningFailed {
        why: String,
    },
    Provisioned,
    MeshUp,
    MeshFailed {
        why: String,
    },
    /// Guardians are being asked.
    Gathering {
        needed: u8,
        holders: u8,
    },
    /// Too few good shares; `why` names every guardian and the next try.
    Waiting {
        why: String,
    },
    /// The owner's wallet keeps the key; `why` says what to do.
    WaitingForOwner {
        why: String,
    },
    VolumeOpen,
    Mounted,
    MountFailed {
        why: String,
    },
    EarlyStateEdited {
        why: String,
    },
    /// Every service was started, failed or refused.
    AllSpawned,
    Leave {
        exit: Exit,
        why: String,
    },
    /// The header is marked: whatever happens now, the node leaves its cluster.
    LeaveCluster {
        why: String,
    },
    Erased,
    EraseFailed {
        why: String,
    },
    /// Services are stopped and the volume is closed, or the time for that is over.
    Closed,
    /// A pause that an action asked for is over.
    RetryDue,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Probe,
    /// Send [`Event::RetryDue`] after [`RETRY`].
    Retry,
    OpenEnrollment,
    BringUpMesh,
    /// Start the one service that needs nothing of the volume: the guardian, whose shares others wait for.
    StartEarly,
    /// Gather shares and open the volume, for as long as it takes.
    Unlock,
    /// Mount the open volume and check the early state's MAC.
    Mount,
    StartServices,
    /// Stop what was started early: what it gave out was edited.
    StopEarly {
        why: String,
    },
    /// Stop services in reverse, unmount, close; then [`Event::Closed`].
    CloseDown,
    /// Overwrite key slots and header; then [`Event::Erased`] or [`Event::EraseFailed`].
    Erase,
    Exit {
        exit: Exit,
        why: String,
    },
    Alarm(String),
    /// Say on the console that all services are spawned.
    AnnounceSpawned,
}

/// What became of the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// It says what is known already, or comes late.
    Ignored,
    Denied(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub phase: Phase,
    /// Why the node is in this phase and what it waits for.
    pub reason: String,
    /// How the node leaves, once it does.
    pub exit: Option<Exit>,
}

impl Default for State {
    fn default() -> Self {
        Self { phase: Phase::Starting, reason: "reading the data partition's header".into(), exit: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub state: State,
    pub actions: Vec<Action>,
    pub verdict: Verdict,
}

/// The whole machine.
pub fn step(state: &State, event: Event) -> Step {
    match event {
        Event::Started => match state.phase {
            Phase::Starting => state.stay([Action::Probe]),
            _ => state.ignore(),
        },
        Event::Probed(found) => match state.phase {
            Phase::Starting => probed(state, found),
            _ => state.ignore(),
        },
        Event::ProbeFailed { why } => match state.phase {
            Phase::Starting => state.explain(why, [Action::Retry]),
            _ => state.ignore(),
        },
        Event::RetryDue => retry(state),
        Event::BeginProvisioning { node_id } => match state.phase {
            Phase::Enrolling => {
                state.go(Phase::Provisioning, format!("configuration for {node_id} accepted"), [])
            }
            other => state.deny(format!("the node is {}, not enrolling", other.name())),
        },
        Event::ProvisioningFailed { why } => match state.phase {
            Phase::Provisioning => {
                state.go(Phase::Enrolling, format!("provisioning failed: {why}"), [Action::OpenEnrollment])
            }
            _ => state.ignore(),
        },
        Event::Provisioned => match state.phase {
            Phase::Provisioning => {
                state.go(Phase::StartingServices, "volume made, its key is kept", [Action::StartServices])
            }
            _ => state.ignore(),
        },
        Event::MeshUp | Event::MeshFailed { .. } => joining(state, event),
        Event::Gathering { .. }
        | Event::Waiting { .. }
        | Event::WaitingForOwner { .. }
        | Event::VolumeOpen => unlocking(state, event),
        Event::Mounted | Event::MountFailed { .. } | Event::EarlyStateEdited { .. } => mounting(state, event),
        Event::AllSpawned => match state.phase {
            Phase::StartingServices => {
                state.go(Phase::Running, "all services spawned", [Action::AnnounceSpawned])
            }
            _ => state.ignore(),
        },
        Event::Leave { exit, why } => leave(state, exit, why),
        Event::LeaveCluster { .. } | Event::Erased | Event::EraseFailed { .. } => leaving(state, event),
        Event::Closed => match (state.phase.is_going_down(), state.exit) {
            _ if state.phase == Phase::Leaving => state.explain(ERASING, [Action::Erase]),
            (true, Some(exit)) => state.stay([Action::Exit { exit, why: state.reason.clone() }]),
            _ => state.ignore(),
        },
    }
}

fn probed(state: &State, found: Found) -> Step {
    match found {
        Found::NotEnrolled { why } => state.go(Phase::Enrolling, why, [Action::OpenEnrollment]),
        Found::Enrolled { node_id } => {
            state.go(Phase::Joining, format!("enrolled as {node_id}"), [Action::BringUpMesh])
        }
        Found::Damaged { why } => {
            let alarm = format!("data partition header damaged: {why}");
            state.go(Phase::Degraded, alarm.clone(), [Action::Alarm(alarm)])
        }
        Found::Leaving => state.go(Phase::Leaving, ERASING, [Action::Erase]),
        Found::StillMounted => {
            state.go(Phase::StartingServices, "volume is still mounted", [Action::StartServices])
        }
    }
}

fn retry(state: &State) -> Step {
    match state.phase {
        Phase::Starting => state.stay([Action::Probe]),
        Phase::Joining => state.stay([Action::BringUpMesh]),
        Phase::Mounting => state.stay([Action::Mount]),
        Phase::Leaving => state.stay([Action::Erase]),
        Phase::Enrolling
        | Phase::Provisioning
        | Phase::Unlocking
        | Phase::WaitingForPeers
        | Phase::WaitingForOwner
        | Phase::StartingServices
        | Phase::Running
        | Phase::Degraded
        | Phase::Rebooting
        | Phase::PoweringOff => state.ignore(),
    }
}

fn joining(state: &State, event: Event) -> Step {
    match (state.phase, event) {
        (Phase::Joining, Event::MeshUp) => {
            state.go(Phase::Unlocking, "getting the volume key", [Action::StartEarly, Action::Unlock])
        }
        (Phase::Joining, Event::MeshFailed { why }) => {
            state.explain(format!("wireguard does not come up: {why}"), [Action::Retry])
        }
        (_, _) => state.ignore(),
    }
}

fn unlocking(state: &State, event: Event) -> Step {
    match (state.phase, event) {
        (Phase::WaitingForPeers, Event::Gathering { needed, holders }) => {
            state.go(Phase::Unlocking, format!("asking {holders} guardians for {needed} shares"), [])
        }
        (Phase::Unlocking | Phase::WaitingForPeers, Event::Waiting { why }) => {
            state.go(Phase::WaitingForPeers, why, [])
        }
        (Phase::Unlocking | Phase::WaitingForOwner, Event::WaitingForOwner { why }) => {
            state.go(Phase::WaitingForOwner, why, [])
        }
        (Phase::Unlocking | Phase::WaitingForPeers | Phase::WaitingForOwner, Event::VolumeOpen) => {
            state.go(Phase::Mounting, "volume open", [Action::Mount])
        }
        (_, _) => state.ignore(),
    }
}

fn mounting(state: &State, event: Event) -> Step {
    match (state.phase, event) {
        (Phase::Mounting, Event::Mounted) => {
            state.go(Phase::StartingServices, "early state is genuine", [Action::StartServices])
        }
        (Phase::Mounting, Event::MountFailed { why }) => {
            state.explain(format!("volume does not mount: {why}"), [Action::Retry])
        }
        (Phase::Mounting, Event::EarlyStateEdited { why }) => {
            let alarm = format!("early state was edited outside of this node: {why}");
            let stop = Action::StopEarly { why: alarm.clone() };
            state.go(Phase::Degraded, alarm.clone(), [Action::Alarm(alarm), stop])
        }
        (_, _) => state.ignore(),
    }
}

fn leaving(state: &State, event: Event) -> Step {
    match (state.phase, event) {
        (Phase::Running | Phase::StartingServices | Phase::Starting, Event::LeaveCluster { why }) => {
            state.go(Phase::Leaving, why, [Action::CloseDown])
        }
        (Phase::Leaving, Event::LeaveCluster { .. }) => state.ignore(),
        (phase, Event::LeaveCluster { .. }) => {
            state.deny(format!("the node is {}, not running", phase.name()))
        }
        (Phase::Leaving, Event::Erased) => {
            let why = "it has left its cluster and is blank".to_owned();
            state.explain(why.clone(), [Action::Exit { exit: Exit::Reboot, why }])
        }
        (Phase::Leaving, Event::EraseFailed { why }) => {
            state.explain(format!("the header is not erased: {why}"), [Action::Retry])
        }
        (_, _) => state.ignore(),
    }
}

fn leave(state: &State, exit: Exit, why: String) -> Step {
    if state.phase.is_going_down() {
        return state.ignore();
    }
    if state.phase == Phase::Provisioning {
        // Harmless for the data (nothing is committed), but the operator's enrollment would fail half-way.
        return state.deny("the volume is being provisioned".into());
    }
    let phase = match exit {
        Exit::Reboot => Phase::Rebooting,
        Exit::PowerOff => Phase::PoweringOff,
    };
    Step {
        state: State { phase, reason: why, exit: Some(exit) },
        actions: vec![Action::CloseDown],
        verdict: Verdict::Accepted,
    }
}

impl State {
    fn go(&self, phase: Phase, reason: impl Into<String>, actions: impl Into<Vec<Action>>) -> Step {
        Step {
            state: State { phase, reason: reason.into(), exit: self.exit },
            actions: actions.into(),
            verdict: Verdict::Accepted,
        }
    }

    fn explain(&self, reason: impl Into<String>, actions: impl Into<Vec<Action>>) -> Step {
        self.go(self.phase, reason, actions)
    }

    fn stay(&self, actions: impl Into<Vec<Action>>) -> Step {
        Step { state: self.clone(), actions: actions.into(), verdict: Verdict::Accepted }
    }

    fn ignore(&self) -> Step {
        Step { state: self.clone(), actions: Vec::new(), verdict: Verdict::Ignored }
    }

    fn deny(&self, why: String) -> Step {
        Step { state: self.clone(), actions: Vec::new(), verdict: Verdict::Denied(why) }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
