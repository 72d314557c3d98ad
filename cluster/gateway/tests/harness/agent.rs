//! An agent's HTTP server on a node's overlay address.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

#[derive(Clone)]
pub struct FakeAgent {
    /// Method, path with query, authorization, body.
    heard: Arc<Mutex<Vec<[String; 4]>>>,
    answer: Arc<Mutex<(u16, Vec<u8>)>>,
    handle: ServerHandle,
}

impl FakeAgent {
    pub async fn start(address: Ipv4Addr, port: u16) -> Self {
        let heard: Arc<Mutex<Vec<[String; 4]>>> = Default::default();
        let answer = Arc::new(Mutex::new((200, br#"{"from":"agent"}"#.to_vec())));
        let (log, reply) = (Arc::clone(&heard), Arc::clone(&answer));
        let server = HttpServer::new(move || {
            let (log, reply) = (Arc::clone(&log), Arc::clone(&reply));
            App::new().default_service(web::to(move |request: HttpRequest, body: web::Bytes| {
                let authorization = request.headers().get("Authorization");
                log.lock().unwrap().push([
                    request.method().to_string(),
                    request.uri().to_string(),
                    authorization.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default(),
                    String::from_utf8_lossy(&body).into_owned(),
                ]);
                let (status, body) = reply.lock().unwrap().clone();
                let mut response = HttpResponse::build(status.try_into().unwrap());
                response.insert_header(("Location", "http://127.0.0.1:1/"));
                response.insert_header(("Set-Cookie", "from=agent"));
                async move { response.content_type("application/json").body(body) }
            }))
        });
        let server = server.workers(1).disable_signals().bind((address, port)).unwrap().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { heard, answer, handle }
    }

    pub fn answers(&self, status: u16, body: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    pub fn heard(&self) -> Vec<[String; 4]> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}
