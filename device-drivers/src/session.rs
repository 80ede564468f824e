//! What sessions are made of: conversations over GATT, memories read by RACP, streams, recordings under way, and what is handed
//! over. Nothing here knows a device.

pub(crate) mod gatt_session;
pub(crate) mod liveness;
pub(crate) mod outputs;
pub(crate) mod playback;
pub(crate) mod stored_records;
pub(crate) mod streaming;
pub(crate) mod track;
pub(crate) mod wave;
