/* What the files of this folder share; nobody else includes it.
 *
 * Threads and what belongs to them:
 *   loop       links, calls, requests, the gossip core: all state below unless it says otherwise
 *   NNG        callbacks of aio, sp_done and sp_on_pipe: they only copy, put an event into the queue and
 *              wake the loop, or put a request that the limits allow into the pool `handlers`
 *   handlers   run peer_handler functions          (pool `handlers`)
 *   records    checks signatures, writes records   (pool `records`, one thread, so that order is kept)
 *   dialers    block in sp_dial                    (pool `dialers`)
 * From NNG or a pool to the loop there is only peer_post; what all of them read of a member that asks stands in `guests`. */
#ifndef CONCORDAT_NODE_PEER_INTERNAL_H
#define CONCORDAT_NODE_PEER_INTERNAL_H

#include <nng/nng.h>
#include <pthread.h>

#include "node/peer/directory.h"
#include "node/peer/frame.h"
#include "node/peer/peer.h"
#include "node/peer/sp.h"
#include "proto/gossip.h"

#define LINK_SLOTS       32   /* calls under way on one link; the other side allows 40 */
#define LINK_QUEUE_MAX   2048 /* calls that wait for a slot or for the link */
#define POOL_THREADS_MAX 32
#define PIPES_MAX        4096
#define PIPES_PER_NODE   6
#define OUTBOX_MAX       ((size_t)2 << 20) /* gossip for one link; more is dropped and repaired later */
#define GOSSIP_BODY_MAX  ((size_t)512 << 10)
#define DIAL_LIMIT_MS    10000
#define HELLO_LIMIT_MS   5000
#define HELLO_SIZE       (2 + 8 + 16 + 16 + 64)
#define HELLO_DOMAIN     "concordat1-hello"

/* Something for the loop to do. Embedded in larger structs; `run` may free it. */
struct peer_event {
    struct peer_event *next;
    void (*run)(struct peer *peer, struct peer_event *event);
};

struct pool_job {
    struct pool_job *next;
    void (*run)(struct pool_job *job);
};

/* Threads come as they are needed and stay: a thread that waits for a disk costs its stack. */
struct pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct pool_job *head, **tail;
    size_t queued, idle;
    pthread_t threads[POOL_THREADS_MAX];
    size_t count, most;
    bool ready;
    bool stopping;
};
/* At least one thread is there when it returns; at most MOST will be. */
MUST_CHECK enum err pool_start(struct pool *pool, size_t most);
void pool_put(struct pool *pool, struct pool_job *job);
/* Runs what is queued, then joins. */
void pool_stop(struct pool *pool);

/* A call on its way. Made by call.c; finished exactly once, on the loop. */
struct call {
    struct call *next;
    struct peer *peer;
    uint32_t type;
    struct span body;
    uint64_t deadline_ms; /* loop time */
    uint64_t started_ms;
    uint64_t again_ms; /* not before; after the other side was too busy to look */
    unsigned busy;
    int slot; /* -1: waits */
    struct link *link;
    bool done;
    /* What is left in REPLY its caller frees. */
    void (*finish)(struct call *call, enum err status, struct peer_reply *reply);
    void *user;
};

struct slot {
    struct peer_event event;
    struct link *link;
    struct sp_ctx *ctx; /* NULL until it is needed */
    struct call *call;  /* NULL while busy: its caller gave up */
    bool busy;
    uint64_t until_ms; /* the call's deadline */
    int rv;            /* how the exchange ended, and what came */
    struct sp_message *msg;
};

/* The second version of a disputed key. The store keeps the first one that it saw lose; the set keeps the best loser. */
struct second {
    uint8_t rid[16];
    struct buf record;
};
#define SECONDS_MAX 64

enum link_state {
    LINK_DOWN,
    LINK_DIALLING,
    LINK_GREETING, /* connected, HELLO under way */
    LINK_UP,
};

/* Our way to one member. Its index is the member's in the directory and the link's number in the gossip core. */
#define PEER_URL_SIZE 192

struct link {
    struct peer *peer;
    size_t index;
    uint8_t id[16];
    char hex[33];
    enum link_state state;
    bool revoked;
    struct sp_socket *socket; /* REQ; NULL until it is needed */
    bool has_listener;
    uint16_t listener_port;
    uint32_t pipe;       /* 0: none */
    uint32_t hello_pipe; /* the one that the HELLO under way, or the last one, was for */
    uint8_t exporter[32];
    unsigned failures;
    uint64_t retry_ms; /* 0: nothing planned */
    uint64_t banned_until_ms;
    struct slot slots[LINK_SLOTS + 1]; /* the last one is HELLO's */
    struct call *queue, **queue_tail;
    size_t queued;
    struct call hello;
    uint8_t hello_body[HELLO_SIZE];
    /* dialling, forward (index 0) and, when we only dial out, our REP socket to its REQ listener (1) */
    struct dial {
        struct peer_event event;
        struct pool_job job;
        struct link *link;
        bool reverse;
        bool running;
        char url[PEER_URL_SIZE];
        int result;
    } dials[2];
    uint32_t reverse_pipe;
    uint64_t reverse_retry_ms;
    unsigned reverse_failures;
    struct call reverse_call;
    bool reverse_asking;
    /* gossip */
    struct buf outbox;
    struct buf sending;
    struct call gossip_call;
    bool gossip_busy;
};

/* A member as one who asks us; by index in the directory. */
struct guest {
    bool welcome;             /* it has a link and is not revoked */
    uint64_t banned_until_ms; /* the link's */
    uint64_t tokens_milli, tokens_ms;
    uint32_t open_requests;
};

struct peer_request {
    struct peer_event event;
    struct pool_job job;
    struct peer *peer;
    struct sp_ctx *ctx; /* NULL: a call to ourselves */
    int rv;             /* how receiving or replying ended */
    struct sp_message *msg;
    bool counted;
    size_t link;
    uint8_t from[16];
    uint8_t exporter[32];
    struct peer_frame_request frame;
    uint64_t deadline_at_ms;         /* uv_hrtime based */
    struct peer_request *next_later; /* in peer->later */
    uint64_t reply_at_ms;
    enum err status;           /* of a reply that waits for its time, or of a call to ourselves */
    struct buf reply;          /* the same */
    void (*over)(void *owner); /* what is lent for the reply may go; NULL: nothing is */
    void *owner;
    struct call *local;
};

struct pipe_entry {
    uint32_t id; /* 0: free */
    bool rep;    /* on our REP socket */
    bool greeted;
    bool outgoing; /* our reverse dialer made it */
    uint8_t node[16];
    uint8_t exporter[32];
    int64_t certificate_until;
    uint64_t number; /* order of arrival */
    uint64_t since_ms;
};

struct handler {
    peer_handler *run;
    unsigned flags;
    void *user;
};

struct gossip_job {
    struct pool_job job;
    struct peer_event event;
    struct peer *peer;
    uint32_t number;
    bool store;
    struct buf record;
    enum proto_gossip_verdict verdict;
    bool ok;
    struct peer_directory_change change;
};

struct peer {
    uv_loop_t *loop;
    struct store *store;
    const struct crypto_identity *identity;
    const struct crypto_identity *tls_key;
    uint8_t federation_id[16];
    uint8_t node_id[16];
    char federation[33];
    char listen[128];
    char (*seeds)[PEER_URL_SIZE];
    size_t seed_count;
    uint16_t reverse_from, reverse_to;
    struct peer_limits limits;
    void (*log)(void *user, enum peer_log level, const char *text);
    void *log_user;
    struct buf root, certificate;
    struct buf charter; /* the record of the charter file */
    struct peer_directory *directory;
    struct crypto_channel_profile
        *profiles[8]; /* the newest last; older ones live on in their connections */
    size_t profile_count;

    uv_poll_t wake;
    int wake_fd; /* an event waits; written by peer_post, whose end is peer_free's */
    uv_timer_t tick;
    uv_timer_t gossip_timer;
    int handles; /* open uv handles */
    pthread_mutex_t lock;
    struct peer_event *events, **events_tail;

    struct pool handlers, records, dialers;
    struct sp_socket *rep;
    bool dials_only;
    struct sp_listener *listener; /* NULL: none, or closed */
    uint16_t port;
    struct peer_request requests[PEER_CONTEXTS];
    struct handler table[PEER_MSG_COUNT];
    struct link *links[PEER_MEMBERS_MAX];
    pthread_mutex_t guests_lock; /* of the next three */
    struct guest guests[PEER_MEMBERS_MAX];
    bool closed_to_guests; /* we stop */
    size_t open_requests;
    struct peer_request *later; /* replies that wait, the next one first */

    pthread_mutex_t pipes_lock;
    struct pipe_entry pipes[PIPES_MAX];
    size_t pipes_used; /* entries below this may be in use */
    uint64_t pipe_number;

    struct proto_gossip *gossip;
    struct proto_gossip_actions *actions;
    struct gossip_job *jobs[PROTO_GOSSIP_JOBS];
    struct second seconds[SECONDS_MAX]; /* a ring */
    size_t second_next;
    void (*on_record)(void *user, struct span record, bool forked);
    void *on_record_user;
    pthread_mutex_t publish_lock;
    uint64_t hlc;
    uint64_t root_count; /* under lock */
    uint8_t root_print[16];

    bool started, stopping, torn_down;
    uint64_t stop_at_ms;
    pthread_t stopper;
    struct peer_event stopped_event;
    void (*stop_done)(void *user);
    void *stop_user;
    struct peer_counters counters; /* under lock */
};

void peer_say(struct peer *peer, enum peer_log level, const char *format, ...) PRINTF_LIKE(3, 4);
void peer_post(struct peer *peer, struct peer_event *event);
uint64_t peer_now_ms(void); /* monotonic, any thread */
uint64_t peer_wall_ms(void);
uint64_t peer_random_below(uint64_t n);
void peer_count(struct peer *peer, uint64_t *counter, uint64_t by);
/* LEN bytes of this folder's own messages, or of heads, go to a member; handlers list what they send. */
void peer_egress(struct peer *peer, size_t link, uint32_t type, size_t len);
/* Arms the tick for AT at the latest. */
void peer_tick_at(struct peer *peer, uint64_t at_ms);

/* pipes: any thread */
bool pipe_add(struct peer *peer, const struct sp_identity *who, bool rep);
bool pipe_get(struct peer *peer, uint32_t id, struct pipe_entry *ret);
bool pipe_remove(struct peer *peer, uint32_t id, struct pipe_entry *ret);
void pipe_greeted(struct peer *peer, uint32_t id);
/* Closes pipes of our REP socket that have not greeted within HELLO_LIMIT_MS. */
void pipe_close_silent(struct peer *peer, uint64_t now_ms, uint64_t *next_ms);
/* Closes all pipes of NODE; on the REP side only, and only those older than pipe `than`, when that is not 0. */
void pipe_close_all(struct peer *peer, const uint8_t node[16], uint32_t than);

/* link.c: loop */
struct link *link_get(struct peer *peer,
                      size_t index); /* makes it; NULL: no memory, or ourselves */
void link_member_changed(struct peer *peer, const struct peer_directory_change *change);
/* The member has just dialled us, so it is there: try to reach it now instead of at the end of a long pause. */
void link_awake(struct link *link);
void link_tick(struct peer *peer, uint64_t now_ms, uint64_t *next_ms);
void link_call(struct link *link, struct call *call);
void link_give_up(struct call *call, enum err status);
void link_ban(struct link *link, uint64_t ms);
void link_fail_calls(struct link *link, enum err status);
void link_reverse_wanted(struct link *link);
void link_reverse_down(struct link *link, uint32_t pipe);
/* Opens the REQ listener for a member that only dials out; 0: failed. */
uint16_t link_listen(struct link *link);
void link_stop(struct link *link); /* stopper thread */
void link_free(struct link *link);

/* hello: pure */
void hello_make(struct peer *peer, const uint8_t to[16], const uint8_t exporter[32], bool reply,
                uint8_t out[HELLO_SIZE]);
MUST_CHECK enum err hello_check(struct peer *peer, const uint8_t from[16],
                                const uint8_t exporter[32], bool reply, struct span body);

/* server.c */
MUST_CHECK enum err server_start(struct peer *peer, struct err_info *reterr);
/* Stopper thread: nothing runs on the REP socket after it. */
void server_stop(struct peer *peer);
void server_free(struct peer *peer);
MUST_CHECK enum err server_local(struct peer *peer, struct call *call);
void server_dispatch(struct peer_request *request);
/* Sends the replies whose time has come. */
void server_tick(struct peer *peer, uint64_t now_ms, uint64_t *next_ms);
/* They go without what they hold, since their time will not come. */
void server_drop_later(struct peer *peer);

/* gossip.c: loop */
MUST_CHECK enum err gossip_open(struct peer *peer, struct err_info *reterr);
void gossip_close(struct peer *peer);
void gossip_link(struct link *link, bool up);
void gossip_request(struct peer_request *request);
void gossip_flush(struct link *link);
void gossip_timer_fired(uv_timer_t *timer);
/* A record that others signed, checked like one from the network, stored, and sent to all links. Any thread. */
MUST_CHECK enum err peer_publish_other(struct peer *peer, struct span record,
                                       struct err_info *reterr);
/* The newest one: what new connections use. Any thread. */
const struct crypto_channel_profile *peer_profile(struct peer *peer);

/* Of "tls+tcp://HOST:PORT"; false when it has another form. */
bool peer_url_split(const char *url, char host[128], uint16_t *ret_port);

#endif
