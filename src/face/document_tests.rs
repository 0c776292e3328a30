//! What documents say before there is a pipeline.

use super::*;
use crate::control::promotion::Promotion;
use crate::source::SourceStats;

fn parsed(face: &Face, now: Instant) -> Value {
    serde_json::from_str(&document(face, now, 7, true)).unwrap()
}

#[test]
fn before_there_is_a_pipeline_it_says_what_is_known() {
    let (face, stats) = (Face::new(Promotion::default()), SourceStats::default());
    let now = Instant::now();
    assert_eq!(parsed(&face, now)["pipelines"][0]["progress"], Value::Null);
    face.show_feed("", "feed.jsonl", stats.clone());
    for look in 0..5 {
        stats.set_position(100 * look, Some(1000));
        face.look(now + std::time::Duration::from_secs(look));
    }
    let seen = parsed(&face, now);
    let pipeline = &seen["pipelines"][0];
    assert_eq!((&seen["tick"], &pipeline["state"]), (&7.into(), &"hydrating".into()));
    assert_eq!((&pipeline["feed"], &pipeline["shard"]), (&"feed.jsonl".into(), &Value::Null));
    let progress = json!({ "at": 400, "of": 1000, "rate": 100.0, "eta": 6.0, "rows": 0 });
    assert_eq!(pipeline["progress"], progress);
    face.show_failed("the store is gone");
    let failed = parsed(&face, now)["pipelines"][0].clone();
    assert_eq!((&failed["state"], &failed["trouble"]), (&"failed".into(), &true.into()));
    assert_eq!(failed["why"], "the store is gone");
}
