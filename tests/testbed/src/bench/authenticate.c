// SPDX-License-Identifier: MIT OR Apache-2.0
// Authenticates a user by one PAM stack and answers each hidden prompt with the content of a file. The exit status is 0 if the stack
// returns success.
//
//     authenticate CONFDIR SERVICE USER FILE [memory]
//
// With `memory` it prints the highest memory of the process in KiB (VmHWM).
//
// The prototypes are copied from pam_appl(3), so that no development package is needed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pam_message { int msg_style; const char *msg; };
struct pam_response { char *resp; int resp_retcode; };
struct pam_conv {
    int (*conv)(int, const struct pam_message **, struct pam_response **, void *);
    void *appdata_ptr;
};
typedef struct pam_handle pam_handle_t;
int pam_start_confdir(const char *, const char *, const struct pam_conv *, const char *, pam_handle_t **);
int pam_authenticate(pam_handle_t *, int);
int pam_end(pam_handle_t *, int);

enum { PAM_SUCCESS = 0, PAM_PROMPT_ECHO_OFF = 1 };

static char answer[1 << 16];

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    (void)data;
    *responses = calloc((size_t)count, sizeof **responses);
    for (int i = 0; i < count; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF) (*responses)[i].resp = strdup(answer);
    return PAM_SUCCESS;
}

// Not ru_maxrss of getrusage(2), which begins with that of the process before execve(2).
static int print_memory(void) {
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    if (!status) return 1;
    while (!kib && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &kib);
    fclose(status);
    return kib ? printf("%ld\n", kib) < 0 : 1;
}

int main(int argc, char **argv) {
    if (argc != 5 && argc != 6) return 2;
    FILE *file = fopen(argv[4], "r");
    if (!file) return 3;
    fread(answer, 1, sizeof answer - 1, file);
    fclose(file);
    struct pam_conv conversation = {converse, NULL};
    pam_handle_t *handle = NULL;
    if (pam_start_confdir(argv[2], argv[3], &conversation, argv[1], &handle) != PAM_SUCCESS) return 4;
    int code = pam_authenticate(handle, 0);
    pam_end(handle, code);
    if (argc == 6 && print_memory() != 0) return 5;
    return code == PAM_SUCCESS ? 0 : 1;
}
