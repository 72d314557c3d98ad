//! Clients that ask too often, send too much, or take their time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use vault_guardian::ServeError;

use crate::client::{Guardian, SECOND_NS, connect, folder, identity, path, read_answer, start, start_with};

#[test]
fn the_121st_request_of_a_minute_is_refused() {
    let folder = folder();
    let guardian = start_with(folder.path(), |_| ());
    let token = guardian.session(&identity('a'));
    for request in 2..120 {
        // Whatever it asks for.
        let status = if request % 2 == 0 {
            guardian.list(&token).status
        } else {
            guardian.post("/x", &json!(1)).status
        };
        assert_eq!(status, if request % 2 == 0 { 200 } else { 404 }, "request {request}");
        guardian.sleep(SECOND_NS / 10);
    }
    let refused = guardian.list(&token);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.error(), "more than 120 requests in 60 s, try again in 49 s");
    assert!(refused.head.to_lowercase().contains("retry-after: 49"), "{}", refused.head);
    guardian.sleep(49 * SECOND_NS);
    assert_eq!(guardian.list(&token).status, 200);
}

#[test]
fn an_oversized_body_is_refused_whether_announced_or_not() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    let body = vec![b' '; (1 << 20) + 1];
    let answer = guardian.send("PUT", &path("one"), Some(&token), &body);
    assert_eq!((answer.status, answer.error()), (400, "the body is larger than 1048576 bytes"));

    let mut stream = connect(guardian.address);
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: g\r\nX-Session-Token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n",
        path("one")
    );
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..20 {
        let mut chunk = b"10000\r\n".to_vec();
        chunk.extend(vec![b' '; 0x10000]);
        chunk.extend(b"\r\n");
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let start = Instant::now();
    let answer = read_answer(stream);
    assert_eq!((answer.status, answer.error()), (400, "the body is larger than 1048576 bytes"));
    assert!(start.elapsed() < Duration::from_secs(8), "the connection lived {:?}", start.elapsed());
}

/// Reads until the guardian ends the connection; gives how long that took and what came.
fn wait_for_end(mut stream: TcpStream) -> (Duration, String) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes);
    (start.elapsed(), String::from_utf8_lossy(&bytes).into_owned())
}

#[test]
fn slow_clients_are_dropped_and_do_not_hinder_others() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    let mut half_heads: Vec<TcpStream> = (0..50).map(|_| connect(guardian.address)).collect();
    for stream in &mut half_heads {
        stream.write_all(b"GET /v2/vault/secrets HT").unwrap();
    }
    let mut silent = connect(guardian.address);
    let head = format!(
        "PUT {} HTTP/1.1\r\nHost: g\r\nX-Session-Token: {token}\r\nContent-Length: 100\r\n\r\n{{",
        path("one")
    );
    silent.write_all(head.as_bytes()).unwrap();
    let others = Instant::now();
    assert_eq!(guardian.put(&token, "two", b"x", 1).status, 200);
    assert!(others.elapsed() < Duration::from_secs(4), "slow clients hold up others");

    let (took, _) = wait_for_end(half_heads.remove(0));
    assert!(took < Duration::from_secs(20), "half a head lived {took:?}");
    let (took, answer) = wait_for_end(silent);
    assert!(took < Duration::from_secs(30), "half a body lived {took:?}");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("did not arrive within 10 s"), "{answer}");
    assert_eq!(guardian.get(&token, "one").status, 404);
}

#[test]
fn a_client_that_leaves_does_no_harm() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    for _ in 0..20 {
        let mut stream = connect(guardian.address);
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: g\r\nX-Session-Token: {token}\r\nContent-Length: 100\r\n\r\n{{",
            path("one")
        );
        stream.write_all(head.as_bytes()).unwrap();
    }
    assert_eq!(guardian.get(&token, "one").status, 404);
    assert_eq!(guardian.put(&token, "one", b"x", 1).status, 200);
}

#[test]
fn what_is_no_http_is_closed() {
    let folder = folder();
    let guardian = start(folder.path());
    for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let mut stream = connect(guardian.address);
        stream.write_all(bytes).unwrap();
        let (took, answer) = wait_for_end(stream);
        assert!(took < Duration::from_secs(20), "{bytes:?} lived {took:?}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(guardian.list(&guardian.session(&identity('a'))).status, 200);
}

/// Nobody reads, nobody sends the end of a chunked body: the guardian still gets rid of the connection.
#[test]
fn a_body_without_end_holds_no_connection() {
    let folder = folder();
    let guardian = start(folder.path());
    for path in ["/nowhere", "/v2/vault/secrets", "/v2/vault/secrets/one"] {
        let mut stream = connect(guardian.address);
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let (took, answer) = wait_for_end(stream);
        assert!(took < Duration::from_secs(20), "{path} lived {took:?}");
        assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
    }
}

/// Connections of the guardian that are open or still have something to send, by the kernel's account.
fn open_connections(guardian: &Guardian) -> usize {
    let port = format!(":{:04X}", guardian.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 01 is established, 04 is closed by us with data left.
        fields[1].ends_with(&port) && matches!(fields[3], "01" | "04")
    };
    table.lines().filter(open).count()
}

#[test]
fn a_client_that_does_not_read_is_dropped() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, "large", &vec![7; 512 * 1024], 1).status, 200);
    let mut deaf = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(guardian.address);
        // The kernel must not take the whole answer on the client's behalf.
        setsockopt(&stream, sockopt::RcvBuf, &4096).unwrap();
        let head = format!("GET {} HTTP/1.1\r\nHost: g\r\nX-Session-Token: {token}\r\n\r\n", path("large"));
        stream.write_all(head.as_bytes()).unwrap();
        deaf.push(stream);
    }
    assert_eq!(guardian.put(&token, "small", b"x", 1).status, 200);
    assert_eq!(guardian.share(&token, "small"), b"x");
    assert!(open_connections(&guardian) >= 5, "the answers fitted into the clients' buffers");
    // The send timeout is 20 s; the rest is for a busy machine.
    let patience = Instant::now() + Duration::from_secs(90);
    while open_connections(&guardian) > 0 {
        assert!(Instant::now() < patience, "{} connections are still open", open_connections(&guardian));
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(deaf);
}

#[test]
fn every_address_at_once_only_when_asked_for() {
    let folder = folder();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let config = vault_guardian::Config::new(listen.parse().unwrap(), folder.path());
        assert!(matches!(vault_guardian::serve(config), Err(ServeError::Anywhere(_))), "{listen}");
    }
    let guardian = start_with(folder.path(), |config| {
        config.listen = "0.0.0.0:0".parse().unwrap();
        config.listen_anywhere = true;
    });
    assert_eq!(
        crate::client::request(([127, 0, 0, 1], guardian.address.port()).into(), "GET", "/", None, b"")
            .status,
        404
    );
}
