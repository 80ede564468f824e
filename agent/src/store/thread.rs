//! The one blocking thread that owns the outbox: group commit, and the filing of drafts into records.
//!
//! A commit costs an fsync, whatever it holds, so what is queued goes together: the first of 256 records, 2 MiB, or 20 ms
//! after the first of them. A lone caller does not wait: a group is committed as soon as it is as large as the one before and
//! nothing more is queued; only where more callers came last time are they waited for, until none comes for a millisecond.
//!
//! A store that fails is dropped and opened again, at most once a second. Every request is answered, and none waits for a
//! store that does not open. After each commit the view changes first; then the callers are answered.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use kit_protocol::uplink::id::{EpochId, Lane, Origin, RunId};
use kit_protocol::uplink::settlement::Settlement;
use kit_protocol::uplink::wire;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::epochs::{Options, Store};
use super::filing::file;
use super::outbox::{Appended, Chunk, Class, EpochView, Mark, NewRecord, Outbox, ReadLimit, StoreError};
use super::sled::panic_text;

/// Records that one commit takes, at most.
pub const GROUP_RECORDS_MAX: usize = 256;
/// Octets of records that one commit takes, at most; the last one may pass it.
pub const GROUP_OCTETS_MAX: usize = 2 << 20;
/// How long a commit waits after its first record, at most.
pub const GROUP_WAIT_MAX: Duration = Duration::from_millis(20);
/// A commit waits no longer once no record came for so long.
pub const GROUP_PAUSE_MAX: Duration = Duration::from_millis(1);
/// Requests that queue for the thread, at most; who asks beyond it waits.
pub const REQUESTS_MAX: usize = 512;
/// A store that failed is opened again after so long, at the earliest, and without being asked.
pub const REOPEN_DELAY: Duration = Duration::from_secs(1);

/// What is past its time is looked for so often, between other requests.
pub const TIDIED_EVERY: Duration = Duration::from_secs(60);

/// A record before it has its small numbers: the store resolves them against the open epoch, encodes once, appends.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Its lane.
    pub lane: Lane,
    /// Where its bytes are kept.
    pub class: Class,
    /// Reception, nanoseconds of CLOCK_BOOTTIME.
    pub boottime_ns: u64,
    /// The gateway's clock at reception.
    pub clock: wire::Clock,
    /// Becomes `device` of the content.
    pub device: Option<wire::Device>,
    /// Becomes `driver` of the content.
    pub driver: Option<wire::Driver>,
    /// Becomes `from_clock` of a `Missed`.
    pub from_clock: Option<wire::Clock>,
    /// The content, its small numbers still 0.
    pub content: wire::record::Content,
    /// What makes the measurement the same one.
    pub origin: Option<Origin>,
    /// Kept in the same commit.
    pub marks: Vec<Mark>,
}

/// What the store's thread is asked.
#[derive(Debug)]
#[expect(missing_docs, reason = "each is the method of StoreHandle by that name")]
pub enum Request {
    Append(Box<Draft>, Answer<Appended>),
    Read(EpochId, Lane, u64, ReadLimit, Answer<Chunk>),
    ReadLocal(EpochId, Lane, u64, ReadLimit, Answer<Chunk>),
    Settle(EpochId, Lane, Settlement, Answer<()>),
    ResetSettled(EpochId, Lane, Settlement, Answer<()>),
    Quarantine(EpochId, Lane, u64, String, Answer<()>),
    SwitchEpoch(Option<String>, wire::EpochReason, Answer<EpochId>),
    Mark(String, Answer<Option<Vec<u8>>>),
    /// Asked by the thread of itself.
    Tidy,
    Close(oneshot::Sender<Result<(), StoreError>>),
}

/// Where an answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// How the rest of the agent speaks to the store; cheap to clone. When the last one is dropped the thread ends, cleanly.
#[derive(Clone, Debug)]
pub struct StoreHandle {
    requests: mpsc::Sender<Request>,
    view: watch::Receiver<StoreView>,
}

/// What the store looks like after its last commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreView {
    /// Every epoch, oldest first; the open one last.
    pub epochs: Vec<EpochView>,
    /// Quarantined numbers with their reasons.
    pub quarantined: Vec<(EpochId, Lane, u64, String)>,
    /// Why appends are refused, where they are; "opening" until the store is open for the first time.
    pub trouble: Option<String>,
}

impl StoreHandle {
    /// Starts the thread that opens the store and owns it. What is asked before it is open waits for it.
    pub fn start(options: Options) -> io::Result<Self> {
        Self::start_with(move || Store::open(options.clone()))
    }

    /// Starts the thread over any outbox; `open` is called again when it failed.
    pub fn start_with<O: Outbox + 'static>(open: impl FnMut() -> Result<O, StoreError> + Send + 'static) -> io::Result<Self> {
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let (publish, view) = watch::channel(StoreView { trouble: Some("opening".into()), ..StoreView::default() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let worker = Worker { open, outbox: None, tried: None, queue, held: None, last_group: 0, tidied: None, publish };
        std::thread::Builder::new().name("store".into()).spawn(move || runtime.block_on(worker.run()))?;
        Ok(Self { requests, view })
    }

    /// Makes a record durable; returns once it is on the disk (I1).
    ///
    /// Errors: [`StoreError::Full`], [`StoreError::TooBig`], [`StoreError::Broken`]. After `Broken` nothing was stored, but
    /// for one case: the disk failed within the commit and could not be opened again at once. A record with an origin may be
    /// appended again in any case.
    pub async fn append(&self, draft: Draft) -> Result<Appended, StoreError> {
        self.ask(|answer| Request::Append(Box::new(draft), answer)).await
    }

    /// [`Outbox::read`].
    pub async fn read(&self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        self.ask(|answer| Request::Read(epoch, lane, from, limit, answer)).await
    }

    /// [`Outbox::read_local`].
    pub async fn read_local(&self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
        self.ask(|answer| Request::ReadLocal(epoch, lane, from, limit, answer)).await
    }

    /// [`Outbox::settle`].
    pub async fn settle(&self, epoch: EpochId, lane: Lane, settled: Settlement) -> Result<(), StoreError> {
        self.ask(|answer| Request::Settle(epoch, lane, settled, answer)).await
    }

    /// [`Outbox::reset_settled`].
    pub async fn reset_settled(&self, epoch: EpochId, lane: Lane, settled: Settlement) -> Result<(), StoreError> {
        self.ask(|answer| Request::ResetSettled(epoch, lane, settled, answer)).await
    }

    /// [`Outbox::quarantine`].
    pub async fn quarantine(&self, epoch: EpochId, lane: Lane, seq: u64, reason: &str) -> Result<(), StoreError> {
        self.ask(|answer| Request::Quarantine(epoch, lane, seq, reason.to_owned(), answer)).await
    }

    /// [`Outbox::switch_epoch`]. What was asked to append before it goes into the epoch before it.
    pub async fn switch_epoch(&self, assignment: Option<&str>, reason: wire::EpochReason) -> Result<EpochId, StoreError> {
        self.ask(|answer| Request::SwitchEpoch(assignment.map(str::to_owned), reason, answer)).await
    }

    /// [`Outbox::mark`].
    pub async fn mark(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(|answer| Request::Mark(key.to_owned(), answer)).await
    }

    /// What the store looks like; changes with every commit, before its callers are answered.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<StoreView> {
        self.view.clone()
    }

    /// Ends the thread once all that was asked before is done, and makes durable what was not waited for. What is asked after
    /// it is answered [`StoreError::Broken`].
    pub async fn close(&self) -> Result<(), StoreError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let closed = || StoreError::Broken("the store is closed".into());
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// Records that wait for one commit, each with who asked for it.
#[derive(Default)]
struct Group {
    records: Vec<NewRecord>,
    answers: Vec<Answer<Appended>>,
    octets: usize,
}

/// The numbers that a commit would begin with, by which it is known again.
struct Before {
    epoch: EpochId,
    run: RunId,
    lane: Lane,
    next: u64,
}

struct Worker<O, F> {
    open: F,
    outbox: Option<O>,
    /// When it was last tried to open the store.
    tried: Option<Instant>,
    queue: mpsc::Receiver<Request>,
    /// Taken from the queue, and next.
    held: Option<Request>,
    last_group: usize,
    /// When nothing was found any more that is past its time.
    tidied: Option<Instant>,
    publish: watch::Sender<StoreView>,
}

impl<O: Outbox, F: FnMut() -> Result<O, StoreError>> Worker<O, F> {
    async fn run(mut self) {
        self.open_if_due();
        while let Some(request) = self.next().await {
            match request {
                Request::Append(draft, answer) => self.append(*draft, answer).await,
                Request::Tidy => self.tidy(),
                Request::Close(answer) => {
                    let flushed = self.with(O::flush);
                    self.outbox = None;
                    drop(answer.send(flushed));
                    return;
                }
                other => self.answer(other),
            }
        }
        if let Err(error) = self.with(O::flush) {
            tracing::warn!(%error, "the store ends without its last cursors; they are acknowledged again");
        }
    }

    /// The next request; meanwhile a store that failed is opened again.
    async fn next(&mut self) -> Option<Request> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        while self.outbox.is_none() {
            match timeout(REOPEN_DELAY, self.queue.recv()).await {
                Ok(request) => return request,
                Err(_) => self.open_if_due(),
            }
        }
        let due = self.tidied.map_or_else(Instant::now, |tidied| tidied + TIDIED_EVERY);
        if let Ok(request) = timeout_at(due, self.queue.recv()).await {
            return request;
        }
        Some(Request::Tidy)
    }

    /// Deletes a step's worth of what is past its time.
    fn tidy(&mut self) {
        match self.with(O::tidy) {
            Ok(true) => self.publish_keeping_trouble(),
            Ok(false) => self.tidied = Some(Instant::now()),
            Err(error) => {
                tracing::warn!(%error, "what is past its time was not deleted");
                self.tidied = Some(Instant::now());
            }
        }
    }

    /// Gathers a group around the first draft, commits it, and answers.
    async fn append(&mut self, draft: Draft, answer: Answer<Appended>) {
        let mut group = Group::default();
        self.file(&mut group, draft, answer);
        let until = Instant::now() + GROUP_WAIT_MAX;
        while group.records.len() < GROUP_RECORDS_MAX && group.octets < GROUP_OCTETS_MAX {
            match self.next_for(group.records.len(), until).await {
                Some(Request::Append(draft, answer)) => self.file(&mut group, *draft, answer),
                other => {
                    self.held = other;
                    break;
                }
            }
        }
        self.last_group = group.records.len();
        self.commit(group);
    }

    /// The next request for a group of so many: what is queued; else, where more callers are to be expected, what comes soon.
    async fn next_for(&mut self, gathered: usize, until: Instant) -> Option<Request> {
        if let Ok(request) = self.queue.try_recv() {
            return Some(request);
        }
        if gathered >= self.last_group {
            return None;
        }
        let pause = GROUP_PAUSE_MAX.min(until.saturating_duration_since(Instant::now()));
        timeout(pause, self.queue.recv()).await.ok().flatten()
    }

    fn file(&mut self, group: &mut Group, draft: Draft, answer: Answer<Appended>) {
        let filed = self.with(|outbox| {
            let assignment = outbox.open_epoch().1.map(str::to_owned);
            let record = file(draft, assignment.as_deref(), &mut |what| outbox.define(what));
            record.check_size().map(|()| record)
        });
        match filed {
            Ok(record) => {
                group.octets += record.bytes.len();
                group.records.push(record);
                group.answers.push(answer);
            }
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    fn commit(&mut self, group: Group) {
        if group.records.is_empty() {
            return;
        }
        let before = self.before(&group);
        let done = match self.with(|outbox| outbox.append(&group.records)) {
            Err(StoreError::Broken(text)) if self.reached_the_disk(before) => {
                tracing::warn!(text, "a commit failed and had reached the disk all the same");
                Ok(vec![Appended::Known; group.answers.len()])
            }
            other => other,
        };
        let trouble = match &done {
            // It is open again: the next append is not refused.
            Err(StoreError::Broken(_)) if self.outbox.is_some() => None,
            other => other.as_ref().err().map(ToString::to_string),
        };
        self.publish(trouble);
        match done {
            Ok(appended) => {
                for (answer, appended) in group.answers.into_iter().zip(appended) {
                    drop(answer.send(Ok(appended)));
                }
            }
            Err(error) => {
                for answer in group.answers {
                    drop(answer.send(Err(error.clone())));
                }
            }
        }
    }

    fn before(&self, group: &Group) -> Option<Before> {
        let outbox = self.outbox.as_ref()?;
        let lane = group.records.first()?.lane;
        let view = self.publish.borrow();
        let open = view.epochs.last()?;
        Some(Before { epoch: open.epoch, run: outbox.run(), lane, next: open.lanes[lane.index()].next })
    }

    /// After a commit that failed: opens the store again and looks whether the group is there, whole as it was written.
    fn reached_the_disk(&mut self, before: Option<Before>) -> bool {
        let Some(before) = before else { return false };
        if self.outbox.is_none() {
            self.open_if_due();
        }
        let found = self.with(|outbox| outbox.sealed_under(before.epoch, before.lane, before.next));
        found.is_ok_and(|run| run == Some(before.run))
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Read(epoch, lane, from, limit, answer) => {
                self.tell_read(answer, |outbox| outbox.read(epoch, lane, from, limit));
            }
            Request::ReadLocal(epoch, lane, from, limit, answer) => {
                self.tell_read(answer, |outbox| outbox.read_local(epoch, lane, from, limit));
            }
            Request::Settle(epoch, lane, settled, answer) => {
                self.tell(answer, |outbox| outbox.settle(epoch, lane, &settled));
            }
            Request::ResetSettled(epoch, lane, settled, answer) => {
                self.tell(answer, |outbox| outbox.reset_settled(epoch, lane, &settled));
            }
            Request::Quarantine(epoch, lane, seq, reason, answer) => {
                self.tell(answer, |outbox| outbox.quarantine(epoch, lane, seq, &reason));
            }
            Request::SwitchEpoch(assignment, reason, answer) => {
                self.tell(answer, |outbox| outbox.switch_epoch(assignment.as_deref(), reason));
            }
            Request::Mark(key, answer) => drop(answer.send(self.with(|outbox| Ok(outbox.mark(&key))))),
            Request::Append(..) | Request::Tidy | Request::Close(_) => {}
        }
    }

    fn tell<T>(&mut self, answer: Answer<T>, act: impl FnOnce(&mut O) -> Result<T, StoreError>) {
        let done = self.with(act);
        self.publish_keeping_trouble();
        drop(answer.send(done));
    }

    fn tell_read(&mut self, answer: Answer<Chunk>, act: impl FnOnce(&mut O) -> Result<Chunk, StoreError>) {
        let done = self.with(act);
        if done.as_ref().is_ok_and(|chunk| !chunk.unreadable.is_empty()) {
            self.publish_keeping_trouble();
        }
        drop(answer.send(done));
    }

    /// Does something with the store. One that fails, or panics, is dropped, and opened again before the next time.
    fn with<T>(&mut self, act: impl FnOnce(&mut O) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.outbox.is_none() {
            self.open_if_due();
        }
        let Some(outbox) = &mut self.outbox else {
            let trouble = self.publish.borrow().trouble.clone();
            return Err(StoreError::Broken(trouble.unwrap_or_else(|| "the store is not open".into())));
        };
        let done = catch_unwind(AssertUnwindSafe(|| act(outbox)));
        let done = done.unwrap_or_else(|panic| Err(StoreError::Broken(format!("panicked: {}", panic_text(&*panic)))));
        if let Err(StoreError::Broken(text)) = &done {
            tracing::error!(text, "the store failed and is opened again");
            let failed = self.outbox.take();
            if catch_unwind(AssertUnwindSafe(|| drop(failed))).is_err() {
                tracing::error!("the store panicked while it was dropped");
            }
            self.publish(Some(text.clone()));
        }
        done
    }

    fn open_if_due(&mut self) {
        let now = Instant::now();
        if self.tried.is_some_and(|tried| now.duration_since(tried) < REOPEN_DELAY) {
            return;
        }
        self.tried = Some(now);
        match catch_unwind(AssertUnwindSafe(&mut self.open)) {
            Ok(Ok(outbox)) => {
                self.outbox = Some(outbox);
                self.publish(None);
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the store does not open");
                self.publish(Some(error.to_string()));
            }
            Err(panic) => self.publish(Some(format!("opening panicked: {}", panic_text(&*panic)))),
        }
    }

    fn publish_keeping_trouble(&self) {
        let trouble = self.publish.borrow().trouble.clone();
        self.publish(trouble);
    }

    /// Shows what the store holds now; of one that is not open, what it held.
    fn publish(&self, trouble: Option<String>) {
        self.publish.send_if_modified(|view| {
            let shown = match &self.outbox {
                Some(outbox) => StoreView { epochs: outbox.epochs(), quarantined: outbox.quarantined(), trouble },
                None => StoreView { trouble, ..view.clone() },
            };
            let changed = *view != shown;
            *view = shown;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use kit_protocol::uplink::wire::EpochReason;
    use kit_protocol::uplink::wire::record::Content;

    use super::super::conformance::{ALL, options};
    use super::super::memory::{Disk, Fail, MemoryOutbox};
    use super::*;

    fn draft(n: u64) -> Draft {
        let event = wire::DeviceEvent { what: "connected".into(), count: n, ..Default::default() };
        Draft {
            lane: Lane::Vitals,
            class: Class::Value,
            boottime_ns: n,
            clock: wire::Clock { boot_id: vec![7; 16], ..Default::default() },
            device: None,
            driver: None,
            from_clock: None,
            content: Content::DeviceEvent(event),
            origin: None,
            marks: Vec::new(),
        }
    }

    /// Counts commits, and holds the first one up for as long as the gate's other end says nothing.
    struct Counted {
        inner: MemoryOutbox,
        commits: Arc<AtomicUsize>,
        gate: Option<Gate>,
    }

    type Gate = std::sync::mpsc::Receiver<()>;

    impl Outbox for Counted {
        fn append(&mut self, group: &[NewRecord]) -> Result<Vec<Appended>, StoreError> {
            if let Some(gate) = self.gate.take() {
                gate.recv().unwrap();
            }
            self.commits.fetch_add(1, Ordering::Relaxed);
            self.inner.append(group)
        }
        fn define(&mut self, what: &wire::definition::What) -> u32 {
            self.inner.define(what)
        }
        fn read(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
            self.inner.read(epoch, lane, from, limit)
        }
        fn settle(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
            self.inner.settle(epoch, lane, settled)
        }
        fn reset_settled(&mut self, epoch: EpochId, lane: Lane, settled: &Settlement) -> Result<(), StoreError> {
            self.inner.reset_settled(epoch, lane, settled)
        }
        fn quarantine(&mut self, epoch: EpochId, lane: Lane, seq: u64, reason: &str) -> Result<(), StoreError> {
            self.inner.quarantine(epoch, lane, seq, reason)
        }
        fn quarantined(&self) -> Vec<(EpochId, Lane, u64, String)> {
            self.inner.quarantined()
        }
        fn read_local(&mut self, epoch: EpochId, lane: Lane, from: u64, limit: ReadLimit) -> Result<Chunk, StoreError> {
            self.inner.read_local(epoch, lane, from, limit)
        }
        fn sealed_under(&mut self, epoch: EpochId, lane: Lane, seq: u64) -> Result<Option<RunId>, StoreError> {
            self.inner.sealed_under(epoch, lane, seq)
        }
        fn epochs(&self) -> Vec<EpochView> {
            self.inner.epochs()
        }
        fn switch_epoch(&mut self, assignment: Option<&str>, reason: EpochReason) -> Result<EpochId, StoreError> {
            self.inner.switch_epoch(assignment, reason)
        }
        fn open_epoch(&self) -> (EpochId, Option<&str>) {
            self.inner.open_epoch()
        }
        fn flush(&mut self) -> Result<(), StoreError> {
            self.inner.flush()
        }
        fn tidy(&mut self) -> Result<bool, StoreError> {
            self.inner.tidy()
        }
        fn mark(&self, key: &str) -> Option<Vec<u8>> {
            self.inner.mark(key)
        }
        fn run(&self) -> RunId {
            self.inner.run()
        }
    }

    fn start(disk: &Arc<Mutex<Disk>>) -> StoreHandle {
        start_gated(disk, None).0
    }

    fn start_gated(disk: &Arc<Mutex<Disk>>, mut gate: Option<Gate>) -> (StoreHandle, Arc<AtomicUsize>) {
        let commits = Arc::new(AtomicUsize::new(0));
        let (disk, counter) = (Arc::clone(disk), Arc::clone(&commits));
        let open = move || Ok(Counted { inner: MemoryOutbox::open(&disk), commits: Arc::clone(&counter), gate: gate.take() });
        (StoreHandle::start_with(open).unwrap(), commits)
    }

    async fn records(store: &StoreHandle) -> usize {
        let mut view = store.view();
        let epoch = view.wait_for(|view| !view.epochs.is_empty()).await.unwrap().epochs.last().unwrap().epoch;
        let mut count = 0;
        let mut from = 1;
        loop {
            let chunk = store.read(epoch, Lane::Vitals, from, ALL).await.unwrap();
            if chunk.records.is_empty() {
                return count;
            }
            count += chunk.records.len();
            from = chunk.next;
        }
    }

    #[tokio::test]
    async fn i1_who_appends_is_answered_with_the_number_of_a_record_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreHandle::start(options(dir.path())).unwrap();
        for n in 1..=5 {
            let Appended::New { seq, .. } = store.append(draft(n)).await.unwrap() else { panic!("known") };
            assert_eq!(seq, n);
        }
        assert_eq!(records(&store).await, 5);
        store.close().await.unwrap();
        assert!(matches!(store.append(draft(6)).await, Err(StoreError::Broken(_))), "closed");
        let again = StoreHandle::start(options(dir.path())).unwrap();
        assert_eq!(records(&again).await, 5);
    }

    #[tokio::test]
    async fn many_callers_share_commits_and_each_gets_a_number_of_its_own() {
        let (open_gate, gate) = std::sync::mpsc::channel();
        let (store, commits) = start_gated(&Arc::default(), Some(gate));
        let callers: Vec<_> = (0..300)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move { store.append(draft(n)).await.unwrap() })
            })
            .collect();
        // The first commit stands still until every other caller has asked.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        open_gate.send(()).unwrap();
        let mut numbers = BTreeSet::new();
        for caller in callers {
            let Appended::New { seq, .. } = caller.await.unwrap() else { panic!("known") };
            assert!(numbers.insert(seq));
        }
        assert_eq!(numbers, (1..=300).collect());
        let commits = commits.load(Ordering::Relaxed);
        assert!((2..=4).contains(&commits), "{commits} commits of 300 records, 256 at most in each");
    }

    #[tokio::test]
    async fn the_view_shows_a_record_before_its_caller_is_answered() {
        let store = start(&Arc::default());
        let view = store.view();
        for n in 1..=20 {
            store.append(draft(n)).await.unwrap();
            let shown = view.borrow().epochs.last().unwrap().lanes[Lane::Vitals.index()].next;
            assert_eq!(shown, n + 1);
        }
        assert_eq!(view.borrow().trouble, None);
    }

    #[tokio::test]
    async fn one_record_past_its_bound_does_not_take_the_others_of_its_group_with_it() {
        let store = start(&Arc::default());
        let refusal = wire::Refusal { octets: vec![0; 8_000], ..Default::default() };
        let big = Draft { content: Content::Refusal(refusal), ..draft(1) };
        let (first, refused, last) = tokio::join!(store.append(draft(1)), store.append(big), store.append(draft(2)));
        assert!(matches!(refused, Err(StoreError::TooBig { .. })));
        assert!(first.is_ok() && last.is_ok());
    }

    #[tokio::test]
    async fn a_full_disk_is_said_in_the_view_and_forgotten_when_there_is_room() {
        let disk = Arc::<Mutex<Disk>>::default();
        let store = start(&disk);
        store.append(draft(1)).await.unwrap();
        disk.lock().unwrap().full = true;
        assert!(matches!(store.append(draft(2)).await, Err(StoreError::Full(_))));
        assert!(store.view().borrow().trouble.as_deref().unwrap().contains("no room"));
        assert_eq!(records(&store).await, 1, "reading goes on");
        disk.lock().unwrap().full = false;
        store.append(draft(2)).await.unwrap();
        assert_eq!(store.view().borrow().trouble, None);
    }

    #[tokio::test]
    async fn i1_a_commit_that_failed_is_not_told_as_stored_and_one_that_reached_the_disk_is_not_doubled() {
        for (fail, stored) in [(Fail::Before, false), (Fail::After, true), (Fail::Panic, false)] {
            let disk = Arc::<Mutex<Disk>>::default();
            let store = start(&disk);
            store.append(draft(1)).await.unwrap();
            tokio::time::sleep(REOPEN_DELAY + Duration::from_millis(50)).await;
            disk.lock().unwrap().fail_next_commit = Some(fail);
            let answer = store.append(draft(2)).await;
            assert_eq!(answer.is_ok(), stored, "{fail:?}: {answer:?}");
            assert_eq!(records(&store).await, if stored { 2 } else { 1 });
            store.append(draft(3)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn every_request_is_answered_while_the_store_does_not_open_and_it_opens_by_itself_later() {
        let disk = Arc::<Mutex<Disk>>::default();
        let read_only = Arc::new(AtomicBool::new(true));
        let seen = Arc::clone(&read_only);
        let store = StoreHandle::start_with(move || match seen.load(Ordering::Relaxed) {
            true => Err(StoreError::Broken("the disk is read-only".into())),
            false => Ok(MemoryOutbox::open(&disk)),
        })
        .unwrap();
        let epoch = EpochId([1; 16]);
        assert!(store.append(draft(1)).await.is_err());
        assert!(store.read(epoch, Lane::Vitals, 1, ALL).await.is_err());
        assert!(store.read_local(epoch, Lane::Vitals, 1, ALL).await.is_err());
        assert!(store.settle(epoch, Lane::Vitals, Settlement::default()).await.is_err());
        assert!(store.reset_settled(epoch, Lane::Vitals, Settlement::default()).await.is_err());
        assert!(store.quarantine(epoch, Lane::Vitals, 1, "x").await.is_err());
        assert!(store.switch_epoch(None, EpochReason::AssignmentEnd).await.is_err());
        assert!(store.mark("x").await.is_err());
        let mut view = store.view();
        assert!(view.borrow().trouble.as_deref().unwrap().contains("read-only"));
        read_only.store(false, Ordering::Relaxed);
        view.wait_for(|view| view.trouble.is_none()).await.unwrap();
        store.append(draft(1)).await.unwrap();
    }

    #[tokio::test]
    async fn i4_what_was_asked_before_a_switch_goes_into_the_epoch_before_it() {
        let store = start(&Arc::default());
        let append = |n| store.append(draft(n));
        let switch = store.switch_epoch(Some("A-1"), EpochReason::AssignmentStart);
        let (before, opened, after) = tokio::join!(append(1), switch, append(2));
        let epoch = |appended: Result<Appended, StoreError>| match appended.unwrap() {
            Appended::New { epoch, .. } => epoch,
            Appended::Known => panic!("known"),
        };
        assert_ne!(epoch(before), opened.clone().unwrap());
        assert_eq!(epoch(after), opened.unwrap());
    }

    #[tokio::test]
    async fn the_thread_ends_when_the_last_handle_is_dropped() {
        let store = start(&Arc::default());
        store.append(draft(1)).await.unwrap();
        let mut view = store.view();
        drop(store);
        while view.changed().await.is_ok() {}
    }
}
