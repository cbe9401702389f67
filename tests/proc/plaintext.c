/* For tests only: preloaded into a daemon, it copies what crosses the TLS sessions in clear into files of the folder
 * CONCORDAT_TEST_TAP, so that a test can search it. The product has no such switch: this interposes the functions of both libraries. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int mbedtls_ssl_write(void *ssl, const unsigned char *bytes, size_t len);
int mbedtls_ssl_read(void *ssl, unsigned char *bytes, size_t len);
int SSL_write_ex(void *ssl, const void *bytes, size_t len, size_t *moved);
int SSL_read_ex(void *ssl, void *bytes, size_t len, size_t *moved);

static void keep(const char *way, const unsigned char *bytes, int len)
{
    const char *folder = getenv("CONCORDAT_TEST_TAP");
    char path[4096];
    if (!folder || len <= 0) {
        return;
    }
    snprintf(path, sizeof path, "%s/%ld.%s", folder, (long)getpid(), way);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0) {
        if (write(fd, bytes, (size_t)len) != len) {
            abort();
        }
        close(fd);
    }
}

int mbedtls_ssl_write(void *ssl, const unsigned char *bytes, size_t len)
{
    int (*real)(void *, const unsigned char *, size_t) =
        (int (*)(void *, const unsigned char *, size_t))dlsym(RTLD_NEXT, "mbedtls_ssl_write");
    int done = real(ssl, bytes, len);
    keep("out", bytes, done);
    return done;
}

int mbedtls_ssl_read(void *ssl, unsigned char *bytes, size_t len)
{
    int (*real)(void *, unsigned char *, size_t) =
        (int (*)(void *, unsigned char *, size_t))dlsym(RTLD_NEXT, "mbedtls_ssl_read");
    int done = real(ssl, bytes, len);
    keep("in", bytes, done);
    return done;
}

int SSL_write_ex(void *ssl, const void *bytes, size_t len, size_t *moved)
{
    int (*real)(void *, const void *, size_t, size_t *) =
        (int (*)(void *, const void *, size_t, size_t *))dlsym(RTLD_NEXT, "SSL_write_ex");
    int done = real(ssl, bytes, len, moved);
    keep("out", bytes, done == 1 ? (int)*moved : 0);
    return done;
}

int SSL_read_ex(void *ssl, void *bytes, size_t len, size_t *moved)
{
    int (*real)(void *, void *, size_t, size_t *) =
        (int (*)(void *, void *, size_t, size_t *))dlsym(RTLD_NEXT, "SSL_read_ex");
    int done = real(ssl, bytes, len, moved);
    keep("in", bytes, done == 1 ? (int)*moved : 0);
    return done;
}
