//! `GET /v1/agent/logs`: the last lines of one service, of the agent, or of all. Names come from a closed list and
//! never become part of a path here.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, web};
use orama_actors::services::{TailError, TailLog};
use orama_protocol::agent::{LOG_LINES_DEFAULT, LOG_LINES_MAX};
use serde::Deserialize;

use super::{AGENT, Node, known_service, refuse, refuse_name, unavailable};

#[derive(Deserialize)]
pub struct Query {
    service: Option<String>,
    lines: Option<usize>,
}

pub async fn logs(node: web::Data<Node>, query: web::Query<Query>) -> HttpResponse {
    let lines = query.lines.unwrap_or(LOG_LINES_DEFAULT).min(LOG_LINES_MAX);
    match query.service.as_deref() {
        None | Some("all") => all(&node, lines).await,
        Some(AGENT) => HttpResponse::Ok().json(BTreeMap::from([(AGENT, node.log.tail(lines))])),
        Some(name) if known_service(&node, name) => match tail(&node, name, lines).await {
            Ok(text) => HttpResponse::Ok().json(BTreeMap::from([(name, text)])),
            Err(refusal) => refusal,
        },
        Some(_) => refuse_name(&node),
    }
}

/// One key per service of this node. A log that cannot be read now says so in its place.
async fn all(node: &Node, lines: usize) -> HttpResponse {
    let mut texts = BTreeMap::from([(AGENT.to_owned(), node.log.tail(lines))]);
    for name in node.registry.facts.services().into_keys() {
        let text = match node.registry.services.ask(TailLog { name: name.clone(), lines }).await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => format!("({error})\n"),
            Err(error) => format!("({error})\n"),
        };
        texts.insert(name, text);
    }
    HttpResponse::Ok().json(texts)
}

async fn tail(node: &Node, name: &str, lines: usize) -> Result<String, HttpResponse> {
    match node.registry.services.ask(TailLog { name: name.into(), lines }).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => {
            let code = match &error {
                TailError::Unknown(_) => 404,
                TailError::Locked => 503,
                TailError::Read { .. } => 500,
            };
            Err(refuse(code, orama_actors::describe(&error)))
        }
        Err(error) => Err(unavailable(error)),
    }
}
