//! One fuzz target for each decoder, framing, file format and session: `KIT_FUZZ_TARGET` names the one that runs.
//!
//! `scripts/fuzz.sh` builds this with the instrumentation that libFuzzer needs and runs it; `scripts/fuzz.sh list` names the
//! targets, `KIT_FUZZ_TARGET=seeds` writes what each begins with into `corpus`. Most come from the tables of the project: a new driver or characteristic has its target with its row.
#![no_main]

mod round_trips;
mod seeds;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use targets::Target;

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("KIT_FUZZ_TARGET").unwrap_or_default();
        if name == "list" {
            targets::all().for_each(|target| println!("{}", target.name));
            std::process::exit(0);
        }
        if name == "seeds" {
            let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/vectors");
            if let Err(error) = seeds::write("corpus".as_ref(), vectors.as_ref()) {
                eprintln!("{vectors}: {error}");
                std::process::exit(1);
            }
            std::process::exit(0);
        }
        targets::all().find(|target| target.name == name).unwrap_or_else(|| {
            eprintln!("KIT_FUZZ_TARGET={name}: no such target; KIT_FUZZ_TARGET=list names them");
            std::process::exit(2);
        })
    })
}

fuzz_target!(|octets: &[u8]| (target().run)(octets));
