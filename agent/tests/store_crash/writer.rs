//! The process that appends until it is stopped.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kit_agent::store::outbox::{Appended, Class, Mark};
use kit_agent::store::thread::{Draft, StoreHandle};
use kit_agent::store::{Kek, Options, Retention, Stamp};
use kit_protocol::uplink::id::{BootId, EpochId, Lane, Origin};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire::{self, EpochReason, record::Content};
use prost::Message;

/// Where the child's store is; without it the child's test checks itself.
pub(crate) const DIR: &str = "KIT_STORE_CRASH_DIR";
/// The first number the child appends.
pub(crate) const FIRST: &str = "KIT_STORE_CRASH_FIRST";
/// How many it appends before it ends by itself, without a clean end.
pub(crate) const COUNT: &str = "KIT_STORE_CRASH_COUNT";
const CALLERS: u64 = 8;
/// Stands in every record's plaintext and nowhere else.
pub(crate) const MARKER: &str = "PLAINTEXT-READING";

/// Under which key a record was told to be stored.
pub(crate) type Key = (EpochId, Lane, u64);

pub(crate) fn options(dir: &Path) -> Options {
    let clock = wire::Clock { boot_id: vec![7; 16], ..Default::default() };
    Options {
        dir: dir.to_path_buf(),
        kit: "KIT-0001".parse().unwrap(),
        kek: Kek::new(*b"the key-encryption key of a test"),
        boot: BootId([7; 16]),
        stamp: Arc::new(move || Stamp { boottime_ns: 1, clock: clock.clone() }),
        free_floor: 0,
        retention: Retention::default(),
    }
}

/// Record `n`: small ones, large ones and segments, some with an origin and a mark.
pub(crate) fn draft(n: u64) -> Draft {
    let (lane, class, octets) = match n % 7 {
        0 => (Lane::Urgent, Class::Value, 40),
        1 => (Lane::Waveforms, Class::PlanWaveform, 3_000),
        2 => (Lane::Waveforms, Class::ContinuousWaveform, 9_000),
        3 => (Lane::Journal, Class::Value, 4_000),
        _ => (Lane::Vitals, Class::Value, 60),
    };
    let mut payload = format!("{MARKER}-{n}-").into_bytes();
    payload.resize(payload.len() + octets, b'.');
    let refusal = wire::Refusal { reason: "implausible".into(), octets: payload, ..Default::default() };
    let mut origin = [0xA0; 8];
    origin[..8].copy_from_slice(&n.to_be_bytes());
    Draft {
        lane,
        class,
        boottime_ns: n,
        clock: wire::Clock { boot_id: vec![7; 16], ..Default::default() },
        device: Some(wire::Device { identity: format!("{MARKER}-DEVICE-{}", n % 3), ..Default::default() }),
        driver: None,
        from_clock: None,
        content: Content::Refusal(refusal),
        origin: n.is_multiple_of(2).then_some(Origin(origin)),
        marks: vec![Mark { key: format!("{MARKER}-DEVICE-{}/record", n % 3), value: n.to_be_bytes().to_vec() }],
    }
}

/// The number of one of our records; `None` for the store's own.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    let Some(Content::Refusal(refusal)) = wire::Record::decode(bytes).unwrap().content else { return None };
    let text = String::from_utf8_lossy(&refusal.octets).into_owned();
    text.strip_prefix(MARKER)?.split('-').nth(1)?.parse().ok()
}

/// What the child told: which record it was told is stored under which key.
pub(crate) fn parse_told(line: &str) -> Option<(u64, Key)> {
    let mut words = line.strip_prefix("stored ")?.split(' ');
    let n = words.next()?.parse().ok()?;
    Some((n, (words.next()?.parse().ok()?, Lane::from_name(words.next()?)?, words.next()?.parse().ok()?)))
}

/// Appends records `first` and on from several callers, and gives to `tell` each that was told as stored.
pub(crate) async fn write(dir: &Path, first: u64, count: u64, tell: impl Fn(u64, Key) + Send + Sync + 'static) {
    let store = StoreHandle::start(options(dir)).unwrap();
    let tell = Arc::new(tell);
    let next = Arc::new(AtomicU64::new(first));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (store, tell, next) = (store.clone(), Arc::clone(&tell), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= first + count {
                        return;
                    }
                    let draft = draft(n);
                    let lane = draft.lane;
                    let Appended::New { epoch, seq } = store.append(draft).await.unwrap() else { panic!("{n} was known") };
                    tell(n, (epoch, lane, seq));
                    if caller == 0 && n.is_multiple_of(5) {
                        store.settle(epoch, lane, Settlement::upto(seq / 2, None)).await.unwrap();
                    }
                    if caller == 1 && n.is_multiple_of(11) {
                        let assignment = (!n.is_multiple_of(3)).then(|| format!("A-{n}"));
                        store.switch_epoch(assignment.as_deref(), EpochReason::AssignmentStart).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

/// The child's part: appends until it is killed or has appended enough, and ends without closing anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_appends_and_tells() {
    if let Ok(dir) = std::env::var(DIR) {
        let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
        write(Path::new(&dir), number(FIRST), number(COUNT), |n, (epoch, lane, seq)| {
            // The test harness has begun a line of its own.
            let line = format!("\nstored {n} {epoch} {lane} {seq}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        })
        .await;
        std::process::exit(0);
    }
    let dir = tempfile::tempdir().unwrap();
    let told = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let teller = Arc::clone(&told);
    write(dir.path(), 1, 120, move |n, key| {
        teller.lock().unwrap().insert(n, key);
    })
    .await;
    let told = told.lock().unwrap().clone();
    assert_eq!(told.len(), 120);
    super::ledger::check(dir.path(), &told, "written and not interrupted");
}
