//! From a device to the outbox: transports are opened, sessions run over them, the Recorder files what they give.

pub mod belonging;
pub mod filing;
pub mod keeper;
pub mod marks;
mod names;
mod noise;
pub mod recorder;
mod recording;
pub mod roster;
pub mod session;
pub mod surroundings;
pub mod window;
