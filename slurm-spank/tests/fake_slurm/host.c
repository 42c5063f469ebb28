// SPDX-License-Identifier: MIT OR Apache-2.0
// A host that imitates sbatch, srun, slurmstepd or an epilog. It defines Slurm's symbols, loads the plugin as Slurm does, and calls
// the hooks that a script on standard input names. It prints one line for each result.
//
//   context N | jobid ID (srun --jobid) | arg TEXT | item N VALUE | job NAME VALUE | env NAME VALUE | unset NAME | ignore SIGNAL | block SIGNAL | close FD
//   limit NUMBER: at most so many descriptors from now on; one above it is open already
//   set OPTION | load | option VALUE | option-null | hook NAME | task NAME | dump
//
// usage: PLUGIN=path [API=number] host [words that look like the command's own]
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { MAX = 64, LINE = 200000, REMOTE = 2 };
struct option { char *name, *arginfo, *usage; int has_arg, val; int (*cb)(int, const char *, int); };
struct pair { char *name, *value; };

static unsigned context;
static void *plugin;
static FILE *out;
static char *argv_plugin[MAX];
static int argc_plugin;
static struct pair job[MAX];
static long item_value[MAX];
static char item_known[MAX];
static struct option *registered;
static char handle_of_call;

static struct pair *find(const char *name)
{
	for (int i = 0; i < MAX; i++)
		if (job[i].name && !strcmp(job[i].name, name))
			return &job[i];
	return NULL;
}

static void job_set(const char *name, const char *value)
{
	struct pair *at = find(name);
	for (int i = 0; !at && i < MAX; i++)
		if (!job[i].name)
			at = &job[i];
	at->name = strdup(name);
	at->value = strdup(value);
}

// ---- Slurm's symbols, which behave as in src/common/spank.c

unsigned spank_context(void) { return context; }

unsigned spank_get_item(void *spank, unsigned item, ...)
{
	va_list arguments;
	if (spank != &handle_of_call)
		return 3001;
	if (item >= MAX || !item_known[item])
		return 3009;
	va_start(arguments, item);
	*va_arg(arguments, uint32_t *) = (uint32_t)item_value[item];
	va_end(arguments);
	return 0;
}

unsigned spank_getenv(void *spank, const char *name, char *buffer, int length)
{
	struct pair *at = find(name);
	if (spank != &handle_of_call || context != REMOTE)
		return 3006;
	if (!at)
		return 3004;
	snprintf(buffer, length, "%s", at->value);
	return strlen(at->value) >= (size_t)length ? 3005 : 0;
}

unsigned spank_setenv(void *spank, const char *name, const char *value, int overwrite)
{
	if (spank != &handle_of_call || context != REMOTE)
		return 3006;
	if (find(name) && !overwrite)
		return 3003;
	job_set(name, value);
	return 0;
}

unsigned spank_unsetenv(void *spank, const char *name)
{
	struct pair *at = find(name);
	if (spank != &handle_of_call || context != REMOTE)
		return 3006;
	if (at)
		at->name = NULL;
	return 0;
}

unsigned spank_job_control_setenv(void *spank, const char *name, const char *value, int overwrite)
{
	if (spank != &handle_of_call || (context != 1 && context != 3))
		return 3010;
	fprintf(out, "control %s %s %d\n", name, value, overwrite);
	return 0;
}

unsigned spank_option_register(void *spank, struct option *option)
{
	if (spank != &handle_of_call || !option->name || !option->usage || option->has_arg != 2)
		return 3001;
	registered = malloc(sizeof *registered);
	*registered = *option;
	fprintf(out, "registered --%s=%s\n", option->name, option->arginfo);
	return 0;
}

// The options of the command: an opaque structure of the program, and functions of libslurm. WITHOUT_OPTIONS: a Slurm without these.
static char *jobid, *set_option;
#ifndef WITHOUT_OPTIONS
char opt[16];
bool slurm_option_isset(void *options, const char *name)
{
	if (options != opt)
		return false;
	size_t length = strlen(name);
	return (!strcmp(name, "jobid") && jobid)
		|| (set_option && !strncmp(name, set_option, length) && (!set_option[length] || set_option[length] == '='));
}
char *slurm_option_get(void *options, const char *name)
{
	char *value = set_option ? strchr(set_option, '=') : NULL;
	return slurm_option_isset(options, name) ? strdup(!strcmp(name, "jobid") ? jobid : value ? value + 1 : "set") : NULL;
}
#endif

static void say(const char *level, const char *format, va_list arguments)
{
	fprintf(out, "log %s ", level);
	vfprintf(out, format, arguments);
	fprintf(out, "\n");
	fflush(out);
}
void slurm_error(const char *format, ...) { va_list a; va_start(a, format); say("error", format, a); va_end(a); }
void slurm_info(const char *format, ...) { va_list a; va_start(a, format); say("info", format, a); va_end(a); }
long slurm_api_version(void) { const char *api = getenv("API"); return (api ? atol(api) : 38) << 16 | 0x0102; }

// ---- properties of the process that a hook must not change

struct traces { int descriptors, threads; sigset_t mask; struct sigaction actions[32]; };

static int entries(const char *path)
{
	int count = 0;
	DIR *directory = opendir(path);
	while (directory && readdir(directory))
		count++;
	if (directory)
		closedir(directory);
	return count;
}

static struct traces look(void)
{
	struct traces t;
	memset(&t, 0, sizeof t);
	t.descriptors = entries("/proc/self/fd");
	t.threads = entries("/proc/self/task");
	sigprocmask(SIG_BLOCK, NULL, &t.mask);
	for (int s = 1; s < 32; s++)
		sigaction(s, NULL, &t.actions[s]);
	return t;
}

static void compare(struct traces before)
{
	struct traces now = look();
	if (now.descriptors != before.descriptors)
		fprintf(out, "left descriptors %d\n", now.descriptors - before.descriptors);
	if (now.threads != before.threads)
		fprintf(out, "left threads %d\n", now.threads - before.threads);
	for (int s = 1; s < 32; s++)
		if (now.actions[s].sa_handler != before.actions[s].sa_handler || sigismember(&now.mask, s) != sigismember(&before.mask, s))
			fprintf(out, "left signal %d\n", s);
	if (waitpid(-1, NULL, WNOHANG) != -1)
		fprintf(out, "left children\n");
}

// ---- the script

static int call(const char *name)
{
	char symbol[100];
	int (*hook)(void *, int, char **);
	snprintf(symbol, sizeof symbol, "slurm_spank_%s", name);
	hook = (int (*)(void *, int, char **))dlsym(plugin, symbol);
	return hook ? hook(&handle_of_call, argc_plugin, argv_plugin) : -77;
}

static void load(void)
{
	// As _verify_syms() of src/common/plugin.c does for type spank.
	uint32_t *version, ours = 0;
	static const uint32_t releases[] = { 0x160508, 0x170203, 0x170b0b, 0x180508, 0x180b05, 0x190508, 0x190b07, 0x1a0505 };
	long api = slurm_api_version() >> 16;
	plugin = dlopen(getenv("PLUGIN"), RTLD_LAZY);
	if (!plugin) {
		fprintf(out, "refused %s\n", dlerror());
		return;
	}
	version = dlsym(plugin, "plugin_version");
	ours = api >= 38 && api <= 45 ? releases[api - 38] : 0x1b0201;
	if (!version || !dlsym(plugin, "plugin_name") || strcmp(dlsym(plugin, "plugin_type"), "spank"))
		fprintf(out, "refused symbols\n");
	else if ((*version & 0xffff00) != (ours & 0xffff00))
		fprintf(out, "refused version %06x\n", *version);
	else
		fprintf(out, "loaded %s %06x\n", (char *)dlsym(plugin, "plugin_name"), *version);
}

static void task(const char *name)
{
	pid_t child = fork();
	int status;
	if (child == 0) {
		int code = call(name);
		// exec_task() of slurmstepd ends the process when a required plugin fails.
		fprintf(out, "task hook %d\n", code);
		fflush(out);
		_exit(0);
	}
	waitpid(child, &status, 0);
	fprintf(out, "task status %d signal %d\n", WEXITSTATUS(status), WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

static void run(char *line)
{
	char *word = strtok(line, " \n"), *first = strtok(NULL, " \n"), *rest = strtok(NULL, "\n");
	struct traces before;
	if (!word)
		return;
	fflush(out);
	if (!strcmp(word, "context")) context = atoi(first);
	else if (!strcmp(word, "jobid")) jobid = strdup(first);
	else if (!strcmp(word, "arg")) argv_plugin[argc_plugin++] = strdup(first);
	else if (!strcmp(word, "item")) { item_known[atoi(first)] = 1; item_value[atoi(first)] = atol(rest); }
	else if (!strcmp(word, "job")) job_set(first, rest ? rest : "");
	else if (!strcmp(word, "env")) setenv(first, rest ? rest : "", 1);
	else if (!strcmp(word, "unset")) unsetenv(first);
	else if (!strcmp(word, "ignore")) signal(atoi(first), SIG_IGN);
	else if (!strcmp(word, "block")) { sigset_t s; sigemptyset(&s); sigaddset(&s, atoi(first)); sigprocmask(SIG_BLOCK, &s, NULL); }
	else if (!strcmp(word, "close")) close(atoi(first));
	else if (!strcmp(word, "limit")) {
		struct rlimit limit = { atoi(first), atoi(first) };
		if (fcntl(2, F_DUPFD, atoi(first) + 5) < 0 || setrlimit(RLIMIT_NOFILE, &limit)) abort();
	}
	else if (!strcmp(word, "set")) set_option = strdup(first);
	else if (!strcmp(word, "load")) load();
	else if (!strcmp(word, "task")) task(first);
	else if (!strcmp(word, "option") || !strcmp(word, "option-null")) {
		fprintf(out, "option %d\n", registered->cb(registered->val, first, context == REMOTE));
	} else if (!strcmp(word, "hook")) {
		before = look();
		fprintf(out, "hook %s %d\n", first, call(first));
		compare(before);
	} else if (!strcmp(word, "dump")) {
		for (int i = 0; i < MAX; i++)
			if (job[i].name)
				fprintf(out, "job %s %s\n", job[i].name, job[i].value);
		for (char **entry = environ; *entry; entry++)
			fprintf(out, "env %s\n", *entry);
	} else {
		fprintf(out, "unknown command %s\n", word);
	}
	fflush(out);
}

int main(void)
{
	static char line[LINE];
	// Results go to a separate descriptor: the plugin itself must print nothing.
	FILE *script = fdopen(fcntl(0, F_DUPFD, 100), "r");
	out = fdopen(fcntl(1, F_DUPFD, 101), "w");
	dup2(2, 1);
	signal(SIGPIPE, SIG_DFL);
	while (fgets(line, sizeof line, script))
		run(line);
	fprintf(out, "end\n");
	fflush(out);
	return 0;
}
