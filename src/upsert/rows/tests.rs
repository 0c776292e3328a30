//! Goal: rows of every kind keep what was put in, and say what they take.

use super::bytes::ByteRows;
use super::stack::{STACK_ROWS, StackRows};
use super::*;
use crate::codec::packed::Encoded;
use crate::upsert::slot::ROW_UNIT;

fn bytes(text: &str) -> Encoded {
    Encoded::from_bytes(text.as_bytes().to_vec())
}

/// What both layouts promise, on rows of their own types.
fn keeps_rows<K, V, R>(rows: &[(K, V)])
where
    K: KeyHash + Eq + Clone + std::fmt::Debug,
    V: Eq + Clone + std::fmt::Debug,
    R: Rows<K, V>,
{
    let mut chunk = R::default();
    assert_eq!(chunk.next(None), None);
    let mut places = Vec::new();
    for (key, value) in rows {
        places.push(chunk.push(usize::MAX, key, value).unwrap());
    }
    let mut copy = R::default();
    let (mut walked, mut gather) = (None, R::Gather::default());
    for (place, (key, value)) in places.iter().zip(rows) {
        walked = chunk.next(walked);
        assert_eq!(walked, Some(*place));
        assert_eq!(chunk.key_hash(*place), key.key_hash());
        assert_eq!(chunk.share_at(*place), R::share(key, value));
        assert_eq!(chunk.get(*place), (key.clone(), value.clone()));
        for (other_key, other_value) in rows {
            assert_eq!(chunk.key_is(*place, other_key), key == other_key);
            assert_eq!(chunk.value_is(*place, other_value), value == other_value);
        }
        chunk.gather(*place, &mut gather);
        let copied = copy.push_row(usize::MAX, &chunk, *place).unwrap();
        assert_eq!(copy.get(copied), chunk.get(*place));
    }
    assert_eq!(chunk.next(walked), None);
    let values: Vec<_> = rows.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(R::values(&mut gather).collect::<Vec<_>>(), values);
    assert_eq!(R::values(&mut gather).count(), 0, "what was taken is gone");
}

#[test]
fn both_layouts_keep_rows() {
    let texts = ["", "a", "ab", "a longer one, over eight bytes", "a\0b"];
    let all = texts.iter().flat_map(|key| texts.iter().map(move |value| (*key, *value)));
    let packed: Vec<_> = all.clone().map(|(key, value)| (bytes(key), bytes(value))).collect();
    keeps_rows::<_, _, ByteRows>(&packed);
    let owned = |(key, value): (&str, &str)| (key.to_string(), (7u64, value.to_string()));
    let owned: Vec<_> = all.map(owned).collect();
    keeps_rows::<_, _, StackRows<_, _>>(&owned);
}

#[test]
fn overwriting_fits_or_leaves_the_row() {
    let mut chunk = ByteRows::default();
    let [key, old, new, long] = ["key", "old", "new", "long"].map(bytes);
    let first = chunk.push(100, &key, &old).unwrap();
    let second = chunk.push(100, &key, &long).unwrap();
    assert!(Rows::<Encoded, Encoded>::overwrite(&mut chunk, first, &new));
    assert!(!Rows::<Encoded, Encoded>::overwrite(&mut chunk, first, &long));
    assert_eq!(chunk.get(first), (key.clone(), new));
    assert_eq!(chunk.get(second), (key, long));
}

/// A chunk refuses what does not fit, but a row of any size has room in an empty one.
#[test]
fn a_full_chunk_refuses_and_a_huge_row_has_its_own() {
    let mut chunk = ByteRows::default();
    let (key, value) = (bytes("k"), Encoded::from_bytes(vec![7; 3000]));
    let row = chunk.push(1000, &key, &value).unwrap();
    assert_eq!(chunk.push(1000, &key, &bytes("")), None);
    assert!(Rows::<_, Encoded>::get(&chunk, row) == (key, value));

    let mut chunk = StackRows::<u64, u64>::default();
    for row in 0..STACK_ROWS as u32 {
        assert_eq!(chunk.push(0, &1, &2), Some(row));
    }
    assert_eq!(chunk.push(0, &1, &2), None);
}

/// What was written is read back, a chunk or a row; what is cut or made up is told, and never a panic.
#[test]
fn packed_rows_go_through_bytes() {
    type R = ByteRows;
    let mut chunk = R::default();
    let rows: Vec<_> =
        (0..20).map(|n| (bytes(&"k".repeat(n)), bytes(&"v".repeat(3 * n)))).collect();
    let places: Vec<_> =
        rows.iter().map(|(key, value)| chunk.push(1 << 20, key, value).unwrap()).collect();
    let all = Rows::<Encoded, Encoded>::as_bytes(&chunk).to_vec();
    let copy = <R as Rows<Encoded, Encoded>>::from_bytes(all.clone()).unwrap();
    for (place, (key, value)) in places.iter().zip(&rows) {
        assert_eq!(copy.get(*place), (key.clone(), value.clone()));
        let from = all[*place as usize * ROW_UNIT..].to_vec();
        let row = <R as Rows<Encoded, Encoded>>::from_row(from.clone()).unwrap();
        assert_eq!(row.get(0), (key.clone(), value.clone()));
        let hash = <R as Rows<Encoded, Encoded>>::value_hash(value);
        assert_eq!(Rows::<Encoded, Encoded>::value_hash_at(&row, 0), hash);
        let size = <R as Rows<Encoded, Encoded>>::share(key, value);
        for short in 0..size {
            assert!(<R as Rows<Encoded, Encoded>>::from_row(from[..short].to_vec()).is_none());
        }
    }
    for at in 0..all.len() {
        // A byte that changes may leave rows, of other lengths; it is hashes that tell.
        let mut other = all.clone();
        other[at] ^= 0xff;
        let _ = <R as Rows<Encoded, Encoded>>::from_bytes(other);
        if at % ROW_UNIT != 0 {
            assert!(<R as Rows<Encoded, Encoded>>::from_bytes(all[..at].to_vec()).is_none());
        }
    }
}
