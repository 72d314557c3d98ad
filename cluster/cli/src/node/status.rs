//! An agent's status as text for a person. Every word in it comes from a node and is made harmless first.

use orama_protocol::agent::{ServiceStatus, Status, UnlockStatus, WireguardStatus};

use crate::text::{self, printable, size, span, table};

/// Longest word or sentence of a node that is shown, in characters.
const WORDS: usize = 300;

pub fn render(status: &Status) -> String {
    let mut shown = String::new();
    let name = status.node_id.as_deref().unwrap_or("a node without an id");
    let health = if status.healthy { "healthy" } else { "NOT healthy" };
    line(&mut shown, "node", &format!("{}, {health}", printable(name, WORDS)));
    let phase = printable(&status.phase, WORDS);
    let reason = printable(&status.reason, WORDS);
    line(&mut shown, "phase", &if reason.is_empty() { phase } else { format!("{phase}: {reason}") });
    line(&mut shown, "up", &span(status.uptime_seconds));
    let slot = printable(&status.slot, 16);
    line(&mut shown, "image", &format!("{} in slot {slot}", printable(&status.version, WORDS)));
    let agent = &status.agent;
    let root = match agent.root_processes {
        1 => "it is the only root process".to_owned(),
        count => format!("{count} ROOT PROCESSES"),
    };
    line(
        &mut shown,
        "agent",
        &format!("{}, {}, {root}", printable(&agent.version, WORDS), size(agent.rss_bytes)),
    );
    for (actor, restarts) in &agent.actor_restarts {
        line(&mut shown, "", &format!("{} restarted {restarts} times after a panic", printable(actor, 64)));
    }
    line(&mut shown, "update", &printable(&status.update, WORDS));
    if let Some(unlock) = &status.unlock {
        render_unlock(&mut shown, unlock);
    }
    if let Some(held) = &status.held {
        let only = if held.writable { "" } else { "; gives them out, takes none until the volume is open" };
        line(&mut shown, "keeps", &format!("{} secrets of {} others{only}", held.secrets, held.owners));
    }
    for alarm in &status.alarms {
        line(&mut shown, "ALARM", &printable(alarm, WORDS));
    }
    render_services(&mut shown, status);
    if let Some(wireguard) = &status.wireguard {
        render_wireguard(&mut shown, wireguard);
    }
    shown
}

fn line(shown: &mut String, label: &str, value: &str) {
    if !value.is_empty() {
        shown.push_str(&format!("{label:<8} {value}\n"));
    }
}

/// `2 of 3 shares: node-10.0.0.4 refused: revoked; …`
fn render_unlock(shown: &mut String, unlock: &UnlockStatus) {
    let mut sentence = format!(
        "{} of {} shares, {} guardians, generation {}",
        unlock.good, unlock.needed, unlock.holders, unlock.generation
    );
    let trouble: Vec<String> = unlock
        .guardians
        .iter()
        .filter(|guardian| guardian.answer != "good")
        .map(|guardian| {
            let answer = printable(&guardian.answer, 64);
            let detail = printable(&guardian.detail, WORDS);
            let node = printable(&guardian.node_id, 64);
            if detail.is_empty() { format!("{node} {answer}") } else { format!("{node} {answer}: {detail}") }
        })
        .collect();
    if !trouble.is_empty() {
        sentence.push_str(": ");
        sentence.push_str(&trouble.join("; "));
    }
    if let Some(seconds) = unlock.next_try_seconds {
        sentence.push_str(&format!(", next try in {}", span(seconds)));
    }
    line(shown, "unlock", &sentence);
}

fn render_services(shown: &mut String, status: &Status) {
    if status.services.is_empty() {
        return;
    }
    let rows: Vec<Vec<String>> =
        status.services.iter().map(|(name, service)| service_row(name, service)).collect();
    shown.push('\n');
    shown.push_str(&table(
        &["SERVICE", "STATE", "HEALTHY", "PID", "RESTARTS", "UP", "SECCOMP", "REFUSED", "REASON"],
        &rows,
    ));
}

fn service_row(name: &str, service: &ServiceStatus) -> Vec<String> {
    vec![
        printable(name, 32),
        printable(&service.state, 32),
        if service.healthy { "yes" } else { "NO" }.to_owned(),
        service.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        service.restarts.to_string(),
        service.uptime_seconds.map_or_else(|| "-".to_owned(), span),
        printable(&service.seccomp, 16),
        service.refusals.to_string(),
        said(service),
    ]
}

/// Why it is as it is; a service that runs well may say something of itself.
fn said(service: &ServiceStatus) -> String {
    let reason = printable(&service.reason, WORDS);
    let message = printable(&service.message, WORDS);
    match (reason.is_empty(), message.is_empty()) {
        (_, true) => reason,
        (true, false) => format!("says: {message}"),
        (false, false) => format!("{reason}; says: {message}"),
    }
}

fn render_wireguard(shown: &mut String, wireguard: &WireguardStatus) {
    shown.push_str(&format!(
        "\nwireguard {}, public key {}\n",
        printable(&wireguard.address, 64),
        printable(&wireguard.public_key, 64)
    ));
    let rows: Vec<Vec<String>> = wireguard
        .peers
        .iter()
        .map(|peer| {
            vec![
                printable(&peer.allowed_ips.join(" "), 100),
                peer.endpoint.as_deref().map_or_else(|| "-".to_owned(), |endpoint| printable(endpoint, 64)),
                peer.last_handshake_seconds
                    .map_or_else(|| "never".to_owned(), |ago| format!("{} ago", span(ago))),
                size(peer.rx_bytes),
                size(peer.tx_bytes),
            ]
        })
        .collect();
    if !rows.is_empty() {
        shown.push_str(&text::table(&["PEER", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT"], &rows));
    }
}

#[cfg(test)]
mod tests {
    use orama_protocol::agent::{AgentStatus, GuardianStatus};

    use super::*;

    fn waiting() -> Status {
        let guardian = |number: u8, answer: &str, detail: &str| GuardianStatus {
            node_id: format!("node-10.0.0.{number}"),
            wg_ip: format!("10.0.0.{number}"),
            answer: answer.into(),
            detail: detail.into(),
        };
        Status {
            node_id: Some("node-10.0.0.4".into()),
            version: "1.2.3".into(),
            phase: "waiting-for-peers".into(),
            reason: "one share is missing".into(),
            healthy: false,
            uptime_seconds: 75,
            slot: "a".into(),
            wireguard: None,
            unlock: Some(UnlockStatus {
                generation: 1,
                needed: 3,
                holders: 4,
                good: 2,
                guardians: vec![
                    guardian(1, "good", ""),
                    guardian(2, "good", ""),
                    guardian(3, "refused", "revoked\u{1b}[31m"),
                    guardian(5, "timed-out", ""),
                ],
                next_try_seconds: Some(4),
                attempts: 3,
            }),
            peers_revision: 0,
            custody: None,
            held: None,
            alarms: vec!["early state was edited".into()],
            services: [(
                "rqlite".to_owned(),
                ServiceStatus {
                    state: "waiting".into(),
                    healthy: false,
                    pid: None,
                    restarts: 0,
                    uptime_seconds: None,
                    reason: "volume is closed".into(),
                    seccomp: "audit".into(),
                    refusals: 4,
                    message: "soon".into(),
                },
            )]
            .into(),
            agent: AgentStatus {
                version: "0.1.0".into(),
                rss_bytes: 8 << 20,
                root_processes: 1,
                actor_restarts: Default::default(),
            },
            update: "no update source configured".into(),
        }
    }

    #[test]
    fn a_waiting_node_says_which_guardians_are_missing() {
        assert_eq!(
            render(&waiting()),
            "\
node     node-10.0.0.4, NOT healthy
phase    waiting-for-peers: one share is missing
up       1m 15s
image    1.2.3 in slot a
agent    0.1.0, 8.0 MiB, it is the only root process
update   no update source configured
unlock   2 of 3 shares, 4 guardians, generation 1: node-10.0.0.3 refused: revoked [31m; node-10.0.0.5 timed-out, next try in 4s
ALARM    early state was edited

SERVICE  STATE    HEALTHY  PID  RESTARTS  UP  SECCOMP  REFUSED  REASON
rqlite   waiting  NO       -    0         -   audit    4        volume is closed; says: soon
"
        );
    }
}
