//! Owns the address of tables and what can be said in it. It does not own how it is connected.
//!
//! ```text
//!   postgres://USER@HOST:PORT/DB?table=SCHEMA.TABLE[,..]&slot=S&publication=P&NAME=VALUE..
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::connect::address::{self, number, parameters, seconds};
use crate::error::{Error, ErrorKind};

/// What an address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    /// At least one, in the order of their names.
    pub(super) tables: Vec<Name>,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) tls: Tls,
    /// Path of a PEM file with the authorities that may have signed the server's certificate.
    pub(super) ca: Option<PathBuf>,
    pub(super) attempts: Option<u32>,
    pub(super) idle_commit: Option<Duration>,
}

/// The name of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) schema: String,
    pub(super) name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// And the server's certificate is for its host.
    On,
    Off,
}

const KNOWN: &str = "there are table=SCHEMA.TABLE[,..] slot=NAME publication=NAME tls=on|off ca=FILE attempts=N \
                     idle_commit=SECONDS";

const FORM: &str =
    "write postgres://USER@HOST:PORT/DB?table=SCHEMA.TABLE[,..]&slot=NAME&publication=NAME";

impl Address {
    pub(super) fn parse(url: &str) -> Result<Address, Error> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| wrong("no postgres:// in front", url, FORM))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, server) =
            authority.rsplit_once('@').ok_or_else(|| wrong("no user", url, FORM))?;
        if user.contains(':') {
            // Not shown.
            let what = "the address of the table has a password in it";
            return Err(Error::new(ErrorKind::Invalid, what).hint("set PGPASSWORD instead"));
        }
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "5432"));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0);
        let mut address = Address {
            user: named("user", user, url)?,
            host: named("host", host, url)?,
            port: port.ok_or_else(|| wrong("no port", url, FORM))?,
            database: named("database", database, url)?,
            tables: Vec::new(),
            slot: String::new(),
            publication: String::new(),
            tls: Tls::On,
            ca: None,
            attempts: None,
            idle_commit: None,
        };
        for (name, value) in parameters(query).map_err(|what| wrong(&what, url, "say it once"))? {
            address.set(name, value, url)?;
        }
        for (name, is_there) in [
            ("table", !address.tables.is_empty()),
            ("slot", !address.slot.is_empty()),
            ("publication", !address.publication.is_empty()),
        ] {
            if !is_there {
                return Err(wrong(&format!("no {name}="), url, FORM));
            }
        }
        if address.tls == Tls::Off && address.ca.is_some() {
            return Err(wrong("tls=off with ca=", url, "leave one of them out"));
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: &str, url: &str) -> Result<(), Error> {
        match (name, value) {
            ("table", names) => self.tables = tables(names, url)?,
            ("slot", slot) => self.slot = slot_name(slot, url)?,
            ("publication", name) => self.publication = named("publication", name, url)?,
            ("tls", "on") => self.tls = Tls::On,
            ("tls", "off") => self.tls = Tls::Off,
            ("ca", path) => self.ca = Some(named("file", path, url)?.into()),
            ("attempts", text) if number(text).is_some_and(|n| n > 0) => {
                self.attempts = number(text);
            }
            ("idle_commit", text) if seconds(text).is_some() => self.idle_commit = seconds(text),
            ("tls" | "attempts" | "idle_commit", other) => {
                return Err(wrong(&format!("{name}={other}"), url, KNOWN));
            }
            (other, _) => {
                return Err(wrong(&format!("an unknown parameter {other:?}"), url, KNOWN));
            }
        }
        Ok(())
    }
}

/// Reads names with commas between; their order says nothing.
fn tables(names: &str, url: &str) -> Result<Vec<Name>, Error> {
    let table = |name: &str| {
        let (schema, name) = name.split_once('.').unwrap_or(("public", name));
        Ok(Name { schema: named("schema", schema, url)?, name: named("table", name, url)? })
    };
    let mut tables: Vec<Name> = names.split(',').map(table).collect::<Result<_, Error>>()?;
    tables.sort();
    // Dots may stand in a name, too: what they are called has to tell them apart.
    let called: BTreeSet<String> = tables.iter().map(Name::to_string).collect();
    match called.len() == tables.len() {
        true => Ok(tables),
        false => Err(wrong("one table twice", url, "name each table once")),
    }
}

/// The names of slots need no quotes.
fn slot_name(slot: &str, url: &str) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if slot.is_empty() || slot.len() > 63 || !slot.bytes().all(allowed) {
        let hint = "PostgreSQL wants lower case letters, digits and _, at most 63 of them";
        return Err(wrong(&format!("slot={slot}"), url, hint));
    }
    Ok(slot.to_string())
}

fn named(what: &str, text: &str, url: &str) -> Result<String, Error> {
    let decoded = address::decode(text).map_err(|what| wrong(what, url, FORM))?;
    match decoded.is_empty() || decoded.contains('\0') {
        true => Err(wrong(&format!("no {what}"), url, FORM)),
        false => Ok(decoded),
    }
}

fn wrong(what: &str, url: &str, hint: &str) -> Error {
    let what = format!("{what} in the address of the table");
    Error::new(ErrorKind::Invalid, what).at(url).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(address: &Address) -> Vec<String> {
        address.tables.iter().map(Name::to_string).collect()
    }

    #[test]
    fn the_order_of_tables_says_nothing() {
        let url = |tables| format!("postgres://me@h/d?table={tables}&slot=s&publication=p");
        let address = Address::parse(&url("b.t,u,a.t%2Cx")).unwrap();
        assert_eq!(names(&address), ["a.t,x", "b.t", "public.u"]);
        assert_eq!(Address::parse(&url("u,b.t,a.t%2Cx")).unwrap(), address);
        for (tables, word) in [("t,t", "twice"), ("t,public.t", "twice"), ("t,", "no table")] {
            let error = Address::parse(&url(tables)).unwrap_err().to_string();
            assert!(error.contains(word), "{tables}: {error}");
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let url = "postgres://me@db/shop?table=orders&slot=s&publication=p";
        let address = Address::parse(url).unwrap();
        assert_eq!((&*address.user, &*address.host, address.port), ("me", "db", 5432));
        assert_eq!(&*address.database, "shop");
        assert_eq!(names(&address), ["public.orders"]);
        assert_eq!((address.tls, address.attempts), (Tls::On, None));
    }

    #[test]
    fn everything_can_be_said() {
        let url = "postgresql://a%40b@[::1]:6000/my%20db?table=S%2Ex.%C3%A9&slot=s_1&publication=P&tls=on&ca=/ca.pem&attempts=3&idle_commit=9";
        let address = Address::parse(url).unwrap();
        assert_eq!((&*address.user, &*address.host, address.port), ("a@b", "::1", 6000));
        assert_eq!(&*address.database, "my db");
        assert_eq!(address.tables, [Name { schema: "S.x".into(), name: "é".into() }]);
        assert_eq!(address.idle_commit, Some(Duration::from_secs(9)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rest = "?table=t&slot=s&publication=p";
        for (url, word) in [
            (format!("mysql://me@h/d{rest}"), "postgres://"),
            (format!("postgres://h/d{rest}"), "no user"),
            (format!("postgres://me@h{rest}"), "no database"),
            (format!("postgres://me@h:x/d{rest}"), "no port"),
            ("postgres://me@h/d?slot=s&publication=p".into(), "no table="),
            ("postgres://me@h/d?table=t&publication=p".into(), "no slot="),
            ("postgres://me@h/d?table=t&slot=s".into(), "no publication="),
            ("postgres://me@h/d?table=t&slot=A&publication=p".into(), "slot=A"),
            (format!("postgres://me@h/d{rest}&slot=s"), "more than once"),
            (format!("postgres://me@h/d{rest}&x=1"), "unknown parameter"),
            (format!("postgres://me@h/d{rest}&tls=off&ca=f"), "tls=off"),
        ] {
            let error = Address::parse(&url).unwrap_err().to_string();
            assert!(error.contains(word), "{url}: {error}");
        }
        let error = Address::parse("postgres://me:hidden@h/d").unwrap_err().to_string();
        assert!(error.contains("PGPASSWORD") && !error.contains("hidden"), "{error}");
    }
}
