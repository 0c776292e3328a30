//! Owns what a process says of itself: CPU, peak memory, bytes written, and the size of a directory. It
//! does not own when it is asked.

use std::fs;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// Returns the CPU that this process has used, all threads, user and system, in nanoseconds.
pub fn process_cpu() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

/// Returns the CPU that this thread has used, in nanoseconds.
pub fn thread_cpu() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let at = clock_gettime(clock);
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

/// Starts the peak of this process's memory anew, from what it has now, and returns that: bytes.
pub fn forget_peak() -> u64 {
    // Where the kernel refuses, the peak is that of the whole process, and so never too small.
    let _ = fs::write("/proc/self/clear_refs", "5");
    field("/proc/self/status", "VmRSS:") * 1024
}

/// Returns the most memory that this process has had since [`forget_peak`], in bytes.
pub fn peak() -> u64 {
    field("/proc/self/status", "VmHWM:") * 1024
}

/// Returns the bytes that this process has caused to be sent to the disk.
pub fn written() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Returns the bytes that this process has caused to be read from the disk: those that no page cache had.
pub fn fetched() -> u64 {
    field("/proc/self/io", "read_bytes:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Returns the bytes of all files below `directory`, as allocated on the disk. Files that go away while it
/// looks do not count.
pub fn disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
