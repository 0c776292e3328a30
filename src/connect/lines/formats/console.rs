//! Owns the lines of `kafka-console-consumer --property print.key=true`: `KEY<TAB>VALUE`. Pure.
//!
//! Each is JSON if its text is that, else a string. The value `null` deletes its key; the consumer prints it for a
//! message without a value, and `null` for one without a key. A value with a line break in it stands on
//! several lines, of which those without a TAB are bad ones.

use super::said::Said;
use super::tools::Tools;
use crate::connect::debezium::named;
use crate::connect::lines::line::utf8;
use crate::connect::lines::row::Bad;

/// What other properties of the consumer print in front of the key.
const FRONTS: [&str; 4] = ["CreateTime:", "LogAppendTime:", "Partition:", "Offset:"];

/// Returns what a line says.
pub(super) fn line(line: &[u8], tools: &mut Tools) -> Result<Said, Bad> {
    let Some(tab) = memchr::memchr(b'\t', line) else {
        if line.trim_ascii().is_empty() {
            return Ok(Said::Nothing);
        }
        let hint = "print keys with --property print.key=true, and values on one line";
        return Err(
            Bad::new("a line without a TAB between its key and its value", hint).looks(line)
        );
    };
    let (key, rest) = (&line[..tab], &line[tab + 1..]);
    let is_front = |front: &&&str| {
        let number = key.strip_prefix(front.as_bytes());
        number.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
    };
    if let Some(front) = FRONTS.iter().find(is_front).filter(|_| rest.contains(&b'\t')) {
        let what = format!("{front} in front of the key");
        return Err(Bad::new(
            what,
            "print keys and values alone: no print.timestamp, .partition, .offset",
        ));
    }
    let has_own_key = tools.shaper.key().is_empty();
    let text = match utf8(line) {
        Ok(text) => text,
        Err(bad) => {
            let key = std::str::from_utf8(key).ok().filter(|_| has_own_key);
            return Err(Bad { key: key.and_then(|key| named(tools.json(key))), ..bad });
        }
    };
    let (key, value) = (named(tools.json(&text[..tab])), named(tools.json(&text[tab + 1..])));
    if key.is_none() && has_own_key {
        let hint = "take it out of the value with --key, or leave the message out";
        return Err(Bad::new("a message without a key", hint));
    }
    let (key, value) = tools.shaper.row(key, value)?;
    Ok(Said::row(key, value))
}
