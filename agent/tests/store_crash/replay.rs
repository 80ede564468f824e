//! Replays a record of writes up to a power cut.
//!
//! The model is that of ext4 with ordered data: a file's data is durable once an fsync of that file that began after the write
//! has ended; what is younger survives per 4 KiB with a chance drawn for the cut. Names and lengths are a journal in order:
//! durable up to the last fsync of any file that ended, and a random stretch of the rest. `sync_file_range` counts for
//! nothing. It is a model, not a proof.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

const HEADER_OCTETS: usize = 33;
const PAGE_OCTETS: usize = 4_096;

/// One thing the process did.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    kind: u8,
    name: String,
    other: String,
    offset: u64,
    pub(crate) data: Vec<u8>,
}

impl Op {
    /// The process told something on its standard output.
    pub(crate) fn is_told(&self) -> bool {
        self.kind == b'A'
    }
}

/// A directory as a cut left it: names of directories, and of files with what they hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    directories: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Puts it on the disk in place of what was there.
    pub(crate) fn write(&self, dir: &Path) {
        fs::remove_dir_all(dir).or_else(|error| if dir.exists() { Err(error) } else { Ok(()) }).unwrap();
        fs::create_dir_all(dir).unwrap();
        for name in &self.directories {
            fs::create_dir_all(name).unwrap();
        }
        for (name, octets) in &self.files {
            // A file whose directory did not survive is gone with it.
            if PathBuf::from(name).parent().is_some_and(Path::exists) {
                fs::write(name, octets).unwrap();
            }
        }
    }
}

/// Reads a log; an entry that the process's end cut off is left out.
pub(crate) fn load(log: &Path) -> Vec<Op> {
    let octets = fs::read(log).unwrap();
    let mut rest = octets.as_slice();
    let mut ops = Vec::new();
    while rest.len() >= HEADER_OCTETS {
        let number = |at: usize| u64::from_le_bytes(rest[at..at + 8].try_into().unwrap());
        let length = |at: usize| usize::try_from(u32::from_le_bytes(rest[at..at + 4].try_into().unwrap())).unwrap();
        let (name, other, data) = (length(1), length(5), usize::try_from(number(25)).unwrap());
        if rest.len() < HEADER_OCTETS + name + other + data {
            break;
        }
        let body = &rest[HEADER_OCTETS..];
        ops.push(Op {
            kind: rest[0],
            name: String::from_utf8(body[..name].to_vec()).unwrap(),
            other: String::from_utf8(body[name..name + other].to_vec()).unwrap(),
            offset: number(9),
            data: body[name + other..name + other + data].to_vec(),
        });
        rest = &body[name + other + data..];
    }
    ops
}

/// Which file a name means, as the process saw it.
#[derive(Default)]
struct Names {
    of: HashMap<String, usize>,
}

impl Names {
    fn rename(&mut self, from: &str, to: &str) {
        let inside = format!("{from}/");
        let moved: Vec<_> = self.of.keys().filter(|name| *name == from || name.starts_with(&inside)).cloned().collect();
        for name in moved {
            if let Some(file) = self.of.remove(&name) {
                self.of.insert(format!("{to}{}", &name[from.len()..]), file);
            }
        }
    }
}

/// What a power cut after the first `upto` of `ops` leaves of what they did to `base`.
pub(crate) fn cut(base: &Image, ops: &[Op], upto: usize, random: &mut fastrand::Rng) -> Image {
    let mut names = Names::default();
    let mut writes: Vec<Vec<usize>> = Vec::new();
    let mut synced: Vec<usize> = Vec::new();
    let mut created: HashMap<usize, usize> = HashMap::new();
    let mut bases: HashMap<usize, Vec<u8>> = HashMap::new();
    for (name, octets) in &base.files {
        bases.insert(writes.len(), octets.clone());
        names.of.insert(name.clone(), writes.len());
        writes.push(Vec::new());
        synced.push(0);
    }
    let mut begun: HashMap<u64, (usize, Option<usize>)> = HashMap::new();
    let mut durable = 0;
    for (index, op) in ops.iter().enumerate().take(upto) {
        let file = names.of.get(&op.name).copied();
        match op.kind {
            b'C' => {
                names.of.insert(op.name.clone(), writes.len());
                created.insert(index, writes.len());
                writes.push(Vec::new());
                synced.push(0);
            }
            b'N' => names.rename(&op.name, &op.other),
            b'U' => drop(names.of.remove(&op.name)),
            b'W' | b'L' | b'T' | b'P' => {
                if let Some(file) = file {
                    writes[file].push(index);
                }
            }
            b's' => drop(begun.insert(op.offset, (index, file))),
            b'S' => {
                if let Some((since, file)) = begun.remove(&op.offset) {
                    durable = durable.max(since);
                    if let Some(file) = file {
                        synced[file] = synced[file].max(since);
                    }
                }
            }
            _ => {}
        }
    }
    let journal = if random.f64() < 0.7 { durable + random.usize(0..=upto - durable) } else { durable };
    let chance = [0.0, 0.5, 0.9][random.usize(0..3)];
    let names = names_at(base, ops, journal, &created);
    let mut image = Image { directories: names.1, files: BTreeMap::new() };
    for (name, file) in names.0.of {
        let mut octets = bases.get(&file).cloned().unwrap_or_default();
        for index in &writes[file] {
            let is_durable = *index < synced[file];
            apply(&mut octets, &ops[*index], is_durable, *index <= journal, chance, random);
        }
        image.files.insert(name, octets);
    }
    image
}

/// Names and directories as the journal up to `journal` has them.
fn names_at(base: &Image, ops: &[Op], journal: usize, created: &HashMap<usize, usize>) -> (Names, Vec<String>) {
    let mut names = Names::default();
    let mut directories = base.directories.clone();
    for (file, name) in base.files.keys().enumerate() {
        names.of.insert(name.clone(), file);
    }
    for (index, op) in ops.iter().enumerate().take(journal + 1) {
        match op.kind {
            b'C' => {
                if let Some(file) = created.get(&index) {
                    names.of.insert(op.name.clone(), *file);
                }
            }
            b'M' => directories.push(op.name.clone()),
            b'N' => {
                names.rename(&op.name, &op.other);
                let inside = format!("{}/", op.name);
                for directory in &mut directories {
                    if *directory == op.name || directory.starts_with(&inside) {
                        *directory = format!("{}{}", op.other, &directory[op.name.len()..]);
                    }
                }
            }
            b'U' => drop(names.of.remove(&op.name)),
            _ => {}
        }
    }
    (names, directories)
}

fn apply(octets: &mut Vec<u8>, op: &Op, is_durable: bool, is_journalled: bool, chance: f64, random: &mut fastrand::Rng) {
    let offset = usize::try_from(op.offset).unwrap();
    match op.kind {
        b'W' => {
            let mut done = 0;
            while done < op.data.len() {
                let at = offset + done;
                let end = op.data.len().min(done + PAGE_OCTETS - at % PAGE_OCTETS);
                if is_durable || random.f64() < chance {
                    if octets.len() < offset + end {
                        octets.resize(offset + end, 0);
                    }
                    octets[at..offset + end].copy_from_slice(&op.data[done..end]);
                }
                done = end;
            }
        }
        _ if !(is_durable || is_journalled) => {}
        b'T' => octets.clear(),
        b'L' => octets.resize(offset, 0),
        _ => octets.resize(octets.len().max(offset), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(kind: u8, name: &str, offset: u64, data: &[u8]) -> Op {
        Op { kind, name: name.into(), other: String::new(), offset, data: data.to_vec() }
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_what_was_not_sometimes_does_not() {
        let ops = [
            op(b'C', "/d/a", 0, b""),
            op(b'W', "/d/a", 0, b"synced"),
            op(b's', "/d/a", 1, b""),
            op(b'S', "/d/a", 1, b""),
            op(b'W', "/d/a", 0, b"LATER!"),
        ];
        let mut random = fastrand::Rng::with_seed(1);
        let mut seen: Vec<Vec<u8>> =
            (0..100).map(|_| cut(&Image::default(), &ops, ops.len(), &mut random).files["/d/a"].clone()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [b"LATER!".to_vec(), b"synced".to_vec()]);
        let before_the_sync: Vec<_> =
            (0..100).map(|_| cut(&Image::default(), &ops, 2, &mut random).files.get("/d/a").cloned()).collect();
        assert!(before_the_sync.contains(&Some(Vec::new())));
    }
}
