#!/usr/bin/env bash
# All there is to do on a machine with a GPU: builds, checks parity, looks for memory faults, times, prints the table.
#   benches/gpu.sh [OUT]        OUT.md, OUT.json, OUT.png; default target/gpu
#   PYTHON=…                    an interpreter with torch, timm, segmentation-models-pytorch, torchvision, matplotlib
#   SLIDE=… WEIGHTS=…           a slide and weights of a nuclei network: run on both devices, and the nuclei compared
# What is not there is said and left out; the rest goes on.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/gpu}
python=${PYTHON:-python3}
missing=()
say() { printf '\n== %s\n' "$*"; }
. .ci/setup --cuda

say "the GPU"
if command -v nvidia-smi >/dev/null 2>&1; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv
else
  missing+=("nvidia-smi: the driver, perhaps no GPU")
fi

say "building"
cargo build --release --locked --features cuda || exit 1

say "parity: every kernel and every network, against the processor"
if ! cargo test --release --locked --features cuda --test cuda on_a_gpu -- --nocapture --test-threads 1 | tee "$out.parity.txt"; then
  say "PARITY FAILS; nothing is timed"
  exit 1
fi
grep -q "skipped" "$out.parity.txt" && missing+=("parity on a GPU: $(grep -m 1 skipped "$out.parity.txt")")

say "compute-sanitizer"
if command -v compute-sanitizer >/dev/null 2>&1; then
  test_program=$(cargo test --release --locked --features cuda --test cuda --no-run 2>&1 | sed -n 's/.*(\(target[^)]*\)).*/\1/p')
  for tool in memcheck racecheck initcheck; do
    compute-sanitizer --tool "$tool" --error-exitcode 9 "$test_program" on_a_gpu::every_kernel --test-threads 1 2>&1 | tail -n 3 || missing+=("$tool: see above")
  done
else
  missing+=("compute-sanitizer: not on the path")
fi

say "timing"
cargo bench --locked --features cuda --bench gpu -- --batch 16,64,256 --steps > "$out.jsonl" || missing+=("timing: failed")
"$python" benches/peers/gpu.py "$out.jsonl" "$out" || missing+=("the table: $python failed")

if [ -n "${SLIDE:-}" ] && [ -n "${WEIGHTS:-}" ]; then
  say "a whole slide on both devices"
  for device in cpu cuda; do
    cat > "$out.$device.yaml" <<YAML
slides: { list: ["$SLIDE"] }
model: { network: { weights: "$WEIGHTS", device: $device } }
output: { dir: "$out.$device" }
YAML
    rm -rf "$out.$device"
    ( time target/release/wsi-run "$out.$device.yaml" ) 2>&1 | tail -n 8 || missing+=("the slide on $device: failed")
  done
  "$python" benches/peers/same_nuclei.py "$out.cpu" "$out.cuda" || missing+=("the slide's nuclei: not compared")
else
  missing+=("a whole slide on both devices: set SLIDE and WEIGHTS")
fi

say "not measured"
printf '%s\n' "${missing[@]:-nothing}"
