//! Segments of waveforms in append-only files: sealed, synced before the database is told of them.
//!
//! Shape of a file: frames, one after another. A frame is magic (2) · version (1) · lane (1) · schema (1) · reserved (1) ·
//! length (u16) · run (8) · seq (u64) · sealed octets; big-endian. The header repeats what the index knows, so that a file can
//! be salvaged without it. The database holds how far each kind of file was committed: what lies past that is a torn tail and
//! is cut at open; what is shorter has lost records, which turn out unreadable one by one. It also holds what is in each file
//! ([`Contents`]), so that a file whose records are all settled can be deleted whole.
//!
//! In the database itself the same segments would cost six times the writes and 50–90 MB of memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kit_protocol::uplink::id::RunId;

use super::block::Pointer;
use super::files;
use super::outbox::{Class, SEGMENT_SEALED_OCTETS_MAX};
use super::seal::{Place, lane_octet};

/// A file takes no frame past this size, octets.
pub(crate) const FILE_OCTETS_MAX: u64 = 8 << 20;
const HEADER_OCTETS: usize = 24;
const MAGIC: [u8; 2] = *b"ts";
const VERSION: u8 = 1;

/// How far one kind of file is committed: the last file's number and its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of the last file, from 1.
    pub(crate) file: u32,
    /// Octets of it that are committed.
    pub(crate) end: u64,
}

impl Extent {
    const NONE: Self = Self { file: 1, end: 0 };
}

/// What is in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// How long the kit had run when its last record came, nanoseconds.
    pub(crate) written: u64,
    /// Octets of the file.
    pub(crate) octets: u64,
    /// First and last number of each lane; zeros where it holds none of it. Numbers between them may lie elsewhere.
    pub(crate) lanes: [(u64, u64); 4],
}

impl Contents {
    const VERSION: u8 = 1;

    /// Shape: version (1) · written (u64) · octets (u64) · first and last of each lane (u64 each); big-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = self.lanes.iter().flat_map(|(first, last)| [*first, *last]);
        let octets = [self.written, self.octets].into_iter().chain(numbers).flat_map(u64::to_be_bytes);
        std::iter::once(Self::VERSION).chain(octets).collect()
    }

    /// `None` where it is none of ours.
    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let (version, rest) = octets.split_first()?;
        let numbers: Vec<u64> =
            rest.chunks_exact(8).filter_map(|octets| octets.try_into().ok().map(u64::from_be_bytes)).collect();
        let [written, octets, a, b, c, d, e, f, g, h] = numbers[..] else { return None };
        let whole = *version == Self::VERSION && rest.len() == 80;
        whole.then_some(Self { written, octets, lanes: [(a, b), (c, d), (e, f), (g, h)] })
    }

    fn take(&mut self, place: Place, end: u64, ran: u64) {
        let (first, last) = &mut self.lanes[place.lane.index()];
        if *first == 0 {
            *first = place.seq;
        }
        *last = place.seq;
        (self.written, self.octets) = (ran, end);
    }
}

/// The files of one class in one epoch.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    dir: PathBuf,
    class: Class,
    /// What is in each file, as the database holds it.
    contents: BTreeMap<u32, Contents>,
    /// And as it is with what was pushed since.
    fresh: BTreeMap<u32, Contents>,
    committed: Extent,
    /// Where the next frame goes.
    tip: Extent,
    /// The last file, once it is written to.
    writer: Option<File>,
    /// Frames that are not yet written, from `tip.end - pending.len()` on.
    pending: Vec<u8>,
    reader: Option<(u32, File)>,
}

impl SegmentFiles {
    /// Opens the files of `class` in `dir`, whose committed extent and contents the database knows, and cuts what lies past it.
    pub(crate) fn open(
        dir: &Path,
        class: Class,
        committed: Option<Extent>,
        contents: BTreeMap<u32, Contents>,
    ) -> io::Result<Self> {
        let committed = committed.unwrap_or(Extent::NONE);
        let mut files = Self {
            dir: dir.to_path_buf(),
            class,
            contents,
            fresh: BTreeMap::new(),
            committed,
            tip: committed,
            writer: None,
            pending: Vec::new(),
            reader: None,
        };
        files.cut()?;
        Ok(files)
    }

    /// Takes one sealed record in, after the kit has run for `ran`, and tells where it will lie. Nothing is on the disk before
    /// [`SegmentFiles::sync`].
    pub(crate) fn push(&mut self, run: RunId, place: Place, sealed: &[u8], ran: u64) -> io::Result<Pointer> {
        let octets = u16::try_from(sealed.len()).ok().filter(|_| sealed.len() <= SEGMENT_SEALED_OCTETS_MAX);
        let octets = octets.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a segment past its bound"))?;
        let frame = u64::try_from(HEADER_OCTETS + sealed.len()).map_err(io::Error::other)?;
        // What is in a file must be known whole, or it could be deleted with something in it.
        let unknown = self.tip.end > 0 && self.known(self.tip.file).is_none();
        if self.tip.end + frame > FILE_OCTETS_MAX || unknown {
            self.sync()?;
            self.leave_tip();
        }
        let offset = u32::try_from(self.tip.end).map_err(io::Error::other)?;
        self.pending.extend_from_slice(&header(run, place, octets));
        self.pending.extend_from_slice(sealed);
        self.tip.end += frame;
        let mut contents = self.known(self.tip.file).unwrap_or_default();
        contents.take(place, self.tip.end, ran);
        self.fresh.insert(self.tip.file, contents);
        Ok(Pointer { class: self.class, file: self.tip.file, offset, octets })
    }

    /// Puts what was pushed on the disk (fdatasync) and tells the extent that is to be committed; `None` where it is the same.
    pub(crate) fn sync(&mut self) -> io::Result<Option<Extent>> {
        if !self.pending.is_empty() {
            let length = u64::try_from(self.pending.len()).map_err(io::Error::other)?;
            let start = self.tip.end.saturating_sub(length);
            let path = self.path(self.tip.file);
            let file = match &mut self.writer {
                Some(file) => file,
                none => none.insert(create(&path)?),
            };
            file.write_all_at(&self.pending, start)?;
            file.sync_data()?;
            self.pending.clear();
        }
        Ok((self.tip != self.committed).then_some(self.tip))
    }

    /// Contents that are to be committed with the extent.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (u32, Contents)> + '_ {
        self.fresh.iter().map(|(file, contents)| (*file, *contents))
    }

    /// What is in every file, the oldest first, as committed.
    pub(crate) fn contents(&self) -> &BTreeMap<u32, Contents> {
        &self.contents
    }

    /// The database holds the extent that [`SegmentFiles::sync`] told, and the fresh contents.
    pub(crate) fn committed(&mut self) {
        self.committed = self.tip;
        self.contents.append(&mut self.fresh);
    }

    /// The files are to go: what is pushed from here on does not go into one of them.
    pub(crate) fn leave(&mut self, files: &[u32]) {
        if files.contains(&self.tip.file) {
            self.leave_tip();
        }
    }

    /// Deletes files that the database says are gone; one that is gone already is none the less.
    pub(crate) fn delete(&mut self, files: &[u32]) -> io::Result<()> {
        for file in files {
            self.contents.remove(file);
            self.reader.take_if(|(number, _)| number == file);
            match fs::remove_file(self.path(*file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        files::sync_directory(&self.dir)
    }

    /// Forgets what was pushed since the last commit.
    pub(crate) fn abandon(&mut self) -> io::Result<()> {
        self.pending.clear();
        self.fresh.clear();
        self.writer = None;
        self.tip = self.committed;
        self.cut()
    }

    /// The sealed octets of the record for `place` under `run`; `None` where the file does not hold it.
    pub(crate) fn read(&mut self, pointer: Pointer, run: RunId, place: Place) -> Option<Vec<u8>> {
        let path = self.path(pointer.file);
        let file = match &mut self.reader {
            Some((number, file)) if *number == pointer.file => file,
            other => &mut other.insert((pointer.file, File::open(path).ok()?)).1,
        };
        let mut frame = vec![0; HEADER_OCTETS + usize::from(pointer.octets)];
        file.read_exact_at(&mut frame, u64::from(pointer.offset)).ok()?;
        let sealed = frame.split_off(HEADER_OCTETS);
        (frame == header(run, place, pointer.octets)).then_some(sealed)
    }

    /// Cuts the torn tail past the committed extent; a file that is shorter than that is left behind for a fresh one.
    fn cut(&mut self) -> io::Result<()> {
        let prefix = prefix(self.class);
        let mut changed = false;
        for name in files::names(&self.dir)? {
            let number = name.strip_prefix(prefix).and_then(|digits| digits.parse::<u32>().ok());
            if number.is_some_and(|number| number > self.committed.file) {
                fs::remove_file(self.dir.join(&name))?;
                changed = true;
            }
        }
        if changed {
            files::sync_directory(&self.dir)?;
        }
        let path = self.path(self.committed.file);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if length > self.committed.end {
            let file = files::open_or_create(&path)?;
            file.set_len(self.committed.end)?;
            file.sync_all()?;
        } else if length < self.committed.end {
            tracing::error!(file = %path.display(), length, committed = self.committed.end, "a segment file lost its tail");
            self.tip = Extent { file: self.committed.file + 1, end: 0 };
        }
        Ok(())
    }

    fn known(&self, file: u32) -> Option<Contents> {
        self.fresh.get(&file).or_else(|| self.contents.get(&file)).copied()
    }

    fn leave_tip(&mut self) {
        self.tip = Extent { file: self.tip.file + 1, end: 0 };
        self.writer = None;
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{}{number:06}", prefix(self.class)))
    }
}

/// Opens a file for appending; a new one has its name made durable, so that its records are not lost with it.
fn create(path: &Path) -> io::Result<File> {
    let is_new = !path.exists();
    let file = files::open_or_create(path)?;
    if is_new {
        file.sync_all()?;
        files::sync_parent(path)?;
    }
    Ok(file)
}

fn prefix(class: Class) -> &'static str {
    match class {
        Class::Value | Class::PlanWaveform => "wp-",
        Class::ContinuousWaveform => "wc-",
    }
}

fn header(run: RunId, place: Place, octets: u16) -> [u8; HEADER_OCTETS] {
    let mut header = [0; HEADER_OCTETS];
    header[..2].copy_from_slice(&MAGIC);
    header[2] = VERSION;
    header[3] = lane_octet(place.lane);
    header[4] = place.schema;
    header[6..8].copy_from_slice(&octets.to_be_bytes());
    header[8..16].copy_from_slice(&run.0);
    header[16..24].copy_from_slice(&place.seq.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use kit_protocol::uplink::id::Lane;

    const RUN: RunId = RunId([5; 8]);

    fn place(seq: u64) -> Place {
        Place { lane: Lane::Waveforms, seq, schema: 1 }
    }

    fn commit(files: &mut SegmentFiles) -> Extent {
        let extent = files.sync().unwrap().unwrap();
        files.committed();
        extent
    }

    #[test]
    fn a_committed_segment_is_read_back_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        let one = files.push(RUN, place(1), b"sealed one", 7).unwrap();
        let two = files.push(RUN, place(2), b"sealed two", 7).unwrap();
        let extent = commit(&mut files);
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, Some(extent), files.contents().clone()).unwrap();
        assert_eq!(files.read(one, RUN, place(1)).unwrap(), b"sealed one");
        assert_eq!(files.read(two, RUN, place(2)).unwrap(), b"sealed two");
        assert_eq!(files.read(two, RUN, place(3)), None, "another record's place");
        let three = files.push(RUN, place(3), b"sealed three", 7).unwrap();
        assert!(three.offset > two.offset);
    }

    #[test]
    fn a_torn_tail_is_cut_at_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        files.push(RUN, place(1), b"sealed one", 7).unwrap();
        let extent = commit(&mut files);
        files.push(RUN, place(2), b"never committed", 7).unwrap();
        files.sync().unwrap();
        fs::write(dir.path().join("wp-000002"), b"nor this").unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, Some(extent), files.contents().clone()).unwrap();
        assert_eq!(fs::metadata(dir.path().join("wp-000001")).unwrap().len(), extent.end);
        assert_eq!(files::names(dir.path()).unwrap(), ["wp-000001"]);
        let two = files.push(RUN, place(2), b"again", 7).unwrap();
        assert_eq!(u64::from(two.offset), extent.end);
    }

    #[test]
    fn a_file_takes_no_more_than_8_mib_and_the_next_follows() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::ContinuousWaveform, None, BTreeMap::new()).unwrap();
        let sealed = vec![7; SEGMENT_SEALED_OCTETS_MAX];
        let count = FILE_OCTETS_MAX / u64::try_from(HEADER_OCTETS + sealed.len()).unwrap();
        let pointers: Vec<_> = (1..=count + 2).map(|seq| files.push(RUN, place(seq), &sealed, 7).unwrap()).collect();
        let extent = commit(&mut files);
        assert_eq!(extent.file, 2);
        assert!(fs::metadata(dir.path().join("wc-000001")).unwrap().len() <= FILE_OCTETS_MAX);
        for (seq, pointer) in (1..).zip(&pointers) {
            assert_eq!(files.read(*pointer, RUN, place(seq)).as_deref(), Some(sealed.as_slice()), "{seq}");
        }
    }

    #[test]
    fn what_was_abandoned_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        files.push(RUN, place(1), b"sealed one", 7).unwrap();
        let extent = commit(&mut files);
        files.push(RUN, place(2), b"two", 7).unwrap();
        files.sync().unwrap();
        files.abandon().unwrap();
        assert_eq!(fs::metadata(dir.path().join("wp-000001")).unwrap().len(), extent.end);
        assert_eq!(files.sync().unwrap(), None);
    }

    #[test]
    fn a_file_that_lost_its_tail_is_left_behind_for_a_fresh_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        let one = files.push(RUN, place(1), b"sealed one", 7).unwrap();
        let two = files.push(RUN, place(2), b"sealed two", 7).unwrap();
        let extent = commit(&mut files);
        File::options().write(true).open(dir.path().join("wp-000001")).unwrap().set_len(extent.end - 3).unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, Some(extent), files.contents().clone()).unwrap();
        assert!(files.read(one, RUN, place(1)).is_some());
        assert_eq!(files.read(two, RUN, place(2)), None);
        assert_eq!(files.push(RUN, place(3), b"three", 7).unwrap().file, 2);
    }

    #[test]
    fn a_segment_past_the_bound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        assert!(files.push(RUN, place(1), &vec![0; SEGMENT_SEALED_OCTETS_MAX + 1], 7).is_err());
    }

    #[test]
    fn contents_are_known_whole_or_a_fresh_file_begins() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        files.push(RUN, place(3), b"one", 5).unwrap();
        files.push(RUN, Place { lane: Lane::Urgent, ..place(9) }, b"two", 6).unwrap();
        assert_eq!(files.contents().len(), 0, "not before the commit");
        let extent = commit(&mut files);
        let known = files.contents().clone();
        let one = known[&1];
        assert_eq!((one.written, one.octets), (6, extent.end));
        assert_eq!((one.lanes[Lane::Waveforms.index()], one.lanes[Lane::Urgent.index()]), ((3, 3), (9, 9)));
        assert_eq!(Contents::decode(&one.encode()), Some(one));
        assert_eq!(Contents::decode(&one.encode()[..80]), None);
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, Some(extent), BTreeMap::new()).unwrap();
        assert_eq!(files.push(RUN, place(4), b"three", 7).unwrap().file, 2, "what is in the first is not known");
        files.abandon().unwrap();
        assert_eq!(files.push(RUN, place(5), b"four", 7).unwrap().file, 2);
    }

    #[test]
    fn a_file_is_deleted_and_the_next_record_goes_into_another() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = SegmentFiles::open(dir.path(), Class::PlanWaveform, None, BTreeMap::new()).unwrap();
        let one = files.push(RUN, place(1), b"one", 5).unwrap();
        commit(&mut files);
        assert!(files.read(one, RUN, place(1)).is_some());
        files.leave(&[1]);
        let extent = commit(&mut files);
        assert_eq!(extent, Extent { file: 2, end: 0 });
        for _ in 0..2 {
            files.delete(&[1]).unwrap();
            assert_eq!(files::names(dir.path()).unwrap(), Vec::<String>::new());
        }
        assert_eq!(files.read(one, RUN, place(1)), None, "no handle holds its room");
        assert_eq!(files.push(RUN, place(2), b"two", 5).unwrap().file, 2);
        assert_eq!(files.contents().len(), 0);
    }
}
