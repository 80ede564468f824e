//! Oximeters of Shanghai Berry (BM1000 and its relations), by USB and over Bluetooth.
//!
//! Port: 115,200 baud, 8 data bits, no parity; service 49535343-FE7D-4AE5-8FA9-9FAFD205E455. Source: the maker's document
//! in SpO2-BLE-for-Android 2962435 and [`berry`]. Five octets of BCI and twenty of Berry are told apart by themselves. A
//! device that is silent is asked for 100 packets a second. Twenty octets carry a counter, so their holes are known; five
//! do not: where what was skipped is no whole number of frames, another recording begins. The infrared light as converted
//! (ADC) is in the codec and is no reading.
//!
//! [`berry`]: kit_protocol::serial::berry

use std::time::Duration;

use kit_protocol::decimal::Decimal;
use kit_protocol::moment::Moment;
use kit_protocol::nomenclature::Mdc;
use kit_protocol::reading::Rate;
use kit_protocol::serial::bci;
use kit_protocol::serial::berry::{BCI_FRAMES_PER_SECOND, Found, Framer, Heard, Packet, RR_MILLISECONDS, Twenty};
use uuid::{Uuid, uuid};

use crate::driver::{Allowed, Driver, Effect, Endpoint, Link, Pairing, PortSettings, Security, Start};
use crate::session::streaming::{Io, Oximetry, RR_INTERVAL, Streaming, Talk};

/// The registry's row.
pub const DRIVER: Driver = Driver {
    name: "oximeter-berry",
    version: "1",
    links: &[
        Link::Ble { advertises: &[SERVICE], names: &["BerryMed"], listens: &[NOTIFIES] },
        Link::Serial(PortSettings { baud: 115_200, even_parity: false }),
    ],
    protocol: "Berry 20 octets, BCI 5 octets",
    gives: "SpO2, pulse, perfusion index, RR, pleth",
    parameters: &[Mdc::SPO2, Mdc::PULSE_RATE, Mdc::PERFUSION_INDEX, RR_INTERVAL, Mdc::PLETH],
    security: Security::None,
    pairing: Pairing::None,
    memory: false,
    allowed: &[streams("packets-100-a-second", WRITES), streams("packets-100-a-second", Endpoint::SERIAL)],
    quirks: &[],
    session: |start| Box::new(session(&start)),
};

const SERVICE: Uuid = uuid!("49535343-fe7d-4ae5-8fa9-9fafd205e455");
const NOTIFIES: Endpoint = Endpoint { service: SERVICE, characteristic: uuid!("49535343-1e4d-4bd9-ba61-23c647249616") };
const WRITES: Endpoint = Endpoint { service: SERVICE, characteristic: uuid!("49535343-8841-43f4-a8d4-ecbe34729bb3") };

const fn streams(name: &'static str, to: Endpoint) -> Allowed {
    Allowed { name, effect: Effect::Stream, to, at: 0, octets: &[0xf1] }
}

/// A device that says nothing for so long is asked to …
const SILENT: Duration = Duration::from_secs(2);
/// … so often at most.
const ASKED_MAX: u8 = 3;
/// A packet after so long may be of another round of the counter, which has 256 numbers.
const ROUND: Duration = Duration::from_secs(1);

/// Octets that a device sends in a second, by the stream's first frame.
pub(crate) fn octets_per_second(stream: &[u8]) -> u64 {
    let mut octets = 500;
    Framer::default().push(stream, |found| {
        if let Found::Frame(Heard::Twenty(Twenty::Packet(packet))) = found {
            octets = 20 * u64::from(packet.frequency.max(1));
        }
    });
    octets
}

fn session(start: &Start) -> Streaming<Berry> {
    Streaming::new(Berry::default(), start)
}

#[derive(Default)]
struct Berry {
    framer: Framer,
    /// When it is asked to send.
    ask_at: Option<Moment>,
    asked: u8,
    /// The last packet's counter, and its moment.
    last: Option<(u8, Moment)>,
}

impl Talk for Berry {
    const LISTENS: &'static [(Endpoint, Option<Endpoint>)] =
        &[(NOTIFIES, Some(WRITES)), (Endpoint::SERIAL, Some(Endpoint::SERIAL))];
    const WHAT: &'static str = "no frame of a Berry oximeter";

    fn up(&mut self, now: Moment, _from: Endpoint, _io: &mut Io) {
        self.ask_at = Some(now + SILENT);
    }

    fn received(&mut self, now: Moment, octets: &[u8], io: &mut Io) -> bool {
        let mut framer = std::mem::take(&mut self.framer);
        let mut any = false;
        framer.push(octets, |found| any |= self.found(now, &found, io));
        self.framer = framer;
        any
    }

    fn finish(&mut self, now: Moment, io: &mut Io) {
        let mut framer = std::mem::take(&mut self.framer);
        framer.finish(|found| {
            self.found(now, &found, io);
        });
    }

    fn timeout(&mut self, now: Moment, io: &mut Io) {
        self.asked += 1;
        self.ask_at = (self.asked < ASKED_MAX).then_some(now + SILENT);
        io.write(vec![kit_protocol::serial::berry::Command::HZ_100.0]);
    }

    fn wakes(&self) -> Option<Moment> {
        self.ask_at
    }
}

impl Berry {
    fn found(&mut self, now: Moment, found: &Found, io: &mut Io) -> bool {
        match found {
            Found::Skipped(octets) if self.last.is_some() => io.outputs.skipped(now, *octets),
            Found::Skipped(octets) => io.skipped(now, *octets, 5),
            Found::Frame(heard) => {
                self.ask_at = None;
                match heard {
                    Heard::Five(frame) => self.five(now, frame, io),
                    Heard::Twenty(Twenty::Packet(packet)) => self.twenty(now, packet, io),
                    Heard::Twenty(Twenty::Version { .. }) | Heard::Letters(_) => {}
                }
            }
        }
        matches!(found, Found::Frame(_))
    }

    fn five(&mut self, now: Moment, frame: &bci::Frame, io: &mut Io) {
        self.last = None;
        let said = frame.berry();
        let rate = Rate { samples: BCI_FRAMES_PER_SECOND, seconds: 1 };
        io.sample(now, rate, frame.pleth.into(), said.unusable());
        let numbers = Oximetry {
            spo2: frame.spo2(),
            pulse_rate: frame.pulse_rate().map(u16::from),
            status: said.terms().collect(),
            ..Oximetry::default()
        };
        io.numbers(now, &numbers, || frame.encode().to_vec());
        io.outputs.tell_skipped(now, false);
    }

    fn twenty(&mut self, now: Moment, packet: &Packet, io: &mut Io) {
        match self.last.replace((packet.index, now)) {
            Some((last, at)) if now.since(at) < ROUND => {
                match packet.index.wrapping_sub(last) {
                    // The same again.
                    0 => return,
                    1 => {}
                    ahead => io.lost(u64::from(ahead) - 1),
                }
            }
            Some(_) => io.broken(),
            None => {}
        }
        // One a second is no waveform.
        if packet.frequency > 1 {
            let rate = Rate { samples: packet.frequency.into(), seconds: 1 };
            io.sample(now, rate, packet.pleth.into(), packet.status.unusable());
        }
        let numbers = Oximetry {
            spo2: packet.spo2,
            pulse_rate: packet.pulse_rate.map(u16::from),
            perfusion_index: Some(packet.perfusion_index.map(|index| Decimal::new(index.into(), -1))),
            rr: Some(packet.rr.saturating_mul(RR_MILLISECONDS)).filter(|rr| *rr != 0),
            status: packet.status.terms().collect(),
        };
        io.numbers(now, &numbers, || Twenty::Packet(*packet).encode());
        io.outputs.tell_skipped(now, false);
    }
}

#[cfg(test)]
mod tests;
