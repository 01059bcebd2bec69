//! Executables and libraries, found by build id, and asked for the names behind addresses.

use crate::names::{function_path, has_path, source_path};
use addr2line::Loader;
use object::{Object, ObjectSegment, SegmentFlags};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where binaries are looked for.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Binaries {
    /// Binaries, or files with their debug information. They come first.
    pub files: Vec<PathBuf>,
    /// Directories of debug information by build id, as `/usr/lib/debug` is: `.build-id/ab/cdef.debug`.
    pub debug_dirs: Vec<PathBuf>,
}

/// A frame by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FrameName {
    pub(super) func: String,
    pub(super) file: String,
    pub(super) line: u32,
}

/// A binary of a module of the trace.
pub(super) struct Binary {
    file: Rc<BinaryFile>,
    /// The module's first address.
    start: u64,
}

/// A file with names, for all modules of all traces that it is the binary of: its debug information is read once.
pub(super) struct BinaryFile {
    loader: Loader,
    /// What a module's first address is in the file's own numbering.
    own_start: u64,
    path: PathBuf,
    /// By address in the file's own numbering.
    known: RefCell<HashMap<u64, Rc<[FrameName]>>>,
}

/// What is known of the modules of all traces so far: their files, or why there is none. By all of a module but where it lies.
pub(super) type Files = HashMap<(String, String, u64), Result<Rc<BinaryFile>, String>>;

/// A module of the trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Module {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) file_offset: u64,
    pub(super) build_id: String,
    pub(super) path: String,
}

impl Binaries {
    /// The binary of a module, or why there is none.
    pub(super) fn find(&self, module: &Module, files: &mut Files) -> Result<Binary, String> {
        let key = (module.path.clone(), module.build_id.clone(), module.file_offset);
        let file = files.entry(key).or_insert_with(|| self.open(module).map(Rc::new)).clone()?;
        Ok(Binary { file, start: module.start })
    }

    fn open(&self, module: &Module) -> Result<BinaryFile, String> {
        let mut why = "not found".to_owned();
        let given = self.files.iter().cloned();
        let by_id = self.debug_dirs.iter().flat_map(|dir| {
            let (first, rest) = module.build_id.split_at_checked(2).unwrap_or_default();
            let name = format!("{first}/{rest}.debug");
            [dir.join(".build-id").join(&name), dir.join(&name)].into_iter().filter(move |_| !first.is_empty())
        });
        for path in given.chain(by_id).chain([PathBuf::from(&module.path)]) {
            match BinaryFile::open(&path, module) {
                Ok(Some(binary)) => return Ok(binary),
                // Of the file that ran it is said why it does not do; of others only that none fits.
                Ok(None) if path == Path::new(&module.path) => why = "another build is there now".to_owned(),
                Ok(None) => {}
                Err(e) if path.exists() => why = format!("{}: {e}", path.display()),
                Err(_) => {}
            }
        }
        Err(why)
    }
}

impl Binary {
    /// The frames at an address of the process: innermost inlined function first. None if nothing is known of it.
    pub(super) fn frames(&self, address: u64) -> Rc<[FrameName]> {
        let own = address.wrapping_sub(self.start).wrapping_add(self.file.own_start);
        self.file.known.borrow_mut().entry(own).or_insert_with(|| self.file.frames(own).into()).clone()
    }

    /// The file that gives the names.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }
}

impl BinaryFile {
    /// Opens a file as the binary of a module; `None` if it is not of the same build.
    fn open(path: &Path, module: &Module) -> Result<Option<BinaryFile>, Box<dyn std::error::Error>> {
        if !path.is_file() {
            return Err("no such file".into());
        }
        let file = std::fs::File::open(path)?;
        let cache = object::ReadCache::new(file);
        let object = object::File::parse(&cache)?;
        let id: String = object.build_id()?.unwrap_or_default().iter().map(|b| format!("{b:02x}")).collect();
        // Without an id in the trace the name must do, and a file that has one is another.
        let same_name = path.file_name() == Path::new(&module.path).file_name();
        if id != module.build_id || (id.is_empty() && !same_name) {
            return Ok(None);
        }
        let code: Vec<_> = object
            .segments()
            .filter(|s| matches!(s.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & object::elf::PF_X.0 != 0))
            .collect();
        // A file with nothing but debug information may have its segments elsewhere.
        let segment = code.iter().find(|s| s.file_range().0 == module.file_offset).or(match &code[..] {
            [only] => Some(only),
            _ => None,
        });
        let own_start = segment.ok_or("no such segment of code")?.address();
        let loader = Loader::new(path)?;
        Ok(Some(BinaryFile { loader, own_start, path: path.into(), known: RefCell::default() }))
    }

    /// The frames at an address of the file. The names are those that the tracer gives when it names frames itself.
    fn frames(&self, own: u64) -> Vec<FrameName> {
        let symbol = || {
            let name = demangled(self.loader.find_symbol(own)?.into());
            Some(name).filter(|n| !n.is_empty())
        };
        let mut found = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(own) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|f| Some(demangled(f.raw_name().ok()?)));
                let Some(func) = name else { continue };
                let file = frame.location.as_ref().and_then(|l| l.file).unwrap_or_default().to_owned();
                let line = frame.location.as_ref().and_then(|l| l.line).unwrap_or(0);
                found.push(FrameName { func, file, line });
            }
        }
        let Some(last) = found.last_mut() else {
            return symbol().map(|func| FrameName { func, file: String::new(), line: 0 }).into_iter().collect();
        };
        // Bare names: debug information of the level "line-tables-only". The last frame is the real function.
        if !has_path(&last.func)
            && let Some(full) = symbol().filter(|s| has_path(s))
        {
            last.func = full;
        }
        let real = (function_path::of(&last.func), last.file.clone());
        let inlined = found.len() - 1;
        for f in &mut found[..inlined] {
            if !has_path(&f.func)
                && let Some(module) = source_path::module(&f.file, (&real.0, &real.1))
            {
                let bare = f.func.split('<').next().unwrap_or_default();
                f.func = format!("{module}::{bare}");
            }
        }
        found
    }
}

/// A function's name as people read it, without the compiler's hash and its generic arguments.
fn demangled(name: Cow<'_, str>) -> String {
    function_path::without_arguments(&addr2line::demangle_auto(name, None))
}
