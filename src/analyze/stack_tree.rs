//! Stacks with weights as a tree: from the root of the program down to what does the work, or from there up to who calls it.

use super::frames::FrameInfo;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Deeper frames are left out, so that no input makes a tree that cannot be walked.
const DEEPEST: usize = 256;

/// Which end of the stacks is the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TreeRoot {
    /// Where the thread begins: top-down.
    Begin,
    /// The leaf, which did it: bottom-up.
    Leaf,
}

/// A function in its place in a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TreeNode {
    /// The function. The root of the whole has none.
    pub func: String,
    /// The weight of all stacks that go through here.
    pub weight: u64,
    /// Of that, what ends here: at a root of begins, what the function did itself.
    pub own: u64,
    /// The heaviest first.
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    /// Makes a tree of stacks, leaf first, with weights. Those of weight 0 are left out, and so is what is lighter than `least`.
    #[must_use]
    pub fn of<'a>(root: TreeRoot, least: u64, stacks: impl IntoIterator<Item = (&'a [FrameInfo], u64)>) -> TreeNode {
        let mut flat = vec![Flat::default()];
        let mut index: HashMap<(usize, &'a str), usize> = HashMap::new();
        for (stack, weight) in stacks {
            if weight == 0 {
                continue;
            }
            flat[0].weight += weight;
            let mut at = 0;
            let len = stack.len();
            for i in 0..len.min(DEEPEST) {
                let func = match root {
                    TreeRoot::Begin => stack[len - 1 - i].func.as_str(),
                    TreeRoot::Leaf => stack[i].func.as_str(),
                };
                let next = *index.entry((at, func)).or_insert(flat.len());
                if next == flat.len() {
                    flat.push(Flat { func, ..Flat::default() });
                    flat[at].children.push(next);
                }
                flat[next].weight += weight;
                at = next;
            }
            flat[at].own += weight;
        }
        build(&flat, 0, least)
    }

    /// Calls `each` with each node and its depth, parents before their children.
    pub fn walk<'a>(&'a self, each: &mut impl FnMut(usize, &'a TreeNode)) {
        fn go<'a>(node: &'a TreeNode, depth: usize, each: &mut impl FnMut(usize, &'a TreeNode)) {
            each(depth, node);
            for child in &node.children {
                go(child, depth + 1, each);
            }
        }
        go(self, 0, each);
    }
}

#[derive(Default)]
struct Flat<'a> {
    func: &'a str,
    weight: u64,
    own: u64,
    children: Vec<usize>,
}

fn build(flat: &[Flat<'_>], at: usize, least: u64) -> TreeNode {
    let node = &flat[at];
    let heavy = node.children.iter().filter(|&&c| flat[c].weight >= least);
    let mut children: Vec<TreeNode> = heavy.map(|&c| build(flat, c, least)).collect();
    children.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.func.cmp(&b.func)));
    TreeNode { func: node.func.to_owned(), weight: node.weight, own: node.own, children }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(root: TreeRoot, least: u64, expected: &str) {
        let frames = |text: &str| -> Vec<FrameInfo> {
            text.split(' ').map(|f| FrameInfo { func: f.to_owned(), ..FrameInfo::default() }).collect()
        };
        let stacks =
            [(frames("alloc parse main"), 5), (frames("alloc print main"), 3), (frames("main"), 2), (frames("x"), 0)];
        let tree = TreeNode::of(root, least, stacks.iter().map(|(s, w)| (&s[..], *w)));
        let mut text = String::new();
        tree.walk(&mut |depth, n| text += &format!("{}{}={}/{} ", "-".repeat(depth), n.func, n.weight, n.own));
        assert_eq!(text.trim_end(), expected);
    }

    #[test]
    fn stacks_merge_from_either_end() {
        check(TreeRoot::Begin, 0, "=10/0 -main=10/2 --parse=5/0 ---alloc=5/5 --print=3/0 ---alloc=3/3");
        check(TreeRoot::Leaf, 0, "=10/0 -alloc=8/0 --parse=5/0 ---main=5/5 --print=3/0 ---main=3/3 -main=2/2");
        check(TreeRoot::Leaf, 4, "=10/0 -alloc=8/0 --parse=5/0 ---main=5/5");
    }
}
