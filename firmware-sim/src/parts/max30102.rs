//! MAX30102: red and infrared light into a fingertip, and what comes back of it, on I2C.
//!
//! Registers, FIFO with its two pointers and its overflow counter, modes, rates and averaging as in Maxim's data sheet
//! (19-7740). Not simulated: the interrupt pin (the status registers are there), multi-LED slots, ambient light
//! cancellation limits, and the die temperature, which reads 25 °C.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

use super::Shared;
use crate::noise::{nearest, step};

/// The part's only address.
pub const ADDRESS: u8 = 0x57;
/// Samples in the FIFO.
pub const FIFO_SAMPLES: u8 = 32;
/// Noise of the converter at 18 bits, most counts either way.
pub const NOISE_COUNTS: u32 = 12;

const INTERRUPT_STATUS_1: u8 = 0x00;
const FIFO_WRITE_POINTER: u8 = 0x04;
const OVERFLOW_COUNTER: u8 = 0x05;
const FIFO_READ_POINTER: u8 = 0x06;
const FIFO_DATA: u8 = 0x07;
const FIFO_CONFIG: u8 = 0x08;
const MODE_CONFIG: u8 = 0x09;
const SPO2_CONFIG: u8 = 0x0a;
const LED1_AMPLITUDE: u8 = 0x0c;
const LED2_AMPLITUDE: u8 = 0x0d;
const TEMPERATURE_INTEGER: u8 = 0x1f;
const TEMPERATURE_CONFIG: u8 = 0x21;
const REVISION_ID: u8 = 0xfe;
const PART_ID: u8 = 0xff;

const MODE_MASK: u8 = 0x07;
const MODE_HEART_RATE: u8 = 0x02;
const MODE_SPO2: u8 = 0x03;
const RESET: u8 = 0x40;
const SHUTDOWN: u8 = 0x80;
const ALMOST_FULL: u8 = 0x80;
const SAMPLE_READY: u8 = 0x40;
const POWER_READY: u8 = 0x01;

/// What comes back from the finger, or past it: photocurrent in nA for each mA of LED current.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reflectance {
    /// At 660 nm.
    pub red: f64,
    /// At 880 nm.
    pub infrared: f64,
}

/// The finger on the part's window.
pub trait Optics: Send {
    /// What comes back, `nanoseconds` after the simulation's start.
    fn at(&mut self, nanoseconds: u64) -> Reflectance;
}

/// The part.
pub struct Max30102<O> {
    optics: O,
    noise_seed: u64,
    now: u64,
    registers: [u8; 256],
    pointer: u8,
    fifo: [[u32; 2]; FIFO_SAMPLES as usize],
    waiting: u8,
    /// Which octet of the sample at the read pointer comes next.
    octet: u8,
    next_sample: u64,
    samples: u64,
    averaged: [u64; 2],
    averaged_count: u64,
}

impl<O: Optics> Max30102<O> {
    /// The part at power-up, before `optics`, with noise of its own.
    pub fn new(optics: O, noise_seed: u64) -> Self {
        let mut part = Self {
            optics,
            noise_seed,
            now: 0,
            registers: [0; 256],
            pointer: 0,
            fifo: [[0; 2]; FIFO_SAMPLES as usize],
            waiting: 0,
            octet: 0,
            next_sample: u64::MAX,
            samples: 0,
            averaged: [0; 2],
            averaged_count: 0,
        };
        part.reset();
        part
    }

    /// Lets time pass up to `now` (ns since the simulation's start); samples go into the FIFO meanwhile.
    pub fn advance(&mut self, now: u64) {
        while self.next_sample <= now {
            self.now = self.next_sample;
            self.sample();
            self.next_sample = self.now.saturating_add(self.period());
        }
        self.now = now.max(self.now);
    }

    /// The finger, for a board that moves it.
    pub fn optics(&mut self) -> &mut O {
        &mut self.optics
    }

    fn reset(&mut self) {
        self.registers = [0; 256];
        self.set(INTERRUPT_STATUS_1, POWER_READY);
        self.set(REVISION_ID, 0x03);
        self.set(PART_ID, 0x15);
        self.waiting = 0;
        self.octet = 0;
        self.next_sample = u64::MAX;
        self.averaged = [0; 2];
        self.averaged_count = 0;
    }

    fn register(&self, address: u8) -> u8 {
        self.registers[usize::from(address)]
    }

    fn set(&mut self, address: u8, value: u8) {
        self.registers[usize::from(address)] = value;
    }

    fn running(&self) -> bool {
        let mode = self.register(MODE_CONFIG);
        mode & SHUTDOWN == 0 && matches!(mode & MODE_MASK, MODE_HEART_RATE | MODE_SPO2)
    }

    /// Conversions a second: what SPO2_CONFIG asks for, or the most that its pulse width allows in this mode.
    fn rate_hz(&self) -> u64 {
        let config = self.register(SPO2_CONFIG);
        let asked = [50, 100, 200, 400, 800, 1000, 1600, 3200][usize::from(config >> 2 & 0x07)];
        let two_leds = self.register(MODE_CONFIG) & MODE_MASK == MODE_SPO2;
        let most = match (config & 0x03, two_leds) {
            (0, true) => 1600,
            (0, false) => 3200,
            (1, true) | (3, false) => 1000,
            (2, true) => 800,
            (1, false) | (2, false) => 1600,
            _ => 400,
        };
        asked.min(most)
    }

    fn period(&self) -> u64 {
        1_000_000_000 / self.rate_hz()
    }

    fn restart(&mut self) {
        self.averaged = [0; 2];
        self.averaged_count = 0;
        self.next_sample = if self.running() { self.now.saturating_add(self.period()) } else { u64::MAX };
    }

    fn sample(&mut self) {
        let light = self.optics.at(self.now);
        let milliamperes = |amplitude: u8| f64::from(amplitude) * 0.2;
        let pair = [
            self.counts(light.red * milliamperes(self.register(LED1_AMPLITUDE)), 0),
            self.counts(light.infrared * milliamperes(self.register(LED2_AMPLITUDE)), 1),
        ];
        self.samples += 1;
        for (sum, counts) in self.averaged.iter_mut().zip(pair) {
            *sum += u64::from(counts);
        }
        self.averaged_count += 1;
        let wanted = 1_u64 << (self.register(FIFO_CONFIG) >> 5).min(5);
        if self.averaged_count >= wanted {
            let mean = self.averaged.map(|sum| u32::try_from(sum / self.averaged_count).unwrap_or(u32::MAX));
            self.averaged = [0; 2];
            self.averaged_count = 0;
            self.push(mean);
        }
    }

    /// One conversion: 15 to 18 bits, left-justified to 18, saturating.
    fn counts(&self, nanoamperes: f64, led: u64) -> u32 {
        let range_nanoamperes = f64::from(2048_u32 << (self.register(SPO2_CONFIG) >> 5 & 0x03));
        let noise = step(self.noise_seed, self.samples.wrapping_mul(2).wrapping_add(led), NOISE_COUNTS);
        let counts = nearest(nanoamperes / range_nanoamperes * 262_144.0) + i64::from(noise);
        let kept_bits = u32::MAX << (3 - (self.register(SPO2_CONFIG) & 0x03));
        u32::try_from(counts.clamp(0, 0x3_ffff)).unwrap_or(0) & kept_bits
    }

    fn push(&mut self, pair: [u32; 2]) {
        let write = self.register(FIFO_WRITE_POINTER);
        if self.waiting == FIFO_SAMPLES {
            self.set(OVERFLOW_COUNTER, (self.register(OVERFLOW_COUNTER) + 1).min(0x1f));
            if self.register(FIFO_CONFIG) & 0x10 == 0 {
                return;
            }
            self.set(FIFO_READ_POINTER, (self.register(FIFO_READ_POINTER) + 1) % FIFO_SAMPLES);
            self.octet = 0;
            self.waiting -= 1;
        }
        self.fifo[usize::from(write % FIFO_SAMPLES)] = pair;
        self.set(FIFO_WRITE_POINTER, (write + 1) % FIFO_SAMPLES);
        self.waiting += 1;
        let mut status = self.register(INTERRUPT_STATUS_1) | SAMPLE_READY;
        if self.waiting >= FIFO_SAMPLES - (self.register(FIFO_CONFIG) & 0x0f) {
            status |= ALMOST_FULL;
        }
        self.set(INTERRUPT_STATUS_1, status);
    }

    fn octets_per_sample(&self) -> u8 {
        if self.register(MODE_CONFIG) & MODE_MASK == MODE_HEART_RATE { 3 } else { 6 }
    }

    /// FIFO_DATA: the next octet of the sample at the read pointer. Reading an empty FIFO gives stale octets and moves the
    /// pointer all the same, as in the part.
    fn pop_octet(&mut self) -> u8 {
        let read = self.register(FIFO_READ_POINTER);
        let pair = self.fifo[usize::from(read % FIFO_SAMPLES)];
        let led = pair[usize::from(self.octet / 3)];
        let octet = led.to_be_bytes()[usize::from(1 + self.octet % 3)];
        self.octet += 1;
        if self.octet >= self.octets_per_sample() {
            self.octet = 0;
            self.set(FIFO_READ_POINTER, (read + 1) % FIFO_SAMPLES);
            self.set(OVERFLOW_COUNTER, 0);
            self.waiting = self.waiting.checked_sub(1).unwrap_or(FIFO_SAMPLES - 1);
        }
        octet
    }

    fn read_octet(&mut self) -> u8 {
        let address = self.pointer;
        if address == FIFO_DATA {
            return self.pop_octet();
        }
        self.pointer = address.wrapping_add(1);
        let value = self.register(address);
        if address == INTERRUPT_STATUS_1 {
            self.set(INTERRUPT_STATUS_1, 0);
        }
        value
    }

    fn write_octet(&mut self, value: u8) {
        let address = self.pointer;
        if address != FIFO_DATA {
            self.pointer = address.wrapping_add(1);
        }
        match address {
            MODE_CONFIG if value & RESET != 0 => self.reset(),
            MODE_CONFIG | SPO2_CONFIG | FIFO_CONFIG => {
                self.set(address, value);
                self.restart();
            }
            FIFO_WRITE_POINTER | FIFO_READ_POINTER => {
                self.set(address, value & 0x1f);
                let (write, read) = (self.register(FIFO_WRITE_POINTER), self.register(FIFO_READ_POINTER));
                self.waiting = (write + FIFO_SAMPLES - read) % FIFO_SAMPLES;
                self.octet = 0;
            }
            OVERFLOW_COUNTER => self.set(address, value & 0x1f),
            TEMPERATURE_CONFIG => self.set(TEMPERATURE_INTEGER, 25),
            0x02 | 0x03 | LED1_AMPLITUDE | LED2_AMPLITUDE | 0x11 | 0x12 => self.set(address, value),
            // Status, identification, FIFO data and reserved places do not take writes here.
            _ => {}
        }
    }
}

/// The firmware's end of the part's I2C.
pub struct Bus<O>(pub Shared<Max30102<O>>);

impl<O> ErrorType for Bus<O> {
    type Error = ErrorKind;
}

impl<O: Optics> I2c for Bus<O> {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if address != ADDRESS {
            return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
        }
        let mut part = self.0.lock();
        let mut pointer_next = true;
        for operation in operations {
            match operation {
                Operation::Write(octets) => {
                    for octet in octets.iter() {
                        if pointer_next {
                            part.pointer = *octet;
                            pointer_next = false;
                        } else {
                            part.write_octet(*octet);
                        }
                    }
                }
                Operation::Read(into) => {
                    into.iter_mut().for_each(|octet| *octet = part.read_octet());
                    pointer_next = true;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 nA/mA infrared, 50 red.
    struct Constant;

    impl Optics for Constant {
        fn at(&mut self, _nanoseconds: u64) -> Reflectance {
            Reflectance { red: 50.0, infrared: 100.0 }
        }
    }

    fn board() -> (Bus<Constant>, Shared<Max30102<Constant>>) {
        let part = Shared::new(Max30102::new(Constant, 1));
        (Bus(part.clone()), part)
    }

    fn read(bus: &mut Bus<Constant>, register: u8) -> u8 {
        let mut octet = [0];
        bus.write_read(ADDRESS, &[register], &mut octet).unwrap();
        octet[0]
    }

    /// SpO2 mode, 100 a second, 18 bits, 4096 nA, 10 mA in both LEDs.
    fn start(bus: &mut Bus<Constant>) {
        for (register, value) in
            [(FIFO_CONFIG, 0x00), (SPO2_CONFIG, 0x27), (LED1_AMPLITUDE, 50), (LED2_AMPLITUDE, 50), (MODE_CONFIG, MODE_SPO2)]
        {
            bus.write(ADDRESS, &[register, value]).unwrap();
        }
    }

    fn pop(bus: &mut Bus<Constant>) -> [u32; 2] {
        let mut octets = [0; 6];
        bus.write_read(ADDRESS, &[FIFO_DATA], &mut octets).unwrap();
        let led = |c: &[u8]| u32::from_be_bytes([0, c[0], c[1], c[2]]);
        [led(&octets[..3]), led(&octets[3..])]
    }

    #[test]
    fn it_says_who_it_is_and_answers_at_its_address_only() {
        let (mut bus, _) = board();
        assert_eq!(read(&mut bus, PART_ID), 0x15);
        assert_eq!(bus.write(0x58, &[0]), Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)));
        assert_eq!(read(&mut bus, INTERRUPT_STATUS_1), POWER_READY);
        assert_eq!(read(&mut bus, INTERRUPT_STATUS_1), 0, "reading clears it");
    }

    #[test]
    fn no_sample_comes_before_a_mode_is_chosen_or_in_shutdown() {
        let (mut bus, part) = board();
        part.lock().advance(1_000_000_000);
        assert_eq!(read(&mut bus, FIFO_WRITE_POINTER), 0);
        start(&mut bus);
        bus.write(ADDRESS, &[MODE_CONFIG, SHUTDOWN | MODE_SPO2]).unwrap();
        part.lock().advance(2_000_000_000);
        assert_eq!(read(&mut bus, FIFO_WRITE_POINTER), 0);
    }

    #[test]
    fn samples_come_at_the_rate_with_the_light_they_met() {
        let (mut bus, part) = board();
        start(&mut bus);
        part.lock().advance(55_000_000);
        assert_eq!(read(&mut bus, FIFO_WRITE_POINTER), 5);
        let [red, infrared] = pop(&mut bus);
        assert!(red.abs_diff(32_000) <= NOISE_COUNTS, "50 nA/mA × 10 mA of 4096 nA: {red}");
        assert!(infrared.abs_diff(64_000) <= NOISE_COUNTS, "{infrared}");
        assert_eq!(read(&mut bus, FIFO_READ_POINTER), 1);
    }

    #[test]
    fn a_full_fifo_keeps_the_oldest_and_counts_what_it_lost() {
        let (mut bus, part) = board();
        start(&mut bus);
        part.lock().advance(400_000_000);
        assert_eq!(read(&mut bus, OVERFLOW_COUNTER), 8);
        assert_eq!(read(&mut bus, FIFO_WRITE_POINTER), read(&mut bus, FIFO_READ_POINTER));
        assert_ne!(read(&mut bus, INTERRUPT_STATUS_1) & ALMOST_FULL, 0);
        pop(&mut bus);
        assert_eq!(read(&mut bus, OVERFLOW_COUNTER), 0, "popping a sample clears it");
    }

    #[test]
    fn with_rollover_a_full_fifo_keeps_the_newest() {
        let (mut bus, part) = board();
        start(&mut bus);
        bus.write(ADDRESS, &[FIFO_CONFIG, 0x10]).unwrap();
        part.lock().advance(400_000_000);
        assert_eq!(read(&mut bus, FIFO_WRITE_POINTER), 8);
        assert_eq!(read(&mut bus, FIFO_READ_POINTER), 8);
    }

    #[test]
    fn reading_an_empty_fifo_moves_the_pointer_all_the_same() {
        let (mut bus, part) = board();
        start(&mut bus);
        part.lock().advance(10_000_000);
        pop(&mut bus);
        pop(&mut bus);
        assert_eq!(read(&mut bus, FIFO_READ_POINTER), 2);
    }

    #[test]
    fn averaging_and_pulse_width_bound_the_rate_and_the_bits() {
        let (mut bus, part) = board();
        start(&mut bus);
        bus.write(ADDRESS, &[FIFO_CONFIG, 2 << 5]).unwrap();
        part.lock().advance(400_000_000);
        assert_eq!(read(&mut bus, FIFO_WRITE_POINTER), 10, "four at a time");
        assert_eq!(
            {
                bus.write(ADDRESS, &[SPO2_CONFIG, 0x27 | 7 << 2]).unwrap();
                part.lock().rate_hz()
            },
            400,
            "411 µs, two LEDs"
        );
        bus.write(ADDRESS, &[SPO2_CONFIG, 0x24]).unwrap();
        bus.write(ADDRESS, &[MODE_CONFIG, RESET]).unwrap();
        start(&mut bus);
        bus.write(ADDRESS, &[SPO2_CONFIG, 0x24]).unwrap();
        part.lock().advance(1_000_000_000);
        assert_eq!(pop(&mut bus)[0] & 0x07, 0, "15 bits, left-justified");
    }

    #[test]
    fn too_much_light_saturates() {
        let (mut bus, part) = board();
        start(&mut bus);
        bus.write(ADDRESS, &[LED2_AMPLITUDE, 0xff]).unwrap();
        part.lock().advance(10_000_000);
        assert_eq!(pop(&mut bus)[1], 0x3_ffff);
    }
}
