//! Goal: told to stop, a client has stopped within a second, whatever the brokers owe it. Method: brokers that
//! are away, that say nothing, and that are read from.

use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};
use krafka::error::ErrorCode;
use krafka::testing::{ApiKey, Control};

use crate::kafka::client::{Client, Setting, contents};
use crate::kafka::cluster::Cluster;

const AT_ONCE: Duration = Duration::from_secs(1);

/// Runs a client until something is so, and tells it to stop.
fn check(what: &str, url: String, stop_at_current: bool, so: impl Fn(&Client) -> bool) {
    let root = Root::open("mem:", Access::Write).expect("memory");
    let mut client = Client::start(&root, &Setting { stop_at_current, ..Setting::new(url) });
    client.until(what, |client| so(client));
    let told = Instant::now();
    client.stop();
    assert!(told.elapsed() < AT_ONCE, "{what}: {:?}", told.elapsed());
}

#[test]
fn it_stops_at_once_in_every_state() {
    let cluster = Cluster::start(1, 1);
    cluster.write(&[(0, "a", Some("1"))]);
    let broker = &cluster.broker;
    let asked = |api| move |_: &Client| cluster_asked(broker, api);
    check("reading", cluster.url(""), false, |client| client.stats.rows_read() == 1);
    let group = cluster.url("rdkafka.group.id=watched");
    broker.on(ApiKey::OffsetCommit, |_| Control::Silence);
    check("an ack is owed", group, false, asked(ApiKey::OffsetCommit));
    for (api, stop_at_current) in [
        (ApiKey::Fetch, false),
        (ApiKey::ListOffsets, false),
        (ApiKey::ListOffsets, true),
        (ApiKey::Metadata, false),
        (ApiKey::Metadata, true),
        (ApiKey::ApiVersions, false),
    ] {
        broker.clear_hooks();
        broker.clear_requests();
        broker.on(api, |_| Control::Silence);
        let what = format!("{api:?} is not answered");
        check(&what, cluster.url(""), stop_at_current, asked(api));
    }
    broker.clear_hooks();
    broker.crash(0);
    let waits = |client: &Client| client.health.report().why.is_some();
    check("nobody listens", cluster.url(""), false, waits);
}

fn cluster_asked(broker: &krafka::testing::FakeBroker, api: ApiKey) -> bool {
    broker.request_count(api) > 0
}

#[test]
fn places_are_committed_to_the_group_that_is_named_once_they_are_durable() {
    let cluster = Cluster::start(1, 2);
    cluster.write(&[(0, "a", Some("1")), (0, "b", Some("1")), (1, "c", Some("1"))]);
    let root = Root::open("mem:", Access::Write).expect("memory");
    let committed = |partition| cluster.broker.committed_offset("watched", "orders", partition);
    let url = cluster.url("rdkafka.group.id=watched");
    let mut client = Client::start(&root, &Setting::new(url.clone()));
    client.until("committed", |_| {
        let done = (committed(0), committed(1)) == (Some(2), Some(1));
        assert!(committed(0).is_none_or(|offset| offset < 2) || contents(&root).len() >= 2);
        done
    });
    client.stop();
    // A group that refuses holds nothing up.
    cluster.write(&[(0, "d", Some("1"))]);
    let refuses = |_: &_| Control::Error(ErrorCode::GroupAuthorizationFailed);
    cluster.broker.on(ApiKey::OffsetCommit, refuses);
    Client::start(&root, &Setting::up_to_now(url)).end();
    assert_eq!(contents(&root).len(), 4);
    cluster.broker.clear_hooks();
    // And without a name there is none.
    assert_eq!(cluster.broker.committed_offset("differential-upsert", "orders", 0), None);
}
