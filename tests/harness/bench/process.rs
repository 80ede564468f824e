//! What a process uses, as `/proc` tells it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Failure;

/// Memory of a process, KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size.
    pub pss: u64,
    /// Of it anonymous: heap, stacks, written data.
    pub anonymous: u64,
    /// Of it file-backed: program and libraries.
    pub file: u64,
}

/// Memory of the process.
pub fn memory(process: u32) -> Result<Memory, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    Ok(Memory { pss: kib(&text, "Pss:")?, anonymous: kib(&text, "Pss_Anon:")?, file: kib(&text, "Pss_File:")? })
}

fn kib(text: &str, name: &str) -> Result<u64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("the kernel does not tell of memory")?;
    Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
}

/// CPU time of the process, user and system; the kernel counts in hundredths of a second.
pub fn cpu(process: u32) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The program's name stands in brackets and may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| -> Result<u64, Failure> { Ok(fields.get(at).copied().unwrap_or_default().parse()?) };
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Octets that the process handed to write(2) and its kin: to files, sockets and pipes.
pub fn written(process: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/io"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).ok_or("the kernel does not tell of writes")?;
    Ok(line.parse()?)
}

/// Its threads by name.
pub fn threads(process: u32) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))? {
        names.push(std::fs::read_to_string(entry?.path().join("comm"))?.trim().to_owned());
    }
    names.sort();
    Ok(names)
}

/// Proportional set size by mapping, KiB, largest first: files by name and rights, the heap, stacks, and other anonymous memory
/// by the size of its mapping.
pub fn mappings(process: u32) -> Result<Vec<(String, u64)>, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            ["Pss:", kib, ..] => *sizes.entry(name.clone()).or_default() += kib.parse::<u64>()?,
            [range, rights, _, _, _, path @ ..] if range.contains('-') => name = mapping_name(range, rights, path.first()),
            _ => {}
        }
    }
    let mut sizes: Vec<_> = sizes.into_iter().filter(|(_, kib)| *kib > 0).collect();
    sizes.sort_by_key(|(_, kib)| std::cmp::Reverse(*kib));
    Ok(sizes)
}

fn mapping_name(range: &str, rights: &str, path: Option<&&str>) -> String {
    if let Some(path) = path {
        return format!("{} {rights}", path.rsplit('/').next().unwrap_or(path));
    }
    let ends = range.split_once('-').map(|(from, to)| (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)));
    match ends {
        Some((Ok(from), Ok(to))) => format!("anonymous, mapped {} KiB, {rights}", (to - from) / 1024),
        _ => "anonymous".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_something_of_everything() {
        let own = std::process::id();
        let memory = memory(own).unwrap();
        assert!(memory.pss >= memory.anonymous && memory.anonymous > 0 && memory.file > 0);
        assert!(mappings(own).unwrap().iter().map(|(_, kib)| kib).sum::<u64>() > 100);
        assert!(!threads(own).unwrap().is_empty());
        assert!(cpu(own).is_ok() && written(own).is_ok());
        assert!(cpu(u32::MAX).is_err() && super::memory(u32::MAX).is_err());
    }
}
