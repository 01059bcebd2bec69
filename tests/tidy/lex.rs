//! Rust source as tokens, without comments and the insides of strings: as much of a lexer as the rules need.

/// The tokens: words (identifiers, keywords, numbers) and single characters. A string becomes `""`, a character `''`, a lifetime nothing.
pub fn tokens(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = string(rest) {
            out.push("\"\"");
            len
        } else if c == '\'' {
            quote(rest, &mut out)
        } else if is_word(c) {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            out.push(&rest[..len]);
            len
        } else {
            if !c.is_whitespace() {
                out.push(&rest[..c.len_utf8()]);
            }
            c.len_utf8()
        };
        rest = &rest[len..];
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a string of any kind, if one stands here.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|p| {
        let behind = &text[if text.starts_with(p) { p.len() } else { return false }..];
        behind.starts_with('"')
            || (p.ends_with('r') && behind.trim_start_matches('#').starts_with('"') && behind.starts_with('#'))
    })?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        return Some(text[start..].find(&end).map_or(text.len(), |i| start + i + end.len()));
    }
    let mut escaped = false;
    for (i, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix.len() + i + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// The length of a character literal or of a lifetime's mark.
fn quote(text: &str, out: &mut Vec<&str>) -> usize {
    let mut chars = text.char_indices().skip(1);
    let literal = match chars.next() {
        Some((_, '\\')) => text[3..].find('\'').map(|i| i + 4),
        Some((i, c)) => text[i + c.len_utf8()..].starts_with('\'').then_some(i + c.len_utf8() + 1),
        None => None,
    };
    match literal {
        Some(len) => {
            out.push("''");
            len
        }
        None => 1,
    }
}

/// The tokens without the items that exist only in tests.
pub fn without_tests<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].starts_with(&["#", "["]) {
            let end = closing(tokens, at + 1);
            if is_test_only(&tokens[at + 2..end]) {
                at = item_end(tokens, end + 1);
                continue;
            }
            out.extend_from_slice(&tokens[at..=end.min(tokens.len() - 1)]);
            at = end + 1;
        } else {
            out.push(tokens[at]);
            at += 1;
        }
    }
    out
}

/// Whether an attribute (`test`, `cfg(test)`, `cfg(all(test, ...))`) leaves its item to tests.
fn is_test_only(attribute: &[&str]) -> bool {
    let mentions = attribute.iter().position(|t| *t == "test");
    match attribute.first() {
        Some(&"test") => attribute.len() == 1,
        Some(&"cfg") => mentions.is_some_and(|i| !attribute[..i].contains(&"not") && !attribute[..i].contains(&"any")),
        _ => false,
    }
}

/// The place behind the item that begins at `at`: behind its block, or its semicolon.
fn item_end(tokens: &[&str], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at] {
            ";" => return at + 1,
            "{" => return closing(tokens, at) + 1,
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

/// The place of the bracket that closes the one at `at`.
pub fn closing(tokens: &[&str], at: usize) -> usize {
    let mut depth = 0_i32;
    for (i, t) in tokens.iter().enumerate().skip(at) {
        match *t {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i;
        }
    }
    tokens.len()
}

#[test]
fn comments_strings_and_lifetimes_are_told_apart() {
    let text = "a /* b /* c */ d */ \"e\\\"f\" 'g' '\\'' h<'i> r#\"j\"k\"# br\"l\" // m\nn";
    assert_eq!(tokens(text), ["a", "\"\"", "''", "''", "h", "<", "i", ">", "\"\"", "\"\"", "n"]);
    let items =
        tokens("#[cfg(test)] mod t { x } #[derive(A)] struct B; #[cfg(all(test, c))] use d; #[test] fn e() { f } g");
    assert_eq!(without_tests(&items), ["#", "[", "derive", "(", "A", ")", "]", "struct", "B", ";", "g"]);
}
