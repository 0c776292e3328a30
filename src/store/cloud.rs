//! Owns the stores of clouds: one function for each, which opens it if its cargo feature is on, and else
//! names the feature. What an address means otherwise is [`location`](super::location)'s.

use super::ObjectBlob;
use crate::error::{Error, ErrorKind};

#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
mod open {
    use std::sync::Arc;

    use object_store::path::Path;
    use object_store::prefix::PrefixStore;
    use object_store::{ObjectStore, RetryConfig};

    use super::{Error, ErrorKind, ObjectBlob};

    /// Opens a store that retries nothing: what may be repeated a handle repeats, which knows what
    /// an outage is and says so.
    pub(super) fn once<S: ObjectStore>(
        url: &str,
        build: impl Fn(RetryConfig) -> object_store::Result<S>,
    ) -> Result<ObjectBlob, Error> {
        let prefix = url
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .map_or("", |(_, prefix)| prefix.trim_matches('/'));
        let open = |retry| {
            build(retry).map(|s| Arc::new(PrefixStore::new(s, Path::from(prefix)))).map_err(|e| {
                Error::new(ErrorKind::Invalid, format!("the store cannot be set up: {e}"))
                    .at(url)
                    .hint("check the address and the cloud's environment variables")
                    .because(e)
            })
        };
        let store = open(RetryConfig { max_retries: 0, ..RetryConfig::default() })?;
        let place = format!("{}/", url.trim_end_matches('/'));
        Ok(ObjectBlob::new(Arc::clone(&store) as _, store, place))
    }
}

#[cfg(feature = "aws")]
pub(super) fn s3(url: &str) -> Result<ObjectBlob, Error> {
    use object_store::aws::AmazonS3Builder;
    open::once(url, |retry| AmazonS3Builder::from_env().with_url(url).with_retry(retry).build())
}

#[cfg(feature = "gcp")]
pub(super) fn gs(url: &str) -> Result<ObjectBlob, Error> {
    use object_store::gcp::GoogleCloudStorageBuilder;
    open::once(url, |retry| {
        GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry).build()
    })
}

#[cfg(feature = "azure")]
pub(super) fn az(url: &str) -> Result<ObjectBlob, Error> {
    use object_store::azure::MicrosoftAzureBuilder;
    open::once(url, |retry| {
        MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry).build()
    })
}

#[cfg(not(feature = "aws"))]
pub(super) fn s3(url: &str) -> Result<ObjectBlob, Error> {
    without(url, "aws")
}

#[cfg(not(feature = "gcp"))]
pub(super) fn gs(url: &str) -> Result<ObjectBlob, Error> {
    without(url, "gcp")
}

#[cfg(not(feature = "azure"))]
pub(super) fn az(url: &str) -> Result<ObjectBlob, Error> {
    without(url, "azure")
}

#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
fn without(url: &str, feature: &str) -> Result<ObjectBlob, Error> {
    Err(Error::new(ErrorKind::Unsupported, "this program was built without that cloud")
        .at(url)
        .hint(format!("build it with the cargo feature \"{feature}\"")))
}
