//! Data format 2 or 7: both have frames of five octets with the sum of the other four, and neither says which it is.
//!
//! Both are looked for at once, and what is found waits. A format is known by ten of its frames in a row. By chance no stream
//! of one holds ten of the other: a frame of format 2 read as one of format 7 fits only where waveform and FLOAT add up to a
//! multiple of 256 (an octet late) or of 128 less one (two late), which the FLOAT of ten frames in a row, of which some state
//! SpO2 and pulse rate and others nothing, cannot do unless the waveform goes against it frame by frame; three and four late,
//! an octet that must not have bit 7 has it. A frame of format 7 read as one of format 2 needs an octet that stays 01 (its
//! waveform's high one), and FLOAT 127 in every frame; there are three of those in a row at most.
//! On a line too noisy for ten in a row, the format of which more frames came is taken, after fifty.

use kit_protocol::moment::Moment;
use kit_protocol::serial::framer::Found;
use kit_protocol::serial::{nonin_df2, nonin_df7};

/// Frames in a row that prove a format.
const PROOF: usize = 10;
/// Frames after which it is decided without a proof.
const FRAMES_MAX: usize = 50;

/// A frame of either format, as format 2 has it, with its whole waveform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide {
    pub(super) frame: nonin_df2::Frame,
    pub(super) pleth: u16,
}

impl From<nonin_df2::Frame> for Wide {
    fn from(frame: nonin_df2::Frame) -> Self {
        Self { frame, pleth: frame.pleth.into() }
    }
}

impl From<nonin_df7::Frame> for Wide {
    fn from(frame: nonin_df7::Frame) -> Self {
        Self { frame: frame.narrow(), pleth: frame.pleth }
    }
}

/// What came, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A frame, and when.
    Frame(Moment, Wide),
    /// So many octets of no frame, behind one.
    Skipped(Moment, u64),
    /// So many octets of no frame, before any.
    Unclaimed(u64),
}

/// What was found of one format before it is known.
#[derive(Debug, Default)]
struct Trial {
    heard: Vec<Heard>,
    unclaimed: u64,
    frames: usize,
    row: usize,
}

impl Trial {
    fn take<T: Into<Wide>>(&mut self, now: Moment, found: Found<T>) {
        match found {
            Found::Frame(frame) => {
                (self.frames, self.row) = (self.frames + 1, self.row + 1);
                self.heard.push(Heard::Frame(now, frame.into()));
            }
            Found::Skipped(octets) => {
                self.row = 0;
                match self.frames {
                    0 => self.unclaimed = self.unclaimed.saturating_add(octets),
                    _ => self.heard.push(Heard::Skipped(now, octets)),
                }
            }
        }
    }

    fn hand_over(&mut self, out: &mut impl FnMut(Heard)) {
        let Self { heard, unclaimed, .. } = std::mem::take(self);
        if unclaimed > 0 {
            out(Heard::Unclaimed(unclaimed));
        }
        heard.into_iter().for_each(out);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Which {
    #[default]
    Unknown,
    Two,
    Seven,
}

/// Both framers, until one is known to be right.
#[derive(Debug, Default)]
pub(super) struct Telling {
    which: Which,
    two: nonin_df2::Framer,
    seven: nonin_df7::Framer,
    of_two: Trial,
    of_seven: Trial,
}

impl Telling {
    /// Whether it is one of the two.
    pub(super) fn known(&self) -> bool {
        self.which != Which::Unknown
    }

    /// Takes in octets; hands over nothing before the format is known.
    pub(super) fn push(&mut self, now: Moment, octets: &[u8], out: &mut impl FnMut(Heard)) {
        let Self { which, two, seven, of_two, of_seven } = self;
        if *which != Which::Seven {
            two.push(octets, |found| of_two.take(now, found));
        }
        if *which != Which::Two {
            seven.push(octets, |found| of_seven.take(now, found));
        }
        self.decide(PROOF, FRAMES_MAX);
        self.hand_over(out);
    }

    /// The link is down: few frames are enough now.
    pub(super) fn finish(&mut self, now: Moment, out: &mut impl FnMut(Heard)) {
        let Self { which, two, seven, of_two, of_seven } = self;
        if *which != Which::Seven {
            two.finish(|found| of_two.take(now, found));
        }
        if *which != Which::Two {
            seven.finish(|found| of_seven.take(now, found));
        }
        self.decide(1, 1);
        if self.which == Which::Unknown {
            self.of_two.hand_over(out);
        }
        self.hand_over(out);
    }

    fn decide(&mut self, row: usize, frames: usize) {
        if self.known() {
            return;
        }
        let (two, seven) = (&self.of_two, &self.of_seven);
        let enough = |trial: &Trial| trial.row >= row || trial.frames >= frames;
        if enough(two) && two.frames >= seven.frames {
            self.which = Which::Two;
        } else if enough(seven) && seven.frames > two.frames {
            self.which = Which::Seven;
        }
    }

    fn hand_over(&mut self, out: &mut impl FnMut(Heard)) {
        match self.which {
            Which::Unknown => {}
            Which::Two => self.of_two.hand_over_known(out),
            Which::Seven => self.of_seven.hand_over_known(out),
        }
    }
}

impl Trial {
    /// As [`Trial::hand_over`], and what comes next is behind a frame.
    fn hand_over_known(&mut self, out: &mut impl FnMut(Heard)) {
        self.hand_over(out);
        self.frames = 1;
    }
}

#[cfg(test)]
mod tests {
    use kit_protocol::serial::nonin_df2::{FRAMES_PER_PACKET, Frame, FrameStatus, Packet};

    use super::*;

    fn packet(spo2: Option<u8>, status: u8, pleth: u8) -> Packet {
        Packet {
            heart_rate: spo2.map(|_| 72),
            spo2,
            firmware: 48,
            timer: 0,
            status2: 0,
            spo2_display: spo2,
            spo2_fast: spo2,
            spo2_beat_to_beat: spo2,
            heart_rate_extended: spo2.map(|_| 72),
            spo2_extended: spo2,
            spo2_extended_display: spo2,
            heart_rate_display: spo2.map(|_| 72),
            heart_rate_extended_display: spo2.map(|_| 72),
            status: [FrameStatus(0x80 | status); FRAMES_PER_PACKET],
            pleth: [pleth; FRAMES_PER_PACKET],
        }
    }

    fn told(octets: &[u8]) -> (Which, usize) {
        let (mut telling, mut frames) = (Telling::default(), 0);
        let mut take = |heard| frames += usize::from(matches!(heard, Heard::Frame(..)));
        octets.chunks(7).for_each(|part| telling.push(Moment::ZERO, part, &mut take));
        let which = telling.which;
        telling.finish(Moment::ZERO, &mut take);
        (which, frames)
    }

    /// Every constant waveform, with numbers and without, under every status: where the other format comes nearest.
    #[test]
    fn no_constant_waveform_of_the_one_is_taken_for_the_other() {
        for spo2 in [None, Some(97)] {
            for status in [0x00, 0x02, 0x10, 0x18, 0x40, 0x7e] {
                for pleth in 0..=255 {
                    let packet = packet(spo2, status, pleth);
                    assert_eq!(told(&packet.to_octets().repeat(2)), (Which::Two, 50), "{spo2:?} {status:02x} {pleth}");
                    for low in [0x00, 0x01, 0x7f, 0x80, 0x81, 0xff] {
                        let wave = [u16::from_be_bytes([pleth, low]); FRAMES_PER_PACKET];
                        let frames = nonin_df7::packet(&packet, &wave);
                        let octets: Vec<u8> = frames.iter().flat_map(nonin_df7::Frame::encode).collect();
                        assert_eq!(told(&octets.repeat(2)), (Which::Seven, 50), "{spo2:?} {status:02x} {:04x}", wave[0]);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_that_came_before_it_was_known_is_lost_and_a_line_may_be_noisy() {
        let mut octets = packet(Some(97), 0, 100).to_octets().repeat(4);
        // Every sixth frame is harmed: there are never ten in a row.
        octets.chunks_mut(6 * Frame::OCTETS).for_each(|chunk| chunk[4] ^= 1);
        assert_eq!(told(&octets).1, 100 - 17);
        assert_eq!(told(&packet(Some(97), 0, 100).to_octets()[..15]).1, 3, "few are enough at the end");
    }
}
