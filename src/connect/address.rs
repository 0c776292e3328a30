//! Owns what addresses of feeds have in common: `HOST:PORT`, and behind the `?` parameters, each once, and how their
//! names and numbers are written. It does not own which parameters there are. What is wrong is said without
//! the address, which may have a secret in it.

#[cfg(any(feature = "planetscale", feature = "postgres-source"))]
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// Checks `HOST:PORT`; otherwise says which of them is none. An address of IPv6 stands in brackets.
#[cfg(any(feature = "kafka", feature = "planetscale"))]
pub(crate) fn check_server(text: &str) -> Result<(), &'static str> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = bracketed.unwrap_or(host);
    let colons = bracketed.is_some() || !host.contains(':');
    if plain.is_empty() || !host.bytes().all(allowed) || plain.contains(['[', ']']) || !colons {
        return Err("no host");
    }
    match port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|p: u16| p > 0) {
        true => Ok(()),
        false => Err("no port"),
    }
}

/// Reads `NAME=VALUE&..`; otherwise says which name stands there twice.
pub(crate) fn parameters(query: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut all: Vec<(&str, &str)> = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if all.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name}= more than once"));
        }
        all.push((name, value));
    }
    Ok(all)
}

/// Reads a name in which `%` and two digits stand for a byte; otherwise says what is wrong with it.
pub(crate) fn decode(text: &str) -> Result<String, &'static str> {
    let digits = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
    if text.split('%').skip(1).any(|after| digits(after) < 2) {
        return Err("a % without two hexadecimal digits (% itself is %25)");
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "a name that is not UTF-8")
}

/// Reads a number: digits alone.
#[cfg(any(feature = "planetscale", feature = "postgres-source"))]
pub(crate) fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Reads a number of seconds.
#[cfg(any(feature = "planetscale", feature = "postgres-source"))]
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    number(text).map(|n| Duration::from_secs(n.into()))
}

#[cfg(all(test, feature = "planetscale"))]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_there_once() {
        assert_eq!(parameters("a=1&b&&c=x=y"), Ok(vec![("a", "1"), ("b", ""), ("c", "x=y")]));
        assert_eq!(parameters(""), Ok(vec![]));
        assert!(parameters("a=1&b=2&a=1").is_err_and(|what| what.contains("a=")));
    }

    #[test]
    fn names_and_numbers_are_read_or_refused() {
        assert_eq!(decode("a%20%C3%A9%25").as_deref(), Ok("a é%"));
        for wrong in ["%", "%2", "a%zz", "%é", "%e9"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
        assert_eq!((number("07"), number("4294967295")), (Some(7), Some(u32::MAX)));
        for wrong in ["", "+1", "-1", "1s", "4294967296"] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
        assert_eq!(seconds("9"), Some(Duration::from_secs(9)));
    }
}
