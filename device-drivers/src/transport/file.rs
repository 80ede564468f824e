//! Files: a folder into which recordings are put, by a person, a cable or a card.
//!
//! A file is whole when it was renamed into the folder, or when its size and time stay as they are from one look to the next.
//! It is handed over as one conversation: `Up`, its octets in [`By::File`] chunks as the session takes them, `Down` with
//! [`DownReason::End`]. Whoever holds the conversation says what became of it: [`Arrival::done`] and [`Arrival::refused`] move
//! it to the folder of that name inside, so that nothing a person brought is ever deleted here. One that was left is found
//! again. Names that begin with a dot, and folders, are left alone.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::{Clock, Identity, Link, LinkEnd, Occurrence};
use crate::driver::{By, Command, DownReason, Endpoint, LinkError, Security};

/// The folder is looked at so often.
pub const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// Octets of a file, at most: 24 h of eight leads at 500 Hz and 16 bit are 660 MiB and come in segments, not as a file.
pub const FILE_OCTETS_MAX: u64 = 256 * 1024 * 1024;
/// Files of the folder that one look takes in, at most; the others wait for the next ones.
const FILES_MAX: usize = 1_024;
/// The most octets one event carries.
const CHUNK_OCTETS: u16 = 4_096;
/// Names tried for a file that is moved to where one of its name is already.
const NAMES_MAX: u32 = 1_000;
/// Where files go that gave everything.
const DONE: &str = "done";
/// Where files go that gave nothing, or something that was refused.
const REFUSED: &str = "refused";

/// A file that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    path: PathBuf,
}

/// What tells a file that grows from one that is whole.
type Shape = (OsString, u64, Option<SystemTime>);

/// Waits for a whole file in `folder`, the first by name.
///
/// Errors: the folder cannot be read.
pub async fn next(folder: &Path) -> io::Result<Arrival> {
    let mut before = look(folder)?;
    loop {
        sleep(LOOK_PERIOD).await;
        let now = look(folder)?;
        if let Some((name, ..)) = now.iter().find(|file| before.contains(file)) {
            return Ok(Arrival { path: folder.join(name) });
        }
        before = now;
    }
}

fn look(folder: &Path) -> io::Result<Vec<Shape>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(FILES_MAX) {
        let entry = entry?;
        let name = entry.file_name();
        // One that goes at this moment is none.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_file() && !name.as_encoded_bytes().starts_with(b".") {
            files.push((name, about.len(), about.modified().ok()));
        }
    }
    files.sort();
    Ok(files)
}

impl Arrival {
    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `each` with its octets, a chunk after the other.
    ///
    /// Errors: it cannot be read, or is larger than [`FILE_OCTETS_MAX`].
    pub fn read(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut file = self.open()?;
        let mut chunk = [0; CHUNK_OCTETS as usize];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(()),
                count => each(&chunk[..count]),
            }
        }
    }

    /// Hands its octets over as one conversation. Must be called on a tokio runtime.
    ///
    /// Errors: as [`Arrival::read`].
    pub fn link(&self, clock: Clock) -> io::Result<Link> {
        let file = self.open()?;
        let (link, end) = Link::new(Identity::default(), clock);
        tokio::spawn(serve(file, end));
        Ok(link)
    }

    /// Everything it gave is durable.
    ///
    /// Errors: it cannot be moved; it is then found again.
    pub fn done(self) -> io::Result<PathBuf> {
        self.move_to(DONE)
    }

    /// It gave nothing, or something that was refused: for a person to look at.
    ///
    /// Errors: as [`Arrival::done`].
    pub fn refused(self) -> io::Result<PathBuf> {
        self.move_to(REFUSED)
    }

    fn open(&self) -> io::Result<std::fs::File> {
        let file = std::fs::File::open(&self.path)?;
        let octets = file.metadata()?.len();
        if octets > FILE_OCTETS_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{octets} octets, at most {FILE_OCTETS_MAX}")));
        }
        Ok(file)
    }

    fn move_to(self, place: &str) -> io::Result<PathBuf> {
        let folder = self.path.parent().unwrap_or(Path::new(".")).join(place);
        std::fs::create_dir_all(&folder)?;
        let name = self.path.file_name().unwrap_or_default();
        for number in 1..=NAMES_MAX {
            let mut free = name.to_owned();
            if number > 1 {
                free.push(format!(".{number}"));
            }
            let to = folder.join(free);
            if !to.try_exists()? {
                std::fs::rename(&self.path, &to)?;
                return Ok(to);
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

/// Serves the file to its end: a chunk is read when the one before was taken.
async fn serve(mut file: std::fs::File, end: LinkEnd) {
    let LinkEnd { mut commands, mut outlet } = end;
    let up = Occurrence::Up { mtu: CHUNK_OCTETS, security: Security::None, has: vec![Endpoint::SERIAL] };
    // What is filed is handed over before more is: there is always room for it.
    let mut filed = outlet.put(up);
    let mut chunk = [0; CHUNK_OCTETS as usize];
    let reason = loop {
        filed = tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Close) | None => break DownReason::Closed,
                Some(command) => outlet.put(refusal(command)),
            },
            open = outlet.forward(), if outlet.is_pending() => match open {
                true => Ok(()),
                false => break DownReason::Closed,
            },
            () = std::future::ready(()), if filed.is_ok() => match file.read(&mut chunk) {
                Ok(0) => break DownReason::End,
                Ok(count) => {
                    let octets = chunk[..count].to_vec();
                    outlet.put(Occurrence::Received { from: Endpoint::SERIAL, octets, by: By::File })
                }
                Err(error) => {
                    tracing::warn!(%error, "a file cannot be read any more");
                    break DownReason::Lost;
                }
            },
            else => break DownReason::Lost,
        };
    };
    outlet.finish(reason).await;
}

/// A file takes nothing but to be read.
fn refusal(command: Command) -> Occurrence {
    match command {
        Command::Subscribe(command, endpoint) if endpoint == Endpoint::SERIAL => Occurrence::Done { command },
        Command::Subscribe(command, _)
        | Command::Read(command, _)
        | Command::Port(command, _)
        | Command::Write { token: command, .. } => {
            Occurrence::Failed { command, error: LinkError::Refused("a file is only read".to_owned()) }
        }
        Command::Close => Occurrence::Down { reason: DownReason::Closed },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kit_protocol::moment::Moment;

    use super::*;
    use crate::driver::Token;

    fn clock() -> Clock {
        Arc::new(|| Moment::from_nanos(7))
    }

    async fn everything(link: &mut Link) -> (Vec<u8>, Option<Occurrence>) {
        let (mut octets, mut last) = (Vec::new(), None);
        while let Some(event) = link.next().await {
            if let Occurrence::Received { octets: more, by: By::File, .. } = &event.what {
                octets.extend(more);
            }
            last = Some(event.what);
        }
        (octets, last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_handed_over_whole_and_moved_when_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join(".half"), b"x").unwrap();
        for _ in 0..2 {
            std::fs::write(folder.path().join("ecg.dat"), &content).unwrap();
            let arrival = next(folder.path()).await.unwrap();
            let mut link = arrival.link(clock()).unwrap();
            let (octets, last) = everything(&mut link).await;
            assert_eq!((octets == content, last), (true, Some(Occurrence::Down { reason: DownReason::End })));
            let mut read = Vec::new();
            arrival.read(|chunk| read.extend_from_slice(chunk)).unwrap();
            assert!(read == content);
            arrival.done().unwrap();
        }
        assert!(folder.path().join("done/ecg.dat").exists() && folder.path().join("done/ecg.dat.2").exists());
        let waiting = tokio::time::timeout(Duration::from_secs(3_600), next(folder.path())).await;
        assert!(waiting.is_err(), "nothing else is a file");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_grows_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ecg.dat");
        let mut content = vec![1];
        std::fs::write(&path, &content).unwrap();
        let started = tokio::time::Instant::now();
        let arriving = next(folder.path());
        tokio::pin!(arriving);
        for _ in 0..5 {
            let grown = tokio::time::timeout(LOOK_PERIOD * 3 / 4, &mut arriving).await;
            assert!(grown.is_err());
            content.push(1);
            std::fs::write(&path, &content).unwrap();
        }
        assert_eq!(arriving.await.unwrap().path(), path);
        assert!(started.elapsed() > LOOK_PERIOD * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_too_large_is_not_read_and_a_folder_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        std::fs::File::create(&path).unwrap().set_len(FILE_OCTETS_MAX + 1).unwrap();
        let arrival = next(folder.path()).await.unwrap();
        assert_eq!(arrival.link(clock()).err().map(|error| error.kind()), Some(io::ErrorKind::FileTooLarge));
        assert!(arrival.refused().unwrap().ends_with("refused/huge"));
        assert!(next(&folder.path().join("none")).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_takes_no_command_but_close() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), vec![0; 1_000_000]).unwrap();
        let mut link = next(folder.path()).await.unwrap().link(clock()).unwrap();
        let to = Endpoint::SERIAL;
        link.carry_out(Command::Write { token: Token(1), to, octets: vec![1], response: false }).await;
        let mut refused = false;
        while !refused {
            let event = link.next().await.unwrap();
            refused = matches!(event.what, Occurrence::Failed { command: Token(1), .. });
        }
        link.carry_out(Command::Close).await;
        let (octets, last) = everything(&mut link).await;
        assert!(octets.len() < 1_000_000);
        assert_eq!(last, Some(Occurrence::Down { reason: DownReason::Closed }));
    }
}
