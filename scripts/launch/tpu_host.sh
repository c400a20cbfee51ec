#!/usr/bin/env bash
# The shard of one host of a TPU slice. libtpu is told that this host is all there is: it would
# wait for all hosts otherwise, and one that dies would end the others.
#
# CHIPS is the arrangement of this host's chips: 2,2,1 for the four of v4, v5p, and of v5e and v6e
# in slices of several hosts.
set -euo pipefail
usage='usage: tpu_host.sh MANIFEST OUTPUT_DIR [OPTION...]'
refuse() { printf '%s\n' "tpu_host.sh: $1" >&2; exit 2; }

if [[ ${1:-} == --help || ${1:-} == -h ]]; then printf '%s\n' "$usage"; exit 0; fi
[[ ${1:-} && ${2:-} && ${1:-} != -* ]] || refuse "$usage"
for option in "${@:3}"; do
  [[ $option != --shard && $option != --shard=* ]] ||
    refuse "no --shard may be given, the recipe sets it, got $option"
done

attribute() {
  curl --silent --show-error --fail --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

index=$(attribute agent-worker-number)
hosts=$(attribute worker-network-endpoints)
count=$(tr ',' '\n' <<<"$hosts" | grep -c '[^[:space:]]' || true)
((count > 0)) || refuse "the metadata server must name the slice's hosts, got '$hosts'"

if ((count > 1)); then
  export TPU_SKIP_MDS_QUERY=1 TPU_WORKER_ID=0 TPU_WORKER_HOSTNAMES=localhost
  export TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=${CHIPS:-2,2,1}
  export TPU_VISIBLE_DEVICES=${DEVICES:-0,1,2,3}
fi
exec nst-jax batch "$1" --output-dir "$2" --shard "$index/$count" "${@:3}"
