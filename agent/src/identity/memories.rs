//! What this kit knows of each device's memory, whoever is the patient: a small file a device, which survives a wipe (I4).

use std::io;
use std::path::PathBuf;

use prost::Message;
use ring::digest::{SHA256, digest};

use super::secret::{make_directory, write_durably};

/// Measurements known to be another's that are remembered of a device, at most.
pub const REFUSED_MAX: usize = 1_024;

/// What is known of a device's memory and clock. No clinical value stands here.
#[derive(Clone, PartialEq, Message)]
pub struct DeviceMemory {
    /// The highest record number of the last connection that told it; 0 where the memory was empty.
    #[prost(uint64, optional, tag = "1")]
    pub highest: Option<u64>,
    /// Up to this number a record may be an earlier patient's, once so many assignments had ended …
    #[prost(uint64, optional, tag = "2")]
    pub floor: Option<u64>,
    /// … as this says.
    #[prost(uint64, tag = "3")]
    pub ended: u64,
    /// Gateway minus device, seconds, newest last: clocks that the device's records may have been stamped by.
    #[prost(sint64, repeated, tag = "4")]
    pub offsets_s: Vec<i64>,
    /// Origins of measurements that are another's, newest last.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub refused: Vec<Vec<u8>>,
    /// The device's time of the last measurement that was not proven new, seconds …
    #[prost(sint64, optional, tag = "6")]
    pub unproven_s: Option<i64>,
    /// … and the gateway's, when it came.
    #[prost(sint64, optional, tag = "7")]
    pub unproven_received_s: Option<i64>,
}

/// The files, a device each.
#[derive(Clone, Debug)]
pub struct Memories {
    folder: PathBuf,
}

impl Memories {
    /// In a folder of the kit's identity.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What is known of a device; nothing where there is no file. One that cannot be read is nothing known: every record of the
    /// device is then taken for an earlier patient's.
    #[must_use]
    pub fn of(&self, device: &str) -> DeviceMemory {
        match std::fs::read(self.path(device)) {
            Ok(octets) => DeviceMemory::decode(octets.as_slice()).unwrap_or_else(|error| {
                tracing::warn!(device, %error, "what was known of the device's memory is damaged; it is learned anew");
                DeviceMemory::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(device, %error, "what was known of the device's memory cannot be read");
                }
                DeviceMemory::default()
            }
        }
    }

    /// Keeps what is known of a device: whole, and on the disk, before this returns.
    ///
    /// Errors: what the disk says; the file is then as it was.
    pub fn keep(&self, device: &str, memory: &DeviceMemory) -> io::Result<()> {
        if !self.folder.is_dir() {
            make_directory(&self.folder)?;
        }
        write_durably(&self.path(device), &memory.encode_to_vec())
    }

    /// A name that any identity can have.
    fn path(&self, device: &str) -> PathBuf {
        let name: String = digest(&SHA256, device.as_bytes()).as_ref()[..8].iter().map(|octet| format!("{octet:02x}")).collect();
        self.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn i4_what_is_known_of_a_devices_memory_is_kept_a_device_each_and_for_the_agent_only() {
        let folder = tempfile::tempdir().unwrap();
        let memories = Memories::in_folder(folder.path().join("memory"));
        assert_eq!(memories.of("meter"), DeviceMemory::default());
        let known =
            DeviceMemory { highest: Some(50), floor: Some(0), refused: vec![vec![7; 8]; REFUSED_MAX], ..Default::default() };
        memories.keep("meter", &known).unwrap();
        assert_eq!(memories.of("meter"), known);
        assert_eq!(memories.of("Meter"), DeviceMemory::default());
        let mode = std::fs::metadata(memories.path("meter")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(memories.path("meter"), [0xff; 3]).unwrap();
        assert_eq!(memories.of("meter"), DeviceMemory::default(), "damaged: nothing is known");
    }
}
