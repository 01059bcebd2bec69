//! The full names of functions, from an executable's own symbol table.
//!
//! Debug information of the level "line-tables-only" names functions without their paths: `park`, not
//! `std::thread::park`. The symbol table has the whole name of each function that is not inlined. Only the addresses are
//! kept; a name is read from the file when it is asked for.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The functions of one ELF file (64 bits, of this machine's byte order).
pub(super) struct SymbolTable {
    file: File,
    /// The place of the string table in the file.
    strings: u64,
    /// Sorted by address.
    functions: Vec<Function>,
}

/// An address range of the file, and the place of its name in the string table.
struct Function {
    start: u64,
    size: u64,
    name: u32,
}

// Sizes and numbers of `elf.h`.
const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;
const SECTION_SYMBOLS: u32 = 2;
const SYMBOL_FUNCTION: u8 = 2;
/// Names are read in one piece of this size; longer ones are cut. The trace format allows 1,024.
const NAME_BYTES_MAX: usize = 8192;

impl SymbolTable {
    /// Reads the table of a file. `None` if it has none (it was stripped), or is no such file.
    pub(super) fn open(path: &str) -> Option<Self> {
        let file = File::open(path).ok()?;
        let file_bytes = file.metadata().ok()?.len();
        let header = read(&file, file_bytes, 0, HEADER_BYTES as u64)?;
        // Class 64 bits.
        (header.starts_with(b"\x7fELF") && header[4] == 2).then_some(())?;
        let (sections_at, count) = (u64_at(&header, 40)?, u16_at(&header, 60)?);
        let sections = read(&file, file_bytes, sections_at, count as u64 * SECTION_BYTES as u64)?;
        let section = |i: usize| sections.chunks_exact(SECTION_BYTES).nth(i);
        let symbols = sections.chunks_exact(SECTION_BYTES).find(|s| u32_at(s, 4) == Some(SECTION_SYMBOLS))?;
        let strings = u64_at(section(u32_at(symbols, 40)? as usize)?, 24)?;
        let symbols = read(&file, file_bytes, u64_at(symbols, 24)?, u64_at(symbols, 32)?)?;
        let mut functions: Vec<Function> = symbols.chunks_exact(SYMBOL_BYTES).filter_map(function).collect();
        functions.sort_by_key(|f| f.start);
        functions.shrink_to_fit();
        Some(SymbolTable { file, strings, functions })
    }

    /// The mangled name of the function at an address of the file's own numbering.
    pub(super) fn name_at(&self, address: u64) -> Option<Vec<u8>> {
        let behind = self.functions.partition_point(|f| f.start <= address);
        let function = self.functions[..behind].last().filter(|f| address - f.start < f.size)?;
        let mut name = vec![0; NAME_BYTES_MAX];
        let n = self.file.read_at(&mut name, self.strings.checked_add(function.name as u64)?).ok()?;
        name.truncate(name[..n].iter().position(|&b| b == 0)?);
        Some(name)
    }
}

fn function(symbol: &[u8]) -> Option<Function> {
    let (name, start, size) = (u32_at(symbol, 0)?, u64_at(symbol, 8)?, u64_at(symbol, 16)?);
    (symbol[4] & 15 == SYMBOL_FUNCTION && size > 0 && start > 0).then_some(Function { start, size, name })
}

/// Reads a piece of the file, if the file is long enough.
fn read(file: &File, file_bytes: u64, at: u64, bytes: u64) -> Option<Vec<u8>> {
    (at.checked_add(bytes)? <= file_bytes).then_some(())?;
    let mut piece = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut piece, at).ok()?;
    Some(piece)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use crate::record::modules;

    #[test]
    fn this_program_knows_its_own_functions() {
        let address = this_program_knows_its_own_functions as fn() as usize;
        let modules = modules::modules();
        let module = modules::find(&modules, address).expect("this program");
        let table = SymbolTable::open(&module.path).expect("test programs are not stripped");
        for inside in [0, 1] {
            let name = table.name_at((address + inside - module.load_bias) as u64).expect("this function");
            let name = format!("{:#}", backtrace::SymbolName::new(&name));
            // A closure may have been merged with it, so only the module is certain.
            assert!(
                name.contains("symbolize::symbol_table::tests::this_program") || name.contains("call_once"),
                "{name}"
            );
        }
        assert_eq!(table.name_at(0), None);
        assert_eq!(table.name_at(u64::MAX), None);
    }

    #[test]
    fn broken_files_have_no_table() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let path = std::env::temp_dir().join(format!("exectrace-symbols-{}", std::process::id()));
        let sections = u64_at(&bytes, 40).unwrap() as usize;
        for cut in [0, 3, 63, 64, sections, sections + 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            assert!(SymbolTable::open(path.to_str().unwrap()).is_none(), "cut to {cut} of {}", bytes.len());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(SymbolTable::open(path.to_str().unwrap()).is_none());
        assert!(SymbolTable::open("/").is_none());
    }
}
