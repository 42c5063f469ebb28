# SPDX-License-Identifier: MIT OR Apache-2.0
# Functions for the scripts of the table of shapes. $NAME is the row's own name, $DIR its directory below alice's home.

TASK="/usr/local/bin/testbed soak-task $NAME"
exec >"$DIR/log" 2>&1
set -x

# A command as alice, with the row's own mytoken.
alice() {
    setpriv --reuid=alice --regid=alice --init-groups env -C "$DIR" HOME=/home/alice USER=alice LOGNAME=alice \
        MYTOKEN_FILE="$DIR/mytoken" SBATCH_JOB_NAME="$NAME" SALLOC_JOB_NAME="$NAME" SLURM_JOB_NAME="$NAME" "$@"
}

# Submits a job; $JOB is its id.
job() {
    JOB=$(alice sbatch --parsable --mytoken --time=5 -o "$DIR/output.%j" "$@") || exit 1
}

# Writes a batch script for sbatch's own parser; $SCRIPT is its path.
script() {
    SCRIPT=$DIR/script
    printf '#!/bin/bash\n%s\n' "$1" >"$SCRIPT"
    chmod 755 "$SCRIPT"
}

# Prints the states of all jobs at a time after the call: lines of id, state, and name. The story asks slurmctld for all rows, so that
# they do not take the processors from each other.
states() {
    read -r before _ <"$STATES"
    for _ in $(seq 300); do
        read -r now _ <"$STATES" && [ "$now" -ge $((before + 2)) ] && break
        sleep 0.1
    done
    cat "$STATES"
}

# Waits until a part of the job has this state.
until_state() {
    for _ in $(seq 150); do
        states | grep -qE "^$JOB([_+][^ ]*)? $1 " && return
    done
    exit 1
}

# Waits until no part of the job has this state or is completing.
until_no_state() {
    for _ in $(seq 150); do
        states | grep -qE "^$JOB([_+][^ ]*)? ($1|CG) " || return 0
    done
    exit 1
}

# Puts the running job back into the queue and waits until it is there.
requeue() {
    scontrol requeue "$JOB"
    until_state PD
}
