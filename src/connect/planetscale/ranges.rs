//! Owns which part of a keyspace a shard's name stands for, to tell a reshard from a lost shard, and
//! our shards from others. It does not own what is done about it.
//!
//! A shard is named for its range of keyspace ids in hexadecimal: `-80`, `80-c0`, `c0-`. `-` and `0`
//! are the whole keyspace.

/// Whether two sets of shards stand for the same part of the keyspace.
pub(super) fn cover_the_same<'a>(
    ours: impl IntoIterator<Item = &'a str>,
    theirs: impl IntoIterator<Item = &'a str>,
) -> bool {
    let (Some(ours), Some(theirs)) = (union(ours), union(theirs)) else { return false };
    ours == theirs
}

/// Whether a shard has a part of the keyspace that these stand for.
pub(super) fn overlaps(ours: &[String], shard: &str) -> bool {
    let Some((start, end)) = range(shard) else {
        // A name that does not read as a range stands for itself alone.
        return ours.iter().any(|name| name == shard);
    };
    ours.iter().filter_map(|name| range(name)).any(|(from, to)| {
        to.is_none_or(|to| start < to) && end.as_ref().is_none_or(|end| from < *end)
    })
}

/// A range of ids; the end `None` is beyond every id.
type Range = (Vec<u8>, Option<Vec<u8>>);

/// Returns what shards stand for, apart from each other and in order; `None` for any other name, or if
/// two of them overlap.
fn union<'a>(shards: impl IntoIterator<Item = &'a str>) -> Option<Vec<Range>> {
    let mut ranges: Vec<Range> = shards.into_iter().map(range).collect::<Option<_>>()?;
    ranges.sort();
    let mut union: Vec<Range> = Vec::new();
    for (start, end) in ranges {
        match union.last_mut() {
            Some((_, before)) if before.as_ref() == Some(&start) => *before = end,
            Some((_, None)) => return None,
            Some((_, Some(before))) if *before > start => return None,
            _ => union.push((start, end)),
        }
    }
    Some(union)
}

fn range(shard: &str) -> Option<Range> {
    if shard == "0" {
        return Some((Vec::new(), None));
    }
    let (start, end) = shard.split_once('-')?;
    let end = if end.is_empty() { None } else { Some(id(end)?) };
    Some((id(start)?, end))
}

/// Reads an id. Zeros at the end do not count: `80` and `8000` are the same place.
fn id(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|char| char.to_digit(16).map(|digit| digit as u8)).collect();
    let mut digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    while digits.last() == Some(&0) {
        digits.pop();
    }
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_overlaps_has_an_id_in_common() {
        for (ours, shard, common) in [
            (&["-"][..], "40-80", true),
            (&["-40", "c0-"], "-80", true),
            (&["-40", "c0-"], "40-c0", false),
            (&["80-"], "-80", false),
            (&["40-80"], "0", true),
            (&["left"], "left", true),
            (&["left"], "right", false),
            (&["left"], "-", false),
        ] {
            let ours: Vec<String> = ours.iter().map(|name| name.to_string()).collect();
            assert_eq!(overlaps(&ours, shard), common, "{ours:?} {shard}");
        }
    }

    #[test]
    fn a_reshard_covers_what_was_there() {
        for (ours, theirs, same) in [
            (&["-80", "80-"][..], &["-"][..], true),
            (&["0"], &["-80", "80-"], true),
            (&["-80", "80-"], &["80-", "40-80", "-40"], true),
            (&["-80"], &["-40", "40-80"], true),
            (&["-80"], &["-40", "4000-80"], true),
            (&["-80", "80-"], &["80-"], false),
            (&["-80"], &["-40", "60-80"], false),
            (&["-80"], &["80-"], false),
            (&["-80"], &["-80", "40-80"], false),
            (&["-80"], &["-", "-80"], false),
            (&["-80"], &["left"], false),
            (&["-80"], &[], false),
        ] {
            let of = |shards: &'static [&'static str]| shards.iter().copied();
            assert_eq!(cover_the_same(of(ours), of(theirs)), same, "{ours:?} {theirs:?}");
        }
    }
}
