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
# What is not there is said and left out; the rest goes on. Ends with a table of every goal: what was found, or that it was
# not measured and why. Ends with 1 where a check fails.
set -uo pipefail
here=$PWD
cd "$(dirname "$0")/.."
root=$PWD
python=${PYTHON:-python3}
profile=${PROFILE:-release}
only=${ONLY:-check time slide}
rehearsal=${EMULATE:+a rehearsal without a GPU}
failed=()
say() { printf '\n== %s\n' "$*"; }
wanted() { [[ " $only " == *" $1 "* ]]; }

# A line of the last table: what, goal, and what was found.
rows=()
row() { rows+=("| $1 | $2 | $3 |"); }
unmeasured() { row "$1" "$2" "NOT MEASURED: ${3//|/,}"; }
fails() { row "$1" "$2" "FAILS: ${3//|/,}" && failed+=("$1"); }
# The last line that says something of a log.
last_of() { [ -s "$1" ] && grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-200; }

# The path of a test's or bench's program, built if need be.
program() { # COMMAND NAME KIND
  if [ -x "programs/$2" ]; then
    echo "$root/programs/$2"
  else
    cargo "$1" --no-run --locked --profile "$profile" --features cuda "--$3" "$2" 2>&1 | tee >(cat >&2) | sed -n 's/.*(\(.*\)).*/\1/p' | tail -n 1 | sed "s|^\([^/]\)|$root/\1|"
  fi
}
folder() { [ "$profile" = dev ] && echo debug || echo "$profile"; }
target() { echo "${CARGO_TARGET_DIR:-$root/target}"; }

pack() { # FILE
  local to
  to=$(mktemp -d)
  trap "rm -rf '$to'" EXIT
  cargo build --profile "$profile" --locked --features cuda --bin wsi-run || exit 1
  mkdir -p "$to/programs" "$to/python" "$to/fixtures/models"
  cp "$(target)/$(folder)/wsi-run" "$to/programs/" || exit 1
  cp "$(program test all test)" "$to/programs/all" || exit 1
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
else:
    print("not packed: tiatoolbox is not installed here")
PY
  "$python" -m pip download -q --no-deps --only-binary=:all: --python-version "${TARGET_PYTHON:-3.12}" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 -d "$to/wheels" shapely==2.1.2 \
    && (cd "$to/python" && for wheel in ../wheels/*.whl; do "$python" -m zipfile -e "$wheel" .; done) || say "not packed: shapely"
  rm -rf "$to/wheels"
  [ -n "${SLIDE:-}" ] && mkdir -p "$to/data" && cp "$SLIDE" "$to/data/slide.${SLIDE##*.}"
  [ -n "${WEIGHTS:-}" ] && mkdir -p "$to/data" && cp "$WEIGHTS" "$to/data/weights.safetensors"
  XZ_OPT=${XZ_OPT:--T0} tar -C "$to" -cJf "$1" . || exit 1
  ls -l "$1"
}

# Where relative names are meant from.
from_here() { case "$1" in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
# In a process of its own: what the setup sets would end this script at the first thing that is not there.
setup() {
  bash "$root/.ci/setup" --cuda || exit 1
  if [ -f "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
}

if [ "${1:-}" = --pack ]; then
  [ -e programs/wsi-run ] || setup
  pack "$(from_here "${2:?a file}")"
  exit 0
fi

out=$(from_here "${1:-$root/target/gpu}")
mkdir -p "$(dirname "$out")"
out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
if [ -d programs ]; then
  export PYTHONPATH="$root/python${PYTHONPATH:+:$PYTHONPATH}" LD_LIBRARY_PATH="$root/programs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  for slide in data/slide.*; do [ -e "$slide" ] && SLIDE=${SLIDE:-$root/$slide}; done
  [ -e data/weights.safetensors ] && WEIGHTS=${WEIGHTS:-$root/data/weights.safetensors}
else
  setup
fi

say "the GPU"
if [ -n "$rehearsal" ]; then
  driver=$(mktemp -d)
  trap 'rm -rf "$driver"' EXIT
  g++ -std=c++20 -pthread -w -O2 -march=native -ffp-contract=off -fPIC -shared -o "$driver/libcuda.so" kernels/emulation/driver.cpp || exit 1
  export LD_LIBRARY_PATH="$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  echo "none: the emulated driver. NO TIME BELOW MEANS ANYTHING."
elif ! { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv; }; then
  echo "nvidia-smi finds none: no driver, perhaps no GPU"
fi

say "programs"
if [ -d programs ]; then
  wsi_run=$root/programs/wsi-run
else
  cargo build --profile "$profile" --locked --features cuda --bin wsi-run || exit 1
  wsi_run=$(target)/$(folder)/wsi-run
fi
tests=$(program test all test)
bench=$(program bench gpu bench)
ls -l "$wsi_run" "$tests" "$bench" || exit 1

# Tests on the GPU whose names begin so.
parity() { # WHAT GOAL TESTS LOG
  local code
  # Names of tests may be several.
  "$tests" $3 --nocapture --test-threads 1 > "$out.$4.txt" 2>&1
  code=$?
  tail -n 40 "$out.$4.txt"
  if [ $code != 0 ]; then
    fails "$1" "$2" "see $out.$4.txt"
  elif grep -q "skipped" "$out.$4.txt"; then
    unmeasured "$1" "$2" "$(grep -m 1 skipped "$out.$4.txt")"
  elif [ -n "$rehearsal" ]; then
    unmeasured "$1" "$2" "$rehearsal, which passes"
  elif ! grep -Eq '^test result: ok\. [1-9]' "$out.$4.txt"; then
    fails "$1" "$2" "no test ran, see $out.$4.txt"
  else
    row "$1" "$2" "passes"
  fi
}

kernels="every kernel against the processor's" networks="every network against the processor"
blending="overlapping tiles blended against the processor's" blended=cuda_canvas::on_a_gpu
if wanted check; then
  say "parity on the GPU: every kernel and every network, against the processor"
  if [ -n "$rehearsal" ]; then
    # The emulated driver has the kernels of half precision; networks of full size would take hours there.
    parity "$kernels" "4e-3, bf16 3e-2" on_a_gpu::every_kernel_gives_in_half parity
    parity "$blending" "the same bytes" $blended canvas
    unmeasured "$networks" "1e-2" "$rehearsal"
  else
    parity "$kernels" "4e-3, bf16 3e-2" on_a_gpu::every_kernel parity
    parity "$blending" "the same bytes" $blended canvas
    parity "$networks" "1e-2" on_a_gpu::every_network networks
  fi
  if [ ${#failed[@]} -gt 0 ]; then
    say "PARITY FAILS; nothing is timed"
    only=check
  fi

  say "compute-sanitizer"
  for tool in memcheck racecheck initcheck synccheck; do
    if [ -n "$rehearsal" ]; then
      unmeasured "compute-sanitizer $tool" "clean" "$rehearsal"
    elif ! command -v compute-sanitizer >/dev/null 2>&1; then
      unmeasured "compute-sanitizer $tool" "clean" "it is not on the path"
    else
      compute-sanitizer --tool "$tool" --error-exitcode 9 "$tests" on_a_gpu::every_kernel $blended --nocapture --test-threads 1 > "$out.$tool.txt" 2>&1
      case $? in
        0) if grep -q "skipped" "$out.$tool.txt"; then unmeasured "compute-sanitizer $tool" "clean" "$(grep -m 1 skipped "$out.$tool.txt")"
           else row "compute-sanitizer $tool" "clean" "clean"; fi ;;
        9) fails "compute-sanitizer $tool" "clean" "see $out.$tool.txt" ;;
        *) unmeasured "compute-sanitizer $tool" "clean" "$(grep -m 1 -i -E 'error|not supported' "$out.$tool.txt" || last_of "$out.$tool.txt")" ;;
      esac
    fi
  done
else
  for what in "$kernels" "$blending" "$networks" compute-sanitizer; do unmeasured "$what" "" "ONLY=\"$only\""; done
fi

if wanted time; then
  say "timing"
  sizes=(--batch "${BATCHES:-16,64,256}" --secs "${SECS:-1}" --steps)
  [ -n "$rehearsal" ] && sizes=(--batch 2 --rehearse --steps --kernels light_mu_seg=64 crescent_dense_net=64)
  "$bench" --bench "${sizes[@]}" > "$out.jsonl" 2> "$out.timing.txt" || fails "timing" "" "$(last_of "$out.timing.txt")"
  # The kernels that the networks of the goals do not have.
  if [ -z "$rehearsal" ]; then
    "$bench" --bench --batch 16 --secs 0.2 --steps --kernels light_mu_seg=512 u_net=256 u_net_mit_b0=256 ctranspath=224 >> "$out.jsonl" 2>> "$out.timing.txt"
  fi
  grep -q "nothing is timed" "$out.timing.txt" && last_of "$out.timing.txt"
  rm -f "$out.rows"
  "$python" benches/peers/gpu.py "$out.jsonl" "$out" || fails "the table of networks" "" "$python benches/peers/gpu.py"
  while IFS= read -r line; do rows+=("$line"); done < <(cat "$out.rows" 2>/dev/null)
else
  unmeasured "images/s of networks, beside PyTorch" "" "ONLY=\"$only\""
fi

# A run on a device; its seconds per mm² of tissue.
run_slide() { # NAME YAML
  rm -rf "$out.$1" "$out.$1.secs.txt"
  printf '%s\noutput: { dir: "%s" }\n' "$2" "$out.$1" > "$out.$1.yaml"
  "$wsi_run" "$out.$1.yaml" > "$out.$1.txt" 2>&1 || { tail -n 5 "$out.$1.txt"; return 1; }
  "$python" benches/peers/secs_per_mm2.py "$out.$1" "$1" 2>&1 | tee "$out.$1.secs.txt"
}
# Why a run gave nothing: the program or what reads its tables.
why_not() { grep -m 1 error "$out.$1.txt" || last_of "$out.$1.secs.txt" || last_of "$out.$1.txt"; }

same="a slide's nuclei on both devices" same_goal="99.5 % at IoU > 0.9"
if wanted slide; then
  if [ -n "${SLIDE:-}" ] && [ -n "${WEIGHTS:-}" ]; then
    say "a whole slide on both devices"
    done_on=0
    for device in cpu cuda; do
      if run_slide "$device" "slides: { list: [\"$SLIDE\"] }
model: { network: { weights: \"$WEIGHTS\", device: $device } }"; then
        done_on=$((done_on + 1))
      else
        unmeasured "$same: $device" "$same_goal" "$(why_not "$device")"
      fi
    done
    if [ $done_on = 2 ]; then
      "$python" benches/peers/same_nuclei.py "$out.cpu" "$out.cuda" 2>&1 | tee "$out.same.txt"
      case ${PIPESTATUS[0]} in
        0) if [ -n "$rehearsal" ]; then unmeasured "$same" "$same_goal" "$rehearsal: $(last_of "$out.same.txt")"
           else row "$same" "$same_goal" "$(last_of "$out.same.txt")"; fi ;;
        1) fails "$same" "$same_goal" "$(last_of "$out.same.txt")" ;;
        *) unmeasured "$same" "$same_goal" "$(last_of "$out.same.txt")" ;;
      esac
    fi
  else
    unmeasured "$same" "$same_goal" "set SLIDE and WEIGHTS of a trained nuclei network"
  fi

  say "HistoNeXt-Tiny end to end, random weights, a made-up slide at 0.25 µm/px"
  end="HistoNeXt-Tiny end to end, no nuclei" end_goal="≤ 0.6 s per mm² on an H100 and 16 cores"
  network=histonext_tiny size="width_px: 24000, height_px: 18000" tile=
  [ -n "$rehearsal" ] && network=light_mu_seg size="width_px: 4000, height_px: 3200" tile=$'\ntiling: { input_mpp: 4, tile_px: 64, margin_px: 0 }'
  if run_slide end "slides: { synthetic: { count: 1, $size, mpp: 0.25 } }
pixels: { stain: { macenko: {} } }$tile
model: { network: { name: $network, weights: random, device: cuda } }"; then
    if [ -n "$rehearsal" ]; then unmeasured "$end" "$end_goal" "$rehearsal, in which $network ran"
    else row "$end" "$end_goal" "$(grep -o '[0-9.]* s/mm²' "$out.end.secs.txt" | head -n 1)"; fi
  else
    unmeasured "$end" "$end_goal" "$(why_not end)"
  fi
  echo "random weights find no nuclei to speak of: post-processing and tables are timed with WEIGHTS only"

  say "tiles at half a stride, blended on the GPU and on the processor, random weights, a made-up slide at 0.25 µm/px"
  twice="a slide of overlapping tiles" bytes="a slide blended on either device"
  size="width_px: 12000, height_px: 9000"
  [ -n "$rehearsal" ] && size="width_px: 4000, height_px: 3200"
  done_on=0
  for on_device in true false; do
    if run_slide "blended_$on_device" "slides: { synthetic: { count: 1, $size, mpp: 0.25 } }
stitch: { blend: {}, on_device: $on_device }$tile
model: { network: { name: $network, weights: random, device: cuda:0 } }"; then
      done_on=$((done_on + 1))
      if [ -n "$rehearsal" ]; then unmeasured "$twice, on_device: $on_device" "" "$rehearsal, in which $network ran"
      else row "$twice, on_device: $on_device" "" "$(grep -o '[0-9.]* s/mm²' "$out.blended_$on_device.secs.txt" | head -n 1)"; fi
    else
      unmeasured "$twice, on_device: $on_device" "" "$(why_not "blended_$on_device")"
    fi
  done
  if [ $done_on = 2 ]; then
    # Masks and the table; what tells of times lies elsewhere.
    differs=
    for folder in masks nuclei lesions; do
      if [ -e "$out.blended_true/$folder" ]; then differs+=$(diff -rq "$out.blended_true/$folder" "$out.blended_false/$folder" 2>&1 | head -n 1); fi
    done
    if [ -z "$differs" ]; then
      if [ -n "$rehearsal" ]; then unmeasured "$bytes" "the same bytes" "$rehearsal, which passes"
      else row "$bytes" "the same bytes" "the same"; fi
    else
      fails "$bytes" "the same bytes" "$differs"
    fi
  fi
else
  unmeasured "slides end to end" "" "ONLY=\"$only\""
fi

say "all goals"
{
  printf '| what | goal | found |\n|---|---|---|\n'
  printf '%s\n' "${rows[@]}"
} | tee "$out.goals.md"
printf '\n%d of %d measured; the table is in %s\n' "$(printf '%s\n' "${rows[@]}" | grep -vc 'NOT MEASURED')" "${#rows[@]}" "$out.goals.md"
if [ ${#failed[@]} -gt 0 ]; then
  say "FAILED"
  printf '%s\n' "${failed[@]}"
  exit 1
fi
