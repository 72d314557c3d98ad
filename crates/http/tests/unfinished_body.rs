//! A client that begins a chunked body and never ends it is answered, and its connection is closed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use actix_web::http::KeepAlive;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, HttpServer, web};

/// Far more than the disconnect timeout below, far less than for ever.
const PATIENCE: Duration = Duration::from_secs(20);

fn serve() -> SocketAddr {
    let listener = orama_http::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let server = HttpServer::new(|| {
                App::new()
                    .wrap(from_fn(orama_http::hold_body))
                    .default_service(web::to(|| async { HttpResponse::NotFound().body("nothing") }))
            });
            server
                .workers(1)
                .keep_alive(KeepAlive::Disabled)
                .client_disconnect_timeout(Duration::from_secs(1))
                .disable_signals()
                .listen(listener)
                .unwrap()
                .run()
                .await
        })
    });
    address
}

#[test]
fn an_unfinished_chunked_body_does_not_hold_the_connection() {
    let mut client = TcpStream::connect(serve()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel").unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    // A reset instead of an orderly end is just as good: what counts is that the server let go.
    let end = client.read_to_end(&mut answer);
    assert!(begun.elapsed() < PATIENCE, "the connection was held: {end:?}");
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{:?}", String::from_utf8_lossy(&answer));
}
