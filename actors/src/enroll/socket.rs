//! One WebSocket to the gateway: TLS to what the image pins, text frames in and out, pings, and every bound. Knows the
//! frames' JSON and nothing of what they mean.

use std::time::Duration;

use awc::ws::{CloseCode, Frame, Message};
use futures_util::{SinkExt, StreamExt};
use orama_protocol::enroll::{ENROLL_FRAME_LIMIT_BYTES, ENROLL_SOCKET_PATH, GatewayMessage, NodeMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use zeroize::Zeroizing;

use super::pinned_tls::{Pin, PinError};
use crate::describe;

/// TCP, TLS and the upgrade, each.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(15);
/// Two missed answers and some.
const SILENCE_LIMIT: Duration = Duration::from_secs(40);
/// How long a gateway that does not read may hold a frame up.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long the other side may take to answer our goodbye.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// Messages a gateway may send on one socket: an enrollment takes three, every new code one more.
const MESSAGES_MAX: u32 = 10_000;

/// What the socket tells its owner.
pub enum Heard {
    Connected,
    Message(GatewayMessage),
}

/// A client that trusts the pinned gateway and nothing else.
pub fn client(pin: &Pin) -> Result<awc::Client, PinError> {
    let tls = std::sync::Arc::new(pin.client_config()?);
    let connector =
        awc::Connector::new().timeout(CONNECT_TIMEOUT).handshake_timeout(CONNECT_TIMEOUT).rustls_0_23(tls);
    Ok(awc::Client::builder().connector(connector).timeout(CONNECT_TIMEOUT).disable_redirects().finish())
}

/// Runs one socket to its end and says why it ended. `outgoing` closed is our own hang-up.
pub async fn converse(
    client: &awc::Client,
    gateway_url: &str,
    outgoing: &mut mpsc::Receiver<NodeMessage>,
    mut heard: impl FnMut(Heard),
) -> String {
    let url = format!("{}{ENROLL_SOCKET_PATH}", gateway_url.trim_end_matches('/'));
    let connect = client.ws(&url).max_frame_size(ENROLL_FRAME_LIMIT_BYTES).connect();
    let mut socket = match connect.await {
        Ok((_, socket)) => socket,
        Err(error) => return format!("gateway {gateway_url}: {}", describe(&error)),
    };
    heard(Heard::Connected);
    let mut ping = interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_heard = Instant::now();
    let mut budget = MESSAGES_MAX;
    loop {
        let answer = tokio::select! {
            frame = socket.next() => {
                last_heard = Instant::now();
                budget -= 1;
                match frame {
                    _ if budget == 0 => return "the gateway sent too many messages".into(),
                    None => return "the gateway closed the connection".into(),
                    Some(Err(error)) => return format!("the socket broke: {}", describe(&error)),
                    Some(Ok(Frame::Text(text))) => match parse(&text) {
                        Ok(message) => {
                            heard(Heard::Message(message));
                            continue;
                        }
                        Err(why) => return why,
                    },
                    Some(Ok(Frame::Ping(payload))) => Message::Pong(payload),
                    Some(Ok(Frame::Pong(_))) => continue,
                    Some(Ok(Frame::Close(reason))) => return closed(reason),
                    Some(Ok(Frame::Binary(_) | Frame::Continuation(_))) => {
                        return "the gateway sent a frame that is not a whole text".into();
                    }
                }
            }
            message = outgoing.recv() => match message {
                Some(message) => match encode(&message) {
                    Ok(text) => Message::Text(text.as_str().to_owned().into()),
                    Err(error) => return format!("encoding a message: {error}"),
                },
                None => {
                    hang_up(&mut socket).await;
                    return "hung up".into();
                }
            },
            _ = ping.tick() => {
                if last_heard.elapsed() > SILENCE_LIMIT {
                    return "the gateway fell silent".into();
                }
                Message::Ping(Default::default())
            }
        };
        match tokio::time::timeout(SEND_LIMIT, socket.send(answer)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("the socket broke: {}", describe(&error)),
            Err(_) => return "the gateway does not read".into(),
        }
    }
}

/// Says goodbye and waits for the other side's: a connection that is cut right after the last words can take them along,
/// because the receiver may see the cut before it has read them.
async fn hang_up<S>(socket: &mut S)
where
    S: futures_util::Sink<Message> + futures_util::Stream + Unpin,
{
    let goodbye = async {
        if socket.send(Message::Close(Some(CloseCode::Normal.into()))).await.is_ok() {
            // What still comes is not listened to; the end of the stream is what counts.
            while socket.next().await.is_some() {}
        }
    };
    let _ = tokio::time::timeout(GOODBYE_LIMIT, goodbye).await;
}

fn parse(text: &[u8]) -> Result<GatewayMessage, String> {
    // The error of serde_json can repeat parts of the text, which may carry a secret: only the place is told.
    serde_json::from_slice(text).map_err(|error| {
        format!("the gateway sent a malformed message (line {}, column {})", error.line(), error.column())
    })
}

fn encode(message: &NodeMessage) -> Result<Zeroizing<String>, serde_json::Error> {
    serde_json::to_string(message).map(Zeroizing::new)
}

fn closed(reason: Option<awc::ws::CloseReason>) -> String {
    match reason.and_then(|reason| reason.description) {
        Some(text) => format!("the gateway closed the connection: {}", orama_keyshare::printable(&text)),
        None => "the gateway closed the connection".into(),
    }
}
