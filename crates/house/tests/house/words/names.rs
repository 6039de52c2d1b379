//! The names that a Rust source declares, with what each of them names.

use proc_macro2::{Ident, Literal, Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// What a name names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// A file or a directory.
    File,
    Module,
    /// A function, a method, or a recipe of the justfile.
    Function,
    /// A function that the test runner calls; its name is a sentence.
    Test,
    Type,
    Variant,
    Field,
    Constant,
    Macro,
    /// A local variable or a parameter.
    Local,
    /// A string that is one name: of a metric, a label, a setting, a span, a column.
    Text,
    Sql,
    Proto,
    Lua,
}

/// A declared name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Name {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) line: usize,
}

/// Every name that a Rust source declares.
pub(crate) fn of_rust(text: &str) -> Result<Vec<Name>, syn::Error> {
    let file = syn::parse_file(text)?;
    let mut names = Names(Vec::new());
    names.visit_file(&file);
    Ok(names.0)
}

struct Names(Vec<Name>);

impl Names {
    fn add(&mut self, kind: Kind, ident: &Ident) {
        self.push(kind, &ident.to_string(), ident.span());
    }

    fn push(&mut self, kind: Kind, name: &str, span: Span) {
        self.0.push(Name { kind, name: name.trim_start_matches("r#").to_owned(), line: span.start().line });
    }

    fn signature(&mut self, attributes: &[syn::Attribute], ident: &Ident) {
        let test =
            |attribute: &syn::Attribute| attribute.path().segments.last().is_some_and(|last| last.ident == "test");
        self.add(if attributes.iter().any(test) { Kind::Test } else { Kind::Function }, ident);
    }

    fn text(&mut self, text: &str, span: Span) {
        let one_name = text.starts_with(|char: char| char.is_ascii_alphabetic())
            && text.chars().all(|char| char.is_ascii_alphanumeric() || "_.-".contains(char));
        if one_name {
            self.push(Kind::Text, text, span);
        }
    }

    /// What tokens declare that nobody has parsed: the name behind each `fn`, `struct`, `let` and so on; and, where the macro
    /// stands among items, every name, since such a macro makes items of the names that it is given.
    fn tokens(&mut self, tokens: TokenStream, declares: bool) {
        let mut before = String::new();
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream(), declares),
                TokenTree::Literal(literal) => self.literal(&literal),
                TokenTree::Ident(ident) => {
                    let kind = match before.as_str() {
                        "fn" => Some(Kind::Function),
                        "struct" | "enum" | "trait" | "type" | "union" => Some(Kind::Type),
                        "const" | "static" => Some(Kind::Constant),
                        "mod" => Some(Kind::Module),
                        "let" | "mut" => Some(Kind::Local),
                        _ => declares.then_some(Kind::Macro),
                    };
                    before = ident.to_string();
                    if let Some(kind) = kind {
                        self.add(kind, &ident);
                    }
                }
                TokenTree::Punct(_) => before.clear(),
            }
        }
    }

    fn literal(&mut self, literal: &Literal) {
        let text = literal.to_string();
        if let Some(text) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            self.text(text, literal.span());
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.signature(&item.attrs, &item.sig.ident);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.signature(&item.attrs, &item.sig.ident);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.signature(&item.attrs, &item.sig.ident);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add(Kind::Type, &item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add(Kind::Type, &item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.add(Kind::Type, &item.ident);
        visit::visit_item_union(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add(Kind::Type, &item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add(Kind::Type, &item.ident);
        visit::visit_item_type(self, item);
    }

    fn visit_impl_item_type(&mut self, item: &'ast syn::ImplItemType) {
        visit::visit_impl_item_type(self, item);
    }

    fn visit_trait_item_type(&mut self, item: &'ast syn::TraitItemType) {
        self.add(Kind::Type, &item.ident);
        visit::visit_trait_item_type(self, item);
    }

    fn visit_type_param(&mut self, parameter: &'ast syn::TypeParam) {
        self.add(Kind::Type, &parameter.ident);
        visit::visit_type_param(self, parameter);
    }

    fn visit_const_param(&mut self, parameter: &'ast syn::ConstParam) {
        self.add(Kind::Constant, &parameter.ident);
        visit::visit_const_param(self, parameter);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.add(Kind::Variant, &variant.ident);
        visit::visit_variant(self, variant);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.add(Kind::Field, ident);
        }
        visit::visit_field(self, field);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(Kind::Constant, &item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.add(Kind::Constant, &item.ident);
        visit::visit_impl_item_const(self, item);
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.add(Kind::Constant, &item.ident);
        visit::visit_trait_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.add(Kind::Constant, &item.ident);
        visit::visit_item_static(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.add(Kind::Module, &item.ident);
        visit::visit_item_mod(self, item);
    }

    fn visit_use_rename(&mut self, rename: &'ast syn::UseRename) {
        self.add(Kind::Type, &rename.rename);
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        if let Some(ident) = &item.ident {
            self.add(Kind::Macro, ident);
        }
        self.tokens(item.mac.tokens.clone(), item.ident.is_none());
    }

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.tokens(invocation.tokens.clone(), false);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        self.add(Kind::Local, &pattern.ident);
        visit::visit_pat_ident(self, pattern);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        self.add(Kind::Local, &lifetime.ident);
    }

    fn visit_lit_str(&mut self, literal: &'ast syn::LitStr) {
        self.text(&literal.value(), literal.span());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        match &attribute.meta {
            syn::Meta::List(list) => self.tokens(list.tokens.clone(), false),
            syn::Meta::NameValue(value) if !value.path.is_ident("doc") => visit::visit_expr(self, &value.value),
            _ => {}
        }
    }
}
