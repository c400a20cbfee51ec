#!/usr/bin/env bash
# WORKERS shards on one machine by GNU parallel, each tried again if it dies.
#
#   WORKERS=4 scripts/launch/gnu_parallel.sh jobs.csv renders --size 512
#
# PIN=1 gives each worker CPU cores of its own (taskset), as many as divide evenly.
set -euo pipefail
manifest=${1:?usage: WORKERS=4 gnu_parallel.sh MANIFEST OUTPUT_DIR [OPTION...]}
output=${2:?usage: WORKERS=4 gnu_parallel.sh MANIFEST OUTPUT_DIR [OPTION...]}
export NST_JAX_SHARD_COUNT=${WORKERS:?say how many workers: WORKERS=4}

worker() {
  local each=$(($(nproc) / NST_JAX_SHARD_COUNT)) first
  if [[ ${PIN:-} && $each -gt 0 ]]; then
    first=$(((PARALLEL_SEQ - 1) * each))
    exec taskset --cpu-list "$first-$((first + each - 1))" nst-jax "$@"
  fi
  exec nst-jax "$@"
}
export -f worker

# -N0: the numbers only say how many; PARALLEL_SEQ says which.
seq "$WORKERS" | parallel --jobs "$WORKERS" --line-buffer --retries 3 -N0 \
  worker batch "$manifest" --output-dir "$output" --shard auto "${@:3}"
