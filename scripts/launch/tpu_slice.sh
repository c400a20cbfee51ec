#!/usr/bin/env bash
# One shard on each host of a Cloud TPU slice; hosts do not wait for each other.
#
#   TPU=my-slice ZONE=us-west4-a scripts/launch/tpu_slice.sh gs://bucket/jobs.csv gs://bucket/renders
#
# nst-jax[tpu,gcs] is installed on every host. Run it again after a preemption: what is done is
# skipped. tpu_host.sh is what each host runs.
set -euo pipefail
usage='usage: TPU=NAME ZONE=ZONE tpu_slice.sh MANIFEST OUTPUT_DIR [OPTION...]'
refuse() { printf '%s\n' "tpu_slice.sh: $1" >&2; exit 2; }

if [[ ${1:-} == --help || ${1:-} == -h ]]; then printf '%s\n' "$usage"; exit 0; fi
[[ ${1:-} && ${2:-} && ${1:-} != -* ]] || refuse "$usage"
[[ ${TPU:-} ]] || refuse "TPU must name the slice, got none; $usage"
[[ ${ZONE:-} ]] || refuse "ZONE must say where it is, got none; $usage"
for option in "${@:3}"; do
  [[ $option != --shard && $option != --shard=* ]] ||
    refuse "no --shard may be given, the recipe sets it, got $option"
done

host=$(cat "$(dirname "$0")/tpu_host.sh")
command="CHIPS=$(printf %q "${CHIPS:-}") bash -c $(printf %q "$host") tpu_host.sh $(printf '%q ' "$@")"
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone "$ZONE" --worker=all --command "$command"
