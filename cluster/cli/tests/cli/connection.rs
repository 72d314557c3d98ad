//! Finding the gateway, authenticating, TLS, and answers that no gateway should give.

use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::support::{
    API_KEY, Answer, FakeGateway, Orama, Request, accept_with, closed_port, error, ok, serve,
};

const REPORT: &str = r#"{"at":"2026-01-01T00:00:00Z","nodes":[]}"#;
const ASK: [&str; 2] = ["monitor", "report"];

#[test]
fn flags_win_over_the_profile_and_the_profile_over_variables() {
    let (by_flag, by_profile, by_variable) = (
        FakeGateway::answering(ok(REPORT)),
        FakeGateway::answering(ok(REPORT)),
        FakeGateway::answering(ok(REPORT)),
    );
    let orama =
        Orama::new().variable("ORAMA_GATEWAY", by_variable.url()).variable("ORAMA_API_KEY_FILE", "api.key");
    orama.file(
        ".config/orama/config.toml",
        &format!("[env.devnet]\ngateway = {:?}\napi_key_file = \"~/dev.key\"\n", by_profile.url()),
    );
    orama.file("dev.key", "key-of-devnet");

    assert_eq!(orama.run(&ASK, "").code, 0);
    assert_eq!(orama.run(&["monitor", "report", "--env", "devnet"], "").code, 0);
    assert_eq!(orama.run(&["monitor", "report", "--env", "devnet", "--gateway", &by_flag.url()], "").code, 0);
    assert_eq!(by_variable.only_request().authorization, format!("Bearer {API_KEY}"));
    assert_eq!(by_profile.only_request().authorization, "Bearer key-of-devnet");
    assert_eq!(by_flag.only_request().line, "GET /v1/fleet/report");
}

#[test]
fn what_is_missing_is_named() {
    let orama = Orama::new();
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let ran = orama.run(arguments, "");
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(expected) && ran.out.is_empty(), "{arguments:?}: {ran:?}");
    };
    check(&ASK, 2, "no gateway is given");
    check(&["monitor", "report", "--gateway", "https://127.0.0.1:1"], 4, "no API key is given");
    check(&["monitor", "report", "--env", "x"], 2, "config.toml");
    orama.file(".config/orama/config.toml", "[env.devnet]\ngateway = \"https://127.0.0.1:1\"\n[env.test]\n");
    check(&["monitor", "report", "--env", "x"], 5, "profiles in it: devnet, test");
    orama.file(".config/orama/config.toml", "[env.devnet]\napi_key = \"secret\"\n");
    check(&["monitor", "report", "--env", "devnet"], 2, "unknown field `api_key`");
    let base = ["monitor", "report", "--gateway", "https://127.0.0.1:1", "--api-key-file"];
    check(&[&base[..], &["none.key"]].concat(), 2, "cannot read the API key file none.key");
    orama.file("two.key", "one\ntwo\n");
    check(&[&base[..], &["two.key"]].concat(), 2, "does not hold one line");
    orama.file("long.key", &"x".repeat(5000));
    check(&[&base[..], &["long.key"]].concat(), 2, "longer than 4096 bytes");
    orama.file("ca.pem", "no certificate");
    check(&[&base[..], &["api.key", "--ca", "ca.pem"]].concat(), 2, "the CA file has no certificate in it");
    check(&["monitor"], 2, "Usage");
    check(&["node", "status"], 2, "--node-id");
    check(&["node", "status", "--node-id", "a/../b"], 2, "a node id has");
    check(&["node", "command", "restart", "--node-id", "node-10.0.0.4"], 2, "--service");
    check(&["node", "logs", "--node-id", "a", "--lines", "1001"], 2, "1..=1000");
}

#[test]
fn a_bearer_token_never_leaves_this_machine_in_the_clear() {
    let orama = Orama::new();
    for (url, expected) in [
        ("http://192.0.2.1:80", "use https"),
        ("http://127.0.0.1.example.com", "use https"),
        ("ftp://127.0.0.1", "the scheme must be https"),
        ("https://user:password@127.0.0.1", "credentials do not belong into a URL"),
        ("https://127.0.0.1/?a=b", "a query does not belong into it"),
        ("127.0.0.1", "the scheme must be https"),
        ("", "not a URL"),
    ] {
        let ran = orama.run(&["monitor", "report", "--api-key-file", "api.key", "--gateway", url], "");
        assert_eq!(ran.code, 2, "{url}: {ran:?}");
        assert!(ran.err.contains(expected), "{url}: {ran:?}");
        assert!(!ran.err.contains("password@") || url.contains("password@"));
    }
}

#[test]
fn each_kind_of_refusal_has_its_exit_code() {
    for (answer, code, expected) in [
        (error(401, "unknown API key"), 4, "unknown API key"),
        (error(403, "not yours"), 4, "not yours"),
        (error(404, "no such node"), 5, "no such node"),
        (error(502, "agent unreachable"), 3, "agent unreachable"),
        (error(500, "database is locked"), 1, "database is locked"),
        (error(429, "slow down"), 1, "wait a minute"),
        (Answer::Json(500, "<html>".into()), 1, "answered 500: no reason given"),
        (ok("not json"), 1, "is not understood"),
        (ok("{}"), 1, "is not understood"),
        (
            Answer::Raw(
                b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            ),
            1,
            "redirect",
        ),
        (Answer::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), 3, "cannot reach"),
        (Answer::Raw(Vec::new()), 3, "cannot reach"),
        (error(500, "\u{1b}]0;owned\u{7}text"), 1, "answered 500: ]0;owned text"),
    ] {
        let gateway = FakeGateway::answering(answer);
        let ran = Orama::new().at(&gateway, &ASK);
        assert_eq!(ran.code, code, "{expected}: {ran:?}");
        assert!(ran.err.contains(expected) && ran.err.contains("next: "), "{expected}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.contains('\u{1b}'), "{ran:?}");
        assert!(!ran.err.contains(API_KEY), "{ran:?}");
    }
}

#[test]
fn an_answer_beyond_the_limit_is_refused() {
    let huge = format!("{{\"at\":\"{}\",\"nodes\":[]}}", "x".repeat(1 << 20));
    let ran = Orama::new().at(&FakeGateway::answering(ok(&huge)), &ASK);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("answered with more than 1048576 bytes"), "{ran:?}");
    // Without a length, too.
    let endless = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec(), vec![b' '; 3 << 20]].concat();
    let ran = Orama::new().at(&FakeGateway::answering(Answer::Raw(endless)), &ASK);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("answered with more than 1048576 bytes"), "{ran:?}");
}

#[test]
fn nobody_there_is_exit_code_3_and_json_says_so() {
    let url = format!("http://127.0.0.1:{}", closed_port());
    let ran = Orama::new()
        .run(&["--json", "monitor", "report", "--gateway", &url, "--api-key-file", "api.key"], "");
    assert_eq!(ran.code, 3, "{ran:?}");
    let failure: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(failure["exit_code"], 3);
    assert!(failure["error"].as_str().unwrap().contains("cannot reach"), "{failure}");
    assert!(failure["next"].as_str().is_some());
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A TLS gateway on 127.0.0.1 whose certificate is for `name`.
    fn gateway(&self, name: &str) -> (String, Arc<Mutex<Vec<Request>>>) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
                )
                .unwrap();
        let config = Arc::new(config);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let address = accept_with(move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            serve(&mut stream, &|_, _| ok(REPORT), &seen);
            stream.conn.send_close_notify();
            let _client_gone = stream.conn.complete_io(&mut stream.sock);
        });
        (format!("https://{address}"), requests)
    }
}

#[test]
fn tls_is_taken_from_the_given_ca_only() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let orama = Orama::new();
    orama.file("right.pem", &right.pem());
    orama.file("wrong.pem", &wrong.pem());
    let (url, requests) = right.gateway("127.0.0.1");
    let base = ["monitor", "report", "--api-key-file", "api.key", "--gateway", &url];

    let ran = orama.run(&[&base[..], &["--ca", "right.pem"]].concat(), "");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(requests.lock().unwrap().len(), 1);

    for arguments in [[&base[..], &["--ca", "wrong.pem"]].concat(), base.to_vec()] {
        let ran = orama.run(&arguments, "");
        assert_eq!(ran.code, 3, "{ran:?}");
        assert!(ran.err.contains("is not trusted") && ran.err.contains("--ca FILE"), "{ran:?}");
    }
    let (url, other_name) = right.gateway("gateway.example.com");
    let ran = orama
        .run(&["monitor", "report", "--api-key-file", "api.key", "--gateway", &url, "--ca", "right.pem"], "");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("is not trusted"), "{ran:?}");
    assert_eq!(
        requests.lock().unwrap().len() + other_name.lock().unwrap().len(),
        1,
        "no key went to a stranger"
    );
}
