//! Sections 5 and 6: the samples of the reference beat and of the rhythm, and how the one is added to the other.

use alloc::vec::Vec;

use super::huffman::{self, Ended, Tables};
use super::record::Sections;
use super::{Encoding, FileError, Leads, NotEncodable, SAMPLES_MAX, missing};
use crate::reader::{DecodeError, Reader};

/// A section of samples, as it stands.
pub(super) struct Data<'a> {
    section: u16,
    /// What one digit is worth, nV.
    pub(super) multiplier_nv: u16,
    /// Between two samples, us.
    pub(super) interval_us: u16,
    /// Order of the differences, 0–2.
    differences: u8,
    bimodal: bool,
    leads: Vec<&'a [u8]>,
}

impl<'a> Data<'a> {
    /// Shape: multiplier (2) · interval (2) · order of differences (1) · bimodal compression (1; reserved in section 5) · for each
    /// lead the number of its octets (2) · the leads' octets.
    pub(super) fn read(section: u16, content: &'a [u8], leads: usize) -> Result<Self, FileError> {
        let wrong = |what| FileError::Section { section, what };
        let short = |_: DecodeError| wrong("it is too short for its leads");
        let mut r = Reader::new(content);
        let (multiplier_nv, interval_us) = (r.u16("multiplier").map_err(short)?, r.u16("interval").map_err(short)?);
        let (differences, bimodal) = (r.u8("differences").map_err(short)?, r.u8("bimodal").map_err(short)?);
        if multiplier_nv == 0 || interval_us == 0 || differences > 2 {
            return Err(wrong("its multiplier, interval or order of differences is none"));
        }
        let lengths = (0..leads).map(|_| r.u16("length")).collect::<Result<Vec<_>, _>>().map_err(short)?;
        let leads = lengths.into_iter().map(|length| r.take(length.into(), "lead")).collect::<Result<_, _>>();
        Ok(Self { section, multiplier_nv, interval_us, differences, bimodal: bimodal != 0, leads: leads.map_err(short)? })
    }

    /// The samples of a lead: `count` of them, each within 16 bits.
    fn lead(&self, lead: usize, count: usize, tables: Option<&Tables>) -> Result<Vec<i32>, FileError> {
        let octets = self.leads.get(lead).copied().unwrap_or_default();
        let mut samples = Vec::with_capacity(count.min(octets.len().saturating_mul(8)));
        let mut push = |value: i32| self.undo(&mut samples, value);
        match tables {
            None => {
                self.check(lead, octets.len(), count * 2)?;
                octets.chunks_exact(2).try_for_each(|pair| match pair {
                    [low, high] => push(i16::from_le_bytes([*low, *high]).into()),
                    _ => Ok(()),
                })?;
            }
            Some(tables) => tables.values(octets, count, push).map_err(|ended| {
                let what = match ended {
                    Ended::Refused(error) => return error,
                    Ended::Short => "a lead's codes end before its samples do",
                    Ended::TooMany => "a lead has more codes than samples",
                    Ended::Unknown => "bits that are no code of its tables",
                };
                FileError::Section { section: self.section, what }
            })?,
        }
        Ok(samples)
    }

    fn check(&self, lead: usize, octets: usize, needed: usize) -> Result<(), FileError> {
        if octets == needed {
            Ok(())
        } else {
            Err(FileError::LeadOctets { section: self.section, lead: lead + 1, octets, needed })
        }
    }

    /// Undoes the differences.
    fn undo(&self, samples: &mut Vec<i32>, value: i32) -> Result<(), FileError> {
        let sample = match (self.differences, samples.as_slice()) {
            (1, [.., last]) => value + last,
            (2, [.., before, last]) => value + 2 * last - before,
            _ => value,
        };
        // Every one before it is within 16 bits, so that nothing runs over here.
        i16::try_from(sample).map_err(|_| FileError::Section { section: self.section, what: "a sample is outside 16 bits" })?;
        samples.push(sample);
        Ok(())
    }
}

/// The samples of all leads, interleaved.
pub(super) fn rhythm(
    leads: &Leads,
    data: &Data<'_>,
    sections: &Sections<'_>,
    tables: Option<&Tables>,
) -> Result<Vec<i32>, FileError> {
    if data.bimodal {
        return Err(FileError::NotExact("bimodal compression, which leaves samples out,"));
    }
    let beat = if leads.subtracted { Some(Beat::read(leads, data, sections)?) } else { None };
    let count = leads.codes.len();
    let mut samples = alloc::vec![0; leads.samples * count];
    for lead in 0..count {
        let mut of_lead = data.lead(lead, leads.samples, tables)?;
        if let Some(beat) = &beat {
            beat.add(lead, &mut of_lead, leads.first, tables)?;
        }
        for (place, sample) in samples.iter_mut().skip(lead).step_by(count).zip(of_lead) {
            *place = sample;
        }
    }
    Ok(samples)
}

/// The reference beat, and where it was subtracted.
struct Beat<'a> {
    data: Data<'a>,
    samples: usize,
    /// The sample, from 1, that lies on each beat's own.
    fiducial: u32,
    zones: Vec<Zone>,
}

/// Numbers of samples, from 1.
struct Zone {
    first: u32,
    fiducial: u32,
    last: u32,
}

/// Octets of a zone in section 4.
const ZONE_OCTETS: usize = 14;

impl<'a> Beat<'a> {
    /// Shape of section 4: length of the beat in ms (2) · its fiducial sample (2) · number of beats (2) · for each its type (2; only
    /// those of type 0 were subtracted), first (4), fiducial (4) and last sample (4) · zones of bimodal compression.
    fn read(leads: &Leads, rhythm: &Data<'_>, sections: &Sections<'a>) -> Result<Self, FileError> {
        let short = |_: DecodeError| FileError::Section { section: 4, what: "it is too short for its beats" };
        let data = Data::read(5, sections.content(5).ok_or(missing(5))?, leads.codes.len())?;
        if (data.multiplier_nv, data.interval_us) != (rhythm.multiplier_nv, rhythm.interval_us) {
            return Err(FileError::NotExact("a reference beat of another rate or scale than the rhythm"));
        }
        let mut r = Reader::new(sections.content(4).ok_or(missing(4))?);
        let length_ms = r.u16("length").map_err(short)?;
        let (fiducial, beats) = (r.u16("fiducial").map_err(short)?, usize::from(r.u16("number of beats").map_err(short)?));
        let samples = usize::try_from(u32::from(length_ms) * 1_000 / u32::from(data.interval_us)).unwrap_or(usize::MAX);
        if samples.saturating_mul(leads.codes.len()) > SAMPLES_MAX {
            return Err(FileError::TooLong { maximum: SAMPLES_MAX });
        }
        let mut zones: Vec<Zone> = Vec::new();
        for beat in r.take(beats * ZONE_OCTETS, "beats").map_err(short)?.chunks_exact(ZONE_OCTETS) {
            let mut r = Reader::new(beat);
            let (kind, first) = (r.u16("type").map_err(short)?, r.u32("first").map_err(short)?);
            let (fiducial, last) = (r.u32("fiducial").map_err(short)?, r.u32("last").map_err(short)?);
            if kind == 0 {
                zones.push(Zone { first, fiducial, last });
            }
        }
        let beat = Self { data, samples, fiducial: fiducial.into(), zones };
        beat.check(leads)?;
        Ok(beat)
    }

    /// A zone lies within the recording and within the reference beat, and none over another.
    fn check(&self, leads: &Leads) -> Result<(), FileError> {
        let end = u64::from(leads.first) + u64::try_from(leads.samples).unwrap_or(u64::MAX);
        let mut before = u64::from(leads.first);
        for zone in &self.zones {
            let (first, last) = (u64::from(zone.first), u64::from(zone.last));
            let ordered = before <= first && first <= last && last < end;
            let reaches = self.index(zone, zone.first).is_some() && self.index(zone, zone.last).is_some();
            if !ordered || !reaches {
                let what = "a beat lies outside the recording, the reference beat, or its turn";
                return Err(FileError::Section { section: 4, what });
            }
            before = last + 1;
        }
        Ok(())
    }

    /// Which sample of the reference beat, from 0, lies on that of the rhythm.
    fn index(&self, zone: &Zone, sample: u32) -> Option<usize> {
        let number = (u64::from(sample) + u64::from(self.fiducial)).checked_sub(u64::from(zone.fiducial))?;
        usize::try_from(number.checked_sub(1)?).ok().filter(|index| *index < self.samples)
    }

    fn add(&self, lead: usize, samples: &mut [i32], first: u32, tables: Option<&Tables>) -> Result<(), FileError> {
        let reference = self.data.lead(lead, self.samples, tables)?;
        for zone in &self.zones {
            let skip = usize::try_from(zone.first - first).unwrap_or(usize::MAX);
            for (number, sample) in (zone.first..=zone.last).zip(samples.iter_mut().skip(skip)) {
                let added = self.index(zone, number).and_then(|index| reference.get(index)).copied().unwrap_or(0);
                let sum = i16::try_from(*sample + added);
                *sample = sum.map_err(|_| FileError::Section { section: 6, what: "a sample is outside 16 bits" })?.into();
            }
        }
        Ok(())
    }
}

/// The content of section 6.
pub(super) fn encode(
    samples: &[i16],
    leads: usize,
    multiplier_nv: u16,
    interval_us: u16,
    encoding: Encoding,
) -> Result<Vec<u8>, NotEncodable> {
    let order = match encoding {
        Encoding::Raw => 0,
        Encoding::Huffman { differences } => differences,
    };
    if order > 2 {
        return Err(NotEncodable("differences of an order above 2"));
    }
    let mut content = Vec::new();
    content.extend(multiplier_nv.to_le_bytes());
    content.extend(interval_us.to_le_bytes());
    content.extend([order, 0]);
    let mut data = Vec::new();
    for lead in 0..leads {
        let of_lead: Vec<i16> = samples.iter().skip(lead).step_by(leads).copied().collect();
        let octets = match encoding {
            Encoding::Raw => of_lead.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            Encoding::Huffman { .. } => huffman::encode(differences(&of_lead, order)?.into_iter()),
        };
        let length = u16::try_from(octets.len()).map_err(|_| NotEncodable("more than 65,535 octets a lead"))?;
        content.extend(length.to_le_bytes());
        data.extend(octets);
    }
    content.extend(data);
    Ok(content)
}

fn differences(samples: &[i16], order: u8) -> Result<Vec<i16>, NotEncodable> {
    let at =
        |index: usize, back: usize| index.checked_sub(back).and_then(|index| samples.get(index)).map(|sample| i32::from(*sample));
    let difference = |(index, sample): (usize, &i16)| {
        let sample = i32::from(*sample);
        let value = match (order, at(index, 1), at(index, 2)) {
            (1, Some(last), _) => sample - last,
            (2, Some(last), Some(before)) => sample - 2 * last + before,
            _ => sample,
        };
        i16::try_from(value).map_err(|_| NotEncodable("a difference outside 16 bits"))
    };
    samples.iter().enumerate().map(difference).collect()
}
