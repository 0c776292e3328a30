//! Owns the name of a partition, and a map from partitions. A feed has a few of them, most often one, and a map is made for each
//! unit: so it is a sorted list, one small allocation. It does not own what is in it.

use std::sync::Arc;

/// The name of a partition of a feed: a shard, a topic's partition. A feed that has but one may call
/// it "".
pub type Partition = Arc<str>;

/// Returns the names of partitions in brackets; nothing for one without a name.
pub(crate) fn named<'a>(partitions: impl Iterator<Item = &'a Partition>) -> String {
    let names: Vec<&str> = partitions.map(|name| &**name).filter(|name| !name.is_empty()).collect();
    match names.len() {
        0 => String::new(),
        1 => format!(" (partition {})", names[0]),
        _ => format!(" (partitions {})", names.join(", ")),
    }
}

/// Values by partition, in the order of the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ByPartition<V>(Vec<(Partition, V)>);

impl<V> Default for ByPartition<V> {
    fn default() -> Self {
        ByPartition(Vec::new())
    }
}

impl<V> ByPartition<V> {
    pub(super) fn one(partition: Partition, value: V) -> Self {
        ByPartition(vec![(partition, value)])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, partition: &str) -> Option<&V> {
        self.place(partition).ok().map(|place| &self.0[place].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Partition, &V)> {
        self.0.iter().map(|(partition, value)| (partition, value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// Returns each value of another map beside the one of the same partition here, in the order of the names. Both are sorted,
    /// so that it takes one pass; and maps that follow one another share their names, so that few are compared.
    pub(super) fn beside<'a, W>(
        &'a self,
        others: &'a ByPartition<W>,
    ) -> impl Iterator<Item = (Option<&'a V>, &'a W)> {
        let mut ours = self.0.iter().peekable();
        others.0.iter().map(move |(name, theirs)| {
            while ours.next_if(|(ours, _)| !Arc::ptr_eq(ours, name) && ours < name).is_some() {}
            let same = ours.next_if(|(ours, _)| Arc::ptr_eq(ours, name) || ours == name);
            (same.map(|(_, ours)| ours), theirs)
        })
    }

    /// Sets a partition's value, whatever it was.
    pub(super) fn set(&mut self, partition: Partition, value: V) {
        match self.place(&partition) {
            Ok(place) => self.0[place].1 = value,
            Err(place) => self.0.insert(place, (partition, value)),
        }
    }

    /// Returns a partition's value, made if there is none.
    pub(super) fn of(&mut self, partition: Partition) -> &mut V
    where
        V: Default,
    {
        let place = self.place(&partition).unwrap_or_else(|place| {
            self.0.insert(place, (partition, V::default()));
            place
        });
        &mut self.0[place].1
    }

    pub(super) fn remove(&mut self, partition: &str) -> Option<V> {
        self.place(partition).ok().map(|place| self.0.remove(place).1)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns all, in order.
    pub(super) fn into_vec(self) -> Vec<(Partition, V)> {
        self.0
    }

    fn place(&self, partition: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (**name).cmp(partition))
    }
}

/// Of two values of one partition the later one stays.
impl<V> FromIterator<(Partition, V)> for ByPartition<V> {
    fn from_iter<I: IntoIterator<Item = (Partition, V)>>(values: I) -> Self {
        let mut map = ByPartition::default();
        values.into_iter().for_each(|(partition, value)| map.set(partition, value));
        map
    }
}
