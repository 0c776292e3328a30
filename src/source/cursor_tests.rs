//! Goal: what a cursor's bytes are, and what containing means. Method: bytes that stand here, every bit
//! flipped, and small cases by hand.

use super::*;

fn cursor() -> Cursor<u64> {
    Cursor::of("orders", 2, [("-80".into(), 7), ("80-".into(), 300)])
}

/// Cursors are in shards: a change of these bytes needs a new version.
#[test]
fn the_bytes_of_a_cursor_are_for_ever() {
    let golden: [&[u8]; 8] = [
        &[1, 6, 0, 0, 0],
        b"orders",
        &[2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0],
        b"-80",
        &[8, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0],
        b"80-",
        &[8, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0],
        &0x9cec_e9eb_u32.to_le_bytes(),
    ];
    assert_eq!(cursor().encode(), golden.concat());
    assert_eq!(Cursor::decode(&golden.concat()).unwrap(), cursor());
}

#[test]
fn a_damaged_cursor_is_never_the_start() {
    let bytes = cursor().encode();
    for length in 0..bytes.len() {
        Cursor::<u64>::decode(&bytes[..length]).unwrap_err();
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = Cursor::<u64>::decode(&flipped).unwrap_err();
        let kind = if bit < 8 { ErrorKind::Unsupported } else { ErrorKind::Corrupt };
        assert_eq!(error.kind(), kind, "bit {bit}: {error}");
    }
}

#[test]
fn one_contains_another_partition_by_partition() {
    let of = |generation, places: &[(&str, u64)]| {
        Cursor::of("orders", generation, places.iter().map(|(name, at)| ((*name).into(), *at)))
    };
    let all = of(2, &[("a", 5), ("b", 5)]);
    for (other, contained) in [
        (of(2, &[("a", 5), ("b", 5)]), true),
        (of(2, &[("a", 4)]), true),
        (of(2, &[("a", 4), ("b", 6)]), false),
        (of(2, &[("c", 0)]), false),
        (of(1, &[("a", 9)]), true),
        (of(3, &[]), false),
    ] {
        assert_eq!(all.contains(&other), Some(contained), "{other:?}");
    }
    assert_eq!(all.contains(&Cursor::of("others", 2, [])), None);
}
