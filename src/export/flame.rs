//! Stacks with weights as a flame graph: folded lines, which other tools read, and a picture.
//!
//! The picture is one SVG without scripts or fonts of its own: widths are shares of the whole, the root is at the bottom, and each frame
//! tells its name and weight when pointed at.

use crate::analyze::FrameInfo;
use std::collections::HashMap;
use std::fmt::Write;

/// The picture's width in pixels.
const WIDTH: f64 = 1200.0;
/// The height of a frame.
const ROW: f64 = 17.0;
/// The margin at either side.
const MARGIN: f64 = 10.0;
/// Room for the title.
const TITLE: f64 = 34.0;
/// A frame narrower than this is left out: it could not be seen.
const NARROWEST: f64 = 0.15;
/// The width of a letter of the font, about.
const LETTER: f64 = 6.6;
/// Deeper frames are left out, so that no input makes a picture without end.
const DEEPEST: usize = 256;

/// One line a stack, `root;...;leaf weight`, in the order given: what `flamegraph.pl`, speedscope and others read. Stacks of weight 0
/// are left out.
#[must_use]
pub fn folded<'a>(stacks: impl IntoIterator<Item = (&'a [FrameInfo], u64)>) -> String {
    let mut out = String::new();
    for (stack, weight) in stacks {
        if weight == 0 {
            continue;
        }
        let mut named = stack.iter().rev().filter(|f| !f.func.is_empty()).peekable();
        if named.peek().is_none() {
            out.push_str("(no stack)");
        }
        for (i, f) in named.enumerate() {
            if i > 0 {
                out.push(';');
            }
            // Semicolons and line ends separate.
            out.extend(f.func.chars().map(|c| if c == ';' || c.is_control() { ' ' } else { c }));
        }
        // Writing to a string cannot fail.
        let _ = writeln!(out, " {weight}");
    }
    out
}

/// A frame of the merged stacks.
struct Node<'a> {
    func: &'a str,
    weight: u64,
    children: Vec<usize>,
}

/// A flame graph as SVG. `unit` stands behind weights, such as `bytes`.
#[must_use]
pub fn svg<'a>(title: &str, unit: &str, stacks: impl IntoIterator<Item = (&'a [FrameInfo], u64)>) -> String {
    let (nodes, depth) = merge(stacks);
    let height = TITLE + (depth + 1) as f64 * ROW + MARGIN;
    let mut out = String::new();
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fffdf7\"/>\n\
         <text x=\"{}\" y=\"22\" text-anchor=\"middle\" font-size=\"15\">{}</text>\n",
        WIDTH / 2.0,
        escaped(title)
    );
    let per_weight = (WIDTH - 2.0 * MARGIN) / nodes[0].weight.max(1) as f64;
    // Where each frame begins; parents come before their children.
    let mut open = vec![(0, MARGIN, 0)];
    while let Some((i, x, level)) = open.pop() {
        let node = &nodes[i];
        let width = node.weight as f64 * per_weight;
        if width < NARROWEST {
            continue;
        }
        frame(&mut out, node, unit, nodes[0].weight, (x, height - MARGIN - (level + 1) as f64 * ROW, width));
        let mut at = x;
        for &child in &node.children {
            open.push((child, at, level + 1));
            at += nodes[child].weight as f64 * per_weight;
        }
    }
    out.push_str("</svg>\n");
    out
}

/// The stacks as a tree, siblings by name, and its depth. The first node is the root.
fn merge<'a>(stacks: impl IntoIterator<Item = (&'a [FrameInfo], u64)>) -> (Vec<Node<'a>>, usize) {
    let mut nodes = vec![Node { func: "all", weight: 0, children: Vec::new() }];
    let mut index: HashMap<(usize, &str), usize> = HashMap::new();
    let mut depth = 0;
    for (stack, weight) in stacks {
        if weight == 0 {
            continue;
        }
        nodes[0].weight = nodes[0].weight.saturating_add(weight);
        let mut at = 0;
        for f in stack.iter().rev().filter(|f| !f.func.is_empty()).take(DEEPEST) {
            let next = nodes.len();
            let child = *index.entry((at, f.func.as_str())).or_insert(next);
            if child == next {
                nodes.push(Node { func: &f.func, weight: 0, children: Vec::new() });
                nodes[at].children.push(child);
            }
            nodes[child].weight = nodes[child].weight.saturating_add(weight);
            at = child;
        }
        depth = depth.max(stack.len().min(DEEPEST));
    }
    let names: Vec<&str> = nodes.iter().map(|n| n.func).collect();
    nodes.iter_mut().for_each(|n| n.children.sort_by_key(|&c| names[c]));
    (nodes, depth)
}

fn frame(out: &mut String, node: &Node<'_>, unit: &str, whole: u64, (x, y, width): (f64, f64, f64)) {
    let share = node.weight as f64 * 100.0 / whole.max(1) as f64;
    let name = escaped(node.func);
    let _ = write!(
        out,
        "<g><title>{name}: {} {unit}, {share:.2} %</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{:.2}\" height=\"{}\" \
         fill=\"{}\" rx=\"1\"/>",
        node.weight,
        (width - 0.4).max(NARROWEST),
        ROW - 1.0,
        colour(node.func)
    );
    let letters = ((width - 6.0) / LETTER) as usize;
    if letters >= 3 {
        let count = node.func.chars().count();
        let shown: String = match count <= letters {
            true => node.func.to_owned(),
            false => node.func.chars().take(letters - 1).chain(['…']).collect(),
        };
        let _ = write!(out, "<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 3.0, y + 12.0, escaped(&shown));
    }
    out.push_str("</g>\n");
}

/// A warm colour, the same for the same name.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(2_166_136_261u32, |h, b| (h ^ u32::from(b)).wrapping_mul(16_777_619));
    format!("hsl({},{}%,{}%)", 8 + hash % 46, 62 + (hash >> 8) % 20, 68 + (hash >> 16) % 12)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(leaf_first: &[&str]) -> Vec<FrameInfo> {
        leaf_first.iter().map(|f| FrameInfo { func: (*f).to_owned(), ..FrameInfo::default() }).collect()
    }

    #[test]
    fn folded_lines_go_from_the_root_to_the_leaf() {
        let (a, b, none) = (stack(&["leaf", "a;b", "main"]), stack(&["main"]), stack(&[]));
        let text = folded([(&a[..], 7), (&b[..], 0), (&none[..], 3)]);
        assert_eq!(text, "main;a b;leaf 7\n(no stack) 3\n");
    }

    #[test]
    fn widths_are_shares_and_names_are_safe() {
        let (a, b) = (stack(&["<T as X>::\"q\"", "main"]), stack(&["other", "main"]));
        let text = svg("heap & all", "bytes", [(&a[..], 75), (&b[..], 25)]);
        assert!(text.contains("<title>&lt;T as X&gt;::&quot;q&quot;: 75 bytes, 75.00 %</title>"), "{text}");
        assert!(text.contains("<title>main: 100 bytes, 100.00 %</title>"));
        assert!(text.contains("heap &amp; all") && text.ends_with("</svg>\n"));
        let widths: Vec<&str> = text.split("width=\"").skip(3).map(|w| &w[..w.find('"').unwrap_or(0)]).collect();
        assert_eq!(widths, ["1179.60", "1179.60", "294.60", "884.60"]);
        assert_eq!(svg("nothing", "bytes", []).matches("<g>").count(), 0);
    }
}
