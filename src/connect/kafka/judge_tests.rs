//! Goal: a place that a topic does not have any more is told from one that it has. Method: what a broker says, case by case.

use super::*;

const CLUSTER: &str = "c";

fn log(topic: Option<&str>) -> Arc<Log> {
    Arc::new(Log { cluster: CLUSTER.into(), topic: topic.map(str::to_string) })
}

fn topic(id: Option<&str>, marks: &[(u64, u64)]) -> Topic {
    let marks = marks.iter().map(|&(start, end)| Marks { start, end });
    let partitions = (0..).zip(marks).collect();
    Topic { name: "orders".into(), log: log(id), partitions }
}

fn at(offset: u64, id: Option<&str>) -> KafkaPosition {
    KafkaPosition { offset, log: log(id), seen: None, until: None }
}

fn cursor(generation: u64, places: Vec<KafkaPosition>) -> Cursor<KafkaPosition> {
    let names = (0..).map(|number: i32| Partition::from(number.to_string()));
    Cursor::of("kafka:orders", generation, names.zip(places))
}

fn offsets(plan: &Plan) -> Vec<(u64, Option<u64>)> {
    plan.places.values().map(|place| (place.offset, place.until)).collect()
}

fn lost(result: Result<Plan, Failure>) -> String {
    match result {
        Err(Failure::PositionLost(error)) => error.to_string(),
        other => panic!("it is lost, and was taken for {other:?}"),
    }
}

#[test]
fn a_first_reading_begins_where_the_logs_start() {
    let plan = judge(&cursor(0, vec![]), &topic(Some("t"), &[(0, 5), (7, 9)]), None).unwrap();
    assert_eq!((offsets(&plan), plan.is_news), (vec![(0, None), (7, None)], true));
}

#[test]
fn a_cursor_within_the_logs_goes_on() {
    let from = cursor(0, vec![at(5, Some("t")), at(7, Some("t"))]);
    let plan = judge(&from, &topic(Some("t"), &[(0, 5), (7, 9)]), None).unwrap();
    assert_eq!((offsets(&plan), plan.is_news), (vec![(5, None), (7, None)], false));
    // Of brokers that had no ids, and have them now.
    judge(&cursor(0, vec![at(5, None)]), &topic(Some("t"), &[(0, 5)]), None).unwrap();
}

#[test]
fn a_topic_made_anew_is_lost_however_long_it_is() {
    for end in [0, 5, 500] {
        let from = cursor(0, vec![at(5, Some("t"))]);
        let says = lost(judge(&from, &topic(Some("u"), &[(0, end)]), None));
        assert!(says.contains("deleted and made anew"), "{says}");
    }
    let from = cursor(0, vec![at(0, None), at(0, None)]);
    assert!(lost(judge(&from, &topic(None, &[(0, 9)]), None)).contains("fewer partitions"));
}

#[test]
fn what_was_deleted_before_it_was_read_is_lost() {
    let from = cursor(0, vec![at(5, None)]);
    judge(&from, &topic(None, &[(5, 9)]), None).unwrap();
    let says = lost(judge(&from, &topic(None, &[(6, 9)]), None));
    assert!(says.contains("from offset 5 to 6 were deleted"), "{says}");
}

#[test]
fn a_log_that_ends_before_the_cursor_is_lost() {
    let from = cursor(0, vec![at(5, None)]);
    judge(&from, &topic(None, &[(0, 5)]), None).unwrap();
    let says = lost(judge(&from, &topic(None, &[(0, 4)]), None));
    assert!(says.contains("ends at offset 4"), "{says}");
}

#[test]
fn a_log_with_another_message_is_lost() {
    let seen = Seen::of(4, 1, Some(b"k"), Some(b"v"));
    let place = KafkaPosition { seen: Some(seen), ..at(5, None) };
    let topic = topic(None, &[(0, 9)]);
    let look = |found| recognise(&topic, 0, &place, found);
    look(Some(seen)).unwrap();
    look(None).unwrap();
    look(Some(Seen::of(6, 1, Some(b"k"), Some(b"v")))).unwrap();
    for other in [
        Seen::of(4, 1, Some(b"k"), Some(b"w")),
        Seen::of(4, 1, Some(b"l"), Some(b"v")),
        Seen::of(4, 2, Some(b"k"), Some(b"v")),
    ] {
        let failure = look(Some(other)).unwrap_err();
        assert!(matches!(failure, Failure::PositionLost(_)), "{failure:?}");
    }
}

#[test]
fn a_partition_that_was_added_begins_at_its_start_and_all_of_it_is_there() {
    let from = cursor(0, vec![at(5, None)]);
    let plan = judge(&from, &topic(None, &[(0, 5), (0, 3)]), None).unwrap();
    assert_eq!((offsets(&plan), plan.is_news), (vec![(5, None), (0, None)], true));
    let says = lost(judge(&from, &topic(None, &[(0, 5), (2, 3)]), None));
    assert!(says.contains("partition 1 is new"), "{says}");
}

#[test]
fn another_cluster_is_another_feed() {
    let other = Arc::new(Log { cluster: "d".into(), topic: Some("t".into()) });
    let from = cursor(0, vec![KafkaPosition { log: other, ..at(5, None) }]);
    match judge(&from, &topic(Some("t"), &[(0, 9)]), None) {
        Err(Failure::Definite(error)) => assert_eq!(error.kind(), ErrorKind::FeedDiffers),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_copy_anew_ends_where_the_logs_end_when_it_begins() {
    let now = topic(Some("u"), &[(2, 5), (0, 0)]);
    let plan = judge(&cursor(1, vec![]), &now, None).unwrap();
    assert_eq!(offsets(&plan), [(2, Some(5)), (0, Some(0))]);
    // Connected again in its middle, the end is the same, and what was added waits.
    let place = |offset, until| KafkaPosition { until: Some(until), ..at(offset, Some("u")) };
    let from = cursor(1, vec![place(3, 5), place(0, 0)]);
    let later = topic(Some("u"), &[(2, 8), (0, 4), (0, 1)]);
    let plan = judge(&from, &later, None).unwrap();
    assert_eq!((offsets(&plan), plan.is_news), (vec![(3, Some(5)), (0, Some(0))], false));
    assert!(lost(judge(&from, &topic(Some("u"), &[(2, 4), (0, 0)]), None)).contains("ends at"));
}

#[test]
fn a_copy_that_another_writer_has_bound_ends_there() {
    let bound = cursor(1, vec![at(4, Some("u"))]);
    let plan = judge(&cursor(1, vec![]), &topic(Some("u"), &[(0, 9), (0, 2)]), Some(&bound));
    assert_eq!(offsets(&plan.unwrap()), [(0, Some(4))]);
    // Of another generation it says nothing.
    let plan = judge(&cursor(2, vec![]), &topic(Some("u"), &[(0, 9)]), Some(&bound)).unwrap();
    assert_eq!(offsets(&plan), [(0, Some(9))]);
    for (id, end) in [(Some("v"), 9), (Some("u"), 3)] {
        match judge(&cursor(1, vec![]), &topic(id, &[(0, end)]), Some(&bound)) {
            Err(Failure::Definite(error)) => assert_eq!(error.kind(), ErrorKind::FeedDiffers),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cursor_of_something_else_is_refused() {
    let places = [(Partition::from("a"), at(0, None))];
    let from = Cursor::of("kafka:orders", 0, places);
    assert!(matches!(judge(&from, &topic(None, &[(0, 9)]), None), Err(Failure::Definite(_))));
}
