//! `GET /v1/agent/refusals?service=NAME`: system calls that profiles did not allow, with the deciding line and a
//! ready patch. Names come from a closed list; what is in the ledger is bounded there.

use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::{Node, known_service, refuse, refuse_name};

#[derive(Deserialize)]
pub struct Query {
    service: Option<String>,
}

pub async fn refusals(node: web::Data<Node>, query: web::Query<Query>) -> HttpResponse {
    let service = match query.into_inner().service {
        None => None,
        Some(all) if all == "all" => None,
        Some(name) if known_service(&node, &name) => Some(name),
        Some(_) => return refuse_name(&node),
    };
    let book = node.registry.facts.refusals().clone();
    // Milliseconds of text when the ledger is full: not on the thread that serves everybody.
    match web::block(move || book.read(service.as_deref())).await {
        Ok(answer) => HttpResponse::Ok().json(answer),
        Err(error) => refuse(503, error.to_string()),
    }
}
