//! A recording as a drawing, with what was found of its quality.

use kit_protocol::file::svg::{self, Notes};
use kit_protocol::file::{EncodeError, FileRecording};
use kit_protocol::nomenclature::Mdc;

/// The drawing as SVG.
pub(super) fn drawn(recording: &FileRecording) -> Result<String, EncodeError> {
    let (of_recording, fault, of_leads) = quality(recording);
    svg::encode(recording, Notes { recording: &of_recording, fault, leads: &of_leads })
}

/// Of the recording, whether it is a fault, and of each lead that cannot be read, as far as it is drawn.
#[cfg(feature = "derive")]
fn quality(recording: &FileRecording) -> (String, bool, Vec<(Mdc, &'static str)>) {
    use device_drivers::derive::ecg_quality::{Finding, Stretch, judge};

    let rate = recording.rate;
    let frames = u64::from(svg::SECONDS_MAX) * u64::from(rate.samples) / u64::from(rate.seconds.max(1));
    let drawn = usize::try_from(frames).unwrap_or(usize::MAX).saturating_mul(recording.channels.len());
    let samples = recording.samples.get(..drawn).unwrap_or(&recording.samples);
    let found = judge(&Stretch { channels: &recording.channels, rate, samples, lead_off: 0, saturated: 0 });
    let unreadable = found.leads.iter().filter(|(_, finding)| *finding != Finding::Acceptable);
    let of_leads: Vec<_> = unreadable.map(|(lead, finding)| (*lead, finding.status())).collect();
    let statuses = found.statuses();
    (format!("quality: {}", statuses.join(", ")), statuses != [Finding::Acceptable.status()], of_leads)
}

/// This build computes nothing of a signal.
#[cfg(not(feature = "derive"))]
fn quality(_recording: &FileRecording) -> (String, bool, Vec<(Mdc, &'static str)>) {
    (String::new(), false, Vec::new())
}
