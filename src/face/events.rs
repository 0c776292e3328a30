//! Owns the stream of documents that a page is kept up by, and how many pages may have one at a time. It does not own what a
//! document says.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::unfold;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::document::document;
use super::shown::Face;

/// How often the pipelines are looked at, and a document is made.
const TICK: Duration = Duration::from_secs(1);

/// How many pages may be kept up at a time.
pub(super) const PAGES_MAX: usize = 32;

/// What is sent to every page.
#[derive(Clone, Debug)]
pub(super) struct Events {
    documents: watch::Receiver<(u64, Arc<str>)>,
    slots: Arc<Semaphore>,
}

impl Events {
    /// Returns the stream, and what makes its documents as long as it runs: the stream ends with that.
    pub(super) fn new(face: Face) -> (Events, impl Future<Output = ()> + Send) {
        let (sender, documents) = watch::channel((0, Arc::from("")));
        let slots = Arc::new(Semaphore::new(PAGES_MAX));
        let free = Arc::clone(&slots);
        let making = async move {
            let mut every = interval(TICK);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for tick in 1.. {
                every.tick().await;
                let now = Instant::now();
                face.look(now);
                // Each route has a receiver, whether or not a page is open.
                let text = match free.available_permits() {
                    PAGES_MAX => String::new(),
                    _ if crate::mutant::on("page_left_behind") => String::new(),
                    _ => document(&face, now, tick, false),
                };
                sender.send_replace((tick, text.into()));
            }
        };
        (Events { documents, slots }, making)
    }
}

/// Answers with the documents: at once one that has all, then one of each second.
pub(super) fn events(face: &Face, events: &Events) -> Response {
    let Ok(slot) = Arc::clone(&events.slots).try_acquire_owned() else {
        let head = [(header::RETRY_AFTER, "5")];
        let what = "as many pages are open as there may be\n";
        return (StatusCode::SERVICE_UNAVAILABLE, head, what).into_response();
    };
    let mut documents = events.documents.clone();
    let tick = documents.borrow_and_update().0;
    let first = document(face, Instant::now(), tick, true);
    let stream =
        unfold((Some(first), documents, slot), move |(first, mut documents, slot)| async move {
            let text = match first {
                Some(first) => first,
                None => loop {
                    documents.changed().await.ok()?;
                    let text = Arc::clone(&documents.borrow_and_update().1);
                    if !text.is_empty() {
                        break text.to_string();
                    }
                },
            };
            Some((Ok::<_, Infallible>(Event::default().data(text)), (None, documents, slot)))
        });
    Sse::new(stream).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::promotion::Promotion;

    #[tokio::test(start_paused = true)]
    async fn a_document_is_made_each_second_for_those_that_read_it_and_no_other() {
        let (events, making) = Events::new(Face::new(Promotion::default()));
        // As each route has its own.
        let [mut reads, _routes @ ..] = [0; 5].map(|_| events.documents.clone());
        tokio::spawn(making);
        let mut next = async || {
            reads.changed().await.expect("it is made as long as it is asked for");
            reads.borrow_and_update().clone()
        };
        let (first, text) = next().await;
        assert_eq!((&*text, next().await), ("", (first + 1, "".into())), "nobody looks");
        let page = Arc::clone(&events.slots).acquire_owned().await.expect("a free slot");
        for tick in first + 2..first + 5 {
            let (at, text) = next().await;
            assert_eq!(at, tick);
            assert!(text.contains(&format!("\"tick\":{tick},")), "the page is left behind: {text}");
        }
        drop(page);
        assert_eq!(&*next().await.1, "");
    }
}
