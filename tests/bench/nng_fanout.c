/* The rival of `make bench BENCH=query`: a bare fan-out over stock NNG and its TLS to echo processes.
 *
 *     nng_fanout CERT_AND_KEY.pem CA.pem SERVERS REQUEST_BYTES ANSWER_BYTES ROUNDS
 *
 * Forks SERVERS processes, each with a TLS listener on loopback that asks for the client's certificate and answers every
 * request with ANSWER_BYTES; then sends ROUNDS times one request to each at once and waits until all have answered.
 * One connection each, made before. Prints the microseconds of each round, one a line. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/tls/tls.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SERVERS_MAX 16
#define WARM_UP     50

static void check(int rc, const char *what)
{
    if (rc) {
        fprintf(stderr, "nng_fanout: %s: %s\n", what, nng_strerror(rc));
        exit(1);
    }
}

static nng_tls_config *config(nng_tls_mode mode, char **files)
{
    nng_tls_config *tls;
    check(nng_tls_config_alloc(&tls, mode), "configuration");
    check(nng_tls_config_auth_mode(tls, NNG_TLS_AUTH_MODE_REQUIRED), "authentication");
    check(nng_tls_config_cert_key_file(tls, files[1], NULL), files[1]);
    check(nng_tls_config_ca_file(tls, files[2]), files[2]);
    return tls;
}

/* Tells its port through TO, then echoes until its parent ends it. */
static void serve(char **files, size_t answer, int to)
{
    nng_socket socket;
    nng_listener listener;
    int port;
    check(nng_rep0_open(&socket), "socket");
    check(nng_listener_create(&listener, socket, "tls+tcp://127.0.0.1:0"), "listener");
    check(nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, config(NNG_TLS_MODE_SERVER, files)),
          "TLS");
    check(nng_listener_start(listener, 0), "listening");
    check(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), "port");
    if (write(to, &port, sizeof port) != sizeof port) {
        exit(1);
    }
    for (;;) {
        nng_msg *msg;
        if (nng_recvmsg(socket, &msg, 0)) {
            exit(0);
        }
        nng_msg_clear(msg);
        check(nng_msg_realloc(msg, answer), "answer");
        check(nng_sendmsg(socket, msg, 0), "sending");
    }
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void ask_all(const nng_socket *sockets, int servers, size_t bytes)
{
    for (int i = 0; i < servers; i++) {
        nng_msg *msg;
        check(nng_msg_alloc(&msg, bytes), "request");
        check(nng_sendmsg(sockets[i], msg, 0), "sending");
    }
    for (int i = 0; i < servers; i++) {
        nng_msg *msg;
        check(nng_recvmsg(sockets[i], &msg, 0), "receiving");
        nng_msg_free(msg);
    }
}

int main(int argc, char **argv)
{
    nng_socket sockets[SERVERS_MAX];
    int ports[SERVERS_MAX];
    pid_t children[SERVERS_MAX];
    if (argc != 7 || atoi(argv[3]) < 1 || atoi(argv[3]) > SERVERS_MAX) {
        fprintf(stderr, "usage: nng_fanout CERT_AND_KEY.pem CA.pem SERVERS REQUEST_BYTES "
                        "ANSWER_BYTES ROUNDS\n");
        return 2;
    }
    int servers = atoi(argv[3]);
    for (int i = 0; i < servers; i++) { /* before any thread of the library exists */
        int pipes[2];
        if (pipe(pipes) || (children[i] = fork()) < 0) {
            perror("nng_fanout");
            return 1;
        }
        if (children[i] == 0) {
            close(pipes[0]);
            serve(argv, strtoul(argv[5], NULL, 10), pipes[1]);
        }
        close(pipes[1]);
        if (read(pipes[0], &ports[i], sizeof ports[i]) != sizeof ports[i]) {
            fprintf(stderr, "nng_fanout: a server did not start\n");
            return 1;
        }
        close(pipes[0]);
    }
    for (int i = 0; i < servers; i++) {
        nng_dialer dialer;
        char url[64];
        nng_tls_config *tls = config(NNG_TLS_MODE_CLIENT, argv);
        check(nng_tls_config_server_name(tls, "localhost"), "server name");
        snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%d", ports[i]);
        check(nng_req0_open(&sockets[i]), "socket");
        check(nng_dialer_create(&dialer, sockets[i], url), "dialer");
        check(nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, tls), "TLS");
        check(nng_dialer_start(dialer, 0), "dialing");
    }
    long rounds = atol(argv[6]);
    for (long i = -WARM_UP; i < rounds; i++) {
        double start = now_us();
        ask_all(sockets, servers, strtoul(argv[4], NULL, 10));
        if (i >= 0) {
            printf("%.1f\n", now_us() - start);
        }
    }
    for (int i = 0; i < servers; i++) {
        kill(children[i], SIGTERM);
        waitpid(children[i], NULL, 0);
    }
    return 0;
}
