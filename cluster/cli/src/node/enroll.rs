//! `orama node enroll`: code from the node, invite and code to the gateway, then follow the node.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use orama_mesh::PublicKey;
use orama_protocol::Redacted;
use orama_protocol::enroll::{EnrollRequest, EnrollResponse, RegistrationCode};
use orama_wallet::Address;

use super::{EnrollArgs, follow, recovery};
use crate::bounded;
use crate::connection::bearer;
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

const PATH: &str = "/v1/node/enroll";
/// How often the gateway is asked while it does not know the node's code, and the pause between.
const ASKED_TIMES: u32 = 6;
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Longest token file, in bytes.
const TOKEN_LIMIT_BYTES: u64 = 4 * 1024;
/// Longest code, in characters: 8 of ours, 20 of a node in sealed-push mode, and room.
const CODE_CHARS_MAX: usize = 32;

pub fn run(args: EnrollArgs, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let token = token(args.token.clone(), args.token_file.as_deref())?;
    let shown = match args.code.clone() {
        Some(code) => Shown { code, wireguard: None, owner: None },
        None => {
            output.progress(&format!("asking {} for its registration code", args.node_ip));
            fetch_code(args.node_ip, args.node_port)?
        }
    };
    let wish = match &args.recovery {
        Some(path) => {
            let node = (shown.wireguard, shown.owner);
            Some(recovery::wish(path, &args, node, gateway, &token)?)
        }
        None => None,
    };
    let code = shown.code;
    output.progress(&format!("enrolling the node with code {code} at {}", args.node_ip));
    let request = EnrollRequest {
        code,
        token: token.clone(),
        node_ip: args.node_ip.to_string(),
        wireguard_public_key: shown.wireguard.map(|key| key.to_string()),
        recovery: wish.as_ref().map(|wish| wish.request.clone()),
    };
    let body = post(gateway, &request, &token, output).map_err(|error| refused(error, args.node_ip))?;
    let enrolled: EnrollResponse = gateway::decode(PATH, &body)
        .map_err(|error| error.into_failure("cannot tell whether the node is enrolled"))?;
    let node_id = text::printable(&enrolled.node_id, 64);
    output.progress(&format!(
        "the gateway took it: {node_id}, overlay address {}",
        text::printable(&enrolled.wg_ip, 64)
    ));
    let recovery = match wish {
        Some(wish) => Some(wish.fulfil(&args, &enrolled, gateway, &token, output)?),
        None => None,
    };

    if args.no_wait {
        output.pass(&body, || format!("{node_id} is enrolled; {}", how_to_check(&node_id)));
        return Ok(());
    }
    if !gateway.has_key() {
        output.pass(&body, || {
            format!(
                "{node_id} is enrolled. It cannot be followed without an API key; {}",
                how_to_check(&node_id)
            )
        });
        return Ok(());
    }
    let running = follow::until_running(&enrolled, Duration::from_secs(args.wait), gateway, output)?;
    let mut json = serde_json::json!({
        "status": enrolled.status, "node_id": enrolled.node_id, "wg_ip": enrolled.wg_ip,
        "phase": running.phase, "healthy": running.healthy,
    });
    if let Some(path) = recovery {
        json["recovery"] = path.display().to_string().into();
    }
    output.answer(&json, &format!("{node_id} is running at {}", text::printable(&enrolled.wg_ip, 64)));
    Ok(())
}

/// A node shows its code a moment before its own connection to the gateway stands, and one that just lost it comes
/// back within seconds; nothing is used up by asking again.
fn post(
    gateway: &Gateway,
    request: &EnrollRequest,
    token: &Redacted,
    output: &Output,
) -> Result<Vec<u8>, CallError> {
    for left in (1..ASKED_TIMES).rev() {
        match gateway.post_enroll(PATH, request, token) {
            Err(CallError::Status { status: 404, .. }) => output.progress(&format!(
                "the gateway does not know this code yet; asking again in {} s, {left} times at most",
                ASK_AGAIN.as_secs()
            )),
            result => return result,
        }
        std::thread::sleep(ASK_AGAIN);
    }
    gateway.post_enroll(PATH, request, token)
}

fn how_to_check(node_id: &str) -> String {
    format!("check it with an API key: orama node status --node-id {node_id}")
}

fn token(argument: Option<String>, file: Option<&Path>) -> Result<Redacted, Failure> {
    let text = match (argument, file) {
        (Some(token), _) => zeroize::Zeroizing::new(token),
        (None, Some(path)) if path == Path::new("-") => {
            bounded::read_secret_from(io::stdin().lock(), TOKEN_LIMIT_BYTES).map_err(|error| {
                Failure::new(Exit::Usage, format!("cannot read the token from stdin: {error}"))
            })?
        }
        (None, Some(path)) => bounded::read_secret(path, TOKEN_LIMIT_BYTES).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read the token file {}: {error}", path.display()))
        })?,
        (None, None) => return Err(Failure::new(Exit::Usage, "no invite token is given")),
    };
    bearer(&text).ok_or_else(|| {
        Failure::new(Exit::Usage, "the invite token is not one line of printable characters")
            .next("copy it again from `orama node invite`")
    })
}

/// What a node shows: its code, its key, and whose it is.
struct Shown {
    code: String,
    wireguard: Option<PublicKey>,
    owner: Option<Address>,
}

fn fetch_code(ip: Ipv4Addr, port: u16) -> Result<Shown, Failure> {
    let url = format!("http://{ip}:{port}/");
    let doing = format!("cannot get the registration code of {ip}");
    let body = gateway::get_from_node(&url).map_err(|error| match error {
        CallError::Unreachable(..) | CallError::Timeout(_) => error.into_failure(&doing).next(format!(
            "is the node in enrollment mode, and does the provider's firewall let port {port} through? \
             The code is on its console, too: give it with --code"
        )),
        CallError::Status { status: 410, .. } => {
            Failure::new(Exit::Failed, format!("{doing}: it was given out before"))
                .next("read the code from the node's console and give it with --code")
        }
        error => error
            .into_failure(&doing)
            .next("check that an OramaOS node in enrollment mode is at this address"),
    })?;
    let answer: RegistrationCode = gateway::decode(&url, &body).map_err(|error| {
        error.into_failure(&doing).next("check that an OramaOS node in enrollment mode is at this address")
    })?;
    let code = parse_code(&answer.code)
        .map_err(|error| Failure::new(Exit::Failed, format!("{doing}: it sent {error}")))?;
    // Checked here, because it is passed on: what it must match is the gateway's to say.
    let key =
        answer.wireguard_public_key.map(|text| text.parse::<PublicKey>()).transpose().map_err(|error| {
            Failure::new(Exit::Failed, format!("{doing}: it sent a WireGuard key that is none: {error}"))
        })?;
    // Only a recovery key needs it; what it is worth, the node decides.
    let owner = answer.genesis.and_then(|genesis| genesis.owner.parse().ok());
    Ok(Shown { code, wireguard: key, owner })
}

/// Checks the form only: it is the gateway that knows the codes.
pub fn parse_code(text: &str) -> Result<String, String> {
    let text = text.trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if (4..=CODE_CHARS_MAX).contains(&text.len()) && plain {
        Ok(text.to_owned())
    } else {
        Err(format!("{:?}, which is no registration code", text::printable(text, CODE_CHARS_MAX)))
    }
}

fn refused(error: CallError, ip: Ipv4Addr) -> Failure {
    let doing = format!("the node at {ip} is not enrolled");
    let next = match &error {
        CallError::Status { status: 401 | 403, .. } => {
            "the invite is wrong, used or expired: make a new one with `orama node invite`"
        }
        CallError::Status { status: 404, .. } => {
            "no node waits at the gateway with this code: check the code, and that the node can reach the gateway"
        }
        CallError::Timeout(_) => {
            "it may still go through: look at `orama monitor report` before trying again"
        }
        CallError::Status { status: 400..500, .. } => {
            "see the message, then try again: the invite was not used up"
        }
        _ => return error.into_failure(&doing),
    };
    error.into_failure(&doing).next(next)
}
