//! From program counters to what people read: functions, files and lines, with inlined frames; and what the frames say
//! about why a thread waits.
//!
//! It runs on the writer's thread only, under the re-entry guard: it allocates a lot (tens of MiB for a large program's debug
//! information, until [`Symbolizer::clear`]), reads files and takes the `backtrace` crate's lock.
//!
//! Every name is kept once and judged once; frames are three numbers. So a stack costs a table lookup for each program
//! counter that was seen before, and the judgements below are comparisons of numbers.

#[cfg(unix)]
mod symbol_table;

use std::collections::HashMap;
use std::ffi::c_void;
use std::ops::Range;

use super::modules::{self, Module};
pub use crate::names::block_reason::BlockReason;
use crate::names::block_reason::{self, Waits};
use crate::names::internal::{self, Entry, Role};
use crate::names::{function_path, has_path, source_path};
#[cfg(unix)]
use symbol_table::SymbolTable;

/// A name that a [`Symbolizer`] keeps: a function or a file. Good until its [`Symbolizer::clear`]. Counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(u32);

impl Name {
    /// The name as an index: names are numbered as they come up.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One frame of a stack, inlined or real.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The demangled function, without the compiler's hash and its generic arguments; `module+0xoffset` where there is no symbol.
    pub func: Name,
    /// The source file; an empty name where it is not known.
    pub file: Name,
    /// The line, counted from 1; 0 where it is not known.
    pub line: u32,
}

/// Resolves program counters, and remembers all it has seen.
#[derive(Default)]
pub struct Symbolizer {
    names: Vec<Known>,
    by_text: HashMap<Box<str>, Name>,
    frames: Vec<Frame>,
    by_pc: HashMap<usize, Range<usize>>,
    modules: Vec<Module>,
    /// By path. `None` for files without one.
    #[cfg(unix)]
    symbol_tables: HashMap<String, Option<SymbolTable>>,
}

/// A name and the judgements on it, taken as a function's.
struct Known {
    text: Box<str>,
    role: Role,
    entry: Entry,
    waits: Waits,
}

impl Symbolizer {
    /// A symbolizer that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The frames at a program counter as the unwinder reports them (a return address): innermost inlined function first, and
    /// at least one.
    pub fn frames(&mut self, pc: usize) -> &[Frame] {
        let range = match self.by_pc.get(&pc) {
            Some(range) => range.clone(),
            None => self.resolve(pc),
        };
        &self.frames[range]
    }

    /// Writes the frames of a whole stack into `out`, leaf first, without the leading frames that are the tracer's.
    pub fn stack(&mut self, pcs: &[usize], out: &mut Vec<Frame>) {
        out.clear();
        for &pc in pcs {
            out.extend_from_slice(self.frames(pc));
        }
        let internal = out.len() - self.trim_internal(out).len();
        out.drain(..internal);
    }

    /// The text of a name of this symbolizer; empty for a name of before [`Symbolizer::clear`].
    pub fn name(&self, name: Name) -> &str {
        self.names.get(name.index()).map_or("", |known| &known.text)
    }

    /// How many names there are.
    pub fn names_len(&self) -> usize {
        self.names.len()
    }

    /// The stack without the leading frames that a user of the trace does not want to see: the tracer's own, the allocator's
    /// glue, and, below those, the plumbing between a lock and the kernel. Never empty if `frames` is not.
    pub fn trim_internal<'a>(&self, frames: &'a [Frame]) -> &'a [Frame] {
        let roles =
            frames.iter().map(|frame| self.names.get(frame.func.index()).map_or(Role::Shown, |known| known.role));
        frames.get(internal::leading(roles)..).filter(|rest| !rest.is_empty()).unwrap_or(frames)
    }

    /// The stack without the frames in which a thread begins, which are the same in all its stacks: those of the standard library and
    /// of the C library outside of the thread's function. As given if there is no such function: in threads of C code, and where the
    /// stack was cut off.
    pub fn trim_entry<'a>(&self, frames: &'a [Frame]) -> &'a [Frame] {
        let entries =
            frames.iter().map(|frame| self.names.get(frame.func.index()).map_or(Entry::Inside, |known| known.entry));
        &frames[..internal::within_entry(entries)]
    }

    /// What a thread waits for that blocked with this stack.
    pub fn classify_block(&self, frames: &[Frame]) -> BlockReason {
        let none = Waits::default();
        block_reason::classify(
            frames.iter().map(|frame| self.names.get(frame.func.index()).map_or(none, |known| known.waits)),
        )
    }

    /// Forgets everything, and gives the memory of the debug information back.
    pub fn clear(&mut self) {
        *self = Self::default();
        backtrace::clear_symbol_cache();
    }

    #[cold]
    fn resolve(&mut self, pc: usize) -> Range<usize> {
        let mut found: Vec<(String, String, u32)> = Vec::new();
        // It looks up the address before: that of the call, or the exact one that the unwinder added one to.
        backtrace::resolve(pc as *mut c_void, |symbol| {
            let Some(name) = symbol.name() else { return };
            let file = symbol.filename().map(|file| file.display().to_string()).unwrap_or_default();
            found.push((function_path::without_arguments(&format!("{name:#}")), file, symbol.lineno().unwrap_or(0)));
        });
        let address = pc.saturating_sub(1);
        match found.last_mut() {
            None => found.push((self.unknown(address), String::new(), 0)),
            // Bare names: debug information of the level "line-tables-only". The last frame is the real function.
            Some((name, ..)) if !has_path(name) => {
                if let Some(full) = self.symbol(address).filter(|full| has_path(full)) {
                    *name = full;
                }
            }
            Some(_) => {}
        }
        let last = found.len() - 1;
        let (inlined, real) = found.split_at_mut(last);
        let real = (function_path::of(&real[0].0), &real[0].1);
        for (name, file, _) in inlined {
            if let (false, Some(module)) = (has_path(name), source_path::module(file, (&real.0, real.1))) {
                let bare = name.split('<').next().unwrap_or_default();
                *name = format!("{module}::{bare}");
            }
        }
        let start = self.frames.len();
        for (func, file, line) in found {
            let frame = Frame { func: self.intern(&func), file: self.intern(&file), line };
            self.frames.push(frame);
        }
        let range = start..self.frames.len();
        self.by_pc.insert(pc, range.clone());
        range
    }

    /// The module at an address, and the address in the numbers of its file's own tables.
    fn module(&mut self, address: usize) -> Option<(&Module, usize)> {
        if modules::find(&self.modules, address).is_none() {
            // A library that was loaded since, or code that no library has.
            self.modules = modules::modules();
        }
        modules::find(&self.modules, address).map(|module| (module, address.wrapping_sub(module.load_bias)))
    }

    /// A name for an address without a symbol.
    fn unknown(&mut self, address: usize) -> String {
        match self.module(address) {
            Some((module, offset)) => format!("{}+{offset:#x}", module.name()),
            None => format!("{address:#x}"),
        }
    }

    /// The demangled name of the function at an address, from its file's symbol table.
    #[cfg(unix)]
    fn symbol(&mut self, address: usize) -> Option<String> {
        let (path, offset) = self.module(address).map(|(module, offset)| (module.path.clone(), offset))?;
        let table = self.symbol_tables.entry(path).or_insert_with_key(|path| SymbolTable::open(path));
        let name = table.as_ref()?.name_at(offset as u64)?;
        Some(function_path::without_arguments(&format!("{:#}", backtrace::SymbolName::new(&name))))
    }

    #[cfg(not(unix))]
    fn symbol(&mut self, _address: usize) -> Option<String> {
        None
    }

    fn intern(&mut self, text: &str) -> Name {
        self.by_text.get(text).copied().unwrap_or_else(|| self.new_name(text))
    }

    fn new_name(&mut self, text: &str) -> Name {
        let name = Name(self.names.len() as u32);
        let path = function_path::of(text);
        let (role, entry) = (internal::role(&path), internal::entry(&path));
        self.names.push(Known { text: text.into(), role, entry, waits: block_reason::waits(&path) });
        self.by_text.insert(text.into(), name);
        name
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::record::unwind::{self, StackBounds};

    #[inline(never)]
    fn outer(out: &mut [usize]) -> usize {
        inlined(out) + std::hint::black_box(0)
    }

    #[inline(always)]
    fn inlined(out: &mut [usize]) -> usize {
        unwind::init();
        unwind::capture(out, StackBounds::of_current_thread())
    }

    #[test]
    fn frames_have_functions_files_lines_and_inlined_callers() {
        let mut pcs = [0; 64];
        let n = outer(&mut pcs);
        let mut symbolizer = Symbolizer::new();
        let texts = |symbolizer: &mut Symbolizer, pc| -> Vec<(String, String, u32)> {
            let frames = symbolizer.frames(pc).to_vec();
            frames.iter().map(|f| (symbolizer.name(f.func).into(), symbolizer.name(f.file).into(), f.line)).collect()
        };
        for _ in 0..2 {
            let all: Vec<_> = pcs[..n].iter().flat_map(|&pc| texts(&mut symbolizer, pc)).collect();
            let at = all
                .iter()
                .position(|f| f.0.starts_with("exectrace::record::symbolize::") && f.0.ends_with("::inlined"))
                .expect("the inlined frame");
            let (inlined, outer, test) = (&all[at], &all[at + 1], &all[at + 2]);
            assert!(inlined.1.ends_with("symbolize.rs") && outer.1.ends_with("symbolize.rs"));
            assert!(outer.0.ends_with("::symbolize::tests::outer"), "{}", outer.0);
            assert!(test.0.contains("frames_have_functions_files"), "{}", test.0);
            assert!(outer.2 > 0 && inlined.2 > outer.2 && test.2 > inlined.2, "{all:?}");
            symbolizer.clear();
            assert_eq!(symbolizer.names_len(), 0);
            assert_eq!(symbolizer.name(Name(0)), "");
        }
    }

    #[test]
    fn each_name_is_kept_once() {
        let mut pcs = [0; 64];
        let n = outer(&mut pcs);
        let mut symbolizer = Symbolizer::new();
        let mut stack = Vec::new();
        symbolizer.stack(&pcs[..n], &mut stack);
        let (names, first) = (symbolizer.names_len(), stack.clone());
        assert!(names > n / 2 && stack.len() >= n - 3);
        symbolizer.stack(&pcs[..n], &mut stack);
        assert_eq!((symbolizer.names_len(), &stack), (names, &first));
    }

    #[test]
    fn stacks_end_at_the_threads_function() {
        let mut symbolizer = Symbolizer::new();
        let mut check = |funcs: &[&str], shown: usize| {
            let file = symbolizer.intern("");
            let frames: Vec<Frame> =
                funcs.iter().map(|func| Frame { func: symbolizer.intern(func), file, line: 0 }).collect();
            assert_eq!(symbolizer.trim_entry(&frames).len(), shown, "{funcs:?}");
        };
        let mark = "std::sys::backtrace::__rust_begin_short_backtrace::<app::main::{closure#0}, ()>";
        let glue = "<app::main::{closure#0} as core::ops::function::FnOnce<()>>::call_once";
        let old_glue = "core::ops::function::FnOnce::call_once";
        check(&["app::f", "app::main::{closure#0}", mark, "std::thread::start", "clone3"], 2);
        check(&["app::f", "app::main", old_glue, mark, "std::rt::lang_start", "main", "_start"], 2);
        // A scope inside of a thread, by a library that does as the standard library does: the outermost counts.
        check(&["app::f", mark, "app::g", mark, "clone3"], 3);
        check(&["app::f", glue, "clone3"], 3);
        check(&["app::f"], 1);
        check(&[mark, "clone3"], 2);
        check(&[old_glue, mark], 2);
        check(&[], 0);
    }

    #[test]
    fn code_without_a_symbol_is_named_after_its_module() {
        let mut symbolizer = Symbolizer::new();
        let text = |symbolizer: &mut Symbolizer, pc: usize| {
            let frames = symbolizer.frames(pc).to_vec();
            assert_eq!((frames.len(), symbolizer.name(frames[0].file), frames[0].line), (1, "", 0));
            symbolizer.name(frames[0].func).to_owned()
        };
        assert_eq!(text(&mut symbolizer, 0x1235), "0x1234");
        assert_eq!(text(&mut symbolizer, 0), "0x0");
        #[cfg(target_os = "linux")]
        {
            // The first bytes of the executable segment of the kernel's module are its notes, not code.
            let modules = modules::modules();
            if let Some(vdso) = modules.iter().find(|module| module.path == "[vdso]") {
                assert_eq!(text(&mut symbolizer, vdso.start + 0x11), "[vdso]+0x10");
            }
        }
    }
}
