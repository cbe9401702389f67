# In the order of the inner direction: a folder may include only what stands above it here.
include node/config/Local.mk
include node/source/Local.mk
include node/privacy/Local.mk
include node/model/Local.mk
include node/peer/Local.mk
include node/query/Local.mk
include node/train/Local.mk
include node/control/Local.mk
include node/console/Local.mk
include node/daemon/Local.mk
include node/cli/Local.mk
EXTRA_DIST += %D%/README.md %D%/privacy/README.md %D%/query/README.md %D%/control/README.md %D%/cli/README.md
