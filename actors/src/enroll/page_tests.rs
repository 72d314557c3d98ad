use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use super::*;

struct Served {
    address: SocketAddr,
    handle: ServerHandle,
}

fn serve_code() -> Served {
    let code = RegistrationCode {
        code: "ABCD1234".into(),
        expires: "2026-01-01T00:00:00Z".into(),
        wireguard_public_key: None,
        genesis: None,
    };
    let shown = Arc::new(Mutex::new(Some(code)));
    let page = Page { shown, push: None, genesis: None };
    let (address, handle, server) = serve((std::net::Ipv4Addr::LOCALHOST, 0).into(), page).unwrap();
    actix_rt::spawn(server);
    Served { address, handle }
}

/// Sends bytes and reads to the end, on a blocking thread: a person's raw socket.
async fn raw(address: SocketAddr, request: &'static str) -> String {
    let exchange = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    exchange.await.unwrap()
}

#[actix::test]
async fn shows_the_code_to_programs_and_to_browsers() {
    let page = serve_code();
    let json = raw(page.address, "GET / HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n").await;
    assert!(json.starts_with("HTTP/1.1 200 OK"), "{json}");
    assert!(json.ends_with(r#"{"code":"ABCD1234","expires":"2026-01-01T00:00:00Z"}"#), "{json}");
    assert!(json.to_lowercase().contains("connection: close"), "{json}");
    let any = raw(page.address, "GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n").await;
    assert!(any.contains("application/json"), "{any}");
    let html = raw(page.address, "GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*;q=0.8\r\n\r\n").await;
    assert!(html.contains("text/html") && html.contains("<code>ABCD1234</code>"), "{html}");
    let head = raw(page.address, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("ABCD1234"), "{head}");
    page.handle.stop(false).await;
}

#[actix::test]
async fn refuses_everything_else() {
    let page = serve_code();
    for (request, status) in [
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", "405"),
        ("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /v1/agent/enroll/genesis HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "404"),
        ("GET /v1/agent/enroll/progress HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /v1/agent/enroll/complete HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "404"),
        ("\x00\x01\x02\r\n\r\n", "400"),
    ] {
        let answer = raw(page.address, request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
    }
    page.handle.stop(false).await;
}

#[actix::test]
async fn a_slow_client_and_an_endless_head_are_cut_off() {
    let page = serve_code();
    let start = Instant::now();
    let slow = raw(page.address, "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    let address = page.address;
    let endless = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ").unwrap();
        let block = [b'a'; 16 * 1024];
        // A server that reads on for ever would take all of it.
        (0..4096).take_while(|_| stream.write_all(&block).is_ok()).count()
    });
    let (slow, endless) = tokio::join!(slow, endless);
    assert!(slow.is_empty() || slow.starts_with("HTTP/1.1 408"), "{slow}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert!(endless.unwrap() < 4096, "64 MiB of head were taken");
    page.handle.stop(false).await;
}
