//! Owns the reads that wait for a thread and those that run: so many at a time, the first ones first. It does not own which
//! rows are read, nor the threads.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use parking_lot::Mutex;

use super::placed::ColdFile;
use super::slot::Slot;

/// Reads at the same time.
const DEPTH: usize = 32;

/// Wakes the operator.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a read has come to: its row, its number, and the bytes.
pub(super) type Done = (Slot, u64, io::Result<Vec<u8>>);

/// A read.
#[derive(Debug)]
pub(super) struct Reading {
    /// The row.
    pub(super) slot: Slot,
    /// What tells it from another of the same place.
    pub(super) number: u64,
    /// Where it begins in the file.
    pub(super) at: u64,
    /// Its bytes.
    pub(super) bytes: usize,
}

/// Reads that wait.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    reads: VecDeque<Reading>,
    /// How many runners there are.
    runners: usize,
}

impl Queue {
    /// Adds reads. Returns the runners that are to be started for them.
    pub(super) fn push(
        self: &Arc<Self>,
        reads: Vec<Reading>,
        file: &Arc<dyn ColdFile>,
        done: &Sender<Done>,
        wake: Option<&Wake>,
    ) -> Vec<Runner> {
        let mut waiting = self.0.lock();
        waiting.reads.extend(reads);
        let more = waiting.reads.len().min(DEPTH).saturating_sub(waiting.runners);
        waiting.runners += more;
        let runner = |_| Runner {
            queue: Arc::clone(self),
            own: VecDeque::new(),
            file: Arc::clone(file),
            done: done.clone(),
            wake: wake.cloned(),
            has_left: false,
        };
        (0..more).map(runner).collect()
    }

    /// Takes a runner's share of what waits. Where nothing does, the runner is gone.
    fn share(&self) -> VecDeque<Reading> {
        let mut waiting = self.0.lock();
        let share = waiting.reads.len().div_ceil(DEPTH);
        if share == 0 {
            waiting.runners -= 1;
        }
        waiting.reads.drain(..share).collect()
    }

    /// Notes that a runner was dropped. Returns what no runner is left for.
    fn dropped(&self) -> VecDeque<Reading> {
        let mut waiting = self.0.lock();
        waiting.runners -= 1;
        if waiting.runners == 0 { std::mem::take(&mut waiting.reads) } else { VecDeque::new() }
    }
}

/// Runs reads, until none waits. Each read is answered, also where its runner is dropped: the operator waits for it.
pub(super) struct Runner {
    queue: Arc<Queue>,
    own: VecDeque<Reading>,
    file: Arc<dyn ColdFile>,
    done: Sender<Done>,
    wake: Option<Wake>,
    /// The queue does not count it any more.
    has_left: bool,
}

impl Runner {
    pub(super) fn run(mut self) {
        loop {
            self.own = self.queue.share();
            if self.own.is_empty() {
                self.has_left = true;
                return;
            }
            while let Some(Reading { slot, number, at, bytes }) = self.own.front() {
                let mut read = vec![0; *bytes];
                let read = self.file.read_at(*at, &mut read).map(|()| read);
                // An error means that the operator is gone.
                let _ = self.done.send((*slot, *number, read));
                self.own.pop_front();
            }
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.as_ref().filter(|_| !crate::mutant::on("asleep_over_reads")) {
            wake();
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let orphans = self.queue.dropped();
        for Reading { slot, number, .. } in self.own.drain(..).chain(orphans) {
            let _ = self.done.send((slot, number, Err(io::ErrorKind::Interrupted.into())));
        }
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc::channel;

    use super::*;

    /// A file whose bytes are the low bytes of their places.
    struct Places;

    impl ColdFile for Places {
        fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
            (at..).zip(bytes).for_each(|(at, byte)| *byte = at as u8);
            Ok(())
        }

        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn cut(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    /// Reads of many lots, with runners that run late, or are dropped: each is answered once, and there are never more runners
    /// than may be.
    #[test]
    fn each_read_is_answered_once() {
        let mut random = fastrand::Rng::with_seed(7);
        let (queue, file) = (Arc::<Queue>::default(), Arc::new(Places) as Arc<dyn ColdFile>);
        let (sender, answers) = channel();
        let (mut runners, mut asked) = (Vec::new(), BTreeMap::new());
        for number in 0..2000 {
            let reading = |row| {
                let (slot, at) = (Slot::new(number, row), u64::from(number) * 3);
                asked.insert((slot, u64::from(number)), at);
                Reading { slot, number: number.into(), at, bytes: 2 }
            };
            let reads: Vec<_> = (0..random.u32(1..50)).map(reading).collect();
            let count = reads.len();
            runners.extend(queue.push(reads, &file, &sender, None));
            assert!(runners.len() <= DEPTH && (!runners.is_empty() || count == 0));
            if random.u32(..20) == 0 {
                runners.clear();
            }
            while !runners.is_empty() && random.bool() {
                let runner = runners.swap_remove(random.usize(..runners.len()));
                if random.u32(..5) > 0 { runner.run() } else { drop(runner) }
            }
        }
        runners.into_iter().for_each(Runner::run);
        let mut given_up = 0;
        for (slot, number, read) in answers.try_iter() {
            let at = asked.remove(&(slot, number)).unwrap();
            match read {
                Ok(bytes) => assert_eq!(bytes, [at as u8, (at + 1) as u8]),
                Err(_) => given_up += 1,
            }
        }
        assert!(asked.is_empty() && given_up > 0, "{} unanswered", asked.len());
    }
}
