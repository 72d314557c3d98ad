//! One refused call: told, then answered as its service's profile has it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use orama_policy::{Action, Call, Mode, Seccomp, address_argument, path_arguments};

use super::kernel::{self, Notification, Reply};
use super::{Listener, process};
use crate::cgroup::Cgroup;
use crate::filter::{Answer, Filter};
use crate::refusal::{Outcome, Refusal, Seen};
use crate::sys;

/// How long a process may take to die of its SIGSYS (it may write a core file) before it is killed.
const DEATH_PATIENCE: Duration = Duration::from_secs(2);

/// What the watcher must know of a service.
#[derive(Debug)]
pub(crate) struct Terms {
    pub service: String,
    pub cgroup: Cgroup,
    pub outcome: Outcome,
    /// When all calls come here: the filter that tells which of them the profile allows.
    pub traced: Option<Arc<Filter>>,
}

impl Terms {
    pub(crate) fn outcome_of(seccomp: &Seccomp) -> Outcome {
        match (seccomp.mode, seccomp.default_action) {
            (Mode::Audit, _) => Outcome::Ran,
            (Mode::Enforce, Action::Kill) => Outcome::Killed,
            (Mode::Enforce, Action::Errno(errno)) => Outcome::Errno(errno),
        }
    }
}

/// A process that got SIGSYS and is to be killed if that does not end it: it may have begun to catch it meanwhile.
pub(super) struct Dying {
    process: OwnedFd,
    deadline: Instant,
}

impl Dying {
    /// True when there is nothing more to do for it.
    pub(super) fn settled(&mut self, now: Instant) -> bool {
        let mut polled = [libc::pollfd {
            fd: std::os::fd::AsRawFd::as_raw_fd(&self.process),
            events: libc::POLLIN,
            revents: 0,
        }];
        kernel::poll(&mut polled, Some(Duration::ZERO));
        if polled[0].revents != 0 {
            return true;
        }
        if now < self.deadline {
            return false;
        }
        // It fails only for a process that is gone.
        let _gone = sys::pidfd_signal(self.process.as_fd(), libc::SIGKILL);
        true
    }
}

/// Tells and answers one call. The kernel has looked at the same register values that are reported here, so a
/// call that continues is the call that was judged.
pub(super) fn answer(listener: &Listener, notification: &Notification, tell: impl Fn(Seen)) -> Option<Dying> {
    let fd = listener.fd.as_fd();
    let terms = &listener.terms;
    let service = terms.service.clone();
    let pid = notification.pid;
    let judged = terms.traced.as_ref().map_or(Answer::Refuse, |filter| filter.answer(&notification.data));
    let call = call(listener, notification);
    match judged {
        Answer::Allow => {
            tell(Seen::Allowed { service, pid, call });
            kernel::reply(fd, notification.id, Reply::Continue);
            return None;
        }
        Answer::Errno(errno) => {
            tell(Seen::Denied { service, pid, call, errno });
            kernel::reply(fd, notification.id, Reply::Errno(errno));
            return None;
        }
        // The kernel has killed it before anybody could be asked.
        Answer::Refuse | Answer::Kill => {}
    }
    tell(Seen::Refused(Refusal { service, pid, call, outcome: terms.outcome }));
    match terms.outcome {
        Outcome::Ran => {
            kernel::reply(fd, notification.id, Reply::Continue);
            None
        }
        Outcome::Errno(errno) => {
            kernel::reply(fd, notification.id, Reply::Errno(errno));
            None
        }
        Outcome::Killed => {
            let dying = kill(listener, notification);
            // After the signal: the thread takes it on its way out of the call.
            kernel::reply(fd, notification.id, Reply::Errno(libc::EPERM as u32));
            dying
        }
    }
}

fn call(listener: &Listener, notification: &Notification) -> Call {
    let data = &notification.data;
    let mut call = Call::new(data.number as u32, data.args);
    for index in path_arguments(call.number) {
        let index = usize::from(*index);
        call.texts[index] = process::text(notification.pid, data.args[index]);
    }
    let address = address_argument(call.number).map(usize::from).filter(|index| *index < 5);
    if let Some(index) = address {
        call.texts[index] = process::address(notification.pid, data.args[index], data.args[index + 1]);
    }
    // If it has died the pid may be another's by now, and so may the texts.
    if call.texts.iter().any(Option::is_some) && !kernel::waits(listener.fd.as_fd(), notification.id) {
        call.texts = Default::default();
    }
    call
}

/// Ends the process whose call waits.
fn kill(listener: &Listener, notification: &Notification) -> Option<Dying> {
    let held = process::disposition(notification.pid)
        .and_then(|disposition| Ok((kernel::open_process(disposition.process)?, disposition.dies_of_sigsys)));
    if !kernel::waits(listener.fd.as_fd(), notification.id) {
        return None;
    }
    // From here on the hold is on the process that made the call.
    let signalled = held.and_then(|(process, dies_of_sigsys)| {
        let signal = if dies_of_sigsys { libc::SIGSYS } else { libc::SIGKILL };
        sys::pidfd_signal(process.as_fd(), signal)?;
        Ok(dies_of_sigsys.then(|| Dying { process, deadline: Instant::now() + DEATH_PATIENCE }))
    });
    signalled.unwrap_or_else(|_| {
        // Not to be got hold of, and alive: then all of the service goes, it must not live on.
        let _gone = listener.terms.cgroup.kill();
        None
    })
}
