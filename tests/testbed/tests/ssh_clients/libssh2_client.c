// SPDX-License-Identifier: MIT OR Apache-2.0
// Logs in by keyboard-interactive with libssh2: libssh2_client HOST USER FILE COMMAND. Each prompt is answered with the content of FILE.
// Standard error gets what the server says ("text ...") and asks ("prompt ..."). Status 1: refused. It does not check the host key.
#include <libssh2.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static char answer[262144];

static LIBSSH2_USERAUTH_KBDINT_RESPONSE_FUNC(respond) {
    (void)name, (void)name_len, (void)abstract;
    if (instruction_len > 0) fprintf(stderr, "text %.*s\n", (int)instruction_len, (const char *)instruction);
    for (int i = 0; i < num_prompts; i++) {
        fprintf(stderr, "prompt %.*s\n", (int)prompts[i].length, (const char *)prompts[i].text);
        // The library frees it.
        responses[i].text = strdup(answer);
        responses[i].length = (unsigned int)strlen(answer);
    }
}

static void die(LIBSSH2_SESSION *session, const char *what) {
    char *message = "no message";
    if (session) libssh2_session_last_error(session, &message, NULL, 0);
    fprintf(stderr, "%s: %s\n", what, message);
    _Exit(1);
}

static int connect_to(const char *host) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    if (getaddrinfo(host, "22", &hints, &found) != 0) die(NULL, "getaddrinfo");
    int connection = socket(found->ai_family, SOCK_STREAM, 0);
    if (connection < 0 || connect(connection, found->ai_addr, found->ai_addrlen) != 0) die(NULL, "connect");
    return connection;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    FILE *file = fopen(argv[3], "r");
    if (!file) return 2;
    answer[fread(answer, 1, sizeof answer - 1, file)] = 0;
    libssh2_init(0);
    LIBSSH2_SESSION *session = libssh2_session_init();
    if (!session) return 2;
    if (libssh2_session_handshake(session, connect_to(argv[1])) != 0) die(session, "handshake");
    if (libssh2_userauth_keyboard_interactive(session, argv[2], respond) != 0) die(session, "refused");
    LIBSSH2_CHANNEL *channel = libssh2_channel_open_session(session);
    if (!channel || libssh2_channel_exec(channel, argv[4]) != 0) die(session, "exec");
    char buffer[4096];
    ssize_t count;
    while ((count = libssh2_channel_read(channel, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, (size_t)count, stdout);
    libssh2_channel_free(channel);
    libssh2_session_disconnect(session, "done");
    return 0;
}
