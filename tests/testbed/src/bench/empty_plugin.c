/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An empty plugin with the same hooks as ours: it shows the cost of any plugin. SLURM_VERSION is Slurm's version in three bytes. */
const char plugin_name[] = "empty";
const char plugin_type[] = "spank";
const unsigned int plugin_version = SLURM_VERSION;
const unsigned int spank_plugin_version = 1;

int slurm_spank_init(void *spank, int count, char **arguments) { return 0; }
int slurm_spank_init_post_opt(void *spank, int count, char **arguments) { return 0; }
int slurm_spank_task_init(void *spank, int count, char **arguments) { return 0; }
int slurm_spank_job_epilog(void *spank, int count, char **arguments) { return 0; }
