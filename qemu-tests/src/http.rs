//! A plain HTTP/1.1 client of a few lines, on purpose: scenarios must be able to send what a decent
//! client never would. One request per connection; answers are bounded. No TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

use crate::net::Namespace;

/// Largest answer that is read, bytes.
const ANSWER_LIMIT: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("connecting to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("sending to {address}")]
    Send {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("reading from {address}")]
    Receive {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("{address} closed the connection without an answer")]
    Closed { address: SocketAddr },
    #[error("{address} did not answer with HTTP: {start:?}")]
    NotHttp { address: SocketAddr, start: String },
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Header lines as received.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or(serde_json::Value::Null)
    }
}

/// One well-formed request.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: &[], body: &[] }
    }

    fn encode(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", self.method, self.path);
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// Sends a request from inside the namespace.
pub fn send(
    network: &Namespace,
    address: SocketAddr,
    request: &Request<'_>,
    limit: Duration,
) -> Result<Answer, HttpError> {
    exchange(network, address, &request.encode(address), limit)
}

/// Sends the bytes as they are and reads the answer.
pub fn exchange(
    network: &Namespace,
    address: SocketAddr,
    bytes: &[u8],
    limit: Duration,
) -> Result<Answer, HttpError> {
    network.run(|| {
        let stream = TcpStream::connect_timeout(&address, limit)
            .map_err(|source| HttpError::Connect { address, source })?;
        converse(stream, address, bytes, limit)
    })
}

/// Sends a request from an address of this namespace, where the kernel would have chosen another.
pub fn send_from(
    network: &Namespace,
    own: IpAddr,
    address: SocketAddr,
    request: &Request<'_>,
    limit: Duration,
) -> Result<Answer, HttpError> {
    network.run(|| {
        let stream = connect_from(own, address)
            .map_err(|source| HttpError::Connect { address, source: source.into() })?;
        converse(stream, address, &request.encode(address), limit)
    })
}

fn connect_from(own: IpAddr, address: SocketAddr) -> nix::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(own, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

fn converse(
    mut stream: TcpStream,
    address: SocketAddr,
    bytes: &[u8],
    limit: Duration,
) -> Result<Answer, HttpError> {
    let receive = |source| HttpError::Receive { address, source };
    stream.set_write_timeout(Some(limit)).map_err(receive)?;
    let sent = stream.write_all(bytes);
    let raw = read_answer(&mut stream, limit).map_err(receive)?;
    // A server may refuse a large body before it has read all of it: its answer counts then.
    if raw.is_empty() {
        sent.map_err(|source| HttpError::Send { address, source })?;
        return Err(HttpError::Closed { address });
    }
    parse(&raw).ok_or_else(|| HttpError::NotHttp {
        address,
        start: String::from_utf8_lossy(&raw[..raw.len().min(80)]).into_owned(),
    })
}

/// Reads until the peer closes, the answer is complete, or the limit is over.
fn read_answer(stream: &mut TcpStream, limit: Duration) -> std::io::Result<Vec<u8>> {
    let started = Instant::now();
    let mut raw = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        let left = limit.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(raw),
            Ok(count) => raw.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(raw),
            Err(error) => return Err(error),
        }
        if raw.len() as u64 > ANSWER_LIMIT {
            return Err(std::io::Error::other("answer over 4 MiB"));
        }
        if parse(&raw).is_some_and(|answer| complete(&answer)) {
            return Ok(raw);
        }
    }
}

fn complete(answer: &Answer) -> bool {
    match header(&answer.head, "content-length").map(str::parse::<usize>) {
        Some(Ok(length)) => answer.body.len() >= length,
        _ => false,
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let body = &raw[end + 4..];
    let chunked = header(&head, "transfer-encoding").is_some_and(|value| value.contains("chunked"));
    let body = if chunked { unchunk(body) } else { body.to_vec() };
    Some(Answer { status, head, body })
}

/// Joins the chunks that are complete.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let Ok(length) = usize::from_str_radix(String::from_utf8_lossy(&rest[..end]).trim(), 16) else {
            break;
        };
        let (from, to) = (end + 2, (end + 2).saturating_add(length));
        if length == 0 || rest.len() < to + 2 {
            break;
        }
        body.extend_from_slice(&rest[from..to]);
        rest = &rest[to + 2..];
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_a_length_and_in_chunks() {
        let plain = parse(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno").unwrap();
        assert_eq!((plain.status, plain.text().as_str(), complete(&plain)), (404, "no", true));
        let chunked =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!(chunked.text(), "abcde");
        assert!(parse(b"SSH-2.0-x\r\n\r\n").is_none());
    }
}
