//! Waveform segments as FLAC streams: lossless, and readable by any FLAC decoder in any language.
//!
//! The only part of this crate that needs std: flacenc and claxon do. Source: RFC 9639.

use alloc::string::String;
use alloc::vec::Vec;
use std::io::Cursor;

use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr, MetadataBlockData, Stream};
use flacenc::error::Verify;
use flacenc::source::MemSource;

/// Channels of one stream, at most; a segment of more has several streams.
pub const CHANNELS_MAX: usize = 8;
/// Samples per channel of one stream, at most: it is one block.
pub const SAMPLES_MAX: usize = 32_767;
/// flacenc takes no smaller block size; a shorter stream is its own last block.
const BLOCK_SIZE_MIN: usize = 32;
/// The largest sampling rate that a FLAC header names, Hz.
const RATE_MAX_HZ: u32 = 655_350;

/// Why samples could not be packed, or a stream not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlacError {
    /// No samples, no channels, more than the bounds, or not a whole number of frames.
    #[error("the number of samples or channels is outside the bounds")]
    Shape,
    /// A sample wider than 24 bits.
    #[error("a sample is wider than 24 bits")]
    Width,
    /// The encoder refused.
    #[error("the encoder refused the samples")]
    Encoder,
    /// Not a FLAC stream, or a damaged one.
    #[error("not a whole FLAC stream")]
    Stream,
}

/// Packs interleaved samples of any number of channels: one complete stream per group of at most 8 channels.
///
/// Shape: `samples` holds whole frames of `channels` integers. Units: as the device sent them, unscaled; 16 bit where
/// every sample of the group fits, else 24. Errors: [`FlacError::Shape`], [`FlacError::Width`].
pub fn encode(samples: &[i32], channels: usize, rate_hz: u32) -> Result<Vec<Vec<u8>>, FlacError> {
    if channels == 0 || samples.is_empty() || !samples.len().is_multiple_of(channels) || samples.len() / channels > SAMPLES_MAX {
        return Err(FlacError::Shape);
    }
    let starts = (0..channels).step_by(CHANNELS_MAX);
    starts.map(|start| encode_group(samples, channels, start..channels.min(start + CHANNELS_MAX), rate_hz)).collect()
}

fn encode_group(samples: &[i32], channels: usize, group: core::ops::Range<usize>, rate_hz: u32) -> Result<Vec<u8>, FlacError> {
    let width = group.len();
    let interleaved: Vec<i32> =
        samples.chunks(channels).flat_map(|frame| frame.iter().take(group.end).skip(group.start)).copied().collect();
    let bits = bits_needed(&interleaved)?;
    let block_size = (interleaved.len() / width).max(BLOCK_SIZE_MIN);
    write(&encode_stream(&interleaved, width, bits, rate_hz, block_size)?)
}

fn encode_stream(samples: &[i32], channels: usize, bits: usize, rate_hz: u32, block_size: usize) -> Result<Stream, FlacError> {
    let rate = usize::try_from(rate_hz.clamp(1, RATE_MAX_HZ)).map_err(|_| FlacError::Shape)?;
    let mut config = flacenc::config::Encoder::default();
    config.block_size = block_size;
    config.multithread = false;
    let config = config.into_verified().map_err(|_| FlacError::Encoder)?;
    let source = MemSource::from_samples(samples, channels, bits, rate);
    let mut stream = flacenc::encode_with_fixed_block_size(&config, source, block_size).map_err(|_| FlacError::Encoder)?;
    // STREAMINFO leaves the last block out of its minimum (RFC 9639 §8.2), and an only block is the last one.
    stream.stream_info_mut().set_block_sizes(block_size, block_size).map_err(|_| FlacError::Encoder)?;
    Ok(stream)
}

fn write(stream: &Stream) -> Result<Vec<u8>, FlacError> {
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|_| FlacError::Encoder)?;
    Ok(sink.into_inner())
}

fn bits_needed(samples: &[i32]) -> Result<usize, FlacError> {
    let fits = |bits: u32| samples.iter().all(|sample| (-(1 << (bits - 1))..1 << (bits - 1)).contains(sample));
    match () {
        () if fits(16) => Ok(16),
        () if fits(24) => Ok(24),
        () => Err(FlacError::Width),
    }
}

/// Unpacks what [`encode`] made: interleaved samples of all channels, bit for bit.
///
/// Errors: [`FlacError::Stream`] where a stream is damaged or the streams differ in length.
pub fn decode(streams: &[impl AsRef<[u8]>]) -> Result<Vec<i32>, FlacError> {
    let groups = streams.iter().map(|stream| decode_group(stream.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let frames = groups.first().map_or(0, |(channels, samples)| samples.len() / channels);
    if groups.iter().any(|(channels, samples)| samples.len() / channels != frames) {
        return Err(FlacError::Stream);
    }
    let mut interleaved = Vec::with_capacity(groups.iter().map(|(_, samples)| samples.len()).sum());
    for frame in 0..frames {
        for (channels, samples) in &groups {
            interleaved.extend(samples.iter().skip(frame * channels).take(*channels));
        }
    }
    Ok(interleaved)
}

/// A FLAC file: one stream of any length, with what its comment block says.
///
/// Shape: `samples` interleaved, whole frames of `channels`; `comments` are the `NAME=text` of VORBIS_COMMENT.
/// Units: samples unscaled, `rate_hz` rounded where the rate is a fraction. Source: RFC 9639.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// 1–8.
    pub channels: usize,
    /// Bits a sample: 4–24.
    pub bits: u32,
    /// Samples per second, as the header has it.
    pub rate_hz: u32,
    /// Interleaved.
    pub samples: Vec<i32>,
    /// `NAME`, `text`.
    pub comments: Vec<(String, String)>,
}

/// Samples per channel of one block of a file: what FLAC's own encoder takes.
const BLOCK_SIZE: usize = 4096;
/// The metadata block of comments. Source: RFC 9639 §8.6.
const VORBIS_COMMENT: u8 = 4;
/// Who wrote it.
const VENDOR: &str = "telemonitoring-kit";

impl File {
    /// The octets of it.
    ///
    /// Errors: [`FlacError::Shape`]; [`FlacError::Width`] where a sample does not fit `bits` (16 or 24).
    pub fn encode(&self) -> Result<Vec<u8>, FlacError> {
        let Self { channels, bits, rate_hz, samples, comments } = self;
        if !(1..=CHANNELS_MAX).contains(channels) || samples.is_empty() || !samples.len().is_multiple_of(*channels) {
            return Err(FlacError::Shape);
        }
        if bits_needed(samples)? > usize::try_from(*bits).map_err(|_| FlacError::Width)? || ![16, 24].contains(bits) {
            return Err(FlacError::Width);
        }
        let frames = samples.len() / channels;
        let block_size = frames.clamp(BLOCK_SIZE_MIN, BLOCK_SIZE);
        let bits = usize::try_from(*bits).map_err(|_| FlacError::Width)?;
        let mut stream = encode_stream(samples, *channels, bits, *rate_hz, block_size)?;
        if !comments.is_empty() {
            let block = MetadataBlockData::new_unknown(VORBIS_COMMENT, &comment_block(comments)?);
            stream.add_metadata_block(block.map_err(|_| FlacError::Encoder)?);
        }
        write(&stream)
    }

    /// Decodes a file of at most `samples_max` samples over all channels.
    ///
    /// Errors: [`FlacError::Stream`] where it is damaged, cut, or longer.
    pub fn decode(octets: &[u8], samples_max: usize) -> Result<Self, FlacError> {
        let mut reader = claxon::FlacReader::new(Cursor::new(octets)).map_err(|_| FlacError::Stream)?;
        let info = reader.streaminfo();
        let channels = usize::try_from(info.channels).map_err(|_| FlacError::Stream)?;
        let comments = reader.tags().map(|(name, text)| (String::from(name), String::from(text))).collect();
        let stated = info.samples.and_then(|frames| frames.checked_mul(u64::from(info.channels)));
        if channels == 0 || stated.is_some_and(|stated| u64::try_from(samples_max).is_ok_and(|most| stated > most)) {
            return Err(FlacError::Stream);
        }
        let mut samples = Vec::new();
        for sample in reader.samples() {
            samples.push(sample.map_err(|_| FlacError::Stream)?);
            if samples.len() > samples_max {
                return Err(FlacError::Stream);
            }
        }
        let whole =
            samples.len().is_multiple_of(channels) && stated.is_none_or(|stated| u64::try_from(samples.len()) == Ok(stated));
        let file = Self { channels, bits: info.bits_per_sample, rate_hz: info.sample_rate, samples, comments };
        if whole { Ok(file) } else { Err(FlacError::Stream) }
    }

    /// The text of that comment, whatever its case.
    #[must_use]
    pub fn comment(&self, name: &str) -> Option<&str> {
        self.comments.iter().find(|(at, _)| at.eq_ignore_ascii_case(name)).map(|(_, text)| text.as_str())
    }
}

/// Vendor and comments, each after its length in 32 bits, little-endian.
fn comment_block(comments: &[(String, String)]) -> Result<Vec<u8>, FlacError> {
    let length = |count: usize| u32::try_from(count).map(u32::to_le_bytes).map_err(|_| FlacError::Shape);
    let mut octets = length(VENDOR.len())?.to_vec();
    octets.extend_from_slice(VENDOR.as_bytes());
    octets.extend_from_slice(&length(comments.len())?);
    for (name, text) in comments {
        octets.extend_from_slice(&length(name.len() + 1 + text.len())?);
        octets.extend([name.as_bytes(), b"=", text.as_bytes()].concat());
    }
    Ok(octets)
}

fn decode_group(stream: &[u8]) -> Result<(usize, Vec<i32>), FlacError> {
    let mut reader = claxon::FlacReader::new(Cursor::new(stream)).map_err(|_| FlacError::Stream)?;
    let info = reader.streaminfo();
    let channels = usize::try_from(info.channels).map_err(|_| FlacError::Stream)?;
    let expected = info.samples.ok_or(FlacError::Stream)?;
    if channels == 0 || expected > SAMPLES_MAX as u64 {
        return Err(FlacError::Stream);
    }
    let samples = reader.samples().collect::<Result<Vec<_>, _>>().map_err(|_| FlacError::Stream)?;
    if samples.len() as u64 != expected * u64::from(info.channels) {
        return Err(FlacError::Stream);
    }
    Ok((channels, samples))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u32, count: usize, bits: u32) -> Vec<i32> {
        let mut state = seed | 1;
        let next = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state as i32) >> (32 - bits)
        };
        core::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn every_short_length_comes_back_bit_for_bit() {
        for frames in 1..80 {
            let samples = noise(7, frames * 8, 20);
            assert_eq!(decode(&encode(&samples, 8, 500).unwrap()).unwrap(), samples, "{frames} frames");
        }
    }

    #[test]
    fn more_than_eight_channels_become_several_streams() {
        let samples = noise(3, 12 * 250, 14);
        let streams = encode(&samples, 12, 250).unwrap();
        assert_eq!(streams.len(), 2);
        assert_eq!(decode(&streams).unwrap(), samples);
    }

    #[test]
    fn extremes_of_24_bits_are_kept_and_wider_ones_refused() {
        let samples = [8_388_607, -8_388_608, 0, 1].repeat(64);
        assert_eq!(decode(&encode(&samples, 1, 1000).unwrap()).unwrap(), samples);
        assert_eq!(encode(&[8_388_608], 1, 1000), Err(FlacError::Width));
    }

    #[test]
    fn what_is_no_whole_number_of_frames_is_refused() {
        assert_eq!(encode(&[1, 2, 3], 2, 500), Err(FlacError::Shape));
        assert_eq!(encode(&[], 1, 500), Err(FlacError::Shape));
        assert_eq!(encode(&[1], 0, 500), Err(FlacError::Shape));
    }

    #[test]
    fn a_damaged_or_cut_stream_is_an_error_and_no_panic() {
        let stream = encode(&noise(9, 8 * 200, 18), 8, 500).unwrap().remove(0);
        for length in 0..stream.len() {
            assert!(decode(&[&stream[..length]]).is_err(), "{length} octets");
        }
        for at in (0..stream.len()).step_by(7) {
            let mut damaged = stream.clone();
            damaged[at] ^= 0x10;
            let _ = decode(&[damaged]);
        }
    }

    #[test]
    fn a_file_of_many_blocks_and_its_comments_come_back() {
        for frames in [1, 31, 32, 4_095, 4_096, 4_097, 4_100, 9_000] {
            for bits in [16, 24] {
                let comments = vec![(String::from("LEADS"), String::from("I,II,V1"))];
                let file = File { channels: 3, bits, rate_hz: 500, samples: noise(5, frames * 3, bits - 1), comments };
                let octets = file.encode().unwrap();
                assert_eq!(File::decode(&octets, 30_000).as_ref(), Ok(&file), "{frames} frames");
                assert_eq!(file.comment("leads"), Some("I,II,V1"));
                assert_eq!(File::decode(&octets, frames * 3 - 1), Err(FlacError::Stream));
            }
        }
        let wide = File { channels: 1, bits: 16, rate_hz: 500, samples: vec![40_000], comments: Vec::new() };
        assert_eq!(wide.encode(), Err(FlacError::Width));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_samples_come_back(samples in proptest::collection::vec(-8_388_608_i32..8_388_608, 1..600)) {
            prop_assert_eq!(decode(&encode(&samples, 1, 75).unwrap()).unwrap(), samples);
        }

        #[test]
        fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = File::decode(&octets, 1000);
            let _ = decode(&[octets]);
        }
    }
}
