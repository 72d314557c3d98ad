//! Throughput: the service runs twice at once, inside its profile on 127.0.0.2 and outside on 127.0.0.3, and one
//! client asks them in turns, a short slice each. Prints a line a slice: where, and requests a second.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orama_policy::Policy;
use orama_sandbox::{Preparation, Running, Watcher};

use super::{Failure, policy, variables};

const INSIDE: [u8; 4] = [127, 0, 0, 2];
const OUTSIDE: [u8; 4] = [127, 0, 0, 3];
/// Long enough for a hundred requests, short enough that the machine's moods meet both sides.
const SLICE: Duration = Duration::from_millis(125);
const SLICES: u32 = 240;
/// From start to the first answer.
const START_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What is asked of a service, over one connection.
trait Client {
    fn ask(&mut self) -> Result<(), Failure>;
}

pub fn run(
    service: &str,
    cgroup: &Path,
    profile: &Path,
    program: &Path,
    folder: &Path,
) -> Result<(), Failure> {
    let policy = policy(profile)?;
    let watcher =
        Watcher::start(|refusal| eprintln!("refused: {} {:?}", refusal.call.describe(), refusal.outcome))?;
    let inside = start_inside(&policy, cgroup, program, &watcher)?;
    let measured = start_outside(&policy, program, folder).and_then(|mut outside| {
        let measured = measure(service);
        outside.kill()?;
        outside.wait()?;
        measured
    });
    inside.kill_all()?;
    inside.wait_blocking()?;
    inside.cgroup().empty(Duration::from_secs(5))?;
    inside.cgroup().remove()?;
    fs::remove_dir(cgroup)?;
    measured
}

fn start_inside(
    policy: &Policy,
    cgroup: &Path,
    program: &Path,
    watcher: &Watcher,
) -> Result<Running, Failure> {
    let variables = variables(INSIDE);
    let arguments = policy.expand_args(&variables);
    // The limits are not what is measured, and this machine may not have the controllers.
    let preparation = Preparation::new(policy, &variables).base(cgroup).command(program, arguments);
    let prepared = preparation.without_limits().prepare()?;
    let null = || fs::File::options().write(true).open("/dev/null");
    let mut running = prepared.spawn(null()?.into(), null()?.into())?;
    watcher.add(running.take_listener().ok_or("no listener")?);
    Ok(running)
}

fn start_outside(policy: &Policy, program: &Path, folder: &Path) -> Result<Child, Failure> {
    let variables = variables(OUTSIDE);
    let data = policy.data_dir().map(|path| path.display().to_string()).unwrap_or_default();
    let own = folder.join("outside").join(&policy.name);
    fs::create_dir_all(&own)?;
    let moved =
        |text: String| if data.is_empty() { text } else { text.replace(&data, &own.to_string_lossy()) };
    let mut command = Command::new(program);
    command.args(policy.expand_args(&variables).into_iter().map(moved)).current_dir(&own).env_clear();
    command.envs(policy.expand_env(&variables).into_iter().map(|(name, value)| (name, moved(value))));
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

fn measure(service: &str) -> Result<(), Failure> {
    let mut clients = [connected(service, INSIDE)?, connected(service, OUTSIDE)?];
    for round in 0..=SLICES {
        // Who goes first changes, so that what one leaves behind meets both.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut rates = [0.0; 2];
        for side in order {
            rates[side] = slice(clients[side].as_mut())?;
        }
        // The first one warms up.
        if round > 0 {
            println!("inside {:.1}\noutside {:.1}\nratio {:.4}", rates[0], rates[1], rates[0] / rates[1]);
        }
    }
    Ok(())
}

/// Requests a second.
fn slice(client: &mut dyn Client) -> Result<f64, Failure> {
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < SLICE {
        client.ask()?;
        count += 1;
    }
    Ok(f64::from(count) / begin.elapsed().as_secs_f64())
}

/// A client that has had its first answer.
fn connected(service: &str, address: [u8; 4]) -> Result<Box<dyn Client>, Failure> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let client = match service {
            "rqlite" => Rqlite::connect(address),
            "coredns" => Dns::connect(address),
            other => return Err(format!("no client for {other}").into()),
        };
        match client.and_then(|mut client| client.ask().map(|()| client)) {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(format!("{service} on {}: {error}", Ipv4Addr::from(address)).into());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Nine reads for one write, over HTTP on a connection that stays.
struct Rqlite {
    stream: BufReader<TcpStream>,
    asked: u32,
}

impl Rqlite {
    fn connect(address: [u8; 4]) -> Result<Box<dyn Client>, Failure> {
        let stream = TcpStream::connect((Ipv4Addr::from(address), 4001))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        let mut client = Rqlite { stream: BufReader::new(stream), asked: 0 };
        client.post("/db/execute", "[\"CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v TEXT)\"]")?;
        Ok(Box::new(client))
    }

    fn post(&mut self, path: &str, body: &str) -> Result<(), Failure> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut length = 0;
        let mut line = String::new();
        loop {
            let begins = line.is_empty();
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err("the connection was closed".into());
            }
            let lower = line.trim().to_ascii_lowercase();
            if begins && !lower.contains(" 200 ") {
                return Err(lower.into());
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            if lower.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        let text = String::from_utf8_lossy(&body);
        if text.contains("\"error\"") { Err(text.into_owned().into()) } else { Ok(()) }
    }
}

impl Client for Rqlite {
    fn ask(&mut self) -> Result<(), Failure> {
        self.asked += 1;
        if self.asked.is_multiple_of(10) {
            self.post("/db/execute", "[\"INSERT INTO t(v) VALUES('some text that is stored')\"]")
        } else {
            self.post("/db/query?level=none", "[\"SELECT * FROM t ORDER BY id DESC LIMIT 5\"]")
        }
    }
}

/// The node's own name, over UDP.
struct Dns {
    socket: UdpSocket,
    id: u16,
}

impl Dns {
    fn connect(address: [u8; 4]) -> Result<Box<dyn Client>, Failure> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect((Ipv4Addr::from(address), 53))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(Box::new(Dns { socket, id: 0 }))
    }
}

impl Client for Dns {
    fn ask(&mut self) -> Result<(), Failure> {
        self.id = self.id.wrapping_add(1);
        let mut query = self.id.to_be_bytes().to_vec();
        // A standard query with one question: A, IN.
        query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query.extend(b"\x04node\x05orama\x08internal\x00\x00\x01\x00\x01");
        self.socket.send(&query)?;
        let mut answer = [0; 1500];
        let length = self.socket.recv(&mut answer)?;
        // The same id, no error, one answer.
        let good = length > 12 && answer[..2] == query[..2] && answer[3] & 0xf == 0 && answer[7] == 1;
        if good { Ok(()) } else { Err(format!("odd answer {:?}", &answer[..length.min(12)]).into()) }
    }
}
