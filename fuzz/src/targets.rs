//! The targets: from the driver table, from the table of characteristics, those that only the wire has, and round trips.

use device_drivers::decode::{self, Input, Options};
use device_drivers::driver::{Driver, Link};
use device_drivers::exercise::exercise;
use device_drivers::registry::DRIVERS;
use kit_protocol::flac;
use uuid::Uuid;

use crate::round_trips;

/// What one target does with octets; it panics where a promise is broken.
type Run = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A fuzz target.
pub struct Target {
    /// `session-<driver>`, `decode-<driver>`, `characteristic-<number>`, `file-<format>`, or its own name.
    pub name: String,
    /// What it does.
    pub run: Run,
}

pub(crate) fn target(name: impl Into<String>, run: impl Fn(&[u8]) + Send + Sync + 'static) -> Target {
    Target { name: name.into(), run: Box::new(run) }
}

/// Every target.
pub fn all() -> impl Iterator<Item = Target> {
    let sessions = DRIVERS.iter().map(|driver| target(format!("session-{}", driver.name), |octets| exercise(driver, octets)));
    let decoded = DRIVERS.iter().map(|driver| target(format!("decode-{}", driver.name), |octets| decoded(driver, octets)));
    let characteristics = decode::characteristics().map(|uuid| {
        let number = (uuid.as_u128() >> 96) & 0xffff;
        target(format!("characteristic-{number:04x}"), move |octets| {
            let lines = lines(None, Some(uuid), &Input::Notifications(vec![octets.to_vec()]));
            assert_eq!(lines, Some(1), "a value is a measurement or a refusal");
        })
    });
    sessions.chain(decoded).chain(characteristics).chain([target("flac", flac)]).chain(round_trips::all())
}

/// The octets as the line or the file gives them, and as notifications of each characteristic that the driver listens to.
fn decoded(driver: &Driver, octets: &[u8]) {
    // A notification of one octet may end what was not whole, and be wrong itself.
    let bounded = |count: Option<usize>| assert!(count.unwrap_or(0) <= 2 * octets.len() + 16, "more lines than octets");
    if driver.links.iter().any(|link| !matches!(link, Link::Ble { .. })) {
        bounded(lines(Some(driver), None, &Input::Stream(octets.to_vec())));
    }
    let Some((first, octets)) = octets.split_first() else { return };
    let listens = driver.links.iter().flat_map(|link| match link {
        Link::Ble { listens, .. } => listens.to_vec(),
        Link::Serial(_) | Link::File => Vec::new(),
    });
    let notifications: Vec<Vec<u8>> = octets.chunks(usize::from(*first % 64) + 1).map(<[u8]>::to_vec).collect();
    for endpoint in listens {
        bounded(lines(Some(driver), Some(endpoint.characteristic), &Input::Notifications(notifications.clone())));
    }
}

fn lines(driver: Option<&Driver>, characteristic: Option<Uuid>, input: &Input) -> Option<usize> {
    decode::decode(driver, characteristic, input, &Options::default()).ok().map(|decoded| decoded.lines.len())
}

/// A stream from another kit never brings the centre down.
fn flac(octets: &[u8]) {
    let _refused = flac::decode(&[octets.to_vec()]);
}
