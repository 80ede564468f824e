//! A recording as one FLAC file, with what FLAC itself cannot say in its comment block.
//!
//! Comments: `LEADS` (names, separated by commas), `SCALE` and `UNIT` (what one digit is worth, one for each lead), `RATE`
//! (`75/2` where the rate is a fraction), `START` (the device's time), `MISSING` (the digit that stands for no sample, where
//! there is one), `FILTER` (one for each lead, separated by `|`). A FLAC without them is read too, as digits of an unknown ECG.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{EncodeError, FileRecording, SAMPLES_MAX, lead_code, lead_name};
use crate::decimal::Decimal;
use crate::flac::{CHANNELS_MAX, File};
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reader::DecodeError;
use crate::reading::{Channel, Rate};
use crate::units;

/// Encodes a recording as one FLAC file of 16 or 24 bits.
///
/// Shape: module documentation. Units: unscaled. Errors: [`EncodeError::Shape`]; [`EncodeError::Channels`] over 8;
/// [`EncodeError::Width`] over 24 bits. Source: RFC 9639.
pub fn encode(recording: &FileRecording) -> Result<Vec<u8>, EncodeError> {
    recording.frames()?;
    let channels = recording.channels.len();
    if channels > CHANNELS_MAX {
        return Err(EncodeError::Channels { channels, most: CHANNELS_MAX });
    }
    let bits = bits(recording)?;
    let missing = missing(bits);
    let of =
        |text: &dyn Fn(&Channel) -> String, between: &str| recording.channels.iter().map(text).collect::<Vec<_>>().join(between);
    let Rate { samples, seconds } = recording.rate;
    let mut comments = [
        ("LEADS", of(&|channel| lead_name(channel.code), ",")),
        ("SCALE", of(&|channel| channel.scale.to_string(), ",")),
        ("UNIT", of(&|channel| channel.unit.to_string(), ",")),
        ("RATE", if seconds == 1 { format!("{samples}") } else { format!("{samples}/{seconds}") }),
        ("FILTER", of(&|channel| channel.filter.replace('|', "/"), "|")),
    ]
    .map(|(name, text)| (String::from(name), text))
    .to_vec();
    comments.extend(recording.device_time.map(|time| (String::from("START"), time.to_string())));
    if recording.samples.contains(&None) {
        comments.push((String::from("MISSING"), missing.to_string()));
    }
    let rate_hz = samples.div_ceil(seconds);
    let samples = recording.samples.iter().map(|sample| sample.unwrap_or(missing)).collect();
    File { channels, bits, rate_hz, samples, comments }.encode().map_err(|_| EncodeError::Shape)
}

/// Decodes a FLAC file of 1–8 leads.
///
/// Shape: module documentation. Units: from `SCALE` and `UNIT`, else 1 digit. Errors: [`DecodeError::Checksum`] where the stream
/// is damaged or cut; [`DecodeError::Value`] where a comment of ours is none.
/// Source: RFC 9639.
pub fn decode(octets: &[u8]) -> Result<FileRecording, DecodeError> {
    let file = File::decode(octets, SAMPLES_MAX).map_err(|_| DecodeError::Checksum)?;
    let list = |name: &'static str, between: char| match file.comment(name) {
        None => Ok(None),
        Some(text) => {
            let cells: Vec<&str> = text.split(between).collect();
            if cells.len() == file.channels { Ok(Some(cells)) } else { Err(DecodeError::Value { field: name }) }
        }
    };
    let (leads, scales, units, filters) = (list("LEADS", ',')?, list("SCALE", ',')?, list("UNIT", ',')?, list("FILTER", '|')?);
    let cell =
        |cells: &Option<Vec<&str>>, at: usize| cells.as_ref().and_then(|cells| cells.get(at)).map(|text| String::from(*text));
    let channel = |at: usize| {
        let scale = cell(&scales, at).map_or(Ok(Decimal::whole(1)), |text| text.parse());
        let unit = cell(&units, at).map_or(Some("1"), |text| units::by_ucum(&text).map(|unit| unit.ucum));
        Ok(Channel {
            code: cell(&leads, at)
                .map_or(Some(Mdc::ECG), |text| lead_code(&text))
                .ok_or(DecodeError::Value { field: "LEADS" })?,
            scale: scale.map_err(|_| DecodeError::Value { field: "SCALE" })?,
            unit: unit.ok_or(DecodeError::Value { field: "UNIT" })?,
            filter: cell(&filters, at).unwrap_or_default(),
        })
    };
    let rate = match file.comment("RATE") {
        None => Rate { samples: file.rate_hz, seconds: 1 }.reduced(),
        Some(text) => parse_rate(text),
    };
    let missing: Option<i32> = match file.comment("MISSING") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| DecodeError::Value { field: "MISSING" })?),
    };
    Ok(FileRecording {
        device_time: file.comment("START").and_then(parse_time),
        rate: rate.ok_or(DecodeError::Value { field: "RATE" })?,
        channels: (0..file.channels).map(channel).collect::<Result<_, _>>()?,
        samples: file.samples.iter().map(|sample| Some(*sample).filter(|sample| Some(*sample) != missing)).collect(),
    })
}

/// 16 where every sample is inside, with one digit to spare for "missing"; else 24.
pub(crate) fn bits(recording: &FileRecording) -> Result<u32, EncodeError> {
    let widest = |at: &usize| recording.channel(*at).flatten().map(i32::unsigned_abs).max().unwrap_or(0);
    let leads = 0..recording.channels.len();
    let Some(at) = leads.max_by_key(widest) else { return Err(EncodeError::Shape) };
    let instead = "use CSV";
    match widest(&at) {
        0..=32_767 => Ok(16),
        32_768..=8_388_607 => Ok(24),
        _ => Err(EncodeError::Width {
            lead: recording.channels.get(at).map_or(String::new(), |c| lead_name(c.code)),
            bits: 24,
            instead,
        }),
    }
}

/// The digit that stands for no sample: the lowest, as WFDB has it.
pub(crate) const fn missing(bits: u32) -> i32 {
    if bits == 16 { -32_768 } else { -8_388_608 }
}

/// `500` or `75/2`.
pub(crate) fn parse_rate(text: &str) -> Option<Rate> {
    let (samples, seconds) = text.split_once('/').unwrap_or((text, "1"));
    Rate { samples: samples.trim().parse().ok()?, seconds: seconds.trim().parse().ok()? }.reduced()
}

/// `2024-06-15T17:17:27`.
fn parse_time(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once('T')?;
    let numbers: Vec<u16> = date.split('-').chain(time.split(':')).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year, rest @ ..] = <[u16; 6]>::try_from(numbers).ok()?;
    let [low, high] = year.to_le_bytes();
    let mut octets = [low, high, 0, 0, 0, 0, 0];
    for (octet, number) in octets.iter_mut().skip(2).zip(rest) {
        *octet = u8::try_from(number).ok()?;
    }
    DateTime::decode(&octets).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recording(samples: Vec<Option<i32>>, rate: Rate) -> FileRecording {
        let channel = |code, scale: &str| Channel { code, scale: scale.parse().unwrap(), unit: "uV", filter: "LP:150Hz".into() };
        let device_time = Some(DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 3, second: 59 });
        FileRecording { device_time, rate, channels: vec![channel(Mdc::ECG_I, "1.250"), channel(Mdc::ECG_V6, "5")], samples }
    }

    #[test]
    fn a_recording_comes_back_with_all_that_is_said_of_it() {
        for widest in [32_767, 8_388_607] {
            let samples = (0..999).flat_map(|n| [Some(n), (n % 7 != 0).then_some(-widest)]).collect();
            let recording = recording(samples, Rate { samples: 75, seconds: 2 });
            assert_eq!(decode(&encode(&recording).unwrap()), Ok(recording));
        }
    }

    #[test]
    fn a_flac_of_others_is_digits_of_an_unknown_ecg() {
        let file = File { channels: 2, bits: 16, rate_hz: 250, samples: vec![1, 2, 3, -32_768], comments: Vec::new() };
        let read = decode(&file.encode().unwrap()).unwrap();
        assert_eq!(read.rate, Rate { samples: 250, seconds: 1 });
        assert_eq!(read.samples, [1, 2, 3, -32_768].map(Some), "nothing says that the lowest is missing");
        assert!(read.channels.iter().all(|channel| channel.code == Mdc::ECG && channel.unit == "1"));
    }

    #[test]
    fn comments_that_do_not_fit_are_refused_and_so_is_a_damaged_stream() {
        for (name, text) in
            [("LEADS", "I"), ("LEADS", "I,Fpz"), ("SCALE", "1,x"), ("UNIT", "uV,nV"), ("RATE", "0"), ("MISSING", "")]
        {
            let comments = vec![(name.into(), text.into())];
            let file = File { channels: 2, bits: 16, rate_hz: 250, samples: vec![1, 2], comments };
            assert_eq!(decode(&file.encode().unwrap()), Err(DecodeError::Value { field: name }), "{name}={text}");
        }
        let octets = encode(&recording(vec![Some(5); 2000], Rate { samples: 500, seconds: 1 })).unwrap();
        for length in 0..octets.len() {
            assert_eq!(decode(&octets[..length]), Err(DecodeError::Checksum), "{length}");
        }
    }

    #[test]
    fn nine_leads_and_25_bits_are_refused_with_the_next_step() {
        let mut wide = recording(vec![Some(5), Some(8_388_608)], Rate { samples: 500, seconds: 1 });
        assert!(encode(&wide).unwrap_err().to_string().contains("lead V6 has samples that need more than 24 bits; use CSV"));
        wide.channels = vec![wide.channels[0].clone(); 9];
        wide.samples = vec![Some(1); 9];
        assert_eq!(encode(&wide), Err(EncodeError::Channels { channels: 9, most: 8 }));
    }
}
