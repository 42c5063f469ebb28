/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A plugin that does nothing, with the hooks of ours: what any plugin costs. SLURM_VERSION is Slurm's own, three bytes. */
const char plugin_name[] = "empty";
const char plugin_type[] = "spank";
const unsigned int plugin_version = SLURM_VERSION;
const unsigned int spank_plugin_version = 1;

int slurm_spank_init(void *spank, int count, char **arguments) { return 0; }
int slurm_spank_init_post_opt(void *spank, int count, char **arguments) { return 0; }
int slurm_spank_task_init(void *spank, int count, char **arguments) { return 0; }
int slurm_spank_job_epilog(void *spank, int count, char **arguments) { return 0; }
