//! Nonin serial data format 7: data format 2 with a pulse waveform of 16 bits.
//!
//! Port: 9600 baud, 8 data bits, no parity; 75 frames a second, 25 of them a packet as in [`nonin_df2`]. Source: Nonin
//! 6470-000-01 (serial data formats). SleepAp (NoninPacket.java) reads the waveform as 128 × its first octet and its second;
//! the document's range of 0–65535 allows 256 × only.
//!
//! [`nonin_df2`]: super::nonin_df2

use crate::reader::{DecodeError, Reader};
use crate::serial::nonin_df2::{self, FRAMES_PER_PACKET, FiveOctets, FrameStatus, Packet};

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// What the sensor meets.
    pub status: FrameStatus,
    /// The pulse waveform, 0–65535, no unit.
    pub pleth: u16,
    /// What this octet is depends on the frame's place in its packet; 7 bits.
    pub float: u8,
}

impl Frame {
    /// Octets of a frame.
    pub const OCTETS: usize = 5;

    /// Decodes one frame.
    ///
    /// Shape: STATUS · PLETH (2, big-endian) · FLOAT · CHK, the sum of the four before it modulo 256; 5 octets.
    /// Units: none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] for a STATUS without bit 7 or a
    /// FLOAT with it; [`DecodeError::Checksum`].
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let frame = Self { status: FrameStatus(r.u8("status")?), pleth: r.u16_be("pleth")?, float: r.u8("float")? };
        let checksum = r.u8("checksum")?;
        r.finish()?;
        match () {
            () if !frame.status.has(FrameStatus::ALWAYS) => Err(DecodeError::Value { field: "status" }),
            () if frame.float & FrameStatus::ALWAYS != 0 => Err(DecodeError::Value { field: "float" }),
            () if checksum != frame.checksum() => Err(DecodeError::Checksum),
            () => Ok(frame),
        }
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::OCTETS] {
        let [high, low] = self.pleth.to_be_bytes();
        [self.status.0, high, low, self.float, self.checksum()]
    }

    const fn checksum(&self) -> u8 {
        let [high, low] = self.pleth.to_be_bytes();
        self.status.0.wrapping_add(high).wrapping_add(low).wrapping_add(self.float)
    }

    /// As data format 2 would have sent it: with the waveform's high octet.
    #[must_use]
    pub const fn narrow(&self) -> nonin_df2::Frame {
        let [high, _] = self.pleth.to_be_bytes();
        nonin_df2::Frame { status: self.status, pleth: high, float: self.float }
    }
}

impl FiveOctets for Frame {
    fn five(octets: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(octets)
    }

    fn begins(octet: u8) -> bool {
        octet & FrameStatus::ALWAYS != 0
    }
}

/// The values of one packet, with the high octets of its waveform.
///
/// Shape: FLOAT as in data format 2, but that frames 6 and 7 are reserved and no timer.
/// Units: SpO2 in `%`, heart rates in `/min`.
/// Errors: [`DecodeError::Value`] where the sync bit is not in the first frame, and there only.
/// Source: as the module.
pub fn values(frames: &[Frame; FRAMES_PER_PACKET]) -> Result<Packet, DecodeError> {
    Packet::decode(&frames.map(|frame| frame.narrow()))
}

/// A packet's 25 frames with this waveform.
#[must_use]
pub fn packet(values: &Packet, pleth: &[u16; FRAMES_PER_PACKET]) -> [Frame; FRAMES_PER_PACKET] {
    let narrow = values.encode();
    core::array::from_fn(|place| {
        let of = narrow.get(place).zip(pleth.get(place));
        let none = Frame { status: FrameStatus(FrameStatus::ALWAYS), pleth: 0, float: 0 };
        of.map_or(none, |(frame, pleth)| Frame { status: frame.status, pleth: *pleth, float: frame.float & 0x7f })
    })
}

/// What a [`Framer`] finds.
pub type Found = super::framer::Found<Frame>;

/// Finds frames in a stream, however it is split: see [`nonin_df2::Frames`].
pub type Framer = super::framer::Framer<nonin_df2::Frames<Frame>>;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::promises::{every_other_length_is_refused, every_turned_bit_is_refused, found, found_in_pieces, turned};
    use crate::vectors::vectors;

    type Frames = nonin_df2::Frames<Frame>;

    fn only_frames(found: &[Found]) -> Vec<Frame> {
        found.iter().filter_map(|found| if let Found::Frame(frame) = found { Some(*frame) } else { None }).collect()
    }

    /// A pulse that passes through every octet that looks like a start.
    fn stream(packets: u16) -> Vec<Frame> {
        let numbers = Packet::decode(&nonin_df2_packet()).unwrap();
        let wave = |packet: u16| core::array::from_fn(|place| (packet * 25 + u16::try_from(place).unwrap()).wrapping_mul(523));
        (0..packets).flat_map(|number| packet(&numbers, &wave(number))).collect()
    }

    fn nonin_df2_packet() -> [nonin_df2::Frame; FRAMES_PER_PACKET] {
        let text = include_str!("../../vectors/nonin_df2_packets.txt");
        let octets = vectors(text).next().unwrap().octets;
        core::array::from_fn(|place| nonin_df2::Frame::decode(&octets[place * 5..place * 5 + 5]).unwrap())
    }

    #[test]
    fn frames_decode_and_encode() {
        for v in vectors(include_str!("../../vectors/nonin_df7_frames.txt")) {
            match Frame::decode(&v.octets) {
                Ok(frame) => {
                    let text = std::format!("status={:02x} pleth={} float={}", frame.status.0, frame.pleth, frame.float);
                    assert_eq!((text.as_str(), &frame.encode()[..]), (v.expected, &v.octets[..]), "{}", v.id);
                }
                Err(_) => assert_eq!(v.expected, "invalid", "{}", v.id),
            }
        }
    }

    #[test]
    fn a_frame_with_any_bit_flipped_or_any_octet_missing_is_refused() {
        let frame = stream(1)[2].encode();
        every_turned_bit_is_refused(&frame, Frame::decode);
        every_other_length_is_refused(&frame, Frame::decode);
    }

    #[test]
    fn a_packet_has_the_values_of_format_2_and_its_own_waveform() {
        let frames = stream(1);
        let packet = values(&frames.clone().try_into().unwrap()).unwrap();
        assert_eq!((packet.heart_rate, packet.spo2, packet.firmware), (Some(72), Some(97), 48));
        assert_eq!(frames[24].pleth, 24 * 523);
    }

    #[test]
    fn any_flipped_bit_and_any_dropped_octet_costs_its_own_frame_or_its_neighbour() {
        let truth = stream(3);
        let octets: Vec<u8> = truth.iter().flat_map(Frame::encode).collect();
        for (bit, turned) in turned(&octets).filter(|(bit, _)| (125 * 8..250 * 8).contains(bit)) {
            let frames = only_frames(&found::<Frames>(&[&turned]));
            assert!(frames.len() >= 73 && frames.iter().all(|frame| truth.contains(frame)), "bit {bit}: {}", frames.len());
        }
        for at in 125..250 {
            let mut dropped = octets.clone();
            dropped.remove(at);
            let frames = only_frames(&found::<Frames>(&[&dropped]));
            let strange = frames.iter().filter(|frame| !truth.contains(frame)).count();
            assert!(frames.len() >= 72 && strange <= 1, "octet {at}: {} frames, {strange} strange", frames.len());
        }
    }

    proptest! {
        #[test]
        fn frames_survive_the_way_there_and_back(status in 0x80..=0xff_u8, pleth: u16, float in 0..0x80_u8) {
            let frame = Frame { status: FrameStatus(status), pleth, float };
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn no_split_makes_a_difference(stream in proptest::collection::vec(any::<u8>(), 0..200), size in 1..9_usize) {
            found_in_pieces::<Frames>(&stream, size);
        }

        #[test]
        fn a_clean_stream_is_found_whole(waves in proptest::collection::vec(any::<(u16, u8)>(), 2..100)) {
            let frame = |(pleth, float): &(u16, u8)| Frame { status: FrameStatus(0x80), pleth: *pleth, float: float & 0x7f };
            let frames: Vec<Frame> = waves.iter().map(frame).collect();
            let octets: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            prop_assert_eq!(only_frames(&found::<Frames>(&[&octets])), frames);
        }
    }
}
