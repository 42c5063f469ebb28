// SPDX-License-Identifier: GPL-3.0-or-later
// A libpam with one module. It prints what the real one hides: log lines, the PAM environment and the items at the end.
//
// CONFDIR/SERVICE has one line: the path of the module and its arguments, separated by blanks. The output has "log LEVEL ..." for each
// log line; at the end "environment NAME=VALUE" for each variable, and "authtok" if PAM_AUTHTOK is set.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pam_conv;

enum {
    PAM_SUCCESS = 0, PAM_OPEN_ERR = 1, PAM_SYMBOL_ERR = 2, PAM_SYSTEM_ERR = 4, PAM_NO_MODULE_DATA = 18, PAM_BAD_ITEM = 29,
    PAM_SERVICE = 1, PAM_USER = 2, PAM_RHOST = 4, PAM_CONV = 5, PAM_AUTHTOK = 6, ITEMS = 16, MANY = 16,
};

typedef struct pam_handle pam_handle_t;
typedef int (*hook)(pam_handle_t *, int, int, const char **);
typedef void (*cleanup)(pam_handle_t *, void *, int);

struct pam_handle {
    const void *items[ITEMS];
    struct { char *name; void *value; cleanup clean; } data[MANY];
    char *environment[MANY];
    void *module;
    char line[PATH_MAX];
    const char *arguments[MANY];
    int count;
};

int pam_start_confdir(const char *service, const char *user, const struct pam_conv *conversation, const char *directory,
                      pam_handle_t **handle) {
    pam_handle_t *new = calloc(1, sizeof *new);
    char path[PATH_MAX];
    if (!new) return PAM_SYSTEM_ERR;
    snprintf(path, sizeof path, "%s/%s", directory, service);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(new->line, sizeof new->line, file)) return PAM_OPEN_ERR;
    fclose(file);
    char *rest = NULL, *module = strtok_r(new->line, " \n", &rest);
    while (new->count < MANY && (new->arguments[new->count] = strtok_r(NULL, " \n", &rest))) new->count++;
    new->module = module ? dlopen(module, RTLD_NOW) : NULL;
    if (!new->module) {
        fprintf(stderr, "%s\n", dlerror());
        return PAM_OPEN_ERR;
    }
    new->items[PAM_SERVICE] = service;
    new->items[PAM_USER] = strdup(user);
    new->items[PAM_CONV] = conversation;
    *handle = new;
    return PAM_SUCCESS;
}

int pam_end(pam_handle_t *handle, int status) {
    for (int i = 0; i < MANY; i++) {
        if (handle->data[i].clean) handle->data[i].clean(handle, handle->data[i].value, status);
        free(handle->data[i].name);
        if (handle->environment[i]) printf("environment %s\n", handle->environment[i]);
        free(handle->environment[i]);
    }
    if (handle->items[PAM_AUTHTOK]) printf("authtok\n");
    free((void *)handle->items[PAM_RHOST]);
    free((void *)handle->items[PAM_USER]);
    dlclose(handle->module);
    free(handle);
    return PAM_SUCCESS;
}

static int call(pam_handle_t *handle, const char *name, int flags) {
    hook found = (hook)dlsym(handle->module, name);
    return found ? found(handle, flags, handle->count, handle->arguments) : PAM_SYMBOL_ERR;
}

int pam_authenticate(pam_handle_t *handle, int flags) { return call(handle, "pam_sm_authenticate", flags); }
int pam_acct_mgmt(pam_handle_t *handle, int flags) { return call(handle, "pam_sm_acct_mgmt", flags); }
int pam_setcred(pam_handle_t *handle, int flags) { return call(handle, "pam_sm_setcred", flags); }
int pam_open_session(pam_handle_t *handle, int flags) { return call(handle, "pam_sm_open_session", flags); }
int pam_close_session(pam_handle_t *handle, int flags) { return call(handle, "pam_sm_close_session", flags); }
int pam_chauthtok(pam_handle_t *handle, int flags) { return call(handle, "pam_sm_chauthtok", flags); }

int pam_get_item(const pam_handle_t *handle, int item, const void **value) {
    if (item < 0 || item >= ITEMS) return PAM_BAD_ITEM;
    *value = handle->items[item];
    return PAM_SUCCESS;
}

// The application sets PAM_RHOST, and PAM_USER as another module would.
int pam_set_item(pam_handle_t *handle, int item, const void *value) {
    if (item != PAM_RHOST && item != PAM_USER && item != PAM_AUTHTOK) return PAM_BAD_ITEM;
    free((void *)handle->items[item]);
    handle->items[item] = value ? strdup(value) : NULL;
    return PAM_SUCCESS;
}

int pam_get_user(pam_handle_t *handle, const char **user, const char *prompt) {
    (void)prompt;
    *user = handle->items[PAM_USER];
    return PAM_SUCCESS;
}

int pam_set_data(pam_handle_t *handle, const char *name, void *value, cleanup clean) {
    int place = -1;
    for (int i = MANY - 1; i >= 0; i--)
        if (!handle->data[i].name || strcmp(handle->data[i].name, name) == 0) place = i;
    if (place < 0) return PAM_SYSTEM_ERR;
    if (handle->data[place].clean) handle->data[place].clean(handle, handle->data[place].value, 0x20000000);
    if (!handle->data[place].name) handle->data[place].name = strdup(name);
    handle->data[place].value = value;
    handle->data[place].clean = clean;
    return PAM_SUCCESS;
}

int pam_get_data(const pam_handle_t *handle, const char *name, const void **value) {
    for (int i = 0; i < MANY; i++) {
        if (!handle->data[i].name || strcmp(handle->data[i].name, name) != 0) continue;
        *value = handle->data[i].value;
        return PAM_SUCCESS;
    }
    return PAM_NO_MODULE_DATA;
}

// The place of a variable, or a free one.
static char **place_of(pam_handle_t *handle, const char *name, size_t length) {
    char **place = NULL;
    for (int i = MANY - 1; i >= 0; i--) {
        char *entry = handle->environment[i];
        if (entry && strncmp(entry, name, length) == 0 && entry[length] == '=') return &handle->environment[i];
        if (!entry) place = &handle->environment[i];
    }
    return place;
}

int pam_putenv(pam_handle_t *handle, const char *text) {
    char **place = place_of(handle, text, strcspn(text, "="));
    if (!place) return PAM_SYSTEM_ERR;
    free(*place);
    *place = strchr(text, '=') ? strdup(text) : NULL;
    return PAM_SUCCESS;
}

const char *pam_getenv(pam_handle_t *handle, const char *name) {
    char **place = place_of(handle, name, strlen(name));
    return place && *place ? *place + strlen(name) + 1 : NULL;
}

void pam_syslog(const pam_handle_t *handle, int priority, const char *format, ...) {
    static const char *const levels[] = {"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"};
    (void)handle;
    va_list arguments;
    printf("log %s ", levels[priority & 7]);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}
