//! A gateway of a few lines, over real sockets, and the command under test in a folder of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const API_KEY: &str = "k3y-of-the-admin";

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET /path?query`.
    pub line: String,
    pub authorization: String,
    pub body: String,
}

/// What to answer: status and body, or raw bytes.
#[derive(Clone)]
pub enum Answer {
    Json(u16, String),
    Raw(Vec<u8>),
}

pub fn ok(body: &str) -> Answer {
    Answer::Json(200, body.to_owned())
}

pub fn error(status: u16, text: &str) -> Answer {
    Answer::Json(status, serde_json::json!({ "error": text }).to_string())
}

pub struct FakeGateway {
    pub address: SocketAddr,
    pub requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeGateway {
    /// `answer` gets each request and how many came before it.
    pub fn start(answer: impl Fn(&Request, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                serve(stream, &answer, &seen);
            }
        });
        Self { address, requests }
    }

    /// Always the same answer.
    pub fn answering(answer: Answer) -> Self {
        Self::start(move |_, _| answer.clone())
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub fn only_request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

/// Answers one request on a connection and closes it.
pub fn serve<S: Read + Write>(
    stream: S,
    answer: &impl Fn(&Request, usize) -> Answer,
    seen: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream);
    let Some(request) = read_request(&mut reader) else { return };
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let bytes = match answer(&request, before) {
        Answer::Json(status, body) => format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
        Answer::Raw(bytes) => bytes,
    };
    // The command may hang up before the end of an answer that is too large for it.
    let _hung_up = reader.get_mut().write_all(&bytes).and_then(|()| reader.get_mut().flush());
}

fn read_request(reader: &mut impl BufRead) -> Option<Request> {
    let (mut line, mut authorization, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Request { line, authorization, body: String::from_utf8(body).ok()? })
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// The command with a home folder of its own and nothing else of the environment.
pub struct Orama {
    pub folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Orama {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("api.key"), format!("{API_KEY}\n")).unwrap();
        Self { folder, variables: Vec::new() }
    }

    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs it with the API key, against the gateway.
    pub fn at(&self, gateway: &FakeGateway, arguments: &[&str]) -> Ran {
        let key = self.folder.path().join("api.key");
        let url = gateway.url();
        let mut all = vec!["--gateway", &url, "--api-key-file", key.to_str().unwrap()];
        all.extend(arguments);
        self.run(&all, "")
    }

    pub fn run(&self, arguments: &[&str], stdin: &str) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_orama"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its stdin may be gone before we write.
        let _not_read = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().expect("it exits by itself"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A port on which nobody listens.
pub fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// For tests that speak TLS: accepts connections and hands them over.
pub fn accept_with(mut serve: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&mut serve));
    address
}
