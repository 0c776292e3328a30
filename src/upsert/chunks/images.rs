//! Owns what an image has of the chunks: what is kept in the file for it, round by round. It does not own the image's
//! entries, nor where it is named.

use std::collections::BTreeMap;

use super::super::cold::Chunked;
use super::super::recent::Recent;
use super::super::rows::Rows;
use super::{Chunk, Chunks, Home};
use crate::error::Error;

impl<R: Default> Chunks<R> {
    /// Takes the chunks of an image, all of them cold. Returns false if they cannot be what a state has written.
    pub(in crate::upsert) fn keep(&mut self, kept: &[Chunked]) -> bool {
        let regions: Vec<_> = kept.iter().map(|kept| kept.region).collect();
        let end = kept.iter().map(|kept| kept.chunk as usize + 1).max().unwrap_or(0);
        if end >= self.chunks_max || !self.cold.keep(&regions) {
            return false;
        }
        self.replays = true;
        self.chunks.resize_with(end + 1, Chunk::default);
        for Chunked { chunk, region, rows, live } in kept {
            let at = &mut self.chunks[*chunk as usize];
            if at.region.is_some() || live > rows || !region.is_whole() {
                return false;
            }
            at.home = Home::File;
            at.region = Some(*region);
            at.shares = region.bytes;
            at.dead =
                (u64::from(rows - live) * region.bytes as u64 / u64::from(*rows).max(1)) as usize;
            (at.rows, at.live) = (*rows, *live);
            self.rows[1] += u64::from(*live);
        }
        self.tail = end as u32;
        for (number, chunk) in self.chunks.iter_mut().enumerate() {
            let number = number as u32;
            if chunk.is_cold() && chunk.live == 0 {
                // Nothing in it lives, and the image has it: it is freed with that.
                let (region, rows) = (chunk.region.take(), chunk.rows);
                *chunk = Chunk { home: Home::Leaving, ..Chunk::default() };
                let ghost = region.map(|region| Chunked { chunk: number, region, rows, live: 0 });
                self.ghosts.extend(ghost.map(|ghost| (ghost, 0)));
            } else if chunk.region.is_none() && number != self.tail {
                self.free.push(number);
            }
        }
        true
    }

    /// Says that the entries are as new as what the file has.
    pub(in crate::upsert) fn end_replay(&mut self) {
        if std::mem::take(&mut self.replays) {
            // What was read may be of another version.
            self.recent = Recent::new(2 * self.reading_max);
        }
    }

    /// Says whether updates since the image are still to be applied, for a part of it. Returns whether they were.
    pub(in crate::upsert) fn replay(&mut self, replays: bool) -> bool {
        std::mem::replace(&mut self.replays, replays)
    }

    /// Whether updates since the image are still to be applied.
    pub(in crate::upsert) fn replays(&self) -> bool {
        self.replays
    }

    /// Says that images are taken: from here on what one of them has stays in the file.
    pub(in crate::upsert) fn keep_images(&mut self) {
        self.images = true;
    }

    /// Says that images have ended, the last one included: what only images need is free for use again.
    pub(in crate::upsert) fn end_images(&mut self) {
        self.images = false;
        self.round = u64::MAX;
        self.end_round();
    }

    pub(in crate::upsert) fn in_round(&self) -> bool {
        self.in_round
    }

    /// Begins a round: what is freed from here on stays in the file until the image after the next is whole.
    pub(in crate::upsert) fn begin_round(&mut self) {
        self.in_round = true;
        self.written_to = 0;
        self.round += 1;
    }

    /// Ends a round, whose image is durable: what was freed before it began is free for use again.
    pub(in crate::upsert) fn end_round(&mut self) {
        self.in_round = false;
        let round = if crate::mutant::on("image_region_reused") { u64::MAX } else { self.round };
        let (gone, kept) =
            std::mem::take(&mut self.ghosts).into_iter().partition(|(_, at)| *at < round);
        self.ghosts = kept;
        let gone: Vec<(Chunked, u64)> = gone;
        for (Chunked { chunk, region, .. }, _) in gone {
            self.cold.give(&region);
            self.chunks[chunk as usize] = Chunk::default();
            self.free.push(chunk);
        }
    }

    /// Gives a round up. What was freed in it stays until the next is whole.
    pub(in crate::upsert) fn give_round_up(&mut self) {
        self.in_round = false;
    }

    /// Writes chunks that are in memory alone, or have changed there, as many as so many bytes. Returns whether that was
    /// all of them. The tail is left out: it is to be sealed before. Each is written once in a round: what changes there
    /// after that is superseded by what came since.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the file cannot be written.
    pub(in crate::upsert) fn write_round<K, V>(&mut self, bytes_max: usize) -> Result<bool, Error>
    where
        R: Rows<K, V>,
    {
        if crate::mutant::on("round_begins_anew") {
            self.written_to = 0;
        }
        let mut written = 0;
        while (self.written_to as usize) < self.chunks.len() {
            if written >= bytes_max {
                return Ok(false);
            }
            if self.written_to != self.tail {
                written += self.write_out(self.written_to)?;
            }
            self.written_to += 1;
        }
        Ok(true)
    }

    /// Whether the tail has rows that were captured.
    pub(in crate::upsert) fn tail_is_captured(&self, live: &BTreeMap<u32, u32>) -> bool {
        live.contains_key(&self.tail)
    }

    /// Returns the chunks of the round's image, with as many live rows as the entries that were captured say.
    pub(in crate::upsert) fn table(&self, live: &BTreeMap<u32, u32>) -> Vec<Chunked> {
        let live = |chunk| live.get(&chunk).copied().unwrap_or(0);
        let numbered = self.chunks.iter().zip(0..);
        let kept = numbered.filter_map(|(at, chunk)| {
            at.region.map(|region| Chunked { chunk, region, rows: at.rows, live: live(chunk) })
        });
        let ghosts = self.ghosts.iter().filter(|(_, at)| *at >= self.round);
        let ghosts = ghosts.map(|(ghost, _)| Chunked { live: live(ghost.chunk), ..*ghost });
        kept.chain(ghosts).collect()
    }
}
