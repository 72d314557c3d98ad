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
fn every_program_that_a_profile_names_is_installed() {
    let packages =
        read("package/orama-agent/orama-agent.mk") + &read("package/orama-services/orama-services.mk");
    let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in fs::read_dir(policies).expect("policies") {
        let path = entry.expect("policies").path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let Some(line) = text.lines().find(|line| line.starts_with("binary = ")) else { continue };
        let program = line.trim_matches('"').rsplit('/').next().expect("a path");
        let installed = [format!("/{program}\n"), format!(",{program},")];
        assert!(installed.iter().any(|sign| packages.contains(sign)), "{program} of {}", path.display());
    }
    for file in ["etc/orama/coredns/Corefile", "etc/orama/olric/olric.yaml"] {
        assert!(packages.contains(file), "{file}");
    }
}

#[test]
fn the_services_are_built_as_the_image_builds_them() {
    let package = read("package/orama-services/orama-services.mk").replace("$(comma)", ",");
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("xtask/src/image/services.rs");
    let image = fs::read_to_string(image).expect("services.rs");
    for field in ["module", "binary", "package", "tags"] {
        let mark = format!("        {field}: \"");
        let values: Vec<&str> =
            image.lines().filter_map(|line| line.strip_prefix(&mark)?.strip_suffix("\",")).collect();
        assert_eq!(values.len(), 5, "{field}");
        for value in values {
            assert!(
                package.contains(&format!(",{value},")) || package.contains(&format!("ONE,{value},")),
                "{value}"
            );
        }
    }
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
