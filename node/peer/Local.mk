noinst_LIBRARIES += %D%/libpeer.a
%C%_libpeer_a_SOURCES =
