// SPDX-License-Identifier: MIT OR Apache-2.0
// A PAM application without sshd: it prints the return codes, which sshd hides.
//
//     pam_driver CONFDIR SERVICE USER [OPTION...] < answers
//
// It authenticates the user by one PAM stack, and asks for the account. Options:
//
//     password       changes the password instead, which sshd does only for an expired one
//     later=SECONDS  waits between the authentication and the account phase
//     account        only asks for the account, as sshd does for a login with a key; with tries= after these
//     becomes=NAME   changes the user between the authentication and the account phase, as another module can
//     ssh            sets SSH_CONNECTION, as sshd does, with this remote host
//     tries=N        only authenticates, so many times, and prints "result N" for each
//     rhost=HOST     sets this remote host
//     local          sets no remote host, as su and sudo do
//     hooks          calls all six hooks, whatever each returns, and compares the state of the process after each one
//     spoil          changes the state of the process itself, to show that the comparison sees it
//     scan           searches the memory of the process for the answers after pam_end
//     keep           keeps a copy of each answer, to show that the search finds it
//
// Each answer ends with NUL. Each hidden prompt takes the next answer; without an answer the conversation fails. The output has
// "prompt ..." and "text ..." for each message, and "code N" at the end. The prototypes are copied from pam_appl(3), so that no
// development package is needed.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_scan.h"
#include "process_state.h"

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
int pam_setcred(pam_handle_t *, int);
int pam_open_session(pam_handle_t *, int);
int pam_close_session(pam_handle_t *, int);
int pam_chauthtok(pam_handle_t *, int);
int pam_set_item(pam_handle_t *, int, const void *);
int pam_putenv(pam_handle_t *, const char *);

enum { PAM_SUCCESS = 0, PAM_CONV_ERR = 19, PAM_PROMPT_ECHO_OFF = 1, PAM_USER = 2, PAM_RHOST = 4, PAM_ESTABLISH_CRED = 2 };

static const struct hook {
    const char *name;
    int (*call)(pam_handle_t *, int);
    int flags;
} hooks[] = {
    {"authenticate", pam_authenticate, 0},
    {"account", pam_acct_mgmt, 0},
    {"credentials", pam_setcred, PAM_ESTABLISH_CRED},
    {"session", pam_open_session, 0},
    {"close", pam_close_session, 0},
    {"password", pam_chauthtok, 0},
};

static int keep;

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data) {
    (void)data;
    struct pam_response *out = calloc((size_t)count, sizeof *out);
    if (!out) return PAM_CONV_ERR;
    for (int i = 0; i < count; i++) {
        if (messages[i]->msg_style != PAM_PROMPT_ECHO_OFF) {
            printf("text %s\n", messages[i]->msg);
            continue;
        }
        printf("prompt %s\n", messages[i]->msg);
        out[i].resp = next_answer();
        if (!out[i].resp) {
            free(out);
            return PAM_CONV_ERR;
        }
        // Nothing frees it.
        if (keep && !strdup(out[i].resp)) return PAM_CONV_ERR;
    }
    *responses = out;
    return PAM_SUCCESS;
}

// Returns the code of the first hook: whether the login is accepted.
static int call_hooks(pam_handle_t *handle) {
    int first = PAM_SUCCESS;
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++) {
        int code = hooks[i].call(handle, hooks[i].flags);
        printf("hook %s %d\n", hooks[i].name, code);
        compare_state(hooks[i].name, 1);
        if (i == 0) first = code;
    }
    return first;
}

static int log_in(pam_handle_t *handle, int later, const char *becomes) {
    int code = pam_authenticate(handle, 0);
    if (code == PAM_SUCCESS && later >= 0) sleep((unsigned)later);
    if (becomes) pam_set_item(handle, PAM_USER, becomes);
    return code == PAM_SUCCESS ? pam_acct_mgmt(handle, 0) : code;
}

static int try_again(pam_handle_t *handle, int tries) {
    int code = PAM_SUCCESS;
    for (int i = 0; i < tries; i++) {
        code = pam_authenticate(handle, 0);
        printf("result %d\n", code);
    }
    return code;
}

int main(int argc, char **argv) {
    int password = 0, account = 0, ssh = 0, all = 0, scan = 0, spoil = 0, later = -1, tries = 0;
    const char *rhost = "192.0.2.77", *becomes = NULL;
    if (argc < 4) return 2;
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "password") == 0) password = 1;
        else if (strcmp(argv[i], "local") == 0) rhost = NULL;
        else if (strcmp(argv[i], "account") == 0) account = 1;
        else if (strcmp(argv[i], "ssh") == 0) ssh = 1;
        else if (strncmp(argv[i], "rhost=", 6) == 0) rhost = argv[i] + 6;
        else if (strncmp(argv[i], "tries=", 6) == 0) tries = atoi(argv[i] + 6);
        else if (strcmp(argv[i], "hooks") == 0) all = 1;
        else if (strcmp(argv[i], "spoil") == 0) spoil = 1;
        else if (strcmp(argv[i], "scan") == 0) scan = 1;
        else if (strcmp(argv[i], "keep") == 0) keep = 1;
        else if (strncmp(argv[i], "becomes=", 8) == 0) becomes = argv[i] + 8;
        else if (strncmp(argv[i], "later=", 6) == 0) later = atoi(argv[i] + 6);
        else return 2;
    }
    if (read_answers(0) != 0) return 4;
    if (all) make_unusual();
    struct pam_conv conversation = {converse, NULL};
    pam_handle_t *handle = NULL;
    int code = pam_start_confdir(argv[2], argv[3], &conversation, argv[1], &handle);
    if (code != PAM_SUCCESS) return 3;
    if (rhost) pam_set_item(handle, PAM_RHOST, rhost);
    if (ssh && rhost) {
        char connection[128];
        snprintf(connection, sizeof connection, "SSH_CONNECTION=%s 50000 192.0.2.1 22", rhost);
        pam_putenv(handle, connection);
    }
    if (all) remember_state();
    if (spoil) {
        spoil_state();
        compare_state("spoil", 0);
    } else if (all) {
        code = call_hooks(handle);
    } else if (account || tries > 0) {
        code = try_again(handle, tries);
        if (account) code = pam_acct_mgmt(handle, 0);
    } else {
        code = password ? pam_chauthtok(handle, 0) : log_in(handle, later, becomes);
    }
    pam_end(handle, code);
    // A name look-up that hangs ends by itself within this time.
    if (all && !spoil) compare_state("end", 40);
    if (scan) printf("copies %d\n", scan_memory());
    printf("code %d\n", code);
    return 0;
}
