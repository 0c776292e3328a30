//! Owns [`Shape`]: the text of a shape, read back into a tree that says how bytes are made up. It does not own the
//! grammar, which is [`shape`](super)'s, nor reading bytes by it.

use super::words::words;

/// A type of a shape: its place among the types of the shape.
pub(crate) type At = usize;

/// The shape of a type, as a shard has it stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    text: String,
    types: Vec<Type>,
}

/// What one type inside a shape is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Not known, or not in the words of a shape.
    Unknown,
    /// A value without parts: `u64`, `string`; with the name of the type in it, `packed<"T">`.
    Leaf(String),
    Option(At),
    Seq(At),
    Map(At, At),
    Tuple(Vec<At>),
    Struct(Vec<(String, At)>),
    Enum(Vec<(String, Payload)>),
}

/// What a variant of an enum has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Unit,
    Newtype(At),
    Tuple(Vec<At>),
    Struct(Vec<(String, At)>),
}

impl Shape {
    /// Reads a text. One that is not in the words of a shape, as that of a codec of your own may be, or has `?` in it, is
    /// a shape of which the text alone is known.
    ///
    /// ```
    /// use differential_upsert::codec::shape::Shape;
    /// assert_eq!(Shape::new("struct{cents: u64}").text(), "struct{cents: u64}");
    /// ```
    pub fn new(text: impl Into<String>) -> Shape {
        let text = text.into();
        let words = words(&text);
        let mut parser = Parser { words: &words, next: 0, types: Vec::new(), around: Vec::new() };
        let parsed = parser.one().filter(|_| parser.next == words.len());
        let mut types = parser.types;
        // What comes behind a part that is not known cannot be found.
        if parsed.is_none() || types.contains(&Type::Unknown) {
            types = vec![Type::Unknown];
        }
        Shape { text, types }
    }

    /// Returns its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns one of its types; the type of whole values is 0.
    pub(crate) fn at(&self, at: At) -> &Type {
        &self.types[at]
    }
}

impl Payload {
    /// Returns the types in it.
    pub(crate) fn parts(&self) -> Vec<At> {
        match self {
            Payload::Unit => Vec::new(),
            Payload::Newtype(at) => vec![*at],
            Payload::Tuple(types) => types.clone(),
            Payload::Struct(fields) => types(fields),
        }
    }
}

/// Returns the types of fields.
pub(super) fn types(fields: &[(String, At)]) -> Vec<At> {
    fields.iter().map(|(_, at)| *at).collect()
}

/// The values without parts.
const LEAVES: [&str; 17] = [
    "bool", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "f64",
    "char", "string", "bytes", "unit",
];

/// The longest array that is taken for one.
const ARRAY_MAX: usize = 4096;

/// How deep types nest, at most.
const DEPTH_MAX: usize = 200;

struct Parser<'a> {
    words: &'a [&'a str],
    next: usize,
    types: Vec<Type>,
    /// The types with parts around the present one, outermost first.
    around: Vec<At>,
}

impl<'a> Parser<'a> {
    /// Reads a type; `None` if the text is something else.
    fn one(&mut self) -> Option<At> {
        let word = self.word()?;
        match word {
            "?" => Some(self.leaf(Type::Unknown)),
            "option" => self.inside(|all| {
                let some = all.between("<", ">")?;
                Some(Type::Option(some))
            }),
            "packed" => {
                self.eat("<")?;
                let name = self.word()?;
                self.eat(">")?;
                Some(self.leaf(Type::Leaf(format!("packed<{name}>"))))
            }
            "[" => self.inside(|all| all.array()),
            "(" => self.inside(|all| all.list(")").map(Type::Tuple)),
            "{" => self.inside(|all| {
                let key = all.one()?;
                all.eat(":")?;
                let value = all.one()?;
                all.eat("}")?;
                Some(Type::Map(key, value))
            }),
            "struct" => self.inside(|all| {
                all.eat("{")?;
                all.fields().map(Type::Struct)
            }),
            "enum" => self.inside(|all| all.variants()),
            _ => match word.strip_prefix('^') {
                Some(up) => {
                    let up: usize = up.parse().ok()?;
                    self.around.len().checked_sub(up).and_then(|at| self.around.get(at)).copied()
                }
                None if LEAVES.contains(&word) => Some(self.leaf(Type::Leaf(word.to_string()))),
                None => None,
            },
        }
    }

    fn leaf(&mut self, leaf: Type) -> At {
        self.types.push(leaf);
        self.types.len() - 1
    }

    /// Reads a type with parts, which may name it.
    fn inside(&mut self, read: impl FnOnce(&mut Self) -> Option<Type>) -> Option<At> {
        let at = self.leaf(Type::Unknown);
        self.around.push(at);
        let read = if self.around.len() > DEPTH_MAX { None } else { read(self) };
        self.around.pop();
        self.types[at] = read?;
        Some(at)
    }

    fn array(&mut self) -> Option<Type> {
        let element = self.one()?;
        if self.is(";") {
            let length = self.word()?.parse().ok().filter(|length| *length <= ARRAY_MAX)?;
            self.eat("]")?;
            return Some(Type::Tuple(vec![element; length]));
        }
        self.eat("]")?;
        Some(Type::Seq(element))
    }

    fn variants(&mut self) -> Option<Type> {
        self.eat("{")?;
        let mut variants = Vec::new();
        while !self.is("}") {
            let name = self.name()?;
            let payload = if self.is("(") {
                let list = self.list(")")?;
                match list[..] {
                    [one] => Payload::Newtype(one),
                    _ => Payload::Tuple(list),
                }
            } else if self.is("{") {
                Payload::Struct(self.fields()?)
            } else {
                Payload::Unit
            };
            variants.push((name, payload));
            self.separated("}")?;
        }
        Some(Type::Enum(variants))
    }

    /// Reads fields up to the bracket that ends them.
    fn fields(&mut self) -> Option<Vec<(String, At)>> {
        let mut fields = Vec::new();
        while !self.is("}") {
            let name = self.name()?;
            self.eat(":")?;
            fields.push((name, self.one()?));
            self.separated("}")?;
        }
        Some(fields)
    }

    fn list(&mut self, end: &str) -> Option<Vec<At>> {
        let mut list = Vec::new();
        while !self.is(end) {
            list.push(self.one()?);
            self.separated(end)?;
        }
        Some(list)
    }

    fn between(&mut self, open: &str, close: &str) -> Option<At> {
        self.eat(open)?;
        let one = self.one()?;
        self.eat(close)?;
        Some(one)
    }

    /// Reads a name, which is in quotes unless it is one word.
    fn name(&mut self) -> Option<String> {
        let word = self.word()?;
        if !word.starts_with('"') {
            return Some(word.to_string());
        }
        let inside = word.strip_prefix('"')?.strip_suffix('"')?;
        // Of a name with more than that in it, nothing is known.
        let plain = inside.replace("\\\"", "\"").replace("\\\\", "\\");
        (format!("{plain:?}") == word).then_some(plain)
    }

    /// Reads the comma between two, or sees the end.
    fn separated(&mut self, end: &str) -> Option<()> {
        match self.words.get(self.next) {
            Some(&",") => {
                self.next += 1;
                Some(())
            }
            Some(word) if *word == end => Some(()),
            _ => None,
        }
    }

    /// Reads a word, if it is this one.
    fn is(&mut self, expected: &str) -> bool {
        let is = self.words.get(self.next) == Some(&expected);
        self.next += usize::from(is);
        is
    }

    fn eat(&mut self, expected: &str) -> Option<()> {
        self.is(expected).then_some(())
    }

    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.next).copied();
        self.next += 1;
        word
    }
}
