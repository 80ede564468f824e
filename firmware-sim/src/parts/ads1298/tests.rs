use super::*;

/// 1 mV on channel 1, 2 mV on channel 2 and so on; V1's electrode may fall off.
struct Steps {
    off: bool,
}

impl Electrodes for Steps {
    fn at(&mut self, _nanoseconds: u64) -> [Differential; CHANNELS] {
        std::array::from_fn(|channel| Differential {
            nanovolts: (i64::try_from(channel).unwrap() + 1) * 1_000_000,
            positive_off: self.off && channel == 2,
            negative_off: false,
        })
    }
}

fn board() -> (Spi<Steps>, DataReady<Steps>, Shared<Ads1298<Steps>>) {
    let part = Shared::new(Ads1298::new(Steps { off: false }, 1));
    (Spi(part.clone()), DataReady(part.clone()), part)
}

fn read_register(spi: &mut Spi<Steps>, address: u8) -> u8 {
    let mut octets = [RREG | address, 0, 0];
    spi.transfer_in_place(&mut octets).unwrap();
    octets[2]
}

fn write_register(spi: &mut Spi<Steps>, address: usize, value: u8) {
    spi.write(&[WREG | u8::try_from(address).unwrap(), 0, value]).unwrap();
}

fn read_frame(spi: &mut Spi<Steps>) -> [u8; FRAME_OCTETS] {
    let mut frame = [0; FRAME_OCTETS];
    spi.read(&mut frame).unwrap();
    frame
}

/// Reference on, 500 a second, gain 6, DC lead-off on every input, conversions running.
fn start(spi: &mut Spi<Steps>) {
    spi.write(&[SDATAC]).unwrap();
    for (address, value) in
        [(CONFIG1, 0x86), (CONFIG3, 0xcc), (LOFF, 0x03), (LOFF_SENSP, 0xff), (LOFF_SENSN, 0xff), (CONFIG4, 0x02)]
    {
        write_register(spi, address, value);
    }
    spi.write(&[RDATAC]).unwrap();
    spi.write(&[START]).unwrap();
}

fn codes(frame: &[u8; FRAME_OCTETS]) -> Vec<i32> {
    frame[3..].chunks(3).map(|c| i32::from_be_bytes([c[0], c[1], c[2], 0]) >> 8).collect()
}

#[test]
fn registers_are_deaf_until_continuous_mode_ends() {
    let (mut spi, ..) = board();
    assert_ne!(read_register(&mut spi, 0), ID_ADS1298, "power-up is in continuous mode");
    write_register(&mut spi, CONFIG1, 0x85);
    spi.write(&[SDATAC]).unwrap();
    assert_eq!(read_register(&mut spi, 0), ID_ADS1298);
    assert_eq!(read_register(&mut spi, 1), 0x06, "the write before SDATAC was not heard");
}

#[test]
fn registers_keep_what_is_written_but_for_the_read_only_ones() {
    let (mut spi, ..) = board();
    spi.write(&[SDATAC]).unwrap();
    spi.write(&[WREG | 0x05, 7, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x00, 0x81]).unwrap();
    let mut octets = [0; 10];
    octets[..2].copy_from_slice(&[RREG | 0x05, 7]);
    spi.transfer_in_place(&mut octets).unwrap();
    assert_eq!(octets[2..], [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x00, 0x81]);
    for address in [ID, LOFF_STATP, LOFF_STATN] {
        write_register(&mut spi, address, 0xaa);
        assert_ne!(read_register(&mut spi, u8::try_from(address).unwrap()), 0xaa);
    }
    spi.write(&[RESET]).unwrap();
    spi.write(&[SDATAC]).unwrap();
    assert_eq!(read_register(&mut spi, 0x05), 0, "RESET brings the values of power-up back");
}

#[test]
fn nothing_is_converted_before_start_and_data_read_then_is_empty() {
    let (mut spi, mut ready, part) = board();
    assert!(!part.lock().advance(1_000_000_000));
    assert!(ready.is_high().unwrap());
    assert_eq!(codes(&read_frame(&mut spi)), [0; 8]);
}

#[test]
fn data_ready_falls_at_the_rate_of_config1_and_rises_when_read() {
    let (mut spi, mut ready, part) = board();
    part.lock().advance(1_000_000);
    start(&mut spi);
    assert!(!part.lock().advance(8_999_999), "settling takes four periods");
    assert!(part.lock().advance(9_000_000));
    assert!(ready.is_low().unwrap());
    read_frame(&mut spi);
    assert!(ready.is_high().unwrap());
    let conversions = (0..).take_while(|_| part.lock().advance(1_009_000_000)).count();
    assert_eq!(conversions, 500);
}

#[test]
fn a_frame_not_fetched_is_lost_and_one_fetched_twice_is_empty() {
    let (mut spi, _, part) = board();
    start(&mut spi);
    for _ in 0..3 {
        assert!(part.lock().advance(u64::MAX));
    }
    let last = part.lock().last_codes();
    assert_eq!(codes(&read_frame(&mut spi)), last);
    assert_eq!(read_frame(&mut spi), [0; FRAME_OCTETS], "the shift register is empty until the next conversion");
}

#[test]
fn rdata_reads_a_frame_outside_continuous_mode() {
    let (mut spi, mut ready, part) = board();
    start(&mut spi);
    spi.write(&[SDATAC]).unwrap();
    assert!(part.lock().advance(u64::MAX));
    let mut octets = [0; 1 + FRAME_OCTETS];
    octets[0] = RDATA;
    spi.transfer_in_place(&mut octets).unwrap();
    assert_eq!(codes(octets[1..].try_into().unwrap()), part.lock().last_codes());
    assert!(ready.is_high().unwrap());
}

#[test]
fn a_code_is_volts_times_gain_over_the_reference() {
    for (setting, gain) in [(0x00, 6.0), (0x10, 1.0), (0x20, 2.0), (0x30, 3.0), (0x40, 4.0), (0x50, 8.0), (0x60, 12.0)] {
        let (mut spi, _, part) = board();
        start(&mut spi);
        spi.write(&[SDATAC]).unwrap();
        write_register(&mut spi, CH1SET, setting);
        spi.write(&[RDATAC]).unwrap();
        part.lock().advance(u64::MAX);
        let code = f64::from(part.lock().last_codes()[0]);
        let expected = 0.001 * gain / 2.4 * 8_388_607.0;
        assert!((code - expected).abs() <= f64::from(NOISE_CODES) + 1.0, "gain {gain}: {code} against {expected}");
    }
}

#[test]
fn an_electrode_off_shows_in_the_status_word_and_saturates_its_channel() {
    let (mut spi, _, part) = board();
    start(&mut spi);
    part.lock().advance(u64::MAX);
    assert_eq!(read_frame(&mut spi)[..3], [0xc0, 0x00, 0x00]);
    part.lock().electrodes().off = true;
    part.lock().advance(u64::MAX);
    let frame = read_frame(&mut spi);
    assert_eq!(frame[..3], [0xc0, 0x40, 0x00], "LOFF_STATP bit 2");
    assert_eq!(codes(&frame)[2], CODE_MAX);
    assert_ne!(codes(&frame)[1], CODE_MAX);
}

#[test]
fn full_scale_saturates_at_both_ends() {
    struct Far(i64);
    impl Electrodes for Far {
        fn at(&mut self, _nanoseconds: u64) -> [Differential; CHANNELS] {
            [Differential { nanovolts: self.0, ..Differential::default() }; CHANNELS]
        }
    }
    for (nanovolts, code) in [(500_000_000, CODE_MAX), (-500_000_000, -CODE_MAX - 1), (i64::MAX, CODE_MAX)] {
        let part = Shared::new(Ads1298::new(Far(nanovolts), 1));
        let mut spi = Spi(part.clone());
        for command in [&[SDATAC][..], &[WREG | 0x03, 0, 0xcc], &[START]] {
            spi.write(command).unwrap();
        }
        part.lock().advance(u64::MAX);
        assert_eq!(part.lock().last_codes(), [code; CHANNELS]);
    }
}

#[test]
fn without_its_reference_the_part_reads_full_scale() {
    let (mut spi, _, part) = board();
    spi.write(&[SDATAC]).unwrap();
    spi.write(&[START]).unwrap();
    part.lock().advance(u64::MAX);
    assert_eq!(part.lock().last_codes(), [CODE_MAX; CHANNELS]);
}

#[test]
fn standby_and_stop_end_conversions() {
    let (mut spi, _, part) = board();
    start(&mut spi);
    spi.write(&[STANDBY]).unwrap();
    assert!(!part.lock().advance(1_000_000_000));
    spi.write(&[WAKEUP]).unwrap();
    assert!(part.lock().advance(2_000_000_000));
    spi.write(&[STOP]).unwrap();
    assert!(!part.lock().advance(3_000_000_000));
}
