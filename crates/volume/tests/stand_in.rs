//! The directory stand-in means the same as the real volume, and loses power where it is told to.

mod fixture;

use fixture::{FileVolume, mac_key, state, volume_key};
use orama_volume::vault::{AgentToken, Vault};
use orama_volume::{
    CrashPoint, DataVolume, DirectoryVolume, FormatError, OpenError, Probe, ProbeError, WriteStateError,
};

/// What both implementations promise, as far as a machine without device-mapper can see it.
fn keeps_the_promises(volume: &dyn DataVolume) {
    assert!(matches!(volume.probe(), Ok(Probe::Blank)));
    assert!(matches!(
        volume.write_early_state(&state([1; 16], 3), &mac_key(1)),
        Err(WriteStateError::NoHeader { .. })
    ));
    let first = volume.format(&volume_key(1)).unwrap();
    assert!(matches!(volume.probe(), Ok(Probe::Unfinished { .. })));
    let uuid = volume.format(&volume_key(2)).unwrap();
    assert_ne!(first, uuid);
    assert!(matches!(volume.test_key(&volume_key(1)), Err(OpenError::WrongKey { .. })));
    volume.test_key(&volume_key(2)).unwrap();
    assert!(matches!(
        volume.write_early_state(&state(first, 3), &mac_key(1)),
        Err(WriteStateError::OtherVolume { .. })
    ));
    for peers in [3, 9, 250, 5] {
        volume.write_early_state(&state(uuid, peers), &mac_key(1)).unwrap();
        let Ok(Probe::Enrolled { state, sealed }) = volume.probe() else { panic!("not enrolled") };
        assert_eq!(state.wireguard.peers.len(), peers);
        sealed.verify(&mac_key(1)).unwrap();
        assert!(sealed.verify(&mac_key(2)).is_err());
    }
    assert!(matches!(volume.format(&volume_key(3)), Err(FormatError::Enrolled { .. })));
    volume.test_key(&volume_key(2)).unwrap();
}

#[test]
fn the_real_volume_keeps_the_promises() {
    keeps_the_promises(&FileVolume::blank().volume);
}

#[test]
fn the_stand_in_keeps_the_promises() {
    let base = tempfile::tempdir().unwrap();
    keeps_the_promises(&DirectoryVolume::power_on(base.path()).unwrap());
}

/// The steps of provisioning, in the agent's order.
fn provision(volume: &DirectoryVolume) -> Result<(), Box<dyn std::error::Error>> {
    let uuid = volume.format(&volume_key(1))?;
    volume.open(&volume_key(1))?;
    volume.make_filesystem()?;
    volume.mount()?;
    let vault = Vault::at(volume.root());
    vault.create()?;
    vault.write_mac_key(&mac_key(1))?;
    vault.write_agent_token(&AgentToken::generate()?)?;
    volume.write_early_state(&state(uuid, 5), &mac_key(1))?;
    Ok(())
}

#[test]
fn what_was_stored_is_there_after_a_reboot_and_the_mac_key_with_it() {
    let base = tempfile::tempdir().unwrap();
    provision(&DirectoryVolume::power_on(base.path()).unwrap()).unwrap();
    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    let Ok(Probe::Enrolled { sealed, .. }) = volume.probe() else { panic!("not enrolled") };
    assert!(!volume.root().exists(), "mounted before it was opened");
    assert!(matches!(volume.open(&volume_key(9)), Err(OpenError::WrongKey { .. })));
    assert!(volume.mount().is_err());
    volume.open(&volume_key(1)).unwrap();
    volume.mount().unwrap();
    volume.mount().unwrap();
    sealed.verify(&Vault::at(volume.root()).mac_key().unwrap()).unwrap();
    volume.unmount_and_close().unwrap();
    volume.unmount_and_close().unwrap();
    assert!(!volume.root().exists());
}

#[test]
fn a_crash_before_the_commit_leaves_a_volume_that_may_be_formatted() {
    for point in [
        CrashPoint::InFormat,
        CrashPoint::AfterFormat,
        CrashPoint::AfterOpen,
        CrashPoint::AfterFilesystem,
        CrashPoint::AfterMount,
        CrashPoint::BeforeRecord,
    ] {
        let base = tempfile::tempdir().unwrap();
        let volume = DirectoryVolume::power_on(base.path()).unwrap();
        volume.crash_at(point);
        assert!(provision(&volume).is_err(), "{point:?}");
        assert!(volume.probe().is_err(), "a machine without power answered after {point:?}");
        let volume = DirectoryVolume::power_on(base.path()).unwrap();
        assert!(matches!(volume.probe(), Ok(Probe::Unfinished { .. })), "{point:?}");
        provision(&volume).unwrap_or_else(|error| panic!("after {point:?}: {error}"));
        assert!(matches!(volume.probe(), Ok(Probe::Enrolled { .. })), "{point:?}");
    }
}

#[test]
fn a_crash_after_the_commit_leaves_an_enrolled_node() {
    let base = tempfile::tempdir().unwrap();
    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    volume.crash_at(CrashPoint::AfterRecord);
    assert!(provision(&volume).is_err());
    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    assert!(matches!(volume.probe(), Ok(Probe::Enrolled { .. })));
    assert!(matches!(volume.format(&volume_key(2)), Err(FormatError::Enrolled { .. })));
}

#[test]
fn a_crash_while_the_record_is_replaced_leaves_the_old_one() {
    let base = tempfile::tempdir().unwrap();
    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    provision(&volume).unwrap();
    let Ok(Probe::Enrolled { state: old, .. }) = volume.probe() else { panic!("not enrolled") };
    volume.crash_at(CrashPoint::BeforeRecord);
    assert!(volume.write_early_state(&state(old.volume_uuid, 9), &mac_key(1)).is_err());
    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    let Ok(Probe::Enrolled { state, sealed }) = volume.probe() else { panic!("not enrolled") };
    assert_eq!(state.wireguard.peers.len(), 5);
    sealed.verify(&mac_key(1)).unwrap();
}

#[test]
fn a_broken_record_is_damage() {
    let base = tempfile::tempdir().unwrap();
    let volume = DirectoryVolume::power_on(base.path()).unwrap();
    provision(&volume).unwrap();
    std::fs::write(volume.token_path(), b"{").unwrap();
    assert!(matches!(volume.probe(), Err(ProbeError::Damaged { .. })));
    assert!(matches!(volume.format(&volume_key(2)), Err(FormatError::Probe { .. })));
}
