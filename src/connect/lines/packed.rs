//! Owns compressed streams: how their first bytes tell them, and unpacking them, member after member and
//! frame after frame. It does not own what is in them.
//!
//! Every place in such a feed is one in what it unpacks to: the same lines, compressed in another way or not at
//! all, are the same feed. A stream that is cut off or damaged is an error where it is, and its sums are checked.

use std::fmt;
use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::{Error, ErrorKind};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    Zstd,
}

/// What the first bytes of a stream say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plain,
    Packed(Packing),
    /// It is not lines, however it is unpacked here: its name, and what makes lines of it.
    Other(&'static str, &'static str),
    /// More bytes have to say it.
    Unsure,
}

/// As many bytes say it for certain.
pub(super) const SIGN_BYTES: usize = 10;

/// As many say it of what is unpacked here.
const MAGIC_BYTES: usize = 4;

const GZIP: &[u8] = b"\x1f\x8b\x08";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// What else begins a file, its name, and what makes lines of it. No line of any format begins so.
const OTHERS: [(&[u8], &str, &str); 6] = [
    (b"\xfd7zXZ\0", "xz", "unpack it (xz -dk FILE) and feed what comes out"),
    (b"BZh91AY&SY", "bzip2", "unpack it (bzip2 -dk FILE) and feed what comes out"),
    (b"PK\x03\x04", "zip", "unpack it (unzip FILE) and feed what comes out"),
    (b"\x04\x22\x4d\x18", "lz4", "unpack it (lz4 -dk FILE) and feed what comes out"),
    (b"PAR1\x15", "Parquet", ROWS),
    (b"Obj\x01", "Avro", ROWS),
];

const ROWS: &str = "write its rows as lines of JSON, and feed those with --format bare --key FIELD";

/// Behind a byte from 0x50 to 0x5f: a frame of zstd that holds nothing.
const SKIPPED: &[u8] = b"\x2a\x4d\x18";

impl Sign {
    pub(super) fn of(first: &[u8]) -> Sign {
        let is = |magic: &[u8]| first.starts_with(magic) || magic.starts_with(first);
        let skipped = |first: &[u8]| {
            first.split_first().is_some_and(|(byte, rest)| {
                byte & 0xf0 == 0x50 && (rest.starts_with(SKIPPED) || SKIPPED.starts_with(rest))
            })
        };
        let is_sure = first.len() >= MAGIC_BYTES;
        // How hard bzip2 has tried says nothing.
        let mut levelled = first.to_vec();
        if let [b'B', b'Z', b'h', level @ b'1'..=b'9', ..] = &mut levelled[..] {
            *level = b'9';
        }
        let other = OTHERS.iter().find(|(magic, ..)| levelled.starts_with(magic));
        let may_be_other = OTHERS.iter().any(|(magic, ..)| magic.starts_with(&levelled));
        if first.starts_with(GZIP) {
            Sign::Packed(Packing::Gzip)
        } else if is_sure && (is(ZSTD) || skipped(first)) {
            Sign::Packed(Packing::Zstd)
        } else if let Some((_, name, hint)) = other {
            Sign::Other(name, hint)
        } else if may_be_other || (!is_sure && (is(GZIP) || is(ZSTD) || skipped(first))) {
            Sign::Unsure
        } else {
            Sign::Plain
        }
    }
}

/// A compressed stream, read as what it unpacks to.
pub(super) struct Unpacked<R: Read> {
    packing: Packing,
    decoder: Decoder<R>,
}

enum Decoder<R: Read> {
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(Box<Frames<R>>),
}

impl<R: Read> Unpacked<R> {
    pub(super) fn new(packing: Packing, input: R) -> Unpacked<R> {
        let input = Whole { input, failed: None };
        let decoder = match packing {
            Packing::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Packing::Zstd => Decoder::Zstd(Box::new(Frames {
                source: BufReader::new(input),
                frame: FrameDecoder::new(),
                is_open: false,
            })),
        };
        Unpacked { packing, decoder }
    }

    /// Returns what is unpacked.
    pub(super) fn get_ref(&self) -> &R {
        match &self.decoder {
            Decoder::Gzip(decoder) => &decoder.get_ref().input,
            Decoder::Zstd(frames) => &frames.source.get_ref().input,
        }
    }

    fn failed(&mut self) -> Option<io::Error> {
        match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.get_mut().failed.take(),
            Decoder::Zstd(frames) => frames.source.get_mut().failed.take(),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(frames) => frames.read(buffer),
        };
        read.map_err(|e| {
            // What it reads from has failed, and not what was read.
            self.failed().unwrap_or_else(|| {
                let name = match self.packing {
                    Packing::Gzip => "gzip",
                    Packing::Zstd => "zstd",
                };
                let what = format!("{name} that is cut off or damaged: {e}");
                let hint = "put the whole file there and rerun; the lines before it are good";
                io::Error::other(Error::new(ErrorKind::Invalid, what).hint(hint))
            })
        })
    }
}

impl<R: Read> fmt::Debug for Unpacked<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unpacked({:?})", self.packing)
    }
}

/// An input whose failures are kept apart from those of a decoder: these may hide them.
struct Whole<R> {
    input: R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.failed = Some(e);
                    return Err(io::Error::other("the input failed"));
                }
                read => return read,
            }
        }
    }
}

/// The frames of a zstd stream.
struct Frames<R> {
    source: BufReader<Whole<R>>,
    frame: FrameDecoder,
    is_open: bool,
}

impl<R: Read> Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.is_open {
                if self.frame.can_collect() > 0 {
                    return self.frame.read(buffer);
                }
                if !self.frame.is_finished() {
                    let blocks = BlockDecodingStrategy::UptoBlocks(1);
                    let read = self.frame.decode_blocks(&mut self.source, blocks);
                    read.map_err(io::Error::other)?;
                    continue;
                }
                let (said, found) =
                    (self.frame.get_checksum_from_data(), self.frame.get_calculated_checksum());
                if said.is_some() && said != found {
                    return Err(io::Error::other("its checksum is another"));
                }
                self.is_open = false;
            }
            if !self.next()? {
                return Ok(0);
            }
        }
    }

    /// Opens the next frame, and returns whether there is one.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = Vec::with_capacity(MAGIC_BYTES);
            (&mut self.source).take(MAGIC_BYTES as u64).read_to_end(&mut magic)?;
            match &magic[..] {
                [] => return Ok(false),
                [0x50..=0x5f, rest @ ..] if rest == SKIPPED => {
                    let mut length = [0; 4];
                    self.source.read_exact(&mut length)?;
                    let length = u64::from(u32::from_le_bytes(length));
                    let mut skipped = (&mut self.source).take(length);
                    if io::copy(&mut skipped, &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                _ => {
                    let frame = Read::chain(&magic[..], &mut self.source);
                    self.frame.init(frame).map_err(io::Error::other)?;
                    self.is_open = true;
                    return Ok(true);
                }
            }
        }
    }
}
