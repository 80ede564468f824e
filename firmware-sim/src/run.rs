//! Devices in real time: each in a thread of its own, that waits for its clock and for nothing else.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use kit_protocol::moment::Moment;
use kit_protocol::reading::Measured;

use crate::clock;
use crate::devices::{self, Carried, Connection, Device, Emission, STEP, SerialDevice};
use crate::faults::{Fault, FrameFaults, Scenario};
use crate::link::bluez::VirtualBluez;
use crate::link::gatt::Peripheral;
use crate::link::serial::SerialLine;
use crate::truth::{Row, Stream, Truth};

/// The most pieces that wait for their time on a line; beyond it the oldest are lost, as on a wire.
const PIECES_MAX: usize = 4096;

/// Where a device is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A serial line at this path.
    Pty(PathBuf),
    /// A virtual BlueZ on this socket.
    Bus(PathBuf),
}

/// A device to simulate.
#[derive(Clone, Debug)]
pub struct DeviceSpec {
    /// Its name in [`devices::DEVICES`].
    pub name: String,
    /// Where it is met.
    pub attachment: Attachment,
    /// Its seed: patient, noise, address.
    pub seed: u64,
    /// What goes wrong.
    pub scenario: Scenario,
    /// Where the truth goes.
    pub truth: Truth,
}

/// Why a device cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// No such device.
    #[error("no device is called {0}; `kit-sim list` names them")]
    Unknown(String),
    /// The device is met in another way.
    #[error("{name} is met by {link}: give {option}")]
    Attachment {
        /// The device.
        name: &'static str,
        /// serial or ble.
        link: &'static str,
        /// The option that it takes.
        option: &'static str,
    },
    /// The link cannot be made.
    #[error("the link at {path} cannot be made: {source}")]
    Link {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The truth cannot be written.
    #[error("the truth cannot be written: {0}")]
    Truth(#[from] io::Error),
    /// The simulation itself broke.
    #[error("the simulation of the device broke")]
    Broken,
}

/// A device that runs; it ends with [`Handle::stop`] or when this is dropped.
#[derive(Debug)]
pub struct Handle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), SimError>>>,
}

impl Handle {
    /// Ends the device and waits until its truth is written.
    pub fn stop(mut self) -> Result<(), SimError> {
        self.end()
    }

    /// Whether it ended by itself, which it only does when it cannot go on.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn end(&mut self) -> Result<(), SimError> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take() {
            Some(thread) => thread.join().map_err(|_| SimError::Broken)?,
            None => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("kit-sim: {error}");
        }
    }
}

/// Starts a device. When this returns its link is there.
///
/// Errors: an unknown device, a link of another kind, a link that cannot be made.
pub fn spawn(spec: DeviceSpec) -> Result<Handle, SimError> {
    let device = devices::find(&spec.name).ok_or_else(|| SimError::Unknown(spec.name.clone()))?;
    let wrong = |option| SimError::Attachment { name: device.name, link: device.link(), option };
    match (device.connection, &spec.attachment) {
        (Connection::Serial(make), Attachment::Pty(path)) => {
            let line = open(path)?;
            let runner = Runner::new(device, make(spec.seed, &spec.scenario), &spec, path.clone(), line);
            thread(device.name, move |stop| runner.run(stop))
        }
        (Connection::Serial(_), Attachment::Bus(_)) => Err(wrong("--pty PATH")),
        (Connection::Gatt(_) | Connection::Broadcast(_), Attachment::Pty(_)) => Err(wrong("--bus SOCKET")),
        (Connection::Gatt(make) | Connection::Broadcast(make), Attachment::Bus(socket)) => {
            bus(device.name, socket.clone(), vec![make(spec.seed, &spec.scenario, spec.truth)])
        }
    }
}

/// Starts several BLE devices around one virtual BlueZ at `socket`. When this returns the socket is there.
///
/// Errors: an unknown device, one that is no BLE device, a socket that cannot be made.
pub fn spawn_on_bus(socket: &Path, specs: Vec<DeviceSpec>) -> Result<Handle, SimError> {
    let mut peripherals = Vec::new();
    for spec in specs {
        let device = devices::find(&spec.name).ok_or_else(|| SimError::Unknown(spec.name.clone()))?;
        let (Connection::Gatt(make) | Connection::Broadcast(make)) = device.connection else {
            return Err(SimError::Attachment { name: device.name, link: device.link(), option: "--pty PATH" });
        };
        peripherals.push(make(spec.seed, &spec.scenario, spec.truth));
    }
    bus("virtual-bluez", socket.to_owned(), peripherals)
}

/// A virtual BlueZ in a thread of its own.
fn bus(name: &str, socket: PathBuf, peripherals: Vec<Box<dyn Peripheral>>) -> Result<Handle, SimError> {
    let (started, starts) = mpsc::sync_channel(1);
    let at = socket.clone();
    let handle = thread(name, move |stop| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let bluez = VirtualBluez::start(&at, peripherals);
            let running = bluez.is_ok();
            // Whoever waits for this is still there: it waits before it does anything else.
            let _waiting =
                started.send(bluez.as_ref().map(|_| ()).map_err(|error| io::Error::new(error.kind(), error.to_string())));
            while running && !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(STEP).await;
            }
        });
        // The runtime's end is the devices' end: they write down what was never confirmed.
        drop(runtime);
        Ok(())
    })?;
    match starts.recv() {
        Ok(Ok(())) => Ok(handle),
        Ok(Err(source)) => Err(SimError::Link { path: socket, source }),
        Err(_) => Err(SimError::Broken),
    }
}

fn thread(name: &str, run: impl FnOnce(&AtomicBool) -> Result<(), SimError> + Send + 'static) -> Result<Handle, SimError> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&asked))?;
    Ok(Handle { stop, thread: Some(thread) })
}

fn open(path: &Path) -> Result<SerialLine, SimError> {
    SerialLine::open(path).map_err(|source| SimError::Link { path: path.to_owned(), source })
}

/// Octets that wait for their time on the line, and what is whole once they are sent.
#[derive(Debug)]
struct Waiting {
    due: Duration,
    octets: Vec<u8>,
    carries: Vec<Carried>,
    /// Of a frame whose rest follows.
    unfinished: bool,
    /// The frame before it was not taken whole, or a fault harmed it.
    harmed: bool,
}

/// One serial device on its line.
struct Runner {
    device: Box<dyn SerialDevice>,
    faults: FrameFaults,
    scenario: Scenario,
    path: PathBuf,
    line: Option<SerialLine>,
    waiting: VecDeque<Waiting>,
    name: &'static str,
    driver: &'static str,
    truth: Truth,
    streams: Vec<Stream>,
    numbered: bool,
}

impl Runner {
    fn new(row: Device, device: Box<dyn SerialDevice>, spec: &DeviceSpec, path: PathBuf, line: SerialLine) -> Self {
        let streams = device.streams().into_iter().map(|head| Stream::new(spec.truth.clone(), head)).collect();
        let faults = FrameFaults::new(&spec.scenario, spec.seed);
        Self {
            device,
            faults,
            scenario: spec.scenario.clone(),
            path,
            line: Some(line),
            waiting: VecDeque::new(),
            name: row.name,
            driver: row.driver,
            truth: spec.truth.clone(),
            streams,
            numbered: false,
        }
    }

    fn run(mut self, stop: &AtomicBool) -> Result<(), SimError> {
        let began = clock::now();
        while !stop.load(Ordering::Relaxed) {
            let now = clock::now();
            self.step(now.since(began), now)?;
            std::thread::sleep(STEP);
        }
        if let Some(line) = &mut self.line {
            line.linger();
        }
        Ok(self.streams.iter_mut().try_for_each(Stream::flush)?)
    }

    /// Lives on up to `at` since the start, which is `now` on the gateway's clock.
    fn step(&mut self, at: Duration, now: Moment) -> Result<(), SimError> {
        self.plug(at)?;
        if let Some(line) = &mut self.line {
            let commands = line.receive();
            self.device.receive(&commands);
        }
        let Self { device, faults, waiting, numbered, .. } = self;
        device.advance(at, &mut |emission| {
            // What a memory holds is numbered too, but not by its frames.
            let number = |carried: &Carried| matches!(carried, Carried::Row { stream: 0, counter: Some(_), .. });
            *numbered |= emission.carries.iter().any(number);
            queue(faults, waiting, emission, *numbered);
        });
        self.transmit(at, now)
    }

    /// Unplugged by a fault, the line is gone, path and all; then it is there again.
    fn plug(&mut self, at: Duration) -> Result<(), SimError> {
        let unplugged = self.scenario.during(at).any(|fault| fault == Fault::Disconnect);
        match (unplugged, self.line.is_some()) {
            (true, true) => self.line = None,
            (false, false) => self.line = Some(open(&self.path)?),
            _ => {}
        }
        Ok(())
    }

    /// Puts on the line what is due, in one write, and writes down what became of each row.
    fn transmit(&mut self, at: Duration, now: Moment) -> Result<(), SimError> {
        let due = self.waiting.iter().take_while(|piece| piece.due <= at).count();
        let over = self.waiting.len().saturating_sub(PIECES_MAX);
        let pieces: Vec<Waiting> = self.waiting.drain(..due.max(over)).collect();
        let octets: Vec<u8> = pieces.iter().flat_map(|piece| piece.octets.iter().copied()).collect();
        let taken = self.line.as_mut().map_or(0, |line| line.send(&octets));
        let mut end = 0;
        for piece in pieces {
            end += piece.octets.len();
            let lost = end > taken && !piece.octets.is_empty();
            if piece.unfinished {
                if lost && let Some(next) = self.waiting.front_mut() {
                    next.harmed = true;
                }
                continue;
            }
            let delivered = !lost && !piece.harmed;
            piece.carries.into_iter().try_for_each(|carried| self.write_down(carried, now, delivered))?;
        }
        Ok(())
    }

    fn write_down(&mut self, carried: Carried, now: Moment, delivered: bool) -> Result<(), SimError> {
        match carried {
            Carried::Row { stream, counter, values } => {
                if let Some(stream) = self.streams.get_mut(stream) {
                    stream.push(Row { at: now, counter, values, delivered })?;
                }
            }
            Carried::Reading { measured, waited } => {
                let measured = Measured { received: now - waited, ..*measured };
                self.truth.reading(self.driver, self.name, &measured, now, delivered)?;
            }
        }
        Ok(())
    }
}

/// Puts a frame's pieces in the line's queue; nothing overtakes.
fn queue(faults: &mut FrameFaults, waiting: &mut VecDeque<Waiting>, emission: Emission, numbered: bool) {
    let Emission { at, octets, mut carries } = emission;
    let treated = faults.treat(at, octets, numbered);
    let mut last_due = waiting.back().map_or(Duration::ZERO, |piece| piece.due);
    let mut push = |delay: Duration, octets, carries, unfinished, harmed| {
        last_due = last_due.max(at + delay);
        waiting.push_back(Waiting { due: last_due, octets, carries, unfinished, harmed });
    };
    let count = treated.pieces.len();
    for (index, piece) in treated.pieces.into_iter().enumerate() {
        // What a frame carries is whole with its last piece.
        let last = index + 1 == count;
        let carried = if last { std::mem::take(&mut carries) } else { Vec::new() };
        push(piece.delay, piece.octets, carried, !last, !treated.intact);
    }
    if count == 0 {
        push(Duration::ZERO, Vec::new(), carries, false, true);
    }
}

#[cfg(test)]
mod tests;
