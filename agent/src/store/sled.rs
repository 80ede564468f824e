//! sled 0.34.7, hardened: the one home of sled.
//!
//! As it comes it is not safe against power cuts: `flush` ends in `sync_file_range`, never in fsync, and neither its `conf`
//! nor its directory is ever synced (spacejam/sled #1452, #1351, #1527). What this file adds, each of it needed:
//!
//! 1. leftovers `snap.*.generating` are removed before opening: an empty one is "Corruption" at every open for ever;
//! 2. after opening, every file, the directory and the one above it are fsynced;
//! 3. a commit is `flush`, **then** fdatasync on a handle of our own on the file `db`; only then is it told;
//! 4. values stay so small that none becomes a file under `blobs/`, which sled never syncs;
//! 5. opening may panic on damage: that is caught, and told apart from a disk that is full, read-only or not ours;
//! 6. one writer, cache 1 MiB, segments of 512 KiB (of the sizes tried, the least memory), garbage collection on.
//!
//! A handle that met an error once is done for (a full disk poisons it for good): the caller drops it and opens again.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use super::block::VALUE_OCTETS_MAX;
use super::files;
use super::outbox::StoreError;

/// Octets of pages that sled keeps in memory, about.
const CACHE_OCTETS: u64 = 1 << 20;
/// Octets of a segment of sled's log; the same for a database's whole life.
const SEGMENT_OCTETS: usize = 512 << 10;
/// How often sled's own thread writes what was not waited for, and collects garbage, milliseconds.
const BACKGROUND_MS: u64 = 500;
/// A database that was just dropped is still locked while sled's threads end: it is waited for so many times so long.
const LOCK_TRIES: u32 = 200;
const LOCK_WAIT: Duration = Duration::from_millis(10);
/// Too many open files, of the machine and of the process: says nothing about what is on the disk.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// The trees of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Tree {
    /// Records of the lane, by [`kit_protocol::uplink::id::Lane::index`]: number of the first → a [`super::block`] of them.
    Lane(u8),
    /// Lane → the number its next record gets. Never emptied, written in every append's commit.
    Next,
    /// Origin → in which order it came.
    Origins,
    /// Name of a mark → its sealed label and value.
    Marks,
    /// Number → its sealed definition.
    Definitions,
    /// Lane → what the centre settled.
    Settled,
    /// Lane and number → last of a span of numbers that were never written and are declared so.
    NeverWritten,
    /// Lane and number → the sealed reason why it is not sent.
    Quarantine,
    /// Lane and number → last of a span of numbers whose records were deleted, and whether a gap names them.
    Gone,
    /// Class and number of a segment file → what is in it, or that it is deleted.
    Files,
    /// What is true of the epoch as a whole: closed, how far numbers were checked, extents of segment files.
    About,
}

impl Tree {
    const ALL: [Self; 14] = [
        Self::Lane(0),
        Self::Lane(1),
        Self::Lane(2),
        Self::Lane(3),
        Self::Next,
        Self::Origins,
        Self::Marks,
        Self::Definitions,
        Self::Settled,
        Self::NeverWritten,
        Self::Quarantine,
        Self::Gone,
        Self::Files,
        Self::About,
    ];

    fn name(self) -> String {
        match self {
            Self::Lane(index) => format!("lane-{index}"),
            Self::Next => "next".into(),
            Self::Origins => "origins".into(),
            Self::Marks => "marks".into(),
            Self::Definitions => "definitions".into(),
            Self::Settled => "settled".into(),
            Self::NeverWritten => "never-written".into(),
            Self::Quarantine => "quarantine".into(),
            Self::Gone => "gone".into(),
            Self::Files => "files".into(),
            Self::About => "about".into(),
        }
    }
}

/// Why a database did not open.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// It will not open again: it is moved aside, never deleted.
    Damaged(String),
    /// The disk does not let us: no room, read-only, not permitted, in use. It may open later.
    Unavailable(StoreError),
}

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Writes that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    batches: BTreeMap<Tree, sled::Batch>,
    largest: usize,
}

impl Commit {
    /// Puts `value` under `key`.
    pub(crate) fn put(&mut self, tree: Tree, key: &[u8], value: &[u8]) {
        self.largest = self.largest.max(value.len());
        self.batches.entry(tree).or_default().insert(key, value);
    }

    /// Takes away what is under `key`.
    pub(crate) fn remove(&mut self, tree: Tree, key: &[u8]) {
        self.batches.entry(tree).or_default().remove(key);
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

/// One database, open.
pub(crate) struct Database {
    path: PathBuf,
    db: sled::Db,
    trees: BTreeMap<Tree, sled::Tree>,
    /// Our own handle on sled's one data file.
    file: File,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.path.display())
    }
}

impl Database {
    /// Opens the database in the directory `path`, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        let unavailable = |error: io::Error| OpenError::Unavailable(files::disk_error("the database's directory", &error));
        files::make_directory(path).map_err(unavailable)?;
        remove_leftovers(path).map_err(unavailable)?;
        let database = Self::open_unlocked(path)?;
        sync_all(path).map_err(unavailable)?;
        if fs::read_dir(path.join("blobs")).map_err(unavailable)?.next().is_some() {
            tracing::error!(database = %path.display(), "a value became a blob file, which no commit makes durable");
        }
        Ok(database)
    }

    /// Does all of `commit` or nothing, and returns once it is on the disk.
    pub(crate) fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        self.write(commit)?;
        self.db.flush().map_err(|error| broken("flush", &error))?;
        // After a failed fsync the kernel may have dropped the pages: whatever the error, this handle is done for.
        self.file.sync_data().map_err(|error| StoreError::Broken(format!("fdatasync: {error}")))
    }

    /// Does all of `commit` or nothing; it is on the disk with the next commit, or when sled's own thread writes it.
    pub(crate) fn write(&self, commit: Commit) -> Result<(), StoreError> {
        if commit.largest > VALUE_OCTETS_MAX {
            return Err(StoreError::TooBig { octets: commit.largest, max: VALUE_OCTETS_MAX });
        }
        let mut trees = Vec::with_capacity(commit.batches.len());
        let mut batches = Vec::with_capacity(commit.batches.len());
        for (tree, batch) in commit.batches {
            trees.push(self.tree(tree)?.clone());
            batches.push(batch);
        }
        if let ([tree], [_]) = (trees.as_slice(), batches.as_slice()) {
            let batch = batches.pop().unwrap_or_default();
            return tree.apply_batch(batch).map_err(|error| broken("write", &error));
        }
        let done = trees.as_slice().transaction(|views| {
            for (view, batch) in views.iter().zip(&batches) {
                view.apply_batch(batch)?;
            }
            Ok::<(), ConflictableTransactionError<()>>(())
        });
        match done {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(broken("write", &error)),
            Err(TransactionError::Abort(())) => Err(StoreError::Broken("the transaction was abandoned".into())),
        }
    }

    /// What is under `key`.
    pub(crate) fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.tree(tree)?.get(key).map_err(|error| broken("read", &error))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// The last pair whose key is `key` or below it.
    pub(crate) fn at_or_below(&self, tree: Tree, key: &[u8]) -> Result<Option<Pair>, StoreError> {
        let found = self.tree(tree)?.range(..=key).next_back();
        found.transpose().map(|pair| pair.map(to_octets)).map_err(|error| broken("read", &error))
    }

    /// Pairs from `key` on, ascending.
    pub(crate) fn from(
        &self,
        tree: Tree,
        key: &[u8],
    ) -> Result<impl Iterator<Item = Result<Pair, StoreError>> + use<>, StoreError> {
        let pairs = self.tree(tree)?.range(key..);
        Ok(pairs.map(|pair| pair.map(to_octets).map_err(|error| broken("read", &error))))
    }

    fn open_unlocked(path: &Path) -> Result<Self, OpenError> {
        let mut tries = 0;
        loop {
            match catch_unwind(AssertUnwindSafe(|| Self::open_trees(path))) {
                Ok(Ok(database)) => return Ok(database),
                Ok(Err(error)) if tries < LOCK_TRIES && is_locked(&error) => {
                    tries += 1;
                    std::thread::sleep(LOCK_WAIT);
                }
                Ok(Err(error)) => return Err(why_not_open(error)),
                Err(panic) => return Err(OpenError::Damaged(format!("sled panicked: {}", panic_text(&*panic)))),
            }
        }
    }

    fn open_trees(path: &Path) -> Result<Self, sled::Error> {
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_OCTETS)
            .segment_size(SEGMENT_OCTETS)
            .flush_every_ms(Some(BACKGROUND_MS));
        let db = config.open()?;
        let mut trees = BTreeMap::new();
        for tree in Tree::ALL {
            trees.insert(tree, db.open_tree(tree.name())?);
        }
        db.flush()?;
        let file = OpenOptions::new().read(true).write(true).open(path.join("db"))?;
        Ok(Self { path: path.to_path_buf(), db, trees, file })
    }

    fn tree(&self, tree: Tree) -> Result<&sled::Tree, StoreError> {
        self.trees.get(&tree).ok_or_else(|| StoreError::Broken(format!("no tree {}", tree.name())))
    }
}

fn to_octets((key, value): (sled::IVec, sled::IVec)) -> Pair {
    (key.to_vec(), value.to_vec())
}

/// Removes what a stop within an earlier recovery left, which sled would take for a snapshot.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    for name in files::names(path)? {
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(path.join(name))?;
        }
    }
    Ok(())
}

fn sync_all(path: &Path) -> io::Result<()> {
    for name in files::names(path)? {
        File::open(path.join(name))?.sync_all()?;
    }
    files::sync_directory(path)?;
    files::sync_parent(path)
}

fn why_not_open(error: sled::Error) -> OpenError {
    let text = error.to_string();
    let is_locked = is_locked(&error);
    let sled::Error::Io(error) = error else { return OpenError::Damaged(text) };
    let is_environment =
        matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::OutOfMemory)
            || error.raw_os_error().is_some_and(|errno| [ENFILE, EMFILE].contains(&errno));
    if files::is_full(&error) {
        OpenError::Unavailable(StoreError::Full(text))
    } else if is_environment || is_locked {
        OpenError::Unavailable(StoreError::Broken(text))
    } else {
        OpenError::Damaged(text)
    }
}

/// sled tells it by its text alone.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn broken(what: &str, error: &sled::Error) -> StoreError {
    StoreError::Broken(format!("{what}: {error}"))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Database {
        Database::open(path).unwrap()
    }

    #[test]
    fn i1_a_commit_is_there_after_reopening_in_all_its_trees() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q-000001");
        let database = open(&path);
        let mut commit = Commit::default();
        commit.put(Tree::Lane(1), &1_u64.to_be_bytes(), b"record");
        commit.put(Tree::Next, &[1], &2_u64.to_be_bytes());
        database.commit(commit).unwrap();
        drop(database);
        let database = open(&path);
        assert_eq!(database.get(Tree::Lane(1), &1_u64.to_be_bytes()).unwrap().as_deref(), Some(b"record".as_slice()));
        assert_eq!(database.get(Tree::Next, &[1]).unwrap().as_deref(), Some(2_u64.to_be_bytes().as_slice()));
    }

    #[test]
    fn a_leftover_of_an_interrupted_recovery_does_not_keep_it_from_opening() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q-000001");
        drop(open(&path));
        fs::write(path.join("snap.00000000000000FF.generating"), b"").unwrap();
        drop(open(&path));
    }

    #[test]
    fn values_of_the_largest_size_never_become_blob_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q-000001");
        let database = open(&path);
        let value = vec![0x5A; VALUE_OCTETS_MAX];
        for group in 0_u64..10 {
            let mut commit = Commit::default();
            for seq in group * 40..group * 40 + 40 {
                commit.put(Tree::Lane(0), &seq.to_be_bytes(), &value);
            }
            commit.put(Tree::Next, &[0], &(group * 40 + 40).to_be_bytes());
            database.commit(commit).unwrap();
        }
        assert_eq!(files::names(&path.join("blobs")).unwrap(), Vec::<String>::new());
        let mut commit = Commit::default();
        commit.put(Tree::Lane(0), b"k", &vec![0; VALUE_OCTETS_MAX + 1]);
        assert!(matches!(database.commit(commit), Err(StoreError::TooBig { .. })));
    }

    #[test]
    fn damage_is_told_apart_and_does_not_panic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q-000001");
        let database = open(&path);
        let mut commit = Commit::default();
        commit.put(Tree::Next, &[1], &2_u64.to_be_bytes());
        database.commit(commit).unwrap();
        drop(database);
        fs::write(path.join("conf"), b"segment_size: nonsense\n....").unwrap();
        assert!(matches!(Database::open(&path), Err(OpenError::Damaged(_))));
    }
}
