/* The shipped disease hierarchy as a fixture: setup and teardown of a group of cmocka tests. One file of a program includes it. */
#ifndef CONCORDAT_TESTS_LIB_ONTOLOGY_H
#define CONCORDAT_TESTS_LIB_ONTOLOGY_H

#include "proto/ontology.h"
#include "tests/lib/fake_hash.h"

static struct proto_ontology ontology;

static int ontology_setup(void **state)
{
    (void)state;
    return proto_ontology_parse(proto_ontology_shipped(), &fake_hash, &ontology, NULL) != E_OK;
}

static int ontology_teardown(void **state)
{
    (void)state;
    proto_ontology_fini(&ontology);
    return 0;
}

#endif
