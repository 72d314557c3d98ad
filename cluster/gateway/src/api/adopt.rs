//! A node that its owner's wallet enrolled joins the cluster.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use orama_protocol::gateway::{AdoptRequest, AdoptResponse};

use super::{ApiError, request};
use crate::adopt::{self, AdoptError};
use crate::state::State;

pub async fn order(state: web::Data<State>, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let asked: AdoptRequest = request::json(&request::body(payload).await?)?;
    let list = adopt::run(&state.into_inner(), asked).await.map_err(refused)?;
    Ok(HttpResponse::Ok().json(AdoptResponse { status: "adopted".into(), list }))
}

fn refused(error: AdoptError) -> ApiError {
    let status = match &error {
        AdoptError::Field { .. } => StatusCode::BAD_REQUEST,
        AdoptError::OtherNetwork { .. }
        | AdoptError::OwnAddress { .. }
        | AdoptError::Taken { .. }
        | AdoptError::Routed { .. }
        | AdoptError::KeyTaken(_)
        | AdoptError::OtherOwner
        | AdoptError::Leaves(_)
        | AdoptError::Conflict
        | AdoptError::List(_) => StatusCode::CONFLICT,
        AdoptError::NoMesh | AdoptError::Mesh(_) => StatusCode::SERVICE_UNAVAILABLE,
        AdoptError::Store(_) | AdoptError::Lost(_) => return ApiError::internal(&error),
    };
    ApiError::new(status, error.to_string())
}
