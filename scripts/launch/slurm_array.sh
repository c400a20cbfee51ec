#!/usr/bin/env bash
# One shard for each task of a Slurm array.
#
#   sbatch --array=0-7 scripts/launch/slurm_array.sh jobs.csv renders --size 512
#
# SLURM_ARRAY_TASK_ID and _COUNT say which shard a task is. A task that is preempted gets SIGTERM,
# keeps its jobs in mid-schedule and is queued again.
#SBATCH --job-name=nst-jax
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
usage='usage: sbatch --array=0-7 slurm_array.sh MANIFEST OUTPUT_DIR [OPTION...]'
refuse() { printf '%s\n' "slurm_array.sh: $1" >&2; exit 2; }

if [[ ${1:-} == --help || ${1:-} == -h ]]; then printf '%s\n' "$usage"; exit 0; fi
[[ ${1:-} && ${2:-} && ${1:-} != -* ]] || refuse "$usage"
for option in "${@:3}"; do
  [[ $option != --shard && $option != --shard=* ]] ||
    refuse "no --shard may be given, the recipe sets it, got $option"
done

exec srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  nst-jax batch "$1" --output-dir "$2" --shard auto "${@:3}"
