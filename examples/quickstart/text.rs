//! From text to words: the quick way, and the obvious way that checks it.

/// Longer ones are data, not words.
const WORD_BYTES: std::ops::RangeInclusive<usize> = 2..=40;

/// Calls `f` for each word of `text`, which is in lower case: runs of letters, digits and `_`; in HTML, outside of tags.
pub fn for_each_word<'t>(text: &'t str, is_html: bool, mut f: impl FnMut(&'t str)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let begin = at;
        while at < bytes.len() && is_word_byte(bytes[at]) {
            at += 1;
        }
        if WORD_BYTES.contains(&(at - begin)) {
            f(&text[begin..at]);
        }
        if is_html && bytes.get(at) == Some(&b'<') {
            at += bytes[at..].iter().position(|b| *b == b'>').unwrap_or(bytes.len() - at);
        }
        at += 1;
    }
}

/// Bytes from 0x80 on are parts of letters in other alphabets.
fn is_word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

/// The same words, found one character at a time.
pub fn words_slowly(text: &str, is_html: bool) -> Vec<String> {
    let (mut words, mut word, mut in_tag) = (Vec::new(), String::new(), false);
    for c in text.chars().chain([' ']) {
        let is_letter = c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
        if is_letter && !in_tag {
            word.push(c.to_ascii_lowercase());
            continue;
        }
        if WORD_BYTES.contains(&word.len()) {
            words.push(word.clone());
        }
        word.clear();
        in_tag = is_html && if in_tag { c != '>' } else { c == '<' };
    }
    words
}

/// A file's text in lower case. Bytes that are no UTF-8 are replaced.
pub fn read_lower(path: &std::path::Path) -> std::io::Result<String> {
    let mut text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
    text.make_ascii_lowercase();
    Ok(text)
}

pub fn is_html(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|e| e == "html")
}
