//! The way of a real key: split, stored at five guardians, put together again by our code and by the
//! independent tool; and the documented example of a store file.

use std::process::Command;

use orama_keyshare::{Envelope, Share, Threshold, VolumeKey, combine, secret_name, split};
use vault_guardian::{Identity, Record, SecretName};
use zeroize::Zeroizing;

use crate::client::{folder, identity, start};

const TOOL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tools/combine_shares.py");
const FORMATS: &str = include_str!("../../../../docs/formats.md");
const VOLUME: [u8; 16] =
    [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

fn envelope(threshold: Threshold, share: Share) -> Zeroizing<Vec<u8>> {
    let envelope =
        Envelope { volume: VOLUME, node_id: "node-10.0.0.4".into(), generation: 1, threshold, share };
    envelope.encode().unwrap()
}

fn tool(files: &[String]) -> std::process::Output {
    Command::new("python3").arg(TOOL).args(files).output().expect("python3 runs")
}

#[test]
fn any_three_of_five_store_files_give_the_key_and_two_do_not() {
    let folders: Vec<_> = (0..5).map(|_| folder()).collect();
    let guardians: Vec<_> = folders.iter().map(|folder| start(folder.path())).collect();
    let key = VolumeKey::generate().unwrap();
    let threshold = Threshold::for_guardians(5).unwrap();
    let name = secret_name(VOLUME, 1);
    let (node, mut fetched, mut files, mut answers) = (identity('c'), Vec::new(), Vec::new(), Vec::new());
    for (guardian, share) in guardians.iter().zip(split(&key, threshold).unwrap()) {
        let token = guardian.session(&node);
        assert_eq!(guardian.put(&token, &name, &envelope(threshold, share), 1).status, 200);
        fetched.push(Envelope::decode(&guardian.share(&token, &name)).unwrap().share);
        files.push(guardian.file(&node, &name).to_str().unwrap().to_owned());
        let answer = guardian.folder.join("answer.json");
        std::fs::write(&answer, guardian.get(&token, &name).body.to_string()).unwrap();
        answers.push(answer.to_str().unwrap().to_owned());
    }
    assert!(combine(&fetched[2..], 3).unwrap().matches(&key));
    let expected: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    for chosen in
        [&files[..3], &files[2..], &answers[1..4], &[files[0].clone(), answers[4].clone(), files[2].clone()]]
    {
        let output = tool(chosen);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), expected);
    }
    let two = tool(&files[..2]);
    assert!(!two.status.success() && two.stdout.is_empty());
    let text = std::fs::read_to_string(&files[0]).unwrap();
    std::fs::write(&files[0], text.replace("version 1", "version 2")).unwrap();
    assert!(String::from_utf8_lossy(&tool(&files[..3]).stderr).contains("checksum does not match"));
}

#[test]
fn the_documented_store_file_is_ours() {
    let share = Share::new(1, &[40; 32]).unwrap();
    let start = FORMATS.find("orama-guardian-secret 1\n").expect("formats.md has an example");
    let text = &FORMATS[start..start + FORMATS[start..].find("```").unwrap()];
    let record = Record::decode(text.as_bytes()).expect("the example is a store file");
    assert_eq!(record.share, envelope(Threshold::for_guardians(5).unwrap(), share));
    assert_eq!(record.name.as_str(), secret_name(VOLUME, 1));
    assert_eq!(record.encode().as_str(), text);
    assert!(Identity::parse(record.identity.as_str()).is_some());
    assert!(SecretName::parse(&secret_name(VOLUME, u64::MAX)).is_some());
}
