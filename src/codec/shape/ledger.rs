//! Owns what is known of a type while it is traced: its parts, by place, and which choices have been
//! taken or are worth taking. It makes no values; that is [`trace`](mod@super::trace)'s.

use std::collections::{BTreeMap, BTreeSet};

/// What stands in a place; `None` if it has not been asked for.
pub(super) type Slot = Option<Kind>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Leaf(String),
    /// A node, by its name.
    Node(&'static str),
}

/// What a type is made of.
#[derive(Debug)]
pub(super) enum Node {
    Option(Slot),
    Seq(Slot),
    Map(Slot, Slot),
    Tuple(Vec<Slot>),
    Struct(Vec<(&'static str, Slot)>),
    Enum(Vec<(&'static str, Option<Variant>)>),
}

/// What a variant holds.
#[derive(Debug)]
pub(super) enum Variant {
    Unit,
    Newtype(Slot),
    Tuple(Vec<Slot>),
    Struct(Vec<(&'static str, Slot)>),
}

/// All that is known of a type.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    root: Slot,
    pub(super) nodes: BTreeMap<&'static str, Node>,
    /// Choices that have been taken, by node and variant.
    pub(super) tried: BTreeSet<(&'static str, usize)>,
    /// The first variant of each enum that came to an end.
    pub(super) ended: BTreeMap<&'static str, usize>,
    /// Which of the made-up values are used.
    pub(super) plan: usize,
    /// The nodes around the present place.
    pub(super) around: Vec<&'static str>,
    /// Structs, by node and variant, that list more names than they have fields, and the names that were found to be
    /// aliases.
    pub(super) aliased: BTreeMap<(&'static str, usize), BTreeSet<&'static str>>,
    /// A variant that is listed is none: some are aliases, and nothing says which.
    pub(super) is_unknowable: bool,
}

/// A place in a ledger.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Root,
    In { id: &'static str, variant: usize, index: usize },
}

impl Ledger {
    pub(super) fn root(&self) -> &Slot {
        &self.root
    }

    pub(super) fn node(&self, id: &'static str) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Returns how much has been found out: a run that adds nothing is the last one.
    pub(super) fn found(&self) -> usize {
        self.tried.len() + self.aliased.values().map(|names| 1 + names.len()).sum::<usize>()
    }

    /// Returns the names of a struct's fields, as far as is known.
    pub(super) fn fields(
        &self,
        of: (&'static str, usize),
        listed: &'static [&'static str],
    ) -> Vec<&'static str> {
        let is_alias =
            |name: &&str| self.aliased.get(&of).is_some_and(|aliases| aliases.contains(*name));
        listed.iter().copied().filter(|name| !is_alias(name)).collect()
    }

    /// Notes that a struct has aliases, one of them this; it is traced anew.
    pub(super) fn note_alias(&mut self, of: (&'static str, usize), alias: Option<&'static str>) {
        self.aliased.entry(of).or_default().extend(alias);
        match self.nodes.get_mut(of.0) {
            Some(Node::Enum(variants)) => {
                if let Some((_, holds)) = variants.get_mut(of.1) {
                    *holds = None;
                }
            }
            _ => drop(self.nodes.remove(of.0)),
        }
    }

    fn slot(&mut self, place: Place) -> Option<&mut Slot> {
        let Place::In { id, variant, index } = place else { return Some(&mut self.root) };
        match (self.nodes.get_mut(id)?, index) {
            (Node::Option(slot) | Node::Seq(slot) | Node::Map(slot, _), 0) => Some(slot),
            (Node::Map(_, slot), 1) => Some(slot),
            (Node::Tuple(slots), index) => slots.get_mut(index),
            (Node::Struct(fields), index) => fields.get_mut(index).map(|(_, slot)| slot),
            (Node::Enum(variants), index) => match variants.get_mut(variant)?.1.as_mut()? {
                Variant::Newtype(slot) if index == 0 => Some(slot),
                Variant::Tuple(slots) => slots.get_mut(index),
                Variant::Struct(fields) => fields.get_mut(index).map(|(_, slot)| slot),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a choice of a node is worth taking: it is new, or leads to one that is, and is not
    /// inside itself.
    pub(super) fn is_worth(&self, id: &'static str, variant: usize) -> bool {
        if !self.tried.contains(&(id, variant)) {
            return true;
        }
        // The last one is the node itself.
        let around = &self.around[..self.around.len() - 1];
        // What is around takes the least in there.
        let mut seen = self.around.iter().copied().collect();
        !around.contains(&id) && self.leads_on(id, Some(variant), &mut seen)
    }

    /// Whether there is an untried choice in a node, or inside one variant of it.
    fn leads_on(
        &self,
        id: &'static str,
        variant: Option<usize>,
        seen: &mut BTreeSet<&'static str>,
    ) -> bool {
        let mut slots: Vec<&Slot> = Vec::new();
        // One whose names are found out anew is new.
        let Some(node) = self.nodes.get(id) else { return true };
        match node {
            Node::Option(slot) | Node::Seq(slot) => slots.push(slot),
            Node::Map(key, value) => slots.extend([key, value]),
            Node::Tuple(all) => slots.extend(all),
            Node::Struct(fields) => slots.extend(fields.iter().map(|(_, slot)| slot)),
            Node::Enum(variants) => {
                for (number, (_, holds)) in variants.iter().enumerate() {
                    if variant.is_some_and(|variant| variant != number) {
                        continue;
                    }
                    if !self.tried.contains(&(id, number)) {
                        return true;
                    }
                    match holds {
                        None | Some(Variant::Unit) => {}
                        Some(Variant::Newtype(slot)) => slots.push(slot),
                        Some(Variant::Tuple(all)) => slots.extend(all),
                        Some(Variant::Struct(fields)) => {
                            slots.extend(fields.iter().map(|(_, slot)| slot));
                        }
                    }
                }
            }
        }
        let choice = matches!(node, Node::Option(_) | Node::Seq(_) | Node::Map(..));
        if choice && !self.tried.contains(&(id, 0)) {
            return true;
        }
        slots.into_iter().any(|slot| match slot {
            Some(Kind::Node(inner)) => seen.insert(inner) && self.leads_on(inner, None, seen),
            _ => false,
        })
    }

    /// Writes down what a place holds; what was found first stays.
    pub(super) fn note(&mut self, place: Place, kind: Kind) {
        if let Some(slot) = self.slot(place) {
            slot.get_or_insert(kind);
        }
    }
}
