//! The agent's private files: modes, bounds, and that a write replaces the whole file or nothing.

use std::os::unix::fs::PermissionsExt;

use orama_volume::MacKey;
use orama_volume::vault::{AgentToken, Vault, VaultError, ensure_directory};
use zeroize::Zeroizing;

fn vault() -> (tempfile::TempDir, Vault) {
    let root = tempfile::tempdir().unwrap();
    let vault = Vault::at(root.path());
    vault.create().unwrap();
    (root, vault)
}

fn mode(path: &std::path::Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_written_is_read_and_only_the_owner_may() {
    let (root, vault) = vault();
    let token = AgentToken::generate().ok().unwrap();
    vault.write_mac_key(&MacKey::generate().ok().unwrap()).unwrap();
    vault.write_agent_token(&token).unwrap();
    vault.write_cluster_secret("first").unwrap();
    vault.write_cluster_secret("second").unwrap();
    assert_eq!(vault.agent_token().unwrap().expose(), token.expose());
    assert_eq!(vault.cluster_secret().unwrap().as_str(), "second");
    vault.mac_key().unwrap();
    let agent = root.path().join("agent");
    assert_eq!(mode(&agent), 0o700);
    let mut names: Vec<_> =
        std::fs::read_dir(&agent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["agent.token", "cluster.secret", "mac.key"]);
    for name in names {
        assert_eq!(mode(&agent.join(name)), 0o600);
    }
}

#[test]
fn what_a_crashed_write_left_behind_does_not_matter() {
    let (root, vault) = vault();
    vault.write_cluster_secret("old").unwrap();
    let victim = root.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    std::os::unix::fs::symlink(&victim, root.path().join("agent/.cluster.secret.new")).unwrap();
    assert_eq!(vault.cluster_secret().unwrap().as_str(), "old");
    vault.write_cluster_secret("new").unwrap();
    assert_eq!(vault.cluster_secret().unwrap().as_str(), "new");
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "untouched");
}

#[test]
fn wrong_contents_are_named() {
    let (root, vault) = vault();
    assert!(matches!(vault.mac_key(), Err(VaultError::Read { .. })));
    for (name, content) in [
        ("mac.key", &[1u8; 31][..]),
        ("mac.key", &[1; 33]),
        ("agent.token", b"A"),
        ("agent.token", &[b'f'; 65]),
    ] {
        std::fs::write(root.path().join("agent").join(name), content).unwrap();
        let error = if name == "mac.key" { vault.mac_key().err() } else { vault.agent_token().err() };
        assert!(matches!(error, Some(VaultError::Content { ref path, .. }) if path.ends_with(name)));
    }
    assert!(vault.write_cluster_secret(&"x".repeat(5000)).is_err());
}

#[test]
fn a_link_in_place_of_a_file_or_folder_is_refused() {
    let (root, vault) = vault();
    let elsewhere = root.path().join("elsewhere");
    std::fs::write(&elsewhere, [1; 32]).unwrap();
    std::os::unix::fs::symlink(&elsewhere, root.path().join("agent/mac.key")).unwrap();
    assert!(matches!(vault.mac_key(), Err(VaultError::Read { .. })));
    let folder = root.path().join("folder");
    std::os::unix::fs::symlink(root.path(), &folder).unwrap();
    assert!(matches!(ensure_directory(&folder, 0o700, None), Err(VaultError::Directory { .. })));
}

#[test]
fn a_folder_gets_its_mode_whatever_it_had() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("logs");
    std::fs::create_dir(&folder).unwrap();
    for wanted in [0o755, 0o700, 0o750] {
        ensure_directory(&folder, wanted, None).unwrap();
        assert_eq!(mode(&folder), wanted);
    }
}

#[test]
fn tokens_are_compared_whole() {
    let text = "0123456789abcdef".repeat(4);
    let token = AgentToken::parse(Zeroizing::new(text.clone())).unwrap();
    assert!(token.matches(&text));
    assert!(!token.matches(&text[..63]));
    assert!(!token.matches(""));
    assert!(AgentToken::parse(Zeroizing::new(text.to_uppercase())).is_none());
    // SHA-256 of the 64 characters, as sha256sum prints it.
    assert_eq!(token.sha256()[..4], [0xa8, 0xae, 0x6e, 0x6e]);
}

#[test]
fn the_kept_volume_key_comes_back_until_it_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let vault = Vault::at(root.path());
    vault.create().unwrap();
    assert!(vault.volume_key().unwrap().is_none());
    vault.remove_volume_key().unwrap();
    let key = orama_keyshare::VolumeKey::generate().unwrap();
    vault.write_volume_key(&key).unwrap();
    assert!(vault.volume_key().unwrap().unwrap().matches(&key));
    std::fs::write(root.path().join("agent/.volume.key.new"), key.expose()).unwrap();
    vault.remove_volume_key().unwrap();
    assert!(vault.volume_key().unwrap().is_none());
    assert_eq!(std::fs::read_dir(root.path().join("agent")).unwrap().count(), 0);
    std::fs::write(root.path().join("agent/volume.key"), [7; 31]).unwrap();
    assert!(vault.volume_key().is_err());
}

#[test]
fn a_recovered_key_is_kept_for_one_split() {
    use orama_keyshare::VolumeKey;
    let (root, vault) = vault();
    let (path, key) = (root.path().join("agent/recovered.key"), VolumeKey::generate().unwrap());
    assert!(vault.recovered_key(3).unwrap().is_none());
    vault.write_recovered_key(&key, 3).unwrap();
    assert_eq!(mode(&path), 0o600);
    vault.remove_recovered_key_unless_of(3).unwrap();
    assert!(vault.recovered_key(3).unwrap().expect("the key").matches(&key));
    assert!(vault.recovered_key(4).unwrap().is_none());
    std::fs::write(root.path().join("agent/.recovered.key.new"), "half").unwrap();
    vault.remove_recovered_key_unless_of(4).unwrap();
    assert!(!path.exists() && !root.path().join("agent/.recovered.key.new").exists());
    vault.remove_recovered_key_unless_of(4).unwrap();
    std::fs::write(&path, [1; 39]).unwrap();
    assert!(matches!(vault.recovered_key(3), Err(VaultError::Content { .. })));
}
