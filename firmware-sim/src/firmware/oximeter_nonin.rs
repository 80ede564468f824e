//! A serial oximeter as Nonin's OEM modules are: a MAX30102 on I2C, Data Format 2 on a UART at 9600 baud, 75 frames and
//! 3 packets a second, unasked. Source: Nonin document 6470-000-01.

use embedded_hal::i2c::I2c;
use embedded_io::{Read, ReadReady, Write};
use kit_protocol::serial::nonin_df2::{FRAMES_PER_PACKET, Frame, FrameStatus, Packet};

use super::max30102::{FIFO_SAMPLES, Light, Sensor};
use super::pulse_signal::{PulseSignal, whole};
use super::{Fault, nearest};

/// SREV: the firmware's revision, as the packet states it.
pub const REVISION: u8 = 48;
/// Numbers for display change every so many packets: about every 1.5 s.
const DISPLAY_PACKETS: u16 = 4;
/// Good perfusion from here, %.
const PERFUSION_GREEN_MIN: f32 = 1.0;
/// Marginal perfusion from here, %.
const PERFUSION_YELLOW_MIN: f32 = 0.4;
/// Selects a data format: this, then the format, then [`COMMAND_END`].
const SELECT_FORMAT: [u8; 4] = [0x02, 0x70, 0x02, 0x02];
const COMMAND_END: u8 = 0x03;
const FORMAT_2: u8 = 0x02;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;

/// The firmware.
#[derive(Debug)]
pub struct OximeterNonin<I2C, UART> {
    sensor: Sensor<I2C>,
    uart: UART,
    signal: PulseSignal,
    resampler: Resampler,
    packet: [Frame; FRAMES_PER_PACKET],
    place: usize,
    packets: u16,
    display: Display,
    beat: bool,
    command: [u8; 6],
}

/// Numbers that change slowly, for a display.
#[derive(Clone, Copy, Debug, Default)]
struct Display {
    spo2: Option<u8>,
    spo2_extended: Option<u8>,
    heart_rate: Option<u16>,
    heart_rate_extended: Option<u16>,
}

impl<I2C: I2c, UART: Write + Read + ReadReady> OximeterNonin<I2C, UART> {
    /// Brings the sensor up.
    pub fn start(bus: I2C, uart: UART) -> Result<Self, Fault<I2C::Error>> {
        let mut sensor = Sensor::new(bus);
        sensor.start()?;
        let signal = PulseSignal::default();
        Ok(Self {
            sensor,
            uart,
            signal,
            resampler: Resampler::default(),
            packet: packet(&signal, 0, Display::default()),
            place: 0,
            packets: 0,
            display: Display::default(),
            beat: false,
            command: [0; 6],
        })
    }

    /// To be called at least every 200 ms: takes what the sensor has and sends what is due.
    pub fn service(&mut self) -> Result<(), Fault<I2C::Error>> {
        self.answer()?;
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
            let wave = self.signal.wave();
            if let Some(value) = self.resampler.push(wave) {
                self.frame(value)?;
            }
        }
        Ok(())
    }

    fn frame(&mut self, wave: f32) -> Result<(), Fault<I2C::Error>> {
        if self.place == 0 {
            if self.packets.is_multiple_of(DISPLAY_PACKETS) {
                self.display = display(&self.signal);
            }
            self.packet = packet(&self.signal, self.packets, self.display);
            self.packets = self.packets.wrapping_add(1);
        }
        let mut frame = self.packet.get(self.place).copied().unwrap_or(self.packet[0]);
        self.place = (self.place + 1) % FRAMES_PER_PACKET;
        frame.pleth = if self.signal.finger() { pleth(wave) } else { 0 };
        frame.status = FrameStatus(frame.status.0 | self.status());
        self.beat = false;
        self.uart.write_all(&frame.encode()).map_err(|_| Fault::Uart)
    }

    /// What this frame says of the signal; perfusion is said once a pulse.
    fn status(&self) -> u8 {
        let alarm = match (self.signal.finger(), self.signal.tracking()) {
            (false, _) => FrameStatus::SENSOR_ALARM | FrameStatus::OUT_OF_TRACK,
            (true, false) => FrameStatus::OUT_OF_TRACK,
            (true, true) => 0,
        };
        let perfusion = match self.signal.perfusion(1) {
            Some(perfusion) if self.beat && perfusion >= PERFUSION_GREEN_MIN => FrameStatus::GREEN,
            Some(perfusion) if self.beat && perfusion >= PERFUSION_YELLOW_MIN => FrameStatus::GREEN | FrameStatus::RED,
            Some(_) if self.beat => FrameStatus::RED,
            _ => 0,
        };
        alarm | perfusion
    }

    /// Answers commands: this module speaks Data Format 2 only.
    fn answer(&mut self) -> Result<(), Fault<I2C::Error>> {
        while self.uart.read_ready().map_err(|_| Fault::Uart)? {
            let mut octet = [0];
            if self.uart.read(&mut octet).map_err(|_| Fault::Uart)? == 0 {
                break;
            }
            self.command.rotate_left(1);
            self.command[5] = octet[0];
            let [start @ .., format, end] = self.command;
            if start == SELECT_FORMAT && end == COMMAND_END {
                let answer = if format == FORMAT_2 { ACK } else { NAK };
                self.uart.write_all(&[answer]).map_err(|_| Fault::Uart)?;
                self.command = [0; 6];
            }
        }
        Ok(())
    }
}

fn pleth(wave: f32) -> u8 {
    u8::try_from(nearest(70.0 + 110.0 * wave).clamp(0, 255)).unwrap_or(0)
}

fn percent(value: Option<f32>) -> Option<u8> {
    value.and_then(|value| u8::try_from(whole(value)).ok())
}

fn display(signal: &PulseSignal) -> Display {
    Display {
        spo2: percent(signal.spo2(4)),
        spo2_extended: percent(signal.spo2(8)),
        heart_rate: signal.pulse_rate(4).map(whole),
        heart_rate_extended: signal.pulse_rate(8).map(whole),
    }
}

/// The packet of this moment; its waveform comes frame by frame.
fn packet(signal: &PulseSignal, packets: u16, display: Display) -> [Frame; FRAMES_PER_PACKET] {
    Packet {
        heart_rate: signal.pulse_rate(4).map(whole),
        spo2: percent(signal.spo2(4)),
        firmware: REVISION,
        timer: packets & 0x3fff,
        status2: 0,
        spo2_display: display.spo2,
        spo2_fast: percent(signal.spo2(2)),
        spo2_beat_to_beat: percent(signal.spo2(1)),
        heart_rate_extended: signal.pulse_rate(8).map(whole),
        spo2_extended: percent(signal.spo2(8)),
        spo2_extended_display: display.spo2_extended,
        heart_rate_display: display.heart_rate,
        heart_rate_extended_display: display.heart_rate_extended,
        status: [FrameStatus(FrameStatus::ALWAYS); FRAMES_PER_PACKET],
        pleth: [0; FRAMES_PER_PACKET],
    }
    .encode()
}

/// From the sensor's 100 values a second to the protocol's 75, on the line from one value to the next.
#[derive(Clone, Copy, Debug, Default)]
struct Resampler {
    previous: f32,
    /// Where the next output is, in thirds of a sample after `previous`.
    next_thirds: u8,
}

impl Resampler {
    /// The output that lies between the value before and this one, if there is one.
    fn push(&mut self, value: f32) -> Option<f32> {
        let from = core::mem::replace(&mut self.previous, value);
        if self.next_thirds >= 3 {
            self.next_thirds -= 3;
            return None;
        }
        let output = from + (value - from) * f32::from(self.next_thirds) / 3.0;
        self.next_thirds += 1; // 4 thirds on, 3 of them passed with this value
        Some(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_values_become_three() {
        let mut resampler = Resampler::default();
        let outputs: Vec<f32> =
            [3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0, 24.0].into_iter().flat_map(|value| resampler.push(value)).collect();
        assert_eq!(outputs, [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]);
    }
}
