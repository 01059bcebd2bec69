//! Links of HTML pages, as far as Go's templates make them.

/// The targets of all links on a page that stay on its server, without the part behind `#`.
pub fn links(html: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in html.match_indices("href=") {
        let rest = &html[at + 5..];
        let Some(quote) = rest.chars().next().filter(|c| *c == '"' || *c == '\'') else { continue };
        let Some(target) = rest[1..].split(quote).next() else { continue };
        let target = unescape(target);
        let target = target.split('#').next().unwrap_or_default();
        if target.starts_with('/') && !target.starts_with("//") {
            // A space is legal in a link and not in a request.
            found.push(target.replace(' ', "%20"));
        }
    }
    found
}

/// Puts the characters back that HTML can't hold.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = rest.find(';').and_then(|end| Some((entity(&rest[1..end])?, end)));
        match known {
            Some((c, end)) => {
                out.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out + rest
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        _ => char::from_u32(name.strip_prefix('#')?.parse().ok()?),
    }
}
