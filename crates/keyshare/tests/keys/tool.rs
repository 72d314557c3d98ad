//! docs/tools/combine_shares.py, which has no code of ours, reads what we write.

use std::path::Path;
use std::process::{Command, Output};

use orama_keyshare::{ShareSeal, VolumeKey};

use crate::{VOLUME, WIREGUARD, envelopes, sealed_envelopes};

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tools/combine_shares.py");

fn run(arguments: &[&str], folder: &Path) -> Output {
    let mut python = Command::new("python3");
    python.arg(TOOL).args(arguments).current_dir(folder).output().expect("python3 runs")
}

fn error(output: &Output) -> String {
    assert!(!output.status.success(), "the tool was content");
    assert!(output.stdout.is_empty(), "a failed run prints no key");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn three_shares_suffice_and_two_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = VolumeKey::generate().unwrap();
    // A generation above 250 takes the longer integer form.
    let stored = envelopes(&key, 5, 300);
    for (index, bytes) in stored.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{}.bin", index + 1)), bytes).unwrap();
        std::fs::write(folder.path().join(format!("{}.hex", index + 1)), hex(bytes) + "\n").unwrap();
    }
    let expected = hex(key.expose());
    for files in [["1.bin", "2.bin", "3.bin"], ["5.hex", "1.bin", "4.hex"], ["2.hex", "4.bin", "5.bin"]] {
        let output = run(&files, folder.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), expected, "{files:?}");
    }
    let raw = run(&["--raw", "1.bin", "2.bin", "3.bin", "4.bin", "5.bin"], folder.path());
    assert_eq!(raw.stdout, key.expose());

    let file = run(&["--output", "key", "1.bin", "2.bin", "3.bin"], folder.path());
    assert!(file.status.success() && file.stdout.is_empty());
    assert_eq!(std::fs::read(folder.path().join("key")).unwrap(), key.expose());

    assert!(
        error(&run(&["1.bin", "2.bin"], folder.path())).contains("2 shares are not enough, 3 are needed")
    );
    let repeated = error(&run(&["1.bin", "2.bin", "2.hex"], folder.path()));
    assert!(repeated.contains("point 2"), "{repeated}");
}

#[test]
fn shares_that_do_not_belong_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let key = VolumeKey::generate().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    for generation in [1, 2] {
        for (index, bytes) in envelopes(&key, 5, generation).iter().enumerate() {
            write(&format!("{generation}-{}", index + 1), bytes);
        }
    }
    for (index, bytes) in envelopes(&key, 5, 1).iter().enumerate() {
        write(&format!("again-{}", index + 1), bytes);
    }
    write("cut", &std::fs::read(folder.path().join("1-3")).unwrap()[..40]);
    let refuse = |files: &[&str], reason: &str| {
        let text = error(&run(files, folder.path()));
        assert!(text.contains(reason), "{files:?}: {text}");
    };
    refuse(&["1-1", "1-2", "2-3"], "belongs to another split");
    refuse(&["1-1", "1-2", "1-3", "again-4"], "do not lie on one polynomial");
    refuse(&["1-1", "1-2", "cut"], "cut");
    refuse(&["1-1", "1-2", "missing"], "missing");
}

const WIREGUARD_TEXT: &str = "d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3c=\n";

#[test]
fn sealed_shares_want_the_owners_key() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let key = VolumeKey::generate().unwrap();
    for (index, bytes) in
        sealed_envelopes(&key, 5, 300, &ShareSeal::new(&WIREGUARD, VOLUME)).iter().enumerate()
    {
        write(&format!("{}.bin", index + 1), bytes);
        write(&format!("{}.hex", index + 1), hex(bytes).as_bytes());
    }
    let mut edited = std::fs::read(folder.path().join("3.bin")).unwrap();
    *edited.last_mut().unwrap() ^= 1;
    write("edited", &edited);
    write("wg", WIREGUARD_TEXT.as_bytes());
    write("other", WIREGUARD_TEXT.replace("d3d3", "d3d4").as_bytes());
    write("short", b"d3d3\n");
    let output = run(&["--wireguard-key", "wg", "5.hex", "1.bin", "4.bin"], folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), hex(key.expose()));

    let refuse = |arguments: &[&str], reason: &str| {
        let text = error(&run(arguments, folder.path()));
        assert!(text.contains(reason), "{arguments:?}: {text}");
    };
    refuse(&["1.bin", "2.bin", "3.bin"], "--wireguard-key is needed");
    refuse(&["--wireguard-key", "other", "1.bin", "2.bin", "3.bin"], "the seal does not open");
    refuse(&["--wireguard-key", "wg", "1.bin", "2.bin", "edited"], "edited is not a share");
    refuse(&["--wireguard-key", "short", "1.bin", "2.bin", "3.bin"], "3 bytes instead of 32");
    refuse(&["--wireguard-key", "missing", "1.bin", "2.bin", "3.bin"], "cannot read missing");
}

/// The tool's own AES-GCM and HKDF: test cases 13 to 16 of McGrew and Viega's specification of GCM (AES-256), as
/// Python's `cryptography` 48.0.0 has them too, and RFC 5869's first, cut to 32 bytes.
#[test]
fn the_tools_cryptography_is_the_published_one() {
    let script = r#"
import sys; sys.path.insert(0, sys.argv[1]); sys.dont_write_bytecode = True
from combine_shares import Bad, gcm_decrypt, hkdf
unhex = bytes.fromhex
K = "feffe9928665731c6d6a8f9467308308" * 2
P = ("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255")
C = ("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad")
vectors = [
    ("00" * 32, "00" * 12, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 32, "00" * 12, "", "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
    (K, "cafebabefacedbaddecaf888", "", P, C, "b094dac5d93471bdec1a502270e3cc6c"),
    (K, "cafebabefacedbaddecaf888", "feedfacedeadbeef" * 2 + "abaddad2", P[:120], C[:120],
     "76fc6ece0f4e1768cddf8853bb2d551b"),
]
for key, nonce, beside, plain, text, tag in vectors:
    found = gcm_decrypt(unhex(key), unhex(nonce), unhex(beside), unhex(text + tag))
    assert found == unhex(plain), (found.hex(), plain)
    try:
        gcm_decrypt(unhex(key), unhex(nonce), unhex(beside) + b"x", unhex(text + tag))
        assert False, "an edited message was accepted"
    except Bad:
        pass
okm = hkdf(b"" * 22, bytes(range(13)), bytes(range(0xf0, 0xfa)))
assert okm == unhex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"), okm.hex()
print("checked", len(vectors))
"#;
    let folder = Path::new(TOOL).parent().unwrap();
    let output =
        Command::new("python3").args(["-B", "-c", script]).arg(folder).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "checked 4\n");
}
