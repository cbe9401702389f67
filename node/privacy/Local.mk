noinst_LIBRARIES += %D%/libprivacy.a
%C%_libprivacy_a_SOURCES =
