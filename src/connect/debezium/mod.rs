//! Owns Debezium's messages: what change of a key a row's value stands for, or that it stands for none.
//! It does not own how they come, as lines or by Kafka, nor any other format. Pure.
//!
//! Kafka Connect writes keys and values as `{"schema": .., "payload": ..}` when it is told to; both
//! ways are read. A schema is null or has a `"type"`: columns may have these two names. Avro as a console
//! consumer prints it has `after` in a union, `{"NAME.Value": {..}}`, and so are columns that can be null.
//! An update whose `after` lacks columns that did not change is a patch of its row, or its key's error. A row that is
//! new has nothing that it could keep. MongoDB's documents are strings with JSON in them: such a row is the
//! document.

mod documents;
mod mark;
mod unavailable;
mod unions;
mod unread;

pub(super) use self::mark::Mark;
pub(super) use self::unread::Unread;
use crate::codec::Json;
use crate::codec::canonical::Scratch;
use crate::codec::object::Object;
use crate::source::Change;

const HINT: &str =
    r#"write {"op": "c", "r" or "u", "after": V}, {"op": "d"}, {"op": "t"}, or null for a delete"#;

/// An `op` that is longer than this is not repeated in a message.
const OP_BYTES_MAX: usize = 40;

/// What a Debezium message comes to whose row lacks columns that did not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnUnavailable {
    /// An update keeps what its row had: a [patch](crate::Command::Patch), which needs
    /// [`Json::keep_unsent`](crate::codec::Json::keep_unsent) as the fold of its shard. A row that is new and lacks columns is a
    /// bad line.
    Keep,
    /// It is a bad line.
    #[default]
    Error,
}

/// Reads messages, one after the other, with the same buffers.
#[derive(Debug, Default)]
pub(super) struct Envelopes {
    on_unavailable: OnUnavailable,
    object: Object,
    inner: Object,
    scratch: Scratch,
}

/// What a message is.
#[derive(Debug)]
pub(super) struct Message {
    /// The change that it stands for: `None` for a logical message, a heartbeat, the beginning or end of
    /// a transaction, or a change of a schema.
    pub(super) change: Result<Option<Change<Json, Json>>, Unread>,
    pub(super) mark: Mark,
    /// The table it names, as `SCHEMA.TABLE`.
    pub(super) table: Option<String>,
}

/// What a row's value is, once it is unwrapped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    Null,
    Object,
    Other,
}

impl Envelopes {
    pub(super) fn new(on_unavailable: OnUnavailable) -> Envelopes {
        Envelopes { on_unavailable, ..Envelopes::default() }
    }

    /// Returns what a row whose value is a message, or null, stands for.
    pub(super) fn message(&mut self, key: Json, value: Option<Json>) -> Message {
        let key = self.key(key);
        let body = self.body(value);
        let (mark, table) = self.source();
        let change = self.change(&key, body).map_err(|bad| Unread { key: named(key), ..bad });
        Message { change, mark, table }
    }

    /// Returns a row's key: what is inside, if it is wrapped.
    pub(super) fn key(&mut self, key: Json) -> Json {
        self.object.read(key.as_str(), &mut self.scratch);
        self.payload().map(|payload| Json::from_canonical(&payload)).unwrap_or(key)
    }

    /// Returns what is wrapped, if what was read is an object of a schema and a payload.
    fn payload(&mut self) -> Option<String> {
        let (schema, payload) = (self.object.get("schema")?, self.object.get("payload")?);
        let is_schema = schema == "null" || {
            self.inner.read(schema, &mut self.scratch);
            self.inner.get("type").is_some()
        };
        (is_schema && self.object.iter().len() == 2).then(|| payload.to_string())
    }

    /// Reads a row's value, and leaves its members in `object`.
    fn body(&mut self, value: Option<Json>) -> Body {
        let text = value.as_ref().map_or("null", Json::as_str);
        let mut is_object = self.object.read(text, &mut self.scratch);
        let mut is_null = value.is_none();
        if let Some(payload) = self.payload() {
            is_null = payload == "null";
            is_object = self.object.read(&payload, &mut self.scratch);
        }
        let union = self.object.only().filter(|(name, _)| name.ends_with(".Envelope"));
        if let Some(envelope) = union.map(|(_, text)| text.to_string()) {
            is_object = self.object.read(&envelope, &mut self.scratch);
        }
        match (is_null, is_object) {
            (true, _) => Body::Null,
            (false, true) => Body::Object,
            (false, false) => Body::Other,
        }
    }

    /// Returns what the message says of a snapshot and of its table.
    fn source(&mut self) -> (Mark, Option<String>) {
        let Some(source) = self.object.get("source") else { return (Mark::Outside, None) };
        self.inner.read(source, &mut self.scratch);
        let scratch = &mut self.scratch;
        let mut member = |name| {
            let text = self.inner.get(name).filter(|text| *text != "null")?;
            let mut out = String::new();
            unions::plain(text, scratch, &mut out);
            Some(out)
        };
        let mark = Mark::of(member("snapshot").as_deref());
        let place = ["db", "schema", "table", "collection"].map(&mut member);
        let place: Vec<&str> = place.iter().flatten().map(|name| name.trim_matches('"')).collect();
        (mark, (!place.is_empty()).then(|| place.join(".")))
    }

    fn change(&mut self, key: &Json, body: Body) -> Result<Option<Change<Json, Json>>, Unread> {
        let bad = |what: String| Err(Unread::new(what, HINT));
        if body == Body::Other {
            return bad("an envelope that is not an object".to_string());
        }
        let op = if body == Body::Null { "\"d\"" } else { self.object.get("op").unwrap_or("") };
        let absent = |name| self.object.get(name).is_none_or(|text| text == "null");
        let no_row = absent("after") && absent("before");
        match op {
            "" if no_row && is_no_row(&self.object, key, &mut self.scratch) => return Ok(None),
            "" => return bad("an envelope without \"op\"".to_string()),
            "\"m\"" if no_row => return Ok(None),
            "\"t\"" => return Ok(Some(Change::Reset)),
            "\"d\"" | "\"c\"" | "\"r\"" | "\"u\"" => {}
            _ if op.len() > OP_BYTES_MAX => {
                return bad("\"op\" is none of c, r, u, d, t, m".to_string());
            }
            _ => return bad(format!("\"op\" is {op}, none of c, r, u, d, t, m")),
        }
        // All rows of a table would be one.
        if key.as_str() == "null" {
            let what = "a row change without a key: the table has no primary key";
            let hint = "give it one, or name columns in the connector's message.key.columns, and \
                        take a new snapshot";
            return Err(Unread::new(what, hint));
        }
        if op == "\"d\"" {
            return Ok(Some(Change::Delete(key.clone())));
        }
        let op = op.to_string();
        let after = match self.after()? {
            None => documents::patched(&self.object, &mut self.scratch)?,
            Some(after) if after == "null" => {
                documents::patched(&self.object, &mut self.scratch)?.or(Some(after))
            }
            after => after,
        };
        match after {
            None => bad(format!("\"op\" is {op}, and there is no \"after\"")),
            Some(after) if after == "null" => bad(format!("\"op\" is {op}, and \"after\" is null")),
            Some(after) => {
                let unsent = unavailable::columns(&after, &mut self.scratch);
                let after = Json::from_canonical(&after);
                let keeps = op == "\"u\"" && self.on_unavailable == OnUnavailable::Keep;
                match unsent.first() {
                    None => Ok(Some(Change::Put(key.clone(), Ok(after)))),
                    Some(name) if keeps && !name.is_empty() => {
                        Ok(Some(Change::Patch(key.clone(), after.partial(&unsent))))
                    }
                    Some(name) => Err(unsent_column(name)),
                }
            }
        }
    }

    /// Returns `after`, without its union and those of its columns if it is Avro's.
    fn after(&mut self) -> Result<Option<String>, Unread> {
        let Some(after) = self.object.get("after") else { return Ok(None) };
        let is_union = self.inner.read(after, &mut self.scratch)
            && self
                .inner
                .only()
                .is_some_and(|(name, value)| name.ends_with(".Value") && value.starts_with('{'));
        let is_avro = self.object.get("ts_ms").is_some_and(|ts| ts.starts_with("{\"long\":"));
        let string = match self.inner.only() {
            Some(("string", text)) if is_avro => text,
            _ => after,
        };
        if let Some(document) = documents::document(string, &mut self.scratch) {
            return Ok(Some(document));
        }
        match (is_union, is_avro) {
            (true, _) => {
                let mut out = String::with_capacity(after.len());
                unions::plain(after, &mut self.scratch, &mut out);
                Ok(Some(out))
            }
            (false, true) if after != "null" => {
                let what = "an envelope of Avro whose \"after\" is not {\"NAME.Value\": {..}}";
                Err(Unread::new(what, "read the topic with JsonConverter, or print plain JSON"))
            }
            (false, _) => Ok(Some(after.to_string())),
        }
    }
}

fn unsent_column(name: &str) -> Unread {
    let what = format!(
        "column {} was not sent, for it did not change: the table needs REPLICA IDENTITY FULL",
        Json::string(name)
    );
    let hint = "ALTER TABLE .. REPLICA IDENTITY FULL, then update the row or take a new snapshot";
    Unread::new(what, hint)
}

/// Returns whether a message without `op` is one that Debezium writes beside row changes: a heartbeat,
/// the beginning or end of a transaction, or a change of a schema.
fn is_no_row(message: &Object, key: &Json, scratch: &mut Scratch) -> bool {
    let mut names = Object::default();
    names.read(key.as_str(), scratch);
    let Some((named, _)) = names.only() else { return false };
    let has = |name| message.get(name).is_some();
    match named {
        "serverName" => has("ts_ms") && message.has_only(&["ts_ms"]),
        "id" => {
            let status = message.get("status");
            let names = ["status", "id", "event_count", "data_collections", "ts_ms"];
            matches!(status, Some("\"BEGIN\"" | "\"END\"")) && has("id") && message.has_only(&names)
        }
        "databaseName" => has("databaseName") && (has("ddl") || has("tableChanges")),
        _ => false,
    }
}

/// Returns the key that an error goes under: null names no row.
pub(super) fn named(key: Json) -> Option<Json> {
    Some(key).filter(|key| key.as_str() != "null")
}
