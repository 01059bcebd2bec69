//! A demangled function name reduced to its path, for the tables: no generic arguments, no traits, no closures.

/// The path of a function: `<a::B<C> as d::E<F>>::g::<H>::{{closure}}` becomes `a::B::g`.
///
/// C symbols lose their version and leading underscores; names that are no path come through nearly unchanged.
pub(crate) fn of(name: &str) -> String {
    if !name.contains("::") {
        return name.split('@').next().unwrap_or_default().trim_start_matches('_').to_owned();
    }
    let mut path = String::with_capacity(name.len());
    push_path(name, &mut path);
    // Closures, in the old and in the new mangling, and shims.
    while let Some((before, last)) = path.rsplit_once("::") {
        if !last.starts_with('{') {
            break;
        }
        path.truncate(before.len());
    }
    path
}

/// The name without the generic arguments of functions: `a::b::<C>::{{closure}}` becomes `a::b::{{closure}}`.
///
/// The older mangling has none, Go writes `[...]` for them, and those of one sort of std fill a screen. Types keep theirs.
pub(crate) fn without_arguments(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = outside_brackets(rest).find_map(|(depth, end)| {
        let arguments = depth == 1 && rest[..end].ends_with("::<");
        arguments.then(|| end - 1)
    }) {
        short.push_str(rest[..at].trim_end_matches("::"));
        rest = split_angle(&rest[at..]).1;
    }
    short + rest
}

/// Copies a path without its generic arguments. Of a qualified one, `<type as trait>::item`, the type stands for the trait.
fn push_path(mut name: &str, path: &mut String) {
    // What follows the brackets around a type at the path's beginning; there may be brackets within brackets.
    let mut behind = Vec::new();
    loop {
        while name.starts_with('<') {
            let (inside, rest) = split_angle(name);
            behind.push(rest);
            name = qualified_type(inside);
        }
        let Some(at) = name.find('<') else {
            path.push_str(name);
            match behind.pop() {
                // A type of brackets only has no name, so the next part does not begin a path.
                Some(rest) => name = rest.strip_prefix('<').unwrap_or(rest),
                None => return,
            }
            continue;
        };
        // `Vec::<T>::push`: what follows brings its own separator.
        path.push_str(name[..at].trim_end_matches("::"));
        let (_, rest) = split_angle(&name[at..]);
        // To be appended as it is, brackets that may follow included.
        name = rest.strip_prefix('<').unwrap_or(rest);
    }
}

/// Splits `<inside>behind`.
fn split_angle(text: &str) -> (&str, &str) {
    match outside_brackets(text).find(|&(depth, at)| depth == 0 && at > 0) {
        Some((_, at)) => (&text[1..at - 1], &text[at..]),
        None => (&text[1..], ""),
    }
}

/// The type of `type as trait`, without references.
fn qualified_type(inside: &str) -> &str {
    let end = outside_brackets(inside).find(|&(depth, at)| depth == 0 && inside[at..].starts_with(" as "));
    let ty = inside[..end.map_or(inside.len(), |(_, at)| at)].trim_start_matches('&');
    ty.strip_prefix("mut ").unwrap_or(ty)
}

/// The depth of brackets at each place in `text`. The arrow of a function type is no bracket.
fn outside_brackets(text: &str) -> impl Iterator<Item = (i32, usize)> {
    let (mut depth, mut before) = (0, ' ');
    text.char_indices().map(move |(at, c)| {
        depth += match c {
            '<' | '(' | '[' => 1,
            ')' | ']' => -1,
            '>' if before != '-' => -1,
            _ => 0,
        };
        before = c;
        (depth, at + c.len_utf8())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_lose_their_arguments_and_types_keep_them() {
        for (name, short) in [
            ("a::b::<C>::{closure#0}", "a::b::{closure#0}"),
            ("<a::B<C>>::d::<E<F>, fn(G) -> H>", "<a::B<C>>::d"),
            ("<a::B<C> as d::E<F>>::g::<H>::i::<J>", "<a::B<C> as d::E<F>>::g::i"),
            ("<a::b::<C>::D as e::F>::g", "<a::b::<C>::D as e::F>::g"),
            ("a::b<C>", "a::b<C>"),
            ("a::b::<C", "a::b"),
            ("operator<<", "operator<<"),
            ("é::ü::<ö>", "é::ü"),
            ("", ""),
        ] {
            assert_eq!(without_arguments(name), short, "{name}");
        }
    }

    #[test]
    fn paths_have_no_generics_traits_or_closures() {
        for (name, path) in [
            ("std::sync::mpmc::list::Channel<T>::recv", "std::sync::mpmc::list::Channel::recv"),
            ("<std::sync::mpmc::list::Channel<i32>>::recv", "std::sync::mpmc::list::Channel::recv"),
            ("<std::sync::mpmc::Receiver<i32>>::recv::{closure#0}", "std::sync::mpmc::Receiver::recv"),
            ("std::sync::mpmc::zero::Channel<T>::send::{{closure}}", "std::sync::mpmc::zero::Channel::send"),
            ("a::b::{{closure}}::{{closure}}", "a::b"),
            ("<a::B<C> as d::E<F>>::g::<H>::{{closure}}", "a::B::g"),
            ("<&mut a::B as d::E>::g", "a::B::g"),
            ("<a::B<fn(u8) -> c::D> as e::F>::g", "a::B::g"),
            ("<a::B<(c::D, [e::F; 2])> as g::H>::i", "a::B::i"),
            ("a::Vec::<T>::push", "a::Vec::push"),
            (
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
                "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            ),
            ("pthread_cond_wait@@GLIBC_2.3.2", "pthread_cond_wait"),
            ("___pthread_mutex_lock", "pthread_mutex_lock"),
            ("main", "main"),
            ("", ""),
            ("libc.so.6+0x1234", "libc.so.6+0x1234"),
            ("<<a::B<C> as d::E>::F as g::H>::i", "a::B::F::i"),
            ("<[a::B] as c::D>::e", "[a::B]::e"),
            ("<broken::", "broken::"),
            ("a::b<c", "a::b"),
            ("é::ü<ö>::ß", "é::ü::ß"),
        ] {
            assert_eq!(of(name), path, "{name}");
        }
    }
}
