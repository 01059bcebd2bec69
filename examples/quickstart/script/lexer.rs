//! From the text of a script to tokens.

/// A token and the line that it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Token<'s> {
    pub kind: Kind<'s>,
    pub line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind<'s> {
    Number(f64),
    /// Without the quotes; there are no escapes.
    String(&'s str),
    Name(&'s str),
    /// A keyword, an operator or a bracket.
    Mark(&'s str),
    End,
}

const KEYWORDS: [&str; 14] =
    ["and", "else", "false", "fn", "for", "if", "in", "let", "nil", "not", "or", "return", "true", "while"];
/// Longer ones first.
const MARKS: [&str; 20] =
    ["==", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}", ",", ";"];

/// Cuts a script into tokens. The last is `End`.
pub fn tokens(source: &str) -> Result<Vec<Token<'_>>, String> {
    let mut all = Vec::new();
    for (text, line) in source.lines().zip(1..) {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next().filter(|c| *c != '#') {
            let (kind, len) = match first {
                '"' => string(rest).ok_or(format!("line {line}: a string without an end"))?,
                '0'..='9' => number(rest).ok_or(format!("line {line}: not a number: {rest}"))?,
                'a'..='z' | 'A'..='Z' | '_' => name(rest),
                _ => mark(rest).ok_or(format!("line {line}: not a token: {first}"))?,
            };
            all.push(Token { kind, line });
            rest = rest[len..].trim_start();
        }
    }
    let line = all.last().map_or(1, |t: &Token<'_>| t.line);
    all.push(Token { kind: Kind::End, line });
    Ok(all)
}

fn string(rest: &str) -> Option<(Kind<'_>, usize)> {
    let end = rest[1..].find('"')? + 1;
    Some((Kind::String(&rest[1..end]), end + 1))
}

fn number(rest: &str) -> Option<(Kind<'_>, usize)> {
    let len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    Some((Kind::Number(rest[..len].parse().ok()?), len))
}

fn name(rest: &str) -> (Kind<'_>, usize) {
    let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let name = &rest[..len];
    (if KEYWORDS.contains(&name) { Kind::Mark(name) } else { Kind::Name(name) }, len)
}

fn mark(rest: &str) -> Option<(Kind<'_>, usize)> {
    let mark = MARKS.into_iter().find(|m| rest.starts_with(m))?;
    Some((Kind::Mark(&rest[..mark.len()]), mark.len()))
}
