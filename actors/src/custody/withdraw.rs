//! A node that leaves its cluster deletes its own shares at its guardians, while it can still reach them: best effort, all
//! at once, and within a limit, so that nothing is held up. Only for a node whose header is marked: from then on no new
//! split can begin, and every boot erases the header, so that shares that are gone are missed by nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::{Handler, Message, ResponseActFuture, WrapFuture};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared, join_all};
use orama_keyshare::collector::Refusal;
use orama_keyshare::lifecycle::Guardian;
use orama_keyshare::secret_name;

use super::ask::Asker;
use super::{CustodyActor, Open};
use crate::ports::Console;
use crate::unlock::GUARDIAN_TIMEOUT;

/// How long the record may take to be read on a node that leaves as soon as it runs.
pub(crate) const OPEN_LIMIT: Duration = Duration::from_secs(3);
/// How long a share that is on its way to a guardian may take to arrive before it is deleted there.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// When the answer comes at the latest, whatever the guardians do.
pub(crate) const WITHDRAW_LIMIT: Duration = Duration::from_secs(8);

pub(crate) const MAY_BE_LEFT: &str =
    "this node's shares may be left at its guardians: overwrite this whole disk before it leaves your hands";

/// Under way or done: whoever asks again gets the same answer.
pub(super) type Withdrawal = Shared<LocalBoxFuture<'static, ()>>;

/// Answered once the record is read. For a node that is about to be marked: a marked header is not read any more, and
/// without its record nobody knows who has the shares.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct UntilOpen;

/// Deletes every share of this node's key at everybody who may have one. Answered when that is done or cannot be, and
/// then the console has been told; false when this actor does not know who they are.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "bool")]
pub struct WithdrawShares;

impl Handler<UntilOpen> for CustodyActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: UntilOpen, _: &mut Self::Context) -> Self::Result {
        if self.open.is_some() {
            return Box::pin(std::future::ready(()).into_actor(self));
        }
        Box::pin(Arc::clone(&self.opened).notified_owned().into_actor(self))
    }
}

impl Handler<WithdrawShares> for CustodyActor {
    type Result = ResponseActFuture<Self, bool>;

    fn handle(&mut self, _: WithdrawShares, _: &mut Self::Context) -> Self::Result {
        let console = Arc::clone(&self.console);
        match self.open.as_mut() {
            Some(open) => Box::pin(open.withdraw(console).map(|()| true).into_actor(self)),
            None => Box::pin(std::future::ready(false).into_actor(self)),
        }
    }
}

impl Open {
    /// The machine makes no step after this.
    fn withdraw(&mut self, console: Arc<dyn Console>) -> Withdrawal {
        if let Some(begun) = &self.withdrawal {
            return begun.clone();
        }
        self.signs.fall_silent();
        let custody = self.lifecycle.take().map(|lifecycle| lifecycle.custody().clone());
        // Those with shares of an attempt or of a former split, too.
        let guardians: BTreeSet<Guardian> = custody
            .iter()
            .flat_map(|custody| custody.guardians().into_iter().chain(custody.stale().iter().cloned()))
            .collect();
        let (asker, volume) = (self.asker.clone(), self.owner.volume);
        let work = async move {
            if guardians.is_empty() {
                return;
            }
            let asked = withdraw_from(&asker, guardians);
            let told = match tokio::time::timeout(WITHDRAW_LIMIT, asked).await {
                Ok(answers) => told(&answers, volume),
                Err(_) => MAY_BE_LEFT.to_owned(),
            };
            console.line(&told);
            tracing::info!("{told}");
        };
        self.withdrawal.insert(work.boxed_local().shared()).clone()
    }
}

async fn withdraw_from(asker: &Asker, guardians: BTreeSet<Guardian>) -> Vec<(Guardian, Result<(), Refusal>)> {
    asker.until_idle(UNDER_WAY).await;
    let asked = guardians.into_iter().map(|guardian| async move {
        let deleted = tokio::time::timeout(GUARDIAN_TIMEOUT, asker.delete_all(&guardian)).await;
        (guardian, deleted.unwrap_or(Err(Refusal::TimedOut)))
    });
    join_all(asked).await
}

/// For the console: the log ends with the volume.
fn told(answers: &[(Guardian, Result<(), Refusal>)], volume: [u8; 16]) -> String {
    let left: Vec<String> = answers
        .iter()
        .filter_map(|(guardian, answer)| Some((guardian, answer.as_ref().err()?)))
        .map(|(guardian, refusal)| format!("{} ({refusal})", guardian.node_id))
        .collect();
    let (all, gone) = (answers.len(), answers.len() - left.len());
    let mut text = format!("this node's shares are deleted at {gone} of {all} guardians");
    if !left.is_empty() {
        let name = secret_name(volume, 0);
        text.push_str(&format!(
            ", not at {}: overwrite this whole disk before it leaves your hands, or delete {}* in their data folders",
            left.join(", "),
            name.trim_end_matches('0'),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_with_what_to_do_about_it() {
        let guardian =
            |last: u8| Guardian { wg_ip: [10, 0, 0, last].into(), node_id: format!("node-10.0.0.{last}") };
        let gone = [(guardian(2), Ok(())), (guardian(3), Ok(()))];
        assert_eq!(told(&gone, [0; 16]), "this node's shares are deleted at 2 of 2 guardians");
        let refused = Refusal::Refused("\u{1b}[31m".into());
        let some =
            [(guardian(2), Ok(())), (guardian(3), Err(Refusal::TimedOut)), (guardian(4), Err(refused))];
        let text = told(&some, [0; 16]);
        assert!(text.starts_with(
            "this node's shares are deleted at 1 of 3 guardians, not at node-10.0.0.3 (timed out), "
        ));
        assert!(text.contains("node-10.0.0.4 (") && !text.contains('\u{1b}'), "{text}");
        assert!(
            text.ends_with("delete luks-00000000000000000000000000000000-g* in their data folders"),
            "{text}"
        );
    }
}
