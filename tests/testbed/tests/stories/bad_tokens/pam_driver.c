// SPDX-License-Identifier: MIT OR Apache-2.0
// Authenticates one user by one PAM stack and prints the return code, which sshd hides. With "password" it asks the stack to change
// the password instead, which sshd does only for an expired one.
//
//     pam_driver CONFDIR SERVICE USER [password|later=SECONDS] < answers
//
// With "later=" it waits SECONDS between the authentication and the account phase.
//
// Each answer ends with NUL. Each hidden prompt takes the next answer; without an answer the conversation fails. The output has
// "prompt ..." and "text ..." for each message, and "code N" at the end. The prototypes are copied from pam_appl(3), so that no
// development package is needed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pam_message { int msg_style; const char *msg; };
struct pam_response { char *resp; int resp_retcode; };
struct pam_conv {
    int (*conv)(int, const struct pam_message **, struct pam_response **, void *);
    void *appdata_ptr;
};
typedef struct pam_handle pam_handle_t;
int pam_start_confdir(const char *, const char *, const struct pam_conv *, const char *, pam_handle_t **);
int pam_end(pam_handle_t *, int);
int pam_authenticate(pam_handle_t *, int);
int pam_acct_mgmt(pam_handle_t *, int);
int pam_chauthtok(pam_handle_t *, int);
int pam_set_item(pam_handle_t *, int, const void *);

enum { PAM_SUCCESS = 0, PAM_CONV_ERR = 19, PAM_PROMPT_ECHO_OFF = 1, PAM_RHOST = 4 };

static char answers[1 << 20];
static size_t length, position;

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    (void)data;
    struct pam_response *out = calloc((size_t)count, sizeof *out);
    for (int i = 0; i < count; i++) {
        if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF) {
            printf("text %s\n", messages[i]->msg);
            continue;
        }
        printf("prompt %s\n", messages[i]->msg);
        if (position >= length) {
            free(out);
            return PAM_CONV_ERR;
        }
        out[i].resp = strdup(answers + position);
        position += strlen(answers + position) + 1;
    }
    *responses = out;
    return PAM_SUCCESS;
}

int main(int argc, char **argv) {
    int password = argc == 5 && strcmp(argv[4], "password") == 0;
    int later = argc == 5 && strncmp(argv[4], "later=", 6) == 0;
    if (argc != 4 && !password && !later) return 2;
    length = fread(answers, 1, sizeof answers - 1, stdin);
    struct pam_conv conversation = {converse, NULL};
    pam_handle_t *handle = NULL;
    int code = pam_start_confdir(argv[2], argv[3], &conversation, argv[1], &handle);
    if (code != PAM_SUCCESS) return 3;
    pam_set_item(handle, PAM_RHOST, "192.0.2.77");
    code = password ? pam_chauthtok(handle, 0) : pam_authenticate(handle, 0);
    if (code == PAM_SUCCESS && later) sleep((unsigned)atoi(argv[4] + 6));
    if (code == PAM_SUCCESS && !password) code = pam_acct_mgmt(handle, 0);
    pam_end(handle, code);
    printf("code %d\n", code);
    return 0;
}
