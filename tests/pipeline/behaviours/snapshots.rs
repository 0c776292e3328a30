//! Owns B32, B37 to B39 and B41: copies, what is copied anew, and partitions that others take the
//! place of.

use differential_upsert::source::{Boundary, Change};
use differential_upsert::unstable::attempt::Reason;

use crate::behaviours::rig::{Contents, Kept, Setup, apply, boundary, run_as, run_with};
use crate::behaviours::script::{At, Scripted, at, copied};
use crate::random::{Random, for_seeds};

fn contents(kept: &[Kept<At>]) -> Contents {
    let mut contents = Contents::new();
    kept.iter().for_each(|kept| apply(&mut contents, &kept.changes));
    contents
}

#[tokio::test(start_paused = true)]
async fn b32_resumed_from_any_boundary_it_comes_to_the_same() {
    let script =
        "B R1=1 R2=2 V(1) C | B D1 R3=3 V(2) C | B R1=4 D2 V(3) C | B V(4) C | B R2=5 V(5) C";
    let units: Vec<&str> = script.split(" | ").collect();
    let whole = run_as(&[script], |source| source).await;
    for from in 0..units.len() {
        for seed in 0..10 {
            let rest = crate::behaviours::script::parse(&units[from..].join(" "));
            let rest = crate::behaviours::script::rechunk(&rest, &Random::new(seed));
            let start = Boundary::start("script");
            let place = if from == 0 { start } else { whole.kept[from - 1].boundary.clone() };
            let setup = Setup { from: place.clone(), ..Setup::default() };
            let again = run_with(setup, Scripted::of(vec![rest])).await;
            assert_eq!(again.asked.connects()[0], place);
            let all = [&whole.kept[..from], &again.kept[..]].concat();
            for (n, kept) in all.iter().enumerate() {
                assert_eq!(contents(&all[..=n]), contents(&whole.kept[..=n]), "{from}, unit {n}");
                assert_eq!(kept.boundary, whole.kept[n].boundary);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn b37_rows_that_changed_while_a_copy_was_interrupted() {
    // Of the copied keys 1 to 4, one changes, one goes, and one comes, before the copy goes on.
    let first = "B F | V(5) | R1 R2 R4 V(5,4) C | B R6 | !unavailable";
    let second =
        "B R1=11 V(6,4) C | B D2 V(7,4) C | B R3=13 V(8,4) C | B R6 R7 V(8,7) C | B V(8) C | CC";
    let run = run_as(&[first, second], Scripted::copied).await;
    assert_eq!(run.connects(), [None, Some(copied(5, 4)), Some(at(8))], "both coordinates");
    let expected = [(1, Ok(11)), (3, Ok(13)), (4, Ok(4)), (6, Ok(6)), (7, Ok(7))];
    assert_eq!(run.contents(), Contents::from(expected));
    // What was said of a row that is yet to be copied does no harm.
    let second = "B R1=11 R7=17 D9 V(6,4) C | B R6 R7=17 V(6,7) C | B V(6) C | CC";
    let run = run_as(&[first, second], Scripted::copied).await;
    let expected = [(1, Ok(11)), (2, Ok(2)), (4, Ok(4)), (6, Ok(6)), (7, Ok(17))];
    assert_eq!(run.contents(), Contents::from(expected));
}

const LOST: [&str; 2] = [
    "B R1 R2 R3 V(3) | CC | !lost",
    "B F | V(9) | R1=11 V(9,1) C | B R4 V(9,4) C | B V(9) C | CC | B R5 V(10) C",
];

#[tokio::test(start_paused = true)]
async fn b38_a_lost_position_is_one_unit_that_replaces_all() {
    let run = run_as(&LOST, Scripted::copied).await;
    assert_eq!(run.kept.len(), 1 + 1 + 1, "before, anew, after");
    let anew = &run.kept[1];
    assert_eq!(anew.changes[0], Change::Reset);
    assert_eq!(anew.changes[1..], [Change::Put(1, Ok(11)), Change::Put(4, Ok(4))]);
    assert_eq!((anew.boundary.generation(), anew.boundary.get("")), (1, Some(&at(9))));
    let expected = [(1, Ok(11)), (4, Ok(4)), (5, Ok(5))];
    assert_eq!(run.contents(), Contents::from(expected), "no ghosts of 2 and 3");
}

#[tokio::test(start_paused = true)]
async fn b38_nothing_of_it_goes_on_before_its_end() {
    // Cut anywhere, also several times: what was there before stays as it is.
    let words: Vec<&str> = LOST[1].split_whitespace().collect();
    let end = words.iter().position(|word| *word == "CC").unwrap();
    for cut in 0..=end {
        let head = format!("{} | !unavailable", words[..cut].join(" "));
        let alone = run_as(&[LOST[0], &head], Scripted::copied).await;
        assert_eq!(alone.kept.len(), 1, "{head}");
        assert_eq!(alone.ended.boundary.generation(), 0, "{head}");
        assert_eq!(alone.safe(), Some(at(3)), "{head}");
    }
    // It goes on where the copy was, in the same generation, as one unit.
    let scripts = [
        LOST[0],
        "B F | V(9) | R1=11 V(9,1) C | B R4 | !unavailable",
        "B R1=12 V(10,1) C | B R4 V(10,4) C | B V(10) C | CC",
    ];
    let run = run_as(&scripts, Scripted::copied).await;
    let third = &run.asked.connects()[2];
    assert_eq!((third.generation(), third.get("")), (1, Some(&copied(9, 1))));
    assert_eq!(run.kept.len(), 2);
    assert_eq!(run.contents(), Contents::from([(1, Ok(12)), (4, Ok(4))]));
    // Started again in the middle of it, it begins with the cursor that went on last.
    let setup = Setup { from: run.kept[0].boundary.clone(), ..Setup::default() };
    let again = run_with(setup, Scripted::new(&["!lost", LOST[1]]).copied()).await;
    assert_eq!(again.kept[0].changes[0], Change::Reset);
}

#[tokio::test(start_paused = true)]
async fn b38_every_partition_is_copied_before_it_goes_on() {
    let two = |source: Scripted| source.copied().partitions(&["a", "b"]);
    let scripts = [
        "a:B a:R1 a:V(1) a:OTHER | !lost",
        "a:B a:R2 a:V(5,2) a:C | a:B a:V(5) a:C | a:CC | a:B a:R3 a:V(6) a:C | b:B b:R7 b:V(2,7) b:C | \
         b:B b:V(2) b:C | b:CC | a:B a:R4 a:V(7) a:C",
    ];
    let run = run_as(&scripts, two).await;
    assert_eq!(run.keys(), [vec![1], vec![2, 3, 7], vec![4]]);
    assert_eq!(run.kept[1].boundary.generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn b39_deletes_and_updates_of_keys_never_seen() {
    let run = run_as(&["B D1 D2 V(1) C | B R3=4 V(2) C | B D9 V(3) C"], |source| source).await;
    assert_eq!(run.contents(), Contents::from([(3, Ok(4))]));
    assert_eq!(run.safe(), Some(at(3)));
}

#[tokio::test(start_paused = true)]
async fn b41_partitions_are_replaced_at_one_boundary() {
    let old = |source: Scripted| source.partitions(&["-80", "80-"]);
    let before = "-80:B -80:R1 -80:V(3) -80:C | 80-:B 80-:R9 80-:V(4) 80-:C";
    let first = format!("{before} | ALL(-=1) | -:B -:R2 -:V(2) -:C | !unavailable");
    let run = run_as(&[&first, "-:B -:R3 -:V(3) -:C"], old).await;
    assert_eq!(run.keys(), [vec![1], vec![9], vec![], vec![2], vec![3]]);
    let after = &run.kept[2].boundary;
    assert_eq!(
        (after.cursor().len(), after.get("-")),
        (1, Some(&at(1))),
        "the old ones are gone, at once"
    );
    let second = &run.asked.connects()[1];
    assert_eq!((second.cursor().len(), second.get("-")), (1, Some(&at(2))));
    // Cut before the boundary, the old ones are what is resumed.
    let cut = format!("{before} | -:R5 !unavailable");
    let run = run_as(&[&cut, "ALL(-=1)"], old).await;
    let second = &run.asked.connects()[1];
    assert_eq!(
        (second.get("-80"), second.get("80-"), second.get("-")),
        (Some(&at(3)), Some(&at(4)), None)
    );
    // That it was resharded counts as progress, and so do the targets in partitions that are gone.
    let scripts = ["!unavailable", "!unavailable", &first, "!unavailable", "!unavailable", "E"];
    let run = run_as(&scripts, old).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
}

#[tokio::test(start_paused = true)]
async fn b41_being_resharded_is_progress() {
    let from = run_as(&["-80:R1 80-:R2 ALL(-80=3,80-=4)"], |source| source).await.ended.boundary;
    let reshard = "ALL(-=1) | !unavailable";
    let scripts = ["!unavailable", "!unavailable", reshard, "!unavailable", "!unavailable", "E"];
    let run = run_with(Setup { from, ..Setup::default() }, Scripted::new(&scripts)).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
    // Also if fewer are left.
    let from = run.ended.boundary;
    let split = "ALL(-80=3,80-=4) | ALL(-80=3) | !unavailable";
    let scripts = ["!unavailable", "!unavailable", split, "!unavailable", "!unavailable", "E"];
    let run = run_with(Setup { from, ..Setup::default() }, Scripted::new(&scripts)).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
}

/// A target in a partition that is gone is reached.
#[tokio::test(start_paused = true)]
async fn b41_a_run_stops_where_the_feed_was_after_it_was_resharded() {
    let setup = Setup { stop_at_current: true, from: boundary(at(2)).await, ..Setup::default() };
    let source = Scripted::new(&["B R1 V(3) C | ALL(x=1) | x:B x:R2 x:V(2) x:C | hang"]);
    let run = run_with(setup, source.current(Ok(at(9)))).await;
    assert!(matches!(run.ended.reason, Reason::Complete), "{:?}", run.ended);
}

/// The last one of a key in a unit counts, however a unit is put together.
#[test]
fn b40_random_units_of_one_key() {
    for_seeds("BEHAVIOUR", 50, |seed| {
        let random = Random::new(seed);
        let words: Vec<String> = (0..1 + random.below(9))
            .map(|n| if random.one_in(3) { "D1".to_string() } else { format!("R1={n}") })
            .collect();
        let script = format!("B {} V(1) C", words.join(" "));
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let run = runtime.block_on(run_as(&[&script], |source| source));
        let last = words.last().unwrap().strip_prefix("R1=").map(|value| value.parse().unwrap());
        assert_eq!(run.contents().get(&1).cloned(), last.map(Ok), "{script}");
    });
}
