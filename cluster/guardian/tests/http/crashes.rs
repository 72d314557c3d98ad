//! What a crash, a bad disk or a curious hand may do to the store.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use vault_guardian::{OpenStoreError, ServeError};

use crate::client::{folder, identity, start};

#[test]
fn secrets_outlive_a_restart() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, "one", b"share", 3).status, 200);
    let before = guardian.get(&token, "one").body;
    let guardian = guardian.restart();
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.get(&token, "one").body, before);
    assert_eq!(guardian.put(&token, "one", b"other", 3).status, 400);
    assert_eq!(guardian.put(&token, "one", b"other", 4).status, 200);
}

#[test]
fn nobody_else_may_read_the_store() {
    let folder = folder();
    let data = folder.path().join("made").join("here");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let guardian = start(&data);
    let token = guardian.session(&identity('a'));
    guardian.put(&token, "one", b"share", 1);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join(identity('a'))), 0o700);
    assert_eq!(mode(&guardian.file(&identity('a'), "one")), 0o600);
}

/// Killed between writing the temporary file and renaming it.
#[test]
fn unfinished_files_are_gone_after_a_start_and_never_served() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    guardian.put(&token, "one", b"old", 1);
    let temp = guardian.file(&identity('a'), ".tmp-one");
    std::fs::write(&temp, b"half of a new").unwrap();
    assert_eq!(guardian.list(&token).body["secrets"].as_array().unwrap().len(), 1);
    let guardian = guardian.restart();
    assert!(!temp.exists());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.share(&token, "one"), b"old");
    // Left by a write that failed while running: the next write takes its place.
    std::fs::write(&temp, vec![b'x'; 5000]).unwrap();
    assert_eq!(guardian.put(&token, "one", b"new", 2).status, 200);
    assert!(!temp.exists());
    assert_eq!(guardian.share(&token, "one"), b"new");
}

#[test]
fn torn_and_edited_files_are_errors_until_they_are_deleted() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    guardian.put(&token, "one", b"a share of a key", 1);
    guardian.put(&token, "two", b"another share", 1);
    let file = guardian.file(&identity('a'), "one");
    let good = std::fs::read(&file).unwrap();
    let mut flipped = good.clone();
    let share = good.windows(7).position(|window| window == b"\nshare ").unwrap() + 8;
    flipped[share] ^= 1;
    let mut other_version = good.clone();
    let version = good.windows(9).position(|window| window == b"\nversion ").unwrap() + 9;
    other_version[version] = b'9';
    let foreign = std::fs::read(guardian.file(&identity('a'), "two")).unwrap();
    for bytes in [&good[..good.len() / 2], &good[..good.len() - 1], b"", &flipped, &other_version, &foreign] {
        std::fs::write(&file, bytes).unwrap();
        let read = guardian.get(&token, "one");
        assert_eq!((read.status, read.error()), (500, "the stored secret is damaged"));
        let written = guardian.put(&token, "one", b"new", 10);
        assert_eq!((written.status, written.error()), (500, "the stored secret is damaged, delete it first"));
    }
    std::fs::write(&file, &good[..100]).unwrap();
    let list = guardian.list(&token);
    assert_eq!((list.status, list.error()), (500, "the stored secret one is damaged, delete it first"));
    assert_eq!(guardian.share(&token, "two"), b"another share");
    assert_eq!(guardian.delete(&token, "one").status, 200);
    assert_eq!(guardian.put(&token, "one", b"new", 1).status, 200);
    assert_eq!(guardian.list(&token).status, 200);
}

#[test]
fn a_link_in_the_store_is_not_followed() {
    let folder = folder();
    let outside = crate::client::folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    guardian.put(&token, "one", b"share", 1);
    let target = outside.path().join("target");
    std::fs::rename(guardian.file(&identity('a'), "one"), &target).unwrap();
    symlink(&target, guardian.file(&identity('a'), "one")).unwrap();
    assert_eq!(guardian.get(&token, "one").status, 500);
    assert_eq!(guardian.put(&token, "one", b"other", 2).status, 500);
    assert!(target.exists());
}

#[test]
fn a_full_or_missing_disk_is_an_error_and_keeps_the_old_secret() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    guardian.put(&token, "one", b"old", 1);
    // A folder in the way of the temporary file: the write fails whoever we are.
    let temp = guardian.file(&identity('a'), ".tmp-one");
    std::fs::create_dir(&temp).unwrap();
    let failed = guardian.put(&token, "one", b"new", 2);
    assert_eq!((failed.status, failed.error()), (500, "cannot write the secret"));
    assert_eq!(guardian.share(&token, "one"), b"old");
    std::fs::remove_dir(&temp).unwrap();
    assert_eq!(guardian.put(&token, "one", b"new", 2).status, 200);
}

#[test]
fn one_directory_one_guardian() {
    let folder = folder();
    let guardian = start(folder.path());
    let config = vault_guardian::Config::new("127.0.0.1:0".parse().unwrap(), folder.path());
    let second = vault_guardian::serve(config);
    assert!(matches!(second, Err(ServeError::Store(OpenStoreError::Lock(..)))));
    drop(guardian);
    drop(start(folder.path()));
}
