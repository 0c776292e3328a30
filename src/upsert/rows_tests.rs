//! Goal: rows of every kind keep what was put in, and say what they take.

use super::*;
use crate::codec::packed::Encoded;

fn bytes(text: &str) -> Encoded {
    Encoded::from_bytes(text.as_bytes().to_vec())
}

/// What both layouts promise, on rows of their own types.
fn keeps_rows<K, V, R>(rows: &[(K, V)])
where
    K: Eq + Clone + std::fmt::Debug,
    V: Eq + Clone + std::fmt::Debug,
    R: Rows<K, V>,
{
    let mut chunk = R::default();
    assert_eq!(chunk.next(None), None);
    let mut places = Vec::new();
    for (hash, (key, value)) in rows.iter().enumerate() {
        places.push(chunk.push(hash as u32, key, value).unwrap());
    }
    let mut copy = R::default();
    let (mut walked, mut gather) = (None, R::Gather::default());
    for (hash, (place, (key, value))) in places.iter().zip(rows).enumerate() {
        walked = chunk.next(walked);
        assert_eq!(walked, Some(*place));
        assert_eq!(chunk.hash(*place), hash as u32);
        assert_eq!(chunk.get(*place), (key.clone(), value.clone()));
        for (other_key, other_value) in rows {
            assert_eq!(chunk.key_is(*place, other_key), key == other_key);
            assert_eq!(chunk.value_is(*place, other_value), value == other_value);
        }
        chunk.gather(*place, &mut gather);
        let copied = copy.push_row(&chunk, *place).unwrap();
        assert_eq!((copy.get(copied), copy.hash(copied)), (chunk.get(*place), hash as u32));
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
    let first = chunk.push(1, &key, &old).unwrap();
    let second = chunk.push(2, &key, &long).unwrap();
    assert!(Rows::<Encoded, Encoded>::overwrite(&mut chunk, first, &new));
    assert!(!Rows::<Encoded, Encoded>::overwrite(&mut chunk, first, &long));
    assert_eq!(chunk.get(first), (key.clone(), new));
    assert_eq!(chunk.get(second), (key, long));
}

/// A chunk refuses what does not fit, but a row of any size has room in an empty one.
#[test]
fn a_full_chunk_refuses_and_a_huge_row_has_its_own() {
    let mut chunk = ByteRows::default();
    let (key, value) = (bytes("k"), Encoded::from_bytes(vec![7; CHUNK_BYTES * 3]));
    let row = chunk.push(0, &key, &value).unwrap();
    assert_eq!(chunk.push(0, &key, &bytes("")), None);
    assert!(Rows::<_, Encoded>::get(&chunk, row) == (key, value));

    let mut chunk = StackRows::<u64, u64>::default();
    for row in 0..STACK_ROWS as u32 {
        assert_eq!(chunk.push(row, &1, &2), Some(row));
    }
    assert_eq!(chunk.push(0, &1, &2), None);
}
