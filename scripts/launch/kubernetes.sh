#!/usr/bin/env bash
# One shard for each index of a Kubernetes Indexed Job, on GPUs or on Cloud TPUs (GKE).
#
#   WORKERS=8 IMAGE=registry/nst-jax CLAIM=pictures scripts/launch/kubernetes.sh gpu \
#     /data/jobs.csv /data/renders --size 512
#
# KIND is gpu or tpu; CLAIM is a PersistentVolumeClaim that many may write to, mounted at /data.
# NAME names the job, PRINT=1 prints it and sends nothing. For tpu: ACCELERATOR, TOPOLOGY and CHIPS
# of slices of one host.
set -euo pipefail
usage='usage: WORKERS=8 IMAGE=IMAGE CLAIM=CLAIM kubernetes.sh gpu|tpu MANIFEST OUTPUT_DIR [OPTION...]'
kind=${1:?$usage}
: "${2:?$usage}" "${3:?$usage}"
: "${WORKERS:?say how many workers: WORKERS=8}" "${IMAGE:?$usage}" "${CLAIM:?$usage}"

quoted() { # a text as JSON has it, which is YAML too
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

arguments=$(quoted "$2")
arguments+=", \"--output-dir\", $(quoted "$3"), \"--shard\", \"auto\""
for option in "${@:4}"; do arguments+=", $(quoted "$option")"; done

job=$(cat "$(dirname "$0")/kubernetes_$kind.yaml")
for setting in "NAME=${NAME:-nst-jax}" "WORKERS=$WORKERS" "IMAGE=$IMAGE" "CLAIM=$CLAIM" \
  "ACCELERATOR=${ACCELERATOR:-tpu-v5-lite-podslice}" "TOPOLOGY=${TOPOLOGY:-2x4}" \
  "CHIPS=${CHIPS:-8}" "ARGUMENTS=$arguments"; do
  job=${job//"@${setting%%=*}@"/"${setting#*=}"}
done

if [[ ${PRINT:-} ]]; then
  printf '%s\n' "$job"
else
  kubectl apply --filename - <<<"$job"
fi
