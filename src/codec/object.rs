//! Owns taking a JSON text apart one level deep: an object into its members, an array into its elements.
//! It does not own what any of them mean.

use std::ops::Range;

use super::canonical::{Reader, Scratch, Syntax};

/// The members of an object, their names plain and their values canonical.
#[derive(Debug, Default)]
pub(crate) struct Object {
    names: String,
    texts: String,
    members: Vec<(Range<usize>, Range<usize>)>,
}

impl Object {
    /// Reads a canonical text, and returns whether it is an object's; another one has zero members.
    pub(crate) fn read(&mut self, text: &str, scratch: &mut Scratch) -> bool {
        self.names.clear();
        self.texts.clear();
        self.members.clear();
        let read = self.members(&mut Reader::new(text, scratch));
        if read.is_err() {
            self.members.clear();
        }
        read.is_ok()
    }

    fn members(&mut self, reader: &mut Reader<'_>) -> Result<(), Syntax> {
        reader.expect(b'{', "expected `{`")?;
        while !reader.take(b'}') {
            let (name, text) = (self.names.len(), self.texts.len());
            reader.name(&mut self.names)?;
            // It was read before, deeper inside its line.
            reader.value(&mut self.texts, 0)?;
            self.members.push((name..self.names.len(), text..self.texts.len()));
            reader.take(b',');
        }
        Ok(())
    }

    /// Returns the members in the order of their names.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let members = self.members.iter();
        members.map(|(name, text)| (&self.names[name.clone()], &self.texts[text.clone()]))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(at, _)| *at == name).map(|(_, text)| text)
    }
}

#[cfg(feature = "json")]
impl Object {
    /// Returns the member, if there is only one.
    pub(crate) fn only(&self) -> Option<(&str, &str)> {
        self.iter().next().filter(|_| self.members.len() == 1)
    }

    /// Returns whether all names are among these.
    pub(crate) fn has_only(&self, names: &[&str]) -> bool {
        self.iter().all(|(name, _)| names.contains(&name))
    }
}

/// Returns the elements of an array's canonical text; none if it is another's.
pub(crate) fn elements(text: &str, scratch: &mut Scratch) -> Vec<String> {
    let mut elements = Vec::new();
    let mut reader = Reader::new(text, scratch);
    if reader.take(b'[') && !reader.take(b']') {
        loop {
            let mut element = String::new();
            if reader.value(&mut element, 0).is_err() {
                break;
            }
            elements.push(element);
            if !reader.take(b',') {
                break;
            }
        }
    }
    elements
}
