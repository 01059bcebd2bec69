//! Numbers and texts as bytes, faster than the formatting machinery: printing a trace writes hundreds of millions of them.

/// Two digits at a time.
const PAIRS: &[u8; 200] = b"\
0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Appends a number in decimal digits.
pub fn push_u64(out: &mut Vec<u8>, mut v: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while v >= 100 {
        let pair = (v % 100) as usize * 2;
        v /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if v >= 10 {
        let pair = v as usize * 2;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + v as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a number in decimal digits, with a sign if it is negative.
pub fn push_i64(out: &mut Vec<u8>, v: i64) {
    if v < 0 {
        out.push(b'-');
    }
    push_u64(out, v.unsigned_abs());
}

/// Appends a number in hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, v: u64) {
    let digits = (64 - (v | 1).leading_zeros()).div_ceil(4);
    for i in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(v >> (4 * i)) as usize & 15]);
    }
}

/// Appends a text in double quotes, as Go's `strconv.Quote` writes it: what is not printable or not UTF-8 is escaped.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    let plain = text.iter().all(|&b| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\');
    if plain {
        out.extend_from_slice(text);
    } else {
        for chunk in text.utf8_chunks() {
            chunk.valid().chars().for_each(|c| push_escaped(out, c));
            chunk.invalid().iter().for_each(|&b| push_byte_escape(out, b));
        }
    }
    out.push(b'"');
}

fn push_byte_escape(out: &mut Vec<u8>, b: u8) {
    out.extend_from_slice(b"\\x");
    push_padded_hex(out, u32::from(b), 2);
}

fn push_padded_hex(out: &mut Vec<u8>, v: u32, width: u32) {
    for i in (0..width).rev() {
        out.push(b"0123456789abcdef"[(v >> (4 * i)) as usize & 15]);
    }
}

fn push_escaped(out: &mut Vec<u8>, c: char) {
    let short = match c {
        '"' | '\\' => c as u8,
        '\x07' => b'a',
        '\x08' => b'b',
        '\x0c' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\x0b' => b'v',
        _ => 0,
    };
    if short != 0 {
        out.extend_from_slice(&[b'\\', short]);
    } else if is_printable(c) {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else if c < ' ' || c == '\x7f' {
        push_byte_escape(out, c as u8);
    } else if u32::from(c) < 0x10000 {
        out.extend_from_slice(b"\\u");
        push_padded_hex(out, c.into(), 4);
    } else {
        out.extend_from_slice(b"\\U");
        push_padded_hex(out, c.into(), 8);
    }
}

/// Whether Go calls a character printable: letters, marks, numbers, punctuation, symbols, and the ASCII space.
///
/// The standard library has the same classes in its `Debug` of strings, but no function for them. Behind another character
/// it escapes what is not printable and no more (in front it escapes combining marks too).
fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    let mut text = [b'a', 0, 0, 0, 0];
    let len = 1 + c.encode_utf8(&mut text[1..]).len();
    let Ok(text) = std::str::from_utf8(&text[..len]) else { return false };
    text.escape_debug().nth(1) == Some(c)
}

/// Appends a moment of the wall clock in UTC, as RFC 3339 with as many digits behind the second as it needs.
pub fn push_rfc3339(out: &mut Vec<u8>, sec: i64, nsec: u32) {
    let second = sec.rem_euclid(86_400) as u64;
    let (year, month, day) = civil(sec.div_euclid(86_400));
    if year < 0 {
        out.push(b'-');
    }
    let year = year.unsigned_abs();
    if year < 10_000 {
        push_two(out, year / 100);
        push_two(out, year % 100);
    } else {
        push_u64(out, year);
    }
    for (sep, v) in [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)] {
        out.push(sep);
        push_two(out, v);
    }
    if nsec != 0 {
        out.push(b'.');
        let mut rest = nsec;
        let mut unit = 100_000_000;
        while rest > 0 {
            out.push(b'0' + (rest / unit) as u8);
            rest %= unit;
            unit /= 10;
        }
    }
    out.push(b'Z');
}

fn push_two(out: &mut Vec<u8>, v: u64) {
    let pair = (v % 100) as usize * 2;
    out.extend_from_slice(&PAIRS[pair..pair + 2]);
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. The year begins in March here, so that
/// the leap day is its last; 400 years have 146097 days.
fn civil(days: i64) -> (i64, u64, u64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u64, day as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap_or_else(|e| format!("{e}"))
    }

    #[test]
    fn numbers_as_the_library_writes_them() {
        for shift in 0..64 {
            for v in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift, 99 << (shift / 2), 100 << (shift / 2)] {
                assert_eq!(text(|o| push_u64(o, v)), v.to_string());
                assert_eq!(text(|o| push_hex(o, v)), format!("{v:x}"));
                assert_eq!(text(|o| push_i64(o, v as i64)), (v as i64).to_string());
                assert_eq!(text(|o| push_i64(o, (v as i64).wrapping_neg())), (v as i64).wrapping_neg().to_string());
            }
        }
    }

    /// The right sides were printed by Go's `%q`.
    #[test]
    fn texts_as_go_quotes_them() {
        let check = |t: &[u8], want: &str| assert_eq!(text(|o| push_quoted(o, t)), want);
        check(b"", r#""""#);
        check(b"chan receive", r#""chan receive""#);
        check(b"a\"b\\c", r#""a\"b\\c""#);
        check(b"\x07\x08\x0c\n\r\t\x0b\x00\x1b\x7f", r#""\a\b\f\n\r\t\v\x00\x1b\x7f""#);
        check("grüße 世界 🦀".as_bytes(), r#""grüße 世界 🦀""#);
        check("e\u{301}\u{301}".as_bytes(), "\"e\u{301}\u{301}\"");
        check("\u{301}".as_bytes(), "\"\u{301}\"");
        check("\u{a0}\u{ad}\u{200b}\u{2028}\u{feff}".as_bytes(), r#""\u00a0\u00ad\u200b\u2028\ufeff""#);
        check("\u{e000}\u{10ffff}\u{fffd}".as_bytes(), "\"\\ue000\\U0010ffff\u{fffd}\"");
        check(b"\xff\xc3(\xe2\x82", r#""\xff\xc3(\xe2\x82""#);
    }

    #[test]
    fn moments_as_go_prints_them() {
        let check = |sec, nsec, want: &str| assert_eq!(text(|o| push_rfc3339(o, sec, nsec)), want);
        check(0, 0, "1970-01-01T00:00:00Z");
        check(1_740_755_049, 123, "2025-02-28T15:04:09.000000123Z");
        check(951_826_245, 500_000_000, "2000-02-29T12:10:45.5Z");
        check(-1, 999_999_999, "1969-12-31T23:59:59.999999999Z");
        check(253_402_300_800, 0, "10000-01-01T00:00:00Z");
        check(-62_167_219_201, 0, "-0001-12-31T23:59:59Z");
    }
}
