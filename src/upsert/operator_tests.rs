//! Goal: which rows of the file an operator asks for, and in which order. Method: one worker, a file that notes what is read of
//! it, and reads that run when the test says so.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use differential_dataflow::input::InputSession;
use timely::dataflow::operators::{Input, Probe};

use super::*;
use crate::codec::packed::Encoded;
use crate::upsert::cold::{ColdSpace, Job};
use crate::upsert::context::Known;
use crate::upsert::placed::ColdFile;

/// A file in memory, and what was read of it.
#[derive(Debug, Default)]
struct Noted {
    bytes: Mutex<Vec<u8>>,
    reads: Mutex<Vec<Vec<u8>>>,
}

impl ColdFile for Noted {
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let all = self.bytes.lock().unwrap();
        let read = all.get(at as usize..at as usize + bytes.len());
        bytes.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        self.reads.lock().unwrap().push(bytes.to_vec());
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut all, end) = (self.bytes.lock().unwrap(), at as usize + bytes.len());
        let length = all.len().max(end);
        all.resize(length, 0);
        all[at as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.bytes.lock().unwrap().truncate(length as usize);
        Ok(())
    }
}

/// Later times would have more rows read than may be at once: the time whose turn it is asks before they do.
#[test]
fn a_time_asks_for_its_own_rows_first() {
    let file = Arc::new(Noted::default());
    let lent = Arc::clone(&file);
    timely::execute_directly(move |worker| {
        let jobs = Rc::new(RefCell::new(Vec::<Job>::new()));
        let (queue, noted) = (Rc::clone(&jobs), Arc::clone(&lent));
        let mut context = UpsertContext::alone();
        context.known = Known::new(1);
        context.cold = ColdSpace {
            file: Some(Box::new(move || Ok(Arc::clone(&noted) as Arc<dyn ColdFile>))),
            readers: Some(Box::new(move |job| queue.borrow_mut().push(job))),
            wake: None,
        };
        let config =
            UpsertConfig { resume_upper: 1, state_bytes_max: Some(0), ..UpsertConfig::default() };
        let mut feedback = InputSession::<u64, (Encoded, Encoded), isize>::new();
        let (mut commands, probe) = worker.dataflow(|scope| {
            let (input, commands) = scope.new_input();
            let fed_back = feedback.to_collection(scope);
            let upserted = upsert(commands, fed_back, config, Rules::new(), context);
            (input, upserted.updates.inner.probe().0)
        });
        let key = |number: u64| Encoded::from_bytes(format!("key {number:04}").into_bytes());
        let value = |version: u64| Encoded::from_bytes(format!("{version:080}").into_bytes());
        (0..400).for_each(|number| feedback.update_at((key(number), value(0)), 0, 1));
        feedback.advance_to(1);
        feedback.flush();
        (0..9).for_each(|_| _ = worker.step());
        lent.reads.lock().unwrap().clear();
        for time in 1..100 {
            commands.send((Command::put(key(3 * time), value(time), time), time));
        }
        commands.advance_to(100);
        (0..9).for_each(|_| _ = worker.step());
        assert!(probe.less_equal(&1), "it waits for its row");
        let asked = jobs.take();
        assert!(asked.len() > 10, "{} reads at once", asked.len());
        asked.into_iter().for_each(|job| job());
        // What is committed later never comes.
        worker
            .installed_dataflows()
            .into_iter()
            .for_each(|dataflow| worker.drop_dataflow(dataflow));
    });
    let reads = file.reads.lock().unwrap();
    let first = String::from_utf8_lossy(&reads[0]);
    assert!(first.contains("key 0003"), "{first}");
}
