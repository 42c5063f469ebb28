// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of shapes. `script` runs as root with the functions of `prelude.sh`.

/// A shape of submission: what it gets, how it ends, and the script that shows it.
#[derive(Debug)]
pub(crate) struct Row {
    pub shape: &'static str,
    /// What the submission gets.
    pub gets: &'static str,
    /// When its sub-token ends.
    pub ends: &'static str,
    /// Number of sub-tokens that the server makes.
    pub sub_tokens: usize,
    /// Number of tasks that have a valid token whenever they look.
    pub tasks: usize,
    /// The most access tokens that the agents request.
    pub access_tokens: usize,
    /// Why the product does not do this yet. The story then checks that it fails, so that this mark goes with the defect.
    pub not_yet: Option<&'static str>,
    /// No node holds the credential. The agent of the submission's host revokes it within half an hour, which the story lets pass for that
    /// agent. Without brokers it does so once more in each other row, too.
    pub later: bool,
    /// A program that some releases of Slurm do not have.
    pub needs: &'static str,
    pub script: &'static str,
}

const TOKEN: &str = "a token on each of its nodes";
const AT_END: &str = "with the job";

/// One sub-token, one task, one access token, no defect.
const ROW: Row = Row {
    shape: "",
    gets: TOKEN,
    ends: AT_END,
    sub_tokens: 1,
    tasks: 1,
    access_tokens: 1,
    not_yet: None,
    later: false,
    needs: "sbatch",
    script: "",
};

/// What runs, on its own or as several jobs.
#[rustfmt::skip]
pub(crate) const RUNNING: &[Row] = &[
    Row { shape: "sbatch", script: "job -n1 --wrap \"srun $TASK 2\"", ..ROW },
    Row {
        shape: "sbatch on several nodes", tasks: 2, access_tokens: 2,
        script: "job -N2 --ntasks-per-node=1 --wrap \"srun $TASK 3\"", ..ROW
    },
    Row { shape: "srun", script: "alice srun --mytoken -n1 $TASK 2", ..ROW },
    Row { shape: "salloc with steps", script: "alice salloc --mytoken -n1 srun $TASK 2", ..ROW },
    Row {
        shape: "salloc without a step", gets: "nothing: no program runs on a node", tasks: 0, access_tokens: 0, later: true,
        script: "alice salloc --mytoken -n1 sleep 1", ..ROW
    },
    Row {
        shape: "salloc, interactive step", ends: "with the shell",
        script: "echo \"$TASK 2\" | alice salloc --mytoken -n1", ..ROW
    },
    Row {
        shape: "salloc --no-shell", gets: "nothing: Slurm keeps no environment for later steps", ends: "with the allocation",
        tasks: 0, access_tokens: 0, later: true,
        script: "alice salloc --mytoken --no-shell -n1 2>$DIR/salloc && JOB=$(sed -n 's/.*Granted job allocation //p' $DIR/salloc) &&
                 alice srun --jobid=$JOB true; alice scancel $JOB", ..ROW
    },
    Row {
        shape: "srun inside a job", gets: "the token of the job", tasks: 2,
        script: "job -n2 --wrap \"srun -n1 $TASK 1; srun -n1 $TASK 1\"", ..ROW
    },
    Row {
        shape: "srun --mytoken inside a job", gets: "the token of the job",
        script: "job -n1 --wrap \"srun --mytoken $TASK 2\"", ..ROW
    },
    Row {
        shape: "srun --jobid --overlap", gets: "the token of the job",
        script: "job -n1 --wrap 'until test -e done; do sleep 0.1; done'; until_state R; alice srun --jobid=$JOB --overlap $TASK 2; touch $DIR/done", ..ROW
    },
    Row {
        shape: "array", ends: "with its last task", tasks: 3,
        script: "job -n1 -w n3 --array=1-3 --wrap \"srun $TASK 5\"", ..ROW
    },
    Row {
        shape: "array, tasks cancelled in the queue", ends: "with its last task that runs",
        script: "job -n1 --array=1-3%1 --wrap \"srun $TASK 6\"; until_state R; alice scancel ${JOB}_[2-3]", ..ROW
    },
    Row {
        shape: "array, held tasks", ends: "with its last task", tasks: 2, access_tokens: 2,
        script: "job -n1 --array=1-2%1 --wrap \"srun $TASK 3\"; until_state R; alice scontrol hold ${JOB}_2
                 until_no_state R; sleep 5; alice scontrol release ${JOB}_2", ..ROW
    },
    Row {
        shape: "heterogeneous job", ends: "with its last component", tasks: 2, access_tokens: 2,
        script: "script \"srun --het-group=0,1 $TASK 3\"; job -n1 : -n1 $SCRIPT", ..ROW
    },
    Row {
        shape: "heterogeneous job, scancel of one component", ends: "with its last component",
        script: "script \"srun --het-group=0 $TASK 12\"; job -n1 : -n1 $SCRIPT; until_state R; sleep 2; alice scancel $JOB+1", ..ROW
    },
    Row {
        shape: "heterogeneous job, one component reaches its limit", ends: "with its last component", tasks: 2, access_tokens: 2,
        script: "script \"srun --het-group=1 $TASK 90 & srun --het-group=0 $TASK 45; wait\"; job -n1 --time=9 : -n1 --time=8 $SCRIPT
                 until_state R; sleep 2; scontrol update jobid=$JOB+1 endtime=now+2", ..ROW
    },
    Row {
        shape: "requeued", ends: "with the last run", tasks: 2, access_tokens: 2,
        script: "job -n1 --requeue --wrap \"srun $TASK 6\"; until_state R; sleep 2; requeue; sleep 2
                 scontrol update jobid=$JOB starttime=now", ..ROW
    },
    Row {
        shape: "requeued on two nodes, then cancelled in the queue", ends: "when it is cancelled", tasks: 2, access_tokens: 2,
        script: "job -N2 --ntasks-per-node=1 --requeue --wrap \"srun $TASK 60\"; until_state R; sleep 2; requeue; sleep 8
                 alice scancel $JOB", ..ROW
    },
    Row {
        shape: "requeued by preemption", ends: "with the last run", tasks: 2, access_tokens: 2,
        script: "job -p apart -w n5 -n1 --exclusive --requeue --wrap \"srun $TASK 6\"; until_state R; sleep 2
                 alice sbatch -p urgent -w n5 -n1 --exclusive -o /dev/null --wrap 'sleep 1'; until_state PD; sleep 2
                 scontrol update jobid=$JOB starttime=now", ..ROW
    },
    Row {
        shape: "requeued because its node failed", ends: "with the last run", tasks: 2, access_tokens: 2,
        script: "job -p apart -w n6 -n1 --requeue --wrap \"srun $TASK 6\"; until_state R; sleep 2
                 scontrol update nodename=n6 state=down reason=story; until_state PD; sleep 2
                 scontrol update nodename=n6 state=resume; scontrol update jobid=$JOB starttime=now", ..ROW
    },
    Row {
        shape: "sbatch --mytoken inside a job", gets: "a sub-token of its own", ends: "each with its own job",
        sub_tokens: 2, tasks: 2, access_tokens: 2,
        script: "job -n1 --wrap \"sbatch --mytoken -n1 -o /dev/null --wrap 'srun $TASK 2'; srun $TASK 2\"; sleep 4", ..ROW
    },
];

/// What changes the environment, the time, or whether the job runs at all.
#[rustfmt::skip]
pub(crate) const VARIED: &[Row] = &[
    Row { shape: "--export=NONE", script: "job -n1 --export=NONE --wrap \"srun $TASK 2\"", ..ROW },
    Row { shape: "--export=NIL", script: "job -n1 --export=NIL --wrap \"srun $TASK 2\"", ..ROW },
    Row { shape: "--export=NAME,...", script: "job -n1 --export=HOME,FOO=bar --wrap \"srun $TASK 2\"", ..ROW },
    Row {
        shape: "--export-file", gets: "nothing: refused with a reason", ends: "-", sub_tokens: 0, tasks: 0, access_tokens: 0,
        script: "printf 'HOME=/home/alice\\0' >$DIR/exported
                 alice sbatch --mytoken=required -n1 --export-file=$DIR/exported --wrap true 2>$DIR/said && exit 1
                 grep -e 'mytoken: no credential: --export-file' $DIR/said", ..ROW
    },
    Row { shape: "--get-user-env", script: "job -n1 --get-user-env --wrap \"srun $TASK 2\"", ..ROW },
    Row {
        shape: "--test-only", gets: "nothing", ends: "-", sub_tokens: 0, tasks: 0, access_tokens: 0,
        script: "script true; alice sbatch --mytoken -n1 --test-only $SCRIPT; alice sbatch --mytoken -n 1 --test-only $SCRIPT
                 alice srun --mytoken -n 1 --test-only true; true", ..ROW
    },
    Row {
        shape: "refused by Slurm", gets: "nothing", ends: "some minutes later", tasks: 0, access_tokens: 0, later: true,
        script: "! alice sbatch --mytoken --partition=nowhere --wrap true", ..ROW
    },
    Row {
        shape: "dependency never met", gets: "nothing", ends: "when Slurm gives the job up", tasks: 0, access_tokens: 0,
        later: true,
        script: "FIRST=$(alice sbatch --parsable -n1 -o /dev/null --wrap false)
                 job -n1 --dependency=afterok:$FIRST --kill-on-invalid-dep=yes --wrap true", ..ROW
    },
    Row { shape: "held, then released", script: "job -n1 --hold --wrap \"srun $TASK 2\"; sleep 3; alice scontrol release $JOB", ..ROW },
    Row {
        shape: "cancelled in the queue", gets: "nothing", ends: "when it is cancelled", tasks: 0, access_tokens: 0,
        later: true,
        script: "job -n1 --hold --wrap true; sleep 1; alice scancel $JOB", ..ROW
    },
    Row {
        shape: "suspended and resumed",
        script: "job -n1 --wrap \"srun $TASK 8\"; until_state R; sleep 2; scontrol suspend $JOB; sleep 3; scontrol resume $JOB", ..ROW
    },
    Row {
        shape: "time limit raised",
        script: "job -n1 --wrap \"srun $TASK 6\"; until_state R; scontrol update jobid=$JOB timelimit=9", ..ROW
    },
    Row {
        shape: "time limit reached", ends: "when Slurm ends the job",
        script: "job -n1 --wrap \"srun $TASK 90\"; until_state R; scontrol update jobid=$JOB endtime=now+2", ..ROW
    },
    Row { shape: "cancelled while it runs", script: "job -n1 --wrap \"srun $TASK 60\"; until_state R; sleep 3; alice scancel $JOB", ..ROW },
    Row {
        shape: "cancelled during the prolog", gets: "nothing: its program does not begin", ends: "when it is cancelled", tasks: 0,
        access_tokens: 0, later: true,
        script: "job -n1 --hold --wrap true; touch /var/tmp/prolog.$JOB; alice scontrol release $JOB; until_state R
                 sleep 1; alice scancel $JOB; sleep 1; rm /var/tmp/prolog.$JOB", ..ROW
    },
    Row {
        shape: "--batch on another node than the first", tasks: 2, access_tokens: 2,
        script: "scontrol update nodename=n1 availablefeatures=plain activefeatures=plain
                 scontrol update nodename=n2 availablefeatures=last activefeatures=last
                 job -w n1,n2 -N2 --ntasks-per-node=1 -C 'plain|last' --batch=last --wrap \"srun $TASK 3\"", ..ROW
    },
    Row {
        shape: "-M of another cluster", gets: "nothing: refused with a reason", ends: "-", sub_tokens: 0, tasks: 0,
        access_tokens: 0,
        script: "alice sbatch --mytoken=required -M elsewhere --wrap true 2>$DIR/said && exit 1
                 alice env SBATCH_CLUSTERS=elsewhere sbatch --mytoken=required --wrap true 2>>$DIR/said && exit 1
                 test $(grep -c 'mytoken: no credential: --clusters=elsewhere' $DIR/said) = 2", ..ROW
    },
    Row {
        shape: "root's --uid", gets: "nothing: refused with a reason", ends: "-", sub_tokens: 0, tasks: 0,
        access_tokens: 0,
        script: "sbatch --mytoken=required --uid=alice -n1 --wrap true 2>$DIR/said && exit 1; grep -e --uid $DIR/said", ..ROW
    },
    Row {
        shape: "scrontab", gets: "nothing, and says so: Slurm submits without the user", ends: "-", sub_tokens: 0, tasks: 0,
        access_tokens: 0, needs: "scrontab",
        script: "printf '#SCRON --mytoken=required\n* * * * * true\n' | alice scrontab - 2>$DIR/said && exit 1
                 grep -e 'mytoken: no credential: jobs of scrontab' $DIR/said || exit 1
                 printf '#SCRON --mytoken\n* * * * * true\n' | alice scrontab - 2>$DIR/said || exit 1
                 sleep 1; alice scrontab -r; grep -e 'mytoken: no credential: jobs of scrontab' $DIR/said", ..ROW
    },
];
