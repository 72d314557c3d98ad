//! What guardians hold down, and the operator's answer to it.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use orama_protocol::gateway::{AlarmList, Decision, DecisionRequest};

use super::{ApiError, node, request};
use crate::alarms::{self, DecisionError, OwnerProblem};
use crate::registry::Node;
use crate::state::{State, now, rfc3339};

pub async fn list(state: web::Data<State>) -> Result<HttpResponse, ApiError> {
    let state = state.into_inner();
    let nodes = state.blocking(|state| state.registry.nodes()).await;
    let nodes = nodes.map_err(|error| ApiError::internal(&error))?;
    let nodes = nodes.map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok().json(AlarmList { at: rfc3339(now()), alarms: state.watch.alarms(&nodes) }))
}

pub async fn approve(state: web::Data<State>, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let asked: DecisionRequest = request::json(&request::body(payload).await?)?;
    let node = node::find(&state, Some(asked.node_id), None).await?;
    let state = state.into_inner();
    let guardians = alarms::approve(&state, &node, asked.address).await.map_err(refused)?;
    if !guardians.iter().any(|answer| answer.done) {
        let said: Vec<String> =
            guardians.iter().map(|answer| format!("{}: {}", answer.node_id, answer.answer)).collect();
        let message = format!("no guardian took the approval: {}", said.join("; "));
        return Err(ApiError::new(StatusCode::BAD_GATEWAY, message));
    }
    tracing::warn!(node_id = node.node_id, "an operator approved that it gets its key");
    Ok(HttpResponse::Ok().json(Decision { status: "approved".into(), node_id: node.node_id, guardians }))
}

pub async fn revoke(state: web::Data<State>, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let asked: DecisionRequest = request::json(&request::body(payload).await?)?;
    let node = node::find(&state, Some(asked.node_id), None).await?;
    let state = state.into_inner();
    // Out of everybody's WireGuard even when no guardian can be asked.
    let revoked = alarms::revoke(&state, &node).await;
    expel(&state, &node).await?;
    let guardians = revoked.map_err(|error| {
        let what = format!("{} is out of the mesh, but its shares are not deleted: {error}", node.node_id);
        ApiError::new(StatusCode::CONFLICT, what)
    })?;
    Ok(HttpResponse::Ok().json(Decision { status: "revoked".into(), node_id: node.node_id, guardians }))
}

/// As a forced leave, without a word to the machine: it is somebody else's now. What fails here is tried again by whoever
/// finishes leaves.
async fn expel(state: &Arc<State>, node: &Node) -> Result<(), ApiError> {
    let _one_at_a_time = state.finishing.lock().await;
    let (node_id, public_key) = (node.node_id.clone(), node.public_key.clone());
    let expelled = state.blocking(move |state| {
        state.registry.begin_leaving(&node_id, true, now()).map_err(|error| error.to_string())?;
        if let Some(mesh) = &state.mesh {
            mesh.remove_peer(&public_key).map_err(|error| error.to_string())?;
        }
        state.registry.remove_leaving(&node_id, now()).map_err(|error| error.to_string())
    });
    let expelled = expelled.await.map_err(|error| ApiError::internal(&error))?;
    state.membership.notify_one();
    expelled.map(drop).map_err(|why| {
        let message = format!("revoked, but its WireGuard peer is not removed yet; it is tried again: {why}");
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    })
}

fn refused(error: DecisionError) -> ApiError {
    match &error {
        DecisionError::Owner(OwnerProblem::Address(_)) => ApiError::bad_request(error.to_string()),
        DecisionError::Owner(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        DecisionError::Failed(_) => ApiError::internal(&error),
    }
}
