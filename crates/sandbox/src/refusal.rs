//! What the watcher tells: a call that the profile does not allow, and, when tracing, those that it does.

use orama_policy::Call;

/// One call outside the rules of its service's profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The name of the profile.
    pub service: String,
    /// The thread that made the call, as this process's PID namespace has it.
    pub pid: u32,
    pub call: Call,
    pub outcome: Outcome,
}

/// What became of a refused call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not made, and its process was killed (SIGSYS, or SIGKILL where that would not end it).
    Killed,
    /// It was not made and returned this error number.
    Errno(u32),
    /// Mode `audit`: it was made.
    Ran,
}

/// What a watcher started with [`crate::Watcher::start_tracing`] sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Refused(Refusal),
    /// A call that the profile answers with an errno on purpose (`[[seccomp.deny]]`). As the next, seen only of
    /// services prepared with [`crate::Preparation::trace`].
    Denied {
        service: String,
        pid: u32,
        call: Call,
        errno: u32,
    },
    /// A call that the profile allows.
    Allowed {
        service: String,
        pid: u32,
        call: Call,
    },
}
