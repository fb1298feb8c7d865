#!/usr/bin/env bash
# Fuzzes our parsers: tests/fuzz/run.sh [SECONDS [PARSER...]], by default 600 s each, two at a time.
#   JOBS=4 tests/fuzz/run.sh 60 config tiff
# Needs cargo-fuzz and a nightly compiler. A parser's corpus is kept in target/fuzz/corpus, what breaks it in
# target/fuzz/found/PARSER; target/fuzz/summary.txt has a line per run: executions, minutes, coverage at first and at last.
set -euo pipefail
cd "$(dirname "$0")/../.."
secs=${1:-600}
[ $# -gt 0 ] && shift
root=$PWD/target/fuzz
mkdir -p "$root/build"
# The versions that the program is built with.
cp Cargo.lock tests/fuzz/Cargo.lock
# No sanitizer: our parsers are safe Rust; overflow and bounds are checked.
RUSTC_BOOTSTRAP=1 cargo fuzz build --fuzz-dir tests/fuzz --sanitizer none --target-dir "$root/build" parsers >&2
export program=$root/build/$(rustc -vV | sed -n 's/^host: //p')/release/parsers root secs
[ $# -gt 0 ] || set -- $(sed -n 's/^    Parser { name: "\([a-z_]*\)".*/\1/p' tests/fuzz/parsers/mod.rs)

one() {
  local corpus=$root/corpus/$1 found=$root/found/$1 log=$root/$1.log
  mkdir -p "$corpus" "$found"
  WSI_RUN_PARSER=$1 WSI_RUN_SEEDS=$corpus "$program" -max_total_time="$secs" -rss_limit_mb=2048 -timeout=20 \
    -malloc_limit_mb=1024 -max_len=40000 -artifact_prefix="$found/" -print_final_stats=1 "$corpus" >"$log" 2>&1
  local code=$?
  rm -rf /dev/shm/wsi-run-parsers-*-"$1" /dev/shm/wsi-run-parsers-*-"$1-made"
  echo "$1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, $((SECONDS / 60)) min," \
    "coverage $(grep -m1 -o 'INITED cov: [0-9]*' "$log" | grep -o '[0-9]*$') -> $(grep -o 'cov: [0-9]*' "$log" | tail -1 | grep -o '[0-9]*')," \
    "exit $code" | tee -a "$root/summary.txt"
}
export -f one
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -I{} nice -n 19 bash -c 'one {}'
