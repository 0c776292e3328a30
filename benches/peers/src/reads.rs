//! Owns what the disk can do: random reads a second of one file, many at a time. It does not own the file's place.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::mix;

/// Reads at a time.
const DEPTH: u64 = 32;

#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[arg(long)]
    pub file_bytes: u64,
    #[arg(long)]
    pub read_bytes: u64,
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    #[arg(long)]
    pub directory: PathBuf,
}

/// Makes a file, reads it, and prints how many reads a second it could do.
pub fn run(args: &Args) {
    let path = args.directory.join("reads");
    let mut file = BufWriter::new(File::create(&path).expect("a directory to write to"));
    for at in 0..args.file_bytes.div_ceil(8) {
        file.write_all(&mix(at).to_le_bytes()).expect("room on the disk");
    }
    let file = file.into_inner().expect("room on the disk");
    // What is not written yet stays in memory.
    file.sync_all().expect("a disk that works");
    let file = File::open(&path).expect("the file that was written");
    let (start, limit) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    let reads: u64 = thread::scope(|scope| {
        let readers: Vec<_> = (0..DEPTH)
            .map(|reader| {
                let file = &file;
                scope.spawn(move || {
                    let (mut reads, mut bytes) = (0, vec![0; args.read_bytes as usize]);
                    while start.elapsed() < limit {
                        let at = mix(reader << 40 | reads) % (args.file_bytes - args.read_bytes);
                        file.read_exact_at(&mut bytes, at).expect("a file that is whole");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("a thread that reads")).sum()
    });
    println!("{}", reads as f64 / start.elapsed().as_secs_f64());
}
