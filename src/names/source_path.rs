//! The module that a source file holds, from the file's path: for inlined functions, of which "line-tables-only" debug
//! information keeps the bare name only.

/// Our own packages, whatever the directories are called that they were built in: their functions are inlined into the program's, whose
/// name says nothing of ours.
const OWN: [(&str, &str); 2] = [
    (concat!(env!("CARGO_MANIFEST_DIR"), "/src"), "exectrace"),
    (concat!(env!("CARGO_MANIFEST_DIR"), "/alloc-shim/src"), "exectrace_alloc_shim"),
];

/// `.../library/std/src/sync/mpmc/list.rs` holds `std::sync::mpmc::list`, `.../tokio-1.54.1/src/lib.rs` holds `tokio`. `None`
/// for what is no Rust source or lies outside of a package.
///
/// A package's directory need not be called after its crate. `neighbour` is a function and its file: if that is of the same
/// package, the crate is called as the function says.
pub(crate) fn module(file: &str, neighbour: (&str, &str)) -> Option<String> {
    let (package, mut names) = split(file)?;
    let same = split(neighbour.1).is_some_and(|(other, _)| other == package);
    let own = OWN.iter().find(|(directory, _)| *directory == package).map(|(_, krate)| *krate);
    let by_neighbour = neighbour.0.split("::").next().filter(|krate| same && !krate.is_empty());
    let (directory, root) = package.rsplit_once('/')?;
    // Under `tests`, `examples` and `benches` each file is a crate of its own.
    let krate = (root == "src").then(|| match own.or(by_neighbour) {
        Some(krate) => krate.to_owned(),
        None => without_version(directory.rsplit('/').next().unwrap_or_default()).replace('-', "_"),
    });
    // The file that is its directory's module; `main.rs` and `lib.rs` are the crate's.
    let own = *names.last()?;
    if own == "mod" || (krate.is_some() && names.len() == 1 && matches!(own, "lib" | "main")) {
        names.pop();
    }
    Some(krate.as_deref().into_iter().chain(names).collect::<Vec<_>>().join("::"))
}

/// The directory of a package's sources, and the file's path in it, without the extension.
fn split(file: &str) -> Option<(String, Vec<&str>)> {
    let parts = file.strip_suffix(".rs")?.split('/').filter(|part| *part != ".");
    let mut directory: Vec<&str> = parts.collect();
    let root = directory.iter().rposition(|part| matches!(*part, "src" | "tests" | "examples" | "benches"))?;
    let names = directory.split_off(root + 1);
    (!names.is_empty()).then(|| (directory.join("/"), names))
}

/// `crossbeam-channel-0.5.17` without its version, as the registry's directories are named.
fn without_version(directory: &str) -> &str {
    let mut version = directory.match_indices('-').map(|(at, _)| at);
    let starts_with_digit = |at: &usize| directory[at + 1..].starts_with(|c: char| c.is_ascii_digit());
    // The leftmost dash with a digit behind it begins the version, which may have dashes itself (`-alpha.5`).
    version.find(starts_with_digit).map_or(directory, |at| &directory[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_modules() {
        for (file, path) in [
            ("/rustc/59807616e1fa/library/std/src/sync/mpmc/list.rs", Some("std::sync::mpmc::list")),
            ("/rustc/59807616e1fa/library/std/src/sync/mpmc/mod.rs", Some("std::sync::mpmc")),
            ("/rustc/59807616e1fa/library/core/src/lib.rs", Some("core")),
            (
                "/home/u/.cargo/registry/src/index-19/crossbeam-channel-0.5.17/src/flavors/zero.rs",
                Some("crossbeam_channel::flavors::zero"),
            ),
            ("/x/libc-1.0.0-alpha.5/src/lib.rs", Some("libc")),
            ("/x/base64ct/src/lib.rs", Some("base64ct")),
            ("/home/me/my-app/./src/main.rs", Some("my_app")),
            ("/home/me/src/my-app/src/net/server.rs", Some("my_app::net::server")),
            ("/home/me/my-app/tests/slow.rs", Some("slow")),
            ("/home/me/my-app/benches/fast/main.rs", Some("fast::main")),
            ("/home/me/build/out/gen.rs", None),
            ("src/main.rs", None),
            ("/home/me/src.rs", None),
            ("/build/glibc/malloc/malloc.c", None),
            ("", None),
        ] {
            assert_eq!(module(file, ("", "")).as_deref(), path, "{file}");
        }
    }

    #[test]
    fn our_own_packages_are_known() {
        let user = ("app::main", "/home/me/app/src/main.rs");
        for (file, path) in [
            (concat!(env!("CARGO_MANIFEST_DIR"), "/src/hook/heap.rs"), "exectrace::hook::heap"),
            (concat!(env!("CARGO_MANIFEST_DIR"), "/alloc-shim/src/lib.rs"), "exectrace_alloc_shim"),
        ] {
            assert_eq!(module(file, user).as_deref(), Some(path), "{file}");
        }
    }

    #[test]
    fn a_neighbour_knows_what_the_crate_is_called() {
        let neighbour = ("real_name::net::serve", "/home/me/my-app/./src/net.rs");
        for (file, path) in [
            ("/home/me/my-app/src/lib.rs", "real_name"),
            ("/home/me/my-app/src/net/server.rs", "real_name::net::server"),
            ("/home/me/my-lib/src/net.rs", "my_lib::net"),
            ("/home/me/my-app/tests/slow.rs", "slow"),
        ] {
            assert_eq!(module(file, neighbour).as_deref(), Some(path), "{file}");
        }
    }
}
