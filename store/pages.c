#include "config.h"
#include "store/pages.h"

#include "proto/alloc.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE         4096u
#define HEADER       16u /* of a page */
#define NODE         8u  /* of a node */
#define KEY_MAX      511u
#define DEPTH_MAX    32u /* LMDB's own */
#define NO_PAGE      UINT64_MAX
#define MAGIC        0xBEEFC0DEu
#define DATA_VERSION 1u

enum {
    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_OVERFLOW = 4,
    PAGE_META = 8,
    NODE_BIG = 1, /* the value has pages of its own */
    NODE_SUB = 2, /* the value is a tree */
};

/* MDB_db */
struct tree {
    uint32_t pad;
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

/* MDB_meta */
struct meta {
    uint32_t magic;
    uint32_t version;
    uint64_t address, map_size;
    struct tree trees[2]; /* free pages, main */
    uint64_t last_page, txn;
};

_Static_assert(sizeof(struct tree) == 48 && sizeof(struct meta) == 136, "as LMDB has them");

struct walk {
    int fd;
    uint64_t pages; /* of the file, as far as the meta page says that they are used */
    uint64_t left;  /* that may still be visited: a circle ends here */
    uint64_t at;
    uint8_t *page; /* one for each level */
};

static enum err read_page(struct walk *walk, uint64_t number, uint8_t *to)
{
    walk->at = number;
    if (number >= walk->pages || walk->left == 0) {
        return E_CORRUPT;
    }
    walk->left--;
    for (size_t done = 0; done < PAGE;) {
        ssize_t got =
            pread(walk->fd, to + done, PAGE - done, (off_t)(number * PAGE + (uint64_t)done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? E_IO : E_CORRUPT;
        }
        done += (size_t)got;
    }
    return E_OK;
}

static uint16_t u16_at(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t u32_at(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t u64_at(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* A node's first word has its low half first, whatever the byte order. */
static uint32_t node_word(const uint8_t *node)
{
    return u16_at(node) | (uint32_t)u16_at(node + 2) << 16;
}

static enum err check_big(struct walk *walk, uint64_t first, uint32_t size)
{
    uint8_t head[PAGE];
    enum err err = read_page(walk, first, head);
    if (err) {
        return err;
    }
    uint64_t pages = u32_at(head + 12);
    bool good = u64_at(head) == first && u16_at(head + 10) == PAGE_OVERFLOW && pages > 0 &&
                pages <= walk->pages - first && (uint64_t)size + HEADER <= pages * PAGE;
    walk->left -= good && pages - 1 <= walk->left ? pages - 1 : 0;
    return good ? E_OK : E_CORRUPT;
}

static enum err check_tree(struct walk *walk, const struct tree *tree, unsigned level);
static enum err check_page(struct walk *walk, uint64_t number, unsigned level, unsigned depth);

/* The node at NODE, which ends before the page does. */
static enum err check_leaf_node(struct walk *walk, const uint8_t *node, size_t room, unsigned level)
{
    uint32_t size = node_word(node);
    uint16_t flags = u16_at(node + 4);
    size_t key = u16_at(node + 6);
    size_t held = flags & NODE_BIG ? sizeof(uint64_t) : size;
    if (key > KEY_MAX || flags & ~(NODE_BIG | NODE_SUB) || key + held > room - NODE) {
        return E_CORRUPT;
    }
    const uint8_t *data = node + NODE + key;
    if (flags & NODE_BIG) {
        return flags & NODE_SUB ? E_CORRUPT : check_big(walk, u64_at(data), size);
    }
    if (flags & NODE_SUB) {
        struct tree tree;
        if (size != sizeof tree) {
            return E_CORRUPT;
        }
        memcpy(&tree, data, sizeof tree);
        return check_tree(walk, &tree, level + 1);
    }
    return E_OK;
}

static enum err check_branch_node(struct walk *walk, const uint8_t *node, size_t room,
                                  unsigned level, unsigned depth)
{
    uint64_t child = node_word(node) | (uint64_t)u16_at(node + 4) << 32;
    return NODE + (size_t)u16_at(node + 6) > room || u16_at(node + 6) > KEY_MAX
               ? E_CORRUPT
               : check_page(walk, child, level + 1, depth - 1);
}

/* DEPTH levels from here to the leaves. LEVEL counts those of all trees that lie in each other, and is bounded like DEPTH. */
static enum err check_page(struct walk *walk, uint64_t number, unsigned level, unsigned depth)
{
    if (level >= 2 * DEPTH_MAX || depth == 0) {
        return E_CORRUPT;
    }
    uint8_t *page = walk->page + (size_t)level * PAGE;
    enum err err = read_page(walk, number, page);
    if (err) {
        return err;
    }
    uint16_t flags = u16_at(page + 10);
    size_t lower = u16_at(page + 12);
    size_t upper = u16_at(page + 14);
    bool leaf = depth == 1;
    if (u64_at(page) != number || number < 2 || flags != (leaf ? PAGE_LEAF : PAGE_BRANCH) ||
        lower < HEADER || lower % 2 || lower > upper || upper > PAGE) {
        return E_CORRUPT;
    }
    for (size_t i = 0; i < (lower - HEADER) / 2 && !err; i++) {
        size_t at = u16_at(page + HEADER + 2 * i);
        if (at < upper || at + NODE > PAGE) {
            err = E_CORRUPT;
        } else {
            err = leaf ? check_leaf_node(walk, page + at, PAGE - at, level)
                       : check_branch_node(walk, page + at, PAGE - at, level, depth);
        }
        walk->at = err ? walk->at : number;
    }
    return err;
}

static enum err check_tree(struct walk *walk, const struct tree *tree, unsigned level)
{
    if (tree->root == NO_PAGE) {
        return tree->depth == 0 && tree->entries == 0 ? E_OK : E_CORRUPT;
    }
    return tree->depth > DEPTH_MAX ? E_CORRUPT : check_page(walk, tree->root, level, tree->depth);
}

/* The newer of the two meta pages. *RET_OTHER: the file is not of the kind that this code reads. */
static enum err find_meta(struct walk *walk, struct meta *ret, bool *ret_other)
{
    bool found = false;
    *ret_other = false;
    for (uint64_t i = 0; i < 2; i++) {
        struct meta meta;
        enum err err = read_page(walk, i, walk->page);
        if (err) {
            return err;
        }
        memcpy(&meta, walk->page + HEADER, sizeof meta);
        if (!(u16_at(walk->page + 10) & PAGE_META) || meta.magic != MAGIC) {
            return E_CORRUPT;
        }
        if (meta.version != DATA_VERSION || (i == 0 && meta.trees[0].pad != PAGE)) {
            *ret_other = true;
            return E_OK;
        }
        if (!found || meta.txn > ret->txn) {
            *ret = meta;
            found = true;
        }
    }
    return E_OK;
}

static enum err walk_all(struct walk *walk)
{
    struct meta meta = {0};
    bool other;
    uint64_t held = walk->pages;
    enum err err = find_meta(walk, &meta, &other);
    if (err || other) {
        return err;
    }
    walk->at = 0;
    if (meta.last_page >= held) {
        return E_CORRUPT;
    }
    walk->pages = meta.last_page + 1;
    walk->left = walk->pages;
    err = check_tree(walk, &meta.trees[0], 0);
    return err ? err : check_tree(walk, &meta.trees[1], 0);
}

enum err store_pages_check(int fd, uint64_t *ret_page)
{
    struct stat file;
    *ret_page = 0;
    if (fstat(fd, &file)) {
        return E_IO;
    }
    struct walk walk = {.fd = fd, .pages = (uint64_t)file.st_size / PAGE};
    walk.left = walk.pages;
    if (sizeof(size_t) != 8) {
        return E_OK;
    }
    walk.page = proto_alloc(2 * DEPTH_MAX, PAGE);
    enum err err = walk.page ? walk_all(&walk) : E_NO_MEMORY;
    proto_free(walk.page);
    *ret_page = walk.at;
    return err;
}
