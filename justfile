# Each task wraps what CI and people call directly; nothing here is needed to build or test.

# cross looks for Cross.toml unless told otherwise.
export CROSS_CONFIG := "cross.toml"

# The tasks.
default:
    @just --list

# Formatting, lints, and the proof that kit-protocol needs no std.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    scripts/no_std.sh

# Everything that CI runs, with what it needs installed where that is allowed.
test:
    tests/run

# Fuzzes every target for so many seconds: `just fuzz 600`; one of them: `scripts/fuzz.sh decode-glucose-meter 3600`.
fuzz seconds="60":
    scripts/fuzz.sh all {{seconds}}

# As CI runs it: nothing may be skipped but what is named there.
ci:
    .ci/run

# The whole kit on this machine: `just demo --seconds 120 --cuts 3`.
demo *arguments:
    cargo run --release --bin demo -- {{arguments}}

# A simulated device: `just sim device oximeter-nonin --pty /tmp/oximeter`.
sim *arguments:
    cargo run --release --bin kit-sim -- {{arguments}}

# The simulation of a record's whole way over so many seeds: `just simulate 100000`.
simulate seeds="10000" first="1":
    KIT_SIM_SEEDS={{seeds}} KIT_SIM_FIRST={{first}} cargo test --workspace --lib --locked sync::simulation::i2 -- --nocapture

# The figures of BENCHMARKS.md: ratios in one run each, about a quarter of an hour. A quiet machine says more.
bench:
    cargo build --release --package kit-agent
    cargo bench --package kit-agent --bench append
    cargo bench --package system-tests --bench decoders
    cargo bench --package system-tests --bench wire --bench drain --bench footprint --bench startup
    taskset -c 0 cargo run --release --package kit-centre --example ingest_rate

# Other people's readers of EDF, WFDB and FLAC against what kit-agent writes; needs Python, flac and the package index.
exports:
    scripts/check_exports

# Random packets of every standard characteristic, decoded by tshark and by kit-agent and compared; needs Python and tshark.
dissect *arguments:
    cargo build --locked --package kit-agent
    scripts/check_decoders.py target/debug/kit-agent {{arguments}}

# What takes too long for every change: the demo over both brokers and several seeds, with faults, then other people's decoders and
# readers, and benchmarks.
nightly: && dissect exports bench
    for seed in 1 2 3; do for broker in embedded mosquitto; do cargo run --release --bin demo -- --json --seconds 300 --cuts 5 --kills 3 --seed $seed --broker $broker || exit 1; done; done

# Licences, sources, banned crates and, where the advisory database can be reached, advisories.
deny:
    cargo deny check

# The agent for a gateway; needs cross and a container engine, see cross.toml.
cross target="aarch64-unknown-linux-gnu":
    cross build --locked --profile dist --package kit-agent --target {{target}}
