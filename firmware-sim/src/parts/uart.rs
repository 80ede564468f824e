//! A UART: octets wait in it until the board moves them to the line, and from the line to the firmware.

use std::collections::VecDeque;
use std::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};

use super::Shared;

/// The receive buffer, octets; what comes when it is full is lost, as in a UART overrun.
pub const RECEIVE_OCTETS_MAX: usize = 256;

/// A UART's two buffers.
#[derive(Debug, Default)]
pub struct Uart {
    sent: Vec<u8>,
    received: VecDeque<u8>,
}

impl Uart {
    /// What the firmware sent since the last call.
    pub fn take_sent(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// Octets arrive from the line.
    pub fn receive(&mut self, octets: &[u8]) {
        let room = RECEIVE_OCTETS_MAX - self.received.len().min(RECEIVE_OCTETS_MAX);
        self.received.extend(octets.iter().take(room));
    }
}

impl ErrorType for Shared<Uart> {
    type Error = Infallible;
}

impl Write for Shared<Uart> {
    fn write(&mut self, octets: &[u8]) -> Result<usize, Infallible> {
        self.lock().sent.extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl ReadReady for Shared<Uart> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.lock().received.is_empty())
    }
}

impl Read for Shared<Uart> {
    /// What has arrived; nothing where nothing has (a firmware asks `read_ready` first, since a real UART would wait).
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let mut part = self.lock();
        let count = into.len().min(part.received.len());
        for (slot, octet) in into.iter_mut().zip(part.received.drain(..count)) {
            *slot = octet;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_pass_both_ways_and_an_overrun_loses_the_newest() {
        let mut uart = Shared::new(Uart::default());
        uart.write_all(&[1, 2, 3]).unwrap();
        assert_eq!(uart.lock().take_sent(), [1, 2, 3]);
        uart.lock().receive(&[7; RECEIVE_OCTETS_MAX + 1]);
        let mut into = [0; 512];
        assert_eq!(uart.read(&mut into).unwrap(), RECEIVE_OCTETS_MAX);
        assert!(!uart.read_ready().unwrap());
    }
}
