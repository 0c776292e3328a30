//! Owns what a file of cold chunks is: one that several threads read and write at places. It does not own what is where in it.

use std::fs::File;
use std::io;

/// A file that is read and written at places, by several threads.
pub(crate) trait ColdFile: Send + Sync {
    /// Fills `bytes` from a place on.
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` from a place on.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file.
    fn cut(&self, length: u64) -> io::Result<()>;
}

/// A file whose readers have no place of their own.
#[derive(Debug)]
pub(crate) struct PlacedFile(File);

impl PlacedFile {
    /// Takes a file that is read here and there, a row at a time.
    pub(crate) fn new(file: File) -> Self {
        // Read ahead, each row would bring 128 KiB of others along. Advice that is not taken costs time alone.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random);
        PlacedFile(file)
    }

    /// Makes what was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl ColdFile for PlacedFile {
    #[cfg(unix)]
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, bytes, at)
    }

    #[cfg(windows)]
    fn read_at(&self, mut at: u64, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(&self.0, bytes, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => (at, bytes) = (at + read as u64, &mut bytes[read..]),
            }
        }
        Ok(())
    }

    #[cfg(unix)]
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, at)
    }

    #[cfg(windows)]
    fn write_at(&self, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(&self.0, bytes, at)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => (at, bytes) = (at + written as u64, &bytes[written..]),
            }
        }
        Ok(())
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
}
