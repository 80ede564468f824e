//! ANSAR-B: what bedside monitors of the Ivy 450C kind send once a second, waves first, then text.
//!
//! Port: 9600 baud, 8 data bits, no parity. Source: mdpnp 1ae7f72 (BSD-2), AnsarB.java and its 27 captured messages.
//! The framing has no checksum: a lost octet shifts the text and is found by it, a turned bit is not found at all.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::decimal::Decimal;
use crate::reader::{DecodeError, Reader};
use crate::serial::framer::{self, Framing, Step, to_next};

/// ECG samples in a message, a second's.
pub const ECG_SAMPLES: usize = 200;
/// Samples of each other wave in a message, a second's.
pub const WAVE_SAMPLES: usize = 50;

/// A second of the waves, as sent: octets whose zero is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waves {
    /// Zero at 100, 0.02 mV a digit, 200 a second.
    pub ecg: [u8; ECG_SAMPLES],
    /// Zero at 0, no unit, 50 a second, and so are the next.
    pub respiration: [u8; WAVE_SAMPLES],
    /// Zero at 86, no unit.
    pub pleth: [u8; WAVE_SAMPLES],
    /// Zero at 80, no unit.
    pub pressure_1: [u8; WAVE_SAMPLES],
    /// Zero at 251, no unit.
    pub pressure_2: [u8; WAVE_SAMPLES],
}

impl Waves {
    /// Where the zero of the ECG stands.
    pub const ECG_ZERO: u8 = 100;
    /// Where the zero of the pulse wave stands.
    pub const PLETH_ZERO: u8 = 86;
    /// Where the zero of the first pressure stands.
    pub const PRESSURE_1_ZERO: u8 = 80;
    /// Where the zero of the second pressure stands.
    pub const PRESSURE_2_ZERO: u8 = 251;
}

/// A line of the text: `NAME=status;field;field;…`. Shape, units, errors and source: see [`Message::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// HR, RR, ETCO2, SPO2, NIBP, P1, P2, T1, T2, or one that is newer than we are.
    pub name: String,
    /// The channel's status, a number that no source explains.
    pub status: u8,
    /// What stands between the semicolons behind it.
    pub fields: Vec<String>,
}

impl Line {
    /// The number in a field; `None` where the field is empty, is not there or is no number.
    #[must_use]
    pub fn number(&self, place: usize) -> Option<Decimal> {
        self.text(place).parse().ok()
    }

    /// The text of a field without blanks around it; empty where it is not there.
    #[must_use]
    pub fn text(&self, place: usize) -> &str {
        self.fields.get(place).map_or("", |field| field.trim())
    }

    fn decode(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('=')?;
        let (status, fields) = rest.split_once(';')?;
        let named = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit());
        let digits = !status.is_empty() && status.bytes().all(|octet| octet.is_ascii_digit());
        if !named || !digits {
            return None;
        }
        let fields = fields.split(';').map(ToString::to_string).collect();
        Some(Self { name: name.into(), status: status.parse().ok()?, fields })
    }
}

/// One message, a second's. Shape, units, errors and source: see [`Message::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The waves.
    pub waves: Waves,
    /// The text's lines.
    pub lines: Vec<Line>,
}

impl Message {
    /// The most octets of text.
    pub const TEXT_OCTETS_MAX: usize = 1024;
    /// The name of the first line.
    pub const FIRST_LINE: &'static str = "HR";

    /// Decodes one message.
    ///
    /// Shape: FF · `ANSAR-B ` · ECG 200 · respiration 50 · pleth 50 · pressure 1 50 · pressure 2 50 · text of at most 1,024
    /// printable octets in lines apart by CR, the first of them HR · FE.
    /// Units: rates `/min`, SpO2 `%`, pressures `mm[Hg]`, temperatures `Cel`; the text names none.
    /// Errors: [`DecodeError::Truncated`], [`DecodeError::Trailing`]; [`DecodeError::Value`] where the start is another or
    /// the text is none of such lines.
    /// Source: as the module.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(octets);
        if r.take(START.len(), "start")? != START {
            return Err(DecodeError::Value { field: "start" });
        }
        let waves = Waves {
            ecg: wave(&mut r, "ecg")?,
            respiration: wave(&mut r, "respiration")?,
            pleth: wave(&mut r, "pleth")?,
            pressure_1: wave(&mut r, "pressure 1")?,
            pressure_2: wave(&mut r, "pressure 2")?,
        };
        let length = r.rest().iter().position(|octet| *octet == END).ok_or(DecodeError::Truncated { field: "end" })?;
        let text = r.take(length, "text")?;
        r.u8("end")?;
        r.finish()?;
        let lines = lines(text).ok_or(DecodeError::Value { field: "text" })?;
        Ok(Self { waves, lines })
    }

    /// The octets of it, each line with its CR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut octets = START.to_vec();
        let w = &self.waves;
        octets.extend(w.ecg);
        [w.respiration, w.pleth, w.pressure_1, w.pressure_2].iter().for_each(|wave| octets.extend(wave));
        for line in &self.lines {
            octets.extend(line.name.bytes().chain(*b"=").chain(line.status.to_string().bytes()));
            line.fields.iter().for_each(|field| octets.extend(b";".iter().copied().chain(field.bytes())));
            octets.push(b'\r');
        }
        octets.push(END);
        octets
    }

    /// The line of that name.
    #[must_use]
    pub fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }
}

const START: &[u8] = b"\xffANSAR-B ";
const END: u8 = 0xfe;
/// Start and waves.
const FIXED_OCTETS: usize = START.len() + ECG_SAMPLES + 4 * WAVE_SAMPLES;

fn wave<const N: usize>(r: &mut Reader<'_>, field: &'static str) -> Result<[u8; N], DecodeError> {
    let mut samples = [0; N];
    samples.copy_from_slice(r.take(N, field)?);
    Ok(samples)
}

fn is_text(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | b'\r' | b'\n')
}

fn lines(text: &[u8]) -> Option<Vec<Line>> {
    if text.len() > Message::TEXT_OCTETS_MAX || !text.iter().all(|octet| is_text(*octet)) {
        return None;
    }
    let text = core::str::from_utf8(text).ok()?;
    let lines: Option<Vec<_>> = text.split(['\r', '\n']).filter(|line| !line.is_empty()).map(Line::decode).collect();
    lines.filter(|lines| lines.first().is_some_and(|line| line.name == Message::FIRST_LINE))
}

/// What a [`Framer`] finds.
pub type Found = framer::Found<Message>;

/// Finds messages in a stream, however it is split.
///
/// A message is taken from its start to its end if the text between is one; else the search goes on at the next octet, so
/// that a message that was cut short costs no good one behind it. It waits for at most 1,433 octets, 1.5 s of the line.
pub type Framer = framer::Framer<AnsarB>;

/// The framing of a [`Framer`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AnsarB;

impl Framing for AnsarB {
    type Found = Found;

    fn step(&mut self, rest: &[u8], _ended: bool) -> Step<Found> {
        let none = Step::Skip(to_next(rest, |octet| octet == 0xff));
        if !START.iter().zip(rest).all(|(expected, octet)| expected == octet) {
            return none;
        }
        let Some((_, text)) = rest.split_at_checked(FIXED_OCTETS) else { return Step::Wait };
        let Some(length) = text.iter().position(|octet| !is_text(*octet)) else {
            return if text.len() > Message::TEXT_OCTETS_MAX { none } else { Step::Wait };
        };
        let octets = FIXED_OCTETS + length + 1;
        match rest.get(..octets).map(Message::decode) {
            Some(Ok(message)) => Step::take(octets, framer::Found::Frame(message)),
            _ => none,
        }
    }

    fn skipped(octets: u64) -> Found {
        framer::Found::Skipped(octets)
    }
}

#[cfg(test)]
mod tests;
