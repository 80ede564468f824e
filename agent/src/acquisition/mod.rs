//! From a device to the outbox: transports are opened, sessions run over them, the Recorder files what they give.

pub mod keeper;
pub mod marks;
pub mod recorder;
pub mod roster;
pub mod session;
pub mod surroundings;
