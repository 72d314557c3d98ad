//! The story itself: every step is seen on the serial console, asked from the gateway, or done by the real
//! `orama` command; none is guessed. Says what happens in words for somebody who sees it the first time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qemu_tests::artifacts::{Artifacts, Image};
use qemu_tests::cluster::GATEWAY;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario, ScenarioError};
use qemu_tests::{forward, node};

use super::narrator::Narrator;

type Reason = Box<dyn std::error::Error + Send + Sync>;

pub struct Failure {
    pub reason: Reason,
    pub serial_log: Option<PathBuf>,
}

/// The node as it is at the end; it runs for as long as this lives.
pub struct Told {
    scenario: Scenario,
    node: Enrolled,
    gateway: SocketAddr,
    programs: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum StoryError {
    #[error("opening 127.0.0.1:{port} for the gateway")]
    Listen {
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("rqlite answered {status}: {text}")]
    Rqlite { status: u16, text: String },
    #[error("the row that was written before the reboot is not there: {0}")]
    RowLost(String),
    #[error("{0} processes run as root, not 1")]
    RootProcesses(u32),
    #[error("port 9999 answers on an enrolled node")]
    EnrollmentOpen,
}

pub fn tell(artifacts: &Artifacts, port: u16, narrator: &Narrator) -> Result<Told, Failure> {
    narrator.begin("the cluster around the node starts");
    let mut scenario = Scenario::prepare_in(artifacts, "demo", Image::Node)
        .map_err(|error| Failure { reason: error.into(), serial_log: None })?;
    let log = scenario.machine.serial_log().to_owned();
    let failed = |reason| Failure { reason, serial_log: Some(log.clone()) };
    let gateway = open_gateway(&scenario, port, narrator).map_err(|error| failed(error.into()))?;
    let node = play(&mut scenario, narrator).map_err(failed)?;
    Ok(Told { scenario, node, gateway, programs: artifacts.folder().join("bin") })
}

fn open_gateway(scenario: &Scenario, port: u16, narrator: &Narrator) -> Result<SocketAddr, StoryError> {
    let open = |port| forward::start(scenario.network(), port, GATEWAY);
    let gateway = open(port).or_else(|_| open(0)).map_err(|source| StoryError::Listen { port, source })?;
    narrator.say(&format!("gateway at https://{gateway}, five guardians on 10.0.0.11 to 10.0.0.15"));
    Ok(gateway)
}

fn play(scenario: &mut Scenario, narrator: &Narrator) -> Result<Enrolled, Reason> {
    first_boot(scenario, narrator)?;
    let node = enroll(scenario, narrator)?;
    manage(scenario, &node, narrator)?;
    narrator.begin("a row is written into rqlite");
    write_row(scenario, &node)?;
    narrator.say("wrote a row into rqlite, which keeps it on the encrypted volume");
    reboot(scenario, &node, narrator)?;
    still_there(scenario, &node, narrator)?;
    Ok(node)
}

/// Waits for a console line and tells what it means.
fn seen(
    scenario: &mut Scenario,
    narrator: &Narrator,
    line: &str,
    limit: Duration,
    meaning: &'static str,
) -> Result<String, ScenarioError> {
    narrator.begin(meaning);
    let line = scenario.machine.wait_for(line, limit)?;
    Ok(tell_line(narrator, &line, meaning))
}

/// The same for a line that may have come before others that were waited for.
fn seen_since(
    scenario: &mut Scenario,
    narrator: &Narrator,
    position: u64,
    line: &str,
    limit: Duration,
    meaning: &'static str,
) -> Result<String, Reason> {
    let mut said = scenario.machine.console().lines_from(position)?.into_iter();
    match said.find(|said| said.contains(line)) {
        Some(line) => Ok(tell_line(narrator, &line, meaning)),
        None => Ok(seen(scenario, narrator, line, limit, meaning)?),
    }
}

fn tell_line(narrator: &Narrator, line: &str, meaning: &str) -> String {
    // What follows the mark is written for people: it is the detail.
    let detail = line.split_once("orama: ").map_or("", |(_, detail)| detail).to_owned();
    narrator.say(&if detail.is_empty() { meaning.to_owned() } else { format!("{meaning}: {detail}") });
    detail
}

fn boot_chain(scenario: &mut Scenario, narrator: &Narrator) -> Result<(), ScenarioError> {
    seen(
        scenario,
        narrator,
        "BdsDxe: starting Boot",
        BOOT_LIMIT,
        "firmware starts systemd-boot from the ESP",
    )?;
    seen(
        scenario,
        narrator,
        "orama-init: slot",
        BOOT_LIMIT,
        "kernel is up, dm-verity has verified the root",
    )?;
    seen(scenario, narrator, "is PID 1", BOOT_LIMIT, "agent runs")?;
    Ok(())
}

fn first_boot(scenario: &mut Scenario, narrator: &Narrator) -> Result<(), Reason> {
    narrator.begin("power on");
    scenario.machine.power_on()?;
    narrator.say("power on");
    boot_chain(scenario, narrator)?;
    narrator.begin("enrollment mode");
    let line = scenario.wait_enrollment_mode()?;
    let detail = line.split_once("orama: ").map_or(line.as_str(), |(_, detail)| detail);
    narrator.say(&format!("enrollment mode: {detail}"));
    Ok(())
}

fn enroll(scenario: &mut Scenario, narrator: &Narrator) -> Result<Enrolled, Reason> {
    narrator.begin("orama node invite and orama node enroll");
    narrator.types("orama node invite --expiry 1h");
    narrator.types("orama node enroll --node-ip 127.0.0.2 --token-file -");
    let node = scenario.enroll()?;
    narrator.say(&format!("the gateway took the node: {} at {}", node.node_id, node.address));
    for (line, meaning) in [
        ("orama: wireguard orama0 up", "WireGuard is up"),
        ("orama: volume formatted", "data partition is encrypted"),
        ("orama: key split", "nobody has the key alone"),
    ] {
        seen(scenario, narrator, line, PROVISION_LIMIT, meaning)?;
    }
    let split = scenario.machine.console().position();
    seen(scenario, narrator, "orama: all services spawned", PROVISION_LIMIT, "enrolled")?;
    // Some services wait until others run: which of the two lines is first depends on the machine.
    let (line, meaning) = ("orama: service rqlite running", "service runs in its sandbox");
    seen_since(scenario, narrator, split, line, PROVISION_LIMIT, meaning)?;
    Ok(node)
}

fn manage(scenario: &mut Scenario, node: &Enrolled, narrator: &Narrator) -> Result<(), Reason> {
    narrator.begin("all services are healthy");
    let status = scenario.wait_healthy(&node.node_id)?;
    narrator.say("all services are healthy, says the node through the gateway");
    if status.agent.root_processes != 1 {
        return Err(StoryError::RootProcesses(status.agent.root_processes).into());
    }
    if !scenario.enrollment_is_closed() {
        return Err(StoryError::EnrollmentOpen.into());
    }
    let id = ["--node-id", node.node_id.as_str()];
    narrator.begin("orama node status");
    show(scenario, narrator, &[&["node", "status"][..], &id].concat())?;

    narrator.begin("orama node restart");
    let before = status.services.get("rqlite").and_then(|service| service.pid);
    show(scenario, narrator, &[&["node", "restart"][..], &id, &["--service", "rqlite"]].concat())?;
    let restarted = |status: &orama_protocol::agent::Status| {
        status.healthy && status.services.get("rqlite").is_some_and(|service| service.pid != before)
    };
    scenario.wait_status(&node.node_id, "healthy after the restart", PROVISION_LIMIT, restarted)?;
    narrator.say("rqlite runs again, as another process");

    narrator.begin("orama node logs");
    show(
        scenario,
        narrator,
        &[&["node", "logs"][..], &id, &["--service", "rqlite", "--lines", "3"]].concat(),
    )?;
    Ok(())
}

fn show(scenario: &Scenario, narrator: &Narrator, arguments: &[&str]) -> Result<(), Reason> {
    narrator.types(&format!("orama {}", arguments.join(" ")));
    narrator.shows(&scenario.operator.show(arguments)?);
    Ok(())
}

fn write_row(scenario: &Scenario, node: &Enrolled) -> Result<(), Reason> {
    for statement in [
        "CREATE TABLE demo (id INTEGER PRIMARY KEY, text TEXT)",
        "INSERT INTO demo (text) VALUES ('written before the reboot')",
    ] {
        let answer = node::execute(scenario.network(), node.address, statement)?;
        if answer.status != 200 || answer.text().contains("\"error\"") {
            return Err(StoryError::Rqlite { status: answer.status, text: answer.text() }.into());
        }
    }
    Ok(())
}

fn reboot(scenario: &mut Scenario, node: &Enrolled, narrator: &Narrator) -> Result<(), Reason> {
    narrator.begin("orama node command reboot");
    show(scenario, narrator, &["node", "command", "reboot", "--node-id", &node.node_id])?;
    seen(scenario, narrator, "orama: rebooting", Duration::from_secs(90), "the node goes down")?;
    boot_chain(scenario, narrator)?;
    for (line, meaning) in [
        ("orama: wireguard orama0 up", "WireGuard is up, from the header alone"),
        ("orama: shares gathered 3 of 5", "enough guardians answered"),
        ("orama: volume open", "the key was put together and used"),
        ("orama: all services spawned", "services are back"),
    ] {
        seen(scenario, narrator, line, PROVISION_LIMIT, meaning)?;
    }
    Ok(())
}

fn still_there(scenario: &mut Scenario, node: &Enrolled, narrator: &Narrator) -> Result<(), Reason> {
    narrator.begin("what was written before the reboot is still there");
    scenario.wait_healthy(&node.node_id)?;
    let answer = node::query(scenario.network(), node.address, "SELECT text FROM demo")?;
    if !answer.text().contains("written before the reboot") {
        return Err(StoryError::RowLost(answer.text()).into());
    }
    if !scenario.enrollment_is_closed() {
        return Err(StoryError::EnrollmentOpen.into());
    }
    narrator.say("the row that was written before the reboot is still there; port 9999 stayed closed");
    Ok(())
}

impl Told {
    /// What the user may do now, in words that can be pasted.
    pub fn invite_to_try(&self, narrator: &Narrator) {
        let id = &self.node.node_id;
        let orama = self.programs.join("orama");
        let serial = self.scenario.machine.serial_log();
        narrator.say("the node keeps running until Ctrl-C; in another terminal:\n");
        println!("export ORAMA_GATEWAY=https://{}", self.gateway);
        println!("export ORAMA_CA={}", self.scenario.cluster.pki().authority.display());
        println!("export ORAMA_API_KEY_FILE={}", self.scenario.cluster.api_key().display());
        for command in
            ["node status", "node logs --service agent --lines 20", "node restart --service gateway"]
        {
            println!("{} {command} --node-id {id}", shown(&orama));
        }
        println!("{} monitor report", shown(&orama));
        let curl = "curl --cacert \"$ORAMA_CA\" -H \"Authorization: Bearer $(cat \"$ORAMA_API_KEY_FILE\")\"";
        println!("{curl} \"$ORAMA_GATEWAY/v1/node/status?node_id={id}\"");
        println!("{curl} \"$ORAMA_GATEWAY/v1/node/logs?node_id={id}&service=rqlite&lines=20\"");
        println!("\nserial console: {}", serial.display());
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
