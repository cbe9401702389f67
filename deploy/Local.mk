# What deployment needs; installed or only distributed.
EXTRA_DIST += deploy/demo deploy/demo-common.sh deploy/demo-ner deploy/packages deploy/demo-files deploy/demo-ner-files deploy/systemd deploy/debian deploy/monitoring

# Ready mappings of FHIR and OMOP, for people to copy; the daemon has them built in (node/config/mappings.c).
mappingsdir = $(pkgdatadir)/mappings
dist_mappings_DATA = $(MAPPINGS)
