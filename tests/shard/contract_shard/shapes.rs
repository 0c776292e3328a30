//! Goal: a shard is not read as rows of another shape, however the types are called. Method: types that
//! share a name in modules of their own, opened on one shard after the other.

use std::sync::Arc;

use differential_upsert::codec::{Codec, Evolving, Postcard};
use differential_upsert::shard::{Fingerprint, Handle, HandleOptions, Schema};
use differential_upsert::store::Root;
use differential_upsert::{Error, ErrorKind, Shard};
use object_store::memory::InMemory;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::memory;
use crate::common::{config, io, runtime};
use crate::network::{Fate, Network};

macro_rules! row {
    ($module:ident, $($field:ident: $type:ty),*) => {
        mod $module {
            #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
            pub struct Row {
                $(pub $field: $type),*
            }
        }
    };
}

row!(a, cents: u64, count: u64);
row!(swapped, count: u64, cents: u64);
row!(renamed, cents: u64, number: u64);
row!(narrow, cents: u64, count: u32);
row!(more, cents: u64, count: u64, note: String);
row!(less, cents: u64);
row!(same, cents: u64, count: u64);
row!(noted, cents: u64, count: u64, note: Option<String>);

/// As `a::Row`, under another name.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sale {
    cents: u64,
    count: u64,
}

/// Two programs that add a shape at once: the entry of the one gets lost, and the other's takes its number.
#[test]
fn of_two_shapes_that_are_added_at_once_each_has_its_number() {
    type Rows<V> = Shard<String, V, Evolving>;
    runtime().block_on(async {
        let store = Arc::new(InMemory::new());
        let root = Root::from_object_store(Arc::clone(&store) as _, "mem:");
        Rows::<a::Row>::open_with(root.clone(), io(1), config()).await.unwrap();
        let network = Network::over(&store);
        let rival = async move {
            let rival = Rows::<noted::Row>::open_with(root, io(2), config()).await.unwrap();
            assert_eq!(rival.handle().shapes().len(), 2);
        };
        network.next(Fate::RequestLost, Box::pin(rival));
        let ours = Rows::<less::Row>::open_with(network.root(), io(3), config()).await.unwrap();
        let shapes = ours.handle().shapes().into_iter().filter_map(|shape| shape.shape);
        let expected = [
            "struct{cents: u64, count: u64}",
            "struct{cents: u64, count: u64, note: option<string>}",
            "struct{cents: u64}",
        ];
        assert_eq!(shapes.collect::<Vec<_>>(), expected);
    });
}

async fn opened<V: Serialize + DeserializeOwned>(root: &Root) -> Result<(), Error> {
    let opened = Shard::<String, V, Postcard>::open_with(root.clone(), io(1), config()).await;
    opened.map(drop)
}

#[test]
fn another_shape_is_refused_and_another_name_is_not() {
    runtime().block_on(async {
        let root = memory();
        opened::<a::Row>(&root).await.unwrap();
        opened::<same::Row>(&root).await.unwrap();
        opened::<Sale>(&root).await.unwrap();
        let refused = [
            (opened::<swapped::Row>(&root).await, "at the top: `cents: u64` .. `count: u64`"),
            (opened::<renamed::Row>(&root).await, "at the top: `count: u64` .. `number: u64`"),
            (opened::<narrow::Row>(&root).await, "at \".count\": `u64` .. `u32`"),
            (opened::<more::Row>(&root).await, "at the top: `nothing` .. `note: string`"),
            (opened::<less::Row>(&root).await, "at the top: `count: u64` .. `nothing`"),
        ];
        for (refused, says) in refused {
            let error = refused.expect_err(says);
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            let (left, right) = says.split_once(" .. ").unwrap();
            let left =
                format!("the shard's values have another shape {left} in the shard's \"Row\"");
            let text = error.to_string();
            assert!(
                text.starts_with(&format!(
                    "{left}, {right} in \"Row\"; this codec reads one shape alone at mem:FORMAT; "
                )),
                "{text}"
            );
        }
    });
}

#[test]
fn a_shard_that_is_older_than_shapes_goes_by_names() {
    runtime().block_on(async {
        let root = memory();
        // As such a program made it.
        let schema = Schema {
            codec: <Postcard as Codec<String>>::ID.into(),
            key: "String".into(),
            value: Fingerprint::from("Row"),
        };
        Handle::open(
            root.clone(),
            io(9),
            HandleOptions::write("data", schema).with_config(config()),
        )
        .await
        .unwrap();
        opened::<a::Row>(&root).await.unwrap();
        // Nothing says that this is wrong.
        opened::<swapped::Row>(&root).await.unwrap();
        let error = opened::<Sale>(&root).await.unwrap_err();
        assert!(
            error.to_string().starts_with("the shard's values are \"Row\", not \"Sale\" at "),
            "{error}"
        );
    });
}
