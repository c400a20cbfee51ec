#!/usr/bin/env bash
# WORKERS shards on one machine by GNU parallel, each tried again if it dies.
#
#   WORKERS=4 scripts/launch/gnu_parallel.sh jobs.csv renders --size 512
#
# PIN=1 gives each worker CPU cores of its own (taskset), as many as divide evenly.
set -euo pipefail
usage='usage: WORKERS=4 gnu_parallel.sh MANIFEST OUTPUT_DIR [OPTION...]'
refuse() { printf '%s\n' "gnu_parallel.sh: $1" >&2; exit 2; }

if [[ ${1:-} == --help || ${1:-} == -h ]]; then printf '%s\n' "$usage"; exit 0; fi
[[ ${1:-} && ${2:-} && ${1:-} != -* ]] || refuse "$usage"
[[ ${WORKERS:-} =~ ^[1-9][0-9]{0,5}$ ]] ||
  refuse "WORKERS must be a whole number above 0, at most 999999, got '${WORKERS:-}'; $usage"
for option in "${@:3}"; do
  [[ $option != --shard && $option != --shard=* ]] ||
    refuse "no --shard may be given, the recipe sets it, got $option"
done
[[ $(parallel --version 2>/dev/null || true) == 'GNU parallel'* ]] ||
  refuse 'GNU parallel must be installed, found none; Debian: apt-get install parallel'

# Not on parallel's own command line: it would read {}, ::: and what a shell reads into them.
printf -v WORKER_COMMAND '%q ' nst-jax batch "$1" --output-dir "$2" --shard auto "${@:3}"
export WORKER_COMMAND NST_JAX_SHARD_COUNT=$WORKERS PARALLEL_SHELL=$BASH

worker() {
  local each=$(($(nproc) / NST_JAX_SHARD_COUNT)) first pinned=
  if [[ ${PIN:-} && $each -gt 0 ]]; then
    first=$(((PARALLEL_SEQ - 1) * each))
    pinned="taskset --cpu-list $first-$((first + each - 1))"
  fi
  eval "exec $pinned $WORKER_COMMAND"
}
export -f worker

# -N0: the numbers only say how many; PARALLEL_SEQ says which. --termseq: half a minute for what is
# under way; by default a second SIGTERM, which ends a worker at once, follows in a fifth of a second.
seq "$WORKERS" | parallel --jobs "$WORKERS" --line-buffer --retries 3 \
  --termseq TERM,30000,KILL,25 -N0 worker
