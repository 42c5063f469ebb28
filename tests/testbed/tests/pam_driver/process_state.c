// SPDX-License-Identifier: MIT OR Apache-2.0
#define _GNU_SOURCE
#include "process_state.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char *remembered;

static void on_signal(int signal) { (void)signal; }

static void *end_at_once(void *nothing) { return nothing; }

void make_unusual(void) {
    // With the first thread of a process glibc begins to catch SIGSETXID. That is not the module's.
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_at_once, NULL) == 0) pthread_join(thread, NULL);
    openlog(NULL, LOG_NDELAY, LOG_AUTHPRIV);
    setlocale(LC_ALL, "C.UTF-8");
    umask(026);
    // SIGPIPE keeps its default: a write to a connection that was closed would end the process.
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, on_signal);
    signal(SIGUSR1, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

// The names of all threads.
static void write_threads(FILE *out) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return;
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[PATH_MAX], name[64] = "";
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *comm = fopen(path, "re");
        if (!comm) continue;
        if (fgets(name, sizeof name, comm)) fprintf(out, "thread %s", name);
        fclose(comm);
    }
    closedir(tasks);
}

static void write_descriptors(FILE *out) {
    DIR *descriptors = opendir("/proc/self/fd");
    if (!descriptors) return;
    for (struct dirent *entry; (entry = readdir(descriptors));) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(descriptors)) continue;
        char path[PATH_MAX], target[PATH_MAX];
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = 0;
        int flags = fcntl(atoi(entry->d_name), F_GETFL), own = fcntl(atoi(entry->d_name), F_GETFD);
        fprintf(out, "descriptor %s %s flags=%o cloexec=%d\n", entry->d_name, target, (unsigned)flags, own);
    }
    closedir(descriptors);
}

// The lines of a file of /proc/self that begin with one of `names`; all lines without names.
static void write_lines(FILE *out, const char *path, const char *const *names) {
    FILE *file = fopen(path, "re");
    if (!file) return;
    char line[4096];
    while (fgets(line, sizeof line, file)) {
        int wanted = !names;
        for (size_t i = 0; names && names[i]; i++) wanted |= strncmp(line, names[i], strlen(names[i])) == 0;
        if (wanted) fputs(line, out);
    }
    fclose(file);
}

static char *take_state(void) {
    static const char *const status[] = {"Umask:",  "Uid:",    "Gid:",        "Groups:",  "SigBlk:", "SigIgn:",
                                         "SigCgt:", "CapInh:", "CapPrm:",     "CapEff:",  "CapBnd:", "CapAmb:",
                                         "Seccomp:", "NoNewPrivs:", NULL};
    char *text = NULL, directory[PATH_MAX];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out) abort();
    write_threads(out);
    write_descriptors(out);
    write_lines(out, "/proc/self/status", status);
    write_lines(out, "/proc/self/limits", NULL);
    fprintf(out, "locale %s\n", setlocale(LC_ALL, NULL));
    fprintf(out, "directory %s\n", getcwd(directory, sizeof directory) ? directory : "?");
    fprintf(out, "dumpable %d\n", prctl(PR_GET_DUMPABLE));
    int parent_death_signal = -1;
    prctl(PR_GET_PDEATHSIG, &parent_death_signal);
    fprintf(out, "parent death signal %d\n", parent_death_signal);
    struct itimerval timer;
    getitimer(ITIMER_REAL, &timer);
    fprintf(out, "timer %ld\n", (long)timer.it_value.tv_sec);
    siginfo_t child;
    fprintf(out, "children %s\n", waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 ? "yes" : "none");
    for (char **variable = environ; variable && *variable; variable++) fprintf(out, "environment %s\n", *variable);
    fclose(out);
    return text;
}

void remember_state(void) {
    // Something to lose: the kernel clears it with each change of the file system's user id.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    remembered = take_state();
}

// Prints the lines of `text` that `other` does not have.
static void print_missing(const char *text, const char *other, const char *where, char sign) {
    const char *next;
    for (const char *line = text; *line; line = next) {
        const char *end = strchr(line, '\n');
        size_t length = end ? (size_t)(end - line) : strlen(line);
        next = line + length + (end ? 1 : 0);
        int found = 0;
        for (const char *at = other; !found && (at = memmem(at, strlen(at), line, length)); at++)
            found = (at == other || at[-1] == '\n') && (at[length] == '\n' || at[length] == 0);
        if (!found) printf("changed %s %c %.*s\n", where, sign, (int)length, line);
    }
}

void compare_state(const char *where, int seconds) {
    const struct timespec pause = {0, 10 * 1000 * 1000};
    char *now = take_state();
    for (int tries = seconds * 100; tries > 0 && strcmp(remembered, now) != 0; tries--) {
        nanosleep(&pause, NULL);
        free(now);
        now = take_state();
    }
    if (strcmp(remembered, now) != 0) {
        print_missing(remembered, now, where, '-');
        print_missing(now, remembered, where, '+');
        // A second thread with the name of the first one adds no line that is missing.
        printf("changed %s\n", where);
    }
    free(now);
}

static void *stay(void *nothing) {
    pthread_setname_np(pthread_self(), "spoiler");
    pause();
    return nothing;
}

void spoil_state(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, stay, NULL);
    const struct timespec pause = {0, 200 * 1000 * 1000};
    nanosleep(&pause, NULL);
    if (open("/dev/null", O_RDONLY) < 0) abort();
    signal(SIGHUP, on_signal);
    signal(SIGTERM, SIG_IGN);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    umask(077);
    setlocale(LC_ALL, "C");
    if (chdir("/") != 0 || chdir("/dev") != 0) abort();
    setenv("SPOILED", "yes", 1);
    struct rlimit less = {1 << 30, 1 << 30};
    setrlimit(RLIMIT_FSIZE, &less);
    prctl(PR_SET_DUMPABLE, 0);
}
