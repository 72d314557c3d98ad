//! The `[uplink]` part of agent.toml.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::Cidr;

/// ```toml
/// [uplink]
/// interface = "eth0"   # optional; without it, the first ethernet interface that has a link
/// mode = "dhcp"        # or:
///
/// [uplink.mode.static]
/// address = "203.0.113.7/24"
/// gateway = "203.0.113.1"
/// dns = ["9.9.9.9"]
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UplinkConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(default)]
    pub mode: Mode,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Dhcp,
    Static(StaticConfig),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticConfig {
    pub address: Cidr,
    /// Absent on a segment that leads nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    #[serde(default)]
    pub dns: Vec<Ipv4Addr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms_parse() {
        let none: UplinkConfig = toml::from_str("").unwrap();
        assert_eq!(none, UplinkConfig::default());
        let dhcp: UplinkConfig = toml::from_str("interface = \"eth0\"\nmode = \"dhcp\"\n").unwrap();
        assert_eq!(dhcp, UplinkConfig { interface: Some("eth0".into()), mode: Mode::Dhcp });
        let text =
            "[mode.static]\naddress = \"203.0.113.7/24\"\ngateway = \"203.0.113.1\"\ndns = [\"9.9.9.9\"]\n";
        let fixed: UplinkConfig = toml::from_str(text).unwrap();
        let Mode::Static(fixed) = fixed.mode else { panic!("not static") };
        assert_eq!(fixed.address.to_string(), "203.0.113.7/24");
        assert_eq!(fixed.gateway, Some(Ipv4Addr::new(203, 0, 113, 1)));
    }

    #[test]
    fn mistakes_are_named() {
        let check = |text: &str, expect: &str| {
            let error = toml::from_str::<UplinkConfig>(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("iface = \"eth0\"", "unknown field `iface`");
        check("mode = \"bootp\"", "unknown variant `bootp`");
        check(
            "[mode.static]\naddress = \"203.0.113.7\"",
            "\"203.0.113.7\" is not an IPv4 address with a prefix length",
        );
        check("[mode.static]\ngateway = \"203.0.113.1\"", "missing field `address`");
    }
}
