#include "config.h"
#include "node/config/unlock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* One line without echo. Signals wait meanwhile, so that no interrupt leaves the terminal dumb: control-C is an empty line. */
static size_t ask(const char *prompt, char to[CONFIG_UNLOCK_SECRET_MAX + 1])
{
    struct termios before;
    size_t len = 0;
    char c = 0;
    if (tcgetattr(STDIN_FILENO, &before) != 0) {
        return 0;
    }
    struct termios silent = before;
    silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) != 0) {
        return 0;
    }
    fputs(prompt, stderr);
    fflush(stderr);
    while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n' && c != 3) {
        to[len] = c;
        len += len < CONFIG_UNLOCK_SECRET_MAX ? 1 : 0;
    }
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    fputc('\n', stderr);
    len = c == 3 ? 0 : len;
    to[len] = '\0';
    return len;
}

struct span config_unlock_secret(const char *text, bool twice,
                                 char asked[CONFIG_UNLOCK_SECRET_MAX + 1])
{
    const char *given = getenv("CONCORDAT_PASSPHRASE");
    bool pin = strncmp(text, "pkcs11:", 7) == 0;
    asked[0] = '\0';
    if (given && *given) {
        return span_str(given);
    }
    if ((pin && strstr(text, "pin-source=")) || (!pin && strcmp(text, "passphrase") != 0) ||
        !isatty(STDIN_FILENO)) {
        return SPAN_NONE;
    }
    size_t len = ask(pin ? "PIN of the token: " : "passphrase: ", asked);
    if (len > 0 && twice && !pin) {
        char again[CONFIG_UNLOCK_SECRET_MAX + 1];
        (void)ask("the same again: ", again);
        len = strcmp(asked, again) == 0 ? len : 0;
        crypto_wipe(again, sizeof again);
    }
    return len ? span_of(asked, len) : SPAN_NONE;
}
