//! An ECG as a drawing (SVG, in millimetres): 25 mm/s, 10 mm/mV, each lead in a row of its own, on the paper's grid.
//!
//! The twelve standard leads stand in their order: recorded, derived (and marked so), or said to be not recorded; other
//! channels of a voltage follow. Every trace is drawn around its own median, since an electrode's offset says nothing; a
//! missing sample interrupts it. This is for the eye, and `f64` is good enough for that: no number is read back from it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use super::derived_leads::{marked_name, with_derived};
use super::{EncodeError, FileRecording, lead_name};
use crate::nomenclature::Mdc;
use crate::reading::Channel;

/// Seconds that are drawn, at most.
pub const SECONDS_MAX: u32 = 30;
const MM_PER_SECOND: f64 = 25.0;
const MM_PER_MILLIVOLT: f64 = 10.0;
/// Left of the traces stand the names and the calibration pulse.
const LEFT: f64 = 45.0;
const RIGHT: f64 = 5.0;
/// Above them stands what the drawing is.
const TOP: f64 = 20.0;
/// A row is at least so high …
const ROW: f64 = 20.0;
/// … and at most; what reaches further is cut off at its edge.
const ROW_MAX: f64 = 70.0;
/// A row of a lead that was not recorded.
const ROW_WITHOUT: f64 = 10.0;
/// Between a trace and its row's edge.
const EDGE: f64 = 2.5;
const STANDARD: [&str; 12] = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];

/// What is said beside the traces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes<'a> {
    /// Of the whole recording: `quality: electrode-v3-off`.
    pub recording: &'a str,
    /// It is a fault, and shown as one.
    pub fault: bool,
    /// Of single leads: `electrode-off`.
    pub leads: &'a [(Mdc, &'a str)],
}

/// Draws a recording.
///
/// Shape: SVG 1.1, one path a lead. Units: leads in uV or mV; others are left out.
/// Errors: [`EncodeError::Shape`]; [`EncodeError::NoVoltage`] where no lead is in uV or mV.
/// Source: the paper speed and gain of the AHA/ACC/HRS recommendations 2007, part I (25 mm/s, 10 mm/mV).
pub fn encode(recording: &FileRecording, notes: Notes<'_>) -> Result<String, EncodeError> {
    let frames = recording.frames()?;
    let hertz = f64::from(recording.rate.samples) / f64::from(recording.rate.seconds);
    let all = f64::from(u32::try_from(frames).unwrap_or(u32::MAX)) / hertz;
    let seconds = all.min(f64::from(SECONDS_MAX));
    let drawn = with_derived(&cut(recording, frames));
    let rows = rows(&drawn);
    if !rows.iter().any(|row| row.trace.is_some()) {
        return Err(EncodeError::NoVoltage);
    }
    let height = TOP + rows.iter().map(|row| row.height).sum::<f64>() + EDGE;
    let width = LEFT + seconds * MM_PER_SECOND + RIGHT;
    let mut svg = String::new();
    begin(&mut svg, width, height);
    let said = if all > seconds { format!("the first {seconds} s of {all:.1} s") } else { format!("{all:.1} s") };
    let time = recording.device_time.map_or(String::new(), |time| format!("{time} · "));
    let what = format!("{time}{said} · {hertz} samples/s · 25 mm/s · 10 mm/mV · each trace around its median");
    text(&mut svg, (3.0, 7.0), 4.0, "#000", &what);
    text(&mut svg, (3.0, 13.0), 4.0, if notes.fault { "#a00" } else { "#000" }, notes.recording);
    let mut y = TOP;
    for row in &rows {
        row.draw(&mut svg, y, hertz, notes.leads);
        y += row.height;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// As many frames as are drawn.
fn cut(recording: &FileRecording, frames: usize) -> FileRecording {
    let most = u64::from(SECONDS_MAX) * u64::from(recording.rate.samples) / u64::from(recording.rate.seconds);
    let most = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, frames);
    let samples = recording.samples.iter().take(most.saturating_mul(recording.channels.len())).copied().collect();
    FileRecording { device_time: recording.device_time, rate: recording.rate, channels: recording.channels.clone(), samples }
}

struct Row {
    name: String,
    code: Option<Mdc>,
    height: f64,
    /// `None`: not recorded.
    trace: Option<Trace>,
}

struct Trace {
    /// In mm above the median.
    points: Vec<Option<f64>>,
    /// How far it reaches above the median.
    above: f64,
}

fn rows(recording: &FileRecording) -> Vec<Row> {
    let of = |at: usize, channel: &Channel| {
        let trace = Trace::of(recording, at, channel)?;
        let (above, below) = trace.reach();
        let height = (above + below + 2.0 * EDGE).clamp(ROW, ROW_MAX);
        let trace = Trace { above: above + (height - above - below - 2.0 * EDGE).max(0.0) / 2.0, ..trace };
        Some(Row { name: marked_name(channel), code: Some(channel.code), height, trace: Some(trace) })
    };
    let recorded = || recording.channels.iter().enumerate();
    let standard = |channel: &Channel| STANDARD.contains(&lead_name(channel.code).as_str());
    let any_standard = recorded().any(|(_, channel)| standard(channel));
    let mut rows = Vec::new();
    for name in STANDARD.into_iter().filter(|_| any_standard) {
        let found = recorded().find(|(_, channel)| lead_name(channel.code) == name).and_then(|(at, channel)| of(at, channel));
        let without = || Row { name: String::from(name), code: None, height: ROW_WITHOUT, trace: None };
        rows.push(found.unwrap_or_else(without));
    }
    rows.extend(recorded().filter(|(_, channel)| !standard(channel)).filter_map(|(at, channel)| of(at, channel)));
    rows
}

impl Trace {
    /// `None` where it is no voltage, or has no sample.
    fn of(recording: &FileRecording, at: usize, channel: &Channel) -> Option<Self> {
        let millivolts = match channel.unit {
            "uV" => channel.scale.to_f64() / 1_000.0,
            "mV" => channel.scale.to_f64(),
            _ => return None,
        };
        let mut sorted: Vec<i32> = recording.channel(at).flatten().collect();
        sorted.sort_unstable();
        let median = f64::from(*sorted.get(sorted.len() / 2)?);
        let mm = |sample: i32| (f64::from(sample) - median) * millivolts * MM_PER_MILLIVOLT;
        Some(Self { points: recording.channel(at).map(|sample| sample.map(mm)).collect(), above: 0.0 })
    }

    /// Above and below the median, with room for the calibration pulse; a tall one is cut off at both edges.
    fn reach(&self) -> (f64, f64) {
        let (low, high) =
            self.points.iter().flatten().fold((0.0_f64, MM_PER_MILLIVOLT), |(low, high), mm| (low.min(*mm), high.max(*mm)));
        let most = ROW_MAX - 2.0 * EDGE;
        if high - low <= most { (high, -low) } else { (high.min(most / 2.0), (-low).min(most / 2.0)) }
    }
}

impl Row {
    fn draw(&self, svg: &mut String, y: f64, hertz: f64, notes: &[(Mdc, &str)]) {
        let Some(trace) = &self.trace else {
            text(svg, (3.0, y + ROW_WITHOUT / 2.0 + 1.5), 4.5, "#888", &self.name);
            return text(svg, (LEFT + 2.0, y + ROW_WITHOUT / 2.0 + 1.5), 4.0, "#888", "not recorded");
        };
        let zero = y + EDGE + trace.above;
        text(svg, (3.0, zero + 1.5), 4.5, "#000", &self.name);
        if let Some((_, note)) = notes.iter().find(|(lead, _)| Some(*lead) == self.code) {
            text(svg, (3.0, zero + 6.0), 3.2, "#a00", note);
        }
        // A millivolt for a fifth of a second.
        let pulse = format!("M{:.2} {zero:.2}h2v-10h5v10h2", LEFT - 10.0);
        let clip = format!("{:.0}", y * 10.0);
        let (top, height) = (y, self.height);
        let _written = write!(
            svg,
            "<clipPath id=\"c{clip}\"><rect x=\"0\" y=\"{top:.2}\" width=\"100%\" height=\"{height:.2}\"/></clipPath>\
             <g clip-path=\"url(#c{clip})\" fill=\"none\" stroke=\"#000\" stroke-width=\"0.25\" stroke-linejoin=\"round\">\
             <path d=\"{pulse}\"/><path d=\""
        );
        let mut pen_down = false;
        for (at, mm) in (0_u32..).zip(&trace.points) {
            if let Some(mm) = mm {
                let x = LEFT + f64::from(at) / hertz * MM_PER_SECOND;
                let _written = write!(svg, "{}{x:.2} {:.2}", if pen_down { 'L' } else { 'M' }, zero - mm);
            }
            pen_down = mm.is_some();
        }
        svg.push_str("\"/></g>\n");
    }
}

fn begin(svg: &mut String, width: f64, height: f64) {
    let (grid_width, grid_height) = (width - LEFT - RIGHT, height - TOP - EDGE);
    let _written = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.2}mm\" height=\"{height:.2}mm\" \
         viewBox=\"0 0 {width:.2} {height:.2}\" font-family=\"sans-serif\">\n\
         <defs><pattern id=\"mm\" x=\"{LEFT}\" y=\"{TOP}\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">\
         <path d=\"M1 0v5M2 0v5M3 0v5M4 0v5M0 1h5M0 2h5M0 3h5M0 4h5\" stroke=\"#f3c3c3\" stroke-width=\"0.1\"/>\
         <path d=\"M0 0h5M0 0v5\" stroke=\"#e08a8a\" stroke-width=\"0.35\"/></pattern></defs>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{grid_width:.2}\" height=\"{grid_height:.2}\" fill=\"url(#mm)\"/>\n"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), size: f64, colour: &str, what: &str) {
    let escaped = what.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _written = writeln!(svg, "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"{size}\" fill=\"{colour}\">{escaped}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal::Decimal;
    use crate::reading::Rate;
    use alloc::vec;

    fn recording(leads: &[&str], samples: Vec<Option<i32>>) -> FileRecording {
        let channel = |name: &&str| Channel {
            code: Mdc::by_name(name).unwrap(),
            scale: Decimal::whole(1),
            unit: "uV",
            filter: String::new(),
        };
        let channels = leads.iter().map(channel).collect();
        FileRecording { device_time: None, rate: Rate { samples: 100, seconds: 1 }, channels, samples }
    }

    #[test]
    fn a_millivolt_is_ten_millimetres_and_a_second_twenty_five() {
        let svg = encode(&recording(&["II"], vec![Some(0), Some(1_000), Some(0), None, Some(0)]), Notes::default()).unwrap();
        let path = svg.split("<path d=\"M45.00").nth(1).unwrap();
        let zero: f64 = path.split(['L', ' ']).nth(1).unwrap().parse().unwrap();
        let expected = format!(" {zero:.2}L45.25 {:.2}L45.50 {zero:.2}M46.00 {zero:.2}\"", zero - 10.0);
        assert!(path.starts_with(&expected), "{path}");
    }

    #[test]
    fn the_calibration_pulse_is_whole_however_flat_the_trace() {
        for wave in [[0, 0], [0, 40], [-1_900, 0]] {
            let svg = encode(&recording(&["II"], wave.map(Some).to_vec()), Notes::default()).unwrap();
            let number = |after: &str| svg.split(after).nth(1).unwrap().split(['"', 'h']).next().unwrap().parse::<f64>().unwrap();
            assert!(number("<path d=\"M35.00 ") - MM_PER_MILLIVOLT >= number("<rect x=\"0\" y=\""), "{wave:?}");
        }
    }

    #[test]
    fn every_standard_lead_is_there_recorded_derived_or_not() {
        let notes = Notes { recording: "quality: <flat>", fault: true, leads: &[(Mdc::ECG_V1, "flat-line")] };
        let svg = encode(&recording(&["I", "II", "V1"], [3, 10, 7].map(Some).to_vec()), notes).unwrap();
        for name in ["I", "II", "III (derived)", "aVR (derived)", "aVL (derived)", "aVF (derived)", "V1", "V6"] {
            assert_eq!(svg.matches(&format!(">{name}</text>")).count(), 1, "{name}");
        }
        assert_eq!(svg.matches("not recorded").count(), 5);
        assert!(svg.contains("quality: &lt;flat&gt;") && svg.contains(">flat-line</text>"));
    }

    #[test]
    fn a_lead_without_a_name_stands_alone_and_what_is_no_voltage_is_not_drawn() {
        let svg = encode(&recording(&["ecg"], vec![Some(1); 4]), Notes::default()).unwrap();
        assert!(!svg.contains("not recorded"));
        let mut pleth = recording(&["pleth"], vec![Some(1); 4]);
        pleth.channels[0].unit = "1";
        assert_eq!(encode(&pleth, Notes::default()), Err(EncodeError::NoVoltage));
        assert_eq!(encode(&recording(&["II"], Vec::new()), Notes::default()), Err(EncodeError::Shape));
    }

    #[test]
    fn a_long_or_wild_recording_is_bounded() {
        let wild = (0..6_000).map(|n| Some(if n % 2 == 0 { i32::MAX } else { i32::MIN })).collect();
        let svg = encode(&recording(&["II"], wild), Notes::default()).unwrap();
        assert!(svg.contains("the first 30 s of 60.0 s") && svg.contains("width=\"800.00mm\""));
    }
}
