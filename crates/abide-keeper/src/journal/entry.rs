//! One entry of the index ring.

use std::sync::atomic::{AtomicU64, Ordering};

/// Set on the first entry of a frame. Output entries are frames of their own.
pub const FIRST: u8 = 1;
/// Set on the last entry of a frame.
pub const LAST: u8 = 2;

/// What an entry's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Tag {
    /// Bytes the worker wrote to its descriptor 1.
    Stdout = 1,
    /// Bytes the worker wrote to its descriptor 2.
    Stderr = 2,
    /// A frame the worker wrote to its control descriptor, without the length prefix.
    Control = 3,
    /// A message delivered to the worker: a 16-byte id, then the payload.
    Input = 4,
    /// What happened to the process, as JSON; see [`crate::Lifecycle`].
    Lifecycle = 5,
    /// Bytes that the worker's programs wrote to their terminal, or that it echoed.
    Terminal = 6,
}

impl Tag {
    pub(super) fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Control,
            4 => Self::Input,
            5 => Self::Lifecycle,
            6 => Self::Terminal,
            _ => return None,
        })
    }

    /// Counts towards the output offset.
    pub fn is_output(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr | Self::Terminal)
    }
}

/// An entry as it lies in the ring: five words, each written and read atomically. Whether they
/// belong together is decided by the tail, as for the payload.
#[repr(C)]
pub(super) struct Slot([AtomicU64; 5]);

/// An entry copied out of the ring; not to be believed before its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Absolute offset of the payload in the data ring.
    pub(super) offset: u64,
    /// Bytes of output before this entry.
    pub(super) output_offset: u64,
    /// `CLOCK_BOOTTIME`.
    pub(super) time_ns: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) tag: u8,
    pub(super) flags: u8,
}

impl Entry {
    /// Checksum of the entry's fields and its sequence number; continue it over the payload.
    /// The sequence number makes an entry of an earlier lap invalid.
    pub(super) fn fields_crc(&self, seq: u64) -> u32 {
        let mut bytes = [0; 38];
        bytes[..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.output_offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.len.to_le_bytes());
        bytes[36] = self.tag;
        bytes[37] = self.flags;
        crc32c::crc32c(&bytes)
    }

    /// Offset just after the payload.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }

    /// Output offset just after the payload.
    pub(super) fn output_end(&self) -> u64 {
        match Tag::from_u8(self.tag) {
            Some(tag) if tag.is_output() => self.output_offset.saturating_add(u64::from(self.len)),
            _ => self.output_offset,
        }
    }
}

impl Slot {
    pub(super) fn store(&self, entry: &Entry) {
        let [offset, output_offset, time_ns, sizes, kind] = &self.0;
        offset.store(entry.offset, Ordering::Relaxed);
        output_offset.store(entry.output_offset, Ordering::Relaxed);
        time_ns.store(entry.time_ns, Ordering::Relaxed);
        sizes.store(
            u64::from(entry.len) | u64::from(entry.crc) << 32,
            Ordering::Relaxed,
        );
        kind.store(
            u64::from(entry.tag) | u64::from(entry.flags) << 8,
            Ordering::Relaxed,
        );
    }

    pub(super) fn load(&self) -> Entry {
        let [offset, output_offset, time_ns, sizes, kind] = &self.0;
        let sizes = sizes.load(Ordering::Relaxed);
        let kind = kind.load(Ordering::Relaxed);
        Entry {
            offset: offset.load(Ordering::Relaxed),
            output_offset: output_offset.load(Ordering::Relaxed),
            time_ns: time_ns.load(Ordering::Relaxed),
            len: sizes as u32,
            crc: (sizes >> 32) as u32,
            tag: kind as u8,
            flags: (kind >> 8) as u8,
        }
    }
}

const _: () = assert!(size_of::<Slot>() as u64 == super::layout::ENTRY_LEN);
