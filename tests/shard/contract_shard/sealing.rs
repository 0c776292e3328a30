//! Goal: a seal that another writer has made first, at the same end, is made. Method: a plan that holds one
//! writer's seal back after it has looked, until the other's is in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use differential_upsert::io::Io;
use differential_upsert::shard::{Access, Append, Appended, HandleConfig};
use differential_upsert::store::{Fault, Faults, Operation, Root};
use differential_upsert::{ErrorKind, Shard};

#[test]
fn two_writers_that_seal_at_once_have_both_sealed() {
    let io = Io::process().unwrap();
    let root = Root::open("mem:", Access::Write).unwrap();
    let (sealing, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let faults = Faults::new({
        let (sealing, held) = (Arc::clone(&sealing), Arc::clone(&held));
        move |action| {
            if action.operation != Operation::CreateEntry || !sealing.load(Ordering::SeqCst) {
                return Fault::None;
            }
            held.store(true, Ordering::SeqCst);
            Fault::Hang
        }
    });
    io.block_on(async {
        let open =
            |root| Shard::<String, u64>::open_with(root, io.clone(), HandleConfig::default());
        let first = open(root.clone().with_faults(Arc::clone(&faults))).await.unwrap();
        let second = open(root).await.unwrap();
        let append = Append { upper: 4, ..Append::default() };
        let won = second.handle().compare_and_append(append).await.unwrap();
        assert!(matches!(won, Appended::Won { .. }), "{won:?}");
        sealing.store(true, Ordering::SeqCst);
        let overtake = async {
            while !held.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            second.seal(4).await.unwrap();
            sealing.store(false, Ordering::SeqCst);
            faults.let_go();
        };
        let (sealed, ()) = tokio::join!(first.seal(4), overtake);
        sealed.unwrap();
        // At another end it would be another claim.
        let error = first.seal(5).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    });
}
