//! Owns the contract of a store: bytes under keys, numbered entries, create-if-absent. What a shard makes of
//! them is [`shard`](super::shard)'s.

use bytes::Bytes;

use crate::io::Io;
use crate::store::{Create, Listed, Root, probe};

/// Checks everything below, each in a new root that `make` makes.
///
/// # Panics
///
/// Panics if the store breaks its contract, or fails.
pub async fn all(make: impl Fn() -> Root, io: &Io) {
    blobs(&make()).await;
    logs(&make()).await;
    create_if_absent(&make(), io).await;
}

/// Checks bytes under keys, in an empty root.
///
/// # Panics
///
/// As [`all`].
pub async fn blobs(root: &Root) {
    let blob = root.blob();
    assert_eq!(blob.get("a/b").await.unwrap(), None);
    assert_eq!(blob.list("", 10).await.unwrap(), vec![]);
    blob.put("a/b", Bytes::from_static(b"one")).await.unwrap();
    blob.put("a/b", Bytes::from_static(b"one")).await.unwrap();
    blob.put("a/c/d", Bytes::new()).await.unwrap();
    blob.put("ab", Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(blob.get("a/b").await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(blob.get("a").await.unwrap(), None, "a folder is not a key");
    let keys = |listed: Vec<Listed>| {
        listed.into_iter().map(|found| (found.key, found.bytes)).collect::<Vec<_>>()
    };
    let inside = vec![("a/b".to_string(), 3), ("a/c/d".to_string(), 0)];
    assert_eq!(keys(blob.list("a", 10).await.unwrap()), inside, "a folder, not a prefix of names");
    assert_eq!(blob.list("", 10).await.unwrap().len(), 3);
    assert_eq!(blob.list("", 2).await.unwrap().len(), 2);
    assert_eq!(blob.create("new", Bytes::from_static(b"1")).await.unwrap(), Create::Created);
    assert_eq!(blob.create("new", Bytes::from_static(b"2")).await.unwrap(), Create::Exists);
    assert_eq!(blob.get("new").await.unwrap().as_deref(), Some(&b"1"[..]));
    blob.delete("new").await.unwrap();
    blob.delete("new").await.unwrap();
    assert_eq!(blob.get("new").await.unwrap(), None);
    blob.sweep_leftovers(0).await.unwrap();
    assert_eq!(blob.list("", 10).await.unwrap().len(), 3, "what is stored is not a leftover");
}

/// Checks numbered entries and the floor, in an empty root.
///
/// # Panics
///
/// As [`all`].
pub async fn logs(root: &Root) {
    let log = root.log("data");
    assert_eq!(log.get(1).await.unwrap(), None);
    assert_eq!(log.floor().await.unwrap(), 0);
    assert_eq!(log.entries().await.unwrap(), Vec::<u64>::new());
    assert_eq!(log.create(1, Bytes::from_static(b"a")).await.unwrap(), Create::Created);
    assert_eq!(log.create(1, Bytes::from_static(b"b")).await.unwrap(), Create::Exists);
    assert_eq!(log.create(2, Bytes::from_static(b"c")).await.unwrap(), Create::Created);
    assert_eq!(log.get(1).await.unwrap().as_deref(), Some(&b"a"[..]));
    assert_eq!(log.entries().await.unwrap(), [1, 2]);
    log.sync_head().await.unwrap();
    let other = root.log("remap");
    assert_eq!(other.get(1).await.unwrap(), None, "logs are apart");
    assert_eq!(other.entries().await.unwrap(), Vec::<u64>::new());
    let again = root.log("data");
    assert_eq!(again.get(2).await.unwrap().as_deref(), Some(&b"c"[..]), "a log is one log");
    log.raise_floor(1).await.unwrap();
    log.raise_floor(1).await.unwrap();
    assert_eq!((log.floor().await.unwrap(), again.floor().await.unwrap()), (1, 1));
    assert_eq!(other.floor().await.unwrap(), 0, "so are their floors");
    log.delete(1).await.unwrap();
    log.delete(1).await.unwrap();
    assert_eq!(log.get(1).await.unwrap(), None);
    assert_eq!(log.entries().await.unwrap(), [2]);
    log.raise_floor(12).await.unwrap();
    log.raise_floor(3).await.unwrap();
    assert_eq!(log.floor().await.unwrap(), 12, "the highest, as a number");
}

/// Races creates against each other, and checks that nothing is left of that.
///
/// # Panics
///
/// As [`all`].
pub async fn create_if_absent(root: &Root, io: &Io) {
    let probed = probe(root, io).await.unwrap();
    assert!(probed.is_sound(), "{probed:?}");
    assert_eq!(root.blob().list("", 10).await.unwrap(), vec![], "a probe leaves nothing");
}
