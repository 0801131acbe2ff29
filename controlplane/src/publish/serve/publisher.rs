//! From snapshots to versions: equal ones are no news, and those that come too fast are skipped.

use std::sync::Arc;

use api::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Hub;

/// Publishes the newest snapshot until its source ends. The first of several goes out at once, the last after the
/// interval.
pub(super) async fn run(hub: Arc<Hub>, mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>) {
    loop {
        let newest = snapshots.borrow_and_update().clone();
        let next = Instant::now() + hub.options.publish_interval;
        if let Some(snapshot) = newest {
            publish(&hub, &snapshot);
            sleep_until(next).await;
        }
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

fn publish(hub: &Hub, snapshot: &Snapshot) {
    hub.predictions.keep(snapshot);
    let published = hub.archive.publish(snapshot);
    let (version, source) = (published.state.mark.version, published.source);
    tracing::debug!(version = version.version, source = source.version, "published");
    hub.current.send_if_modified(|current| {
        let news = current.as_ref().is_none_or(|current| current.state.mark != published.state.mark);
        *current = Some(Arc::new(published));
        news
    });
    hub.seen.send_replace(Some(snapshot.seen.clone()));
    hub.registry.publish(version, source);
}
