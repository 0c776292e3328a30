//! Owns the members of an `ENUM` or `SET`: names, numbers, and which of them a server sent. It does not
//! own the columns.
//!
//! A copy sends names, in the column's character set. The binary log has numbers; since Vitess 20 these
//! are names on the way, in UTF-8 (`FieldEvent.enum_set_string_values`), unless the collation is one of
//! bytes.

use super::charset::Charset;

/// The members of an `ENUM` or `SET`.
#[derive(Clone, Debug)]
pub(super) struct Members {
    /// None if they are not known.
    names: Vec<String>,
    charset: Charset,
    /// A number may stand for a member.
    numbers: bool,
}

impl Members {
    pub(super) fn new(column_type: &str, charset: Charset, numbers: bool) -> Members {
        Members { names: member_names(column_type), charset, numbers }
    }

    /// Returns the name of an `ENUM`'s value; otherwise says why it cannot be told.
    pub(super) fn one(&self, bytes: &[u8]) -> Result<String, String> {
        let text = self.text(bytes, |text| self.is_name(text))?;
        if !self.is_number(&text)? {
            return Ok(text);
        }
        match text.parse::<usize>() {
            // MySQL's value for what was no member.
            Ok(0) => Ok(String::new()),
            Ok(number) if number <= self.names.len() => Ok(self.names[number - 1].clone()),
            _ => Err(format!("the number {text} of a member that is not there")),
        }
    }

    /// Returns the names of a `SET`'s value, with commas; otherwise says why they cannot be told.
    pub(super) fn several(&self, bytes: &[u8]) -> Result<String, String> {
        let text = self.text(bytes, |text| text.split(',').all(|name| self.is_name(name)))?;
        if !self.is_number(&text)? {
            return Ok(text);
        }
        let none = || format!("the number {text} of members that are not there");
        let bits = text.parse::<u64>().map_err(|_| none())?;
        if self.names.len() < 64 && bits >> self.names.len() != 0 {
            return Err(none());
        }
        let bit = |(at, _): &(usize, &String)| at < &64 && bits & (1 << at) != 0;
        let names: Vec<&str> =
            self.names.iter().enumerate().filter(bit).map(|(_, name)| &**name).collect();
        Ok(names.join(","))
    }

    /// Reads the text of a value: as UTF-8 if these are names, else in the column's character set.
    fn text(&self, bytes: &[u8], are_names: impl Fn(&str) -> bool) -> Result<String, String> {
        match std::str::from_utf8(bytes) {
            Ok(text) if are_names(text) || is_digits(text) => Ok(text.to_string()),
            _ => {
                let none = || format!("text that is not {}", self.charset.name());
                self.charset.read(bytes).ok_or_else(none)
            }
        }
    }

    fn is_name(&self, text: &str) -> bool {
        self.names.iter().any(|name| name == text)
    }

    /// Whether a value is the number of a member, not its name.
    fn is_number(&self, text: &str) -> Result<bool, String> {
        if !self.numbers || !is_digits(text) {
            return Ok(false);
        }
        if self.names.is_empty() || self.names.iter().any(|name| is_digits(name)) {
            // Guessing would give one row two values, depending on the sender.
            return Err(format!("{text}, which may be a member's name or number"));
        }
        Ok(true)
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads the names out of `enum('a','it''s')`; none if it is anything else.
fn member_names(column_type: &str) -> Vec<String> {
    let inner = column_type.find('(').zip(column_type.rfind(')'));
    let Some((open, close)) = inner.filter(|(open, close)| open < close) else { return Vec::new() };
    let (mut names, mut rest) = (Vec::new(), column_type[open + 1..close].trim_start());
    while let Some(after) = rest.strip_prefix('\'') {
        let (mut name, mut at) = (String::new(), after);
        loop {
            let Some(quote) = at.find('\'') else { return Vec::new() };
            name.push_str(&at[..quote]);
            at = &at[quote + 1..];
            let Some(doubled) = at.strip_prefix('\'') else { break };
            name.push('\'');
            at = doubled;
        }
        names.push(name);
        rest = at.trim_start().strip_prefix(',').unwrap_or(at).trim_start();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_members_become_their_names() {
        let column_type = "enum('a','it''s', 'x,y')";
        assert_eq!(member_names(column_type), ["a", "it's", "x,y"]);
        let either = Members::new(column_type, Charset::Utf8, true);
        assert_eq!(either.one(b"2").as_deref(), Ok("it's"));
        assert_eq!(either.one(b"0").as_deref(), Ok(""));
        assert_eq!(either.one(b"a").as_deref(), Ok("a"));
        assert!(either.one(b"4").is_err());
        assert_eq!(either.several(b"5").as_deref(), Ok("a,x,y"));
        assert_eq!(either.several(b"0").as_deref(), Ok(""));
        assert_eq!(either.several(b"a,it's").as_deref(), Ok("a,it's"));
        assert!(either.several(b"8").is_err());
        assert_eq!(Members::new(column_type, Charset::Utf8, false).one(b"2").as_deref(), Ok("2"));
        assert!(Members::new("enum('1','2')", Charset::Utf8, true).one(b"2").is_err());
        assert!(Members::new("", Charset::Utf8, true).several(b"2").is_err());
        for odd in ["", "enum", "enum(", "enum)", ")(", "enum('", "enum('a", "enum('a'b", "enum(é)"]
        {
            let _ = member_names(odd);
        }
    }

    #[test]
    fn a_copy_and_the_log_may_write_a_name_in_two_character_sets() {
        let members = Members::new("set('größe','ä')", Charset::Latin1, false);
        assert_eq!(members.one("größe".as_bytes()).as_deref(), Ok("größe"));
        assert_eq!(members.one(b"gr\xf6\xdfe").as_deref(), Ok("größe"));
        assert_eq!(members.several(b"gr\xf6\xdfe,\xe4").as_deref(), Ok("größe,ä"));
        assert_eq!(members.several("größe,ä".as_bytes()).as_deref(), Ok("größe,ä"));
        let none = Members::new("enum('a')", Charset::Utf8, false).one(b"\xff");
        assert_eq!(none, Err("text that is not UTF-8".to_string()));
    }
}
