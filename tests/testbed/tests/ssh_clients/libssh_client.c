// SPDX-License-Identifier: MIT OR Apache-2.0
// Logs in by keyboard-interactive with libssh: libssh_client HOST USER FILE COMMAND. Each prompt is answered with the content of FILE.
// Standard error gets what the server says ("text ...") and asks ("prompt ..."). Status 1: refused.
#include <libssh/libssh.h>
#include <stdio.h>
#include <string.h>

static char answer[262144];

static void die(ssh_session session, const char *what) {
    fprintf(stderr, "%s: %s\n", what, ssh_get_error(session));
    _Exit(1);
}

static int authenticate(ssh_session session) {
    int result = ssh_userauth_kbdint(session, NULL, NULL);
    while (result == SSH_AUTH_INFO) {
        const char *instruction = ssh_userauth_kbdint_getinstruction(session);
        if (instruction && *instruction) fprintf(stderr, "text %s\n", instruction);
        int count = ssh_userauth_kbdint_getnprompts(session);
        for (int i = 0; i < count; i++) {
            char echo;
            fprintf(stderr, "prompt %s\n", ssh_userauth_kbdint_getprompt(session, i, &echo));
            if (ssh_userauth_kbdint_setanswer(session, i, answer) < 0) die(session, "setanswer");
        }
        result = ssh_userauth_kbdint(session, NULL, NULL);
    }
    return result;
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    FILE *file = fopen(argv[3], "r");
    if (!file) return 2;
    answer[fread(answer, 1, sizeof answer - 1, file)] = 0;
    ssh_session session = ssh_new();
    if (!session) return 2;
    ssh_options_set(session, SSH_OPTIONS_HOST, argv[1]);
    ssh_options_set(session, SSH_OPTIONS_USER, argv[2]);
    if (ssh_connect(session) != SSH_OK) die(session, "connect");
    if (ssh_session_is_known_server(session) != SSH_KNOWN_HOSTS_OK) die(session, "host key");
    if (authenticate(session) != SSH_AUTH_SUCCESS) die(session, "refused");
    ssh_channel channel = ssh_channel_new(session);
    if (!channel || ssh_channel_open_session(channel) != SSH_OK) die(session, "channel");
    if (ssh_channel_request_exec(channel, argv[4]) != SSH_OK) die(session, "exec");
    char buffer[4096];
    int count;
    while ((count = ssh_channel_read(channel, buffer, sizeof buffer, 0)) > 0) fwrite(buffer, 1, (size_t)count, stdout);
    ssh_channel_close(channel);
    ssh_disconnect(session);
    return 0;
}
