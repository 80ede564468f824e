//! One conversation with one device: octets from the link into the session, commands back, outputs through the Recorder
//! to the store, and `Stored` back to the session once it is durable.

use std::sync::Arc;
use std::time::Duration;

use device_drivers::driver::{Command, Driver, DriverError, Effect, Endpoint, Event, LinkError, Session};
use device_drivers::transport::{Link, LinkEvent, Occurrence};
use kit_protocol::uplink::wire::record::Content;
use tokio::sync::watch;

use super::filing::{Answer, Filing};
use super::recorder::{NOT_THE_PATIENT, Recorder, Surroundings};
use super::roster::Roster;
use super::window::{ReadingAt, Windows};
use crate::clock::Clock;
use crate::identity::memories::Memories;
use crate::store::outbox::{Appended, StoreError};
use crate::store::thread::{Draft, StoreHandle};

/// Timers sleep no longer than this, and then compare moments: the boot clock goes on while the machine sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// A store that refuses an append is asked again so often.
const APPEND_RETRY: Duration = Duration::from_secs(2);
/// And so often where the conversation must end.
const CLOSING_RETRY: Duration = Duration::from_millis(500);
/// A conversation that must end gets this long to have what it gave made durable.
const CLOSING_MAX: Duration = Duration::from_secs(4);

/// Why a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The link went down.
    LinkDown,
    /// The session closed it.
    Closed,
    /// We stopped it: the assignment changes, or the agent ends.
    Stopped,
}

/// How a conversation ended, and what came of what it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// Why it ended.
    pub ended: Ended,
    /// Outputs that the session gave.
    pub given: u64,
    /// Of them, those that are durable.
    pub stored: u64,
    /// Of them, those that were refused.
    pub refused: u64,
    /// What it could not give: undecodable, another device's.
    pub failures: u64,
}

/// What a conversation needs besides link and session.
pub struct Surface<'a> {
    /// Where records go.
    pub store: &'a StoreHandle,
    /// The clocks.
    pub clock: &'a Arc<Clock>,
    /// What is shown of the device.
    pub roster: &'a Roster,
    /// Its place there.
    pub at: usize,
    /// Where it is kept what is known of the device's memory.
    pub memories: &'a Memories,
    /// Measurement windows.
    pub windows: &'a Windows,
    /// The device's identity.
    pub device: &'a str,
    /// What may be written to it.
    pub writes: Writes,
    /// Turns true when the conversation must end.
    pub stop: watch::Receiver<bool>,
}

/// What may be written to a device.
#[derive(Clone, Copy, Debug)]
pub struct Writes {
    /// Its driver's rows.
    pub driver: &'static Driver,
    /// Records may be deleted.
    pub may_delete: bool,
    /// Its clock may be set.
    pub may_set_clock: bool,
}

impl Writes {
    fn check(&self, to: Endpoint, octets: &[u8]) -> Result<(), &'static str> {
        match self.driver.allows(to, octets).map(|row| row.effect) {
            None => Err("no row of the driver allows it"),
            Some(Effect::Delete) if !self.may_delete => Err("nothing may be deleted on this device"),
            Some(Effect::SetClock) if !self.may_set_clock => Err("this device's clock may not be set"),
            Some(_) => Ok(()),
        }
    }
}

/// Holds one conversation until its link goes down, its session closes, or it is stopped. What the session gave by then is
/// made durable first.
pub async fn converse<S: Surroundings>(
    mut link: Link,
    session: Box<dyn Session>,
    recorder: Recorder<S>,
    surface: Surface<'_>,
) -> Conclusion {
    let conclusion = Conclusion { ended: Ended::LinkDown, given: 0, stored: 0, refused: 0, failures: 0 };
    let mut talk = Talk { session, recorder, surface, down: false, closing: false, refused: None, conclusion };
    let ended = talk.hold(&mut link).await;
    talk.close(&mut link, ended).await;
    Conclusion { ended, ..talk.conclusion }
}

struct Talk<'a, S> {
    session: Box<dyn Session>,
    recorder: Recorder<S>,
    surface: Surface<'a>,
    /// The session was told that the link is down.
    down: bool,
    /// The last chance: the store is asked again whether we are to stop or not.
    closing: bool,
    /// What the store refused when we were told to stop. Nothing after it becomes durable before it does, so that the stream's
    /// mark stays before it, and the whole span is declared missed when the device returns.
    refused: Option<Filing>,
    conclusion: Conclusion,
}

impl<S: Surroundings> Talk<'_, S> {
    async fn hold(&mut self, link: &mut Link) -> Ended {
        loop {
            if let Some(ended) = self.settle(link).await {
                return ended;
            }
            let (of_session, of_recorder) = (self.session.poll_timeout(), self.recorder.poll_timeout());
            let wake = of_session.into_iter().chain(of_recorder).min();
            let sleep = wake.map_or(SLEEP_MAX, |wake| wake.since(self.surface.clock.now()).min(SLEEP_MAX));
            tokio::select! {
                event = link.next() => match event {
                    Some(event) => self.take(&event),
                    None => return Ended::LinkDown,
                },
                () = tokio::time::sleep(sleep) => {
                    let now = self.surface.clock.now();
                    if of_session.is_some_and(|wake| wake <= now) {
                        self.session.handle_timeout(now);
                    }
                    self.tell_window();
                    self.recorder.handle_timeout(now);
                }
                () = stopped(&mut self.surface.stop) => return Ended::Stopped,
            }
        }
    }

    /// Carries out what the session wants and files what it gave, until it has nothing more.
    async fn settle(&mut self, link: &Link) -> Option<Ended> {
        loop {
            let mut quiet = true;
            while let Some(command) = self.session.poll_command() {
                quiet = false;
                if command == Command::Close {
                    link.carry_out(command).await;
                    return Some(Ended::Closed);
                }
                if let Some(command) = self.allowed(command) {
                    link.carry_out(command).await;
                }
            }
            quiet &= !self.hand_on().await;
            if self.refused.is_some() {
                return Some(Ended::Stopped);
            }
            if quiet {
                return self.down.then_some(Ended::LinkDown);
            }
        }
    }

    /// The command, unless it is a write that is on no row of its driver, or that nobody allowed here: such a one never reaches
    /// the link.
    fn allowed(&mut self, command: Command) -> Option<Command> {
        let Command::Write { token, to, octets, .. } = &command else { return Some(command) };
        let Err(why) = self.surface.writes.check(*to, octets) else { return Some(command) };
        let now = self.surface.clock.now();
        tracing::warn!(device = self.surface.device, why, "a write was not sent");
        self.recorder.event(now, "write-not-allowed", 1);
        self.session.handle_event(now, Event::Failed { command: *token, error: LinkError::Refused(why.into()) });
        None
    }

    /// Files what the session gave, once. True if there was anything.
    async fn hand_on(&mut self) -> bool {
        let mut any = false;
        self.tell_window();
        while let Some(output) = self.session.poll_output() {
            any = true;
            self.count(&output);
            self.recorder.take(self.surface.clock.now(), output);
        }
        self.keep_memory(false);
        any | self.file().await
    }

    /// The Recorder learns how the device's measurement window stands.
    fn tell_window(&mut self) {
        self.recorder.window(self.surface.windows.of(self.surface.device));
    }

    /// What is known of the device's memory is on the disk before what follows from it is.
    fn keep_memory(&mut self, ends: bool) {
        if let Some(memory) = self.recorder.poll_memory(ends)
            && let Err(error) = self.surface.memories.keep(self.surface.device, &memory)
        {
            // Less will then be taken from the device's memory, not more; but for what it sends again after its clock was set.
            tracing::warn!(%error, "what is known of the device's memory could not be kept");
        }
    }

    fn take(&mut self, event: &LinkEvent) {
        self.recorder.stirred(event.at);
        match event.what {
            Occurrence::Received { .. } => self.recorder.heard(event.at),
            Occurrence::Down { .. } => {
                self.recorder.link_down();
                self.down = true;
            }
            _ => {}
        }
        self.session.handle_event(event.at, event.what.as_event());
    }

    /// Makes what the Recorder filed durable, one record after the other, and answers the session. True if there was any.
    async fn file(&mut self) -> bool {
        let mut any = false;
        while let Some(filing) = self.refused.take().or_else(|| self.recorder.poll_filing()) {
            any = true;
            self.make_durable(filing).await;
            if self.refused.is_some() {
                return any;
            }
        }
        while let Some(answer) = self.recorder.poll_answer() {
            any = true;
            self.answer(answer);
        }
        any
    }

    async fn make_durable(&mut self, filing: Filing) {
        let content = Counted::of(&filing.draft);
        match self.append(&filing.draft).await {
            Ok(appended) => {
                self.surface.roster.update(self.surface.at, |view| {
                    view.trouble = None;
                    match content {
                        Counted::Reading => view.readings += 1,
                        Counted::Segment => view.segments += 1,
                        Counted::Refusal => view.refused += 1,
                        Counted::NotThePatient(count) => view.not_the_patient += count,
                        Counted::Other => {}
                    }
                });
                if matches!(content, Counted::Reading | Counted::Segment) {
                    self.surface.roster.measured(self.surface.at, self.surface.clock.now());
                }
                match (content, appended) {
                    (Counted::Reading, Appended::New { epoch, seq }) => {
                        self.surface.windows.measured(self.surface.device, ReadingAt { epoch: epoch.to_string(), seq });
                    }
                    (Counted::Refusal, _) => self.surface.windows.refused(self.surface.device),
                    _ => {}
                }
                filing.answers.into_iter().for_each(|answer| self.answer(answer));
            }
            Err(NotDurable::GaveUp) => self.refused = Some(filing),
            Err(NotDurable::TooBig) => {
                let refused = filing.answers.into_iter().map(Answer::refused).collect();
                self.recorder.refuse(self.surface.clock.now(), "too-big", &[], refused);
            }
        }
    }

    /// Appends until it is durable: a full or failing disk is waited for, and nothing is answered meanwhile.
    async fn append(&mut self, draft: &Draft) -> Result<Appended, NotDurable> {
        loop {
            match self.surface.store.append(draft.clone()).await {
                Ok(appended) => return Ok(appended),
                Err(StoreError::TooBig { .. }) => return Err(NotDurable::TooBig),
                Err(error) => {
                    tracing::warn!(%error, "the store refused an append; trying again");
                    if self.closing {
                        tokio::time::sleep(CLOSING_RETRY).await;
                        continue;
                    }
                    if tokio::time::timeout(APPEND_RETRY, stopped(&mut self.surface.stop)).await.is_ok() {
                        return Err(NotDurable::GaveUp);
                    }
                }
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        let now = self.surface.clock.now();
        match answer {
            Answer::Stored(_) => self.conclusion.stored += 1,
            Answer::Refused(_) => self.conclusion.refused += 1,
        }
        match answer {
            Answer::Stored(reading) => self.session.handle_event(now, Event::Stored { reading }),
            Answer::Refused(reading) => self.session.handle_event(now, Event::Refused { reading }),
        }
    }

    fn count<T>(&mut self, output: &Result<T, DriverError>) {
        match output {
            Ok(_) => self.conclusion.given += 1,
            Err(DriverError::Resynchronised { .. } | DriverError::SamplesLost { .. }) => {}
            Err(_) => self.conclusion.failures += 1,
        }
        match output {
            Err(DriverError::Resynchronised { skipped }) => {
                self.surface.roster.update(self.surface.at, |view| view.skipped_octets += skipped)
            }
            Err(DriverError::NotThisDevice(why) | DriverError::Protocol(why)) => {
                let trouble = format!("{why}; check that the driver in the configuration is the device's");
                self.surface.roster.update(self.surface.at, |view| view.trouble = Some(trouble.clone()));
            }
            Ok(_) | Err(DriverError::Undecodable { .. } | DriverError::SamplesLost { .. }) => {}
        }
    }

    /// Ends the conversation: what is still on its way is taken, what the session still gives is filed and made durable. A disk
    /// that refuses is waited for as long as nobody needs the conversation to be over.
    async fn close(&mut self, link: &mut Link, ended: Ended) {
        self.closing = true;
        let mut stop = self.surface.stop.clone();
        let patience = async {
            stopped(&mut stop).await;
            tokio::time::sleep(CLOSING_MAX).await;
        };
        tokio::select! {
            () = self.take_the_rest(link, ended) => {}
            () = patience => tracing::warn!(
                "a closing conversation did not end in time; what it did not store is declared missed when the device returns"
            ),
        }
    }

    async fn take_the_rest(&mut self, link: &mut Link, ended: Ended) {
        if ended != Ended::LinkDown {
            link.carry_out(Command::Close).await;
        }
        while let Some(event) = link.next().await {
            self.take(&event);
            self.hand_on().await;
        }
        while self.hand_on().await {}
        self.recorder.finish();
        self.keep_memory(true);
        self.file().await;
    }
}

/// What a record counts as in the roster.
#[derive(Clone, Copy)]
enum Counted {
    Reading,
    Segment,
    Refusal,
    NotThePatient(u64),
    Other,
}

impl Counted {
    fn of(draft: &Draft) -> Self {
        match &draft.content {
            Content::Reading(_) => Self::Reading,
            Content::Segment(_) => Self::Segment,
            Content::Refusal(_) => Self::Refusal,
            Content::DeviceEvent(event) if event.what == NOT_THE_PATIENT => Self::NotThePatient(event.count),
            _ => Self::Other,
        }
    }
}

/// Why a record did not become durable.
enum NotDurable {
    /// It is larger than any record may be.
    TooBig,
    /// The conversation is to end, and the store refuses.
    GaveUp,
}

/// Waits until `stop` turns true; for ever where nobody can turn it any more.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
