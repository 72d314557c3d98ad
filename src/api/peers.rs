//! `PUT /v1/agent/peers`: the cluster as the gateway knows it.

use actix_web::{HttpRequest, HttpResponse, web};
use orama_actors::custody::{PeersProblem, SetPeers};
use orama_actors::describe;
use orama_protocol::peers::{PeerList, PeersAccepted};

use super::auth::Gate;
use super::{Node, bad_json, refuse, unavailable};

/// Largest list, bytes: 250 peers with the longest texts.
const LIST_LIMIT_BYTES: usize = 256 * 1024;

/// How the list's body is read.
pub fn body() -> web::JsonConfig {
    web::JsonConfig::default().limit(LIST_LIMIT_BYTES).content_type_required(false).error_handler(bad_json)
}

pub async fn peers(
    request: HttpRequest,
    gate: web::Data<Gate>,
    node: web::Data<Node>,
    list: web::Json<PeerList>,
) -> HttpResponse {
    if let Err(refusal) = gate.admit_change(&request) {
        return refusal.answer();
    }
    match node.registry.custody.ask(SetPeers(list.into_inner())).await {
        Ok(Ok(revision)) => HttpResponse::Ok().json(PeersAccepted { status: "accepted".into(), revision }),
        Ok(Err(problem)) => {
            let status = match problem {
                PeersProblem::NotOpen | PeersProblem::WireGuard(_) => 503,
                PeersProblem::Older { .. } => 409,
                PeersProblem::List(_) => 400,
                PeersProblem::Record(_) => 500,
            };
            refuse(status, describe(&problem))
        }
        Err(error) => unavailable(error),
    }
}
