//! Status, logs, commands, leave, invites and the fleet report.

use crate::support::{API_KEY, Answer, FakeGateway, Orama, error, ok};

fn report(nodes: &str) -> Answer {
    ok(&format!(r#"{{"at":"2026-01-01T00:00:00Z","nodes":[{nodes}]}}"#))
}

const GOOD: &str = r#"{"node_id":"node-10.0.0.4","wg_ip":"10.0.0.4","public_ip":"192.0.2.4","role":"agent","reachable":true,
    "healthy":true,"phase":"running","version":"1.0.0","uptime_seconds":3700,"unhealthy_services":[],"detail":""}"#;
const BAD: &str = r#"{"node_id":"node-10.0.0.5","wg_ip":"10.0.0.5","public_ip":"192.0.2.5","role":"agent","reachable":true,
    "healthy":false,"phase":"degraded","version":"1.0.0","uptime_seconds":60,"unhealthy_services":["rqlite"],"detail":""}"#;
const PEER: &str = r#"{"node_id":"host-1","wg_ip":"10.0.0.1","public_ip":"192.0.2.1","role":"peer","reachable":false,
    "healthy":false,"phase":"","version":"","uptime_seconds":null,"unhealthy_services":[],"detail":""}"#;
const DOWN_GUARDIAN: &str = r#"{"node_id":"host-2","wg_ip":"10.0.0.2","public_ip":"192.0.2.2","role":"peer","reachable":false,
    "healthy":false,"phase":"","version":"","uptime_seconds":null,"unhealthy_services":[],"detail":"the guardian is down"}"#;
const STATUS: &str = r#"{"node_id":"node-10.0.0.4","version":"1.0.0","phase":"running","reason":"","healthy":true,
    "uptime_seconds":10,"slot":"a","wireguard":null,"unlock":null,"alarms":[],"services":{},"update":"",
    "agent":{"version":"0.1.0","rss_bytes":1048576,"root_processes":1,"actor_restarts":{}},"field_of_tomorrow":1}"#;

#[test]
fn the_report_is_a_table_and_its_exit_code_the_health_of_the_fleet() {
    let gateway = FakeGateway::answering(report(&format!("{PEER},{GOOD}")));
    let ran = Orama::new().at(&gateway, &["monitor", "report"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(
        ran.out,
        "\
NODE           WG IP     PUBLIC IP  REACHABLE  PHASE     VERSION  SERVICES     UP     DETAIL
host-1         10.0.0.1  192.0.2.1  -          no agent  -        -            -
node-10.0.0.4  10.0.0.4  192.0.2.4  yes        running   1.0.0    all healthy  1h 1m

1 of 1 nodes healthy at 2026-01-01T00:00:00Z
"
    );
    let gateway = FakeGateway::answering(report(&format!("{DOWN_GUARDIAN},{GOOD}")));
    let ran = Orama::new().at(&gateway, &["monitor", "report"]);
    assert_eq!(ran.code, 0, "a host is not a node: {ran:?}");
    assert!(ran.out.contains("192.0.2.2  NO ") && ran.out.contains("the guardian is down"), "{ran:?}");

    let gateway = FakeGateway::answering(report(&format!("{GOOD},{BAD}")));
    let ran = Orama::new().at(&gateway, &["monitor", "report"]);
    assert_eq!(ran.code, 1);
    assert!(ran.out.contains("down: rqlite") && ran.err.contains("node-10.0.0.5 is not healthy"), "{ran:?}");
    let ran = Orama::new().at(&gateway, &["--json", "monitor", "report"]);
    assert_eq!(ran.code, 1);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["nodes"][1]["phase"], "degraded");
}

#[test]
fn an_invite_is_asked_for_and_shown() {
    let gateway = FakeGateway::answering(ok(r#"{"token":"aa11bb22","expires":"2026-01-02T00:00:00Z"}"#));
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "invite", "--expiry", "24h"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("token:   aa11bb22\nexpires: 2026-01-02T00:00:00Z (in 1d 0h)"), "{ran:?}");
    let request = gateway.only_request();
    assert_eq!(request.line, "POST /v1/node/invite");
    assert_eq!(request.authorization, format!("Bearer {API_KEY}"));
    assert_eq!(request.body, r#"{"expiry_seconds":86400,"created_by":""}"#);

    let ran = orama.at(&gateway, &["--json", "node", "invite"]);
    assert_eq!(ran.out.trim(), r#"{"token":"aa11bb22","expires":"2026-01-02T00:00:00Z"}"#, "as received");
    for expiry in ["59s", "31d", "soon", "0", "-1h"] {
        let ran = orama.at(&gateway, &["node", "invite", &format!("--expiry={expiry}")]);
        assert_eq!(ran.code, 2, "{expiry}: {ran:?}");
    }
    assert_eq!(gateway.requests().len(), 2);
}

#[test]
fn status_is_passed_through_in_json_and_rendered_for_people() {
    let gateway = FakeGateway::answering(ok(STATUS));
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "status", "--node-id", "node-10.0.0.4"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.starts_with("node     node-10.0.0.4, healthy\nphase    running\nup       10s\n"),
        "{ran:?}"
    );
    let ran = orama.at(&gateway, &["node", "status", "--wg-ip", "10.0.0.4", "--json"]);
    assert_eq!(ran.out.trim_end(), STATUS, "as received, with fields this command does not know");
    let lines: Vec<String> = gateway.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /v1/node/status?node_id=node-10.0.0.4", "GET /v1/node/status?wg_ip=10.0.0.4"]);
}

#[test]
fn logs_of_one_service_come_bare_and_of_several_with_headings() {
    let gateway = FakeGateway::start(|request, _| {
        if request.line.contains("service=") {
            ok(r#"{"rqlite":"one\ntwo\u001b[31m\n"}"#)
        } else {
            ok(r#"{"agent":"a\n","rqlite":"r\n"}"#)
        }
    });
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "logs", "--node-id", "n", "--service", "rqlite", "--lines", "5"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "one\ntwo\u{fffd}[31m\n"));
    let ran = orama.at(&gateway, &["node", "logs", "--node-id", "n"]);
    assert_eq!(ran.out, "==> agent <==\na\n==> rqlite <==\nr\n");
    let lines: Vec<String> = gateway.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        ["GET /v1/node/logs?node_id=n&service=rqlite&lines=5", "GET /v1/node/logs?node_id=n&lines=100"]
    );
}

#[test]
fn refusals_are_a_table_with_patches_or_the_answer_as_received() {
    let answer = r##"{"refusals":[{"service":"rqlite","syscall":"socket","number":41,"args":[16,3,0,0,0,0],
        "call":"socket(AF_NETLINK, SOCK_RAW, 0)","action":"errno EPERM","count":12,"first_seen":"2026-01-01T00:00:00Z",
        "last_seen":"2026-01-01T00:00:09Z","rule":"rqlite.toml:40","patch":"x"}],"patches":{"rqlite":"# seen 12 times\n"}}"##;
    let gateway = FakeGateway::answering(ok(answer));
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "refusals", "--node-id", "n", "--service", "rqlite"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("rqlite   12     errno EPERM  2026-01-01T00:00:09Z  rqlite.toml:40"), "{ran:?}");
    assert!(ran.out.ends_with("for the end of the profile of rqlite:\n# seen 12 times\n"), "{ran:?}");
    let ran = orama.at(&gateway, &["node", "refusals", "--wg-ip", "10.0.0.4", "--json"]);
    assert_eq!(ran.out.trim_end(), answer);
    let lines: Vec<String> = gateway.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        ["GET /v1/node/refusals?node_id=n&service=rqlite", "GET /v1/node/refusals?wg_ip=10.0.0.4"]
    );
}

#[test]
fn commands_go_to_the_node_and_its_refusals_come_back() {
    let gateway = FakeGateway::answering(ok(r#"{"status":"restarted"}"#));
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "command", "restart", "--node-id", "n", "--service", "rqlite"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "n: rqlite restarted\n"));
    let ran = orama.at(&gateway, &["node", "restart", "--node-id", "n", "--service", "rqlite"]);
    assert_eq!(ran.code, 0);
    let ran = orama.at(&gateway, &["node", "command", "reboot", "--wg-ip", "10.0.0.4"]);
    assert_eq!(ran.code, 0);
    let requests = gateway.requests();
    assert_eq!(requests[0].line, "POST /v1/node/command?node_id=n");
    assert_eq!(requests[0].body, r#"{"action":"restart","service":"rqlite"}"#);
    assert_eq!(requests[0].body, requests[1].body);
    assert_eq!(
        (requests[2].line.as_str(), requests[2].body.as_str()),
        ("POST /v1/node/command?wg_ip=10.0.0.4", r#"{"action":"reboot"}"#)
    );

    let gateway = FakeGateway::answering(error(400, "no service olric on this node"));
    let ran = orama.at(&gateway, &["node", "restart", "--node-id", "n", "--service", "olric"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("cannot restart olric on n: ") && ran.err.contains("no service olric on this node"),
        "{ran:?}"
    );
}

#[test]
fn leave_names_the_node_by_id_and_finds_it_by_address() {
    let gateway = FakeGateway::start(|request, _| match request.line.as_str() {
        "GET /v1/fleet/report" => report(&format!("{PEER},{GOOD}")),
        _ => ok(r#"{"status":"removed","wg_ip":"10.0.0.4"}"#),
    });
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "leave", "--node-id", "node-10.0.0.4"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "node-10.0.0.4 is removed and takes no part in the cluster any more\n")
    );
    let ran = orama.at(&gateway, &["node", "leave", "--wg-ip", "10.0.0.4"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for request in gateway.requests().iter().filter(|request| request.line != "GET /v1/fleet/report") {
        assert_eq!(
            (request.line.as_str(), request.body.as_str()),
            ("POST /v1/node/leave", r#"{"node_id":"node-10.0.0.4"}"#)
        );
    }
    // 10.0.0.1 is a host without an agent: nothing that could leave.
    for address in ["10.0.0.9", "10.0.0.1"] {
        assert_eq!(orama.at(&gateway, &["node", "leave", "--wg-ip", address]).code, 5);
    }
}

#[test]
fn a_leave_that_takes_time_is_followed_until_the_gateway_forgets_the_node() {
    const LEAVING: &str = r#"{"status":"leaving","node_id":"node-10.0.0.4","wg_ip":"10.0.0.4",
        "since":"2026-01-01T00:00:00Z","waiting_for":[{"node_id":"node-10.0.0.5","why":"moves its shares: storing"}]}"#;
    let gateway = FakeGateway::start(|request, before| match (request.line.as_str(), before) {
        ("POST /v1/node/leave", _) => Answer::Json(202, LEAVING.into()),
        (_, 1) => ok(LEAVING),
        _ => error(404, "no node node-10.0.0.4"),
    });
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "leave", "node-10.0.0.4"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.out, "node-10.0.0.4 is removed and takes no part in the cluster any more\n");
    assert_eq!(ran.err.matches("node-10.0.0.5: moves its shares: storing").count(), 1, "{ran:?}");
    let lines: Vec<String> = gateway.requests().into_iter().map(|request| request.line).collect();
    let look = "GET /v1/node/leave?node_id=node-10.0.0.4";
    assert_eq!(lines, ["POST /v1/node/leave", look, look]);

    let gateway = FakeGateway::answering(Answer::Json(202, LEAVING.into()));
    let ran = orama.at(&gateway, &["node", "leave", "node-10.0.0.4", "--no-wait"]);
    assert_eq!((ran.code, gateway.requests().len()), (0, 1), "{ran:?}");
    let ran = orama.at(&gateway, &["node", "leave", "node-10.0.0.4", "--wait", "3s", "--force"]);
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.err.contains("had not left after 3s") && ran.err.contains("--force"), "{ran:?}");
    assert_eq!(gateway.requests()[1].body, r#"{"node_id":"node-10.0.0.4","force":true}"#);
}

#[test]
fn a_guarded_reboot_says_what_to_do_and_force_is_passed_on() {
    let reason = "without this node the key of node-10.0.0.5 would have 2 reachable holders and needs 3";
    let gateway = FakeGateway::start(move |request, _| {
        if request.body.contains("force") { ok(r#"{"status":"rebooting"}"#) } else { error(409, reason) }
    });
    let orama = Orama::new();
    for command in [&["node", "command", "reboot", "node-10.0.0.4"][..], &["node", "leave", "node-10.0.0.4"]]
    {
        let ran = orama.at(&gateway, command);
        assert_eq!(ran.code, 1);
        assert!(ran.err.contains("the key of node-10.0.0.5") && ran.err.contains("--force"), "{ran:?}");
    }
    let ran = orama.at(&gateway, &["node", "command", "reboot", "10.0.0.4", "--force"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "the node at 10.0.0.4: rebooting\n"));
    let last = gateway.requests().pop().unwrap();
    assert_eq!(last.line, "POST /v1/node/command?wg_ip=10.0.0.4");
    assert_eq!(last.body, r#"{"action":"reboot","force":true}"#);
}

#[test]
fn the_report_shows_who_keeps_each_key() {
    let with = |last: u8, custody: &str| {
        let node = GOOD.replace("10.0.0.4", &format!("10.0.0.{last}"));
        format!("{},{custody}}}", node.trim_end_matches('}'))
    };
    let good = r#""custody":{"keeper":"guardians","generation":4,"k":3,"n":5,"reachable":5,"state":"settled","seen":null,"warnings":[]}"#;
    let wallet = r#""leaving":true,"custody":{"keeper":"wallet","generation":0,"k":0,"n":0,"reachable":0,"state":"settled",
        "seen":"2026-01-01T00:00:00Z","warnings":["only the owner's wallet opens this node"]}"#;
    let gateway = FakeGateway::answering(report(&format!("{},{}", with(4, good), with(5, wallet))));
    let ran = Orama::new().at(&gateway, &["monitor", "report"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let keys = "\
KEY OF         KEPT BY    GENERATION  NEEDED  ANSWER  STATE    WARNINGS
node-10.0.0.4  guardians  4           3 of 5  5       settled  -
node-10.0.0.5  wallet     -           -       -       settled  only the owner's wallet opens this node; as of 2026-01-01T00:00:00Z
";
    assert!(ran.out.contains(keys) && ran.out.contains("running, leaving"), "{}", ran.out);

    let locked = good.replace("\"reachable\":5", "\"reachable\":2");
    let gateway = FakeGateway::answering(report(&with(4, &locked)));
    let ran = Orama::new().at(&gateway, &["monitor", "report"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("too few holders answer for the key of node-10.0.0.4"), "{ran:?}");
}

#[test]
fn help_lists_the_exit_codes() {
    let ran = Orama::new().run(&["--help"], "");
    assert_eq!(ran.code, 0);
    assert!(ran.out.contains("Exit codes:") && ran.out.contains("  4  not authorized"), "{}", ran.out);
    for command in [&["node", "enroll"][..], &["node", "leave"], &["monitor", "report"], &["mesh", "serve"]] {
        assert_eq!(Orama::new().run(&[command, &["--help"]].concat(), "").code, 0, "{command:?}");
    }
}

#[test]
fn an_alarm_is_shown_and_answered() {
    let alarm = r#"{"node_id":"node-10.0.0.4","wg_ip":"10.0.0.4","kind":"held","address":"198.51.100.7",
        "usual_address":"203.0.113.4","since":"2026-01-01T00:00:00Z","until":"2026-01-01T00:10:00Z","guardians":4,
        "of_guardians":5,"text":"node-10.0.0.4 asks for its key:\u001b[2J was this you?"}"#;
    let answer = ok(&format!(r#"{{"at":"2026-01-01T00:00:00Z","nodes":[{GOOD}],"alarms":[{alarm}]}}"#));
    let gateway = FakeGateway::answering(answer);
    let ran = Orama::new().at(&gateway, &["monitor", "report"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.starts_with("ALARM: node-10.0.0.4 asks for its key: [2J was this you?\nNODE"), "{ran:?}");
    assert!(ran.err.contains("alarm about node-10.0.0.4"), "{ran:?}");

    let gateway = FakeGateway::start(|request, _| {
        let status = if request.line.contains("approve") { "approved" } else { "revoked" };
        ok(&format!(
            r#"{{"status":"{status}","node_id":"node-10.0.0.4","guardians":[
                {{"node_id":"g1","done":true,"answer":"{status}"}},
                {{"node_id":"g2","done":false,"answer":"no answer in 10 s"}}]}}"#
        ))
    });
    let orama = Orama::new();
    let ran = orama.at(&gateway, &["node", "approve", "node-10.0.0.4"]);
    assert_eq!(
        ran.out, "node-10.0.0.4 is approved at 1 of 2 guardians\n  g2: no answer in 10 s\n",
        "{ran:?}"
    );
    let ran = orama.at(&gateway, &["node", "approve", "node-10.0.0.4", "--address", "198.51.100.7"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = orama.at(&gateway, &["node", "revoke", "--node-id", "node-10.0.0.4"]);
    assert!(
        ran.out.ends_with("the gateway tells the others again until they have confirmed it\n"),
        "{ran:?}"
    );
    let sent: Vec<(String, String)> =
        gateway.requests().into_iter().map(|request| (request.line, request.body)).collect();
    let sent: Vec<(&str, &str)> = sent.iter().map(|(line, body)| (line.as_str(), body.as_str())).collect();
    assert_eq!(
        sent,
        [
            ("POST /v1/node/approve", r#"{"node_id":"node-10.0.0.4"}"#),
            ("POST /v1/node/approve", r#"{"node_id":"node-10.0.0.4","address":"198.51.100.7"}"#),
            ("POST /v1/node/revoke", r#"{"node_id":"node-10.0.0.4"}"#),
        ]
    );
    let ran = orama.at(&gateway, &["node", "approve", "node-10.0.0.4", "--address", "home"]);
    assert_eq!(ran.code, 2, "{ran:?}");
}
