//! Goal: a topic is read message by message, once; what is taken back or is no message moves the cursor all the
//! same; partitions that are added are read from their start. Method: every kind of message on its own, at any
//! brokers.

use differential_upsert::store::{Access, Root};

use crate::kafka::client::{Client, Setting, contents, table};
use crate::kafka::topic::Topic;

fn root() -> Root {
    Root::open("mem:", Access::Write).expect("memory")
}

#[test]
fn the_shard_is_the_fold_of_the_log_and_a_second_run_reads_what_is_new() {
    let (topic, root) = (Topic::anywhere(3), root());
    topic.write(&[
        (0, "a", Some("1")),
        (1, "b", Some("1")),
        (0, "a", Some("2")),
        (2, "c", Some("1")),
    ]);
    let setting = Setting::up_to_now(topic.url(""));
    let stats = Client::start(&root, &setting).end();
    assert_eq!(contents(&root), table(&[("a", "2"), ("b", "1"), ("c", "1")]));
    assert_eq!(stats.rows_read(), 4);
    topic.write(&[(1, "b", None), (0, "d", Some("1"))]);
    let stats = Client::start(&root, &setting).end();
    assert_eq!(contents(&root), table(&[("a", "2"), ("c", "1"), ("d", "1")]));
    assert_eq!(stats.rows_read(), 2, "no more than what is new");
    let stats = Client::start(&root, &setting).end();
    assert_eq!((stats.rows_read(), contents(&root).len()), (0, 3));
}

#[test]
fn an_empty_topic_ends_at_once_and_is_read_when_it_has_something() {
    let (topic, root) = (Topic::anywhere(2), root());
    let setting = Setting::up_to_now(topic.url(""));
    Client::start(&root, &setting).end();
    topic.write(&[(1, "a", Some("1"))]);
    Client::start(&root, &setting).end();
    assert_eq!(contents(&root), table(&[("a", "1")]));
}

#[test]
fn only_what_is_committed_is_read_and_control_records_move_the_cursor() {
    let (topic, root) = (Topic::anywhere(1), root());
    let setting = Setting::up_to_now(topic.url(""));
    topic.transaction(&[(0, "a", Some("1")), (0, "b", Some("1"))], true);
    // The last message is a control record, which nobody hands over.
    assert_eq!(topic.end(0), 3);
    Client::start(&root, &setting).end();
    topic.transaction(&[(0, "a", Some("2")), (0, "c", Some("2"))], false);
    assert_eq!(topic.end(0), 6);
    // It comes to its end: the cursor has passed messages that were taken back.
    let stats = Client::start(&root, &setting).end();
    assert_eq!(stats.rows_read(), 0);
    assert_eq!(contents(&root), table(&[("a", "1"), ("b", "1")]));
    topic.write(&[(0, "d", Some("1"))]);
    let stats = Client::start(&root, &setting).end();
    assert_eq!(stats.rows_read(), 1);
    assert_eq!(contents(&root), table(&[("a", "1"), ("b", "1"), ("d", "1")]));
}

#[test]
fn partitions_that_are_added_are_read_from_their_start() {
    let (topic, root) = (Topic::anywhere(1), root());
    topic.write(&[(0, "a", Some("1"))]);
    let mut client = Client::start(&root, &Setting::new(topic.url("")));
    client.until("the first row", |_| contents(&root) == table(&[("a", "1")]));
    topic.add_partitions(3);
    topic.write(&[(2, "b", Some("1")), (1, "c", Some("1")), (0, "a", Some("2"))]);
    let all = table(&[("a", "2"), ("b", "1"), ("c", "1")]);
    client.until("the rows of all partitions", |_| contents(&root) == all);
    client.stop();
    // And while nobody reads.
    topic.add_partitions(4);
    topic.write(&[(3, "d", Some("1"))]);
    Client::start(&root, &Setting::up_to_now(topic.url(""))).end();
    assert_eq!(contents(&root).len(), 4);
}
