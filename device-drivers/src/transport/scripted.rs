//! A recorded conversation, for tests: what the device says and when, against what the session is expected to ask.
//!
//! [`Conversation`] plays a script against a session in virtual time: commands are matched against what the script expects
//! of them and answered as it says; outputs are collected, and answered `Stored` unless the script holds that back.

use std::time::Duration;

use kit_protocol::moment::Moment;

use crate::driver::{By, Command, DownReason, DriverError, Endpoint, Event, LinkError, Output, Security, Session, Token};

/// One step of a recorded conversation.
#[derive(Clone, Debug)]
pub enum Step {
    /// The link comes up with these endpoints.
    Up(Vec<Endpoint>),
    /// The session must next have asked to read this: it gets these octets, then `Done`.
    Read(Endpoint, Vec<u8>),
    /// The session must next have asked to subscribe to this: `Done`.
    Subscribe(Endpoint),
    /// The session must next have written these octets: `Done`.
    Write(Endpoint, Vec<u8>),
    /// The session's next command, whichever it is, fails.
    Fail(LinkError),
    /// The session must next have closed the link.
    Close,
    /// The session must not want anything.
    Quiet,
    /// The device sends this.
    Sends(Endpoint, By, Vec<u8>),
    /// So much time goes by; every timeout that the session asked for comes.
    Wait(Duration),
    /// From here on outputs are not answered.
    HoldAnswers,
    /// Everything that was not answered is `Stored` now, and so is what comes.
    Answer,
    /// The next measurement is `Refused` instead of `Stored`.
    RefuseNext,
    /// The link ends.
    Down(DownReason),
}

/// What the session gave, with the moment.
pub type Given = (Moment, Result<(Token, Output), DriverError>);

/// A session with a script played against it.
pub struct Conversation {
    session: Box<dyn Session>,
    now: Moment,
    commands: Vec<Command>,
    given: Vec<Given>,
    holding: bool,
    refuse_next: bool,
    unanswered: Vec<Token>,
}

impl Conversation {
    /// With a session that has seen nothing yet; it is 1 s after boot.
    #[must_use]
    pub fn new(session: Box<dyn Session>) -> Self {
        let now = Moment::ZERO + Duration::from_secs(1);
        Self { session, now, commands: Vec::new(), given: Vec::new(), holding: false, refuse_next: false, unanswered: Vec::new() }
    }

    /// Plays a whole script and gives what the session gave; the error says at which step what was met instead.
    pub fn play(session: Box<dyn Session>, script: &[Step]) -> Result<Vec<Given>, String> {
        let mut conversation = Self::new(session);
        for (at, step) in script.iter().enumerate() {
            conversation.step(step).map_err(|met| format!("step {at}, {step:?}: {met}"))?;
        }
        Ok(conversation.given)
    }

    /// What the session gave so far.
    pub fn given(&self) -> &[Given] {
        &self.given
    }

    /// The moment it is.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Plays one step; the error says what was met instead.
    pub fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Up(has) => self.event(Event::Up { mtu: 23, security: Security::Unauthenticated, has }),
            Step::Sends(from, by, octets) => self.event(Event::Received { from: *from, octets, by: *by }),
            Step::Down(reason) => self.event(Event::Down { reason: *reason }),
            Step::Read(from, octets) => match self.next_command()? {
                Command::Read(token, asked) if asked == *from => {
                    self.event(Event::Received { from: *from, octets, by: By::Read });
                    self.event(Event::Done { command: token });
                }
                other => return Err(format!("the session wants {other:?}")),
            },
            Step::Subscribe(to) => match self.next_command()? {
                Command::Subscribe(token, asked) if asked == *to => self.event(Event::Done { command: token }),
                other => return Err(format!("the session wants {other:?}")),
            },
            Step::Write(to, expected) => match self.next_command()? {
                Command::Write { token, to: asked, octets, .. } if asked == *to && octets == *expected => {
                    self.event(Event::Done { command: token });
                }
                other => return Err(format!("the session wants {other:?}")),
            },
            Step::Fail(error) => {
                let command = match self.next_command()? {
                    Command::Subscribe(token, _) | Command::Read(token, _) | Command::Port(token, _) => token,
                    Command::Write { token, .. } => token,
                    Command::Close => return Err("the session closes".into()),
                };
                self.event(Event::Failed { command, error: error.clone() });
            }
            Step::Close => match self.next_command()? {
                Command::Close => {}
                other => return Err(format!("the session wants {other:?}")),
            },
            Step::Quiet => {
                if let Some(command) = self.commands.first() {
                    return Err(format!("the session wants {command:?}"));
                }
            }
            Step::Wait(span) => self.wait(*span),
            Step::HoldAnswers => self.holding = true,
            Step::RefuseNext => self.refuse_next = true,
            Step::Answer => {
                self.holding = false;
                self.answer();
            }
        }
        Ok(())
    }

    fn next_command(&mut self) -> Result<Command, String> {
        if self.commands.is_empty() { Err("the session wants nothing".into()) } else { Ok(self.commands.remove(0)) }
    }

    fn event(&mut self, event: Event<'_>) {
        self.session.handle_event(self.now, event);
        self.drain();
    }

    fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        loop {
            self.commands.extend(std::iter::from_fn(|| self.session.poll_command()));
            let before = self.given.len();
            while let Some(output) = self.session.poll_output() {
                self.unanswered.extend(output.as_ref().ok().map(|(token, _)| *token));
                self.given.push((self.now, output));
            }
            if self.given.len() == before {
                return;
            }
            self.answer();
        }
    }

    fn answer(&mut self) {
        if self.holding {
            return;
        }
        for reading in std::mem::take(&mut self.unanswered) {
            let refused = std::mem::take(&mut self.refuse_next);
            let answer = if refused { Event::Refused { reading } } else { Event::Stored { reading } };
            self.session.handle_event(self.now, answer);
        }
        self.drain();
    }
}
