# Seeded simulations of the pure cores. `make check` runs a fixed set of seeds; `make sim SEEDS=n NODES=n LOSS=percent` more.
SIMULATIONS = %D%/sim_gossip %D%/sim_lease %D%/sim_round
check_PROGRAMS += %D%/sim_gossip
TESTS += %D%/sim_gossip
%C%_sim_gossip_SOURCES = %D%/sim_gossip.c tests/lib/fake_hash.h tests/lib/seed.h
%C%_sim_gossip_LDADD = $(PROTO_LIBS)
check_PROGRAMS += %D%/sim_lease
TESTS += %D%/sim_lease
%C%_sim_lease_SOURCES = %D%/sim_lease.c tests/lib/seed.h
%C%_sim_lease_LDADD = $(PROTO_LIBS)
check_PROGRAMS += %D%/sim_round
TESTS += %D%/sim_round
%C%_sim_round_SOURCES = %D%/sim_round.c tests/lib/seed.h
%C%_sim_round_LDADD = $(PROTO_LIBS)

.PHONY: sim
sim: $(SIMULATIONS)
	set -e; for program in $(SIMULATIONS); do \
		SEEDS="$(SEEDS)" NODES="$(NODES)" LOSS="$(LOSS)" SEED="$${SEED:-1}" ./$$program; \
	done
