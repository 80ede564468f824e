#!/bin/bash
# scripts/fuzz.sh list | all SECONDS | TARGET [SECONDS] [libFuzzer options]: fuzzes on the stable toolchain (g++ builds libFuzzer).
# Corpora begin with the vectors and grow in fuzz/corpus/TARGET; what breaks a promise is kept in fuzz/artifacts/TARGET, and ends with exit code 1.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
# A target triple keeps the instrumentation out of build scripts and macros.
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --locked --release --quiet --target "$triple"
program=${CARGO_TARGET_DIR:-target}/$triple/release/fuzz

# What ends in the first run counts as a crash to libFuzzer, which would keep it.
ask() { KIT_FUZZ_TARGET=$1 "$program" -exact_artifact_path=/dev/null 2> /dev/null || true; }
[ "${1:-list}" = list ] || ask seeds

run() { # TARGET SECONDS [options]
  local name=$1 seconds=$2
  shift 2
  mkdir -p "corpus/$name" "artifacts/$name"
  local log=artifacts/$name/log
  if ! KIT_FUZZ_TARGET=$name "$program" "corpus/$name" -max_total_time="$seconds" -artifact_prefix="artifacts/$name/" \
    -rss_limit_mb=1024 -timeout=10 -max_len=8192 "$@" > "$log" 2>&1; then
    tail -n 30 "$log"
    echo "fuzz: $name breaks a promise; the octets are in fuzz/artifacts/$name/"
    return 1
  fi
  printf '%-40s %s\n' "$name" "$(grep -a 'Done' "$log" || true)"
}

case ${1:-list} in
  list) ask list ;;
  all)
    export program
    export -f run
    ask list | xargs -P "$(nproc)" -I NAME bash -c 'run "$@"' fuzz NAME "${2:-10}" "${@:3}" || exit 1
    ;;
  *) run "$1" "${2:-60}" "${@:3}" ;;
esac
