//! [`Collect`]: how the heap finds the references inside a value, and the implementations for ordinary types.
//!
//! Embedders do not write `unsafe`: [`collect_fields!`](crate::collect_fields) and
//! [`collect_static!`](crate::collect_static) make the implementation, and a field forgotten, or of a type that could
//! hide a reference, does not compile.

use super::array::GcArray;
use super::pointer::Gc;
use super::raw::RawVisitor;
use super::weak::EphemeronBox;

/// A type that may live on the heap.
///
/// Implemented by `#[derive(Collect)]` (feature `derive`), or by [`collect_fields!`](crate::collect_fields) without a
/// procedural macro:
#[cfg_attr(feature = "derive", doc = "```")]
#[cfg_attr(not(feature = "derive"), doc = "```ignore")]
/// use exectrace::gc::{Collect, Gc, GcCell};
/// #[derive(Collect)]
/// struct Node<'gc> {
///     next: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
///     name: String,
///     #[collect(require_static)]
///     file: std::fs::File,
/// }
/// ```
/// A type that the heap knows nothing of, and one that is not `'static` but is said to be:
/// ```compile_fail,E0277
/// # use exectrace::gc::{Collect, Gc};
/// #[derive(Collect)]
/// struct Bad<'gc> { of: &'gc u32, ok: Gc<'gc, u32> }
/// ```
/// ```compile_fail
/// # use exectrace::gc::{Collect, Gc};
/// #[derive(Collect)]
/// struct Bad<'gc> { #[collect(require_static)] of: Gc<'gc, u32> }
/// ```
/// ```compile_fail
/// # use exectrace::gc::{Collect, Gc, Mutation};
/// #[derive(Collect)]
/// #[collect(require_static)]
/// struct Bad<'gc> { of: Gc<'gc, u32> } // implemented for `Bad<'static>`, which cannot be made
/// fn bad<'gc>(mc: &Mutation<'gc>, of: Gc<'gc, u32>) { mc.alloc(Bad { of }); }
/// ```
/// A cell that would change without a write barrier, and a `Drop` that could look at what is gone:
/// ```compile_fail
/// # use exectrace::gc::{Collect, Gc};
/// #[derive(Collect)]
/// struct Bad<'gc> { of: std::cell::Cell<Option<Gc<'gc, u32>>> }
/// ```
/// ```compile_fail,E0119
/// # use exectrace::gc::{Collect, Gc};
/// #[derive(Collect)]
/// struct Bad<'gc> { of: Gc<'gc, u32> }
/// impl Drop for Bad<'_> { fn drop(&mut self) { println!("{}", *self.of); } }
/// ```
///
/// # Safety
/// * `visit` must show **every** [`Gc`] that the value holds, directly or in memory that it owns, to the visitor, every
///   time. One that is not shown is freed while it can still be reached.
/// * `visit` must only read, and must not touch the heap in any other way. It must not write to anything that others can
///   reach, such as the borrow flag of a `RefCell`, a reference count, or a thread-local: a heap with
///   [`Config::mark_threads`](super::Config::mark_threads) calls it on threads of its own, for several values at the same
///   time, while the heap's thread stands still or marks as well. For the same reason it must read nothing that a third thread
///   may write to, unless by atomics or under a lock that nobody holds while a heap marks.
/// * Dropping the value must not read through any [`Gc`] in it: what it refers to may be gone.
/// * No reference may be stored into the value after it was allocated except through [`GcCell`](super::GcCell) and its
///   like, which tell the heap.
/// * `NEEDS_VISIT` may be `false` only if no value of the type ever holds a [`Gc`].
pub unsafe trait Collect {
    /// Whether values of the type can hold references. The heap never looks into one that cannot.
    const NEEDS_VISIT: bool = true;

    /// Shows every reference in `self` to `visitor`.
    fn visit<V: Visitor>(&self, visitor: &mut V);
}

/// What goes through the references of a value: the marker, and those who look at the heap.
pub trait Visitor: sealed::Sealed {
    /// A reference.
    fn edge<T: Collect>(&mut self, to: Gc<'_, T>);

    /// A reference to an array.
    fn array<T: Collect>(&mut self, to: GcArray<'_, T>);

    /// An ephemeron: its value counts only if its key is alive.
    fn ephemeron<V: Collect>(&mut self, of: &EphemeronBox<V>);

    /// References without a type, which `visit` shows.
    #[doc(hidden)]
    fn raw(&mut self, visit: impl FnOnce(&mut RawVisitor<'_>));

    /// Says which field the references come from that follow.
    #[inline(always)]
    fn field(&mut self, name: &'static str) {
        let _ = name;
    }
}

pub(super) mod sealed {
    pub trait Sealed {}
}

// SAFETY: the one reference is shown; a `Gc` does nothing when dropped and cannot be changed in place.
unsafe impl<T: Collect> Collect for Gc<'_, T> {
    #[inline(always)]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        visitor.edge(*self);
    }
}

/// Implements [`Collect`](crate::gc::Collect) for types that hold no references into the heap.
///
/// ```
/// struct Point { x: f64, y: f64 }
/// struct Name(String);
/// exectrace::collect_static!(Point, Name);
/// # fn main() {}
/// ```
/// A type with a reference is refused, since it has a lifetime:
/// ```compile_fail,E0261
/// use exectrace::gc::Gc;
/// struct Holder<'gc>(Gc<'gc, u32>);
/// exectrace::collect_static!(Holder<'gc>);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! collect_static {
    ($($t:ty),+ $(,)?) => {$(
        // SAFETY: a type that is `'static` cannot hold a `Gc`, whose brand lives no longer than a call of `mutate`.
        unsafe impl $crate::gc::Collect for $t
        where
            $t: 'static,
        {
            const NEEDS_VISIT: bool = false;
            #[inline(always)]
            fn visit<V: $crate::gc::Visitor>(&self, _: &mut V) {}
        }
    )+};
}

macro_rules! leaves {
    ($($t:ty),+ $(,)?) => {$(
        // SAFETY: the type holds no references.
        unsafe impl Collect for $t {
            const NEEDS_VISIT: bool = false;
            #[inline(always)]
            fn visit<V: Visitor>(&self, _: &mut V) {}
        }
    )+};
}
leaves!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    str,
    String,
    &'static str,
    std::rc::Rc<str>,
    std::sync::Arc<str>,
    std::num::NonZeroU8,
    std::num::NonZeroU16,
    std::num::NonZeroU32,
    std::num::NonZeroU64,
    std::num::NonZeroUsize,
    std::num::NonZeroI8,
    std::num::NonZeroI16,
    std::num::NonZeroI32,
    std::num::NonZeroI64,
    std::num::NonZeroIsize,
    std::time::Duration,
    std::time::Instant,
    std::path::PathBuf,
    std::ffi::OsString,
);

// SAFETY: no value of `T` is held.
unsafe impl<T: ?Sized> Collect for core::marker::PhantomData<T> {
    const NEEDS_VISIT: bool = false;
    #[inline(always)]
    fn visit<V: Visitor>(&self, _: &mut V) {}
}

// SAFETY: `T` is `'static` and holds no reference, however it changes.
unsafe impl<T: 'static> Collect for core::cell::Cell<T> {
    const NEEDS_VISIT: bool = false;
    #[inline(always)]
    fn visit<V: Visitor>(&self, _: &mut V) {}
}

// SAFETY: `T` is `'static` and holds no reference, however it changes.
unsafe impl<T: 'static> Collect for core::cell::RefCell<T> {
    const NEEDS_VISIT: bool = false;
    #[inline(always)]
    fn visit<V: Visitor>(&self, _: &mut V) {}
}

/// A value of any `'static` type as an object or a field: it holds no references, and the heap does not look into it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Static<T: 'static>(pub T);

// SAFETY: `T` is `'static` and holds no reference.
unsafe impl<T: 'static> Collect for Static<T> {
    const NEEDS_VISIT: bool = false;
    #[inline(always)]
    fn visit<V: Visitor>(&self, _: &mut V) {}
}

impl<T: 'static> core::ops::Deref for Static<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

macro_rules! containers {
    ($([$($g:tt)*] $t:ty, $x:pat => $($p:ident $v:ident)|+;)+) => {$(
        // SAFETY: every element is shown. The standard containers do not read through references when dropped,
        // and do not change behind a shared borrow.
        unsafe impl<$($g)*> Collect for $t {
            const NEEDS_VISIT: bool = false $(|| $p::NEEDS_VISIT)+;
            #[inline]
            fn visit<Vis: Visitor>(&self, visitor: &mut Vis) {
                for $x in self.iter() {
                    $($v.visit(visitor);)+
                }
            }
        }
    )+};
}
containers! {
    [T: Collect] [T], x => T x;
    [T: Collect, const N: usize] [T; N], x => T x;
    [T: Collect] Vec<T>, x => T x;
    [T: Collect] std::collections::VecDeque<T>, x => T x;
    [T: Collect] Option<T>, x => T x;
    [K: Collect, V: Collect, S: 'static] std::collections::HashMap<K, V, S>, (k, v) => K k | V v;
    [K: Collect, V: Collect] std::collections::BTreeMap<K, V>, (k, v) => K k | V v;
    [K: Collect, S: 'static] std::collections::HashSet<K, S>, k => K k;
    [K: Collect] std::collections::BTreeSet<K>, k => K k;
}

// SAFETY: shows what it owns. (There is no implementation for `&T`: it could point into the heap and keep nothing
// alive.)
unsafe impl<T: Collect + ?Sized> Collect for Box<T> {
    const NEEDS_VISIT: bool = T::NEEDS_VISIT;
    #[inline]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        (**self).visit(visitor);
    }
}

// SAFETY: whichever value it is, it is shown.
unsafe impl<T: Collect, E: Collect> Collect for Result<T, E> {
    const NEEDS_VISIT: bool = T::NEEDS_VISIT || E::NEEDS_VISIT;
    #[inline]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        match self {
            Ok(x) => x.visit(visitor),
            Err(x) => x.visit(visitor),
        }
    }
}

macro_rules! tuples {
    ($(($($t:ident $n:tt),+))+) => {$(
        // SAFETY: every member is shown.
        unsafe impl<$($t: Collect),+> Collect for ($($t,)+) {
            const NEEDS_VISIT: bool = false $(|| $t::NEEDS_VISIT)+;
            #[inline]
            fn visit<Vis: Visitor>(&self, visitor: &mut Vis) {
                $(self.$n.visit(visitor);)+
            }
        }
    )+};
}
tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// Implements [`Collect`](crate::gc::Collect) for a struct or an enum by naming its fields. All of them: a forgotten
/// one does not compile.
///
/// The generics stand in brackets, and bounds on type parameters after `where`, each followed by a comma. A type that
/// implements `Drop` is refused, since its `drop` could read a reference to an object that is gone; let the field that
/// needs it implement `Drop` instead.
///
/// ```
/// use exectrace::gc::{Gc, GcCell};
///
/// struct Node<'gc> {
///     next: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
///     name: String,
/// }
/// exectrace::collect_fields!(impl['gc] struct Node<'gc> { next, name });
///
/// enum Value<'gc> {
///     Nil,
///     Number(f64),
///     Pair(Gc<'gc, Value<'gc>>, Gc<'gc, Value<'gc>>),
///     Object { class: u32, fields: Vec<Value<'gc>> },
/// }
/// exectrace::collect_fields!(impl['gc] enum Value<'gc> {
///     Nil,
///     Number(n),
///     Pair(head, tail),
///     Object { class, fields },
/// });
///
/// struct Pair<A, B>(A, B);
/// exectrace::collect_fields!(impl[A, B] struct Pair<A, B>(a, b) where A: exectrace::gc::Collect, B: exectrace::gc::Collect,);
/// # fn main() {}
/// ```
/// A field that is left out:
/// ```compile_fail,E0027
/// struct Two { a: u32, b: u32 }
/// exectrace::collect_fields!(impl[] struct Two { a });
/// # fn main() {}
/// ```
/// A field whose type the heap knows nothing of, such as a cell that would change without a write barrier:
/// ```compile_fail,E0477
/// use exectrace::gc::Gc;
/// struct Bad<'gc> { next: std::cell::Cell<Option<Gc<'gc, u32>>> }
/// exectrace::collect_fields!(impl['gc] struct Bad<'gc> { next });
/// # fn main() {}
/// ```
/// A plain reference, which keeps nothing alive:
/// ```compile_fail,E0277
/// struct Bad<'gc> { of: &'gc u32 }
/// exectrace::collect_fields!(impl['gc] struct Bad<'gc> { of });
/// # fn main() {}
/// ```
/// A type with `Drop`:
/// ```compile_fail,E0119
/// struct File { fd: i32 }
/// impl Drop for File { fn drop(&mut self) {} }
/// exectrace::collect_fields!(impl[] struct File { fd });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! collect_fields {
    (impl[$($g:tt)*] struct $name:ident $(<$($a:tt),*>)? { $($f:ident),* $(,)? } $(where $($w:tt)*)?) => {
        $crate::collect_fields!(@impl [$($g)*] [$name $(<$($a),*>)?] [$($($w)*)?] { $name { $($f),* } => [$($f)*], });
    };
    (impl[$($g:tt)*] struct $name:ident $(<$($a:tt),*>)? ( $($f:ident),* $(,)? ) $(where $($w:tt)*)?) => {
        $crate::collect_fields!(@impl [$($g)*] [$name $(<$($a),*>)?] [$($($w)*)?] { $name ( $($f),* ) => [$($f)*], });
    };
    (impl[$($g:tt)*] enum $name:ident $(<$($a:tt),*>)? {
        $($v:ident $(( $($tf:ident),* $(,)? ))? $({ $($sf:ident),* $(,)? })?),* $(,)?
    } $(where $($w:tt)*)?) => {
        $crate::collect_fields!(@impl [$($g)*] [$name $(<$($a),*>)?] [$($($w)*)?] {
            $($name::$v $(( $($tf),* ))? $({ $($sf),* })? => [$($($tf)*)? $($($sf)*)?],)*
        });
    };
    (@impl [$($g:tt)*] [$t:ty] [$($w:tt)*] { $($p:pat => [$($f:ident)*],)* }) => {
        const _: () = {
            // Both implementations overlap where the type has a `Drop`, and the compiler says so.
            #[allow(dead_code)]
            trait MustNotImplementDrop {}
            #[allow(drop_bounds)]
            impl<T: Drop> MustNotImplementDrop for T {}
            impl<$($g)*> MustNotImplementDrop for $t where $($w)* {}
        };
        // SAFETY: the pattern names every field of every variant, or it does not compile; each is shown. There is no
        // `Drop` of its own.
        unsafe impl<$($g)*> $crate::gc::Collect for $t where $($w)* {
            #[inline]
            #[allow(unused_variables, non_shorthand_field_patterns)]
            fn visit<Vis: $crate::gc::Visitor>(&self, visitor: &mut Vis) {
                match self {
                    $($p => {
                        $(
                            $crate::gc::Visitor::field(visitor, stringify!($f));
                            $crate::gc::Collect::visit($f, visitor);
                        )*
                    })*
                }
            }
        }
    };
}
