//! Signs of life for the holders of the key, so that they know when shares may go out at once: every minute while the
//! volume is open, and before an orderly reboot. Nobody waits for an answer longer than a guardian may take.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture};
use futures_util::future::join_all;
use orama_keyshare::collector::Refusal;
use orama_keyshare::lifecycle::Guardian;
use orama_protocol::guardian::Presence;

use super::{CustodyActor, Open};

/// A guardian that does not know of signs of life may be replaced by one that does.
const UNKNOWN_ROUTE_PAUSE: Duration = Duration::from_secs(3600);
/// How long an orderly reboot may take, firmware and a check of the file system included, seconds.
const REBOOT_SECONDS: u64 = 1800;

/// Tells the holders that this node reboots on purpose. Answered when they know, or could have.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AnnounceReboot;

#[derive(Default)]
pub(super) struct Signs {
    /// Guardians that do not know of signs, until when they are left alone.
    unknown_route: BTreeMap<Ipv4Addr, Instant>,
    silent: bool,
}

impl Signs {
    pub fn fall_silent(&mut self) {
        self.silent = true;
    }

    fn wanted_by(&mut self, holders: impl IntoIterator<Item = Guardian>, now: Instant) -> Vec<Guardian> {
        self.unknown_route.retain(|_, until| *until > now);
        holders.into_iter().filter(|holder| !self.unknown_route.contains_key(&holder.wg_ip)).collect()
    }

    fn answered(&mut self, guardian: &Guardian, answer: Result<bool, Refusal>, now: Instant) {
        match answer {
            Ok(true) => {}
            Ok(false) => {
                self.unknown_route.insert(guardian.wg_ip, now + UNKNOWN_ROUTE_PAUSE);
                tracing::info!("the guardian of {} takes no signs of life", guardian.node_id);
            }
            // WireGuard's silence and a guardian's are told elsewhere.
            Err(refusal) => tracing::debug!("a sign of life for {}: {refusal:?}", guardian.node_id),
        }
    }
}

impl CustodyActor {
    pub(super) fn show_alive(&mut self, context: &mut Context<Self>) {
        let Some(open) = self.open.as_mut().filter(|open| !open.signs.silent) else { return };
        let shown = open.show(Presence::Alive);
        context.spawn(shown.into_actor(self).map(|answers, actor, _| actor.take_answers(answers)));
    }

    fn take_answers(&mut self, answers: Vec<(Guardian, Result<bool, Refusal>)>) {
        let Some(open) = self.open.as_mut() else { return };
        for (guardian, answer) in answers {
            open.signs.answered(&guardian, answer, Instant::now());
        }
    }
}

impl Open {
    fn show(
        &mut self,
        presence: Presence,
    ) -> impl Future<Output = Vec<(Guardian, Result<bool, Refusal>)>> + 'static {
        // Taken out only while the machine makes a step, which waits for nothing.
        let holders = self.lifecycle.as_ref().map(|lifecycle| lifecycle.custody().guardians());
        let holders = self.signs.wanted_by(holders.into_iter().flatten(), Instant::now());
        let asker = self.asker.clone();
        async move {
            let asked = holders.into_iter().map(|guardian| {
                let asker = asker.clone();
                async move { (asker.show(&guardian, presence).await, guardian) }
            });
            join_all(asked).await.into_iter().map(|(answer, guardian)| (guardian, answer)).collect()
        }
    }
}

impl Handler<AnnounceReboot> for CustodyActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: AnnounceReboot, _: &mut Self::Context) -> Self::Result {
        let Some(open) = self.open.as_mut() else { return Box::pin(std::future::ready(()).into_actor(self)) };
        // A sign of life after the announcement would take it back.
        open.signs.fall_silent();
        let shown = open.show(Presence::Rebooting { for_seconds: REBOOT_SECONDS });
        Box::pin(shown.into_actor(self).map(|answers, actor, _| actor.take_answers(answers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guardian(last: u8) -> Guardian {
        Guardian { wg_ip: [10, 0, 0, last].into(), node_id: format!("node-10.0.0.{last}") }
    }

    #[test]
    fn a_guardian_that_knows_no_signs_is_left_alone_for_an_hour() {
        let (mut signs, begin) = (Signs::default(), Instant::now());
        let all = [guardian(1), guardian(2), guardian(3)];
        assert_eq!(signs.wanted_by(all.clone(), begin), all);
        signs.answered(&all[0], Ok(true), begin);
        signs.answered(&all[1], Ok(false), begin);
        signs.answered(&all[2], Err(Refusal::TimedOut), begin);
        let soon = begin + Duration::from_secs(3599);
        assert_eq!(signs.wanted_by(all.clone(), soon), [guardian(1), guardian(3)]);
        assert_eq!(signs.wanted_by(all.clone(), begin + UNKNOWN_ROUTE_PAUSE), all);
    }
}
