//! Owns the address of a table and what can be said in it. It does not own how it is connected.
//!
//! ```text
//!   planetscale://HOST:PORT/KEYSPACE/TABLE?NAME=VALUE&..
//! ```

use std::time::Duration;

use super::tablet::Tablet;
use crate::connect::address::{self, check_server, number, parameters, seconds};
use crate::error::{Error, ErrorKind};
use crate::login::{hint, login};

/// What an address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// `HOST:PORT`.
    pub(super) authority: String,
    pub(super) keyspace: String,
    pub(super) table: String,
    /// At least one, no two the same.
    pub(super) shards: Vec<String>,
    /// Empty: the primary key.
    pub(super) key: Vec<String>,
    pub(super) protocol: Protocol,
    pub(super) tls: bool,
    /// Paths of PEM files: the authorities that may have signed the server's certificate, and our own with its key.
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) auth: Auth,
    pub(super) tablet: Tablet,
    /// Empty: the server's own.
    pub(super) cells: Vec<String>,
    pub(super) attempts: Option<u32>,
    pub(super) idle_commit: Option<Duration>,
}

/// How user and password are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// As HTTP has it.
    Basic,
    /// As VTGate's static authentication wants them: `username` and `password` in the metadata.
    Static,
}

/// What is spoken with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `psdbconnect.v1alpha1.Connect/Sync`.
    Sync,
    /// `vtgateservice.Vitess/VStream`.
    VStream,
}

/// All parameters there are, and what each may be.
const KNOWN: &str = "there are shard=NAME,NAME key=COLUMN,COLUMN protocol=vstream|sync tls=on|off ca=FILE \
                     cert=FILE key_file=FILE auth=basic|static tablet=primary|replica|rdonly \
                     cells=NAME,NAME attempts=N idle_commit=SECONDS";

const FORM: &str = "write planetscale://HOST:PORT/KEYSPACE/TABLE";

impl Address {
    pub(super) fn parse(url: &str) -> Result<Address, Error> {
        if login(url).is_some() {
            // Not shown.
            let what = "the address of the table has a user or a password in it";
            return Err(Error::new(ErrorKind::Invalid, what).hint(hint("planetscale")));
        }
        let rest = url.strip_prefix("planetscale://");
        let rest = rest.ok_or_else(|| wrong("no planetscale:// in front", url, FORM))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parts = place.split('/');
        let authority = parts.next().unwrap_or_default();
        check_server(authority).map_err(|what| wrong(what, url, FORM))?;
        let mut name = |what: &str| match parts.next() {
            Some(part) if !part.is_empty() => decode(part, url),
            _ => Err(wrong(&format!("no {what}"), url, FORM)),
        };
        let (keyspace, table) = (name("keyspace")?, name("table")?);
        if parts.next().is_some() {
            return Err(wrong("more than a keyspace and a table", url, FORM));
        }
        let protocol = Protocol::VStream;
        let (shards, key) = (vec!["-".to_string()], Vec::new());
        let mut address = Address {
            authority: authority.to_string(),
            keyspace,
            table,
            shards,
            key,
            protocol,
            tls: true,
            ca: None,
            cert: None,
            key_file: None,
            auth: Auth::Basic,
            tablet: Tablet::default(),
            cells: Vec::new(),
            attempts: None,
            idle_commit: None,
        };
        for (name, value) in parameters(query).map_err(|what| wrong(&what, url, "say it once"))? {
            address.set(name, value, url)?;
        }
        let files = address.ca.is_some() || address.cert.is_some();
        if !address.tls && files {
            return Err(wrong("tls=off with a certificate", url, "leave one of them out"));
        }
        if address.cert.is_some() != address.key_file.is_some() {
            let what = "one of cert= and key_file= without the other";
            return Err(wrong(what, url, "name both files, or neither"));
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str, url: &str) -> Result<(), Error> {
        match (name, value) {
            ("shard", list) => self.shards = names(name, list, url)?,
            ("key", list) => self.key = names(name, list, url)?,
            ("protocol", "sync") => self.protocol = Protocol::Sync,
            ("protocol", "vstream") => self.protocol = Protocol::VStream,
            ("tls", "on") => self.tls = true,
            ("tls", "off") => self.tls = false,
            ("auth", "basic") => self.auth = Auth::Basic,
            ("auth", "static") => self.auth = Auth::Static,
            ("tablet", "primary") => self.tablet = Tablet::Primary,
            ("tablet", "replica") => self.tablet = Tablet::Replica,
            ("tablet", "rdonly") => self.tablet = Tablet::Batch,
            ("cells", list) => self.cells = names(name, list, url)?,
            ("ca", path) if !path.is_empty() => self.ca = Some(decode(path, url)?),
            ("cert", path) if !path.is_empty() => self.cert = Some(decode(path, url)?),
            ("key_file", path) if !path.is_empty() => self.key_file = Some(decode(path, url)?),
            ("attempts", text) if number(text).is_some_and(|n| n > 0) => {
                self.attempts = number(text);
            }
            ("idle_commit", text) if seconds(text).is_some() => self.idle_commit = seconds(text),
            (
                "protocol" | "tls" | "auth" | "tablet" | "ca" | "cert" | "key_file" | "attempts"
                | "idle_commit",
                other,
            ) => return Err(wrong(&format!("{name}={other}"), url, KNOWN)),
            (other, _) => {
                let what = format!("an unknown parameter {other:?}");
                return Err(wrong(&what, url, KNOWN));
            }
        }
        Ok(())
    }
}

/// Reads a list of names. A comma in a name is written `%2C`.
fn names(parameter: &str, list: &str, url: &str) -> Result<Vec<String>, Error> {
    let names: Vec<String> =
        list.split(',').map(|name| decode(name, url)).collect::<Result<_, _>>()?;
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || names[..index].contains(name) {
            let what = format!("{parameter}= with an empty or a repeated name");
            return Err(wrong(&what, url, "name each once, with commas between"));
        }
    }
    Ok(names)
}

fn decode(text: &str, url: &str) -> Result<String, Error> {
    address::decode(text).map_err(|what| wrong(what, url, FORM))
}

fn wrong(what: &str, url: &str, hint: &str) -> Error {
    let what = format!("{what} in the address of the table");
    Error::new(ErrorKind::Invalid, what).at(url).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default() {
        let address = Address::parse("planetscale://vtgate:15991/commerce/customer").unwrap();
        assert_eq!(address.authority, "vtgate:15991");
        assert_eq!((&*address.keyspace, &*address.table), ("commerce", "customer"));
        assert_eq!(address.shards, ["-"]);
        assert!(address.key.is_empty() && address.tls);
        assert_eq!(address.protocol, Protocol::VStream);
    }

    #[test]
    fn everything_can_be_said() {
        let url = "planetscale://[::1]:80/my%20ks/t%2F1?shard=-80,80-&key=a%2Cb,%C3%A9&protocol=sync&tls=off";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.authority, "[::1]:80");
        assert_eq!((&*address.keyspace, &*address.table), ("my ks", "t/1"));
        assert_eq!(address.shards, ["-80", "80-"]);
        assert_eq!(address.key, ["a,b", "é"]);
        assert_eq!((address.protocol, address.tls), (Protocol::Sync, false));
        let url = "planetscale://h:1/k/t?ca=/etc/my%20ca.pem&cert=c.pem&key_file=k.pem&auth=static\
                   &tablet=rdonly&cells=a,b&attempts=3&idle_commit=0";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.ca.as_deref(), Some("/etc/my ca.pem"));
        assert_eq!(
            (address.cert.as_deref(), address.key_file.as_deref()),
            (Some("c.pem"), Some("k.pem"))
        );
        assert_eq!((address.auth, address.tablet), (Auth::Static, Tablet::Batch));
        assert_eq!(address.cells, ["a", "b"]);
        assert_eq!((address.attempts, address.idle_commit), (Some(3), Some(Duration::ZERO)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (url, says) in [
            ("postgres://h:1/k/t", "planetscale://"),
            ("planetscale://h/k/t", "no port"),
            ("planetscale://h:0/k/t", "no port"),
            ("planetscale://h:+1/k/t", "no port"),
            ("planetscale://h:65536/k/t", "no port"),
            ("planetscale://:1/k/t", "no host"),
            ("planetscale://a b:1/k/t", "no host"),
            ("planetscale://::1:1/k/t", "no host"),
            ("planetscale://h:1", "no keyspace"),
            ("planetscale://h:1/k", "no table"),
            ("planetscale://h:1/k/t/u", "more than"),
            ("planetscale://h:1/k/t?shard=", "empty or a repeated"),
            ("planetscale://h:1/k/t?shard=-,-", "empty or a repeated"),
            ("planetscale://h:1/k/t?tls=yes", "tls=yes"),
            ("planetscale://h:1/k/t?tls=on&tls=off", "more than once"),
            ("planetscale://h:1/k/t?tls", "tls="),
            ("planetscale://h:1/k/t?shards=-", "unknown parameter \"shards\""),
            ("planetscale://h:1/k/t?shards=-", "tablet=primary|replica|rdonly"),
            ("planetscale://h:1/k/t?auth=bearer", "auth=basic|static"),
            ("planetscale://h:1/k/t?tablet=batch", "tablet=primary|replica|rdonly"),
            ("planetscale://h:1/k/t?attempts=0", "attempts=N"),
            ("planetscale://h:1/k/t?attempts=+1", "attempts=N"),
            ("planetscale://h:1/k/t?attempts=9999999999", "attempts=N"),
            ("planetscale://h:1/k/t?idle_commit=1s", "idle_commit=SECONDS"),
            ("planetscale://h:1/k/t?ca=", "ca=FILE"),
            ("planetscale://h:1/k/t?cells=", "empty or a repeated"),
            ("planetscale://h:1/k/t?cert=c", "key_file="),
            ("planetscale://h:1/k/t?key_file=k", "cert="),
            ("planetscale://h:1/k/t?tls=off&ca=c", "tls=off"),
            ("planetscale://h:1/k/%zz", "two hexadecimal"),
            ("planetscale://h:1/k/%e9", "not UTF-8"),
            ("planetscale://h:1/k/t%", "two hexadecimal"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
        let secret = Address::parse("planetscale://me:secret@h:1/k/t").unwrap_err().to_string();
        assert!(!secret.contains("secret") && secret.contains("PLANETSCALE_PASSWORD"), "{secret}");
    }
}
