//! Owns what FEED names: which kind of feed, and where it is. It does not own opening it.

use differential_upsert::connect::lines::Lines;

/// What FEED names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FeedName {
    /// JSON lines at a path, or `-`.
    Lines(String),
    /// A git repository at a path.
    Git(String),
    /// A table of a PlanetScale or Vitess database, by its URL.
    #[cfg(feature = "planetscale")]
    PlanetScale(String),
    /// A table of a PostgreSQL database, by its URL.
    #[cfg(feature = "postgres-source")]
    Postgres(String),
    /// A topic of Kafka, by its URL.
    #[cfg(feature = "kafka")]
    Kafka(String),
}

impl FeedName {
    /// Returns whether what is read of it is gone then.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, FeedName::Lines(path) if Lines::from_path(path).is_stream())
    }

    /// Returns whether it is lines.
    pub(crate) fn is_lines(&self) -> bool {
        matches!(self, FeedName::Lines(_))
    }

    /// Returns whether it is a server's, which has no end.
    pub(crate) fn is_served(&self) -> bool {
        !matches!(self, FeedName::Lines(_) | FeedName::Git(_))
    }

    /// Returns whether it is a topic, whose messages may be Debezium's.
    pub(crate) fn is_topic(&self) -> bool {
        #[cfg(feature = "kafka")]
        return matches!(self, FeedName::Kafka(_));
        #[cfg(not(feature = "kafka"))]
        false
    }

    /// Returns whether it is a table, which is served, and has one writer at a time.
    pub(crate) fn is_table(&self) -> bool {
        match self {
            #[cfg(feature = "planetscale")]
            FeedName::PlanetScale(_) => true,
            #[cfg(feature = "postgres-source")]
            FeedName::Postgres(_) => true,
            _ => false,
        }
    }
}

impl std::fmt::Display for FeedName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FeedName::Lines(path) => f.write_str(path),
            FeedName::Git(path) => write!(f, "git:{path}"),
            #[cfg(feature = "planetscale")]
            FeedName::PlanetScale(url) => f.write_str(url),
            #[cfg(feature = "postgres-source")]
            FeedName::Postgres(url) => f.write_str(url),
            #[cfg(feature = "kafka")]
            FeedName::Kafka(url) => f.write_str(url),
        }
    }
}

/// Returns the scheme of a URL.
pub(crate) fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let word = |char: char| char.is_ascii_alphanumeric() || "+-.".contains(char);
    (!scheme.is_empty() && scheme.chars().all(word)).then_some(scheme)
}

/// Reads what FEED names.
pub(crate) fn feed(text: &str) -> Result<FeedName, String> {
    if let Some(path) = text.strip_prefix("git:") {
        if path.is_empty() {
            return Err("git: needs the path of a repository, as in git:.".to_string());
        }
        return Ok(FeedName::Git(path.to_string()));
    }
    match scheme(text) {
        #[cfg(feature = "planetscale")]
        Some("planetscale") => {
            use differential_upsert::connect::planetscale::PlanetScale;
            let opened = PlanetScale::open(text, None, None).map_err(|e| e.to_string())?;
            drop(opened);
            Ok(FeedName::PlanetScale(text.to_string()))
        }
        #[cfg(not(feature = "planetscale"))]
        Some("planetscale") => {
            Err("this program reads no planetscale:// feeds: build with --features planetscale"
                .to_string())
        }
        #[cfg(feature = "kafka")]
        Some("kafka") => {
            use differential_upsert::connect::kafka::Kafka;
            drop(Kafka::open(text).map_err(|e| e.to_string())?);
            Ok(FeedName::Kafka(text.to_string()))
        }
        #[cfg(not(feature = "kafka"))]
        Some("kafka") => {
            Err("this program reads no kafka:// feeds: build with --features kafka".to_string())
        }
        #[cfg(feature = "postgres-source")]
        Some("postgres" | "postgresql") => {
            use differential_upsert::connect::postgres::Postgres;
            drop(Postgres::open(text, None).map_err(|e| e.to_string())?);
            Ok(FeedName::Postgres(text.to_string()))
        }
        #[cfg(not(feature = "postgres-source"))]
        Some("postgres" | "postgresql") => {
            Err("this program reads no postgres:// feeds: build with --features postgres-source"
                .to_string())
        }
        Some(scheme) => Err(format!("{scheme}:// is no feed; use a path, - or git:PATH")),
        None if text.is_empty() => Err("an empty path".to_string()),
        None => Ok(FeedName::Lines(text.to_string())),
    }
}
