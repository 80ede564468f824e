//! Frames a second through each driver's session, and the CPU share of the whole ECG path, octets to FLAC.
//!
//! `cargo bench -p system-tests --bench decoders`; `-- session/oximeter` for some of them. The frames are what the simulated
//! devices send. "ecg-path" takes one second of 8 × 500 Hz: its time in seconds is the share of one core.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use device_drivers::driver::{By, Command, Driver, Endpoint, Event, Security, Session, Start, Token};
use device_drivers::registry;
use firmware_sim::devices::{self, Connection, Device};
use firmware_sim::faults::Scenario;
use harness::{bedside, clock};
use kit_agent::acquisition::filing::Answer;
use kit_protocol::moment::Moment;
use kit_protocol::uplink::wire::Source;

/// What a device sent, and from where.
struct Sent {
    driver: &'static Driver,
    has: Vec<Endpoint>,
    values: Vec<(Moment, Endpoint, Vec<u8>)>,
}

/// What a device sends in so long.
fn sent(device: &Device, span: Duration) -> Sent {
    let driver = registry::find(device.driver).expect("every simulated device has its driver");
    match device.connection {
        Connection::Serial(make) => {
            let mut values = Vec::new();
            make(1, &Scenario::default()).advance(span, &mut |emission| {
                values.push((Moment::ZERO + emission.at, Endpoint::SERIAL, emission.octets));
            });
            Sent { driver, has: vec![Endpoint::SERIAL], values }
        }
        Connection::Gatt(_) | Connection::Broadcast(_) => {
            let heard = bedside::overhear(device, span).expect("it converses with its driver");
            Sent { driver, has: heard.has, values: heard.values }
        }
    }
}

/// Takes all of it through a session; everything that it gives is answered.
fn converse(sent: &Sent) -> usize {
    let mut session = (sent.driver.session)(Start { stream_interval: Some(Duration::from_secs(10)), ..Start::default() });
    session.handle_event(Moment::ZERO, Event::Up { mtu: 247, security: Security::None, has: &sent.has });
    let mut given = settle(&mut *session, Moment::ZERO);
    for (at, from, octets) in &sent.values {
        let by = if *from == Endpoint::SERIAL { By::Serial } else { By::Notification };
        session.handle_event(*at, Event::Received { from: *from, octets, by });
        given += settle(&mut *session, *at);
    }
    given
}

fn settle(session: &mut dyn Session, now: Moment) -> usize {
    let mut given = 0;
    loop {
        let mut quiet = true;
        while let Some(command) = session.poll_command() {
            quiet = false;
            if let Command::Subscribe(command, _) | Command::Read(command, _) | Command::Port(command, _) = command {
                session.handle_event(now, Event::Done { command });
            } else if let Command::Write { token, .. } = command {
                session.handle_event(now, Event::Done { command: token });
            }
        }
        while let Some(output) = session.poll_output() {
            quiet = false;
            given += 1;
            if let Ok((reading, output)) = output {
                black_box(output);
                session.handle_event(now, Event::Stored { reading });
            }
        }
        if quiet {
            return given;
        }
    }
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    for device in devices::DEVICES {
        let sent = sent(device, Duration::from_secs(60));
        if sent.values.is_empty() {
            continue;
        }
        assert!(converse(&sent) > 0, "{} gives nothing", device.name);
        group.throughput(Throughput::Elements(u64::try_from(sent.values.len()).unwrap_or(u64::MAX)));
        group.bench_function(device.name, |bencher| bencher.iter(|| converse(black_box(&sent))));
    }
}

/// One second of the ECG: octets, frames, samples, segments, FLAC; everything but seal and send.
fn ecg_path(criterion: &mut Criterion) {
    const SECONDS: u32 = 16;
    let device = devices::find("ecg-ads1298").expect("the kit has an ECG");
    let sent = sent(&device, Duration::from_secs(SECONDS.into()));
    let mut group = criterion.benchmark_group("ecg-path");
    group.sample_size(20);
    group.bench_function("8 x 500 Hz, one second", |bencher| {
        bencher.iter_custom(|iterations| {
            let began = clock::now();
            for _ in 0..iterations {
                black_box(record(&sent));
            }
            clock::now().since(began) / SECONDS
        });
    });
}

fn record(sent: &Sent) -> usize {
    let mut session = (sent.driver.session)(Start { stream_interval: Some(Duration::from_secs(10)), ..Start::default() });
    let mut recorder = bedside::recorder(sent.driver, Source::Serial);
    session.handle_event(Moment::ZERO, Event::Up { mtu: 0, security: Security::None, has: &sent.has });
    let mut octets = 0;
    for (at, from, value) in &sent.values {
        session.handle_event(*at, Event::Received { from: *from, octets: value, by: By::Serial });
        while session.poll_command().is_some() {}
        while let Some(output) = session.poll_output() {
            recorder.take(*at, output);
        }
        while let Some(filing) = recorder.poll_filing() {
            octets += 1;
            let tokens: Vec<Token> = filing
                .answers
                .iter()
                .map(|answer| match answer {
                    Answer::Stored(token) | Answer::Refused(token) => *token,
                })
                .collect();
            tokens.into_iter().for_each(|reading| session.handle_event(*at, Event::Stored { reading }));
            black_box(filing.draft);
        }
        while let Some(answer) = recorder.poll_answer() {
            let (Answer::Stored(reading) | Answer::Refused(reading)) = answer;
            session.handle_event(*at, Event::Stored { reading });
        }
    }
    octets
}

criterion_group!(benches, sessions, ecg_path);
criterion_main!(benches);
