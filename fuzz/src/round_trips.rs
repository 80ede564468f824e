//! What is decoded, encoded, and decoded again is the same; and what a stream holds does not depend on its splits.

use std::fmt::Debug;

use kit_protocol::decimal::Decimal;
use kit_protocol::file::{FileRecording, csv, ecg90a, edf, flac, lepu_er3, scp, wfdb};
use kit_protocol::gatt::battery_level::BatteryLevel;
use kit_protocol::gatt::blood_pressure::{BloodPressureFeature, BloodPressureMeasurement, Departures};
use kit_protocol::gatt::body_composition::{BodyCompositionFeature, BodyCompositionMeasurement};
use kit_protocol::gatt::contec_spirometer;
use kit_protocol::gatt::current_time::CurrentTime;
use kit_protocol::gatt::date_time::DateTime;
use kit_protocol::gatt::device_information::{PnpId, SystemId};
use kit_protocol::gatt::elapsed_time::CurrentElapsedTime;
use kit_protocol::gatt::glucose_feature::GlucoseFeature;
use kit_protocol::gatt::glucose_measurement::GlucoseMeasurement;
use kit_protocol::gatt::glucose_measurement_context::GlucoseMeasurementContext;
use kit_protocol::gatt::health_observation::{HealthObservation, StoredHealthObservation};
use kit_protocol::gatt::health_observation_segment::{Assembler, Segmenter};
use kit_protocol::gatt::health_sensor_features::{GhsControlPoint, HealthSensorFeatures};
use kit_protocol::gatt::heart_rate::{BodySensorLocation, HeartRateMeasurement};
use kit_protocol::gatt::mi_scale::MiScaleData;
use kit_protocol::gatt::omron_record::Order;
use kit_protocol::gatt::plx_continuous::PlxContinuousMeasurement;
use kit_protocol::gatt::plx_features::PlxFeatures;
use kit_protocol::gatt::plx_spot_check::PlxSpotCheckMeasurement;
use kit_protocol::gatt::racp::{Request, Response};
use kit_protocol::gatt::temperature::{MeasurementInterval, TemperatureMeasurement, TemperatureType};
use kit_protocol::gatt::weight::{WeightMeasurement, WeightScaleFeature};
use kit_protocol::gatt::{omron_memory, omron_record};
use kit_protocol::reading::Rate;
use kit_protocol::serial::framer::{Framer, Framing};
use kit_protocol::serial::{
    aa55, ads1298, ansar_b, bci, berry, contec, contec_bt, lepu, nonin_df2, nonin_df8, nonin_df13, o2ring, pc60fw, pc300,
    spirometer_flow,
};

use crate::targets::{Target, target};

/// Octets that a codec gives, or none where it may refuse.
trait Encoded {
    fn octets(self) -> Option<Vec<u8>>;
}

impl Encoded for Vec<u8> {
    fn octets(self) -> Option<Vec<u8>> {
        Some(self)
    }
}

impl<const N: usize> Encoded for [u8; N] {
    fn octets(self) -> Option<Vec<u8>> {
        Some(self.to_vec())
    }
}

impl<T: Encoded> Encoded for Option<T> {
    fn octets(self) -> Option<Vec<u8>> {
        self.and_then(Encoded::octets)
    }
}

/// What was decoded can be encoded, and is decoded again as it was.
fn same<T: Debug + PartialEq, E: Debug + PartialEq, O: Encoded>(
    octets: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, E>,
    encode: impl Fn(&T) -> O,
) {
    let Ok(value) = decode(octets) else { return };
    let again = encode(&value).octets().unwrap_or_else(|| panic!("decoded, and cannot be encoded: {value:?}"));
    assert_eq!(decode(&again), Ok(value), "{again:02x?}");
}

type Check = fn(&[u8]);

/// The codec's decode and encode, by name.
macro_rules! codecs {
    ($($codec:ty),* $(,)?) => { &[$(|octets| same(octets, <$codec>::decode, |value| value.encode())),*] };
}

const GATT: &[Check] = codecs![
    BatteryLevel,
    BloodPressureFeature,
    BloodPressureMeasurement,
    BodyCompositionFeature,
    BodyCompositionMeasurement,
    BodySensorLocation,
    CurrentElapsedTime,
    CurrentTime,
    DateTime,
    GhsControlPoint,
    GlucoseFeature,
    GlucoseMeasurement,
    GlucoseMeasurementContext,
    HealthSensorFeatures,
    HeartRateMeasurement,
    MeasurementInterval,
    PlxContinuousMeasurement,
    PlxFeatures,
    PlxSpotCheckMeasurement,
    PnpId,
    Request,
    Response,
    SystemId,
    TemperatureMeasurement,
    TemperatureType,
    WeightMeasurement,
    WeightScaleFeature,
    contec_spirometer::Record,
    omron_memory::Frame,
    omron_record::Clock,
];

/// Those whose functions have names or arguments of their own.
const GATT_OTHERS: &[Check] = &[
    |octets| same(octets, MiScaleData::decode_weight, MiScaleData::encode_weight),
    |octets| same(octets, MiScaleData::decode_composition, MiScaleData::encode_composition),
    |octets| omron(octets, Order::Little),
    |octets| omron(octets, Order::Big),
    // A quirk's octets are never written: a panic is all that there is to find.
    |octets| {
        let departures = Departures { big_endian_pulse_and_status: true, user_id_always: true };
        let _refused = BloodPressureMeasurement::decode_departing(octets, departures);
    },
];

fn omron(octets: &[u8], order: Order) {
    let decoded = omron_record::Record::decode(octets, order);
    if let Ok(Some(record @ omron_record::Record { device_time: Some(_), .. })) = decoded {
        // What is written has a sum that fits, and a date.
        let record = omron_record::Record { sum_fits: true, ..record };
        assert_eq!(omron_record::Record::decode(&record.encode(order), order), Ok(Some(record)));
    }
}

const SERIAL: &[Check] = codecs![
    aa55::Frame,
    ads1298::DataFrame,
    ads1298::Header,
    ads1298::Sample,
    ansar_b::Message,
    bci::Frame,
    berry::Twenty,
    contec::Message,
    contec::Packet,
    contec_bt::Frame,
    lepu::Frame,
    lepu::Information,
    lepu::Live,
    lepu::LiveNumbered,
    nonin_df13::SpotCheck,
    nonin_df2::Frame,
    nonin_df8::Frame,
    o2ring::Frame,
    spirometer_flow::Flow,
    spirometer_flow::Header,
    spirometer_flow::Mark,
];

const SERIAL_OTHERS: &[Check] = &[
    |octets| same(octets, o2ring::Numbers::live, o2ring::Numbers::to_live),
    |octets| same(octets, o2ring::Numbers::wave, o2ring::Numbers::to_wave),
    |octets| {
        if let Ok(frame) = aa55::Frame::decode(octets) {
            if let Ok(message) = pc300::Message::decode(&frame) {
                assert_eq!(pc300::Message::decode(&message.encode()), Ok(message));
            }
            if let Ok(message) = pc60fw::Message::of(&frame) {
                if let Some(frame) = message.frame() {
                    assert_eq!(pc60fw::Message::of(&frame), Ok(message));
                }
            }
        }
    },
    |octets| {
        let frames: Vec<nonin_df2::Frame> = octets.chunks(5).filter_map(|frame| nonin_df2::Frame::decode(frame).ok()).collect();
        let Some(Ok(frames)) = frames.get(..nonin_df2::FRAMES_PER_PACKET).map(TryInto::try_into) else { return };
        if let Ok(packet) = nonin_df2::Packet::decode(frames) {
            assert_eq!(nonin_df2::Packet::decode(&packet.encode()), Ok(packet));
        }
    },
];

/// The first octet chooses which of them gets the others.
fn one_of(checks: &'static [&'static [Check]]) -> impl Fn(&[u8]) {
    move |octets| {
        let Some((first, octets)) = octets.split_first() else { return };
        let all: Vec<&Check> = checks.iter().copied().flatten().collect();
        all[usize::from(*first) % all.len()](octets);
    }
}

const SPLITS: &[Check] = &[
    splits::<aa55::Aa55>,
    splits::<ads1298::Frames>,
    splits::<ansar_b::AnsarB>,
    splits::<berry::Frames>,
    splits::<contec::Frames>,
    splits::<contec_bt::Frames>,
    splits::<lepu::Frames>,
    splits::<nonin_df13::Frames>,
    splits::<nonin_df2::Frames<nonin_df2::Frame>>,
    splits::<nonin_df8::Frames>,
    splits::<o2ring::Frames>,
    splits::<spirometer_flow::Frames>,
];

/// The stream in one piece, in single octets, and in pieces that the first octets say.
fn splits<F>(octets: &[u8])
where
    F: Framing,
    F::Found: Debug + PartialEq,
    Framer<F>: Default,
{
    let Some((sizes, stream)) = octets.split_at_checked(4) else { return };
    let found = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut all, mut framer) = (Vec::new(), Framer::<F>::default());
        pieces.for_each(|piece| framer.push(piece, |found| all.push(found)));
        framer.finish(|found| all.push(found));
        all
    };
    let whole = found(&mut [stream].into_iter());
    assert_eq!(found(&mut stream.chunks(1)), whole, "split after every octet");
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    let mut pieces = std::iter::from_fn(|| {
        let size = usize::from(*sizes.next()?).min(rest.len());
        let (piece, behind) = rest.split_at(size.max(usize::from(!rest.is_empty())));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(found(&mut pieces), whole, "split in pieces of {:?}", &octets[..4]);
}

/// A whole observation: by itself, with a record's number, and in segments of any size.
fn observation(octets: &[u8]) {
    let Some((payload, octets)) = octets.split_first() else { return };
    same(octets, HealthObservation::decode, HealthObservation::encode);
    same(octets, StoredHealthObservation::decode, StoredHealthObservation::encode);
    if octets.is_empty() {
        return;
    }
    let mut assembler = Assembler::default();
    let segments = Segmenter::starting_at(*payload).segments(octets, usize::from(*payload).max(1));
    let (last, before) = segments.split_last().expect("an octet at least is a segment");
    for segment in before {
        assert_eq!(assembler.push(segment), (None, None));
    }
    assert_eq!(assembler.push(last), (None, Some(octets.to_vec())));
}

/// A recording that a format can hold is the same when it was written and read.
fn file<E>(
    octets: &[u8],
    decode: impl Fn(&[u8]) -> Option<FileRecording>,
    encode: impl Fn(&FileRecording) -> Result<Vec<u8>, E>,
) {
    let Some(recording) = decode(octets) else { return };
    assert!(recording.frames().is_ok(), "a recording without whole frames");
    let Ok(again) = encode(&recording) else { return };
    let decoded = decode(&again).expect("what was written can be read");
    assert!(decoded == recording, "{:?} {:?}", without_samples(decoded), without_samples(recording));
}

fn without_samples(mut recording: FileRecording) -> FileRecording {
    recording.samples.truncate(64);
    recording
}

fn edf_file(octets: &[u8]) {
    file(octets, |octets| edf::decode(octets).ok(), |recording| edf::encode(recording, "fuzz"));
}

fn scp_file(octets: &[u8]) {
    let Some((first, octets)) = octets.split_first() else { return };
    let octets = &scp_sealed(octets.to_vec());
    let encoding = if first % 4 == 3 { scp::Encoding::Raw } else { scp::Encoding::Huffman { differences: first % 4 } };
    file(octets, |octets| scp::decode(octets).ok(), |recording| scp::encode(recording, encoding));
}

/// The octets with a size and sums that fit wherever they are an SCP file: no fuzzer finds those by itself.
fn scp_sealed(mut octets: Vec<u8>) -> Vec<u8> {
    const POINTERS_AT: usize = 22;
    if !scp::begins(&octets) {
        return octets;
    }
    let size = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    octets[2..6].copy_from_slice(&size.to_le_bytes());
    let word = |octets: &[u8], at: usize| Some(usize::try_from(u32::from_le_bytes(*octets.get(at..)?.first_chunk()?)).ok()?);
    for pointer in (0..12).rev().map(|number| POINTERS_AT + 10 * number) {
        let span = word(&octets, pointer + 2).zip(word(&octets, pointer + 6));
        let Some((length, at)) = span.filter(|(length, at)| *length > 2 && *at > 0) else { continue };
        if let Some(section) = octets.get_mut(at - 1..).and_then(|rest| rest.get_mut(..length)) {
            let sum = crc(&section[2..]);
            section[..2].copy_from_slice(&sum.to_le_bytes());
        }
    }
    let sum = crc(&octets[2..]);
    octets[..2].copy_from_slice(&sum.to_le_bytes());
    octets
}

/// CRC-16/CCITT-FALSE.
fn crc(octets: &[u8]) -> u16 {
    octets.iter().fold(0xffff_u16, |crc, octet| {
        (0..8).fold(crc ^ u16::from(*octet) << 8, |crc, _| crc << 1 ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 })
    })
}

fn ecg90a_file(octets: &[u8]) {
    file(octets, |octets| ecg90a::decode(octets).ok(), |recording| ecg90a::encode(recording, 7));
}

fn er3_file(octets: &[u8]) {
    let Ok(contents) = lepu_er3::contents(octets) else { return er3_sealed(octets) };
    file(octets, |octets| lepu_er3::decode(octets).ok(), |recording| lepu_er3::encode(recording, contents.lead_type));
}

/// The octets as rows of a file whose sum is right: no fuzzer finds it by itself.
fn er3_sealed(rows: &[u8]) {
    let Some((first, rows)) = rows.split_first() else { return };
    let mut octets = [&[2, 4, first % 3, 0, 0, 0, 0, 0, 1, 0], rows].concat();
    let crc = crc(&octets);
    octets.extend([0; 4]);
    octets.extend(crc.to_le_bytes());
    octets.extend([0; 10]);
    octets.extend([0x38, 0x04, 0x5a, 0xa5]);
    if let Ok(contents) = lepu_er3::contents(&octets) {
        file(&octets, |octets| lepu_er3::decode(octets).ok(), |recording| lepu_er3::encode(recording, contents.lead_type));
    }
}

/// The header, a NUL, and each signal file after another NUL.
fn wfdb_record(octets: &[u8]) {
    let mut parts = octets.splitn(3, |octet| *octet == 0);
    let Ok(header) = wfdb::Header::decode(parts.next().unwrap_or_default()) else { return };
    let files: Vec<Vec<u8>> = header.files().iter().map(|_| parts.next().unwrap_or_default().to_vec()).collect();
    let Ok(recording) = header.recording(&files) else { return };
    for packing in [wfdb::Packing::Plain, wfdb::Packing::Flac] {
        let Ok(record) = wfdb::encode(&recording, "fuzz", packing) else { continue };
        let header = wfdb::Header::decode(record.header.as_bytes()).expect("a header that was written can be read");
        let names: Vec<&str> = record.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(header.files(), names);
        let files: Vec<Vec<u8>> = record.files.iter().map(|(_, octets)| octets.clone()).collect();
        let again = header.recording(&files).expect("signals that were written can be read");
        assert!(again == recording, "{:?} {:?}\n{}", without_samples(again), without_samples(recording), record.header);
    }
}

fn csv_file(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let decode = |octets: &[u8]| {
        let text = std::str::from_utf8(octets).ok()?;
        csv::decode(text, Rate { samples: 500, seconds: 1 }, Decimal::new(125, -2), "uV").ok()
    };
    file(text.as_bytes(), decode, |recording| Ok::<_, std::convert::Infallible>(csv::encode(recording).into_bytes()));
}

fn flac_file(octets: &[u8]) {
    file(octets, |octets| flac::decode(octets).ok(), flac::encode);
}

/// Samples of any width in any number of channels are the same after FLAC.
fn flac_samples(octets: &[u8]) {
    let Some((channels, octets)) = octets.split_first() else { return };
    let channels = usize::from(channels % 12) + 1;
    let (chunks, _) = octets.as_chunks::<3>();
    let samples: Vec<i32> = chunks.iter().map(|[a, b, c]| i32::from_le_bytes([0, *a, *b, *c]) >> 8).collect();
    let samples = &samples[..samples.len() - samples.len() % channels];
    if let Ok(streams) = kit_protocol::flac::encode(samples, channels, 500) {
        assert_eq!(kit_protocol::flac::decode(&streams).as_deref(), Ok(samples));
    }
}

/// Every target of this kind.
pub(crate) fn all() -> impl Iterator<Item = Target> {
    let gatt: &'static [&'static [Check]] = &[GATT, GATT_OTHERS];
    let serial: &'static [&'static [Check]] = &[SERIAL, SERIAL_OTHERS];
    [
        target("round-trip-gatt", one_of(gatt)),
        target("round-trip-serial", one_of(serial)),
        target("round-trip-observation", observation),
        target("splits-serial", one_of(&[SPLITS])),
        target("file-csv", csv_file),
        target("file-ecg90a", ecg90a_file),
        target("file-edf", edf_file),
        target("file-flac", flac_file),
        target("file-lepu-er3", er3_file),
        target("file-scp", scp_file),
        target("file-wfdb", wfdb_record),
        target("flac-samples", flac_samples),
    ]
    .into_iter()
}
