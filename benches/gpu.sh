#!/usr/bin/env bash
# All there is to do on a machine with a GPU: builds, checks parity, looks for memory faults, times, prints the table.
#   benches/gpu.sh [OUT]          OUT.md, OUT.json, OUT.png and logs beside them; default target/gpu
#   benches/gpu.sh --pack FILE    for a machine without Rust and network: programs and Python packages as FILE (.tar.xz);
#                                 there: mkdir gpu && tar -xJf FILE -C gpu && gpu/benches/gpu.sh OUT
#   ONLY="check time slide"       some of the parts, for machines that give a command ten minutes; default all
#   PYTHON=…                      an interpreter with torch, torchvision, matplotlib, pyarrow (timm,
#                                 segmentation-models-pytorch, tiatoolbox and shapely are packed)
#   SLIDE=… WEIGHTS=…             a slide and weights of a nuclei network: run on both devices, and the nuclei compared;
#                                 without them random weights on a made-up slide are timed and nothing is compared
#   EMULATE=1                     a rehearsal without a GPU: small sizes on the emulated driver; no time of it means anything
# What is not there is said and left out; the rest goes on. Ends with 1 where a check fails.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
profile=${PROFILE:-release}
only=${ONLY:-check time slide}
missing=()
failed=()
say() { printf '\n== %s\n' "$*"; }
wanted() { [[ " $only " == *" $1 "* ]]; }

# The path of a test's or bench's program, built if need be.
program() { # KIND NAME
  if [ -x "programs/$2" ]; then
    echo "$root/programs/$2"
  else
    cargo "$1" --no-run --locked --profile "$profile" --features cuda "--$3" "$2" 2>&1 | sed -n 's/.*(\(target[^)]*\)).*/\1/p' | tail -n 1 | sed "s|^|$root/|"
  fi
}
folder() { [ "$profile" = dev ] && echo debug || echo "$profile"; }

pack() { # FILE
  local to stubs
  to=$(mktemp -d)
  cargo build --profile "$profile" --locked --features cuda --bin wsi-run || exit 1
  mkdir -p "$to/programs" "$to/python" "$to/fixtures/models"
  cp "target/$(folder)/wsi-run" "$to/programs/"
  cp "$(program test cuda test)" "$to/programs/cuda" || exit 1
  cp "$(program bench gpu bench)" "$to/programs/gpu" || exit 1
  strip "$to"/programs/*
  cp -r --parents benches/gpu.sh benches/peers kernels tests/emulation fixtures/models/make.py "$to/"
  cp /usr/local/lib/libopenslide.so.1 "$to/programs/" 2>/dev/null || true
  # Python packages that are files alone, and for the other machine's Python those that are not.
  "$python" - "$to/python" <<'PY'
import importlib.util, pathlib, shutil, sys
to = pathlib.Path(sys.argv[1])
for name in ("timm", "segmentation_models_pytorch"):
    found = importlib.util.find_spec(name)
    if found is None:
        print(f"not packed: {name} is not installed here")
        continue
    shutil.copytree(pathlib.Path(found.origin).parent, to / name, ignore=shutil.ignore_patterns("__pycache__", "datasets"))
# Of tiatoolbox the network alone: what else it imports is not needed to run it.
found = importlib.util.find_spec("tiatoolbox")
if found is not None:
    root = pathlib.Path(found.origin).parent
    files = {"__init__.py": "logger = None\n", "models/__init__.py": "", "models/architecture/__init__.py": "", "utils/__init__.py": "",
             "utils/misc.py": "get_bounding_box = pad_contours = select_device = None\n"}
    for name, text in files.items():
        (to / "tiatoolbox" / name).parent.mkdir(parents=True, exist_ok=True)
        (to / "tiatoolbox" / name).write_text(text)
    for name in ("models/architecture/hovernet.py", "models/architecture/utils.py", "models/models_abc.py"):
        shutil.copy(root / name, to / "tiatoolbox" / name)
    (to / "dask").mkdir()
    (to / "dask/__init__.py").write_text("")
    (to / "dask/array.py").write_text("class Array: pass\n")
PY
  "$python" -m pip download -q --no-deps --only-binary=:all: --python-version "${TARGET_PYTHON:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d "$to/wheels" shapely==2.1.2 \
    && (cd "$to/python" && for wheel in ../wheels/*.whl; do "$python" -m zipfile -e "$wheel" .; done) || say "not packed: shapely"
  rm -rf "$to/wheels"
  [ -n "${SLIDE:-}" ] && mkdir -p "$to/data" && cp "$SLIDE" "$to/data/slide.${SLIDE##*.}"
  [ -n "${WEIGHTS:-}" ] && mkdir -p "$to/data" && cp "$WEIGHTS" "$to/data/weights.safetensors"
  tar -C "$to" -cJf "$1" . || exit 1
  rm -rf "$to"
  ls -l "$1"
}

if [ "${1:-}" = --pack ]; then
  [ -e programs/wsi-run ] || . .ci/setup --cuda
  pack "${2:?a file}"
  exit 0
fi

out=${1:-target/gpu}
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
if [ -d programs ]; then
  export PYTHONPATH="$root/python${PYTHONPATH:+:$PYTHONPATH}" LD_LIBRARY_PATH="$root/programs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  for slide in data/slide.*; do [ -e "$slide" ] && SLIDE=${SLIDE:-$root/$slide}; done
  [ -e data/weights.safetensors ] && WEIGHTS=${WEIGHTS:-$root/data/weights.safetensors}
else
  . .ci/setup --cuda
fi

say "the GPU"
if [ -n "${EMULATE:-}" ]; then
  driver=$(mktemp -d)
  g++ -std=c++20 -pthread -w -O2 -march=native -ffp-contract=off -fPIC -shared -o "$driver/libcuda.so" kernels/emulation/driver.cpp || exit 1
  export LD_LIBRARY_PATH="$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  echo "none: the emulated driver. NO TIME BELOW MEANS ANYTHING."
  missing+=("everything about speed: this was a rehearsal without a GPU")
elif command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv; then
  :
else
  missing+=("nvidia-smi: no driver, perhaps no GPU")
fi

say "programs"
if [ -d programs ]; then
  wsi_run=$root/programs/wsi-run
else
  cargo build --profile "$profile" --locked --features cuda --bin wsi-run || exit 1
  wsi_run=$root/target/$(folder)/wsi-run
fi
tests=$(program test cuda test)
bench=$(program bench gpu bench)
ls -l "$wsi_run" "$tests" "$bench" || exit 1

if wanted check; then
  if [ -z "${EMULATE:-}" ]; then
    say "parity on the GPU: every kernel and every network, against the processor"
    "$tests" on_a_gpu --nocapture --test-threads 1 > "$out.parity.txt" 2>&1
    code=$?
    tail -n 40 "$out.parity.txt"
    if [ $code != 0 ]; then
      say "PARITY FAILS; nothing is timed"
      exit 1
    fi
    grep -q "skipped" "$out.parity.txt" && missing+=("parity on a GPU: $(grep -m 1 skipped "$out.parity.txt")")

    say "compute-sanitizer"
    if command -v compute-sanitizer >/dev/null 2>&1; then
      for tool in memcheck racecheck initcheck synccheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 9 "$tests" on_a_gpu::every_kernel --test-threads 1 > "$out.$tool.txt" 2>&1
        case $? in
          0) echo "$tool: clean" ;;
          9) echo "$tool: FINDS FAULTS, see $out.$tool.txt" && failed+=("$tool") ;;
          *) missing+=("$tool: $(grep -m 1 -i -E 'error|not supported' "$out.$tool.txt" || tail -n 1 "$out.$tool.txt")") ;;
        esac
      done
    else
      missing+=("compute-sanitizer: not on the path")
    fi
  else
    missing+=("parity on a GPU, compute-sanitizer: no GPU")
  fi
fi

if wanted time; then
  say "timing"
  sizes=(--batch "${BATCHES:-16,64,256}" --secs "${SECS:-1}" --steps)
  [ -n "${EMULATE:-}" ] && sizes=(--batch 2 --secs 0.01 --steps light_mu_seg=64)
  if "$bench" --bench "${sizes[@]}" > "$out.jsonl" 2> "$out.timing.txt"; then
    grep -q "nothing is timed" "$out.timing.txt" && missing+=("timing: $(cat "$out.timing.txt")")
  else
    failed+=("timing: $(tail -n 1 "$out.timing.txt")")
  fi
  "$python" benches/peers/gpu.py "$out.jsonl" "$out" || failed+=("the table: $python failed")
  grep -q "not run" "$out.md" 2>/dev/null && missing+=("what $out.md calls \"not run\"")
fi

# A run on a device; its seconds per mm² of tissue.
run_slide() { # DEVICE YAML
  rm -rf "$out.$1"
  printf '%s\noutput: { dir: "%s" }\n' "$2" "$out.$1" > "$out.$1.yaml"
  "$wsi_run" "$out.$1.yaml" > "$out.$1.txt" 2>&1 || { tail -n 5 "$out.$1.txt"; return 1; }
  "$python" benches/peers/secs_per_mm2.py "$out.$1" "$1"
}

if wanted slide; then
  if [ -n "${SLIDE:-}" ] && [ -n "${WEIGHTS:-}" ]; then
    say "a whole slide on both devices"
    for device in cpu cuda; do
      run_slide $device "slides: { list: [\"$SLIDE\"] }
model: { network: { weights: \"$WEIGHTS\", device: $device } }" || missing+=("the slide on $device: $(tail -n 1 "$out.$device.txt")")
    done
    if [ -d "$out.cpu/nuclei" ] && [ -d "$out.cuda/nuclei" ]; then
      "$python" benches/peers/same_nuclei.py "$out.cpu" "$out.cuda"
      case $? in
        0) ;;
        1) failed+=("the nuclei of both devices: fewer than 99.5 % are the same") ;;
        *) missing+=("the nuclei of both devices: not compared") ;;
      esac
    else
      missing+=("the nuclei of both devices: not compared")
    fi
  else
    missing+=("a whole slide on both devices: set SLIDE and WEIGHTS of a trained nuclei network")
  fi
  say "HistoNeXt-Tiny end to end, random weights, a made-up slide at 0.25 µm/px (goal 0.6 s per mm² on an H100 and 16 cores)"
  network=histonext_tiny size="width_px: 24000, height_px: 18000" tile=
  [ -n "${EMULATE:-}" ] && network=light_mu_seg size="width_px: 4000, height_px: 3200" tile=$'\ntiling: { input_mpp: 4, tile_px: 64, margin_px: 0 }'
  run_slide cuda "slides: { synthetic: { count: 1, $size, mpp: 0.25 } }
pixels: { stain: { macenko: {} } }$tile
model: { network: { name: $network, weights: random, device: cuda } }" || missing+=("end to end: $(grep -m 1 error "$out.cuda.txt" || tail -n 1 "$out.cuda.txt")")
  echo "random weights find no nuclei to speak of: post-processing and tables are timed with WEIGHTS only"
fi

say "not measured"
printf '%s\n' "${missing[@]:-nothing}"
if [ ${#failed[@]} -gt 0 ]; then
  say "FAILED"
  printf '%s\n' "${failed[@]}"
  exit 1
fi
