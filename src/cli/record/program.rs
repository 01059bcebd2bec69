//! The program to record: which file it is, and whether the preload library can get into it.
//!
//! The dynamic loader does the preloading. A program that is linked statically has none, and one that runs with more rights than
//! its user's has one that refuses; both would run unrecorded without a word.

use crate::outcome::Failure;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// More `#!` lines than the kernel follows.
const INTERPRETERS_MAX: usize = 5;
/// An ELF file's headers, and a `#!` line, stand in so many bytes, nearly always; else the loader has the last word.
const HEAD_BYTES: u64 = 64 << 10;

/// Looks a program up as a shell does, and refuses it if it cannot be recorded.
pub fn check(name: &OsStr) -> Result<(), Failure> {
    let Some(mut path) = find(name) else {
        return Err(Failure::usage(format_args!("no program {}", Path::new(name).display()), ""));
    };
    for _ in 0..INTERPRETERS_MAX {
        let cannot = |e| Failure::usage(format_args!("cannot read {}: {e}", path.display()), "");
        let file = match File::open(&path) {
            Ok(file) => file,
            // A program that can be run and not read: what it is only the kernel knows.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return Ok(()),
            Err(e) => return Err(cannot(e)),
        };
        rights(&path, &file)?;
        let mut head = Vec::new();
        file.take(HEAD_BYTES).read_to_end(&mut head).map_err(cannot)?;
        match interpreter(&head).and_then(|name| find(&name)) {
            Some(next) => path = next,
            None => return loadable(&path, &head),
        }
    }
    Ok(())
}

fn find(name: &OsStr) -> Option<PathBuf> {
    let is_program = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(|path| is_program(path));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| is_program(path))
}

/// Whose rights the program runs with. The loader ignores `LD_PRELOAD` where they are others than its user's.
fn rights(path: &Path, file: &File) -> Result<(), Failure> {
    let Ok(meta) = file.metadata() else { return Ok(()) };
    let mode = meta.permissions().mode();
    let user = mode & 0o4000 != 0 && meta.uid() != rustix::process::geteuid().as_raw();
    let group = mode & 0o2000 != 0 && meta.gid() != rustix::process::getegid().as_raw();
    if !user && !group {
        return Ok(());
    }
    let kind = if user { "setuid" } else { "setgid" };
    let what = format!("{} is {kind}: the loader preloads nothing into it", path.display());
    Err(Failure::usage(what, "record it as its owner, or a copy without that bit"))
}

/// The interpreter of a script's first line.
fn interpreter(head: &[u8]) -> Option<std::ffi::OsString> {
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let name = line.trim_ascii().split(|b| b.is_ascii_whitespace()).next().filter(|name| !name.is_empty())?;
    Some(OsStr::from_bytes(name).to_owned())
}

fn loadable(path: &Path, head: &[u8]) -> Result<(), Failure> {
    let refuse = |what: &str, hint: &str| Err(Failure::usage(format_args!("{} {what}", path.display()), hint));
    let Ok(header) = elf::FileHeader64::<object::Endianness>::parse(head) else {
        // A script without `#!`, which a shell would run.
        return match head.starts_with(b"\x7fELF") {
            true => refuse("is a 32-bit program: the preload library is of 64 bits", ""),
            false => Ok(()),
        };
    };
    let Ok(endian) = header.endian() else { return Ok(()) };
    let own = if cfg!(target_arch = "x86_64") { elf::EM_X86_64 } else { elf::EM_AARCH64 };
    if header.e_machine(endian) != own {
        return refuse("is a program of another architecture", "");
    }
    let Ok(headers) = header.program_headers(endian, head) else { return Ok(()) };
    let Some(segment) = headers.iter().find(|h| h.p_type(endian) == elf::PT_INTERP) else {
        let hint = "link it dynamically, or build the tracer in: exectrace::interpose!() and exectrace::start()";
        return refuse("is linked statically: there is no loader that could preload anything", hint);
    };
    let loader = segment.data(endian, head).unwrap_or_default();
    if loader.windows(7).any(|w| w == b"ld-musl") {
        return refuse("runs on musl: the preload library needs glibc", "");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_read_as_the_kernel_reads_them() {
        let of = |head: &[u8]| interpreter(head).map(|name| name.into_string().unwrap_or_default());
        assert_eq!(of(b"#!/bin/sh\nexit"), Some("/bin/sh".to_owned()));
        assert_eq!(of(b"#! /usr/bin/env python3 -u\n"), Some("/usr/bin/env".to_owned()));
        assert_eq!(of(b"#!/bin/sh"), Some("/bin/sh".to_owned()));
        assert_eq!(of(b"#!\n"), None);
        assert_eq!(of(b"\x7fELF"), None);
        assert_eq!(of(b""), None);
    }
}
