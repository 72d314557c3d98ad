################################################################################
#
# orama-agent
#
################################################################################

ORAMA_AGENT_VERSION = 0.1.0
ORAMA_AGENT_SITE = $(BR2_EXTERNAL_ORAMA_PATH)/..
ORAMA_AGENT_SITE_METHOD = local
ORAMA_AGENT_LICENSE = AGPL-3.0-or-later
ORAMA_AGENT_DEPENDENCIES = cryptsetup e2fsprogs
ORAMA_AGENT_CARGO_BUILD_OPTS = --package orama-agent --package orama-init --package orama-gateway --package vault-guardian

# The initramfs packs this binary as /init; see board/oramaos.
define ORAMA_AGENT_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/orama-init \
		$(BINARIES_DIR)/orama-init
endef

define ORAMA_AGENT_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/orama-agent \
		$(TARGET_DIR)/sbin/orama-agent
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/orama-gateway \
		$(TARGET_DIR)/opt/orama/bin/orama-gateway
	$(INSTALL) -D -m 0755 $(@D)/target/$(RUSTC_TARGET_NAME)/release/vault-guardian \
		$(TARGET_DIR)/opt/orama/bin/vault-guardian
	$(INSTALL) -D -m 0644 $(@D)/image/coredns/Corefile $(TARGET_DIR)/etc/orama/coredns/Corefile
	$(INSTALL) -D -m 0644 $(@D)/image/olric/olric.yaml $(TARGET_DIR)/etc/orama/olric/olric.yaml
	mkdir -p $(TARGET_DIR)/etc/orama/policies/sets
	$(INSTALL) -m 0644 $(@D)/policies/*.toml $(TARGET_DIR)/etc/orama/policies/
	$(INSTALL) -m 0644 $(@D)/policies/sets/*.toml $(TARGET_DIR)/etc/orama/policies/sets/
endef

ORAMA_AGENT_INSTALL_IMAGES = YES

$(eval $(cargo-package))
