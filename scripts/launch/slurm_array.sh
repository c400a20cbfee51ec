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
manifest=${1:?usage: sbatch --array=0-7 slurm_array.sh MANIFEST OUTPUT_DIR [OPTION...]}
output=${2:?usage: sbatch --array=0-7 slurm_array.sh MANIFEST OUTPUT_DIR [OPTION...]}
exec srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  nst-jax batch "$manifest" --output-dir "$output" --shard auto "${@:3}"
