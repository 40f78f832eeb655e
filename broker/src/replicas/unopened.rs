//! Topics whose logs could not be opened when the cluster got them: no space, no file descriptors. They are opened as soon as they can be.
//!
//! A part of [`Replicas`]: `adopt` notes them, `remove` forgets them, a task of their own tries again. Until then requests are told that the partition is
//! not here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flumen_log::OpenError;
use flumen_protocol::id::TopicId;
use parking_lot::Mutex;

use super::Replicas;
use crate::cluster::image::TopicImage;

/// How often it is tried again.
const TRY_EVERY: Duration = Duration::from_millis(500);

/// What is to be opened.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) topic: Arc<TopicImage>,
    /// What was set for the topic.
    pub(super) set: BTreeMap<String, String>,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Unopened {
    topics: Mutex<BTreeMap<TopicId, Wanted>>,
    /// Held while a topic is opened or removed.
    turn: tokio::sync::Mutex<()>,
}

impl Replicas {
    /// Opens a topic, or what of it is not open yet; what cannot be opened now is tried again until it can be, or is deleted.
    pub(super) async fn open_or_try_again(self: &Arc<Self>, wanted: Wanted) {
        let _turn = self.unopened.turn.lock().await;
        let id = wanted.topic.id;
        let Err(error) = self.open_wanted(&wanted).await else {
            self.unopened.topics.lock().remove(&id);
            return;
        };
        let name = wanted.topic.name.clone();
        if self.unopened.topics.lock().insert(id, wanted).is_none() {
            tracing::error!(topic = name, %error, "topic cannot be opened; trying again until it can be");
            let replicas = Arc::downgrade(self);
            let clock = Arc::clone(&self.drivers.clock);
            self.drivers.spawn("open a topic later", async move {
                loop {
                    clock.sleep(TRY_EVERY).await;
                    // Weakly held: a broker that has stopped lets go of its directory.
                    let Some(replicas) = replicas.upgrade() else {
                        return;
                    };
                    if replicas.is_settled(id).await {
                        return;
                    }
                }
            });
        }
    }

    /// Tries once more; true if nothing is left to be done.
    async fn is_settled(self: &Arc<Self>, id: TopicId) -> bool {
        let _turn = self.unopened.turn.lock().await;
        let wanted = self.unopened.topics.lock().get(&id).cloned();
        let Some(wanted) = wanted else {
            return true;
        };
        if self.open_wanted(&wanted).await.is_err() {
            return false;
        }
        self.unopened.topics.lock().remove(&id);
        tracing::info!(topic = wanted.topic.name, "topic is open after all");
        true
    }

    async fn open_wanted(self: &Arc<Self>, wanted: &Wanted) -> Result<(), OpenError> {
        let (replicas, wanted) = (Arc::clone(self), wanted.clone());
        let open = self.partitions.topic_by_id(wanted.topic.id);
        let opening = move || replicas.open_topic(&wanted.topic, &wanted.set, open.as_deref());
        self.partitions
            .insert(self.drivers.blocking(opening).await?);
        Ok(())
    }

    /// The topic is deleted: nobody wants it any more.
    pub(super) async fn forget_unopened(&self, id: TopicId) {
        let _turn = self.unopened.turn.lock().await;
        self.unopened.topics.lock().remove(&id);
    }
}
