//! HTTP connections to one guardian, each begun one request ahead: a guardian closes after every answer, and opening
//! the next connection while the last answer is on its way saves a round trip per request. Never more than one waits
//! without a request, and they are used in the order in which they were begun, so that a guardian which serves one
//! connection after the other is never made to wait for the wrong one.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_service::fn_service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::http::Uri;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::guardian_client::GUARDIAN_TIMEOUT;

struct Line {
    guardian: SocketAddr,
    /// Connections that will still be asked for.
    left: u8,
    next: Option<Ahead>,
}

/// A connection that is being made; given up when nobody asks for it any more.
struct Ahead(JoinHandle<io::Result<TcpStream>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A client for this many requests to one guardian, one after the other; more work too, only slower. The first
/// connection is begun at once.
pub(super) fn client(guardian: SocketAddr, requests: u8) -> awc::Client {
    let mut line = Line { guardian, left: requests, next: None };
    line.begin();
    let line = Rc::new(RefCell::new(line));
    let connector = fn_service(move |asked: ConnectInfo<Uri>| {
        let line = Rc::clone(&line);
        async move {
            let (guardian, next) = {
                let mut line = line.borrow_mut();
                (line.guardian, line.next.take())
            };
            let stream = match next {
                Some(mut next) => (&mut next.0).await.unwrap_or_else(|error| Err(io::Error::other(error))),
                None => connect(guardian).await,
            };
            let stream = stream.map_err(ConnectError::Io)?;
            line.borrow_mut().begin();
            Ok(Connection::new(asked.request().clone(), stream))
        }
    });
    // Redirects are off: an answer that sends us elsewhere is not the guardian's protocol.
    let builder = awc::Client::builder().timeout(GUARDIAN_TIMEOUT).disable_redirects();
    builder.connector(awc::Connector::new().connector(connector)).finish()
}

impl Line {
    fn begin(&mut self) {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            self.next = Some(Ahead(actix_rt::spawn(connect(self.guardian))));
        }
    }
}

async fn connect(guardian: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(guardian).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

    /// Serves one connection after the other, as the simplest guardian does: a connection out of order would hang.
    #[actix_rt::test]
    async fn each_request_has_its_connection_in_order_and_no_connection_is_left_over() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let guardian = listener.local_addr().unwrap();
        let server = actix_rt::spawn(async move {
            for path in ["/0", "/1", "/2"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                assert!(head[..read].starts_with(format!("GET {path} ").as_bytes()), "{path}");
                stream.write_all(ANSWER).await.unwrap();
            }
            listener
        });
        let client = client(guardian, 3);
        for path in 0..3 {
            let get = client.get(format!("http://{guardian}/{path}")).force_close().send();
            let answer = tokio::time::timeout(Duration::from_secs(5), get).await.expect("no hang");
            assert!(answer.unwrap().status().is_success());
        }
        let listener = server.await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(more.is_err(), "a fourth connection for three requests");
    }
}
