#!/usr/bin/env bash
# One shard on each host of a Cloud TPU slice; hosts do not wait for each other.
#
#   TPU=my-slice ZONE=us-west4-a scripts/launch/tpu_slice.sh gs://bucket/jobs.csv gs://bucket/renders
#
# nst-jax[tpu,gcs] is installed on every host. Run it again after a preemption: what is done is
# skipped. tpu_host.sh is what each host runs.
set -euo pipefail
: "${1:?usage: TPU=NAME ZONE=ZONE tpu_slice.sh MANIFEST OUTPUT_DIR [OPTION...]}"
: "${2:?usage: TPU=NAME ZONE=ZONE tpu_slice.sh MANIFEST OUTPUT_DIR [OPTION...]}"
host=$(cat "$(dirname "$0")/tpu_host.sh")
command="CHIPS=$(printf %q "${CHIPS:-}") bash -c $(printf %q "$host") tpu_host.sh $(printf '%q ' "$@")"
exec gcloud compute tpus tpu-vm ssh "${TPU:?say which TPU: TPU=NAME}" \
  --zone "${ZONE:?say where it is: ZONE=us-west4-a}" --worker=all --command "$command"
