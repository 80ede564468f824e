//! The five octets of BCI's oximeters, which Contec (CMS50D+) and Berry send too: waveform, pulse rate and SpO2 in each.
//!
//! The first octet has bit 7, the other four have not; there is no checksum, so a bit that turns inside an octet's other
//! seven cannot be seen. What the status bits mean differs between makers: see [`Frame::contec`] and [`Frame::berry`].
//! Source: atbrask/CMS50Dplus e916c59 (BSD-2) for Contec, the maker's document in SpO2-BLE-for-Android 2962435 for Berry.

use crate::reader::{DecodeError, Reader};
use crate::reading::Status;

/// One frame. Shape, units, errors and source: see [`Frame::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// First octet: signal strength (bits 0–3) and status, with bit 7.
    pub status: u8,
    /// The pulse waveform, 0–127, no unit.
    pub pleth: u8,
    /// Third octet: bar graph (bits 0–3) and status, without the pulse rate's bit 7.
    pub bar: u8,
    /// Pulse rate, /min; 255 for none.
    pub pulse_rate: u8,
    /// SpO2, %; 127 for none.
    pub spo2: u8,
}

/// What the status bits say; those that a maker does not have are false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Said {
    /// A beat was heard with this frame.
    pub beat: bool,
    /// The probe is not plugged in.
    pub probe_unplugged: bool,
    /// The probe does not work.
    pub probe_error: bool,
    /// There is no finger in it.
    pub finger_out: bool,
    /// There is no signal.
    pub no_signal: bool,
    /// A pulse is searched for.
    pub searching: bool,
    /// SpO2 is dropping.
    pub dropping_spo2: bool,
}

impl Said {
    /// The terms of it; a beat is none.
    pub fn terms(self) -> impl Iterator<Item = Status> {
        [
            ("probe-unplugged", self.probe_unplugged),
            ("probe-error", self.probe_error),
            ("finger-out", self.finger_out),
            ("no-signal", self.no_signal),
            ("searching", self.searching),
            ("dropping-spo2", self.dropping_spo2),
        ]
        .into_iter()
        .filter(|(_, said)| *said)
        .map(|(term, _)| term)
    }

    /// Whether the waveform is no pulse.
    #[must_use]
    pub const fn unusable(self) -> bool {
        self.probe_unplugged || self.probe_error || self.finger_out || self.no_signal || self.searching
    }
}

impl Frame {
    /// Octets of a frame.
    pub const OCTETS: usize = 5;

    /// Decodes one frame.
    ///
    /// Shape: status (bit 7 set) · waveform · bar graph, bit 6 being the pulse rate's bit 7 · pulse rate · SpO2, none of the
    /// four with bit 7; 5 octets.
    /// Units: pulse rate in `/min`, SpO2 in `%`.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] where a bit 7 is out of place.
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        let status = r.u8("status")?;
        let [pleth, bar, pulse_rate, spo2] = [r.u8("waveform")?, r.u8("bar graph")?, r.u8("pulse rate")?, r.u8("spo2")?];
        r.finish()?;
        if status & SYNC == 0 {
            return Err(DecodeError::Value { field: "status" });
        }
        if (pleth | bar | pulse_rate | spo2) & SYNC != 0 {
            return Err(DecodeError::Value { field: "bit 7" });
        }
        Ok(Self { status, pleth, bar: bar & !PULSE_RATE_BIT_7, pulse_rate: pulse_rate | (bar & PULSE_RATE_BIT_7) << 1, spo2 })
    }

    /// The octets of it.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::OCTETS] {
        let high = (self.pulse_rate & SYNC) >> 1;
        [
            self.status | SYNC,
            self.pleth & !SYNC,
            self.bar & !SYNC & !PULSE_RATE_BIT_7 | high,
            self.pulse_rate & !SYNC,
            self.spo2 & !SYNC,
        ]
    }

    /// SpO2, %, where there is one.
    #[must_use]
    pub const fn spo2(&self) -> Option<u8> {
        if self.spo2 == NO_SPO2 { None } else { Some(self.spo2) }
    }

    /// Pulse rate, /min, where there is one.
    #[must_use]
    pub const fn pulse_rate(&self) -> Option<u8> {
        if self.pulse_rate == NO_PULSE_RATE { None } else { Some(self.pulse_rate) }
    }

    /// What a Contec says: bits 4 finger out, 5 dropping SpO2, 6 beat; of the bar graph 4 probe error, 5 searching.
    #[must_use]
    pub const fn contec(&self) -> Said {
        Said {
            beat: self.status & 0x40 != 0,
            probe_unplugged: false,
            probe_error: self.bar & 0x10 != 0,
            finger_out: self.status & 0x10 != 0,
            no_signal: false,
            searching: self.bar & 0x20 != 0,
            dropping_spo2: self.status & 0x20 != 0,
        }
    }

    /// What a Berry says: bits 4 no signal, 5 probe unplugged, 6 beat; of the bar graph 4 no finger, 5 searching.
    #[must_use]
    pub const fn berry(&self) -> Said {
        Said {
            beat: self.status & 0x40 != 0,
            probe_unplugged: self.status & 0x20 != 0,
            probe_error: false,
            finger_out: self.bar & 0x10 != 0,
            no_signal: self.status & 0x10 != 0,
            searching: self.bar & 0x20 != 0,
            dropping_spo2: false,
        }
    }

    /// Whether a frame stands at the front, by its shape and that of what is behind it; `None`: more octets would tell.
    #[must_use]
    pub fn at_front(rest: &[u8], frames: usize, ended: bool) -> Option<bool> {
        let shape = |octets: &[u8]| octets.iter().enumerate().all(|(at, octet)| (octet & SYNC != 0) == (at % Self::OCTETS == 0));
        // The octet behind the last frame begins the next one, so that one too many shows.
        let wanted = frames * Self::OCTETS + 1;
        let looked_at = rest.get(..wanted.min(rest.len())).unwrap_or_default();
        match () {
            () if !shape(looked_at) => Some(false),
            () if rest.len() >= wanted => Some(true),
            () if ended => Some(rest.len() >= Self::OCTETS && rest.len().is_multiple_of(Self::OCTETS)),
            () => None,
        }
    }
}

const SYNC: u8 = 0x80;
const PULSE_RATE_BIT_7: u8 = 0x40;
const NO_PULSE_RATE: u8 = 0xff;
const NO_SPO2: u8 = 0x7f;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::promises::every_other_length_is_refused;
    use crate::vectors::vectors;

    fn text(frame: &Frame) -> String {
        let number = |number: Option<u8>| number.map_or_else(|| "-".into(), |number| number.to_string());
        let terms = |said: Said| said.terms().chain(said.beat.then_some("beat")).collect::<Vec<_>>().join(",");
        format!(
            "signal={} pleth={} bar={} pr={} spo2={} contec={} berry={}",
            frame.status & 0x0f,
            frame.pleth,
            frame.bar & 0x0f,
            number(frame.pulse_rate()),
            number(frame.spo2()),
            terms(frame.contec()),
            terms(frame.berry()),
        )
    }

    #[test]
    fn frames_decode_and_encode() {
        for v in vectors(include_str!("../../vectors/bci_frames.txt")) {
            match Frame::decode(&v.octets) {
                Ok(frame) => {
                    assert_eq!(text(&frame), v.expected, "{}", v.id);
                    assert_eq!(frame.encode()[..], v.octets, "{}", v.id);
                }
                Err(_) => assert_eq!(v.expected, "invalid", "{}", v.id),
            }
        }
    }

    #[test]
    fn a_frame_that_is_cut_or_has_an_octet_too_many_is_refused() {
        let frame = [0x85, 0x40, 0x43, 0x02, 0x62];
        every_other_length_is_refused(&frame, Frame::decode);
        for octet in 0..Frame::OCTETS {
            let mut turned = frame;
            turned[octet] ^= 0x80;
            assert!(Frame::decode(&turned).is_err(), "bit 7 of octet {octet}");
        }
    }

    proptest! {
        #[test]
        fn frames_survive_the_way_there_and_back(
            status in 0x80..=0xff_u8, pleth in 0..0x80_u8, bar in 0..0x40_u8, pulse_rate: u8, spo2 in 0..0x80_u8,
        ) {
            let frame = Frame { status, pleth, bar, pulse_rate, spo2 };
            prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = Frame::decode(&octets);
            let _ = Frame::at_front(&octets, 2, octets.len() % 2 == 0);
        }
    }
}
