//! The texts that the tracer itself writes into traces: reasons that no stack has to tell, and what stops the world.
//!
//! They stand here because both halves need them: the tracer has their numbers ready before a trace begins, and whoever hides
//! names afterwards must know which texts are nobody's.

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// A fixed name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub(crate) enum Fixed { $($(#[$doc])* $name,)* }

        /// All of them, by their discriminants.
        pub(crate) const TEXTS: &[&str] = &[$($text),*];
    };
}

// Where Go has a reason of the same sense, its word is used: its tools know it.
fixed! {
    Sync = "sync";
    CondWait = "sync.(*Cond).Wait";
    Select = "select";
    Network = "network";
    Sleep = "sleep";
    Join = "sync: join";
    Preempted = "preempted";
    SweepTermination = "GC sweep termination";
    MarkTermination = "GC mark termination";
    MinorCollection = "GC minor collection";
    /// Of regions, when there are more names than the table holds.
    OtherNames = "(more names)";
}
