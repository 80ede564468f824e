//! Parts on a board, simulated at the register: a firmware meets them through embedded-hal and cannot tell.
//!
//! A part keeps time only when its board says so (`advance`), and does what its data sheet says, above all with a firmware
//! that goes about it in the wrong order.

pub mod ads1298;
pub mod arm_cuff;
pub mod max30102;
pub mod sdp8xx;
pub mod tmp117;
pub mod uart;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A part that a board and the firmware's bus both hold, as copper does.
pub struct Shared<P>(Arc<Mutex<P>>);

impl<P> Shared<P> {
    /// A part on a board.
    pub fn new(part: P) -> Self {
        Self(Arc::new(Mutex::new(part)))
    }

    /// The part, for as long as the guard lives. A panic elsewhere does not take it away.
    pub fn lock(&self) -> MutexGuard<'_, P> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> Clone for Shared<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The firmware's delay: simulated time does not pass in it, since a board steps its parts by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delay;

impl embedded_hal::delay::DelayNs for Delay {
    fn delay_ns(&mut self, _nanoseconds: u32) {}
}
