//! The store without HTTP: the guardian's own note, and what a crash leaves of it.

use std::os::unix::fs::MetadataExt as _;

use orama_protocol::guardian_store::FACTS_LIMIT_BYTES;
use vault_guardian::{FactsError, FileStore, Identity, PutError, ReadError, SecretName, Store};
use zeroize::Zeroizing;

use crate::client::{folder, identity};

#[test]
fn the_note_is_replaced_as_a_whole_and_outlives_a_crash() {
    let folder = folder();
    let store = FileStore::open(folder.path()).unwrap();
    assert!(store.facts().unwrap().is_empty());
    store.set_facts(b"first").unwrap();
    store.set_facts(b"second").unwrap();
    assert_eq!(store.facts().unwrap().as_slice(), b"second");
    assert_eq!(std::fs::metadata(folder.path().join("facts")).unwrap().mode() & 0o7777, 0o600);
    let too_long = vec![0; FACTS_LIMIT_BYTES + 1];
    assert!(matches!(store.set_facts(&too_long), Err(FactsError::TooLong(_))));
    assert_eq!(store.facts().unwrap().as_slice(), b"second");
    store.set_facts(&too_long[1..]).unwrap();
    assert_eq!(store.facts().unwrap().len(), FACTS_LIMIT_BYTES);
    drop(store);
    // Killed between writing the temporary file and renaming it.
    std::fs::write(folder.path().join("facts"), b"second").unwrap();
    std::fs::write(folder.path().join(".tmp-facts"), b"half of a th").unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.facts().unwrap().as_slice(), b"second");
    assert!(!folder.path().join(".tmp-facts").exists());
    std::fs::write(folder.path().join("facts"), &too_long).unwrap();
    assert!(matches!(store.facts(), Err(FactsError::TooLong(_))));
}

#[test]
fn an_identity_is_forgotten_with_all_it_has() {
    let folder = folder();
    let store = FileStore::open(folder.path()).unwrap();
    let [alice, bob] = ['a', 'b'].map(|digit| Identity::parse(&identity(digit)).unwrap());
    let name = |text: &str| SecretName::parse(text).unwrap();
    for (whose, text) in [(&alice, "one"), (&alice, "two"), (&bob, "one")] {
        store.put(whose, &name(text), 1, Zeroizing::new(b"share".to_vec()), 7).unwrap();
    }
    store.forget(&alice).unwrap();
    assert!(matches!(store.get(&alice, &name("one")), Err(ReadError::None)));
    assert!(store.list(&alice).unwrap().is_empty());
    assert_eq!(store.get(&bob, &name("one")).ok().unwrap().share.as_slice(), b"share");
    store.forget(&alice).unwrap();
    let again = store.put(&bob, &name("one"), 1, Zeroizing::new(b"share".to_vec()), 7);
    assert!(matches!(again, Err(PutError::Version { offered: 1, stored: 1 })));
}
