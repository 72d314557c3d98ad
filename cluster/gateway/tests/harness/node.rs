//! A node that enrolls by script.

use std::pin::Pin;
use std::time::Duration;

use actix_web::web::Bytes;
use awc::error::WsProtocolError;
use awc::ws::{Frame, Message};
use futures_util::stream::LocalBoxStream;
use futures_util::{Sink, SinkExt, StreamExt};
use orama_protocol::Redacted;
use orama_protocol::enroll::{ENROLL_PROTOCOL, ENROLL_SOCKET_PATH, GatewayMessage, NodeConfig, NodeMessage};
use orama_protocol::recovery::RecoveryRequest;

use super::{Gateway, public_key};

/// Longest wait for a frame; the gateway's own limits are shorter, but for waiting itself.
const WAIT: Duration = Duration::from_secs(20);

pub const AGENT_TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub struct FakeNode {
    sink: Pin<Box<dyn Sink<Message, Error = WsProtocolError>>>,
    stream: LocalBoxStream<'static, Result<Frame, WsProtocolError>>,
    /// The configuration that it was offered last.
    pub config: Option<NodeConfig>,
    /// The owner's wish that came with it.
    pub recovery: Option<RecoveryRequest>,
}

pub fn hello(code: &str, key: u8) -> NodeMessage {
    NodeMessage::Hello {
        protocol: ENROLL_PROTOCOL,
        code: code.into(),
        wireguard_public_key: public_key(key),
        wireguard_port: 51820,
        version: "1.0.0".into(),
        arch: "amd64".into(),
    }
}

impl FakeNode {
    /// The socket only.
    pub async fn connect(gateway: &Gateway) -> Self {
        Self::try_connect(gateway).await.unwrap()
    }

    pub async fn try_connect(gateway: &Gateway) -> Result<Self, String> {
        let url = gateway.url(ENROLL_SOCKET_PATH).replace("https:", "wss:");
        let request = gateway.client.ws(url).max_frame_size(1 << 20);
        let (_, framed) = request.connect().await.map_err(|error| error.to_string())?;
        let (sink, stream) = framed.split();
        Ok(Self { sink: Box::pin(sink), stream: stream.boxed_local(), config: None, recovery: None })
    }

    /// Connected, and waiting under its code.
    pub async fn waiting(gateway: &Gateway, code: &str, key: u8) -> Self {
        let mut node = Self::connect(gateway).await;
        node.say(hello(code, key)).await;
        assert!(matches!(node.hear().await, Some(GatewayMessage::Waiting)));
        node
    }

    pub async fn say(&mut self, message: NodeMessage) {
        self.frame(Message::Text(serde_json::to_string(&message).unwrap().into())).await;
    }

    /// Errors are left alone: the gateway may have closed already, and the test reads why.
    pub async fn frame(&mut self, message: Message) {
        let _ = self.sink.send(message).await;
    }

    /// The next message; none: the gateway closed the socket.
    pub async fn hear(&mut self) -> Option<GatewayMessage> {
        match self.next_frame().await {
            Heard::Text(text) => Some(serde_json::from_slice(&text).unwrap()),
            Heard::Closed(_) => None,
        }
    }

    /// Reads to the end and gives the reason of the close frame.
    pub async fn closed(&mut self) -> String {
        for _ in 0..20 {
            if let Heard::Closed(reason) = self.next_frame().await {
                return reason;
            }
        }
        panic!("the gateway does not close the socket");
    }

    async fn next_frame(&mut self) -> Heard {
        loop {
            let frame = tokio::time::timeout(WAIT, self.stream.next()).await.expect("the gateway is silent");
            match frame {
                Some(Ok(Frame::Text(text))) => return Heard::Text(text),
                Some(Ok(Frame::Ping(payload))) => self.frame(Message::Pong(payload)).await,
                Some(Ok(Frame::Close(reason))) => {
                    let text = reason.and_then(|reason| reason.description).unwrap_or_default();
                    return Heard::Closed(text);
                }
                Some(Ok(other)) => panic!("unexpected frame {other:?}"),
                Some(Err(_)) | None => return Heard::Closed(String::new()),
            }
        }
    }

    /// Waits for the configuration.
    pub async fn configured(&mut self) {
        match self.hear().await {
            Some(GatewayMessage::Configure { config, recovery }) => {
                (self.config, self.recovery) = (Some(config), recovery);
            }
            other => panic!("no configuration but {other:?}"),
        }
    }

    /// Takes the configuration, up to `Registered`.
    pub async fn accept(&mut self) {
        self.configured().await;
        self.say(NodeMessage::Accepted { agent_token: Redacted::new(AGENT_TOKEN.into()) }).await;
        let heard = self.hear().await;
        assert!(matches!(heard, Some(GatewayMessage::Registered)), "{heard:?}");
    }

    pub async fn progress(&mut self, step: &str) {
        self.say(NodeMessage::Progress { step: step.into() }).await;
    }
}

enum Heard {
    Text(Bytes),
    Closed(String),
}
