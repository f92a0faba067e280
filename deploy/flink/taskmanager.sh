#!/bin/sh
# Becomes a TaskManager. First ends what an earlier one of the same name left: a killed one leaves its Python workers behind.
# taskmanager.sh NAME FLINK_ARGUMENTS...; PLACAR_RUNTIME tells this runtime's processes from another's.
set -eu
name=$1
shift
for process in /proc/[0-9]*; do
    if [ "$process" != "/proc/$$" ] &&
        grep -qszxF "PLACAR_TASKMANAGER=$name" "$process/environ" &&
        grep -qszxF "PLACAR_RUNTIME=$PLACAR_RUNTIME" "$process/environ"; then
        kill -KILL "${process#/proc/}" 2>/dev/null || true
    fi
done
export PLACAR_TASKMANAGER="$name"
exec "$FLINK_HOME/bin/taskmanager.sh" start-foreground "-Dtaskmanager.resource-id=$name" "$@"
