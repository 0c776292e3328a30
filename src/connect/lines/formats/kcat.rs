//! Owns the lines of `kcat -J`: one message of a topic. It does not own which messages may follow which;
//! that is `origins`. Pure.
//!
//! ```text
//! {"topic":"t","partition":0,"offset":7,"tstype":"create","ts":1700000000000,"broker":1,"key":"k","payload":"{\"n\":1}"}
//! ```
//!
//! `key` and `payload` are strings: a text that is JSON is taken as JSON, any other as a string, so that the
//! key `7` is a number and `007` a string. With `-s avro` they are JSON already, and taken as they are. A
//! payload of null deletes its key, and so does the text `null`. A key has one partition, whose order is the
//! offset. `ts` is the broker's or the producer's clock, and a time of the shard only if `--times given`
//! says so.

use super::said::{Origin, Said, change};
use super::tools::{Tools, plain};
use crate::codec::Json;
use crate::connect::debezium::named;
use crate::connect::lines::row::{Bad, Row};

const HINT: &str = "print the topic with kcat -C -J";

/// Returns what a line says, whose time is minted.
pub(super) fn line(line: &[u8], tools: &mut Tools) -> Result<Said, Bad> {
    let Some((row, topic, partition)) = message(line, tools)? else { return Ok(Said::Nothing) };
    let origin = Origin::Message { topic, partition, offset: row.offset.unwrap_or_default() };
    Ok(Said::Rows(vec![change(row.key, row.value)], origin))
}

/// A message: its row, with its `ts` if it has one and its `offset`, and its topic and partition.
pub(super) type Message = (Row, String, u64);

/// Returns the message that a line is; `None` if it is blank.
pub(super) fn message(line: &[u8], tools: &mut Tools) -> Result<Option<Message>, Bad> {
    let has_own_key = tools.shaper.key().is_empty();
    match tools.object(line) {
        Ok(None) => return Ok(None),
        Ok(Some(_)) => {}
        Err(bad) => {
            let key = tools.salvaged(line, "key").filter(|_| has_own_key);
            let key = key.and_then(|text| named(tools.inside(&text)));
            let offset = tools.salvaged(line, "offset").and_then(|text| text.parse().ok());
            return Err(Bad { key, offset, ..bad });
        }
    }
    let key = tools.line.get("key").map(str::to_string);
    let key = key.and_then(|text| named(tools.inside(&text)));
    let message = read(tools, key.clone());
    message.map(Some).map_err(|bad| {
        // Of a message whose key is in its payload, another one would be named.
        let key = bad.key.or(key.filter(|_| has_own_key));
        Bad { key, offset: number(tools, "offset"), ..bad }
    })
}

fn read(tools: &mut Tools, key: Option<Json>) -> Result<Message, Bad> {
    let wrong = |what: &str| Bad::new(what, HINT);
    let offset = number(tools, "offset");
    let offset = offset.ok_or_else(|| wrong("a message without an \"offset\""))?;
    let partition = number(tools, "partition");
    let partition = partition.ok_or_else(|| wrong("a message without a \"partition\""))?;
    let topic = tools.line.get("topic").and_then(plain);
    let topic = topic.ok_or_else(|| wrong("a message without a \"topic\""))?;
    // -1 where the broker has none.
    let ts = number(tools, "ts");
    let payload = tools.line.get("payload").map(str::to_string);
    let payload = payload.ok_or_else(|| wrong("a message without a \"payload\""))?;
    let value = named(tools.inside(&payload));
    if key.is_none() && tools.shaper.key().is_empty() {
        let hint = "take it out of the payload with --key, or leave the message out";
        return Err(Bad::new("a message without a key", hint));
    }
    let (key, value) = tools.shaper.row(key, value)?;
    Ok((Row { key, value, ts, offset: Some(offset) }, topic, partition))
}

fn number(tools: &Tools, name: &str) -> Option<u64> {
    tools.line.get(name)?.parse().ok()
}
