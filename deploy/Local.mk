# What deployment needs; installed or only distributed.
EXTRA_DIST += deploy/demo deploy/packages deploy/demo-files deploy/systemd
