//! Owns what stashed rows keep allocated: the bytes of their buffers, each buffer once, however many rows share
//! it. It does not own the rows.
//!
//! A row is a place in a buffer, and the buffer lives as long as any of its rows. So what a row keeps is seldom what it
//! is long: one that is left of a container keeps the whole of it.

use hashbrown::HashTable;

use crate::codec::packed::Place;

/// The buffers of some rows.
#[derive(Debug, Default)]
pub struct Pins {
    shared: HashTable<Pin>,
    bytes: usize,
    live: usize,
    /// Changes to one buffer that are not in the table yet: neighbours mostly share.
    pending: Option<Change>,
}

#[derive(Debug)]
struct Pin {
    buffer: usize,
    buffer_bytes: usize,
    /// The bytes of its rows that are held, and how many rows these are.
    live: usize,
    rows: usize,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    place: Place,
    live: isize,
    rows: isize,
}

/// What a buffer in the table costs beside itself.
const PIN_BYTES: usize = 2 * size_of::<Pin>();

fn hash(buffer: usize) -> u64 {
    (buffer as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Whether a row is most of its buffer: such a buffer is counted with the row, and the table does not know it.
fn is_alone(place: Place) -> bool {
    place.bytes * 2 >= place.buffer_bytes || place.buffer_bytes < 256
}

impl Pins {
    /// Adds a row.
    pub fn hold(&mut self, place: Place) {
        self.change(place, 1);
    }

    /// Takes a row away that was added.
    pub fn release(&mut self, place: Place) {
        self.change(place, -1);
    }

    fn change(&mut self, place: Place, rows: isize) {
        let live = place.bytes as isize * rows;
        self.live = self.live.wrapping_add_signed(live);
        if is_alone(place) {
            self.bytes = self.bytes.wrapping_add_signed(place.buffer_bytes as isize * rows);
            return;
        }
        match &mut self.pending {
            Some(change) if change.place.buffer == place.buffer => {
                change.live += live;
                change.rows += rows;
            }
            _ => {
                self.settle();
                self.pending = Some(Change { place, live, rows });
            }
        }
    }

    /// Brings the table up to date.
    fn settle(&mut self) {
        let Some(Change { place, live, rows }) = self.pending.take() else { return };
        let is_it = |pin: &Pin| pin.buffer == place.buffer;
        if let Ok(mut entry) = self.shared.find_entry(hash(place.buffer), is_it) {
            let pin = entry.get_mut();
            pin.live = pin.live.wrapping_add_signed(live);
            pin.rows = pin.rows.wrapping_add_signed(rows);
            if pin.rows == 0 {
                let (pin, _) = entry.remove();
                self.bytes -= pin.buffer_bytes + PIN_BYTES;
            }
        } else if rows > 0 {
            let Place { buffer, buffer_bytes, .. } = place;
            let pin = Pin { buffer, buffer_bytes, live: live as usize, rows: rows as usize };
            self.bytes += buffer_bytes + PIN_BYTES;
            self.shared.insert_unique(hash(buffer), pin, |pin| hash(pin.buffer));
        }
    }

    /// Returns the bytes kept allocated.
    pub fn bytes(&mut self) -> usize {
        self.settle();
        self.bytes
    }

    /// Returns the bytes kept allocated, but for the buffer of the last change: for where it is asked at each row.
    pub fn bytes_but_last(&self) -> usize {
        self.bytes
    }

    /// Returns the bytes kept that belong to no row.
    pub fn dead(&mut self) -> usize {
        self.bytes().saturating_sub(self.live)
    }

    /// Whether less than half of what is kept belongs to rows.
    pub fn are_mostly_dead(&mut self) -> bool {
        self.bytes() > 2 * self.live + SLACK
    }

    /// Whether the rows that are held, here and in `others`, are less than half of the buffer of one of them.
    pub fn is_mostly_dead(&mut self, others: &mut Pins, place: Place) -> bool {
        !is_alone(place) && (self.live(place) + others.live(place)) * 2 < place.buffer_bytes
    }

    /// Returns the bytes of the rows that are held of a buffer.
    fn live(&mut self, place: Place) -> usize {
        self.settle();
        let pin = self.shared.find(hash(place.buffer), |pin| pin.buffer == place.buffer);
        pin.map_or(0, |pin| pin.live)
    }

    /// Forgets every row.
    pub fn clear(&mut self) {
        *self = Pins::default();
    }
}

/// Dead bytes that are not worth a look at every row.
const SLACK: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(buffer: usize, bytes: usize) -> Place {
        Place { buffer, buffer_bytes: 1000, bytes }
    }

    #[test]
    fn a_buffer_counts_once_and_goes_with_its_last_row() {
        let mut pins = Pins::default();
        assert_eq!(pins.bytes(), 0);
        for buffer in [1, 1, 2, 1, 2] {
            pins.hold(place(buffer, 200));
        }
        assert_eq!(pins.bytes(), 2 * (1000 + PIN_BYTES));
        let mut others = Pins::default();
        let mut dead =
            |pins: &mut Pins, buffer| pins.is_mostly_dead(&mut others, place(buffer, 200));
        assert!(!dead(&mut pins, 1) && dead(&mut pins, 2));
        others.hold(place(2, 200));
        assert!(!pins.is_mostly_dead(&mut others, place(2, 200)), "half of it, together");
        for (buffer, left) in [(1, 2), (2, 2), (1, 2), (1, 1), (2, 0)] {
            pins.release(place(buffer, 200));
            assert_eq!(pins.bytes(), left * (1000 + PIN_BYTES));
        }
        // Most of its buffer: no other row has a share worth counting.
        pins.hold(place(3, 600));
        assert_eq!((pins.bytes(), pins.shared.len()), (1000, 0));
        assert!(!pins.is_mostly_dead(&mut others, place(3, 600)));
        pins.release(place(3, 600));
        assert_eq!((pins.bytes(), pins.live), (0, 0));
    }

    #[test]
    fn survivors_of_large_buffers_show() {
        let mut pins = Pins::default();
        (0..100).for_each(|buffer| pins.hold(place(buffer, 400)));
        assert!(!pins.are_mostly_dead(), "{pins:?}");
        (0..200).for_each(|buffer| pins.hold(place(1000 + buffer, 1)));
        assert!(pins.are_mostly_dead(), "{pins:?}");
        pins.clear();
        assert_eq!(pins.bytes(), 0);
    }
}
