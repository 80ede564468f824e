//! Where each frame stands in the stream: packets of 25 tell it, though frames carry no number.
//!
//! A packet that arrives whole is placed at once. One with holes waits for the next sync bit: what stands before the first
//! hole and behind the last has a known place then, and so have the holes, if what was skipped adds up to whole packets,
//! or if there is one hole only and the time that went by says how many packets it may span. Where none of that tells,
//! the stream is broken there: a new recording begins.

use kit_protocol::moment::Moment;
use kit_protocol::serial::nonin_df2::{FRAMES_PER_PACKET, FRAMES_PER_SECOND, Frame, Packet};

/// A frame with the moment it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) frame: Frame,
    /// The whole waveform, of which the frame may have the high octet only.
    pub(super) pleth: u16,
    pub(super) at: Moment,
}

/// What is known of the stream, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// These follow what was placed before.
    Frames(Vec<Held>),
    /// So many frames never arrived.
    Lost(u64),
    /// Frames never arrived, and nobody can tell how many.
    Broken,
    /// A packet arrived whole.
    Packet(Box<Packet>),
}

/// Frames that may wait for a sync bit: more than two packets without one are no stream that can be placed.
const WAITING_MAX: usize = 2 * FRAMES_PER_PACKET;
/// Half a packet, in frames: what the arrival of octets may stray before it leaves the number of packets open.
const STRAY_MAX: u64 = 12;
/// How near an amount of time must be to the only number of packets that fits it, in frames.
const NEAR: u64 = 8;
const PACKET: u64 = 25;
const FRAME_OCTETS: u64 = 5;

/// Places frames. What waits since the last packet boundary stands in `pieces`, which holes divide.
#[derive(Debug, Default)]
pub(super) struct Placer {
    pieces: Vec<Piece>,
    /// `pieces` begin at a packet boundary, at which everything before was placed.
    aligned: bool,
    /// When the last frame before that boundary arrived.
    boundary: Option<Moment>,
}

#[derive(Debug, Default)]
struct Piece {
    /// Octets that belong to no frame, before the first of these.
    skipped: u64,
    frames: Vec<Held>,
}

impl Placer {
    /// Octets of no frame came.
    pub(super) fn skipped(&mut self, skipped: u64) {
        self.pieces.push(Piece { skipped, frames: Vec::new() });
    }

    /// The stream ended: places what still has a known place.
    pub(super) fn finish(&mut self, out: &mut impl FnMut(Placed)) {
        let last = std::mem::take(self);
        let directly_behind = last.pieces.into_iter().next().filter(|piece| last.aligned && piece.skipped == 0);
        if let Some(piece) = directly_behind {
            place(piece.frames, out);
        }
    }

    /// A frame came, with this waveform.
    pub(super) fn frame(&mut self, frame: Frame, pleth: u16, at: Moment, out: &mut impl FnMut(Placed)) {
        let held = Held { frame, pleth, at };
        if held.frame.status.sync() {
            self.close(held.at, out);
            self.aligned = true;
        }
        match self.pieces.last_mut() {
            Some(piece) => piece.frames.push(held),
            None => self.pieces.push(Piece { skipped: 0, frames: vec![held] }),
        }
        if let Some((packet, frames)) = self.whole_packet() {
            self.pieces.clear();
            self.boundary = Some(held.at);
            out(Placed::Packet(Box::new(packet)));
            out(Placed::Frames(frames));
        } else if self.waiting() > WAITING_MAX {
            *self = Self::default();
            out(Placed::Broken);
        }
    }

    fn waiting(&self) -> usize {
        self.pieces.iter().map(|piece| piece.frames.len()).sum()
    }

    fn whole_packet(&mut self) -> Option<(Packet, Vec<Held>)> {
        let [Piece { skipped: 0, frames }] = self.pieces.as_mut_slice() else { return None };
        if frames.len() != FRAMES_PER_PACKET {
            return None;
        }
        let all: [Frame; FRAMES_PER_PACKET] = frames.iter().map(|held| held.frame).collect::<Vec<_>>().try_into().ok()?;
        let packet = Packet::decode(&all).ok()?;
        Some((packet, std::mem::take(frames)))
    }

    /// A sync bit came at `sync`: places what waits since the boundary before it.
    fn close(&mut self, sync: Moment, out: &mut impl FnMut(Placed)) {
        let mut pieces = std::mem::take(&mut self.pieces);
        let boundary = self.boundary.replace(sync).unwrap_or(sync);
        if pieces.is_empty() {
            return;
        }
        if !self.aligned {
            // Joined in the middle of a packet: what directly precedes the sync bit is the beginning.
            return place(pieces.pop().map(|piece| piece.frames).unwrap_or_default(), out);
        }
        let elapsed = frames_in(boundary, sync);
        if pieces.iter().all(|piece| piece.skipped == 0) {
            // The sync bit came early, and no octet was out of place: the hole may be anywhere among these frames.
            let packets = (elapsed + STRAY_MAX) / PACKET;
            return out(Placed::Lost(PACKET * packets.max(count(&pieces).div_ceil(PACKET))));
        }
        match holes(&pieces, elapsed) {
            Some(holes) => {
                let mut holes = holes.into_iter();
                for piece in pieces {
                    let lost = if piece.skipped > 0 { holes.next().unwrap_or(0) } else { 0 };
                    if lost > 0 {
                        out(Placed::Lost(lost));
                    }
                    place(piece.frames, out);
                }
            }
            None => {
                let last = pieces.pop().map(|piece| piece.frames).unwrap_or_default();
                if let Some(first) = pieces.into_iter().next().filter(|piece| piece.skipped == 0) {
                    place(first.frames, out);
                }
                out(Placed::Broken);
                place(last, out);
            }
        }
    }
}

fn place(frames: Vec<Held>, out: &mut impl FnMut(Placed)) {
    if !frames.is_empty() {
        out(Placed::Frames(frames));
    }
}

/// How many frames each hole lacks; `None` where that cannot be known.
fn holes(pieces: &[Piece], elapsed: u64) -> Option<Vec<u64>> {
    let skipped = || pieces.iter().map(|piece| piece.skipped).filter(|skipped| *skipped > 0);
    let frames = count(pieces);
    // A lost octet leaves 4 to skip, an added one 6: the nearest number of frames.
    let nearest: Vec<u64> = skipped().map(|octets| (octets + 2) / FRAME_OCTETS).collect();
    let total = frames + nearest.iter().sum::<u64>();
    let octets = frames * FRAME_OCTETS + skipped().sum::<u64>();
    let no_octet_lost = octets.is_multiple_of(PACKET * FRAME_OCTETS);
    if total.is_multiple_of(PACKET) && (no_octet_lost || elapsed <= total + STRAY_MAX) {
        return Some(nearest);
    }
    if nearest.len() != 1 {
        return None;
    }
    // One hole: it lacks what is left of the packet, and whole packets besides if time says so.
    let least = (PACKET - frames % PACKET) % PACKET;
    let spare = elapsed.saturating_sub(frames + least);
    let packets = (spare + NEAR) / PACKET;
    (spare <= packets * PACKET + NEAR).then(|| vec![least + packets * PACKET])
}

fn count(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| u64::try_from(piece.frames.len()).unwrap_or(u64::MAX)).sum()
}

/// Frames that a device sends between two moments.
fn frames_in(from: Moment, to: Moment) -> u64 {
    let milliseconds = u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX);
    milliseconds.saturating_mul(u64::from(FRAMES_PER_SECOND)) / 1_000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kit_protocol::serial::nonin_df2::{Found, FrameStatus, Framer};

    use super::*;

    const FRAME_TIME: Duration = Duration::from_nanos(13_333_334);

    /// Frame n has the waveform n modulo 256; the sync bit every 25.
    fn frame(number: u64) -> Frame {
        let sync = if number.is_multiple_of(25) { FrameStatus::SYNC } else { 0 };
        Frame { status: FrameStatus(0x80 | sync), pleth: number.to_le_bytes()[0], float: 0 }
    }

    fn take(placer: &mut Placer, at: Moment, found: Found, out: &mut impl FnMut(Placed)) {
        match found {
            Found::Frame(frame) => placer.frame(frame, frame.pleth.into(), at, out),
            Found::Skipped(octets) => placer.skipped(octets),
        }
    }

    /// What happens to the octets of a frame: `None` where it is lost altogether.
    type Fault = Box<dyn Fn(u64, Vec<u8>) -> Option<Vec<u8>>>;

    fn placed(frames: std::ops::Range<u64>, stall: Duration, fault: &Fault) -> Vec<Placed> {
        let (mut framer, mut placer, mut placed) = (Framer::default(), Placer::default(), Vec::new());
        for number in frames {
            let at =
                Moment::ZERO + FRAME_TIME * u32::try_from(number).unwrap() + if number >= 110 { stall } else { Duration::ZERO };
            if let Some(octets) = fault(number, frame(number).encode().to_vec()) {
                framer.push(&octets, |found| take(&mut placer, at, found, &mut |p| placed.push(p)));
            }
        }
        framer.finish(|found| take(&mut placer, Moment::ZERO, found, &mut |p| placed.push(p)));
        placer.finish(&mut |p| placed.push(p));
        placed
    }

    /// The numbers (modulo 256) that frames got, by their place; a break shows as `Err`.
    fn by_place(placed: &[Placed], first: u64) -> Vec<Result<(u64, u8), ()>> {
        let (mut place, mut all) = (first, Vec::new());
        for p in placed {
            match p {
                Placed::Frames(frames) => {
                    for held in frames {
                        all.push(Ok((place, held.frame.pleth)));
                        place += 1;
                    }
                }
                Placed::Lost(frames) => place += frames,
                Placed::Broken => all.push(Err(())),
                Placed::Packet(_) => {}
            }
        }
        all
    }

    fn assert_in_place(placed: &[Placed], first: u64, at_least: usize, what: &str) {
        let all = by_place(placed, first);
        assert!(all.len() >= at_least, "{what}: {} placed", all.len());
        for entry in all {
            let (place, pleth) = entry.unwrap_or_else(|()| panic!("{what}: broken"));
            assert_eq!(pleth, place.to_le_bytes()[0], "{what}: place {place}");
        }
    }

    fn clean() -> Fault {
        Box::new(|_, octets| Some(octets))
    }

    #[test]
    fn a_clean_stream_is_placed_packet_by_packet() {
        let placed = placed(0..200, Duration::ZERO, &clean());
        assert_in_place(&placed, 0, 200, "clean");
        assert_eq!(placed.iter().filter(|p| matches!(p, Placed::Packet(_))).count(), 8);
    }

    #[test]
    fn a_stream_joined_in_the_middle_of_a_packet_begins_there() {
        for from in 1..25 {
            let placed = placed(from..200, Duration::ZERO, &clean());
            assert_in_place(&placed, from, usize::try_from(200 - from).unwrap(), &format!("from {from}"));
        }
    }

    #[test]
    fn corrupted_frames_and_lost_octets_are_holes_of_known_size() {
        for victim in 100..125 {
            let corrupt: Fault = Box::new(move |n, mut octets| {
                octets[2] ^= if n == victim { 0x40 } else { 0 };
                Some(octets)
            });
            assert_in_place(&placed(0..200, Duration::ZERO, &corrupt), 0, 199, &format!("corrupt {victim}"));
            for lost in 0..5 {
                let drop: Fault = Box::new(move |n, mut octets| {
                    if n == victim {
                        octets.remove(lost);
                    }
                    Some(octets)
                });
                assert_in_place(&placed(0..200, Duration::ZERO, &drop), 0, 199, &format!("octet {lost} of {victim}"));
            }
        }
    }

    #[test]
    fn many_corrupted_frames_of_one_packet_are_holes_of_known_size() {
        let fault: Fault = Box::new(|n, mut octets| {
            octets[4] ^= if (101..120).contains(&n) && n % 3 == 0 { 0x55 } else { 0 };
            Some(octets)
        });
        assert_in_place(&placed(0..200, Duration::ZERO, &fault), 0, 194, "every third");
    }

    #[test]
    fn a_burst_of_lost_octets_is_a_hole_whose_size_the_sync_bit_and_time_tell() {
        for (from, to) in [(101, 113), (103, 121), (90, 140), (110, 130), (60, 171)] {
            // The burst begins and ends in the middle of a frame.
            let fault: Fault = Box::new(move |n, octets| match n {
                n if n == from => Some(octets[..3].to_vec()),
                n if n == to => Some(octets[2..].to_vec()),
                n if (from..to).contains(&n) => None,
                _ => Some(octets),
            });
            let lost = usize::try_from(to - from + 1).unwrap();
            assert_in_place(&placed(0..250, Duration::ZERO, &fault), 0, 250 - lost - 1, &format!("{from} to {to}"));
        }
    }

    #[test]
    fn frames_that_vanish_without_a_trace_cost_their_packet() {
        let fault: Fault = Box::new(|n, octets| (!(105..109).contains(&n)).then_some(octets));
        let placed = placed(0..200, Duration::ZERO, &fault);
        assert_in_place(&placed, 0, 175, "vanished");
        assert!(placed.contains(&Placed::Lost(25)));
    }

    #[test]
    fn a_hole_that_nobody_can_size_breaks_the_stream() {
        // A second passed at the hole that may be a late delivery or lost packets and a third.
        let fault: Fault = Box::new(|n, octets| match n {
            104 => Some(octets[..3].to_vec()),
            105..=109 => None,
            _ => Some(octets),
        });
        let placed = placed(0..200, Duration::from_millis(500), &fault);
        let all = by_place(&placed, 0);
        assert_eq!(all.iter().filter(|entry| entry.is_err()).count(), 1);
        assert!(all.len() >= 190, "what precedes and follows stands");
    }

    #[test]
    fn noise_is_bounded_and_breaks_the_stream() {
        let mut placer = Placer::default();
        let mut broken = 0;
        for n in 0..1_000_u64 {
            let no_sync = Frame { status: FrameStatus(0x80), ..frame(n) };
            placer.frame(no_sync, no_sync.pleth.into(), Moment::ZERO, &mut |p| broken += usize::from(p == Placed::Broken));
            assert!(placer.waiting() <= WAITING_MAX);
        }
        assert!(broken > 0);
    }
}
