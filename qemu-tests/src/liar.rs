//! A proxy in a guardian's place that passes everything on and changes the shares it hands out.
//! What it lies about is chosen at the start; it keeps nothing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::net::Namespace;

/// Longest message that is passed on, bytes: the guardian's body limit and some headers.
const MESSAGE_LIMIT: usize = (1 << 20) + 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The last byte of the share is another one.
    FlippedByte,
    /// The share says that it belongs to the generation after its own.
    OtherGeneration,
}

/// Stops lying, and listening, on drop.
pub struct Liar {
    ended: Arc<AtomicBool>,
    address: SocketAddr,
    network: Arc<Namespace>,
}

impl Liar {
    pub fn start(
        network: &Arc<Namespace>,
        address: SocketAddr,
        upstream: SocketAddr,
        lie: Lie,
    ) -> std::io::Result<Self> {
        let listener = network.run(|| TcpListener::bind(address))?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&ended);
        network.spawn("liar", move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    // A connection that fails is closed; the client sees that.
                    let _ = pass_on(client, upstream, lie);
                }
            }
        })?;
        Ok(Self { ended, address, network: Arc::clone(network) })
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over and closes.
        let address = self.address;
        let _ = self.network.run(|| TcpStream::connect_timeout(&address, PATIENCE));
        // The port is free for the guardian's return once nobody accepts any more.
        for _ in 0..100 {
            if self.network.run(|| TcpStream::connect_timeout(&address, PATIENCE)).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn pass_on(mut client: TcpStream, upstream: SocketAddr, lie: Lie) -> std::io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let request = read_message(&mut client)?;
    let mut server = TcpStream::connect_timeout(&upstream, PATIENCE)?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.write_all(&request)?;
    let answer = read_message(&mut server)?;
    let is_share = request.starts_with(b"GET /v2/vault/secrets/");
    let answer = if is_share { twist(&answer, lie).unwrap_or(answer) } else { answer };
    client.write_all(&answer)
}

/// A head, and as many bytes as its Content-Length says.
fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        if let Some(head) = head_length(&message) {
            let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if message.len() >= head + length.unwrap_or(0) {
                return Ok(message);
            }
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 || message.len() > MESSAGE_LIMIT {
            return Ok(message);
        }
        message.extend_from_slice(&buffer[..count]);
    }
}

/// Length of the head with the empty line that ends it.
fn head_length(message: &[u8]) -> Option<usize> {
    Some(message.windows(4).position(|window| window == b"\r\n\r\n")? + 4)
}

/// The answer with a changed share; none when there is no share in it.
fn twist(answer: &[u8], lie: Lie) -> Option<Vec<u8>> {
    let body = &answer[head_length(answer)?..];
    let mut secret: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut share = BASE64.decode(secret.get("share")?.as_str()?).ok()?;
    match lie {
        Lie::FlippedByte => *share.last_mut()? ^= 0x01,
        Lie::OtherGeneration => {
            // After version, volume and node id; one byte as long as it is small. A guardian cannot open the
            // envelope, but it can edit it.
            let generation = 18 + usize::from(*share.get(17)?);
            *share.get_mut(generation)? += 1;
        }
    }
    secret["share"] = BASE64.encode(&share).into();
    let body = secret.to_string();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    Some(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lie_changes_the_share_and_nothing_else() {
        let body = format!(r#"{{"share":"{}","name":"n","version":1}}"#, BASE64.encode([1, 2, 3]));
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let twisted = twist(answer.as_bytes(), Lie::FlippedByte).unwrap();
        let text = String::from_utf8(twisted).unwrap();
        let body: serde_json::Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["share"], BASE64.encode([1, 2, 2]));
        assert_eq!(body["version"], 1);
        assert!(twist(b"HTTP/1.1 404 Not Found\r\n\r\n{}", Lie::FlippedByte).is_none());
    }
}
