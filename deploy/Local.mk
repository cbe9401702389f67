# What deployment needs; installed or only distributed.
EXTRA_DIST += deploy/demo deploy/demo-common.sh deploy/demo-ner deploy/packages deploy/demo-files deploy/demo-ner-files deploy/systemd deploy/debian deploy/monitoring

# For writers of external trainers: doc/trainer.md.
trainerdir = $(pkgdatadir)/trainer
dist_trainer_DATA = deploy/trainer/concordat_trainer.py deploy/trainer/plain.py deploy/trainer/torch_mlp.py

# Ready mappings of FHIR and OMOP, for people to copy; the daemon has them built in (node/config/mappings.c).
mappingsdir = $(pkgdatadir)/mappings
dist_mappings_DATA = $(MAPPINGS)
