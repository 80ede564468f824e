//! A virtual BlueZ: message bus and `org.bluez` in one, on a Unix socket, with simulated devices in the air around it.
//!
//! A program that finds its system bus at `DBUS_SYSTEM_BUS_ADDRESS=unix:path=SOCKET` meets here what bluetoothd 5.66 would
//! show it: objects and their obligatory properties, discovery by client, links that come and go, attributes by introspection,
//! values as property changes. It is as strict as the real one where that is known (comments in the files below name sources).
//! Not there: advertising, `GattManager1` (so bluetoothd does not reconnect by itself), Classic Bluetooth, other adapters.

mod attributes;
mod bus;
mod daemon;
mod device;
mod known;
mod table;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use kit_protocol::moment::Moment;
use rustix::time::{ClockId, clock_gettime};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zbus::Connection;
use zbus::message::Message;

use self::bus::ClientId;
use self::daemon::Daemon;
use crate::link::gatt::Peripheral;

/// Time moves on in steps of this.
const TICK: Duration = Duration::from_millis(10);
/// The most messages that wait for one client; a client that reads no more is disconnected, as dbus-daemon does.
const CLIENT_MESSAGES_MAX: usize = 4096;
/// The most messages of all clients that wait for bluetoothd.
const INBOX_MESSAGES_MAX: usize = 1024;
/// The most faults that wait to be inflicted.
const FAULTS_MAX: usize = 64;

/// What can go wrong at the gateway's end. What devices do wrong is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The adapter is pulled out: its objects go, links are gone without a word.
    AdapterUnplugged,
    /// It is back.
    AdapterPlugged,
    /// bluetoothd dies: links, discovery and subscriptions end without a word, calls find no service.
    DaemonKilled,
    /// It runs again, with what it had stored.
    DaemonStarted,
    /// The link to the device of this address is lost.
    LinkLost([u8; 6]),
    /// The link to the device of this address stays up, and while `true` no value comes over it.
    Mute([u8; 6], bool),
}

/// What comes in from a client's connection.
enum Incoming {
    Joined(ClientId, mpsc::Sender<Message>),
    Said(ClientId, Message),
    Left(ClientId),
}

/// A running virtual BlueZ; it ends when this is dropped.
pub struct VirtualBluez {
    socket: PathBuf,
    faults: mpsc::Sender<Fault>,
    tasks: [JoinHandle<()>; 2],
}

impl VirtualBluez {
    /// Serves `peripherals` at `socket`, on the tokio runtime that this is called in; a leftover socket is replaced.
    ///
    /// Errors: the socket cannot be made.
    pub fn start(socket: &Path, peripherals: Vec<Box<dyn Peripheral>>) -> io::Result<Self> {
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        let (inbox, incoming) = mpsc::channel(INBOX_MESSAGES_MAX);
        let (faults, inflicted) = mpsc::channel(FAULTS_MAX);
        let tasks = [tokio::spawn(accept(listener, inbox)), tokio::spawn(serve(Daemon::new(peripherals), incoming, inflicted))];
        Ok(Self { socket: socket.to_owned(), faults, tasks })
    }

    /// The value of `DBUS_SYSTEM_BUS_ADDRESS` that leads here.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }

    /// Lets something go wrong, or right again; faults are inflicted in order.
    pub async fn inflict(&self, fault: Fault) {
        // The other end goes only when this is dropped.
        let _gone = self.faults.send(fault).await;
    }
}

impl Drop for VirtualBluez {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        // A socket that is already gone needs no removing.
        let _gone = std::fs::remove_file(&self.socket);
    }
}

/// The clock that devices and links share.
fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

async fn accept(listener: UnixListener, inbox: mpsc::Sender<Incoming>) {
    let guid = zbus::Guid::generate();
    let mut next = 0;
    while let Ok((stream, _)) = listener.accept().await {
        next += 1;
        tokio::spawn(client(stream, guid.clone().into(), ClientId(next), inbox.clone()));
    }
}

/// One client's connection, from the handshake to its end.
async fn client(stream: UnixStream, guid: zbus::OwnedGuid, id: ClientId, inbox: mpsc::Sender<Incoming>) {
    let handshake = async || zbus::connection::Builder::unix_stream(stream).server(guid)?.p2p().build_message_stream().await;
    let Ok(mut messages) = handshake().await else { return };
    let (outbox, waiting) = mpsc::channel(CLIENT_MESSAGES_MAX);
    if inbox.send(Incoming::Joined(id, outbox)).await.is_err() {
        return;
    }
    let writer = write_all(Connection::from(&messages), waiting);
    tokio::pin!(writer);
    loop {
        tokio::select! {
            () = &mut writer => break,
            message = messages.next() => {
                let Some(Ok(message)) = message else { break };
                if inbox.send(Incoming::Said(id, message)).await.is_err() {
                    break;
                }
            }
        }
    }
    // Where bluetoothd is gone, nobody need be told.
    let _gone = inbox.send(Incoming::Left(id)).await;
}

/// Writes what waits until the client, or bluetoothd, is done with it.
async fn write_all(connection: Connection, mut waiting: mpsc::Receiver<Message>) {
    while let Some(message) = waiting.recv().await {
        if connection.send(&message).await.is_err() {
            return;
        }
    }
}

/// bluetoothd's one thread.
async fn serve(mut daemon: Daemon, mut incoming: mpsc::Receiver<Incoming>, mut faults: mpsc::Receiver<Fault>) {
    let mut clients: BTreeMap<ClientId, mpsc::Sender<Message>> = BTreeMap::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => daemon.tick(now()),
            Some(fault) = faults.recv() => daemon.suffer(now(), &fault),
            said = incoming.recv() => match said {
                Some(Incoming::Joined(id, outbox)) => {
                    clients.insert(id, outbox);
                    daemon.joined(id);
                }
                Some(Incoming::Said(id, message)) => daemon.message(now(), id, message),
                Some(Incoming::Left(id)) => {
                    clients.remove(&id);
                    daemon.left(now(), id);
                }
                None => return,
            },
        }
        for (id, message) in daemon.bus.take_out() {
            if clients.get(&id).is_some_and(|outbox| outbox.try_send(message).is_err()) {
                clients.remove(&id);
            }
        }
        for fault in daemon.bus.take_faults() {
            eprintln!("virtual bluez: a message could not be built: {fault}");
        }
    }
}
