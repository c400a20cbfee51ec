#!/usr/bin/env bash
# The shard of one host of a TPU slice. libtpu is told that this host is all there is: it would
# wait for all hosts otherwise, and one that dies would end the others.
#
# CHIPS is the arrangement of this host's chips: 2,2,1 for the four of v4, v5p, and of v5e and v6e
# in slices of several hosts.
set -euo pipefail

attribute() {
  curl --silent --show-error --fail --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

index=$(attribute agent-worker-number)
hosts=$(attribute worker-network-endpoints)
count=$(tr ',' '\n' <<<"$hosts" | grep -c .)

if ((count > 1)); then
  export TPU_SKIP_MDS_QUERY=1 TPU_WORKER_ID=0 TPU_WORKER_HOSTNAMES=localhost
  export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=${CHIPS:-2,2,1}
  export TPU_VISIBLE_DEVICES=${DEVICES:-0,1,2,3}
fi
exec nst-jax batch "$1" --output-dir "$2" --shard "$index/$count" "${@:3}"
