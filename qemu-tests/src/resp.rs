//! A client of the Redis protocol (RESP 2), which Olric speaks: one command, one answer, over one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::net::Namespace;

/// Longest text that is read, bytes.
const BULK_LIMIT: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
#[error("asking {address} over RESP")]
pub struct RespError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Text(Vec<u8>),
    Number(i64),
    Error(String),
    Nothing,
}

/// Sends the commands one after the other from inside the namespace and gives the answers.
pub fn ask(
    network: &Namespace,
    address: SocketAddr,
    commands: &[&[&[u8]]],
    limit: Duration,
) -> Result<Vec<Answer>, RespError> {
    let talk = || -> std::io::Result<Vec<Answer>> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(&stream);
        let mut answers = Vec::new();
        for command in commands {
            (&stream).write_all(&encode(command))?;
            answers.push(read(&mut reader)?);
        }
        Ok(answers)
    };
    network.run(talk).map_err(|source| RespError { address, source })
}

fn encode(command: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Answer> {
    let mut line = String::new();
    reader.take(BULK_LIMIT).read_line(&mut line)?;
    let odd = || std::io::Error::other(format!("not RESP: {line:?}"));
    let rest = line.get(1..).unwrap_or_default().trim_end().to_owned();
    match line.as_bytes().first() {
        Some(b'+') => Ok(Answer::Text(rest.into_bytes())),
        Some(b'-') => Ok(Answer::Error(rest)),
        Some(b':') => rest.parse().map(Answer::Number).map_err(|_| odd()),
        Some(b'$') if rest == "-1" => Ok(Answer::Nothing),
        Some(b'$') => {
            let length: u64 = rest.parse().map_err(|_| odd())?;
            if length > BULK_LIMIT {
                return Err(odd());
            }
            let mut bytes = Vec::new();
            reader.take(length + 2).read_to_end(&mut bytes)?;
            bytes.truncate(bytes.len().saturating_sub(2));
            Ok(Answer::Text(bytes))
        }
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_out_and_answers_come_in() {
        assert_eq!(encode(&[b"GET", b"k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
        let read = |bytes: &[u8]| read(&mut BufReader::new(bytes));
        assert_eq!(read(b"+PONG\r\n").unwrap(), Answer::Text(b"PONG".to_vec()));
        assert_eq!(read(b"$2\r\nhi\r\n").unwrap(), Answer::Text(b"hi".to_vec()));
        assert_eq!(read(b"$-1\r\n").unwrap(), Answer::Nothing);
        assert_eq!(read(b":7\r\n").unwrap(), Answer::Number(7));
        assert_eq!(read(b"-ERR no\r\n").unwrap(), Answer::Error("ERR no".into()));
        assert!(read(b"HTTP/1.1 400\r\n").is_err());
    }
}
