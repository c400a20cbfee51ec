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
refuse() { printf '%s\n' "kubernetes.sh: $1" >&2; exit 2; }
must_be() { # NAME, its value, a pattern, the pattern in words
  [[ $2 =~ ^($3)$ ]] || refuse "$1 must be $4, got $(printf %q "$2"); $usage"
}

if [[ ${1:-} == --help || ${1:-} == -h ]]; then printf '%s\n' "$usage"; exit 0; fi
[[ ${1:-} && ${2:-} && ${3:-} && ${2:-} != -* ]] || refuse "$usage"
kind=$1 name=${NAME:-nst-jax}
accelerator=${ACCELERATOR:-tpu-v5-lite-podslice} topology=${TOPOLOGY:-2x4} chips=${CHIPS:-8}
label='[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?'
must_be KIND "$kind" 'gpu|tpu' 'gpu or tpu'
must_be WORKERS "${WORKERS:-}" '[1-9][0-9]{0,5}' 'a whole number above 0, at most 999999'
must_be IMAGE "${IMAGE:-}" '[A-Za-z0-9][-A-Za-z0-9._/:@]*' 'the name of an image'
must_be CLAIM "${CLAIM:-}" "$label(\\.$label)*" 'the name of a claim: a-z, 0-9, - and .'
must_be NAME "$name" "$label" 'a DNS label: a-z, 0-9 and -, at most 63, with neither end a -'
must_be 'NAME and the last index' "$name-$((WORKERS - 1))" "$label" '63 letters at most'
must_be ACCELERATOR "$accelerator" '[-A-Za-z0-9._]+' 'the value of a label'
must_be TOPOLOGY "$topology" '[0-9]+(x[0-9]+)*' 'such as 2x4'
must_be CHIPS "$chips" '[1-9][0-9]{0,3}' 'a whole number above 0'
for argument in "${@:2}"; do
  [[ $argument != *[[:cntrl:]]* ]] ||
    refuse "an argument must have no newline or other control character, got $(printf %q "$argument")"
  [[ $argument != --shard && $argument != --shard=* ]] ||
    refuse "no --shard may be given, the recipe sets it, got $argument"
done

quoted() { # a text as JSON has it, which is YAML too; Kubernetes reads $$ as $, and $(NAME) not so
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//\$/\$\$}"
}

arguments=$(quoted "$2")
arguments+=", \"--output-dir\", $(quoted "$3"), \"--shard\", \"auto\""
for option in "${@:4}"; do arguments+=", $(quoted "$option")"; done

job=$(cat "$(dirname "$0")/kubernetes_$kind.yaml")
for setting in "NAME=$name" "WORKERS=$WORKERS" "IMAGE=$IMAGE" "CLAIM=$CLAIM" \
  "ACCELERATOR=$accelerator" "TOPOLOGY=$topology" "CHIPS=$chips" "ARGUMENTS=$arguments"; do
  job=${job//"@${setting%%=*}@"/"${setting#*=}"}
done

if [[ ${PRINT:-} ]]; then
  printf '%s\n' "$job"
else
  kubectl apply --filename - <<<"$job"
fi
