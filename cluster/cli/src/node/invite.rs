//! `orama node invite`.

use orama_protocol::gateway::{InviteRequest, InviteResponse};

use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

const PATH: &str = "/v1/node/invite";
/// Shortest and longest life of an invite, in seconds: what the gateway takes.
const EXPIRY_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 86_400;
/// Longest name of an inviter, in characters.
const CREATOR_CHARS: usize = 64;

pub fn run(expiry_seconds: u64, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    if !EXPIRY_SECONDS.contains(&expiry_seconds) {
        return Err(Failure::new(Exit::Usage, "an invite is good for one minute to 30 days")
            .next("give --expiry 24h, for example"));
    }
    let user = std::env::var("USER").unwrap_or_default();
    let request = InviteRequest { expiry_seconds, created_by: text::printable(&user, CREATOR_CHARS - 1) };
    let failed = |error: CallError| error.into_failure("cannot make an invite");
    let body = gateway.post(PATH, &request).map_err(failed)?;
    let invite: InviteResponse = gateway::decode(PATH, &body).map_err(failed)?;
    output.pass(&body, || {
        format!(
            "token:   {}\nexpires: {} (in {})\n\nIt works once and is not shown again. Enroll a node with it:\n  \
             orama node enroll --node-ip <IP of the node> --token-file - --gateway <URL>",
            text::printable(invite.token.expose(), 256),
            text::printable(&invite.expires, 64),
            text::span(expiry_seconds)
        )
    });
    Ok(())
}
