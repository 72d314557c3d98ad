//! The parts of `orama mesh` that need no root.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::Orama;

#[test]
fn a_key_file_is_made_once_and_kept_from_others() {
    let orama = Orama::new();
    let made = orama.run(&["mesh", "key", "--key-file", "wg.key"], "");
    assert_eq!(made.code, 0, "{made:?}");
    assert_eq!(made.out.trim_end().len(), 44);
    let path = orama.folder.path().join("wg.key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = orama.run(&["--json", "mesh", "key", "--key-file", "wg.key"], "");
    let json: serde_json::Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(json["public_key"], made.out.trim_end(), "the same key");
    let names: Vec<_> =
        std::fs::read_dir(orama.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "no draft is left behind: {names:?}");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = orama.run(&["mesh", "key", "--key-file", "wg.key"], "");
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("may be read by others (mode 0644)") && ran.err.contains("chmod 600"),
        "{ran:?}"
    );
}

#[test]
fn a_known_key_has_its_known_public_half_and_a_bad_one_is_not_repeated() {
    let orama = Orama::new();
    let write = |text: &str| {
        let path = orama.file("wg.key", text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        orama.run(&["mesh", "key", "--key-file", "wg.key"], "")
    };
    // RFC 7748 §6.1.
    let ran = write("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n");
    assert_eq!(ran.out, "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n");
    for text in ["", "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25", &"A".repeat(200)] {
        let ran = write(text);
        assert_eq!(ran.code, 2, "{text:?}: {ran:?}");
        assert!(!ran.err.contains("dwdt"), "{ran:?}");
    }
}

#[test]
fn settings_of_serve_are_checked_before_anything_is_made() {
    let orama = Orama::new();
    for (config, expected) in [
        ("control = \"c\"\nkey_file = \"k\"\naddresses = []\n", "no address"),
        ("control = \"c\"\nkey_file = \"k\"\naddresses = [\"10.0.0.1/99\"]\n", "prefix length"),
        (
            "control = \"c\"\nkey_file = \"k\"\naddresses = [\"10.0.0.1\"]\nbackend = \"magic\"\n",
            "unknown variant `magic`",
        ),
        ("control = \"c\"\naddresses = [\"10.0.0.1\"]\n", "missing field `key_file`"),
        (
            "control = \"c\"\nkey_file = \"k\"\naddresses = [\"10.0.0.1\"]\nprivate_key = \"x\"\n",
            "unknown field `private_key`",
        ),
    ] {
        orama.file("wg.toml", config);
        let ran = orama.run(&["mesh", "serve", "--config", "wg.toml"], "");
        assert_eq!(ran.code, 2, "{config}: {ran:?}");
        assert!(ran.err.contains(expected), "{config}: {ran:?}");
    }
    let ran = orama.run(&["mesh", "serve", "--config", "wg.toml", "--userspace"], "");
    assert_eq!(ran.code, 2, "the file and flags do not mix: {ran:?}");
    let ran = orama.run(&["mesh", "serve", "--control", "c", "--key-file", "k"], "");
    assert!(ran.code == 2 && ran.err.contains("--address"), "{ran:?}");
    assert!(!orama.folder.path().join("k").exists(), "no key was made for nothing");
}
