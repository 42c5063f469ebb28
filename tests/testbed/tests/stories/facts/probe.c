/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A SPANK plugin that records each call of a hook: the hook, the program, the user, the number of threads, whether this is the main
 * thread, the ids, and the variables that the hook sees.
 * Arguments in plugstack.conf: with "fail=HOOK" that hook returns -1, with "abort=HOOK" it aborts, with "slow=HOOK" it takes 5 s;
 * with "say" each hook prints a message; with "blind" nodes register no option. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>

struct spank_option {
	char *name, *arginfo, *usage;
	int has_arg, val;
	int (*cb)(int, const char *, int);
};
extern unsigned spank_context(void);
extern unsigned spank_get_item(void *, unsigned, ...);
extern unsigned spank_getenv(void *, const char *, char *, int);
extern unsigned spank_job_control_setenv(void *, const char *, const char *, int);
extern unsigned spank_option_register(void *, struct spank_option *);
extern void slurm_error(const char *, ...);
extern char *program_invocation_short_name;

const char plugin_name[] = "probe";
const char plugin_type[] = "spank";
const unsigned int plugin_version = VERSION;

enum { LOCAL = 1, REMOTE = 2, ALLOCATOR = 3 };

static int threads(void)
{
	int count = -2;
	DIR *tasks = opendir("/proc/self/task");
	while (tasks && readdir(tasks))
		count++;
	if (tasks)
		closedir(tasks);
	return count;
}

static const char *variable(void *spank, const char *name, char *buffer)
{
	if (spank && spank_context() == REMOTE)
		return spank_getenv(spank, name, buffer, 64) ? "-" : buffer;
	const char *value = getenv(name);
	return value ? value : "-";
}

static void record(void *spank, const char *hook, const char *more)
{
	static const struct { const char *name; unsigned item; } ids[] = {
		{ "job", 2 }, { "step", 3 }, { "array", 30 }, { "arraytask", 31 } };
	static const char *names[] = { "SLURM_PROBE", "PROBE", "SLURM_SPANK_PROBE_J", "SPANK_PROBE_J" };
	char line[1024], buffer[64];
	int end = snprintf(line, sizeof line, "%s program=%s context=%u uid=%u threads=%d main=%d%s", hook,
			   program_invocation_short_name, spank_context(), (unsigned)geteuid(), threads(), gettid() == getpid(), more);
	for (int i = 0; spank && i < 4; i++) {
		unsigned id;
		if (spank_get_item(spank, ids[i].item, &id))
			end += snprintf(line + end, sizeof line - end, " %s=-", ids[i].name);
		else
			end += snprintf(line + end, sizeof line - end, " %s=%u", ids[i].name, id);
	}
	for (int i = 0; i < 4; i++)
		end += snprintf(line + end, sizeof line - end, " %s=%s", names[i], variable(spank, names[i], buffer));
	line[end++] = '\n';
	int file = open("/var/probe", O_WRONLY | O_APPEND);
	if (file >= 0) {
		if (write(file, line, end) < 0)
			abort();
		close(file);
	}
}

static int hook(void *spank, const char *name, int count, char **arguments)
{
	int result = 0;
	record(spank, name, "");
	for (int i = 0; i < count; i++) {
		if (!strcmp(arguments[i], "say"))
			slurm_error("probe: message of %s", name);
		char *equals = strchr(arguments[i], '=');
		if (!equals || strcmp(equals + 1, name))
			continue;
		if (!strncmp(arguments[i], "fail", 4))
			result = -1;
		if (!strncmp(arguments[i], "slow", 4))
			sleep(5);
		if (!strncmp(arguments[i], "abort", 5))
			abort();
	}
	return result;
}

static int option(int value, const char *argument, int remote)
{
	char more[128];
	(void)value;
	snprintf(more, sizeof more, " argument=%s remote=%d", argument ? argument : "NULL", remote);
	record(NULL, "option", more);
	return argument && !strcmp(argument, "wrong") ? -1 : 0;
}

int slurm_spank_init(void *spank, int count, char **arguments)
{
	static struct spank_option probe = { "probe", "WORD", "Record the calls", 2, 0, option };
	int blind = count > 0 && !strcmp(arguments[0], "blind") && spank_context() == REMOTE;
	if (spank_context() <= ALLOCATOR && !blind)
		spank_option_register(spank, &probe);
	return hook(spank, "init", count, arguments);
}

int slurm_spank_init_post_opt(void *spank, int count, char **arguments)
{
	if (spank_context() == ALLOCATOR || (spank_context() == LOCAL && !getenv("SLURM_JOB_ID"))) {
		setenv("SLURM_PROBE", getenv("SLURM_PROBE") ? "later" : "s", 1);
		setenv("PROBE", "p", 1);
		spank_job_control_setenv(spank, "PROBE_J", "j", 1);
	}
	return hook(spank, "init_post_opt", count, arguments);
}

int slurm_spank_user_init(void *spank, int count, char **arguments)
{
	return hook(spank, "user_init", count, arguments);
}

int slurm_spank_task_init(void *spank, int count, char **arguments)
{
	return hook(spank, "task_init", count, arguments);
}

int slurm_spank_job_epilog(void *spank, int count, char **arguments)
{
	return hook(spank, "job_epilog", count, arguments);
}
