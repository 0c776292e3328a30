//! Goal: every store keeps the contract of `Blob` and `Consensus`. Method: one suite, run over
//! memory, a directory, and the fault wrapper with no faults.

use crate::common::{io, runtime};
use bytes::Bytes;
use differential_upsert::ErrorKind;
use differential_upsert::store::{Access, Fault, Faults, Operation, Report, Root, probe};
use differential_upsert::testing;

async fn whole_contract(make: impl Fn() -> Root) {
    testing::store::all(&make, &io(1)).await;
    let place = make().log("data").place(7);
    let named = ["data/log/00000000000000000007", "data/log, entry 7"];
    assert!(named.iter().any(|named| place.contains(named)), "{place}");
}

#[test]
fn memory() {
    runtime().block_on(whole_contract(|| Root::open("mem:", Access::Write).unwrap()));
}

#[test]
fn directory() {
    let parent = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU32::new(0);
    runtime().block_on(whole_contract(|| {
        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = parent.path().join(format!("deep/{n}"));
        Root::open(&format!("file:{}", path.display()), Access::Write).unwrap()
    }));
}

#[test]
fn faults_that_never_come() {
    runtime().block_on(whole_contract(|| {
        Root::open("mem:", Access::Write).unwrap().with_faults(Faults::new(|_| Fault::None))
    }));
}

#[test]
fn faults_do_what_they_say() {
    runtime().block_on(async {
        let root = Root::open("mem:", Access::Write).unwrap();
        let cases = [
            (
                Fault::Fail { applied: true, report: Report::Timeout },
                ErrorKind::Indeterminate,
                true,
            ),
            (
                Fault::Fail { applied: false, report: Report::Timeout },
                ErrorKind::Indeterminate,
                false,
            ),
            (Fault::Fail { applied: true, report: Report::Error }, ErrorKind::Unavailable, true),
            (Fault::Fail { applied: false, report: Report::Error }, ErrorKind::Unavailable, false),
            (Fault::Late, ErrorKind::Indeterminate, false),
            (Fault::Fail { applied: false, report: Report::Refused }, ErrorKind::Refused, false),
            (Fault::Crash, ErrorKind::Refused, false),
        ];
        for (n, (fault, kind, there)) in cases.into_iter().enumerate() {
            let plan = Faults::new(move |action| match action.number {
                1 => fault,
                _ => Fault::None,
            });
            let faulty = root.with_faults(plan.clone());
            let key = format!("k{n}");
            let error = faulty.blob().put(&key, Bytes::new()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{fault:?}");
            assert_eq!(root.blob().get(&key).await.unwrap().is_some(), there, "{fault:?}");
            let next = faulty.blob().get("other").await;
            assert_eq!(next.is_err(), fault == Fault::Crash, "{fault:?}");
            let landed = there || fault == Fault::Late;
            assert_eq!(root.blob().get(&key).await.unwrap().is_some(), landed, "{fault:?}");
            assert_eq!(plan.operations(), 2);
        }
    });
}

#[test]
fn a_probe_finds_a_store_that_only_says_so() {
    runtime().block_on(async {
        // Every create is told that it won, whether or not it did.
        let liar = object_store_that_overwrites();
        let probed = probe(&liar, &io(1)).await.unwrap();
        assert!(!probed.is_sound(), "{probed:?}");
        assert_eq!(probed.several_won, probed.rounds);
        let error = crate::common::open(&liar, 1).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    });
}

fn object_store_that_overwrites() -> Root {
    Root::from_object_store(std::sync::Arc::new(Overwriting(Default::default())), "overwriting:")
}

#[derive(Debug)]
struct Overwriting(object_store::memory::InMemory);

impl std::fmt::Display for Overwriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("overwriting")
    }
}

#[async_trait::async_trait]
impl object_store::ObjectStore for Overwriting {
    async fn put_opts(
        &self,
        location: &object_store::path::Path,
        payload: object_store::PutPayload,
        _: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        object_store::ObjectStoreExt::put(&self.0, location, payload).await
    }

    async fn put_multipart_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<
            'static,
            object_store::Result<object_store::path::Path>,
        >,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>> {
        self.0.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[test]
fn addresses() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let kind = |url: &str, access| Root::open(url, access).map(|_| ()).map_err(|e| e.kind());
    assert_eq!(kind(&path("absent"), Access::Read), Err(ErrorKind::Missing));
    assert!(!dir.path().join("absent").exists(), "a reader creates nothing");
    assert_eq!(kind(&path("made/deep"), Access::Write), Ok(()));
    assert_eq!(kind(&format!("file:{}", path("made")), Access::Read), Ok(()));
    assert_eq!(kind(&format!("file://{}", path("made")), Access::Read), Ok(()));
    std::fs::write(dir.path().join("plain"), b"x").unwrap();
    for access in [Access::Read, Access::Write] {
        assert_eq!(kind(&path("plain"), access), Err(ErrorKind::Invalid));
        assert_eq!(kind(&path("plain/deeper"), access), Err(ErrorKind::Invalid));
        assert_eq!(kind("file:", access), Err(ErrorKind::Invalid));
        assert_eq!(kind("ftp://host/x", access), Err(ErrorKind::Invalid));
    }
    #[cfg(not(feature = "aws"))]
    {
        let error = Root::open("s3://bucket/x", Access::Read).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("\"aws\""), "{error}");
    }
    assert!(Operation::CreateEntry.writes() && !Operation::Floor.writes());
}
