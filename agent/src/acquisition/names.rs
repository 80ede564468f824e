//! What stands for a measurement or a recording, so that the same one sent again is known: material for the kit's HMAC.

use kit_protocol::moment::Moment;
use kit_protocol::reading::{Kind, Memory, RecordingHead};
use kit_protocol::uplink::wire;

/// Of a measurement that a device gave neither number nor time: its reception. It is never merged with another one, but an
/// append that the disk failed in the middle of can be tried again without a double.
pub(super) fn reception(device: &str, clock: &wire::Clock, received: Moment, digest: &[u8; 32]) -> Vec<u8> {
    [device.as_bytes(), &[0, 3], &clock.boot_id, &received.as_nanos().to_be_bytes(), digest].concat()
}

/// Of a recording that a device or a file holds; `None` where nothing names it. `file` is its digest, and which of its
/// recordings it is; `digest` that of the octets that the device would send again.
pub(super) fn recording(
    device: &str,
    head: &RecordingHead,
    file: Option<(&[u8; 32], u32)>,
    digest: Option<&[u8; 32]>,
) -> Option<Vec<u8>> {
    let name = match (file, head.memory) {
        (Some((file, number)), _) => [&file[..], &number.to_be_bytes()].concat(),
        (None, Memory::Stored) => in_memory(head, digest)?,
        (None, Memory::Live) => return None,
    };
    let mut material = [device.as_bytes(), &[0, 4], head.kind.name().as_bytes(), &[0]].concat();
    material.extend(name);
    for channel in &head.channels {
        material.extend(channel.code.0.to_be_bytes());
    }
    Some(material)
}

/// Time, number and octets, as far as the device gives them.
fn in_memory(head: &RecordingHead, digest: Option<&[u8; 32]>) -> Option<Vec<u8>> {
    let mut name = head.device_time.map(|time| time.encode().to_vec()).unwrap_or_default();
    if let Some(record) = head.record {
        name.push(1);
        name.extend(record.to_be_bytes());
    }
    if let Some(digest) = digest {
        name.push(2);
        name.extend(digest);
    }
    (!name.is_empty()).then_some(name)
}

/// Of what a device shows until it measures again, without number or time.
pub(super) fn shown(device: &str, kind: Kind, digest: &[u8; 32]) -> Vec<u8> {
    [device.as_bytes(), &[0, 5], kind.name().as_bytes(), &[0], digest].concat()
}
