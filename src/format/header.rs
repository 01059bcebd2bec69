//! The first 16 bytes of a trace, and what each version of the format adds.

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 16;

/// A version of the trace format, named after the Go release that brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Version {
    /// Go 1.22: the first of format version 2.
    Go122 = 22,
    /// Go 1.23 and 1.24: goroutine switches, status with stack, experimental batches.
    Go123 = 23,
    /// Go 1.25: the sync batch with a snapshot of the wall clock.
    Go125 = 25,
    /// Go 1.26 and 1.27: an explicit end of each generation.
    Go126 = 26,
}

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Version; 4] = [Version::Go122, Version::Go123, Version::Go125, Version::Go126];

    /// The version with this minor number (`23` for Go 1.23).
    #[must_use]
    pub const fn from_minor(minor: u32) -> Option<Version> {
        match minor {
            22 => Some(Version::Go122),
            23 => Some(Version::Go123),
            25 => Some(Version::Go125),
            26 => Some(Version::Go126),
            _ => None,
        }
    }

    /// The minor number of the Go release (`23` for Go 1.23).
    #[must_use]
    pub const fn minor(self) -> u32 {
        self as u32
    }

    /// The header of a trace of this version.
    #[must_use]
    pub const fn header(self) -> [u8; HEADER_BYTES] {
        let mut h = *b"go 1.00 trace\0\0\0";
        h[5] = b'0' + (self as u8) / 10;
        h[6] = b'0' + (self as u8) % 10;
        h
    }

    /// Whether a generation has a `Sync` batch with a clock snapshot (from 1.25) instead of a lone frequency.
    #[must_use]
    pub const fn has_clock_snapshot(self) -> bool {
        self as u8 >= Version::Go125 as u8
    }

    /// Whether a generation ends with an explicit marker (from 1.26) instead of with the next one's first batch.
    #[must_use]
    pub const fn has_end_of_generation(self) -> bool {
        self as u8 >= Version::Go126 as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_go() {
        assert_eq!(&Version::Go122.header(), b"go 1.22 trace\0\0\0");
        assert_eq!(&Version::Go126.header(), b"go 1.26 trace\0\0\0");
        for v in Version::ALL {
            assert_eq!(Version::from_minor(v.minor()), Some(v));
        }
        assert_eq!(Version::from_minor(24), None);
    }
}
