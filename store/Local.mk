noinst_LIBRARIES += %D%/libstore.a
%C%_libstore_a_SOURCES = 
EXTRA_DIST += %D%/README.md
