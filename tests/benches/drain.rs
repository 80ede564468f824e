//! How fast a backlog drains over TLS: the kit's sync against bare rumqttc with the same batches and 16 of them in flight.
//!
//! `cargo bench -p system-tests --bench drain -- [--days 7] [--rounds 5] [--broker embedded|mosquitto]`
//!
//! Both connect, send everything and wait for the last PUBACK; the kit besides reads, opens, builds and signs, takes in the
//! centre's acknowledgements and keeps its cursors. Broker and centre are processes of their own, and the centre commits and
//! answers both. Rounds alternate; the median of their ratios counts.
#![expect(clippy::print_stdout, reason = "a measuring program")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::bench::kit::{self, Batch, KIT, Kit};
use harness::bench::records::{self, Backlog};
use harness::bench::{Arguments, Failure, benchmark, median};
use harness::clock;
use harness::proxy::{Conditions, Proxy};
use kit_agent::store::thread::StoreHandle;
use kit_agent::sync;
use kit_protocol::uplink::id::Lane;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

/// Batches in flight of the yardstick.
const IN_FLIGHT: u16 = 16;
/// Octets of a batch, growing as the kit's do: doubled after 16 PUBACKs.
const BATCH_OCTETS: [usize; 3] = [16 * 1024, 32 * 1024, 64 * 1024];
const BATCHES_BEFORE_DOUBLING: usize = 16;
const PACKET_OCTETS_MAX: u32 = 256 * 1024;
/// A link of 8 Mbit/s, 40 ms there and back.
const OCTETS_PER_SECOND: u32 = 1_000_000;
const ONE_WAY: Duration = Duration::from_millis(20);
const DRAINED_WITHIN: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    benchmark("drain", run)
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (days, rounds) = (arguments.number("--days", 0)?, arguments.number("--rounds", 5)?);
    let directory = match arguments.all("--dir").next() {
        Some(base) => tempfile::tempdir_in(base)?,
        None => tempfile::tempdir()?,
    };
    let kit = Kit::start(directory.path(), arguments.all("--broker").next()).await?;
    let _centre = kit.start_centre()?;
    println!("broker: {}", kit.broker_name());
    // The centre learns the kit's key from its first `state`; every round after this finds it known.
    kit_drains(&kit, kit.broker(), &directory.path().join("first"), Load::Small).await?;
    let load = if days == 0 { Load::Default } else { Load::Days(days) };
    let proxy = Proxy::start(kit.broker(), 1).await?;
    proxy.set(Conditions { delay: ONE_WAY, octets_per_second: Some(OCTETS_PER_SECOND), ..Conditions::default() });
    for (name, address) in [("8 Mbit/s, 40 ms there and back", proxy.address()), ("loopback", kit.broker())] {
        measure(&kit, name, address, directory.path(), load, rounds).await?;
    }
    Ok(())
}

async fn measure(kit: &Kit, name: &str, address: SocketAddr, directory: &Path, load: Load, rounds: usize) -> Result<(), Failure> {
    println!("\n{name}: {}", load.in_words());
    let (mut to_puback, mut to_acknowledgement) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let place = |who: &str| directory.join(format!("{who}-{}-{round}", address.port()));
        let (bare, kits) = if round.is_multiple_of(2) {
            let bare = bare_drains(kit, address, &place("bare"), load).await?;
            (bare, kit_drains(kit, address, &place("kit"), load).await?)
        } else {
            let kits = kit_drains(kit, address, &place("kit"), load).await?;
            (bare_drains(kit, address, &place("bare"), load).await?, kits)
        };
        let ratio = bare.time.as_secs_f64() / kits.to_puback.as_secs_f64();
        println!(
            "  round {round}: bare {:.2} s ({} batches, {} octets), kit {:.2} s to the last PUBACK, {:.2} s to the last \
             acknowledgement ({} octets): {ratio:.2} x",
            bare.time.as_secs_f64(),
            bare.batches,
            bare.octets,
            kits.to_puback.as_secs_f64(),
            kits.to_acknowledgement.as_secs_f64(),
            kits.octets,
        );
        to_puback.push(ratio);
        to_acknowledgement.push(bare.time.as_secs_f64() / kits.to_acknowledgement.as_secs_f64());
    }
    println!(
        "  median: {:.2} x bare rumqttc to the last PUBACK (budget 0.8), {:.2} x to the last acknowledgement",
        median(&to_puback),
        median(&to_acknowledgement)
    );
    Ok(())
}

/// What waits.
#[derive(Clone, Copy)]
enum Load {
    /// A few records.
    Small,
    /// 3,000 vitals and 60 segments of the ECG.
    Default,
    /// That of so many days.
    Days(usize),
}

impl Load {
    fn in_words(self) -> String {
        match self {
            Self::Small => "20 vitals".to_owned(),
            Self::Default => "3,000 vitals and 60 segments of the ECG".to_owned(),
            Self::Days(days) => {
                let Backlog { vitals, recordings, spirometries, journal } = Backlog::of_days(days);
                format!(
                    "{vitals} vitals, {recordings} ECG recordings of 30 s, {spirometries} spirometries, {journal} journal records"
                )
            }
        }
    }

    /// A store in which it waits.
    async fn stored(self, directory: &Path) -> Result<StoreHandle, Failure> {
        let store = kit::store(directory).await?;
        let vitals = |vitals| Backlog { vitals, recordings: 0, spirometries: 0, journal: 0 };
        let drafts = match self {
            Self::Small => records::of_backlog(&vitals(20))?,
            Self::Default => [records::of_backlog(&vitals(3_000))?, records::of_segments(60)?].concat(),
            Self::Days(days) => records::of_backlog(&Backlog::of_days(days))?,
        };
        records::append(&store, drafts).await?;
        Ok(store)
    }
}

/// How long bare rumqttc took.
struct Bare {
    time: Duration,
    batches: usize,
    octets: usize,
}

/// The yardstick: the same batches, made and signed beforehand.
async fn bare_drains(kit: &Kit, address: SocketAddr, directory: &Path, load: Load) -> Result<Bare, Failure> {
    let store = load.stored(directory).await?;
    let mut batches = Vec::new();
    for lane in Lane::ALL {
        let sent = batches.len();
        let octets = |number: usize| BATCH_OCTETS[((sent + number) / BATCHES_BEFORE_DOUBLING).min(BATCH_OCTETS.len() - 1)];
        batches.extend(kit.batches(&store, lane, usize::MAX, octets).await?);
    }
    store.close().await?;
    let (count, octets) = (batches.len(), batches.iter().map(|batch| batch.payload.len()).sum());
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(KIT, "localhost", address.port());
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(kit.tls()?)))
        .set_keep_alive(Duration::from_secs(25))
        .set_clean_start(true)
        .set_outgoing_inflight_upper_limit(IN_FLIGHT)
        .set_max_packet_size(Some(PACKET_OCTETS_MAX));
    options.set_network_options(network);
    let time = on_its_own_thread(move || async move {
        let start = clock::instant();
        let (client, event_loop) = AsyncClient::new(options, usize::from(IN_FLIGHT));
        let publishing = tokio::spawn(publish(client, batches));
        let acknowledged = tokio::time::timeout(DRAINED_WITHIN, until_acknowledged(event_loop, count)).await;
        let time = start.elapsed();
        publishing.abort();
        acknowledged.map_err(|_| "bare rumqttc did not finish")??;
        Ok(time)
    })
    .await?;
    std::fs::remove_dir_all(directory)?;
    Ok(Bare { time, batches: count, octets })
}

async fn publish(client: AsyncClient, batches: Vec<Batch>) {
    for batch in batches {
        // It fails only once the event loop is gone, which tells of it itself.
        let _ = client.publish(batch.topic, QoS::AtLeastOnce, false, batch.payload).await;
    }
    // The client must outlive its last publish: the event loop ends without one.
    std::future::pending::<()>().await;
}

async fn until_acknowledged(mut event_loop: EventLoop, mut count: usize) -> Result<(), Failure> {
    while count > 0 {
        if let Event::Incoming(Packet::PubAck(_)) = event_loop.poll().await? {
            count -= 1;
        }
    }
    Ok(())
}

/// How long the kit took.
struct Drained {
    to_puback: Duration,
    to_acknowledgement: Duration,
    octets: u64,
}

/// The kit's own sync over its own store.
async fn kit_drains(kit: &Kit, address: SocketAddr, directory: &Path, load: Load) -> Result<Drained, Failure> {
    let store = load.stored(directory).await?;
    let (context, mut status) = kit.sync(&store, address.port())?;
    let mut view = store.view();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let start = clock::instant();
    let syncing = on_its_own_thread(move || async move {
        sync::run(context, async { drop(stopped.await) }).await;
        Ok(())
    });
    let watching = async {
        let (mut puback, mut acknowledged): (Option<Instant>, Option<Instant>) = (None, None);
        let mut waiting = 0;
        loop {
            tokio::select! {
                changed = status.changed() => changed?,
                changed = view.changed() => changed?,
            }
            let shown = status.borrow_and_update();
            if shown.wire_batches == 0 && waiting > 0 {
                puback = Some(clock::instant());
            }
            waiting = shown.wire_batches;
            if acknowledged.is_none() && view.borrow_and_update().epochs.iter().all(|epoch| epoch.drained()) {
                acknowledged = Some(clock::instant());
            }
            if let (Some(puback), Some(acknowledged), 0) = (puback, acknowledged, waiting) {
                return Ok::<_, Failure>((puback - start, acknowledged - start, shown.octets_up));
            }
        }
    };
    let (to_puback, to_acknowledgement, octets) =
        tokio::time::timeout(DRAINED_WITHIN, watching).await.map_err(|_| "the kit did not drain")??;
    // Sync may have ended by itself; then there is nobody to tell.
    let _ = stop.send(());
    syncing.await?;
    store.close().await?;
    std::fs::remove_dir_all(directory)?;
    Ok(Drained { to_puback, to_acknowledgement, octets })
}

/// Starts it on a thread with a runtime of one thread, as the agent is one; gives what came of it.
fn on_its_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> impl Future<Output = Result<T, Failure>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>>,
{
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(work()));
        // Whoever waits has given up, if this fails.
        drop(done.send(outcome));
    });
    async { result.await? }
}
