//! Goal: however a stream ends, the next one begins at the last boundary: never at the first place of
//! a copy, never inside a transaction, never at the start once there was a boundary.
//! Method: every ending, at every kind of place, by both protocols; the server notes what it is asked
//! for next, then tells the rest, and the shard must have all of it.

use std::time::{Duration, Instant};

use differential_upsert::store::{Access, Root};
use h2::Reason;
use prost::Message;

use crate::planetscale::client::{Client, Protocol, SILENCE, Setting, Table, contents, runtime};
use crate::planetscale::model::{Key, Row};
use crate::planetscale::proto::{
    RpcError, SyncRequest, SyncResponse, VStreamRequest, VStreamResponse,
};
use crate::planetscale::script::{
    Scene, begin, commit, completed, events, field, gtid, insert, place_of, place_of_sync, play,
    row, synced, vgtid,
};
use crate::planetscale::server::{Ending, code};

fn endings() -> Vec<Ending> {
    let text = |code| Ending::status(code, "context canceled");
    vec![
        Ending::status(code::OK, ""),
        text(code::CANCELLED),
        text(code::UNKNOWN),
        text(code::DEADLINE_EXCEEDED),
        text(code::RESOURCE_EXHAUSTED),
        text(code::ABORTED),
        text(code::INTERNAL),
        text(code::UNAVAILABLE),
        Ending::Reset(Reason::CANCEL),
        Ending::Reset(Reason::NO_ERROR),
        Ending::Reset(Reason::INTERNAL_ERROR),
        Ending::Reset(Reason::REFUSED_STREAM),
        Ending::NoTrailers,
        Ending::HalfMessage,
        Ending::GoAway,
        Ending::LastCall,
        Ending::Cut,
        Ending::Silence,
    ]
}

type Place = (String, Option<Key>);

/// Plays the scenes and returns the places that were asked for, once the shard has these rows.
fn follow<R, M>(
    protocol: Protocol,
    scenes: Vec<Scene<M>>,
    rows: &[Row],
    place: fn(&R) -> Place,
    what: &str,
) -> Vec<Place>
where
    R: Message + std::fmt::Debug + Default + PartialEq + 'static,
    M: Message + Clone + 'static,
{
    let runtime = runtime();
    let wanted: Table =
        rows.iter().map(|row| (Row::key_json(row.key()).to_string(), row.json())).collect();
    let root = Root::open("mem:", Access::Write).expect("memory");
    let calls = scenes.len();
    let scenes_end_in_silence = scenes[0].ending == Ending::Silence;
    let (server, requests) = runtime.block_on(play::<R, M>(scenes));
    let mut setting = Setting::new(protocol, &["-"]);
    if scenes_end_in_silence {
        // Longer than a loaded machine takes to answer.
        setting.silence_max = 10 * SILENCE;
    }
    let mut client = Client::start(&runtime, &root, &setting, server.address);
    let (begun, mut step) = (Instant::now(), 0);
    loop {
        client.step(&runtime);
        if let Some(error) = client.error() {
            panic!("{what}: {error}");
        }
        step += 1;
        let all = requests.lock().unwrap().len() >= calls;
        if all && step % 16 == 0 && contents(&runtime, &root) == wanted {
            break;
        }
        let late = begun.elapsed() > Duration::from_secs(20);
        assert!(!late, "{what}: {:?}, {:?}", requests.lock().unwrap(), contents(&runtime, &root));
    }
    client.stop(&runtime);
    let requests = requests.lock().unwrap();
    requests[..calls].iter().map(place).collect()
}

/// Places, and what a stream says up to there; then the rest.
fn vstreams() -> Vec<(&'static str, Vec<VStreamResponse>, Place, Vec<VStreamResponse>)> {
    let start = || vec![events(vec![begin(), field()]), events(vec![vgtid(5, None)])];
    let rows = |ids: &[i64], pk: i64| {
        let mut all: Vec<_> = ids.iter().map(|id| insert(&row(*id, 0))).collect();
        all.extend([vgtid(5, Some((pk, 'a'))), commit()]);
        all
    };
    let opened = |events: Vec<_>| [vec![begin()], events].concat();
    let first = || [start(), vec![events(rows(&[1, 2], 2))]].concat();
    let copied = || {
        let end = events(vec![begin(), vgtid(5, None), commit()]);
        vec![events(opened(rows(&[3], 3))), end, events(vec![completed()])]
    };
    let streaming = || [first(), copied()].concat();
    let again = || {
        let more = [vec![begin(), field()], rows(&[3], 3)].concat();
        let end = events(vec![begin(), vgtid(5, None), commit()]);
        vec![events(more), end, events(vec![completed()])]
    };
    let last =
        || vec![events(vec![begin(), field(), insert(&row(4, 4)), vgtid(7, None), commit()])];
    let half = events(vec![begin(), field(), insert(&row(4, 4))]);
    let empty = events(vec![begin(), vgtid(6, None), commit()]);
    let all = || [streaming(), last()].concat();
    vec![
        ("before anything", vec![], (String::new(), None), all()),
        ("at the start of a copy", start(), (String::new(), None), all()),
        ("after a batch", first(), (gtid(5), Some((2, 'a'))), [again(), last()].concat()),
        (
            "inside a batch",
            [first(), vec![events(vec![begin(), insert(&row(3, 0))])]].concat(),
            (gtid(5), Some((2, 'a'))),
            [again(), last()].concat(),
        ),
        ("after a copy", streaming(), (gtid(5), None), last()),
        (
            "after a transaction of other tables",
            [streaming(), vec![empty.clone()]].concat(),
            (gtid(6), None),
            last(),
        ),
        (
            "inside a transaction",
            [streaming(), vec![empty, half]].concat(),
            (gtid(6), None),
            last(),
        ),
    ]
}

fn syncs() -> Vec<(&'static str, Vec<SyncResponse>, Place, Vec<SyncResponse>)> {
    let start = || vec![synced(&[], Some((5, None)))];
    let first =
        || [start(), vec![synced(&[row(1, 0), row(2, 0)], Some((5, Some((2, 'a')))))]].concat();
    let rest =
        || vec![synced(&[row(3, 0)], Some((5, Some((3, 'a'))))), synced(&[], Some((5, None)))];
    let streaming = || [first(), rest()].concat();
    let again = || [vec![synced(&[], Some((5, Some((2, 'a')))))], rest()].concat();
    let last = || vec![synced(&[row(4, 4)], Some((7, None)))];
    let all = || [streaming(), last()].concat();
    let empty = || synced(&[], Some((6, None)));
    vec![
        ("before anything", vec![], (String::new(), None), all()),
        ("at the start of a copy", start(), (String::new(), None), all()),
        ("after a batch", first(), (gtid(5), Some((2, 'a'))), [again(), last()].concat()),
        (
            "inside a batch",
            [first(), vec![synced(&[row(3, 0)], None)]].concat(),
            (gtid(5), Some((2, 'a'))),
            [again(), last()].concat(),
        ),
        ("after a copy", streaming(), (gtid(5), None), last()),
        (
            "after a transaction of other tables",
            [streaming(), vec![empty()]].concat(),
            (gtid(6), None),
            last(),
        ),
        (
            "inside a transaction",
            [streaming(), vec![empty(), synced(&[row(4, 4)], None)]].concat(),
            (gtid(6), None),
            last(),
        ),
    ]
}

fn rows() -> Vec<Row> {
    vec![row(1, 0), row(2, 0), row(3, 0), row(4, 4)]
}

#[test]
fn a_vstream_goes_on_at_the_last_boundary_however_it_ended() {
    for ending in endings() {
        for (at, before, place, after) in vstreams() {
            let what = format!("{ending:?} {at}");
            let scenes = vec![Scene::new(before, ending.clone()), Scene::last(after)];
            let places = follow::<VStreamRequest, VStreamResponse>(
                Protocol::VStream,
                scenes,
                &rows(),
                place_of,
                &what,
            );
            assert_eq!(places, [(String::new(), None), place], "{what}");
        }
    }
}

#[test]
fn a_sync_goes_on_at_the_last_boundary_however_it_ended() {
    for ending in endings() {
        for (at, before, place, after) in syncs() {
            let what = format!("{ending:?} {at}");
            let scenes = vec![Scene::new(before, ending.clone()), Scene::last(after)];
            let places = follow::<SyncRequest, SyncResponse>(
                Protocol::Sync,
                scenes,
                &rows(),
                place_of_sync,
                &what,
            );
            assert_eq!(places, [(String::new(), None), place], "{what}");
        }
    }
}

/// What stands beside an error does not count, and an error changes nothing about the rows.
#[test]
fn an_error_inside_a_response_voids_what_is_beside_it() {
    for (at, before, place, after) in syncs() {
        let error = RpcError { code: code::UNAVAILABLE, message: "the tablet left".into() };
        let wrong = [row(2, 77), row(9, 9)];
        let spoilt = SyncResponse { error: Some(error), ..synced(&wrong, Some((9, None))) };
        let before = [before, vec![spoilt]].concat();
        let scenes = vec![Scene::new(before, Ending::status(code::OK, "")), Scene::last(after)];
        let places =
            follow::<SyncRequest, SyncResponse>(Protocol::Sync, scenes, &rows(), place_of_sync, at);
        assert_eq!(places, [(String::new(), None), place], "{at}");
    }
}
