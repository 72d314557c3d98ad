//! The compatibility mode `sealed-push`, seen from the actor: a request that knew the code and whose body opens with it
//! is a configuration. The seal is `sealed_push`, the HTTP is `page`.

use actix::{Context, Handler, Message};
use orama_protocol::Redacted;
use orama_protocol::enroll::NodeConfig;
use serde::Serialize;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::machine::{Event, Phase};
use super::sealed_push::{Seal, SealError};
use super::{EnrollActor, EnrollMode};

/// A sealed configuration; the answer is sealed the same way.
#[derive(Message)]
#[rtype(result = "Result<String, PushRefused>")]
pub struct SealedPush {
    pub code: String,
    pub body: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PushRefused {
    #[error("wrong code")]
    WrongCode,
    #[error("this node is being enrolled already")]
    NotNow,
    #[error("the body")]
    Sealed(#[source] SealError),
    #[error("the body is not a configuration (line {line}, column {column})")]
    Malformed { line: usize, column: usize },
    #[error("the configuration: {0}")]
    Config(String),
    #[error("sealing the answer")]
    Answer(#[source] SealError),
}

/// What an existing gateway reads.
#[derive(Serialize)]
struct PushAnswer<'a> {
    status: &'static str,
    agent_token: &'a Redacted,
}

impl Handler<SealedPush> for EnrollActor {
    type Result = Result<String, PushRefused>;

    fn handle(&mut self, push: SealedPush, context: &mut Context<Self>) -> Self::Result {
        let code = match (&self.code, self.settings.mode) {
            (Some(shown), EnrollMode::SealedPush) => Zeroizing::new(shown.code.clone()),
            (None, _) | (_, EnrollMode::Websocket) => return Err(PushRefused::NotNow),
        };
        if !bool::from(push.code.as_bytes().ct_eq(code.as_bytes())) {
            return Err(PushRefused::WrongCode);
        }
        if self.state.phase != Phase::Offline {
            return Err(PushRefused::NotNow);
        }
        let seal = Seal::from_code(&code);
        let plain = seal.open(&push.body).map_err(PushRefused::Sealed)?;
        let config: NodeConfig = serde_json::from_slice(&plain)
            .map_err(|error| PushRefused::Malformed { line: error.line(), column: error.column() })?;
        self.consider(config, None).map_err(PushRefused::Config)?;
        let Some(agreed) = &self.agreed else { return Err(PushRefused::NotNow) };
        let agent_token = Redacted::new(agreed.agent_token.expose().to_owned());
        let answer = serde_json::to_vec(&PushAnswer { status: "ok", agent_token: &agent_token })
            .map(Zeroizing::new)
            .map_err(|_| PushRefused::Answer(SealError::Seal))?;
        let sealed = seal.close(&answer).map_err(PushRefused::Answer)?;
        self.apply(Event::ConfigGood, context);
        Ok(sealed)
    }
}
