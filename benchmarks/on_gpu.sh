#!/usr/bin/env bash
# Everything that only a GPU can show, in under ten minutes on a bare machine with CUDA's torch (docs/gpu.md).
#
#   benchmarks/on_gpu.sh [--miniature] [--wheels FOLDER] [--textures FOLDER] [--recipe FILE] [--limit SECONDS] OUT [PART ...]
#
# Each part stands alone: its output goes to OUT/PART.log as it comes, and how it ended to OUT/summary.txt at once.
# A part that fails or outlasts its limit is named at the end, with exit status 1; the others go on.
set -uo pipefail

declare -A LIMITS=([wheels]=60 [machine]=30 [tests]=110 [accelerator]=180 [sharded]=100 [make-base]=100)  # seconds; together under ten minutes
PARTS=(wheels machine tests accelerator sharded make-base)
ROOT=$(cd "$(dirname "$0")/.." && pwd)

usage() {
  echo "Expected [--miniature] [--wheels FOLDER] [--textures FOLDER] [--recipe FILE] [--limit SECONDS] OUT [PART ...], found $1. Parts: ${PARTS[*]}." >&2
  exit 2
}

small="" wheels="" textures="" recipe="" limit=""
while [[ ${1:-} == --* ]]; do
  case $1 in
    --miniature) small=--miniature; shift; continue ;;
    --limit) [[ ${2:-} =~ ^[0-9]*[.]?[0-9]+$ ]] || usage "--limit ${2:-without seconds}"; limit=$2 ;;
    --wheels | --textures | --recipe) [[ -e ${2:-} ]] || usage "$1 with ${2:-nothing}, which is not there" ;;&
    --wheels) wheels=$(realpath "$2") ;;
    --textures) textures=$(realpath "$2") ;;
    --recipe) recipe=$(realpath "$2") ;;
    *) usage "$1" ;;
  esac
  shift 2
done
[[ -n ${1:-} ]] || usage "no OUT"
mkdir -p "$1" && OUT=$(realpath "$1") && shift || exit 2
for part in "$@"; do [[ -v LIMITS[$part] ]] || usage "the part $part"; done
[[ $# == 0 ]] || PARTS=("$@")

scratch=$(mktemp -d) && trap 'rm -rf "$scratch"' EXIT
cp "$ROOT/params.yaml" "$scratch" && cd "$scratch" || exit 2  # what the parts keep, such as .spool, goes with it
export ROOT OUT small wheels textures recipe  # for the parts
export PYTHONPATH="$scratch/packages:$ROOT" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1

# Into a folder of its own and without what the wheels ask for, so that the machine's torch stays as it is.
wheels() {
  [[ -n $wheels ]] || { echo "no --wheels: the machine's own packages"; return 0; }
  python3 -m pip install --disable-pip-version-check --quiet --no-index --no-deps --find-links "$wheels" --target packages "$wheels"/*.whl
}

machine() {
  ! command -v nvidia-smi > /dev/null || nvidia-smi
  python3 -m benchmarks.machine $small
}

# Where all of them would skip themselves, that is a failure. `-W default`: the machine's packages may warn where the pinned ones do not.
tests() {
  [[ -n $small ]] || python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "torch sees no GPU"; return 1; }
  (cd "$ROOT" && python3 -m pytest -rs -W default -p no:cacheprovider --durations 5 -m "${small:+not }requires_gpu" tests/test_devices.py)
}

accelerator() { python3 -m benchmarks.accelerator $small; }

sharded() { python3 -m benchmarks.sharded $small; }

# The base comes back as one file. Without --textures it is a short trial on computed ones, which shows the speed and gives no base to use.
make-base() {
  local pictures=$textures made_by=${recipe:-$ROOT/bases/textures.yaml} changes="" count=64 side=512
  [[ -n $pictures ]] || changes='s/^iterations: .*/iterations: 1000/'
  [[ -z $small ]] || count=2 side=128 changes='s/^(iterations|batch): .*/\1: 3/; s/^fitted: .*/fitted: 64/; s/^widths: .*/widths: [16, 16]/'
  sed -E "$changes" "$made_by" > recipe.yaml
  [[ -n $pictures ]] || { pictures=computed; python3 -m benchmarks.computed_textures computed "$count" "$side" || return; }
  python3 -m stage.cli make-base "$pictures" --recipe recipe.yaml --output base && tar -cf "$OUT/base.tar" base
}

# A part is a process of its own, so that `timeout` can end it with all that it started.
run() {
  local part=$1 started=$SECONDS most=${limit:-${LIMITS[$1]}} status
  timeout --kill-after=10 "$most" bash -uc "$(declare -f "$part"); $part" > "$OUT/$part.log" 2>&1
  status=$?
  case $status in
    0) echo "$part: done in $((SECONDS - started)) s" ;;
    124 | 137) echo "$part: stopped at its limit of $most s; what it said until then is in $part.log" ;;
    *) echo "$part: failed with status $status after $((SECONDS - started)) s; see $part.log" ;;
  esac | tee -a "$OUT/summary.txt"
  return "$status"
}

: > "$OUT/summary.txt"
failed=()
for part in "${PARTS[@]}"; do run "$part" || failed+=("$part"); done
[[ ${#failed[@]} == 0 ]] || { echo "failed: ${failed[*]}" | tee -a "$OUT/summary.txt" >&2; exit 1; }
