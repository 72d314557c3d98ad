//! Interoperability, live: eth-account and eciespy against our code, both directions, with fresh keys every time.
//! Needs no root, but python3-venv and, the first time, the package index. Fails when it cannot run.

#[path = "interop/environment.rs"]
mod environment;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use orama_wallet::keystore::{Cost, OpenError};
use orama_wallet::statement::{Unlock, UnlockKind, VolumeId};
use orama_wallet::{
    Address, Keystore, SecretKey, Signature, open, opened_key, seal, seal_key, sealed_from_text,
    sealed_to_text,
};
use serde_json::{Value, json};

const WALLET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/wallet.py");
/// Fresh keys for each direction.
const ROUNDS: usize = 8;

/// The other side; it ends when its standard input does, with this process.
struct Other {
    _process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start() -> Self {
        let mut command = Command::new(environment::programs().join("python"));
        command.arg(WALLET).env("PYTHONUTF8", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process =
            environment::unprivileged(&mut command).spawn().expect("the environment has a python");
        let requests = process.stdin.take().expect("piped");
        let answers = BufReader::new(process.stdout.take().expect("piped"));
        Self { _process: process, requests, answers }
    }

    /// One request and its answer, whose members are texts.
    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.requests, "{request}").expect("the other side lives");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the other side answers");
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert!(answer.get("failed").is_none(), "{}", answer["failed"].as_str().unwrap_or_default());
        answer
    }
}

fn other() -> MutexGuard<'static, Other> {
    static OTHER: OnceLock<Mutex<Other>> = OnceLock::new();
    let other = OTHER.get_or_init(|| Mutex::new(Other::start()));
    other.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text<'a>(answer: &'a Value, member: &str) -> &'a str {
    answer[member].as_str().unwrap_or_else(|| panic!("{member} in {answer}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn secret(hex: &str) -> SecretKey {
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    let byte = |at: usize| u8::from_str_radix(&digits[2 * at..][..2], 16).expect("hex");
    SecretKey::from_bytes(&std::array::from_fn(byte)).expect("a key")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

/// What is signed: a real statement, and texts that are easily counted or encoded wrong.
fn texts() -> Vec<String> {
    let mut texts =
        vec![String::new(), "grüße, 世界 \u{1f511}\n".into(), "\0\u{7f}".into(), "9".repeat(9_999)];
    texts.resize_with(ROUNDS, || {
        let kind = UnlockKind::Recovery;
        let node = format!("node-{}", hex(&random::<4>())).parse().expect("a node id");
        Unlock { kind, node, volume: VolumeId::from_bytes(random()), challenge: random() }.to_string()
    });
    texts
}

#[test]
fn we_sign_and_eth_account_recovers_our_address() {
    for signed in texts() {
        let key = SecretKey::generate().unwrap();
        let request = json!({ "do": "recover", "text": signed, "signature": key.sign(&signed).to_string() });
        let answer = other().ask(&request);
        assert_eq!(text(&answer, "address"), key.public_key().address().to_string(), "{signed:?}");
    }
}

#[test]
fn eth_account_signs_and_we_recover_its_address() {
    for signed in texts() {
        let answer = other().ask(&json!({ "do": "sign", "text": signed }));
        let address: Address = text(&answer, "address").parse().unwrap();
        let signature: Signature = text(&answer, "signature").parse().unwrap();
        signature.verify(&signed, &address).unwrap();
        // Both are deterministic.
        assert_eq!(secret(text(&answer, "secret")).sign(&signed), signature);
    }
}

#[test]
fn eciespy_encrypts_and_we_open() {
    for length in 0..ROUNDS {
        let (key, plaintext) =
            (SecretKey::generate().unwrap(), vec![random::<1>()[0]; length * length * length]);
        let public = key.public_key().to_string();
        let request = json!({ "do": "encrypt", "public": public, "plaintext": hex(&plaintext) });
        let sealed = sealed_from_text(text(&other().ask(&request), "sealed")).unwrap();
        assert_eq!(open(&key, &sealed).unwrap().as_slice(), plaintext);
        assert!(open(&SecretKey::generate().unwrap(), &sealed).is_err());
    }
}

#[test]
fn we_seal_and_eciespy_decrypts() {
    for length in 0..ROUNDS {
        let (key, plaintext) =
            (SecretKey::generate().unwrap(), vec![random::<1>()[0]; length * length * length]);
        let sealed = sealed_to_text(&seal(&key.public_key(), &plaintext).unwrap());
        let request = json!({ "do": "decrypt", "secret": hex(key.expose().as_slice()), "sealed": sealed });
        assert_eq!(text(&other().ask(&request), "plaintext"), hex(&plaintext));
    }
}

/// The way of an operator without rootwallet: the sealed key's text into eciespy's command, its output into ours.
#[test]
fn the_command_of_eciespy_opens_a_sealed_volume_key() {
    let folder = tempfile::tempdir().unwrap();
    // Its owner may be another user: see `unprivileged`.
    let file = folder.path().join("key");
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for _ in 0..3 {
        let (owner, key) = (SecretKey::generate().unwrap(), random::<32>());
        std::fs::write(&file, format!("0x{}\n", hex(owner.expose().as_slice()))).unwrap();
        let mut command = Command::new(environment::programs().join("eciespy"));
        command.arg("--decrypt").arg("--key").arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = environment::unprivileged(&mut command).spawn().expect("eciespy has a command");
        let sealed = seal_key(&owner.public_key(), &key).unwrap();
        process.stdin.take().unwrap().write_all(sealed.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(*opened_key(&output.stdout).unwrap(), key);
    }
}

#[test]
fn eth_account_opens_our_keystore() {
    let (key, password) = (SecretKey::generate().unwrap(), "päss wörd");
    let file = Keystore::write(&key, password.as_bytes(), Cost::Standard).unwrap();
    let answer = other().ask(&json!({ "do": "keystore_open", "file": file, "password": password }));
    assert_eq!(*secret(text(&answer, "secret")).expose(), *key.expose());
    let file = Keystore::write(&key, b"", Cost::Cheap).unwrap();
    let answer = other().ask(&json!({ "do": "keystore_open", "file": file, "password": "x" }));
    assert!(answer.get("refused").is_some(), "{answer}");
}

#[test]
fn we_open_keystores_of_eth_account() {
    // What it writes by itself, and something quick.
    for (kdf, iterations) in
        [("scrypt", None), ("pbkdf2", None), ("scrypt", Some(1024)), ("pbkdf2", Some(1000))]
    {
        let password = "päss wörd";
        let request =
            json!({ "do": "keystore_write", "kdf": kdf, "iterations": iterations, "password": password });
        let answer = other().ask(&request);
        let keystore = Keystore::parse(text(&answer, "file").as_bytes()).unwrap();
        assert_eq!(keystore.address().unwrap().to_string(), text(&answer, "address"));
        let key = keystore.open(password.as_bytes()).unwrap();
        assert_eq!(*key.expose(), *secret(text(&answer, "secret")).expose());
        if iterations.is_some() {
            assert_eq!(keystore.open(b"pass word").err(), Some(OpenError::WrongPassword));
        }
    }
}
