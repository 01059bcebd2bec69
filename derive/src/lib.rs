//! `#[derive(Collect)]`: shows the heap what a type refers to, field by field.
//!
//! The code that comes out contains an `unsafe impl`, which holds because every field is shown or proven to be
//! `'static`, and because a type with a `Drop` of its own is refused. It stands on `exectrace::gc` and on nothing else;
//! what is documented there is tested there.

#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, GenericParam, Ident, Result, parse_macro_input, parse_quote};

/// Implements `exectrace::gc::Collect` for a struct or an enum.
///
/// Every field's type must implement `Collect`. Type parameters get that bound by themselves. On a field, or on the
/// whole type:
///
/// * `#[collect(require_static)]`: the type is `'static`, so that it cannot hold references into the heap, and need not
///   implement `Collect`.
///
/// On the type, for those who come from other collectors, `#[collect(no_drop)]` is accepted and means nothing: it is
/// always checked.
#[proc_macro_derive(Collect, attributes(collect))]
pub fn derive_collect(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let whole_is_static = has_require_static(&input.attrs, true)?;
    let name = &input.ident;
    let mut generics = input.generics.clone();
    let params: Vec<Ident> = generics.type_params().map(|p| p.ident.clone()).collect();
    let has_lifetime = generics.params.iter().any(|p| matches!(p, GenericParam::Lifetime(_)));
    let bounds = generics.make_where_clause();
    if whole_is_static {
        let (_, args, _) = input.generics.split_for_impl();
        bounds.predicates.push(parse_quote!(#name #args: 'static));
    } else {
        for p in &params {
            bounds.predicates.push(parse_quote!(#p: ::exectrace::gc::Collect));
        }
    }
    let visits = if whole_is_static { quote!() } else { visit_all(&input.data)? };
    // A type without lifetimes can hold references only through its parameters. (To ask every field instead would not
    // end for a type that contains itself in a box.)
    let needs_visit = if whole_is_static {
        quote!(false)
    } else if has_lifetime {
        quote!(true)
    } else {
        quote!(false #(|| <#params as ::exectrace::gc::Collect>::NEEDS_VISIT)*)
    };
    let (impl_generics, args, where_clause) = generics.split_for_impl();
    Ok(quote! {
        const _: () = {
            // Both implementations overlap where the type has a `Drop`, and the compiler says so.
            trait MustNotImplementDrop {}
            #[allow(drop_bounds)]
            impl<T: ::core::ops::Drop> MustNotImplementDrop for T {}
            impl #impl_generics MustNotImplementDrop for #name #args #where_clause {}

            // SAFETY: every field of every variant is shown, or was proven to be `'static`; there is no `Drop` of its
            // own.
            #[automatically_derived]
            unsafe impl #impl_generics ::exectrace::gc::Collect for #name #args #where_clause {
                const NEEDS_VISIT: bool = #needs_visit;
                #[inline]
                #[allow(unused_variables)]
                fn visit<__V: ::exectrace::gc::Visitor>(&self, visitor: &mut __V) {
                    fn require_static<T: ?Sized + 'static>(_: &T) {}
                    #visits
                }
            }
        };
    })
}

/// The match over all variants.
fn visit_all(data: &Data) -> Result<TokenStream> {
    let arms = match data {
        Data::Struct(s) => vec![arm(&quote!(Self), &s.fields)?],
        Data::Enum(e) => e
            .variants
            .iter()
            .map(|v| {
                let ident = &v.ident;
                arm(&quote!(Self::#ident), &v.fields)
            })
            .collect::<Result<_>>()?,
        Data::Union(u) => {
            return Err(Error::new(u.union_token.span, "a union does not say which of its fields holds a reference"));
        }
    };
    if arms.is_empty() {
        return Ok(quote!(match *self {}));
    }
    Ok(quote!(match self { #(#arms)* }))
}

fn arm(path: &TokenStream, fields: &Fields) -> Result<TokenStream> {
    let bindings: Vec<Ident> = (0..fields.len()).map(|i| format_ident!("field_{i}")).collect();
    let members = fields.members();
    let visits =
        fields.iter().zip(&bindings).enumerate().map(|(i, (f, b))| visit(i, f, b)).collect::<Result<Vec<_>>>()?;
    Ok(quote!(#path { #(#members: #bindings),* } => { #(#visits)* }))
}

fn visit(index: usize, field: &Field, binding: &Ident) -> Result<TokenStream> {
    let span = field.ty.span();
    if has_require_static(&field.attrs, false)? {
        return Ok(quote_spanned!(span=> require_static(#binding);));
    }
    let name = field.ident.as_ref().map_or_else(|| index.to_string(), Ident::to_string);
    let name = name.trim_start_matches("r#");
    Ok(quote_spanned! {span=>
        ::exectrace::gc::Visitor::field(visitor, #name);
        ::exectrace::gc::Collect::visit(#binding, visitor);
    })
}

fn has_require_static(attrs: &[syn::Attribute], on_type: bool) -> Result<bool> {
    let mut found = false;
    for attr in attrs.iter().filter(|a| a.path().is_ident("collect")) {
        attr.parse_nested_meta(|meta| {
            if meta.path.is_ident("require_static") {
                found = true;
                Ok(())
            } else if on_type && meta.path.is_ident("no_drop") {
                Ok(())
            } else {
                Err(meta.error("known here: `require_static`"))
            }
        })?;
    }
    Ok(found)
}
