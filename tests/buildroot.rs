//! The Buildroot tree installs what the agent expects: the same paths, the same version, no shell.
//! It is read as text; building it needs Buildroot and hours, and is not part of these tests.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("buildroot-external").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_package_is_of_this_version_and_puts_the_agent_where_the_initramfs_looks() {
    let package = read("package/orama-agent/orama-agent.mk");
    assert!(package.contains(&format!("ORAMA_AGENT_VERSION = {}\n", env!("CARGO_PKG_VERSION"))));
    assert!(package.contains("$(TARGET_DIR)/sbin/orama-agent"));
    assert!(package.contains("$(TARGET_DIR)/etc/orama/policies/sets/"));
}

#[test]
fn the_configuration_has_no_shell_no_init_and_no_login() {
    let configuration = read("configs/oramaos_x86_64_defconfig");
    for line in [
        "BR2_INIT_NONE=y",
        "# BR2_PACKAGE_BUSYBOX is not set",
        "BR2_SYSTEM_BIN_SH_NONE=y",
        "# BR2_TARGET_ENABLE_ROOT_LOGIN is not set",
        "# BR2_TARGET_GENERIC_GETTY is not set",
    ] {
        assert!(configuration.lines().any(|have| have == line), "missing: {line}");
    }
}

#[test]
fn every_kernel_option_is_said_once_and_switched_on() {
    let fragment = read("board/oramaos/linux.fragment");
    let mut seen = std::collections::BTreeSet::new();
    for line in fragment.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let option = line.strip_prefix("CONFIG_").and_then(|rest| rest.strip_suffix("=y"));
        assert!(
            option.is_some_and(|option| seen.insert(option.to_owned())),
            "not an option, or twice: {line}"
        );
    }
    assert!(seen.contains("DM_VERITY") && seen.contains("SECCOMP_FILTER"));
}
