// SPDX-License-Identifier: MIT OR Apache-2.0
// Loads a plugin as Slurm does, in this new process, and prints the time in microseconds. Every sbatch needs this time before the
// plugin's first hook.
//
//     load_plugin FILE
//
// This program defines the symbols of Slurm that the product's plugin needs. So the plugin loads without Slurm's own libraries, which
// would take time too.
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

long slurm_api_version(void) { return 38L << 16; }
void slurm_error(const char *format, ...) { (void)format; }
void slurm_info(const char *format, ...) { (void)format; }
unsigned spank_context(void) { return 0; }
unsigned spank_get_item(void) { return 1; }
unsigned spank_getenv(void) { return 1; }
unsigned spank_job_control_setenv(void) { return 1; }
unsigned spank_option_register(void) { return 1; }
unsigned spank_setenv(void) { return 1; }
unsigned spank_unsetenv(void) { return 1; }

int main(int argc, char **argv) {
    struct timespec before, after;
    if (argc != 2) return 2;
    clock_gettime(CLOCK_MONOTONIC, &before);
    void *plugin = dlopen(argv[1], RTLD_LAZY);
    clock_gettime(CLOCK_MONOTONIC, &after);
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    printf("%.3f\n", (after.tv_sec - before.tv_sec) * 1e6 + (after.tv_nsec - before.tv_nsec) / 1e3);
    return 0;
}
