//! Tasks that are restarted when they panic, and ended together.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// A task that panicked starts again after this, doubling.
const RESTART_MIN: Duration = Duration::from_secs(1);
/// And at most after this.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// Conversations get this long to end.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The agent's tasks. Dropping it ends them all.
#[derive(Default)]
pub(super) struct Tasks {
    set: JoinSet<&'static str>,
}

impl Tasks {
    /// Runs a task that is to end only with the agent.
    pub(super) fn run(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Runs what `start` gives, and again when it panics: one bad device takes down its own conversation only (I6).
    pub(super) fn keep_running<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        mut start: impl FnMut() -> F + Send + 'static,
    ) {
        self.set.spawn(async move {
            let mut pause = RESTART_MIN;
            loop {
                let begun = Instant::now();
                let task = tokio::spawn(start());
                let _ends_with_us = EndOnDrop(task.abort_handle());
                match task.await {
                    Err(error) if error.is_panic() => {
                        tracing::error!(name, "a task panicked; it starts again");
                        if begun.elapsed() > RESTART_MAX {
                            // It ran well meanwhile: this is no panic in a row.
                            pause = RESTART_MIN;
                        }
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(RESTART_MAX);
                    }
                    Ok(()) | Err(_) => return name,
                }
            }
        });
    }

    /// Waits for a task that ended though it should not have.
    pub(super) async fn first_end(&mut self) -> String {
        match self.set.join_next().await {
            Some(Ok(name)) => format!("the task {name} ended"),
            Some(Err(error)) => format!("a task ended: {error}"),
            None => "no task was started".into(),
        }
    }

    /// Waits for the conversations to end, then ends every task.
    pub(super) async fn close(mut self, conversations: &Arc<RwLock<()>>) {
        let none_open = tokio::time::timeout(CLOSE_MAX, conversations.write()).await;
        if none_open.is_err() {
            tracing::warn!("a conversation did not end in time; what it did not store is declared missed at the next start");
        }
        // Held until then: an order that ends meanwhile lets no conversation begin again.
        self.set.shutdown().await;
        drop(none_open);
    }
}

struct EndOnDrop(AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn i6_a_task_that_panics_starts_again_and_the_others_go_on() {
        let starts = Arc::new(AtomicU32::new(0));
        let mut tasks = Tasks::default();
        let counted = Arc::clone(&starts);
        tasks.keep_running("device", move || {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                if start < 3 {
                    panic!("a driver's defect");
                }
                std::future::pending().await
            }
        });
        tasks.run("other", std::future::pending());
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(starts.load(Ordering::Relaxed), 4);
        assert!(tokio::time::timeout(Duration::from_secs(1), tasks.first_end()).await.is_err(), "nothing ended");
    }

    #[tokio::test(start_paused = true)]
    async fn i10_a_task_that_panics_now_and_then_does_not_wait_longer_each_time() {
        let starts = Arc::new(AtomicU32::new(0));
        let mut tasks = Tasks::default();
        let counted = Arc::clone(&starts);
        tasks.keep_running("device", move || {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                panic!("a driver's defect");
            }
        });
        // Ten hours, and nine panics of which none cost more than a second.
        tokio::time::sleep(Duration::from_secs(36_000 + 30)).await;
        assert_eq!(starts.load(Ordering::Relaxed), 11);
    }

    #[tokio::test]
    async fn i4_no_conversation_begins_again_while_the_agent_stops() {
        let conversations = Arc::new(RwLock::new(()));
        let mut tasks = Tasks::default();
        let (begun, begins) = (Arc::new(AtomicU32::new(0)), Arc::clone(&conversations));
        let counted = Arc::clone(&begun);
        let ordering = conversations.clone().write_owned().await;
        tasks.run("order", async move {
            tokio::task::yield_now().await;
            drop(ordering);
            std::future::pending().await
        });
        tasks.run("device", async move {
            tokio::task::yield_now().await;
            let _conversation = begins.read().await;
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        });
        tasks.close(&conversations).await;
        assert_eq!(begun.load(Ordering::Relaxed), 0);
    }
}
