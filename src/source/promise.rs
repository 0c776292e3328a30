//! Owns a text, and no code: what a cursor promises, for the author of a connector. The rules are kept
//! by [`stage`](crate::unstable::stage), [`attempt`](crate::unstable::attempt) and [`reclock`](crate::reclock).
//!
//! # What a cursor promises
//!
//! A cursor is a claim about *durable output*. It does not say what was received, nor what was sent on;
//! it says: everything up to here is in the shard, for good. Three sentences make it useful:
//!
//! > **Safety.** In every durable state, the collection just below the shard's upper is the fold of the
//! > feed up to the cursor that the same state holds.
//!
//! Not a row less: then it would be skipped, for the next run begins behind the cursor. Not a row more:
//! then a row could be there whose unit is not, and the next run would show the world as it never was.
//! "The same state" is the point. A cursor in a file beside the data, in a table of its own, or at the
//! source is a second owner of one truth, and there is always a crash between the two.
//!
//! > **Liveness.** While the feed makes boundaries, with rows or without, and writes succeed, that
//! > cursor advances.
//!
//! A cursor that is safe and stands still is a failure that waits: the source deletes its log at some
//! age, and then everything must be copied again. So a boundary *without* rows counts like any other: a
//! transaction on another table moves the cursor of this one.
//!
//! > **Ack.** No position is ever told to the feed beyond such a durable cursor.
//!
//! What a source has been told, it may forget. Told too early, it forgets what nobody has.
//!
//! # Four cursors, not one
//!
//! | type | says | may be |
//! |---|---|---|
//! | [`Received`](super::Received) | the source names this position | nothing yet |
//! | [`Boundary`](super::Boundary) | and all rows of its unit are here | the place to connect from again, in this process |
//! | [`Released`](super::Released) | and the dataflow has them | committed, in the append that makes the rows durable |
//! | [`Durable`](super::Durable) | and they are below the shard's upper | kept, acked, resumed from |
//!
//! They are types, so that the compiler keeps them apart. A connector makes the first and gets the
//! second and the last; it cannot ack anything but the last.
//!
//! # What your connector has to say
//!
//! 1. **Where a unit ends.** A unit is what must not be seen in part: a transaction, a line, a message.
//!    Say [`Boundary`](super::Event::Boundary) there and nowhere else. *Which message carries the rows
//!    and which the position does not matter*: rows may come first, last, in ten pieces, or not at all.
//! 2. **Only positions that can be resumed from.** If a position is announced before the rows that it
//!    stands for, as some are when a copy starts, keep it to yourself until they have come.
//! 3. **That a unit begins again**, if your source sends one twice without an end in between:
//!    [`Void`](super::Event::Void).
//! 4. **How positions compare**: [`contains`](super::Position::contains). A set of transactions contains
//!    another or not; two texts that differ prove nothing, and "equal" may never come.
//! 5. **What failed, and no more than that**: [`Failure`](super::Failure). `Ok(None)` is a connection
//!    that ended, which is not a feed that ended: proxies, restarts and deadlines all look like that.
//!    Only [`End`](super::Event::End) is the end of the feed.
//! 6. **That the position is lost**, when the source has deleted what comes after it:
//!    [`PositionLost`](super::Failure::PositionLost). Everything is then copied anew, as one unit that
//!    begins with a reset: rows that went away meanwhile go in one step, and a crash before it changes
//!    nothing.
//!
//! What it need not do: retry, wait, watch for cancellation, keep a cursor, buffer a transaction, number
//! rows. The attempt loop drops a future that must end, so keep what is half received in `self`.
//!
//! # Who cancelled?
//!
//! "Cancelled" is a word that anybody may say: we, because we were told to stop; we, because our own
//! time for this connection is over; the server, a proxy or a library, for reasons of theirs. So it is
//! never asked of the error. The loop asks, in this order: was *I* told to stop? Is *my* deadline over?
//! Is the error definite? Everything else may work again, after a wait, from the last boundary; and
//! a partition without a *boundary* for some minutes, or whose unit fails some times at the same place,
//! ends it with an error, the cursor where it was. (A message is not progress: a unit that fails each
//! time in its middle would be read for ever.)
//!
//! # A story
//!
//! A connector for PlanetScale, which copies a table and then follows it, lost rows and reported success.
//! It read a stream of messages, kept the last position seen, and when the stream ended with any error
//! but a timeout it returned that position, and *no error*. A fix was proposed, a review answered it, and
//! each was right about something and wrong about something else.
//!
//! **The fix** said: positions come before their rows, so a stream cancelled in between leaves a cursor
//! past rows that were never written; therefore let the cursor move only when rows have come with it.
//!
//! * Right: errors became success. That alone lost the data, wherever the cursor stood; and it was what
//!   the review did not talk about. Right also: after some errors there was no cursor at all, and a crash.
//! * Wrong: in replication a position *follows* its rows. Right by accident: when a *copy* starts, the
//!   first position does come before any row, in a message of its own. Resumed from there, the whole
//!   table's past is skipped, and nothing says so.
//! * Wrong: the rule. A large transaction comes in several messages, so "rows have come" is true in its
//!   middle. And a table without traffic would never move its cursor, until the log behind it is deleted.
//!
//! **The review** said: rows, then position, then commit, all sent at once; a message with a position and
//! no rows is about other tables; "cancelled" means that our own caller cancelled, so retrying would only
//! delay the stop.
//!
//! * Right: the order in replication. Right: messages without rows must move the cursor. Right: look at
//!   your own caller first, and let no wait outlive a stop.
//! * Wrong: "at once". One transaction may be several messages, and a deadline falls between them.
//! * Wrong: the list of messages without rows, which lacks the start of a copy, the one that is fatal.
//! * Wrong: the cause of "cancelled". The program's own context could not be cancelled at all, so it was the server.
//! * Unsaid: the gateway maps its own cancellation to a clean end. So a clean end proves nothing either.
//!
//! Both argued about *which message carries rows*. The invariant does not mention messages: a cursor
//! moves at the end of a unit, with the unit, and is a cursor once both are durable.
