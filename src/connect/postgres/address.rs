//! Owns the address of a table and what can be said in it. It does not own how it is connected.
//!
//! ```text
//!   postgres://USER@HOST:PORT/DB?table=SCHEMA.TABLE&slot=S&publication=P&NAME=VALUE..
//! ```

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::error::{Error, ErrorKind};

/// What an address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) user: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) slot: String,
    pub(super) publication: String,
    pub(super) tls: Tls,
    /// Path of a PEM file with the authorities that may have signed the server's certificate.
    pub(super) ca: Option<PathBuf>,
    pub(super) attempts: Option<u32>,
    pub(super) idle_commit: Option<Duration>,
}

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// And the server's certificate is for its host.
    On,
    Off,
}

const KNOWN: &str = "there are table=SCHEMA.TABLE slot=NAME publication=NAME tls=on|off ca=FILE attempts=N \
                     idle_commit=SECONDS";

const FORM: &str =
    "write postgres://USER@HOST:PORT/DB?table=SCHEMA.TABLE&slot=NAME&publication=NAME";

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
            schema: String::new(),
            table: String::new(),
            slot: String::new(),
            publication: String::new(),
            tls: Tls::On,
            ca: None,
            attempts: None,
            idle_commit: None,
        };
        let mut seen = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(wrong(&format!("{name}= more than once"), url, "say it once"));
            }
            seen.push(name);
            address.set(name, value, url)?;
        }
        for (name, value) in [
            ("table", &address.table),
            ("slot", &address.slot),
            ("publication", &address.publication),
        ] {
            if value.is_empty() {
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
            ("table", name) => {
                let (schema, table) = name.split_once('.').unwrap_or(("public", name));
                self.schema = named("schema", schema, url)?;
                self.table = named("table", table, url)?;
            }
            ("slot", slot) => self.slot = slot_name(slot, url)?,
            ("publication", name) => self.publication = named("publication", name, url)?,
            ("tls", "on") => self.tls = Tls::On,
            ("tls", "off") => self.tls = Tls::Off,
            ("ca", path) => self.ca = Some(named("file", path, url)?.into()),
            ("attempts", text) if number(text).is_some_and(|n| n > 0) => {
                self.attempts = number(text);
            }
            ("idle_commit", text) if number(text).is_some() => {
                self.idle_commit = number(text).map(|n| Duration::from_secs(n.into()));
            }
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

/// The names of slots need no quotes.
fn slot_name(slot: &str, url: &str) -> Result<String, Error> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if slot.is_empty() || slot.len() > 63 || !slot.bytes().all(allowed) {
        let hint = "PostgreSQL wants lower case letters, digits and _, at most 63 of them";
        return Err(wrong(&format!("slot={slot}"), url, hint));
    }
    Ok(slot.to_string())
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn named(what: &str, text: &str, url: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| wrong("a name that is not UTF-8", url, FORM))?;
    match decoded.is_empty() || decoded.contains('\0') {
        true => Err(wrong(&format!("no {what}"), url, FORM)),
        false => Ok(decoded.into_owned()),
    }
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
        let url = "postgres://me@db/shop?table=orders&slot=s&publication=p";
        let address = Address::parse(url).unwrap();
        assert_eq!((&*address.user, &*address.host, address.port), ("me", "db", 5432));
        assert_eq!(
            (&*address.database, &*address.schema, &*address.table),
            ("shop", "public", "orders")
        );
        assert_eq!((address.tls, address.attempts), (Tls::On, None));
    }

    #[test]
    fn everything_can_be_said() {
        let url = "postgresql://a%40b@[::1]:6000/my%20db?table=S%2Ex.%C3%A9&slot=s_1&publication=P&tls=on&ca=/ca.pem&attempts=3&idle_commit=9";
        let address = Address::parse(url).unwrap();
        assert_eq!((&*address.user, &*address.host, address.port), ("a@b", "::1", 6000));
        assert_eq!((&*address.database, &*address.schema, &*address.table), ("my db", "S.x", "é"));
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
