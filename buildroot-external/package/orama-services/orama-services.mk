################################################################################
#
# orama-services
#
################################################################################

ORAMA_SERVICES_VERSION = 0.1.0
ORAMA_SERVICES_SITE = $(BR2_EXTERNAL_ORAMA_PATH)/../services
ORAMA_SERVICES_SITE_METHOD = local
ORAMA_SERVICES_LICENSE = MIT, Apache-2.0
ORAMA_SERVICES_DEPENDENCIES = host-go

# $(1): folder below services/, $(2): program, $(3): package, $(4): tags, $(5): cgo, $(6): more linker flags.
# The same lines as in xtask/src/image/services.rs; modules come from the Go proxy, checked against go.sum.
define ORAMA_SERVICES_BUILD_ONE
	cd $(@D)/$(1) && $(HOST_GO_TARGET_ENV) CGO_ENABLED=$(5) GOFLAGS=-mod=readonly GOPROXY=https://proxy.golang.org \
		$(GO_BIN) build -trimpath -buildvcs=false -tags $(4) -ldflags "-s -w -buildid= $(6)" -o $(@D)/bin/$(2) $(3)
endef

define ORAMA_SERVICES_BUILD_CMDS
	$(call ORAMA_SERVICES_BUILD_ONE,rqlite,rqlited,github.com/rqlite/rqlite/v8/cmd/rqlited,osusergo$(comma)netgo$(comma)sqlite_omit_load_extension,1,-X github.com/rqlite/rqlite/v8/cmd.Version=v8.36.0 -extldflags -static)
	$(call ORAMA_SERVICES_BUILD_ONE,olric,olric-server,github.com/olric-data/olric/cmd/olric-server,osusergo$(comma)netgo,0)
	$(call ORAMA_SERVICES_BUILD_ONE,ipfs,ipfs,github.com/ipfs/kubo/cmd/ipfs,osusergo$(comma)netgo$(comma)nofuse,0)
	$(call ORAMA_SERVICES_BUILD_ONE,ipfs-cluster,ipfs-cluster-service,github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-service,osusergo$(comma)netgo,0)
	$(call ORAMA_SERVICES_BUILD_ONE,coredns,coredns,.,osusergo$(comma)netgo,0)
endef

define ORAMA_SERVICES_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/opt/orama/bin
	$(INSTALL) -m 0755 $(@D)/bin/* $(TARGET_DIR)/opt/orama/bin/
endef

$(eval $(generic-package))
