//! A node leaves the cluster: the operator's order, and how far it is.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use orama_keyshare::lifecycle::guard::Going;
use orama_protocol::gateway::{LeaveProgress, LeaveRequest, LeaveResponse};
use tokio::time::{Instant, sleep};

use super::{ApiError, node, request};
use crate::agent::Agents;
use crate::guard;
use crate::leave::{self, FinishError};
use crate::registry::{Leaving, Node};
use crate::state::{State, now, rfc3339};
use crate::store::SqlError;

/// How long an order waits for the others to move their shares, so that a caller who knows only one answer gets
/// it when that is quick.
const ORDER_WAIT: Duration = Duration::from_secs(8);
/// How often it looks meanwhile.
const LOOK: Duration = Duration::from_millis(200);

pub async fn order(
    state: web::Data<State>,
    agents: web::Data<Agents>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let asked: LeaveRequest = request::json(&request::body(payload).await?)?;
    let node = node::find(&state, Some(asked.node_id), None).await?;
    let state = state.into_inner();
    let begun = leaving(&state, &node).await?.is_some();
    // Nobody was ever told to keep a share with a node that is no guardian.
    let wait = node.guardian && !asked.force;
    if wait && !begun {
        guard::check(&state, &agents, &node, Going::Away).await.map_err(node::refused)?;
    }
    let (node_id, forced) = (node.node_id.clone(), asked.force);
    store(&state, move |state| state.registry.begin_leaving(&node_id, forced, now())).await?;
    tracing::info!(node_id = node.node_id, forced, wait, "leaves");
    if !wait {
        leave::finish(&state, &agents, &node).await.map_err(|error| match error {
            FinishError::Mesh(error) => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            FinishError::Store(_) | FinishError::Lost(_) => ApiError::internal(&error),
        })?;
        return Ok(removed(&node));
    }
    state.membership.notify_one();
    let deadline = Instant::now() + ORDER_WAIT;
    loop {
        let Some(leaving) = leaving(&state, &node).await? else { return Ok(removed(&node)) };
        if Instant::now() >= deadline {
            return Ok(HttpResponse::Accepted().json(progress(&state, &node, Some(leaving)).await?));
        }
        sleep(LOOK).await;
    }
}

/// A node that has left is not known any more: 404.
pub async fn show(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let asked: node::NodeQuery = request::query(&request)?;
    let node = node::find(&state, asked.node_id, asked.wg_ip).await?;
    let state = state.into_inner();
    let leaving = leaving(&state, &node).await?;
    Ok(HttpResponse::Ok().json(progress(&state, &node, leaving).await?))
}

async fn leaving(state: &Arc<State>, node: &Node) -> Result<Option<Leaving>, ApiError> {
    let node_id = node.node_id.clone();
    Ok(store(state, |state| state.registry.leaving()).await?.remove(&node_id))
}

async fn progress(
    state: &Arc<State>,
    node: &Node,
    leaving: Option<Leaving>,
) -> Result<LeaveProgress, ApiError> {
    let read = |state: &State| Ok((state.registry.nodes()?, state.registry.custody_seen()?));
    let (nodes, last) = store(state, read).await?;
    let waiting_for =
        leaving.as_ref().map(|leaving| leave::waiting(node, leaving, &nodes, &state.visits.all(), &last));
    Ok(LeaveProgress {
        status: if leaving.is_some() { "leaving" } else { "staying" }.into(),
        node_id: node.node_id.clone(),
        wg_ip: node.wg_ip.to_string(),
        since: leaving.map(|leaving| rfc3339(leaving.since)),
        waiting_for: waiting_for.unwrap_or_default(),
    })
}

fn removed(node: &Node) -> HttpResponse {
    HttpResponse::Ok().json(LeaveResponse { status: "removed".into(), wg_ip: node.wg_ip.to_string() })
}

async fn store<T: Send + 'static>(
    state: &Arc<State>,
    work: impl FnOnce(&State) -> Result<T, SqlError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = state.blocking(work).await.map_err(|error| ApiError::internal(&error))?;
    done.map_err(|error| ApiError::internal(&error))
}
