//! Unsigned LEB128 integers, the only number form of the format.

/// The longest encoding of a `u64`, in bytes.
pub const MAX_BYTES: usize = 10;

/// How many bytes [`write()`] makes of `v`.
#[must_use]
#[inline]
pub const fn len(v: u64) -> usize {
    // 1 byte for each started group of 7 bits; 0 takes one byte too.
    ((70 - (v | 1).leading_zeros()) / 7) as usize
}

/// Appends `v` to `out`, whose free part must hold [`len`]`(v)` bytes; returns the number of bytes written.
///
/// # Panics
/// If `out` is too short.
#[inline]
pub fn write(out: &mut [u8], mut v: u64) -> usize {
    let mut n = 0;
    while v >= 0x80 {
        out[n] = v as u8 | 0x80;
        v >>= 7;
        n += 1;
    }
    out[n] = v as u8;
    n + 1
}

/// Writes `v` at `p` and returns the address behind it: the unchecked form of [`write()`] for the event hot path.
///
/// # Safety
/// `p` must be valid for writes of [`len`]`(v)` bytes.
#[inline(always)]
pub unsafe fn put(mut p: *mut u8, mut v: u64) -> *mut u8 {
    while v >= 0x80 {
        // SAFETY: the caller gives `len(v)` bytes, and this byte is not the last of them.
        unsafe { p.write(v as u8 | 0x80) };
        v >>= 7;
        // SAFETY: as above: at least one byte follows.
        p = unsafe { p.add(1) };
    }
    // SAFETY: the last of the `len(v)` bytes.
    unsafe { p.write(v as u8) };
    // SAFETY: one past the bytes that the caller gave is still in (or at the end of) its allocation.
    unsafe { p.add(1) }
}

/// As [`put`], without a branch for each byte: for integers whose length is hard to foresee.
///
/// # Safety
/// `p` must be valid for writes of [`MAX_BYTES`] bytes, whatever the length of `v`.
#[inline(always)]
pub unsafe fn put_wide(p: *mut u8, v: u64) -> *mut u8 {
    if v >> 56 != 0 {
        // SAFETY: the caller's.
        return unsafe { put(p, v) };
    }
    // Each group of 7 bits moves into a byte of its own: halves, quarters, eighths.
    let mut x = (v & 0x0fff_ffff) | (v & 0x00ff_ffff_f000_0000) << 4;
    x = (x & 0x0000_3fff_0000_3fff) | (x & 0x0fff_c000_0fff_c000) << 2;
    x = (x & 0x007f_007f_007f_007f) | (x & 0x3f80_3f80_3f80_3f80) << 1;
    // As `len`, by a multiplication that is right up to 56 bits.
    let n = ((64 - (v | 1).leading_zeros()) * 9 + 64) >> 6;
    let more = 0x8080_8080_8080_8080 & ((1 << (8 * (n - 1))) - 1);
    // SAFETY: eight bytes, of the ten that the caller gives.
    unsafe { p.cast::<[u8; 8]>().write((x | more).to_le_bytes()) };
    // SAFETY: as above.
    unsafe { p.add(n as usize) }
}

/// Reads an integer from the front of `data`; returns it with its length in bytes.
///
/// `None` if `data` ends inside the integer or the integer does not fit 64 bits. Padded encodings (Go pads the size of a
/// batch to ten bytes) are accepted.
#[inline]
#[must_use]
pub fn read(data: &[u8]) -> Option<(u64, usize)> {
    let mut v = 0u64;
    for (i, &b) in data.iter().take(MAX_BYTES).enumerate() {
        if i == MAX_BYTES - 1 && b > 1 {
            return None;
        }
        v |= u64::from(b & 0x7f) << (7 * i);
        if b < 0x80 {
            return Some((v, i + 1));
        }
    }
    None
}

/// As [`read`], without a branch for each byte where at least eight are left: for integers whose length is hard to foresee.
#[inline]
#[must_use]
pub fn read_wide(data: &[u8]) -> Option<(u64, usize)> {
    let Some(word) = data.first_chunk::<8>() else { return read(data) };
    let word = u64::from_le_bytes(*word);
    let last = !word & 0x8080_8080_8080_8080;
    if last == 0 {
        return read(data);
    }
    let bits = last.trailing_zeros() + 1;
    // The groups of 7 bits move together: by pairs, fours, eights.
    let mut x = word & (u64::MAX >> (64 - bits)) & 0x7f7f_7f7f_7f7f_7f7f;
    x = (x & 0x007f_007f_007f_007f) | (x & 0x7f00_7f00_7f00_7f00) >> 1;
    x = (x & 0x0000_3fff_0000_3fff) | (x & 0x3fff_0000_3fff_0000) >> 2;
    x = (x & 0x0fff_ffff) | (x >> 32) << 28;
    Some((x, (bits / 8) as usize))
}

/// Maps a signed integer to an unsigned one so that small magnitudes stay small. Used in private data only.
#[inline]
#[must_use]
pub const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
#[must_use]
pub const fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(v: u64) {
        let mut b = [0xffu8; MAX_BYTES];
        let n = write(&mut b, v);
        assert_eq!(n, len(v), "length of {v}");
        assert_eq!(read(&b[..n]), Some((v, n)), "{v}");
        assert_eq!(read(&b[..n - 1]), None, "truncated {v}");
        assert_eq!(read_wide(&b[..n]), Some((v, n)), "{v}");
        assert_eq!(read_wide(&[&b[..n], &[0xff; 9]].concat()), Some((v, n)), "{v}");
        assert_eq!(read_wide(&b[..n - 1]), None, "truncated {v}");
        let mut c = [0u8; MAX_BYTES];
        // SAFETY: `c` has MAX_BYTES bytes.
        let end = unsafe { put(c.as_mut_ptr(), v) };
        assert_eq!(end as usize - c.as_ptr() as usize, n);
        assert_eq!(c[..n], b[..n]);
        let mut c = [0u8; MAX_BYTES];
        // SAFETY: as above.
        let end = unsafe { put_wide(c.as_mut_ptr(), v) };
        assert_eq!((end as usize - c.as_ptr() as usize, &c[..n]), (n, &b[..n]), "{v}");
    }

    #[test]
    fn every_length_round_trips() {
        check(0);
        for shift in 0..64 {
            check(1 << shift);
            check((1 << shift) - 1);
            check(u64::MAX >> shift);
        }
    }

    #[test]
    fn padding_is_read_and_overflow_is_not() {
        assert_eq!(read(&[0x81, 0x80, 0x00]), Some((1, 3)));
        assert_eq!(read(&[0xff; 10]), None);
        assert_eq!(read(&[0x80; 11]), None);
    }

    #[test]
    fn zigzag_round_trips() {
        for v in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            assert_eq!(unzigzag(zigzag(v)), v);
        }
        assert_eq!(zigzag(-1), 1);
    }
}
