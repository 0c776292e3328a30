//! Owns what a statement that changes a table does to its rows: MySQL says no row of what it removes
//! or brings by one. It does not own what is done about it; that is `phase`.
//!
//! VTGate sends `[VGTID, DDL{statement}]` for a statement of the stream's table, and for one that Vitess
//! cannot parse, of whatever table; `[VGTID, OTHER]` for all others. So a statement that names our table
//! second (`ALTER TABLE u RENAME TO t`, `ALTER TABLE u EXCHANGE PARTITION p WITH TABLE t`), or is sent
//! from another database (`TRUNCATE ours.t`), goes unseen.
//!
//! Not a parser of SQL: it takes a statement apart into words, and looks at those that matter. The
//! database in front of a name is not known here (`vt_` and the keyspace, as a rule) and is not looked at:
//! the server has done so.

use std::iter::Peekable;
use std::str::Chars;

use uuid::Uuid;

/// What a statement does to the rows of a table, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// They are what they were.
    Nothing,
    /// They are there, and their columns or values may be others: `ADD COLUMN .. DEFAULT`.
    Columns,
    /// All are gone: `TRUNCATE`, `DROP`, renamed away.
    Gone,
    /// Some are gone, or others are in their place: `DROP PARTITION`, another table renamed to it.
    Replaced,
}

/// Returns what a statement does to the rows of this table.
pub(super) fn effect(statement: &str, table: &str) -> Effect {
    let words = Words { rest: &read(statement), table };
    words.statement().unwrap_or(Effect::Nothing)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    /// As it is written: a keyword, a name, a number.
    Plain(String),
    /// A name in quotes, never a keyword.
    Quoted(String),
    /// A text.
    Text,
    Sign(char),
}

/// Takes a statement apart. Comments go; what stands in `/*! .. */` is for MySQL, and stays.
fn read(statement: &str) -> Vec<Word> {
    let (mut words, mut chars) = (Vec::new(), statement.chars().peekable());
    let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '$');
    while let Some(char) = chars.next() {
        match char {
            '`' => words.push(Word::Quoted(quoted(&mut chars, '`', false))),
            // A name, if the server runs with ANSI_QUOTES; a text is in no place where we look for one.
            '"' => words.push(Word::Quoted(quoted(&mut chars, '"', true))),
            '\'' => {
                quoted(&mut chars, '\'', true);
                words.push(Word::Text);
            }
            '#' => chars.by_ref().take_while(|char| *char != '\n').for_each(drop),
            '-' if chars.peek() == Some(&'-') => {
                chars.by_ref().take_while(|char| *char != '\n').for_each(drop);
            }
            '/' if chars.next_if_eq(&'*').is_some() => {
                if chars.next_if_eq(&'!').is_some() {
                    while chars.next_if(char::is_ascii_digit).is_some() {}
                } else {
                    let mut last = ' ';
                    while let Some(char) = chars.next()
                        && (last, char) != ('*', '/')
                    {
                        last = char;
                    }
                }
            }
            // The end of `/*!`.
            '*' if chars.next_if_eq(&'/').is_some() => {}
            char if is_name(char) => {
                let mut word = String::from(char);
                while let Some(char) = chars.next_if(|char| is_name(*char)) {
                    word.push(char);
                }
                words.push(Word::Plain(word));
            }
            char if char.is_whitespace() => {}
            char => words.push(Word::Sign(char)),
        }
    }
    words
}

/// Reads up to the closing quote, which is doubled, or escaped, inside.
fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char, escapes: bool) -> String {
    let mut text = String::new();
    while let Some(char) = chars.next() {
        match char {
            '\\' if escapes => text.extend(chars.next()),
            char if char == quote && chars.next_if_eq(&quote).is_none() => break,
            char => text.push(char),
        }
    }
    text
}

/// The rest of a statement. Each reader returns `None` if something else stands there.
struct Words<'a> {
    rest: &'a [Word],
    table: &'a str,
}

impl<'a> Words<'a> {
    fn statement(mut self) -> Option<Effect> {
        if self.take("TRUNCATE") {
            self.take("TABLE");
            let name = self.name()?;
            return self.is_ours(name).then_some(Effect::Gone);
        }
        if self.take("DROP") {
            // `TEMPORARY` in between: another table, that its session alone sees.
            return (self.take("TABLE") || self.take("TABLES")).then(|| self.drop())?;
        }
        if self.take("RENAME") {
            return (self.take("TABLE") || self.take("TABLES")).then(|| self.renames())?;
        }
        if self.take("ALTER") {
            while self.take("ONLINE") || self.take("OFFLINE") || self.take("IGNORE") {}
            return self.take("TABLE").then(|| self.alter())?;
        }
        None
    }

    fn drop(&mut self) -> Option<Effect> {
        let _ = self.take("IF") && self.take("EXISTS");
        loop {
            let name = self.name()?;
            if self.is_ours(name) {
                return Some(Effect::Gone);
            }
            self.sign(',').then_some(())?;
        }
    }

    /// Follows the names of all tables: they are changed one after the other, as one step.
    fn renames(&mut self) -> Option<Effect> {
        // Its name now, and the one it had.
        let mut tables: Vec<(&str, &str)> = Vec::new();
        loop {
            let from = self.name()?;
            let to = self.take("TO").then(|| self.name())??;
            let at = tables.iter().position(|(now, _)| same(now, from));
            let origin = at.map_or(from, |at| tables.swap_remove(at).1);
            tables.push((to, origin));
            if !self.sign(',') {
                break;
            }
        }
        let came = tables.iter().find(|(now, _)| self.is_ours(now)).map(|(_, origin)| *origin);
        let went = tables.iter().find(|(_, origin)| self.is_ours(origin)).map(|(now, _)| *now);
        Some(match (came, went) {
            (None, None) => Effect::Nothing,
            (Some(origin), _) if self.is_ours(origin) => Effect::Nothing,
            // The rows of the shadow are those of the table, so far as they can be.
            (Some(shadow), Some(old)) if self.is_cut_over(shadow, old) => Effect::Columns,
            (Some(_), _) => Effect::Replaced,
            (None, Some(_)) => Effect::Gone,
        })
    }

    fn alter(&mut self) -> Option<Effect> {
        let _ = self.take("IF") && self.take("EXISTS");
        let name = self.name()?;
        let ours = self.is_ours(name);
        let mut effect = Effect::Nothing;
        while !self.rest.is_empty() {
            effect = effect.max(self.change(ours));
            // On to the next one; what has commas in it stands in parentheses.
            let mut depth = 0_u32;
            while let Some((word, rest)) = self.rest.split_first() {
                self.rest = rest;
                match word {
                    Word::Sign('(') => depth += 1,
                    Word::Sign(')') => depth = depth.saturating_sub(1),
                    Word::Sign(',') if depth == 0 => break,
                    _ => {}
                }
            }
        }
        Some(effect)
    }

    /// Reads the begin of one change of an `ALTER TABLE`, of our table or of another.
    fn change(&mut self, ours: bool) -> Effect {
        let of_ours = |effect| if ours { effect } else { Effect::Nothing };
        let Some(Word::Plain(verb)) = self.rest.first() else { return Effect::Nothing };
        let verb = verb.to_ascii_uppercase();
        self.rest = &self.rest[1..];
        let partition = self.is_next(&["PARTITION"]);
        match &*verb {
            "EXCHANGE" => {
                let with = self.rest.iter().position(|word| is(word, "WITH"));
                let other = with.and_then(|at| {
                    let mut rest = Words { rest: &self.rest[at + 1..], table: self.table };
                    rest.take("TABLE").then(|| rest.name())?
                });
                let ours = ours || other.is_some_and(|name| self.is_ours(name));
                if ours { Effect::Replaced } else { Effect::Nothing }
            }
            "DROP" | "TRUNCATE" | "CONVERT" if partition => of_ours(Effect::Replaced),
            "DISCARD" | "IMPORT" => of_ours(Effect::Replaced),
            "RENAME" if self.is_next(&["COLUMN"]) => of_ours(Effect::Columns),
            "RENAME" if self.is_next(&["INDEX", "KEY"]) => Effect::Nothing,
            "RENAME" => {
                let _ = self.take("TO") || self.take("AS") || self.sign('=');
                match self.name() {
                    Some(to) if self.is_ours(to) && !ours => Effect::Replaced,
                    Some(to) if !self.is_ours(to) => of_ours(Effect::Gone),
                    _ => Effect::Nothing,
                }
            }
            // Of keys, constraints and partitions; a column of such a name stands in quotes.
            "ADD" | "DROP" if self.is_next(&NO_COLUMN) => Effect::Nothing,
            "ADD" | "DROP" | "MODIFY" | "CHANGE" => of_ours(Effect::Columns),
            _ => Effect::Nothing,
        }
    }

    /// Whether our table and its shadow change places at the end of an online change, by Vitess, or by
    /// gh-ost or pt-online-schema-change.
    fn is_cut_over(&self, shadow: &str, old: &str) -> bool {
        let of_tool = |name: &str, endings: &[&str]| {
            let inner = name.strip_prefix('_').map(|name| name.trim_start_matches('_'));
            let ours = self.table.trim_start_matches('_');
            inner.is_some_and(|inner| endings.iter().any(|end| inner == format!("{ours}_{end}")))
        };
        let is_shadow = is_internal(shadow) || of_tool(shadow, &["gho", "new"]);
        is_shadow && (is_internal(old) || of_tool(old, &["del", "old"]))
    }

    fn is_ours(&self, name: &str) -> bool {
        same(name, self.table)
    }

    /// Reads a keyword if it is the next word.
    fn take(&mut self, keyword: &str) -> bool {
        let next = self.is_next(&[keyword]);
        self.rest = &self.rest[usize::from(next)..];
        next
    }

    fn is_next(&self, keywords: &[&str]) -> bool {
        self.rest.first().is_some_and(|word| keywords.iter().any(|keyword| is(word, keyword)))
    }

    fn sign(&mut self, sign: char) -> bool {
        let next = self.rest.first() == Some(&Word::Sign(sign));
        self.rest = &self.rest[usize::from(next)..];
        next
    }

    /// Reads the name of a table, and drops the database in front of it.
    fn name(&mut self) -> Option<&'a str> {
        loop {
            let (word, rest) = self.rest.split_first()?;
            let (Word::Plain(name) | Word::Quoted(name)) = word else { return None };
            self.rest = rest;
            if !self.sign('.') {
                return Some(name);
            }
        }
    }
}

/// After `ADD` or `DROP`: no column.
const NO_COLUMN: [&str; 10] = [
    "INDEX",
    "KEY",
    "UNIQUE",
    "PRIMARY",
    "FULLTEXT",
    "SPATIAL",
    "CONSTRAINT",
    "FOREIGN",
    "CHECK",
    "PARTITION",
];

fn is(word: &Word, keyword: &str) -> bool {
    matches!(word, Word::Plain(word) if word.eq_ignore_ascii_case(keyword))
}

/// Some servers tell upper and lower case apart, others do not: the server has looked, too.
fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Whether Vitess itself gave a table this name: `_vt_vrp_UUID_TIME_`, and before Vitess 19
/// `_vt_HOLD_UUID_TIME` and `_UUID_TIME_vrepl` (vitess/go/vt/schema, `IsInternalOperationTableName`).
fn is_internal(name: &str) -> bool {
    let is_time = |text: &str| text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit());
    let is_uuid = |text: &str| {
        let digits = text.replace('_', "");
        digits.len() == 32 && Uuid::try_parse(&digits).is_ok()
    };
    let inner = match name.strip_prefix("_vt_") {
        Some(inner) => inner.split_once('_').map(|(_, rest)| rest.trim_end_matches('_')),
        None => name.strip_prefix('_').and_then(|inner| {
            let (inner, end) = inner.rsplit_once('_')?;
            matches!(end, "gho" | "ghc" | "del" | "new" | "vrepl").then_some(inner)
        }),
    };
    let parts = inner.and_then(|inner| inner.rsplit_once('_'));
    parts.is_some_and(|(uuid, time)| is_uuid(uuid) && is_time(time))
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
