//! Owns what a root holds when it is opened: a shard, and which rollup to begin with, nothing yet, or
//! something else; and the creation of `FORMAT`. Which root it is, is [`incarnation`](super::incarnation)'s.

use bytes::Bytes;

use super::engine::format::{FORMAT_KEY, Schema, has_shapes};
use super::engine::rollup;
use super::engine::state::State;
use crate::error::{Error, ErrorKind};
use crate::io::Io;
use crate::store::{
    Access, Blob, Create, INCARNATION_KEY, PROBE_PREFIX, Patience, Root, check_create,
};

/// How often a reader starts again because a collector overtook it, before it waits.
pub(super) const RELOADS_MAX: u32 = 5;

/// Reads the newest rollup, which must not lie below `floor`; `None` if there is none.
pub(super) async fn newest_rollup(
    root: &Root,
    shard: &str,
    patience: &Patience,
    floor: u64,
) -> Result<Option<State>, Error> {
    let blob = root.blob();
    let folder = format!("{shard}/rollup");
    let mut attempts = patience.begin_quietly("reading a rollup of", root.url().into());
    let (mut gone, mut looks) = (false, 0);
    loop {
        looks += 1;
        if looks % RELOADS_MAX == 0 {
            let what = "rollups are replaced faster than they can be read";
            let faster = Error::new(ErrorKind::Unavailable, what)
                .at(blob.place(&folder))
                .hint("retry, or collect less often");
            attempts.pause(faster).await?;
        }
        let listed = blob.list(&folder, usize::MAX).await?;
        let newest = listed.iter().filter_map(|found| rollup::parse_key(&found.key)).max();
        let Some((seqno, token)) = newest.filter(|(seqno, _)| *seqno >= floor) else {
            // Once more: a listing may miss both the old one and the newer.
            if gone || looks == 1 {
                continue;
            }
            return Ok(None);
        };
        let key = rollup::key(shard, seqno, token);
        if let Some(bytes) = blob.get(&key).await? {
            let state = rollup::decode(seqno, token, &bytes);
            return state.map(Some).map_err(|e| e.at(blob.place(&key)));
        }
        // It is not damaged: a collector deletes what we have just listed once it has made a newer one.
        gone = true;
    }
}

/// Reads `FORMAT`, and which version of the layout it is; `None` if the root is empty and may become a shard.
pub(super) async fn read_format(
    root: &Root,
    access: Access,
) -> Result<Option<(Schema, u32)>, Error> {
    let blob = root.blob();
    let place = blob.place(FORMAT_KEY);
    let decode = |bytes: Bytes| decode_format(root, &bytes, access).map(Some);
    if let Some(bytes) = blob.get(FORMAT_KEY).await? {
        return decode(bytes);
    }
    let found = blob.list("", 64).await?;
    let Some(other) = found.iter().find(|found| !found.key.starts_with(PROBE_PREFIX)) else {
        if access == Access::Read && !root.stands_empty() {
            return Err(Error::new(ErrorKind::Missing, "no shard here")
                .at(root.url())
                .hint("check the address; only a writer creates a shard"));
        }
        return Ok(None);
    };
    // A writer may have created it between our two looks.
    if let Some(bytes) = blob.get(FORMAT_KEY).await? {
        return decode(bytes);
    }
    if ["data/", "remap/", INCARNATION_KEY].iter().any(|shard| other.key.starts_with(shard)) {
        return Err(Error::new(ErrorKind::Corrupt, "a shard without its FORMAT file")
            .at(place)
            .hint("restore the file from a copy"));
    }
    Err(Error::new(ErrorKind::Invalid, format!("it holds something else: {}", other.key))
        .at(root.url())
        .hint(match access {
            Access::Read => "check the address: this is no shard",
            Access::Write => "name an empty directory for a new shard",
        }))
}

/// Decodes `FORMAT`, in a root that can have such a layout.
fn decode_format(root: &Root, bytes: &[u8], access: Access) -> Result<(Schema, u32), Error> {
    let place = root.blob().place(FORMAT_KEY);
    let decoded = Schema::decode(bytes, access == Access::Write).map_err(|e| e.at(&place))?;
    if decoded.1 > root.layout() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "a shard with the layout of a local directory",
        )
        .at(place)
        .hint("open it in a directory, with file:DIR"));
    }
    Ok(decoded)
}

/// Gives a root the layout that its store makes. The same bytes, whichever of several writers comes last.
pub(super) async fn upgrade_format(root: &Root, schema: &Schema, io: &Io) -> Result<(), Error> {
    root.check_store(io.token()).await?;
    // What it says of shapes stays.
    let bytes = match root.blob().get(FORMAT_KEY).await? {
        Some(stored) if has_shapes(&stored) => schema.encode_with_shapes(root.layout()),
        _ => schema.encode(root.layout()),
    };
    root.blob().put(FORMAT_KEY, Bytes::from(bytes)).await
}

/// Shuts out programs that know values of one shape alone. The same bytes, whichever of several writers comes last.
pub(super) async fn allow_shapes(
    blob: &dyn Blob,
    layout: u32,
    schema: &Schema,
) -> Result<(), Error> {
    if blob.get(FORMAT_KEY).await?.is_some_and(|stored| has_shapes(&stored)) {
        return Ok(());
    }
    blob.put(FORMAT_KEY, Bytes::from(schema.encode_with_shapes(layout))).await
}

/// Creates `FORMAT`, or takes what another opener has just created.
pub(super) async fn create_format(
    root: &Root,
    schema: Option<&Schema>,
    io: &Io,
) -> Result<(Schema, u32), Error> {
    let Some(schema) = schema else {
        return Err(Error::new(ErrorKind::Invalid, "a new shard needs a schema").at(root.url()));
    };
    let blob = root.blob();
    root.check_store(io.token()).await?;
    check_create(&*blob, io.token()).await?;
    let bytes = schema.encode(root.layout());
    let created = blob.create(FORMAT_KEY, Bytes::from(bytes)).await;
    if let Ok(Create::Created) = created {
        return Ok((schema.clone(), root.layout()));
    }
    // Anything else is settled by what is there now.
    match blob.get(FORMAT_KEY).await? {
        Some(bytes) => decode_format(root, &bytes, Access::Write),
        None => Err(created.err().unwrap_or_else(|| {
            Error::new(ErrorKind::Indeterminate, "the FORMAT file could not be created")
                .at(blob.place(FORMAT_KEY))
                .hint("retry")
        })),
    }
}
