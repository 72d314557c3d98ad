//! UpdateActor: the place where operating-system updates will be driven from. It owns its messages and
//! answers that no source is configured; it fetches, verifies and writes nothing yet.

use actix::{Actor, Context, Handler, Message};

/// What the `update` line of status says while nothing can update this node.
pub const NO_SOURCE: &str = "no update source configured";

#[derive(Default)]
pub struct UpdateActor;

impl Actor for UpdateActor {
    type Context = Context<Self>;
}

/// Looks for a newer release now.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), UpdateError>")]
pub struct CheckForUpdate;

/// One line for status.
#[derive(Debug, Message)]
#[rtype(result = "String")]
pub struct GetUpdateState;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    #[error("no update source configured")]
    NoSource,
}

impl Handler<CheckForUpdate> for UpdateActor {
    type Result = Result<(), UpdateError>;

    fn handle(&mut self, _: CheckForUpdate, _: &mut Self::Context) -> Self::Result {
        Err(UpdateError::NoSource)
    }
}

impl Handler<GetUpdateState> for UpdateActor {
    type Result = String;

    fn handle(&mut self, _: GetUpdateState, _: &mut Self::Context) -> String {
        NO_SOURCE.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn says_that_there_is_no_source() {
        let actor = UpdateActor.start();
        assert_eq!(actor.send(CheckForUpdate).await.unwrap(), Err(UpdateError::NoSource));
        assert_eq!(actor.send(GetUpdateState).await.unwrap(), UpdateError::NoSource.to_string());
    }
}
