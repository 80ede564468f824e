//! A recording as a FHIR R4 Observation with one component of SampledData a lead. Written only.
//!
//! The device's integers are the data, unscaled; `factor` is the scale with all its digits, `period` in ms. A sample that is
//! missing is `E`. The device's clock has no zone, so the time of day stands in a note and only the date in `effectiveDateTime`.
//! Nothing names a person or a device: whoever files the Observation adds subject and device.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::derived_leads::marked_name;
use super::{EncodeError, FileRecording, QUOTIENT_DIGITS, is_ecg, quotient};
use crate::decimal::Decimal;
use crate::gatt::date_time::DateTime;
use crate::nomenclature::Mdc;
use crate::reading::{Channel, Rate};

const MDC_SYSTEM: &str = "urn:iso:std:iso:11073:10101";

/// Encodes a recording as the JSON of one Observation.
///
/// Shape: module documentation. Units: UCUM. Errors: [`EncodeError::Shape`]; [`EncodeError::Rate`].
/// Source: HL7 FHIR R4, Observation and SampledData; HL7 Personal Health Device IG 2.0.0 (real-time sample arrays).
pub fn encode(recording: &FileRecording) -> Result<String, EncodeError> {
    recording.frames()?;
    let Rate { samples, seconds } = recording.rate;
    let period = quotient(Decimal::whole(i64::from(seconds) * 1_000), Decimal::whole(i64::from(samples)), QUOTIENT_DIGITS);
    let period = period.ok_or(EncodeError::Rate { rate: recording.rate })?;
    let ecg = recording.channels.iter().any(|channel| is_ecg(channel.code));
    let codings = if ecg {
        format!("{},{{\"system\":\"http://loinc.org\",\"code\":\"11524-6\"}}", coding(Mdc::ECG))
    } else {
        recording.channels.first().map_or(String::new(), |channel| coding(channel.code))
    };
    let components: Vec<String> =
        recording.channels.iter().enumerate().map(|(at, channel)| component(recording, at, channel, period)).collect();
    Ok(format!(
        "{{\"resourceType\":\"Observation\",\"status\":\"final\",\"code\":{{\"coding\":[{codings}]}},{}\"component\":[{}]}}\n",
        time(recording.device_time),
        components.join(",")
    ))
}

fn coding(code: Mdc) -> String {
    let display = code.row().map(|row| row.reference).filter(|reference| !reference.is_empty());
    let display = display.map_or(String::new(), |display| format!(",\"display\":\"{display}\""));
    format!("{{\"system\":\"{MDC_SYSTEM}\",\"code\":\"{}\"{display}}}", code.0)
}

fn time(time: Option<DateTime>) -> String {
    let date = |t: DateTime| format!("{:04}-{:02}-{:02}", t.year, t.month, t.day);
    time.filter(DateTime::date_known).map_or(String::new(), |time| {
        format!("\"effectiveDateTime\":\"{}\",\"note\":[{{\"text\":\"Device time {time}, zone not stated\"}}],", date(time))
    })
}

fn component(recording: &FileRecording, at: usize, channel: &Channel, period: Decimal) -> String {
    let data: Vec<String> =
        recording.channel(at).map(|sample| sample.map_or_else(|| String::from("E"), |sample| sample.to_string())).collect();
    let (unit, factor) = (channel.unit, channel.scale);
    format!(
        "{{\"code\":{{\"coding\":[{}],\"text\":\"{}\"}},\"valueSampledData\":{{\
         \"origin\":{{\"value\":0,\"unit\":\"{unit}\",\"system\":\"http://unitsofmeasure.org\",\"code\":\"{unit}\"}},\
         \"period\":{period},\"factor\":{factor},\"dimensions\":1,\"data\":\"{}\"}}}}",
        coding(channel.code),
        marked_name(channel),
        data.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::derived_leads::with_derived;
    use super::*;
    use alloc::vec;

    #[test]
    fn an_ecg_is_an_observation_with_its_leads_scale_and_period() {
        let channel = |code| Channel { code, scale: "0.00250".parse().unwrap(), unit: "mV", filter: String::new() };
        let recording = FileRecording {
            device_time: Some(DateTime { year: 2026, month: 11, day: 21, hour: 8, minute: 3, second: 59 }),
            rate: Rate { samples: 500, seconds: 1 },
            channels: vec![channel(Mdc::ECG_I), channel(Mdc::ECG_II)],
            samples: vec![Some(1), Some(-3), None, Some(7)],
        };
        let text = encode(&with_derived(&recording)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["code"]["coding"][0]["code"], "131328");
        assert_eq!(json["code"]["coding"][1]["code"], "11524-6");
        assert_eq!(json["effectiveDateTime"], "2026-11-21");
        let lead = &json["component"][0]["valueSampledData"];
        assert_eq!((lead["data"].as_str(), lead["period"].as_u64()), (Some("1 E"), Some(2)));
        assert_eq!(lead["origin"]["code"], "mV");
        assert!(text.contains("\"factor\":0.00250,"), "digits are kept");
        assert_eq!(json["component"][5]["code"]["text"], "aVF (derived)");
        assert_eq!(json["component"][5]["valueSampledData"]["data"], "-7 E");
    }

    #[test]
    fn a_curve_that_is_no_ecg_has_its_own_code() {
        let flow = Mdc::by_name("flow").unwrap();
        let channels = vec![Channel { code: flow, scale: "0.01".parse().unwrap(), unit: "L/s", filter: String::new() }];
        let recording =
            FileRecording { device_time: None, rate: Rate { samples: 1000, seconds: 3 }, channels, samples: vec![Some(1)] };
        let json: serde_json::Value = serde_json::from_str(&encode(&recording).unwrap()).unwrap();
        assert_eq!(json["code"]["coding"][0]["code"], "151764");
        assert_eq!(json["component"][0]["valueSampledData"]["period"], 3);
    }
}
