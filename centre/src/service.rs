//! The running centre: the link to the broker, the thread that owns the database, and what flows between them.
//!
//! ```text
//! broker ─→ Link ─ deliveries ─→ ingest thread: verify, store, commit ─ replies ─→ answers, then PUBACK ─→ broker
//! ```

use std::future::Future;
use std::thread;

use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use crate::clock;
use crate::config::Config;
use crate::intake::{Intake, Message};
use crate::mqtt::{Delivery, INBOX_MESSAGES_MAX, Link, Reply, send_replies};
use crate::store::{Store, StoreError};

/// Messages of one commit, at most: the broker's whole window, and a bound on how long an answer waits.
const GROUP_MESSAGES_MAX: usize = 64;

/// Why the centre stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The database cannot be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The system gave no thread.
    #[error("no thread for the database: {0}")]
    Thread(std::io::Error),
    /// The ingest thread ended by itself.
    #[error("the ingest thread ended")]
    IngestEnded,
}

/// Runs the centre until `shutdown` is ready: connects, takes, stores, answers, and connects again for ever.
///
/// Errors: only what keeps it from starting, and the end of its ingest thread; a broker that is away is waited for.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let mut store = Store::open(&config.database)?;
    let first_counter = store.reserve_counters(clock::wall())?;
    let intake = Intake::new(store, config.kits.clone(), config.signing.clone())?;
    let (deliver, inbox) = mpsc::channel(INBOX_MESSAGES_MAX);
    let (reply, replies) = mpsc::channel(INBOX_MESSAGES_MAX);
    let (stop, stopping) = watch::channel(false);
    let ingest =
        thread::Builder::new().name("ingest".into()).spawn(move || ingest(intake, inbox, &reply)).map_err(RunError::Thread)?;
    let replying = tokio::spawn(send_replies(replies));
    let mut link = tokio::spawn(Link::new(config, deliver, stopping, first_counter).keep());
    info!("the centre is running");
    let sound = tokio::select! {
        ended = &mut link => ended.unwrap_or(false),
        () = shutdown => {
            info!("stopping");
            stop.send_replace(true);
            (&mut link).await.unwrap_or(false)
        }
    };
    // The link held the last sender: the thread takes what it has, commits it, and ends; then so does the replying task.
    let joined = tokio::task::spawn_blocking(move || ingest.join()).await;
    let replied = replying.await;
    match (sound, joined, replied) {
        (true, Ok(Ok(())), Ok(())) => Ok(()),
        _ => Err(RunError::IngestEnded),
    }
}

/// Takes what waits, in one commit, and hands over the replies; ends when the link does.
fn ingest(mut intake: Intake, mut inbox: mpsc::Receiver<Delivery>, replies: &mpsc::Sender<Reply>) {
    while let Some(first) = inbox.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MESSAGES_MAX
            && let Ok(next) = inbox.try_recv()
        {
            group.push(next);
        }
        let messages: Vec<Message> = group.iter().filter_map(|delivery| delivery.message.clone()).collect();
        let mut taken = intake.take(&messages, clock::wall()).into_iter();
        for delivery in group {
            let answers = match delivery.message {
                Some(_) => taken.next().unwrap_or_default(),
                None => intake.ask_again(),
            };
            if replies.blocking_send(delivery.replied(answers)).is_err() {
                error!("nobody sends the replies");
                return;
            }
        }
    }
}
