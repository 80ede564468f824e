//! A serial oximeter as Contec's CMS50 of protocol 7.0 is: a MAX30102 on I2C, packets on a UART at 115,200 baud. It sends
//! what it measures when it is told to, as long as it hears from its host, and one stored segment, a point a second.
//! Source: Contec, protocol 7.0, as in [`kit_protocol::serial::contec`].

use alloc::vec::Vec;

use embedded_hal::i2c::I2c;
use embedded_io::{Read, ReadReady, Write};
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::serial::contec::{Command, FRAMES_PER_SECOND, KEEP_ALIVE_SECONDS, Message, Packet, Point, Realtime, Segment};

use super::max30102::{FIFO_SAMPLES, Light, RATE_HZ, Sensor};
use super::pulse_signal::{PulseSignal, whole};
use super::{Fault, nearest};

/// Without a word of its host for this long it stops sending: twice the time that a host should leave.
const SILENCE_SAMPLES: u32 = 2 * RATE_HZ * KEEP_ALIVE_SECONDS;
/// Points that fit in a packet of stored ones.
pub const POINTS: usize = 3;
/// Packets of stored points that it sends at once.
const PACKETS_AT_ONCE: usize = 16;

/// What it stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// When it began.
    pub start: DateTime,
    /// A point a second.
    pub points: Vec<Point>,
}

/// The firmware.
#[derive(Debug)]
pub struct OximeterContec<I2C, UART> {
    sensor: Sensor<I2C>,
    uart: UART,
    signal: PulseSignal,
    /// Sixtieths of a second that are due, times the sensor's rate.
    due: u32,
    beat: bool,
    sending: bool,
    /// Samples since the host was heard.
    silence: u32,
    stored: Option<Stored>,
    /// The next stored point to send.
    next: Option<usize>,
    command: Vec<u8>,
}

impl<I2C: I2c, UART: Write + Read + ReadReady> OximeterContec<I2C, UART> {
    /// Brings the sensor up; `stored` is what its memory holds.
    pub fn start(bus: I2C, uart: UART, stored: Option<Stored>) -> Result<Self, Fault<I2C::Error>> {
        let mut sensor = Sensor::new(bus);
        sensor.start()?;
        Ok(Self {
            sensor,
            uart,
            signal: PulseSignal::default(),
            due: 0,
            beat: false,
            sending: false,
            silence: 0,
            stored,
            next: None,
            command: Vec::new(),
        })
    }

    /// What its memory holds.
    #[must_use]
    pub fn stored(&self) -> Option<&Stored> {
        self.stored.as_ref()
    }

    /// The next stored point that it sends; `None` where it sends none, or has sent the last.
    #[must_use]
    pub const fn next_stored(&self) -> Option<usize> {
        self.next
    }

    /// To be called at least every 200 ms: takes what the sensor has and sends what is due.
    pub fn service(&mut self) -> Result<(), Fault<I2C::Error>> {
        self.listen()?;
        self.send_stored()?;
        let mut samples = [Light::default(); FIFO_SAMPLES as usize];
        let mut count = 0;
        self.sensor.fetch(|light| {
            if let Some(slot) = samples.get_mut(count) {
                *slot = light;
                count += 1;
            }
        })?;
        for light in samples.iter().take(count) {
            self.beat |= self.signal.push(*light);
            self.silence = self.silence.saturating_add(1);
            self.sending &= self.silence < SILENCE_SAMPLES;
            self.due += FRAMES_PER_SECOND;
            if self.due >= RATE_HZ {
                self.due -= RATE_HZ;
                if self.sending {
                    let realtime = self.realtime();
                    self.send(&Message::Realtime(realtime))?;
                }
                self.beat = false;
            }
        }
        Ok(())
    }

    fn realtime(&self) -> Realtime {
        let (finger, tracking) = (self.signal.finger(), self.signal.tracking());
        let percent = |value: f32| u8::try_from(whole(value)).ok();
        Realtime {
            signal: if tracking { 8 } else { 0 },
            searching_too_long: false,
            low_spo2: false,
            beat: self.beat,
            probe_error: !finger,
            pleth: if finger { u8::try_from(nearest(40.0 + 50.0 * self.signal.wave()).clamp(0, 127)).unwrap_or(0) } else { 0 },
            searching: finger && !tracking,
            bar: if tracking { u8::try_from(nearest(15.0 * self.signal.wave()).clamp(0, 15)).unwrap_or(0) } else { 0 },
            pulse_rate: self.signal.pulse_rate(8).and_then(percent),
            spo2: self.signal.spo2(4).and_then(percent),
            perfusion_index: self.signal.perfusion(4).map(|index| whole(index * 100.0)),
        }
    }

    /// A command begins with its octet without bit 7; what does not fit is let pass.
    fn listen(&mut self) -> Result<(), Fault<I2C::Error>> {
        while self.uart.read_ready().map_err(|_| Fault::Uart)? {
            let mut octet = [0];
            if self.uart.read(&mut octet).map_err(|_| Fault::Uart)? == 0 {
                break;
            }
            if octet[0] & 0x80 == 0 {
                self.command.clear();
            }
            self.command.push(octet[0]);
            if self.command.len() == Command::OCTETS {
                let packet = Packet::decode(&self.command);
                self.command.clear();
                if let Some(command) = packet.ok().as_ref().and_then(Command::of) {
                    self.obey(command)?;
                }
            }
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<(), Fault<I2C::Error>> {
        self.silence = 0;
        let ours = |of: Segment| of == Segment::default();
        match (command, &self.stored) {
            (Command::Start, _) => self.sending = true,
            (Command::Stop, _) => self.sending = false,
            (Command::StopStored, _) => self.next = None,
            (Command::KeepAlive, _) => {}
            (Command::AskSegments(Segment { user, .. }), stored) => {
                let count = u8::from(stored.is_some());
                self.send(&Message::Segments { user, count })?;
            }
            (Command::AskLength(of), Some(stored)) if ours(of) => {
                let points = stored.points.len().div_ceil(POINTS) * POINTS;
                let octets = u32::try_from(points * 2).unwrap_or(u32::MAX);
                self.send(&Message::Length { of, octets })?;
            }
            (Command::AskStart(of), Some(stored)) if ours(of) => {
                let DateTime { year, month, day, hour, minute, second } = stored.start;
                self.send(&Message::StartDate { of, year, month, day })?;
                self.send(&Message::StartTime { of, time: [hour, minute, second] })?;
            }
            (Command::StartStored(of), Some(_)) if ours(of) => self.next = Some(0),
            (Command::Delete(of), Some(_)) if ours(of) => self.stored = None,
            _ => {}
        }
        Ok(())
    }

    fn send_stored(&mut self) -> Result<(), Fault<I2C::Error>> {
        for _ in 0..PACKETS_AT_ONCE {
            let (Some(next), Some(stored)) = (self.next, &self.stored) else { break };
            let Some(points) = stored.points.get(next..).filter(|points| !points.is_empty()) else {
                self.next = None;
                break;
            };
            let mut packet = [None; POINTS];
            packet.iter_mut().zip(points).for_each(|(slot, point)| *slot = Some(*point));
            self.next = Some(next + POINTS);
            self.send(&Message::Points(packet))?;
        }
        Ok(())
    }

    fn send(&mut self, message: &Message) -> Result<(), Fault<I2C::Error>> {
        self.uart.write_all(&message.encode()).map_err(|_| Fault::Uart)
    }
}
