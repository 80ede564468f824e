//! The small files of an epoch beside its database.
//!
//! ```text
//! key       its root key, wrapped under the kit's key-encryption key; rewrapped alone
//! about     sealed: its place among the epochs, assignment, reason, the epoch before it
//! runs      64 octets an opening: run, salt, algorithm, boot; appended and synced before the first seal under it
//! summary   sealed, of an epoch that takes no appends: what listings and the planner ask for, so that it need not be opened
//! ```
//!
//! Salts live here and not in the database, so that they outlive a generation of it and are there when it is damaged.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use kit_protocol::uplink::id::{BootId, EpochId, Lane, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use prost::Message;

use super::files::{self, disk_error};
use super::outbox::{LaneView, StoreError};
use super::seal::{Algorithm, EpochSeal, Kek, SALT_OCTETS, SealError, check_octets, fill_random};

/// Octets of one entry of `runs`.
const RUN_OCTETS: usize = 64;
const RUN_VERSION: u8 = 1;
const CHECK_OCTETS: usize = 6;

/// What is true of an epoch from its first moment.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct About {
    /// Its place in the order of this kit's epochs, from 1.
    #[prost(uint64, tag = "1")]
    pub(crate) ordinal: u64,
    /// The assignment's id; absent in the `none` epoch.
    #[prost(string, optional, tag = "2")]
    pub(crate) assignment: Option<String>,
    /// Why it was opened: [`wire::EpochReason`].
    #[prost(int32, tag = "3")]
    pub(crate) reason: i32,
    /// The epoch that was open before it; empty for the first.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) previous: Vec<u8>,
}

/// What is kept of an epoch that takes no appends.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Summary {
    #[prost(message, repeated, tag = "1")]
    lanes: Vec<LaneSummary>,
    #[prost(message, repeated, tag = "2")]
    quarantined: Vec<QuarantineSummary>,
    /// How long the kit had run when all of it was settled, nanoseconds.
    #[prost(uint64, optional, tag = "3")]
    pub(crate) settled_at: Option<u64>,
    /// And when the last record of its oldest file of plan recordings came.
    #[prost(uint64, optional, tag = "4")]
    pub(crate) oldest_plan: Option<u64>,
    /// The same of continuous waveforms.
    #[prost(uint64, optional, tag = "5")]
    pub(crate) oldest_continuous: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct LaneSummary {
    #[prost(message, optional, tag = "1")]
    settled: Option<wire::LaneSettlement>,
    #[prost(uint64, tag = "2")]
    oldest: u64,
    #[prost(uint64, tag = "3")]
    next: u64,
    #[prost(uint64, tag = "4")]
    octets: u64,
}

#[derive(Clone, PartialEq, Message)]
struct QuarantineSummary {
    #[prost(int32, tag = "1")]
    lane: i32,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(string, tag = "3")]
    reason: String,
}

/// One opening of the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its id.
    pub(crate) id: RunId,
    /// Of its key.
    pub(crate) salt: [u8; SALT_OCTETS],
    /// Of its key.
    pub(crate) algorithm: Algorithm,
    /// In which boot it was opened.
    pub(crate) boot: BootId,
}

impl Summary {
    /// Of these lanes, in the order of [`Lane::ALL`], and these quarantined numbers.
    pub(crate) fn new(epoch: EpochId, lanes: &[LaneView; 4], quarantined: &[(Lane, u64, String)]) -> Self {
        let lane_summary = |lane: Lane| {
            let view = &lanes[lane.index()];
            LaneSummary {
                settled: Some(view.settled.to_wire(epoch, lane)),
                oldest: view.oldest,
                next: view.next,
                octets: view.octets,
            }
        };
        Self {
            lanes: Lane::ALL.into_iter().map(lane_summary).collect(),
            quarantined: quarantined
                .iter()
                .map(|(lane, seq, reason)| QuarantineSummary { lane: lane.to_wire().into(), seq: *seq, reason: reason.clone() })
                .collect(),
            ..Self::default()
        }
    }

    /// The lanes, as they were.
    pub(crate) fn lanes(&self) -> [LaneView; 4] {
        Lane::ALL.map(|lane| {
            self.lanes.get(lane.index()).map_or_else(LaneView::default, |summary| LaneView {
                oldest: summary.oldest,
                next: summary.next,
                settled: summary.settled.as_ref().map(Settlement::from_wire).unwrap_or_default(),
                octets: summary.octets,
            })
        })
    }

    /// Quarantined numbers with their reasons.
    pub(crate) fn quarantined(&self) -> impl Iterator<Item = (Lane, u64, &str)> {
        self.quarantined.iter().filter_map(|one| Lane::from_wire(one.lane).map(|lane| (lane, one.seq, one.reason.as_str())))
    }
}

/// Writes `key` and `about` of a fresh epoch into `dir`.
pub(crate) fn write_identity(dir: &Path, seal: &EpochSeal, kek: &Kek, about: &About) -> Result<(), StoreError> {
    let wrapped = seal.wrap(kek).map_err(no_random)?;
    files::replace(&dir.join("key"), &wrapped).map_err(|error| disk_error("key", &error))?;
    write_sealed(dir, "about", seal, about)
}

/// The summary, where there is one that opens.
pub(crate) fn read_summary(dir: &Path, seal: &EpochSeal) -> Option<Summary> {
    read_sealed(dir, "summary", seal)
}

/// What `about` holds; `None` where it is missing or does not open.
pub(crate) fn read_about(dir: &Path, seal: &EpochSeal) -> Option<About> {
    read_sealed(dir, "about", seal)
}

/// Puts the summary in place.
pub(crate) fn write_summary(dir: &Path, seal: &EpochSeal, summary: &Summary) -> Result<(), StoreError> {
    write_sealed(dir, "summary", seal, summary)
}

/// Every opening of the epoch, by its index; `None` where the entry is damaged and its records do not open any more.
pub(crate) fn read_runs(dir: &Path) -> Result<Vec<Option<Run>>, StoreError> {
    let octets = files::read(&dir.join("runs")).map_err(|error| disk_error("runs", &error))?.unwrap_or_default();
    Ok(octets.chunks_exact(RUN_OCTETS).map(decode_run).collect())
}

/// Draws a run, which becomes the entry `index` of `runs`, and returns once it is on the disk.
pub(crate) fn draw_run(dir: &Path, index: usize, boot: BootId) -> Result<Run, StoreError> {
    let mut run = Run { id: RunId([0; 8]), salt: [0; SALT_OCTETS], algorithm: Algorithm::of_this_processor(), boot };
    fill_random(&mut run.id.0).map_err(no_random)?;
    fill_random(&mut run.salt).map_err(no_random)?;
    append_run(&dir.join("runs"), index, &encode_run(&run)).map_err(|error| disk_error("runs", &error))?;
    Ok(run)
}

/// What the store says where the operating system gives no random octets.
pub(crate) fn no_random(error: SealError) -> StoreError {
    StoreError::Broken(error.to_string())
}

fn append_run(path: &Path, index: usize, entry: &[u8; RUN_OCTETS]) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = files::open_or_create(path)?;
    // What stands past the last whole entry is the torn write of an opening that sealed nothing.
    let start = u64::try_from(index * RUN_OCTETS).map_err(io::Error::other)?;
    file.set_len(start)?;
    file.write_all_at(entry, start)?;
    file.flush()?;
    file.sync_all()?;
    if is_new { files::sync_parent(path) } else { Ok(()) }
}

/// Shape: run (8) · salt (32) · algorithm (1) · version (1) · boot (16) · first 6 octets of SHA-256 of what stands before.
fn encode_run(run: &Run) -> [u8; RUN_OCTETS] {
    let mut entry = [0; RUN_OCTETS];
    entry[..8].copy_from_slice(&run.id.0);
    entry[8..40].copy_from_slice(&run.salt);
    entry[40] = run.algorithm.to_octet();
    entry[41] = RUN_VERSION;
    entry[42..58].copy_from_slice(&run.boot.0);
    let check: [u8; CHECK_OCTETS] = check_octets(&entry[..58]);
    entry[58..].copy_from_slice(&check);
    entry
}

fn decode_run(entry: &[u8]) -> Option<Run> {
    let (body, check) = entry.split_at_checked(RUN_OCTETS - CHECK_OCTETS)?;
    if check_octets::<CHECK_OCTETS>(body) != check || body.get(41) != Some(&RUN_VERSION) {
        return None;
    }
    Some(Run {
        id: RunId::from_slice(body.get(..8)?)?,
        salt: body.get(8..40)?.try_into().ok()?,
        algorithm: Algorithm::from_octet(*body.get(40)?)?,
        boot: BootId::from_slice(body.get(42..58)?)?,
    })
}

fn write_sealed(dir: &Path, name: &str, seal: &EpochSeal, message: &impl Message) -> Result<(), StoreError> {
    let sealed = seal.seal_loose(name.as_bytes(), &message.encode_to_vec()).map_err(no_random)?;
    files::replace(&dir.join(name), &sealed).map_err(|error| disk_error(name, &error))
}

fn read_sealed<M: Message + Default>(dir: &Path, name: &str, seal: &EpochSeal) -> Option<M> {
    let sealed = files::read(&dir.join(name)).ok()??;
    M::decode(seal.open_loose(name.as_bytes(), &sealed).ok()?.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BOOT: BootId = BootId([3; 16]);

    #[test]
    fn runs_are_kept_and_a_torn_one_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let first = draw_run(dir.path(), 0, BOOT).unwrap();
        let second = draw_run(dir.path(), 1, BOOT).unwrap();
        assert_ne!(first.id, second.id);
        assert_ne!(first.salt, second.salt);
        let path = dir.path().join("runs");
        let mut octets = fs::read(&path).unwrap();
        octets.extend_from_slice(&[9; 10]);
        fs::write(&path, &octets).unwrap();
        assert_eq!(read_runs(dir.path()).unwrap(), [Some(first), Some(second)]);
        let third = draw_run(dir.path(), 2, BOOT).unwrap();
        assert_eq!(read_runs(dir.path()).unwrap(), [Some(first), Some(second), Some(third)]);
    }

    #[test]
    fn a_flipped_bit_costs_one_run_only() {
        let dir = tempfile::tempdir().unwrap();
        draw_run(dir.path(), 0, BOOT).unwrap();
        let second = draw_run(dir.path(), 1, BOOT).unwrap();
        let path = dir.path().join("runs");
        let mut octets = fs::read(&path).unwrap();
        octets[20] ^= 1;
        fs::write(&path, &octets).unwrap();
        assert_eq!(read_runs(dir.path()).unwrap(), [None, Some(second)]);
    }

    #[test]
    fn a_summary_is_read_back_and_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = EpochId([1; 16]);
        let seal = EpochSeal::fresh(&"KIT-0001".parse().unwrap(), epoch).unwrap();
        let mut lanes: [LaneView; 4] = Default::default();
        lanes[1] = LaneView { oldest: 4, next: 9, settled: Settlement::upto(3, Some(RunId([2; 8]))), octets: 800 };
        let summary = Summary::new(epoch, &lanes, &[(Lane::Vitals, 5, "too big for the broker".into())]);
        write_summary(dir.path(), &seal, &summary).unwrap();
        let read = read_summary(dir.path(), &seal).unwrap();
        assert_eq!(read.lanes(), lanes);
        assert_eq!(read.quarantined().collect::<Vec<_>>(), [(Lane::Vitals, 5, "too big for the broker")]);
        let octets = fs::read(dir.path().join("summary")).unwrap();
        assert!(!octets.windows(7).any(|window| window == b"too big"));
    }
}
