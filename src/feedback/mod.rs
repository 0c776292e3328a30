//! Owns the way back: a shard read as a collection, first its contents, then every later commit. It
//! does not own what is read, nor what it is read for.
//!
//! # Operators
//!
//! ```text
//!   [ shard ] --log--> follower (task) --channel--> Feedback ----> rows, exchanged by key
//!                                                      '---------> known upper (shared cell)
//! ```
//!
//! Each worker has a follower, which sends the rows of its worker's keys: those that the exchange
//! brings to this worker anyway.
//!
//! # Dealing
//!
//! Followers look at the shard at different moments, and so at different states: one before a
//! compaction, the next after it. To deal parts or batches out would lose rows or double
//! them. A key is the one thing that no compaction changes. Every state holds the same collection at
//! every time that it tells apart, so each follower sends exactly its keys' share of that, whichever
//! states it has read; together the shares are the collection. The price is that every follower reads
//! every part; inside a process the cache hands it on.
//!
//! A step sends the times `[from, upper)` of one state, and no step begins before the one before it
//! is whole. A state may be used for it if no batch that reaches beyond `from` was forwarded to
//! `from` or later. The lease sees to that, and to the parts being there until the step is done.
//!
//! # Frontiers
//!
//! * rows, `p`: every row below it has been sent. It follows the log, whichever writer committed.
//! * known: the upper of the log, which is ahead of `p` while rows are still on their way.
//!
//! # Limits
//!
//! Parts in flight per worker: [`PARTS_AHEAD`], and bytes of parts, from the moment they are asked for
//! until the worker has taken their rows:
//! [`read_bytes_max`](crate::shard::HandleConfig::read_bytes_max). A commit of this process is seen at once, another
//! process's within the poll interval; after a rest within an eighth of that, and within 64 intervals. Workers that start while others write may begin at different
//! times; until the latest of these the collection is not whole.

mod follower;
mod message;
mod share;
mod stage;

use std::rc::Rc;
use std::sync::Arc;

use differential_dataflow::{AsCollection, VecCollection};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::follower::{Follower, Imaged};
use self::message::{Message, PARTS_AHEAD};
use self::share::Share;
use self::stage::{Seen, Stage};
use crate::codec::is_error;
use crate::codec::packed::Encoded;
use crate::control::lifecycle::Phase;
use crate::control::waking::Waking;
use crate::health::Status;
use crate::io::Io;
use crate::shard::{Handle, Update};
use crate::upsert::{Begin, ImageLink, Known};

pub(crate) use message::Poll;

/// Reads a shard as a collection, from its contents as of `upper - 1` on.
pub(crate) fn feedback<'scope>(
    scope: Scope<'scope, u64>,
    handle: Handle,
    io: &Io,
    poll: Poll,
    known: Known<u64>,
    status: Status,
    image: Option<(ImageLink, Option<Begin>)>,
) -> VecCollection<'scope, u64, (Encoded, Encoded), isize> {
    let mut builder = status.lifecycle().operator("UpsertFeedback", scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(Rc::clone(&address));
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Update>>>::from(output);

    let (sender, mut receiver) = mpsc::channel(PARTS_AHEAD);
    let (finished, mut finish) = oneshot::channel();
    // Cancelled when the operator is gone, or waits for nothing more than this reader.
    let leave = CancellationToken::new();
    let operator = scope.worker().sync_activator_for(address.to_vec());
    let follower = Follower {
        share: Share {
            window: handle.rows().window(),
            handle,
            worker: scope.index() as u64,
            peers: scope.peers() as u64,
        },
        epoch: status.epoch().clone(),
        poll,
        image: image.as_ref().map(|(link, begin)| Imaged { begin: *begin, needed: link.needed() }),
        outlet: Waking::new(sender, operator.clone()),
        vitals: Arc::clone(status.vitals()),
        leave: leave.clone(),
        finished: Waking::new(finished, operator),
    };
    let vitals = Arc::clone(status.vitals());
    io.spawn_answered("the reader of the shard", follower.run(), move |outcome| {
        // What it has found itself it has sent; what it could not say is said here.
        if let Err(error) = outcome {
            vitals.fail(error);
        }
    });

    builder.build(move |mut capabilities| {
        let mut capability = capabilities.pop();
        let mut leave = Some(leave.drop_guard());
        let mut stage = Stage::Reading;
        move |_| {
            stage = stage.next(Seen {
                released: status.phase() == Phase::Released,
                ended: status.has_ended().then(|| status.upper()),
                dropped: status.lifecycle().is_dropped(),
                complete: capability.as_ref().map(|held| *held.time()),
            });
            if stage.is_over() {
                if stage == Stage::Stopped {
                    drop(leave.take());
                }
                // The follower ends with the channel, and gives its hold back before it does.
                receiver.close();
                if !matches!(finish.try_recv(), Err(TryRecvError::Empty)) {
                    capability = None;
                }
                return;
            }
            let Some(held) = &mut capability else { return };
            // No more than what the channel held, so that other operators have their turn.
            for _ in 0..PARTS_AHEAD {
                match receiver.try_recv() {
                    Ok(Message::Known(upper)) => {
                        known.advance(upper);
                        status.wake_all();
                    }
                    Ok(Message::Begins(begins)) => {
                        if let Some((link, Some(begin))) = &image {
                            if let Ok(upper) = begins {
                                known.advance(upper);
                                // It has all that is below; to be hydrated it has to read what came since.
                                held.downgrade(&begin.from);
                                link.complete(begin.from);
                                if crate::mutant::on("hydrated_by_an_image") {
                                    status.set_read_to(begin.from);
                                }
                            }
                            begin_at(link, begin, begins, &status);
                        }
                    }
                    Ok(Message::Rows(mut rows, _room)) => {
                        let errors =
                            rows.iter().filter(|((_, value), ..)| is_error(value.as_bytes()));
                        let count = |((key, _), time, diff): &Update| {
                            status.vitals().in_error.see(key.as_bytes(), *diff);
                            if let Some((link, _)) = &image {
                                link.add_errors(*time, *diff as i64);
                            }
                            *diff
                        };
                        let more: isize = errors.map(count).sum();
                        if more != 0 {
                            status.vitals().in_error.add(more as i64);
                        }
                        output.activate().session(held).give_container(&mut rows);
                    }
                    Ok(Message::Complete(upper)) => {
                        held.downgrade(&upper);
                        if let Some((link, _)) = &image {
                            link.complete(upper);
                        }
                        status.set_read_to(upper);
                        if stage != Stage::Reading {
                            // It may be whole now.
                            break;
                        }
                    }
                    Ok(Message::Sealed) => status.wake_all(),
                    Ok(Message::Failed(error)) => status.fail(error),
                    Err(_) => return,
                }
            }
            activator.activate();
        }
    });
    stream.as_collection()
}

/// Tells the operator where the feedback begins, and says it.
fn begin_at(link: &ImageLink, begin: &Begin, begins: Result<u64, String>, status: &Status) {
    let from = begin.from;
    link.begin(begins.is_ok());
    match begins {
        Ok(_) => {
            link.add_errors(0, begin.errors);
            status.vitals().in_error.add(begin.errors);
            link.say(format!("state: begins with its image, and reads the shard from {from} on"));
        }
        Err(why) => link.say(format!("state: reads the shard; its image is {why}")),
    }
}
