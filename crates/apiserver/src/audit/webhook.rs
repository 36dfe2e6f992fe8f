//! Events sent to a webhook, in batches. Like the log, it never makes a request wait: what does not fit into
//! its queue, or cannot be delivered after some tries, is dropped and counted.

use super::Sink;
use super::event::Event;
use kybern_authn::fetch::Fetch;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Memory that waiting events may take.
const QUEUE_BYTES: usize = 8 << 20;
/// Most events of one request, and most of their bytes.
const BATCH: usize = 400;
const BATCH_BYTES: usize = 1 << 20;
/// After the first event it waits this long for more.
const BEAT: Duration = Duration::from_secs(1);
/// A batch that is not taken is sent again this often, after a pause that doubles.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Queue {
    events: std::collections::VecDeque<Event>,
    bytes: usize,
}

impl Queue {
    fn batch(&mut self) -> Vec<Event> {
        let (mut count, mut bytes) = (0, 0);
        for event in self.events.iter().take(BATCH) {
            if count > 0 && bytes + event.weight() > BATCH_BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + event.weight());
        }
        self.bytes -= bytes;
        self.events.drain(..count).collect()
    }
}

/// The webhook as a sink.
pub struct Webhook {
    url: String,
    way: Arc<dyn Fetch>,
    queue: Mutex<Queue>,
    news: Notify,
    sent: Counter,
    dropped: Counter,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Posts to `url`; [`Self::run`] does the work.
    pub fn new(url: &str, way: Arc<dyn Fetch>, metrics: &mut Registry) -> Arc<Self> {
        let (sent, dropped) = (Counter::default(), Counter::default());
        metrics.register("apiserver_audit_webhook_event", "Audit events a webhook took.", sent.clone());
        metrics.register("apiserver_audit_webhook_dropped", "Audit events no webhook took.", dropped.clone());
        let (queue, news) = (Mutex::default(), Notify::new());
        Arc::new(Self { url: url.to_owned(), way, queue, news, sent, dropped })
    }

    /// Sends what comes until `cancel`, then once what waits.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        while cancel.run_until_cancelled(self.news.notified()).await.is_some() {
            cancel.run_until_cancelled(tokio::time::sleep(BEAT)).await;
            while self.deliver(TRIES, &cancel).await {}
        }
        while self.deliver(1, &cancel).await {}
    }

    /// Sends one batch; false: there is none.
    async fn deliver(&self, tries: u32, cancel: &CancellationToken) -> bool {
        let batch = self.queue.lock().batch();
        if batch.is_empty() {
            return false;
        }
        let items: Vec<_> = batch.iter().map(Event::to_json).collect();
        let list = json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": items });
        let body = list.to_string().into_bytes();
        let mut pause = PAUSE;
        for attempt in 1..=tries {
            match self.way.post(&self.url, body.clone()).await {
                Ok(_) => {
                    self.sent.inc_by(batch.len() as u64);
                    return true;
                }
                Err(why) => tracing::warn!(url = self.url, why, attempt, "the audit webhook did not take a batch"),
            }
            if attempt < tries && cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            pause *= 2;
        }
        self.dropped.inc_by(batch.len() as u64);
        true
    }
}

impl Sink for Webhook {
    fn push(&self, event: Event) {
        let weight = event.weight();
        let mut queue = self.queue.lock();
        if queue.bytes + weight > QUEUE_BYTES {
            drop(queue);
            self.dropped.inc();
            return;
        }
        queue.bytes += weight;
        queue.events.push_back(event);
        drop(queue);
        self.news.notify_one();
    }
}

/// Several sinks, each of which gets every event.
pub struct Sinks(pub Vec<Arc<dyn Sink>>);

impl Sink for Sinks {
    fn push(&self, event: Event) {
        let Some((last, others)) = self.0.split_last() else { return };
        for sink in others {
            sink.push(event.clone());
        }
        last.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kybern_authn::fetch::Fetching;
    use serde_json::Value;

    /// Takes batches, unless it is down; says how many events each had.
    #[derive(Default)]
    struct Hook {
        down: Mutex<u32>,
        batches: Mutex<Vec<usize>>,
    }

    impl Fetch for Hook {
        fn get<'a>(&'a self, _: &'a str) -> Fetching<'a> {
            unreachable!("a webhook is posted to")
        }
        fn post<'a>(&'a self, _: &'a str, body: Vec<u8>) -> Fetching<'a> {
            let mut down = self.down.lock();
            if *down > 0 {
                *down -= 1;
                return Box::pin(std::future::ready(Err("down".to_owned())));
            }
            let list: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
            assert_eq!(list["items"][0]["kind"], "Event");
            self.batches.lock().push(list["items"].as_array().map_or(0, Vec::len));
            Box::pin(std::future::ready(Ok(Vec::new())))
        }
    }

    fn start(down: u32) -> (Arc<Hook>, Arc<Webhook>, CancellationToken, tokio::task::JoinHandle<()>) {
        let hook = Arc::new(Hook { down: Mutex::new(down), ..Hook::default() });
        let webhook = Webhook::new("https://hook.example/audit", hook.clone(), &mut Registry::default());
        let cancel = CancellationToken::new();
        let running = tokio::spawn(webhook.clone().run(cancel.clone()));
        (hook, webhook, cancel, running)
    }

    #[tokio::test(start_paused = true)]
    async fn events_go_in_batches_and_the_last_before_the_end() {
        let (hook, webhook, cancel, running) = start(0);
        (0..900).for_each(|_| webhook.push(Event::default()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(*hook.batches.lock(), [400, 400, 100]);
        webhook.push(Event::default());
        cancel.cancel();
        running.await.expect("ended");
        assert_eq!(*hook.batches.lock(), [400, 400, 100, 1]);
        assert_eq!((webhook.sent.get(), webhook.dropped.get()), (901, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_is_down_gets_the_batch_again_and_loses_it_in_the_end() {
        let (hook, webhook, cancel, running) = start(4);
        webhook.push(Event::default());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((hook.batches.lock().len(), webhook.sent.get()), (1, 1), "the fifth try was taken");
        *hook.down.lock() = 5;
        webhook.push(Event::default());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((webhook.sent.get(), webhook.dropped.get()), (1, 1), "five tries, and no more");
        webhook.push(Event::default());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(webhook.sent.get(), 2, "what comes later is not held up");
        cancel.cancel();
        running.await.expect("ended");
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_dropped_and_nobody_waits() {
        let (_, webhook, cancel, running) = start(0);
        // the task has not run yet: everything waits
        let most = QUEUE_BYTES / Event::default().weight();
        (0..most + 10).for_each(|_| webhook.push(Event::default()));
        assert_eq!(webhook.dropped.get(), 10);
        cancel.cancel();
        running.await.expect("ended");
        assert_eq!(webhook.sent.get(), most as u64);
    }
}
