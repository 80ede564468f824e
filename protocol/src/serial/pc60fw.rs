//! What a Viatom (Lepu) PC-60FW says in its frames ([`aa55`]), over the Nordic UART Service.
//!
//! Source: viatom_pc60fw d1abe96 (captured octets); that the pulse rate has two octets: LepuBle 46c1de4 (facts only).
//!
//! [`aa55`]: super::aa55

use alloc::vec::Vec;

use super::aa55::Frame;
use crate::reader::{DecodeError, Reader};

/// Samples of the waveform in a frame.
pub const SAMPLES: usize = 5;

/// What a frame says. Shape, units, errors and source: see [`Message::of`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Numbers.
    Numbers {
        /// SpO2, %; 0 for none.
        spo2: u8,
        /// Pulse rate, /min; 0 for none.
        pulse_rate: u16,
        /// Perfusion index, tenths of a percent; 0 for none.
        perfusion_index: u8,
        /// Not known what; 00 C0 in the capture.
        rest: [u8; 2],
    },
    /// The waveform.
    Wave {
        /// 0–127, no unit.
        pleth: [u8; SAMPLES],
        /// Which of them bear a beat's mark.
        beats: [bool; SAMPLES],
    },
    /// A frame that nobody has explained: let pass.
    Unknown,
}

const TOKEN: u8 = 0x0f;
const NUMBERS: u8 = 0x01;
const WAVE: u8 = 0x02;
const BEAT: u8 = 0x80;

impl Message {
    /// Takes a frame's meaning.
    ///
    /// Shape: token 0F, kind 01: SpO2 · pulse rate (2) · perfusion index · unknown (2); kind 02: five samples, bit 7 marking
    /// a beat; little-endian. Any other token or kind is [`Message::Unknown`].
    /// Units: SpO2 in `%`, pulse rate in `/min`, perfusion index in 0.1 `%`.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`].
    /// Source: as the module.
    pub fn of(frame: &Frame) -> Result<Self, DecodeError> {
        let mut r = Reader::new(&frame.content);
        let message = match (frame.token, frame.kind) {
            (TOKEN, NUMBERS) => Self::Numbers {
                spo2: r.u8("spo2")?,
                pulse_rate: r.u16("pulse rate")?,
                perfusion_index: r.u8("perfusion index")?,
                rest: [r.u8("unknown")?, r.u8("unknown")?],
            },
            (TOKEN, WAVE) => {
                let mut samples = [0; SAMPLES];
                for sample in &mut samples {
                    *sample = r.u8("waveform")?;
                }
                Self::Wave { pleth: samples.map(|sample| sample & !BEAT), beats: samples.map(|sample| sample & BEAT != 0) }
            }
            _ => return Ok(Self::Unknown),
        };
        r.finish()?;
        Ok(message)
    }

    /// The frame of it; `None` for [`Message::Unknown`].
    #[must_use]
    pub fn frame(&self) -> Option<Frame> {
        let (kind, content) = match *self {
            Self::Numbers { spo2, pulse_rate, perfusion_index, rest: [a, b] } => {
                let [low, high] = pulse_rate.to_le_bytes();
                (NUMBERS, Vec::from([spo2, low, high, perfusion_index, a, b]))
            }
            Self::Wave { pleth, beats } => {
                let sample = |(pleth, beat): (u8, bool)| pleth & !BEAT | if beat { BEAT } else { 0 };
                (WAVE, pleth.into_iter().zip(beats).map(sample).collect())
            }
            Self::Unknown => return None,
        };
        Some(Frame { token: TOKEN, kind, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::aa55::{Found, Framer};
    use crate::vectors::vectors;

    #[test]
    fn captured_frames_say_what_the_display_said_and_what_is_unknown_is_let_pass() {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for v in vectors(include_str!("../../vectors/pc60fw.txt")) {
            let frame = Frame::decode(&v.octets).unwrap();
            let message = Message::of(&frame).unwrap();
            let text = match &message {
                Message::Numbers { spo2, pulse_rate, perfusion_index, .. } => {
                    format!("spo2={spo2} pr={pulse_rate} pi={perfusion_index}")
                }
                Message::Wave { pleth, beats } => format!("wave {pleth:?} beats {}", beats.iter().filter(|beat| **beat).count()),
                Message::Unknown => "unknown".into(),
            };
            assert_eq!(text, v.expected, "{}", v.id);
            if let Some(again) = message.frame() {
                assert_eq!(again.encode(), v.octets, "{}", v.id);
                for length in 0..frame.content.len() {
                    let cut = Frame { content: frame.content[..length].to_vec(), ..frame.clone() };
                    assert!(Message::of(&cut).is_err(), "{} {length}", v.id);
                }
                let longer = Frame { content: [&frame.content[..], &[0]].concat(), ..frame.clone() };
                assert_eq!(Message::of(&longer), Err(DecodeError::Trailing { octets: 1 }));
            }
            stream.extend(v.octets);
            expected.push(Found::Frame(frame));
        }
        let mut found = Vec::new();
        Framer::default().push(&stream, |f| found.push(f));
        assert_eq!(found, expected, "sync is kept over frames that nobody explains");
    }
}
