//! A DNS client of a few lines: one question, over UDP or TCP, and the parts of the answer that scenarios look at.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::net::Namespace;

/// RFC 1035: length of the fixed part of a message.
const HEADER_BYTES: usize = 12;
/// Type A, class IN.
const QUESTION_TAIL: [u8; 4] = [0, 1, 0, 1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
}

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("asking {server} over {over:?} for {name}")]
    Exchange {
        server: SocketAddr,
        over: Over,
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the answer to {name} is no answer: {bytes:?}")]
    Malformed { name: String, bytes: Vec<u8> },
}

/// Code and addresses of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 0 is success, 2 a failure of the server, 3 no such name.
    pub code: u8,
    pub addresses: Vec<Ipv4Addr>,
}

/// Asks for the IPv4 addresses of `name` from inside the namespace.
pub fn resolve(
    network: &Namespace,
    server: SocketAddr,
    over: Over,
    name: &str,
    limit: Duration,
) -> Result<Answer, DnsError> {
    let question = question(name);
    let exchange = || match over {
        Over::Udp => ask_udp(server, &question, limit),
        Over::Tcp => ask_tcp(server, &question, limit),
    };
    let failed = |source| DnsError::Exchange { server, over, name: name.to_owned(), source };
    let bytes = network.run(exchange).map_err(failed)?;
    parse(&bytes).ok_or_else(|| DnsError::Malformed { name: name.to_owned(), bytes })
}

fn question(name: &str) -> Vec<u8> {
    // Id 0x4f52, recursion desired, one question.
    let mut bytes = vec![0x4f, 0x52, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&QUESTION_TAIL);
    bytes
}

fn ask_udp(server: SocketAddr, question: &[u8], limit: Duration) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(limit))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

fn ask_tcp(server: SocketAddr, question: &[u8], limit: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let number = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    if number(0)? != 0x4f52 || bytes.get(2)? & 0x80 == 0 {
        return None;
    }
    let mut at = HEADER_BYTES;
    for _ in 0..number(4)? {
        at = after_name(bytes, at)? + QUESTION_TAIL.len();
    }
    let mut addresses = Vec::new();
    for _ in 0..number(6)? {
        at = after_name(bytes, at)?;
        let (kind, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + length)?;
        if let (1, &[a, b, c, d]) = (kind, data) {
            addresses.push(Ipv4Addr::new(a, b, c, d));
        }
        at += 10 + length;
    }
    Some(Answer { code: bytes.get(3)? & 0x0f, addresses })
}

/// A name ends with an empty label or with a pointer to an earlier one.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let mut bytes = question("a.bc");
        bytes[2] |= 0x80;
        bytes[7] = 1;
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 9]);
        let answer = parse(&bytes).unwrap();
        assert_eq!(answer, Answer { code: 0, addresses: vec![Ipv4Addr::new(10, 0, 0, 9)] });
        assert_eq!(parse(&bytes[..bytes.len() - 1]), None);
        assert_eq!(parse(&question("a.bc")), None, "a question is no answer");
    }
}
