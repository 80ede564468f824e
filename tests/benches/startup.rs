//! From the start of a process to its first `Stored`, with a backlog in the store.
//!
//! `cargo bench -p system-tests --bench startup -- [--days 7] [--records 3000] [--rounds 5] [--dir DIR]`
//!
//! Each round starts a process that reads the configuration, keys and certificates, opens the store and appends one reading,
//! as the agent does; the time ends when that reading is durable. The file system's cache is warm.
#![expect(clippy::print_stdout, reason = "a measuring program")]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use harness::bench::kit::Kit;
use harness::bench::records::{self, Backlog};
use harness::bench::{Arguments, Failure, median, played};
use harness::clock;
use kit_agent::clock::Clock;
use kit_agent::config::Config;
use kit_agent::identity::Identity;
use kit_agent::store::outbox::{Appended, Class};
use kit_agent::store::thread::Draft;
use kit_protocol::uplink::id::{Lane, Origin};
use kit_protocol::uplink::wire::{self, record::Content};

/// The hidden first argument of a process that opens the store and appends.
const APPEND: &str = "--append";

fn main() -> ExitCode {
    if let Some(code) = played() {
        return code;
    }
    let outcome = if std::env::args().nth(1).is_some_and(|first| first == APPEND) {
        let place = std::env::args().nth(2).unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(append(Path::new(&place))))
    } else if let Some(arguments) = Arguments::of_this_program() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&arguments)))
    } else {
        println!("measures only under cargo bench");
        Ok(())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("startup: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (days, records, rounds) =
        (arguments.number("--days", 0)?, arguments.number("--records", 3_000)?, arguments.number("--rounds", 5_usize)?);
    let directory = match arguments.all("--dir").next() {
        Some(base) => tempfile::tempdir_in(base)?,
        None => tempfile::tempdir()?,
    };
    let kit = Kit::start(directory.path(), arguments.all("--broker").next()).await?;
    let file = directory.path().join("kit.toml");
    std::fs::write(&file, kit.agent_configuration(&directory.path().join("kit"), &directory.path().join("socket")))?;
    let backlog = match days {
        0 => Backlog { vitals: records, recordings: 0, spirometries: 0, journal: 0 },
        days => Backlog::of_days(days),
    };
    let config = Config::load(&file)?;
    let store = Identity::load(&config)?.start_store(&config, &Arc::new(Clock::of_this_boot()))?;
    records::append(&store, records::of_backlog(&backlog)?).await?;
    store.close().await?;
    drop(store);
    println!("{backlog:?}");
    let vitals_before = backlog.vitals + backlog.spirometries;
    let mut times = Vec::new();
    for round in 0..rounds {
        let start = clock::now();
        let output = Command::new(std::env::current_exe()?).arg(APPEND).arg(&file).output()?;
        let said = String::from_utf8(output.stdout)?;
        let (durable, number) = said.trim().split_once(' ').ok_or_else(|| format!("round {round}: {said}"))?;
        let (durable, number): (u64, usize) = (durable.parse()?, number.parse()?);
        if number != vitals_before + round + 1 {
            return Err(format!("round {round} got number {number}: this is not the store with the backlog").into());
        }
        let time = Duration::from_nanos(durable.saturating_sub(start.as_nanos()));
        println!("  round {round}: {:.0} ms", time.as_secs_f64() * 1e3);
        times.push(time.as_secs_f64() * 1e3);
    }
    let best = times.iter().copied().fold(f64::INFINITY, f64::min);
    println!("start to first Stored: best {best:.0} ms, median {:.0} ms (budget 300 ms)", median(&times));
    Ok(())
}

/// What the agent does until a first reading is durable; says when it was, in nanoseconds of CLOCK_BOOTTIME, and its number.
async fn append(file: &Path) -> Result<(), Failure> {
    let config = Config::load(file)?;
    let clock = Arc::new(Clock::of_this_boot());
    let store = Identity::load(&config)?.start_store(&config, &clock)?;
    let draft = Draft {
        lane: Lane::Vitals,
        class: Class::Value,
        boottime_ns: clock.now().as_nanos(),
        clock: clock.stated(),
        device: None,
        driver: None,
        from_clock: None,
        content: Content::Reading(wire::Reading::default()),
        origin: Some(Origin(fastrand::u64(..).to_be_bytes())),
        marks: Vec::new(),
    };
    let Appended::New { seq, .. } = store.append(draft).await? else { return Err("the reading was known".into()) };
    println!("{} {seq}", clock.now().as_nanos());
    store.close().await?;
    Ok(())
}
