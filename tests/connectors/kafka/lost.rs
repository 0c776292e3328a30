//! Goal: what others lost without a word is a lost position here: it fails and changes nothing, or all is copied
//! anew in one step. Method: each loss on its own; every durable state of a copy is looked at.

use differential_upsert::ErrorKind;
use differential_upsert::source::OnPositionLost;
use differential_upsert::store::{Access, Root};

use crate::kafka::client::{Client, Setting, Table, contents, table};
use crate::kafka::cluster::{Cluster, TOPIC};
use crate::kafka::topic::Topic;

fn root() -> Root {
    Root::open("mem:", Access::Write).expect("memory")
}

/// A shard that has read a topic of two partitions and five messages.
fn read(topic: &Topic) -> (Root, Setting, Table) {
    let root = root();
    let rows = [
        (0, "a", Some("1")),
        (0, "b", Some("1")),
        (0, "c", Some("1")),
        (1, "d", Some("1")),
        (1, "e", Some("1")),
    ];
    rows.iter().for_each(|row| topic.write(&[*row]));
    let setting = Setting::up_to_now(topic.url(""));
    Client::start(&root, &setting).end();
    let had = table(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1"), ("e", "1")]);
    assert_eq!(contents(&root), had);
    (root, setting, had)
}

/// Runs a client that fails since its position is lost, and one that copies anew; returns what the first said.
fn check(root: &Root, setting: &Setting, had: &Table, has: &Table) -> String {
    let error = Client::start(root, setting).failure();
    assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    assert_eq!(contents(root), *had, "nothing changes");
    let copies = Setting { on_position_lost: OnPositionLost::Copy, ..setting.clone() };
    let mut client = Client::start(root, &copies);
    client.until("the copy", |client| {
        let now = contents(root);
        assert!(now == *had || now == *has, "{now:?} is neither {had:?} nor {has:?}");
        assert_eq!(client.error().map(|error| error.to_string()), None);
        client.is_done()
    });
    assert_eq!(contents(root), *has);
    error.to_string()
}

#[test]
fn a_topic_made_anew_is_lost_though_it_has_more_messages_than_before() {
    for messages in [1, 3, 7] {
        let topic = Topic::anywhere(2);
        let (root, setting, had) = read(&topic);
        topic.make_anew(2);
        let keys = ["p", "q", "r", "s", "t", "u", "v"];
        let rows: Vec<_> = keys[..messages].iter().map(|key| (0, *key, Some("2"))).collect();
        topic.write(&rows);
        let has: Vec<_> = keys[..messages].iter().map(|key| (*key, "2")).collect();
        let says = check(&root, &setting, &had, &table(&has));
        assert!(says.contains("deleted and made anew"), "{says}");
    }
}

#[test]
fn a_topic_made_anew_with_the_same_messages_is_lost() {
    let topic = Topic::anywhere(2);
    let (root, setting, had) = read(&topic);
    topic.make_anew(2);
    for row in [(0, "a"), (0, "b"), (0, "c"), (1, "d"), (1, "e")] {
        topic.write(&[(row.0, row.1, Some("1"))]);
    }
    let says = check(&root, &setting, &had, &had);
    assert!(says.contains("deleted and made anew"), "{says}");
}

#[test]
fn a_topic_made_anew_without_a_message_is_lost() {
    let topic = Topic::anywhere(2);
    let (root, setting, had) = read(&topic);
    topic.make_anew(2);
    check(&root, &setting, &had, &Table::new());
}

#[test]
fn a_topic_made_anew_with_fewer_partitions_is_lost() {
    let topic = Topic::anywhere(2);
    let (root, setting, had) = read(&topic);
    topic.make_anew(1);
    topic.write(&[(0, "p", Some("2"))]);
    check(&root, &setting, &had, &table(&[("p", "2")]));
}

#[test]
fn a_topic_made_anew_while_it_is_read_is_lost() {
    for grown in [0, 5] {
        let cluster = Cluster::start(1, 2);
        let (root, _, had) = read(&cluster);
        let mut client = Client::start(&root, &Setting::new(cluster.url("")));
        client.until("connected", |client| client.stats.length() > 0);
        let rows = ["p", "q", "r", "s", "t"].map(|key| [0, 1].map(|at| (at, key, Some("2"))));
        cluster.replace(2, &rows.concat()[..2 * grown]);
        let error = client.failure();
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
        // These brokers hand messages over by the topic's name, as those before 3.1 do: what lies past the cursor
        // may have come before the topic's id was looked at.
        let now = contents(&root);
        assert!(had.iter().all(|(key, value)| now.get(key) == Some(value)), "{now:?}");
        assert!(grown > 0 || now == had, "{now:?}");
    }
}

#[test]
fn messages_deleted_before_they_were_read_are_lost() {
    let cluster = Cluster::start(1, 2);
    let (root, setting, had) = read(&cluster);
    for (key, n) in [("f", 2), ("g", 2), ("h", 2)] {
        cluster.write(&[(0, key, Some(&n.to_string()))]);
    }
    // Up to the cursor nothing is lost.
    cluster.retain_from(0, 3);
    Client::start(&root, &Setting { stop_at_current: true, ..setting.clone() }).end();
    let had = had.into_iter().chain(table(&[("f", "2"), ("g", "2"), ("h", "2")])).collect();
    assert_eq!(contents(&root), had);
    cluster.write(&[(0, "i", Some("3"))]);
    cluster.write(&[(0, "j", Some("3"))]);
    cluster.retain_from(0, 7);
    let says = check(&root, &setting, &had, &table(&[("j", "3"), ("d", "1"), ("e", "1")]));
    assert!(says.contains("from offset 6 to 7 were deleted"), "{says}");
}

#[test]
fn a_log_that_ends_before_the_cursor_is_lost() {
    let cluster = Cluster::start(1, 2);
    let (root, setting, had) = read(&cluster);
    cluster.cut(0, 2);
    let has = table(&[("a", "1"), ("b", "1"), ("d", "1"), ("e", "1")]);
    let says = check(&root, &setting, &had, &has);
    assert!(says.contains("ends at offset 2, and was read up to 3"), "{says}");
}

#[test]
fn a_log_that_was_cut_and_has_grown_again_is_lost() {
    for grown in [1, 4] {
        let cluster = Cluster::start(1, 2);
        let (root, setting, had) = read(&cluster);
        cluster.cut(0, 2);
        let keys = ["p", "q", "r", "s"];
        keys[..grown].iter().for_each(|key| cluster.write(&[(0, key, Some("2"))]));
        let mut has = table(&[("a", "1"), ("b", "1"), ("d", "1"), ("e", "1")]);
        has.extend(keys[..grown].iter().flat_map(|key| table(&[(key, "2")])));
        let says = check(&root, &setting, &had, &has);
        assert!(says.contains("another message is at offset 2"), "{says}");
    }
}

#[test]
fn a_partition_that_was_added_and_has_lost_messages_is_lost() {
    let cluster = Cluster::start(1, 2);
    let (root, setting, had) = read(&cluster);
    cluster.broker.add_partitions(TOPIC, 3);
    cluster.write(&[(2, "p", Some("2"))]);
    cluster.write(&[(2, "q", Some("2"))]);
    cluster.retain_from(2, 1);
    let has = had.clone().into_iter().chain(table(&[("q", "2")])).collect();
    let says = check(&root, &setting, &had, &has);
    assert!(says.contains("partition 2 is new"), "{says}");
}

#[test]
fn another_cluster_is_another_feed() {
    let cluster = Cluster::start(1, 2);
    let (root, _, had) = read(&cluster);
    let other = Cluster::start(1, 2);
    other.broker.with_state(|state| state.cluster_id = "another".to_string());
    let copies =
        Setting { on_position_lost: OnPositionLost::Copy, ..Setting::up_to_now(other.url("")) };
    let error = Client::start(&root, &copies).failure();
    assert_eq!(error.kind(), ErrorKind::FeedDiffers, "{error}");
    assert_eq!(contents(&root), had);
}

/// Two writers copy the new topic while it grows, so that their copies would end at different places: one makes
/// room for the other, and starts again as `ingest` does.
#[test]
fn two_writers_copy_anew_and_never_mix_what_was_with_what_is() {
    let cluster = Cluster::start(1, 2);
    let (root, setting, _) = read(&cluster);
    let key = |number: usize| format!("new{number:02}");
    let rows: Vec<String> = (0..40).map(key).collect();
    let row = |number: usize| (number as i32 % 2, rows[number].as_str(), Some("2"));
    cluster.replace(2, &(0..10).map(row).collect::<Vec<_>>());
    let setting =
        Setting { on_position_lost: OnPositionLost::Copy, stop_at_current: false, ..setting };
    let mut clients = [Client::start(&root, &setting), Client::start(&root, &setting)];
    let mut written = 10;
    let all = |written: usize| table(&(0..written).map(|n| (&*rows[n], "2")).collect::<Vec<_>>());
    for step in 0.. {
        for client in &mut clients {
            client.step();
            let Some(error) = client.error() else { continue };
            assert_eq!(error.kind(), ErrorKind::LeaseLost, "{error}");
            std::mem::replace(client, Client::start(&root, &setting)).stop();
        }
        if step % 20 == 0 && written < rows.len() {
            cluster.write(&[row(written), row(written + 1)]);
            written += 2;
        }
        let now = contents(&root);
        let new = now.keys().filter(|key| key.contains("new")).count();
        assert!(new == 0 || new == now.len(), "{now:?}");
        if written == rows.len() && now == all(written) {
            break;
        }
        assert!(step < 20_000, "never the whole of the new topic: {now:?}");
    }
    clients.into_iter().for_each(Client::stop);
}
