#!/bin/bash
# scripts/no_std.sh: proves that kit-protocol (without features) needs nothing but core and alloc.
#
# The crate is checked for an explicit --target against a sysroot that holds only core, alloc and compiler_builtins, copied from
# rustc's own. With --target, cargo builds build scripts and procedural macros for the host, with the real sysroot. To know that
# the proof can fail, a crate that uses std is checked the same way and must be refused.
set -euo pipefail
cd "$(dirname "$0")/.."

triple=$(rustc -vV | sed -n 's/^host: //p')
own=$(rustc --print sysroot)/lib/rustlib/$triple/lib
work=${CARGO_TARGET_DIR:-target}/no-std
mkdir -p "$work"
work=$(cd "$work" && pwd)
bare=$work/sysroot/lib/rustlib/$triple/lib
rm -rf "$work/sysroot"
mkdir -p "$bare"
for crate in core alloc compiler_builtins; do
  cp "$own"/lib"$crate"-*.r{lib,meta} "$bare"/ 2>/dev/null || cp "$own"/lib"$crate"-*.rlib "$bare"/
done
if ls "$bare" | grep -q '^libstd-'; then echo "no_std: std got into the bare sysroot" >&2; exit 1; fi

flags=CARGO_TARGET_$(echo "$triple" | tr 'a-z-' 'A-Z_')_RUSTFLAGS
check() { env -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS "$flags=--sysroot $work/sysroot" CARGO_TARGET_DIR="$work/target" cargo check --quiet --target "$triple" "$@"; }

check --package kit-protocol --lib --no-default-features
echo "no_std: kit-protocol needs only core and alloc"

mkdir -p "$work/uses-std/src"
cat > "$work/uses-std/Cargo.toml" <<'TOML'
[package]
name = "uses-std"
version = "0.0.0"
edition = "2024"

[workspace]
TOML
echo 'pub fn length(path: &std::path::Path) -> usize { path.as_os_str().len() }' > "$work/uses-std/src/lib.rs"
if refused=$(check --offline --manifest-path "$work/uses-std/Cargo.toml" 2>&1); then
  echo "no_std: a crate that uses std passed the check, so it proves nothing" >&2
  exit 1
fi
if ! grep -q "can't find crate for .std." <<< "$refused"; then
  echo "no_std: a crate that uses std was refused for another reason:" >&2
  echo "$refused" >&2
  exit 1
fi
echo "no_std: and a crate that uses std is refused"
