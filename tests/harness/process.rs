//! Programs that are this one started again under a role, and that never outlive it.
//!
//! Cargo builds no other package's program for a demonstration or a test, so every program is a library function and the
//! demonstration starts itself with a hidden first argument that names which one.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

/// The hidden first argument.
pub const ROLE: &str = "--role";
/// How long a program that ends by itself may take: longer than the agent's command line waits for an answer.
const END_WITHIN_MAX: Duration = Duration::from_secs(60);
/// How often a wait looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Starts programs out of one executable, each with its output in a file of its own.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    logs: PathBuf,
}

impl Launcher {
    /// Programs come out of `program` (the demonstration itself); what they print is appended to `logs/NAME.log`.
    #[must_use]
    pub fn new(program: PathBuf, logs: PathBuf) -> Self {
        Self { program, logs }
    }

    /// Starts `role` with `arguments`; `name` is its log's.
    pub fn start<S: AsRef<OsStr>>(&self, role: &str, name: &str, arguments: &[S]) -> std::io::Result<Program> {
        self.start_with(role, name, arguments, &[])
    }

    /// As [`Launcher::start`], with more environment.
    pub fn start_with<S: AsRef<OsStr>>(
        &self,
        role: &str,
        name: &str,
        arguments: &[S],
        environment: &[(&str, OsString)],
    ) -> std::io::Result<Program> {
        std::fs::create_dir_all(&self.logs)?;
        let log = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let child = self
            .command(role, arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0) // an interrupt from the terminal reaches the demonstration alone, which ends the others in order
            .spawn()?;
        Ok(Program { name: name.to_owned(), child, ended: None })
    }

    /// Runs `role` until it ends by itself, for at most [`END_WITHIN_MAX`], and gives what it printed.
    pub async fn to_its_end<S: AsRef<OsStr>>(&self, role: &str, arguments: &[S]) -> std::io::Result<Output> {
        let mut command = tokio::process::Command::from(self.command(role, arguments));
        let output = tokio::time::timeout(END_WITHIN_MAX, command.kill_on_drop(true).output());
        output.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    fn command<S: AsRef<OsStr>>(&self, role: &str, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(ROLE).arg(role).arg(std::process::id().to_string()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Where the output of `name` stands.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// The folder of all logs.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }
}

/// Called first by a program started under a role: it ends when the process `parent` does, however that ends.
pub fn die_with_parent(parent: &OsStr) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let alive = getppid().is_some_and(|pid| OsString::from(pid.as_raw_nonzero().to_string()) == parent);
    if alive { Ok(()) } else { Err(std::io::Error::other("the process that started this one is gone")) }
}

/// A running program; it is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Program {
    /// Its name, as its log has it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or_default();
        }
        self.ended
    }

    /// SIGKILL, as a power cut of this process would be; returns once it is gone.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            // Both fail only for a process that has already gone.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// SIGTERM, then up to `within` to end by itself, then SIGKILL. Gives how it ended by itself, `None` where it had to be killed.
    pub async fn terminate(&mut self, within: Duration) -> Option<ExitStatus> {
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = self.wait(within).await;
        if ended.is_none() {
            self.kill();
        }
        ended
    }

    /// Waits up to `within` for it to end by itself.
    pub async fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let waited = async {
            loop {
                if let Some(status) = self.ended() {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(within, waited).await.ok()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
