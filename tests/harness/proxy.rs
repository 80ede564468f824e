//! A network that fails on request: a TCP proxy between kit and broker, steered by a handle.
//!
//! It can cut (reset or finish), refuse, stall either way, delay, limit the rate, and end connections at random; it counts the
//! octets it passed each way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Octets read at once.
const PIECE_OCTETS: usize = 4 * 1024;
/// Pieces on their way in one direction, at most: what a router would queue.
const PIECES_MAX: usize = 64;
/// How long a connection to the broker may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long the listening port may take to come back after a refusal.
const REBIND_EVERY: Duration = Duration::from_millis(20);

/// How the link is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// Nothing listens: connections are refused.
    pub refused: bool,
    /// Octets from the kit go nowhere, without an error.
    pub stalled_up: bool,
    /// Octets to the kit go nowhere, without an error.
    pub stalled_down: bool,
    /// One-way delay.
    pub delay: Duration,
    /// Octets a second each way, over all connections.
    pub octets_per_second: Option<u32>,
    /// Connections end (reset) at random after this long on average.
    pub mean_life: Option<Duration>,
}

impl Conditions {
    /// Stalled both ways.
    #[must_use]
    pub fn stalled() -> Self {
        Self { stalled_up: true, stalled_down: true, ..Self::default() }
    }

    /// A 2G link: 20 kbit/s, 600 ms there and back.
    #[must_use]
    pub fn gprs() -> Self {
        Self { delay: Duration::from_millis(300), octets_per_second: Some(2_500), ..Self::default() }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// RST: what was on its way is gone.
    Reset,
    /// FIN, in both directions.
    Finish,
}

/// What passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Octets from the kit to the broker.
    pub octets_up: u64,
    /// Octets from the broker to the kit.
    pub octets_down: u64,
    /// Connections accepted.
    pub connections: u64,
}

/// The handle; the proxy ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    conditions: watch::Sender<Conditions>,
    cuts: watch::Sender<Option<Cut>>,
    task: JoinHandle<()>,
}

struct Shared {
    octets: [AtomicU64; 2],
    connections: AtomicU64,
    /// When the link's rate allows the next octet, by direction.
    free_at: [Mutex<Instant>; 2],
}

#[derive(Clone, Copy)]
enum Direction {
    Up = 0,
    Down = 1,
}

/// What one connection watches.
#[derive(Clone)]
struct Steering {
    shared: Arc<Shared>,
    conditions: watch::Receiver<Conditions>,
    cuts: watch::Receiver<Option<Cut>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `broker`; `seed` decides the random ends of connections.
    pub async fn start(broker: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            octets: [AtomicU64::new(0), AtomicU64::new(0)],
            connections: AtomicU64::new(0),
            free_at: [Mutex::new(Instant::now()), Mutex::new(Instant::now())],
        });
        let (conditions, conditions_seen) = watch::channel(Conditions::default());
        let (cuts, cuts_seen) = watch::channel(None);
        let steering = Steering { shared: Arc::clone(&shared), conditions: conditions_seen, cuts: cuts_seen };
        let task = tokio::spawn(accept(listener, address, broker, steering, fastrand::Rng::with_seed(seed)));
        Ok(Self { address, shared, conditions, cuts, task })
    }

    /// Where the kit connects.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the link is now.
    #[must_use]
    pub fn conditions(&self) -> Conditions {
        *self.conditions.borrow()
    }

    /// Changes how the link is; connections stay.
    pub fn set(&self, conditions: Conditions) {
        self.conditions.send_replace(conditions);
    }

    /// Ends every connection there is.
    pub fn cut(&self, cut: Cut) {
        self.cuts.send_replace(Some(cut));
    }

    /// Ends every connection and refuses new ones until [`Proxy::set`] says otherwise.
    pub fn unplug(&self) {
        self.set(Conditions { refused: true, ..self.conditions() });
        self.cut(Cut::Reset);
    }

    /// What passed since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let octets = |direction: Direction| self.shared.octets[direction as usize].load(Ordering::Relaxed);
        Counts {
            octets_up: octets(Direction::Up),
            octets_down: octets(Direction::Down),
            connections: self.shared.connections.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut(Cut::Reset);
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, broker: SocketAddr, steering: Steering, mut random: fastrand::Rng) {
    let mut conditions = steering.conditions.clone();
    let mut listener = Some(listener);
    loop {
        let refused = conditions.borrow_and_update().refused;
        match (&listener, refused) {
            (Some(_), true) => listener = None,
            (None, false) => match TcpListener::bind(address).await {
                Ok(bound) => listener = Some(bound),
                Err(_) => sleep(REBIND_EVERY).await,
            },
            (None, true) => {
                if conditions.changed().await.is_err() {
                    return;
                }
            }
            (Some(open), false) => tokio::select! {
                changed = conditions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                accepted = open.accept() => if let Ok((kit, _)) = accepted {
                    steering.shared.connections.fetch_add(1, Ordering::Relaxed);
                    let seed = random.u64(..);
                    tokio::spawn(connection(kit, broker, steering.clone(), seed));
                },
            },
        }
    }
}

/// One connection, until either side, a cut or chance ends it.
async fn connection(mut kit: TcpStream, broker: SocketAddr, mut steering: Steering, seed: u64) {
    steering.cuts.mark_unchanged();
    let Ok(Ok(mut centre)) = timeout(CONNECT_WITHIN, TcpStream::connect(broker)).await else {
        return reset([&kit]);
    };
    // Without it small packets would wait for acknowledgements; it can only fail on a socket that is gone.
    let _ = (kit.set_nodelay(true), centre.set_nodelay(true));
    let end_at = steering.conditions.borrow().mean_life.map(|mean| Instant::now() + exponential(mean, seed));
    let by_chance = async {
        match end_at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    };
    let mut cuts = steering.cuts.clone();
    let (kit_reads, kit_writes) = kit.split();
    let (centre_reads, centre_writes) = centre.split();
    let up = pump(kit_reads, centre_writes, Direction::Up, &steering);
    let down = pump(centre_reads, kit_writes, Direction::Down, &steering);
    let finished = tokio::select! {
        ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
        () = by_chance => false,
        _ = cuts.changed() => *cuts.borrow() == Some(Cut::Finish),
    };
    if finished {
        // Fails only for a socket that is gone already.
        let _ = (kit.shutdown().await, centre.shutdown().await);
    } else {
        reset([&kit, &centre]);
    }
}

/// Makes the close that follows a RST.
fn reset<const N: usize>(sockets: [&TcpStream; N]) {
    for socket in sockets {
        // Fails only for a socket that is gone already.
        let _ = socket.set_zero_linger();
    }
}

/// Passes octets one way until the source ends, then finishes the other side; an error of either ends it at once.
async fn pump(source: ReadHalf<'_>, sink: WriteHalf<'_>, direction: Direction, steering: &Steering) -> io::Result<()> {
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    let reading = read(source, pieces, steering.conditions.clone());
    let writing = write(sink, waiting, direction, steering.clone());
    tokio::try_join!(reading, writing).map(|_| ())
}

async fn read(
    mut source: ReadHalf<'_>,
    pieces: mpsc::Sender<(Instant, Bytes)>,
    conditions: watch::Receiver<Conditions>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE_OCTETS);
        if source.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let due = Instant::now() + conditions.borrow().delay;
        if pieces.send((due, buffer.split().freeze())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut sink: WriteHalf<'_>,
    mut pieces: mpsc::Receiver<(Instant, Bytes)>,
    direction: Direction,
    mut steering: Steering,
) -> io::Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        let stalled = |conditions: &Conditions| match direction {
            Direction::Up => conditions.stalled_up,
            Direction::Down => conditions.stalled_down,
        };
        // The handle is gone: so is this proxy, and the connection is reset.
        let gone = |_| io::Error::from(io::ErrorKind::ConnectionReset);
        let rate = steering.conditions.wait_for(|conditions| !stalled(conditions)).await.map_err(gone)?.octets_per_second;
        if let Some(rate) = rate {
            take_turn(&steering.shared.free_at[direction as usize], piece.len(), rate).await;
        }
        sink.write_all(&piece).await?;
        let octets = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        steering.shared.octets[direction as usize].fetch_add(octets, Ordering::Relaxed);
    }
    sink.shutdown().await
}

/// Waits until the link has room for `octets` and takes it.
async fn take_turn(free_at: &Mutex<Instant>, octets: usize, rate: u32) {
    let octets = u32::try_from(octets).unwrap_or(u32::MAX);
    let until = {
        let mut free_at = free_at.lock().await;
        let start = (*free_at).max(Instant::now());
        *free_at = start + Duration::from_secs(1) * octets / rate.max(1);
        *free_at
    };
    sleep_until(until).await;
}

/// A life drawn from the exponential distribution.
fn exponential(mean: Duration, seed: u64) -> Duration {
    let uniform = fastrand::Rng::with_seed(seed).f64();
    mean.mul_f64(-(1.0 - uniform).ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An echoing peer behind a proxy.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = socket.split();
                    let _ = tokio::io::copy(&mut reads, &mut writes).await;
                });
            }
        });
        Proxy::start(address, 1).await.unwrap()
    }

    async fn says_back(socket: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        socket.write_all(text).await?;
        let mut back = vec![0; text.len()];
        socket.read_exact(&mut back).await?;
        Ok(back)
    }

    #[tokio::test]
    async fn passes_octets_and_counts_them() {
        let proxy = echo().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says_back(&mut socket, b"hello").await.unwrap(), b"hello");
        assert_eq!(proxy.counts(), Counts { octets_up: 5, octets_down: 5, connections: 1 });
    }

    #[tokio::test]
    async fn the_end_of_one_side_reaches_the_other() {
        let proxy = echo().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        socket.write_all(b"last words").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut back = Vec::new();
        socket.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, b"last words");
    }

    #[tokio::test]
    async fn a_cut_resets_and_the_next_connection_works() {
        let proxy = echo().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        says_back(&mut socket, b"x").await.unwrap();
        proxy.cut(Cut::Reset);
        let error = socket.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(says_back(&mut again, b"y").await.unwrap(), b"y");
    }

    #[tokio::test]
    async fn a_finish_is_an_orderly_end() {
        let proxy = echo().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        says_back(&mut socket, b"x").await.unwrap();
        proxy.cut(Cut::Finish);
        assert_eq!(socket.read_u8().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn unplugged_it_refuses_until_it_is_set_again() {
        let proxy = echo().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        says_back(&mut socket, b"x").await.unwrap();
        proxy.unplug();
        assert!(socket.read_u8().await.is_err());
        // The listener closes in the proxy's own task: what is accepted before that is refused after it.
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        proxy.set(Conditions::default());
        let mut again = loop {
            if let Ok(socket) = TcpStream::connect(proxy.address()).await {
                break socket;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(says_back(&mut again, b"y").await.unwrap(), b"y");
    }

    #[tokio::test]
    async fn a_stall_holds_octets_back_without_an_error() {
        let proxy = echo().await;
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        says_back(&mut socket, b"x").await.unwrap();
        proxy.set(Conditions { stalled_down: true, ..Conditions::default() });
        socket.write_all(b"held").await.unwrap();
        while proxy.counts().octets_up < 5 {
            tokio::task::yield_now().await;
        }
        assert_eq!(proxy.counts().octets_down, 1);
        proxy.set(Conditions::default());
        let mut back = [0; 4];
        socket.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"held");
    }

    #[tokio::test]
    async fn chance_ends_connections() {
        let proxy = echo().await;
        proxy.set(Conditions { mean_life: Some(Duration::from_millis(5)), ..Conditions::default() });
        let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(socket.read_u8().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_makes_octets_take_turns() {
        let start = Instant::now();
        let free_at = Mutex::new(start);
        take_turn(&free_at, 1_000, 2_000).await;
        take_turn(&free_at, 3_000, 2_000).await;
        assert_eq!(*free_at.lock().await, start + Duration::from_secs(2));
    }
}
