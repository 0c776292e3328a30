//! Owns where the state of a pipeline's worker is kept beside the memory: its scratch file, and between runs its image. It
//! does not own what is in them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::config::PipelineConfig;
use super::shard::Shard;
use crate::codec::Codec;
use crate::upsert::{
    Begin, ColdSpace, Folder, ImageLink, Images, Mark, MarkNow, OsDisk, UpsertStats, Verdict,
    readers_on, unnamed_in,
};

/// What the operator and the reader of one worker are lent.
pub(super) struct Kept {
    pub(super) cold: ColdSpace,
    pub(super) images: Option<Images>,
    pub(super) link: Option<(ImageLink, Option<Begin>)>,
}

/// Opens the directory for state, if there is one. Whatever is wrong with it, the pipeline runs: on a scratch file.
pub(super) fn keep<K, V, C: Codec<K> + Codec<V>>(
    shard: &Shard<K, V, C>,
    config: &PipelineConfig,
    worker: (u64, u64),
    stats: &UpsertStats,
) -> Kept {
    let readers = || readers_on(shard.io().clone());
    let mut cold = ColdSpace { readers: Some(readers()), ..ColdSpace::default() };
    let scratch = |cold| Kept { cold, images: None, link: None };
    let Some(dir) = &config.state_dir else { return scratch(cold) };
    let link = ImageLink::new(stats.clone());
    let incarnation = shard.handle().incarnation();
    let (Some(incarnation), false) = (incarnation, config.collection) else {
        let why = match config.collection {
            true => "its collection is read from the contents on",
            false => "it has no name of its own yet",
        };
        link.say(format!("state: reads the shard, for {why}; its directory is for scratch alone"));
        cold.file = Some(unnamed_in(dir));
        return scratch(cold);
    };
    let found = match open(dir, worker, incarnation.0) {
        Ok(Some(found)) => found,
        refused => {
            let why = match refused {
                Err(error) => format!("cannot be used: {error}"),
                Ok(_) => "is locked by another process".to_string(),
            };
            link.say(format!("state: reads the shard; its directory {why}"));
            cold.file = Some(unnamed_in(dir));
            return scratch(cold);
        }
    };
    let (folder, verdict) = found;
    let (found, why) = match verdict {
        Verdict::Good(manifest) => (Some(manifest), None),
        Verdict::None => (None, Some("state: reads the shard; it has no image".to_string())),
        Verdict::Foreign(of) => (None, Some(refused("foreign", &format!("of {of}")))),
        Verdict::Torn(what) => (None, Some(refused("torn", what))),
        Verdict::Damaged(at) => (None, Some(refused("damaged", at))),
    };
    if let Some(why) = why {
        link.begin(false);
        link.say(why);
    }
    let begin = found.as_ref().map(|found| Begin {
        from: found.least(),
        mark: found.mark,
        errors: found.errors,
    });
    let handle = shard.handle().clone();
    let mark: MarkNow = Box::new(move || {
        let state = handle.state();
        let (seqno, token, upper) = (state.seqno, state.token.0, state.upper);
        (Mark { incarnation: incarnation.0, seqno, token, upper }, handle.now_ms())
    });
    let run = readers();
    let images = Images::new(folder, found, link.clone(), mark, run, stats.clone());
    Kept { cold, images: Some(images), link: Some((link, begin)) }
}

fn refused(verdict: &str, why: &str) -> String {
    format!("state: reads the shard; its image is {verdict}: {why}")
}

/// Opens a worker's folder; `None` if another process has it. Those of another number of workers are removed by the first.
fn open(
    dir: &Path,
    worker: (u64, u64),
    incarnation: u128,
) -> io::Result<Option<(Folder, Verdict)>> {
    let (index, count) = worker;
    let Some(disk) = OsDisk::open(&dir.join(format!("worker-{index}-of-{count}")))? else {
        return Ok(None);
    };
    let folder = Folder::new(Arc::new(disk), worker);
    let mut verdict = folder.look(incarnation)?;
    let others = others(dir, count)?;
    if verdict == Verdict::None && !others.is_empty() {
        verdict = Verdict::Foreign("another number of workers");
    }
    if index == 0 {
        for other in others {
            // One that is in use stays, and its process goes on.
            if let Some(disk) = OsDisk::open(&other)? {
                drop(disk);
                std::fs::remove_dir_all(&other)?;
            }
        }
    }
    Ok(Some((folder, verdict)))
}

/// Returns the folders of another number of workers.
fn others(dir: &Path, count: u64) -> io::Result<Vec<std::path::PathBuf>> {
    let mut others = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let of = name.to_str().and_then(|name| name.strip_prefix("worker-")?.split_once("-of-"));
        let of = of.and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        if of.is_some_and(|(_, of): (u64, u64)| of != count) {
            others.push(dir.join(name));
        }
    }
    Ok(others)
}
