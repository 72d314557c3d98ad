//! The owner's paths: the sealed key of a cluster's first node, challenges, and the key that the owner brings back. All ask
//! for the bearer token as all others do; the key also for the owner's signature, which the unlock actor checks.

use actix_web::{HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_actors::supervise::Unavailable;
use orama_actors::unlock::{GetChallenge, GetGenesisKey, GetRecoveryKey, OwnerRefusal, OwnerUnlock};
use orama_keyshare::VolumeKey;
use orama_protocol::agent::CommandResponse;
use orama_protocol::genesis::UnlockRequest;
use orama_wallet::Signature;
use orama_wallet::statement::UnlockKind;
use zeroize::Zeroizing;

use super::{Node, refuse, unavailable};

/// Bytes of a volume key.
const KEY_BYTES: usize = 32;

pub async fn unlock(node: web::Data<Node>, body: web::Json<UnlockRequest>) -> HttpResponse {
    let message = match message(&body) {
        Ok(message) => message,
        Err((status, why)) => return refuse(status, why),
    };
    match node.registry.unlock.ask(message).await {
        Ok(Ok(())) => HttpResponse::Ok().json(CommandResponse { status: "unlocking".into() }),
        other => refused(other),
    }
}

/// Or a status and the reason.
fn message(request: &UnlockRequest) -> Result<OwnerUnlock, (u16, String)> {
    let key = STANDARD
        .decode(request.key.expose())
        .map(Zeroizing::new)
        .map_err(|error| (400, format!("key is not base64: {error}")))?;
    if key.len() != KEY_BYTES {
        return Err((400, format!("key has {} bytes instead of {KEY_BYTES}", key.len())));
    }
    let key = VolumeKey::from_slice(&key).map_err(|error| (500, error.to_string()))?;
    let kind = match request.kind.as_str() {
        "" | "genesis" => UnlockKind::Genesis,
        "recovery" => UnlockKind::Recovery,
        _ => return Err((400, "kind is neither genesis nor recovery".to_owned())),
    };
    if request.challenge.is_empty() && request.signature.is_empty() {
        return Ok(OwnerUnlock { key, kind, answer: None });
    }
    let challenge = challenge(&request.challenge)
        .ok_or_else(|| (400, "challenge is not 64 lowercase hex digits".to_owned()))?;
    let signature: Signature =
        request.signature.parse().map_err(|error| (400, format!("signature: {error}")))?;
    Ok(OwnerUnlock { key, kind, answer: Some((challenge, signature)) })
}

fn challenge(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

pub async fn sealed_key(node: web::Data<Node>) -> HttpResponse {
    match node.registry.unlock.ask(GetGenesisKey).await {
        Ok(Ok(key)) => HttpResponse::Ok().json(key),
        other => refused(other),
    }
}

/// For the recovery key that an operator kept.
pub async fn challenge_for_recovery(node: web::Data<Node>) -> HttpResponse {
    match node.registry.unlock.ask(GetChallenge).await {
        Ok(Ok(challenge)) => HttpResponse::Ok().json(challenge),
        other => refused(other),
    }
}

/// The sealed key as something to keep.
pub async fn recovery_key(node: web::Data<Node>) -> HttpResponse {
    match node.registry.unlock.ask(GetRecoveryKey).await {
        Ok(Ok(key)) => HttpResponse::Ok().json(key),
        other => refused(other),
    }
}

fn refused<T>(answer: Result<Result<T, OwnerRefusal>, Unavailable>) -> HttpResponse {
    match answer {
        Ok(Ok(_)) => refuse(500, "no refusal"),
        Ok(Err(refusal)) => {
            let status = match &refusal {
                OwnerRefusal::NotWaiting(_) | OwnerRefusal::NoOwner => 409,
                OwnerRefusal::NoAnswer | OwnerRefusal::Challenge(_) | OwnerRefusal::Signer(_) => 401,
                OwnerRefusal::WrongKey => 403,
                OwnerRefusal::TooSoon(_) => 429,
                OwnerRefusal::Open(_) | OwnerRefusal::Random(_) | OwnerRefusal::NodeId => 500,
            };
            refuse(status, refusal.to_string())
        }
        Err(error) => unavailable(error),
    }
}
