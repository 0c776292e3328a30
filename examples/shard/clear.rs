//! Owns `clear-error`: ends the error of one key, and says which time that took. Why that is sound, and where it is not,
//! is the library's to say.

use std::io::Write;

use differential_upsert::Error;

use crate::open::{DATA, Look, nothing_here, print, writable};

/// Ends the error of a key.
pub(crate) async fn clear_error(
    look: &Look<'_>,
    key: &str,
    out: &mut impl Write,
) -> Result<(), Error> {
    let shard = look.open().await?;
    if shard.state().seqno == 0 {
        return Err(nothing_here(look.url));
    }
    let form = look.form(&shard)?;
    let key = form.read_key(key)?;
    drop(shard);
    let shard = writable(look.url, DATA, look.io).await?;
    let repaired = shard.end_error(&key).await;
    let closed = shard.close().await;
    let repaired = repaired?;
    closed?;
    let error = form.value_text(&repaired.error)?.err().unwrap_or_default();
    let (key, error) = (form.key_text(&key)?, serde_json::Value::from(error));
    let (time, epoch) = (repaired.time, repaired.epoch);
    print(out, &format!("{{\"key\":{key},\"error\":{error},\"time\":{time},\"epoch\":{epoch}}}"))?;
    eprintln!("note: time {time} is taken: a feed with times of its own must have no row at it");
    Ok(())
}
