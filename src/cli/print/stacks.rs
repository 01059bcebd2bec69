//! Stacks as text, each rendered once in its generation: a trace has thousands of events for each stack.

use exectrace::read::{Generation, Stack, StackId};
use std::ops::Range;

/// The rendered stacks of the generation at hand.
#[derive(Default)]
pub struct RenderedStacks {
    /// The generation: its number and where it begins.
    generation: Option<(u64, u64)>,
    /// The text of each stack, by its index.
    ranges: Vec<Option<Range<usize>>>,
    text: Vec<u8>,
}

impl RenderedStacks {
    /// Forgets the stacks of another generation.
    pub fn enter(&mut self, generation: &Generation) {
        let this = (generation.number(), generation.bytes().start);
        if self.generation != Some(this) {
            self.generation = Some(this);
            self.ranges.clear();
            self.ranges.resize(generation.stack_count(), None);
            self.text.clear();
        }
    }

    /// The text of a stack, made by `render` the first time. The generation must have been entered.
    pub fn text(
        &mut self,
        generation: &Generation,
        id: StackId,
        render: impl FnOnce(&mut Vec<u8>, &Generation, Stack<'_>),
    ) -> &[u8] {
        // A stack that the table has not is empty: only CPU samples may name one.
        let index = generation.stack_index(id).unwrap_or(0) as usize;
        let range = match self.ranges.get(index) {
            Some(Some(range)) => range.clone(),
            _ => {
                let start = self.text.len();
                render(&mut self.text, generation, generation.stack(id));
                let range = start..self.text.len();
                if let Some(slot) = self.ranges.get_mut(index) {
                    *slot = Some(range.clone());
                }
                range
            }
        };
        &self.text[range]
    }
}
