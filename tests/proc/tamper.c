/* For tests only: changes one live row of a node.mdb as somebody with the file and LMDB, but without keys, could do it.
 *
 *     tamper NODE.MDB flip TABLE ROW BYTE     one bit of byte BYTE of the value of the row ROW (from 0; negative: from the end)
 *     tamper NODE.MDB drop TABLE ROW COUNT    removes COUNT rows from ROW on
 *     tamper NODE.MDB swap TABLE ROW OTHER    exchanges the values of two rows
 *     tamper NODE.MDB copy TABLE ROW OTHER    puts the value of ROW into OTHER
 *     tamper NODE.MDB count TABLE 0 0         prints how many rows there are */
#include <lmdb.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_MAX 65536

static void check(int rc, const char *doing)
{
    if (rc) {
        fprintf(stderr, "tamper: %s: %s\n", doing, mdb_strerror(rc));
        exit(2);
    }
}

/* A row's own copy, as LMDB's memory moves when something is written. */
struct row {
    char key[512], value[VALUE_MAX];
    MDB_val key_at, value_at;
};

static void row_get(MDB_txn *txn, MDB_dbi table, long rows, long number, struct row *ret)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    number = number < 0 ? rows + number : number;
    check(mdb_cursor_open(txn, table, &cursor), "cursor");
    check(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), "first row");
    for (long i = 0; i < number; i++) {
        check(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), "row");
    }
    if (key.mv_size > sizeof ret->key || value.mv_size > sizeof ret->value) {
        check(MDB_BAD_VALSIZE, "row");
    }
    memcpy(ret->key, key.mv_data, key.mv_size);
    memcpy(ret->value, value.mv_data, value.mv_size);
    ret->key_at = (MDB_val){key.mv_size, ret->key};
    ret->value_at = (MDB_val){value.mv_size, ret->value};
    mdb_cursor_close(cursor);
}

static void change(MDB_txn *txn, MDB_dbi table, long rows, const char *verb, long number,
                   long other)
{
    static struct row a, b;
    row_get(txn, table, rows, number, &a);
    if (strcmp(verb, "flip") == 0) {
        long at = other < 0 ? (long)a.value_at.mv_size + other : other;
        a.value[(size_t)at % a.value_at.mv_size] ^= 0x20;
        check(mdb_put(txn, table, &a.key_at, &a.value_at, 0), "put");
    } else if (strcmp(verb, "drop") == 0) {
        for (long i = 0; i < other; i++) {
            row_get(txn, table, rows - i, number < 0 ? rows + number : number, &a);
            check(mdb_del(txn, table, &a.key_at, NULL), "del");
        }
    } else if (strcmp(verb, "swap") == 0 || strcmp(verb, "copy") == 0) {
        row_get(txn, table, rows, other, &b);
        check(mdb_put(txn, table, &b.key_at, &a.value_at, 0), "put");
        if (*verb == 's') {
            check(mdb_put(txn, table, &a.key_at, &b.value_at, 0), "put");
        }
    } else {
        check(MDB_NOTFOUND, verb);
    }
}

int main(int argc, char **argv)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi table;
    MDB_stat stat;
    if (argc != 6) {
        fputs("usage: tamper NODE.MDB flip|drop|swap|copy|count TABLE ROW NUMBER\n", stderr);
        return 2;
    }
    check(mdb_env_create(&env), "create");
    check(mdb_env_set_maxdbs(env, 64), "maxdbs");
    check(mdb_env_set_mapsize(env, (size_t)1 << 28), "mapsize");
    check(mdb_env_open(env, argv[1], MDB_NOSUBDIR | MDB_NOLOCK, 0600), "open");
    check(mdb_txn_begin(env, NULL, 0, &txn), "begin");
    check(mdb_dbi_open(txn, argv[3], 0, &table), argv[3]);
    check(mdb_stat(txn, table, &stat), "stat");
    if (strcmp(argv[2], "count") == 0) {
        printf("%zu\n", stat.ms_entries);
        mdb_txn_abort(txn);
    } else {
        change(txn, table, (long)stat.ms_entries, argv[2], atol(argv[4]), atol(argv[5]));
        check(mdb_txn_commit(txn), "commit");
    }
    mdb_env_close(env);
    return 0;
}
