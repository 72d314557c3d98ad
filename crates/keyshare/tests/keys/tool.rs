//! docs/tools/combine_shares.py, which has no code of ours, reads what we write.

use std::path::Path;
use std::process::{Command, Output};

use orama_keyshare::VolumeKey;

use crate::envelopes;

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
