//! Serial ports: USB adapters, on-board UARTs, pseudo-terminals.
//!
//! A port is opened for 8 data bits, 1 stop bit, no flow control, and what stood in the kernel's buffer is thrown away: nobody
//! knows when it came, and half a frame is no use. Octets are read as soon as they are there, at most [`READ_OCTETS_MAX`] at a
//! time, and bear the moment of that read.
//!
//! A port that is not a terminal of hardware may lack what hardware has. On a pseudo-terminal (a simulated device)
//! - no exclusive lock is taken: `TIOCEXCL` would outlive a killed process for as long as the other end is open, and lock the
//!   next one out;
//! - a baud rate or parity that cannot be set is noted at `debug` and counts as set, since nothing runs at that speed.
//!
//! Anywhere else both are errors.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_serial::{ClearBuffer, DataBits, FlowControl, Parity, SerialPort as _, SerialPortBuilder, SerialStream, StopBits};

use super::{Clock, Identity, Link, LinkEnd, Occurrence, Outlet, Overflow};
use crate::driver::{By, Command, DownReason, Endpoint, LinkError, PortSettings, Security, Token, WRITE_OCTETS_MAX};

/// The most octets one event carries; the kernel's own buffer holds as many.
pub const READ_OCTETS_MAX: u16 = 4096;
/// A port takes what is written within so long: 512 octets at 2,400 baud are 2.2 s.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Where Linux keeps pseudo-terminals.
const PSEUDO_TERMINALS: &str = "/dev/pts";
/// What every pseudo-terminal takes.
const ANY_SETTINGS: PortSettings = PortSettings { baud: 9600, even_parity: false };

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none at this path, or no longer: wait for it.
    #[error("there is no serial port at {0}")]
    Absent(PathBuf),
    /// It is there and cannot be used: tell a technician which, and why.
    #[error("the serial port at {path} cannot be opened: {reason}")]
    Refused {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Opens the port at `path` and serves it until it vanishes or the link is closed. Must be called on a tokio runtime.
///
/// Errors: [`OpenError`].
pub fn open(path: &Path, settings: PortSettings, clock: Clock) -> Result<Link, OpenError> {
    let refused = |reason: String| OpenError::Refused { path: path.to_owned(), reason };
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(OpenError::Absent(path.to_owned())),
        Err(error) => return Err(refused(error.to_string())),
    };
    let pseudo = real.starts_with(PSEUDO_TERMINALS);
    let mut port = SerialStream::open(&builder(&real, if pseudo { ANY_SETTINGS } else { settings }).exclusive(!pseudo))
        .map_err(|error| if real.exists() { refused(error.to_string()) } else { OpenError::Absent(path.to_owned()) })?;
    if pseudo {
        set(&mut port, pseudo, settings).map_err(|error| refused(error.to_string()))?;
    }
    port.clear(ClearBuffer::Input).map_err(|error| refused(error.to_string()))?;
    let (link, end) = Link::new(Identity::default(), clock);
    tokio::spawn(serve(port, pseudo, end));
    Ok(link)
}

fn builder(path: &Path, settings: PortSettings) -> SerialPortBuilder {
    tokio_serial::new(path.to_string_lossy(), settings.baud)
        .data_bits(DataBits::Eight)
        .stop_bits(StopBits::One)
        .flow_control(FlowControl::None)
        .parity(parity(settings))
}

fn parity(settings: PortSettings) -> Parity {
    if settings.even_parity { Parity::Even } else { Parity::None }
}

/// Serves the port to its end.
async fn serve(mut port: SerialStream, pseudo: bool, end: LinkEnd) {
    let LinkEnd { mut commands, mut outlet } = end;
    let mut buffer = vec![0; usize::from(READ_OCTETS_MAX)];
    let up = Occurrence::Up { mtu: READ_OCTETS_MAX, security: Security::None, has: vec![Endpoint::SERIAL] };
    let mut filed = outlet.put(up);
    let reason = loop {
        if filed == Err(Overflow) {
            tracing::warn!("the session is too slow; the port is closed");
            break DownReason::Lost;
        }
        filed = tokio::select! {
            biased;
            open = outlet.forward(), if outlet.is_pending() => match open {
                true => Ok(()),
                false => break DownReason::Closed,
            },
            read = port.read(&mut buffer) => match read {
                Ok(count) if count > 0 => received(&mut outlet, &buffer[..count]),
                Ok(_) => break DownReason::Lost,
                Err(error) => {
                    tracing::debug!(%error, "the port is gone");
                    break DownReason::Lost;
                }
            },
            command = commands.recv() => match command {
                Some(Command::Close) | None => break DownReason::Closed,
                Some(command) => carry_out(&mut port, pseudo, &mut buffer, &mut outlet, command).await,
            },
        };
    };
    drop(port);
    outlet.finish(reason).await;
}

fn received(outlet: &mut Outlet, octets: &[u8]) -> Result<(), Overflow> {
    outlet.put(Occurrence::Received { from: Endpoint::SERIAL, octets: octets.to_owned(), by: By::Serial })
}

/// Carries out one command; what arrives while a write waits for room is read meanwhile.
async fn carry_out(
    port: &mut SerialStream,
    pseudo: bool,
    buffer: &mut [u8],
    outlet: &mut Outlet,
    command: Command,
) -> Result<(), Overflow> {
    let mut filed = Ok(());
    let (command, outcome) = match command {
        Command::Write { token, octets, .. } if octets.len() > WRITE_OCTETS_MAX => {
            (token, Err(LinkError::Refused(format!("{} octets, at most {WRITE_OCTETS_MAX} fit", octets.len()))))
        }
        Command::Write { token, octets, .. } => {
            let (outcome, meanwhile) = write(port, buffer, outlet, &octets).await;
            filed = meanwhile;
            (token, outcome)
        }
        Command::Port(token, settings) => (token, set(port, pseudo, settings)),
        Command::Subscribe(token, endpoint) if endpoint == Endpoint::SERIAL => (token, Ok(())),
        Command::Subscribe(token, endpoint) => (token, Err(LinkError::NoEndpoint(endpoint))),
        Command::Read(token, _) => (token, Err(LinkError::Refused("a serial port sends by itself".to_owned()))),
        Command::Close => return filed,
    };
    outlet.put(answer(command, outcome)).and(filed)
}

fn answer(command: Token, outcome: Result<(), LinkError>) -> Occurrence {
    match outcome {
        Ok(()) => Occurrence::Done { command },
        Err(error) => Occurrence::Failed { command, error },
    }
}

async fn write(
    port: &mut SerialStream,
    buffer: &mut [u8],
    outlet: &mut Outlet,
    octets: &[u8],
) -> (Result<(), LinkError>, Result<(), Overflow>) {
    let mut filed = Ok(());
    let (mut reader, mut writer) = tokio::io::split(port);
    let both = async {
        let mut writing = std::pin::pin!(writer.write_all(octets));
        loop {
            tokio::select! {
                biased;
                written = &mut writing => return written,
                read = reader.read(buffer) => match read {
                    Ok(count) if count > 0 => filed = received(outlet, &buffer[..count]).and(filed),
                    // The port is gone: the next read says so.
                    _ => return Err(io::ErrorKind::BrokenPipe.into()),
                },
            }
        }
    };
    let outcome = match timeout(WRITE_TIMEOUT, both).await {
        Ok(written) => written.map_err(|error| LinkError::Refused(error.to_string())),
        Err(_) => Err(LinkError::Timeout),
    };
    (outcome, filed)
}

/// Changes the settings. What was received at the old ones and not yet read is thrown away.
fn set(port: &mut SerialStream, pseudo: bool, settings: PortSettings) -> Result<(), LinkError> {
    let change = |port: &mut SerialStream| {
        port.set_baud_rate(settings.baud)?;
        port.set_parity(parity(settings))?;
        port.clear(ClearBuffer::Input)
    };
    match change(port) {
        Err(error) if pseudo => {
            tracing::debug!(%error, "a pseudo-terminal has no such settings");
            Ok(())
        }
        outcome => outcome.map_err(|error| LinkError::Refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kit_protocol::moment::Moment;

    use super::*;

    const SETTINGS: PortSettings = PortSettings { baud: 921_600, even_parity: false };

    fn clock() -> Clock {
        Arc::new(|| Moment::from_nanos(1))
    }

    /// The device's end, and the path of the gateway's.
    fn pair() -> (SerialStream, SerialStream, PathBuf) {
        let (device, gateway) = SerialStream::pair().unwrap();
        let path = PathBuf::from(gateway.name().unwrap());
        (device, gateway, path)
    }

    async fn next(link: &mut Link) -> Occurrence {
        timeout(Duration::from_secs(20), link.next()).await.unwrap().unwrap().what
    }

    async fn octets(link: &mut Link, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            match next(link).await {
                Occurrence::Received { from: Endpoint::SERIAL, octets, by: By::Serial } => all.extend(octets),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    #[tokio::test]
    async fn octets_go_both_ways_over_a_pseudo_terminal() {
        let (mut device, _gateway, path) = pair();
        let mut link = open(&path, SETTINGS, clock()).unwrap();
        assert!(matches!(next(&mut link).await, Occurrence::Up { mtu: READ_OCTETS_MAX, .. }));
        let sent: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let half = sent.clone();
        let writer = tokio::spawn(async move {
            device.write_all(&half).await.unwrap();
            device
        });
        assert_eq!(octets(&mut link, sent.len()).await, sent);
        let mut device = writer.await.unwrap();
        let write = Command::Write { token: Token(1), to: Endpoint::SERIAL, octets: vec![0, 13, 10, 255], response: false };
        link.carry_out(write).await;
        link.carry_out(Command::Port(Token(2), PortSettings { baud: 19_200, even_parity: true })).await;
        link.carry_out(Command::Read(Token(3), Endpoint::SERIAL)).await;
        assert_eq!(next(&mut link).await, Occurrence::Done { command: Token(1) });
        assert_eq!(next(&mut link).await, Occurrence::Done { command: Token(2) });
        assert!(matches!(next(&mut link).await, Occurrence::Failed { command: Token(3), .. }));
        let mut heard = [0; 4];
        device.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [0, 13, 10, 255]);
        link.carry_out(Command::Close).await;
        assert_eq!(next(&mut link).await, Occurrence::Down { reason: DownReason::Closed });
        assert_eq!(link.next().await, None);
    }

    #[tokio::test]
    async fn octets_that_came_before_the_port_was_opened_are_thrown_away() {
        let (mut device, gateway, path) = pair();
        device.write_all(b"stale").await.unwrap();
        gateway.readable().await.unwrap();
        let mut link = open(&path, SETTINGS, clock()).unwrap();
        assert!(matches!(next(&mut link).await, Occurrence::Up { .. }));
        device.write_all(b"fresh").await.unwrap();
        assert_eq!(octets(&mut link, 5).await, b"fresh");
    }

    #[tokio::test]
    async fn a_port_that_vanishes_is_lost_and_can_be_opened_again_when_it_is_back() {
        let (device, gateway, path) = pair();
        let mut link = open(&path, SETTINGS, clock()).unwrap();
        assert!(matches!(next(&mut link).await, Occurrence::Up { .. }));
        drop((device, gateway));
        assert_eq!(next(&mut link).await, Occurrence::Down { reason: DownReason::Lost });
        assert!(matches!(open(Path::new("/dev/no such port"), SETTINGS, clock()), Err(OpenError::Absent(_))));
        assert!(matches!(open(Path::new("/dev/null"), SETTINGS, clock()), Err(OpenError::Refused { .. })));
        let (_device, _gateway, path) = pair();
        assert!(open(&path, SETTINGS, clock()).is_ok());
    }

    #[tokio::test]
    async fn no_lock_is_taken_on_a_pseudo_terminal_that_a_killed_process_could_leave_behind() {
        let (mut device, _gateway, path) = pair();
        let first = open(&path, SETTINGS, clock()).unwrap();
        let mut second = open(&path, SETTINGS, clock()).unwrap();
        drop(first);
        assert!(matches!(next(&mut second).await, Occurrence::Up { .. }));
        device.write_all(b"x").await.unwrap();
        assert_eq!(octets(&mut second, 1).await, b"x");
    }
}
