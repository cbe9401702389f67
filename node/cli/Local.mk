bin_PROGRAMS += concordat
concordat_SOURCES = %D%/main.c
concordat_LDADD = node/model/libmodel.a node/privacy/libprivacy.a node/config/libconfig.a \
	$(STORE_LIBS) $(JANSSON_LIBS) $(YAML_LIBS) -lm
