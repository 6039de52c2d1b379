//! The modules of one crate and the paths that each of them writes, read from its sources without the compiler.
//!
//! Invariants: what only tests compile (`#[cfg(test)]`, `#[test]`) is not here; neither are a parent's `mod child;` and the
//! path of a visibility (`pub(in crate::a)`), which name a module without using it.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{
    Attribute, Expr, ImplItem, Item, ItemMod, ItemUse, Macro, Meta, Path, Token, TraitItem, UseTree, VisRestricted,
};

/// The modules of one crate; the first is its root.
pub(crate) struct Modules(pub(crate) Vec<Module>);

/// One module, whether a file or inline.
pub(crate) struct Module {
    /// Its path from the root, `crate::a::b`.
    pub(crate) name: String,
    pub(crate) parent: Option<usize>,
    pub(crate) file: String,
    pub(crate) children: BTreeMap<String, usize>,
    /// The names that it declares itself.
    pub(crate) items: BTreeSet<String>,
    pub(crate) imports: Vec<Import>,
    pub(crate) mentions: Vec<Mention>,
}

/// One leaf of a `use`, in the module or in a function of it.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// What it is called here; `*` when it brings everything.
    pub(crate) name: String,
    /// Whether others may reach it through this module.
    pub(crate) exported: bool,
    pub(crate) line: usize,
}

/// A path in an expression, a type, a pattern, an attribute or a macro's tokens.
pub(crate) struct Mention {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

impl Modules {
    /// Reads a crate from its root file on; `read` gives the text of a file.
    pub(crate) fn load(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut modules = Self(Vec::new());
        let directory = root.rsplit_once('/').map_or("", |(directory, _)| directory);
        modules.load_file("crate", None, root, directory, read);
        modules
    }

    fn load_file(
        &mut self,
        name: &str,
        parent: Option<usize>,
        file: &str,
        below: &str,
        read: &dyn Fn(&str) -> Option<String>,
    ) -> usize {
        let text = read(file).unwrap_or_else(|| panic!("{file} cannot be read"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        self.add(name, parent, file, below, &parsed.items, read)
    }

    /// Adds a module and those inside it; `below` is the directory where the files of its children are.
    fn add(
        &mut self,
        name: &str,
        parent: Option<usize>,
        file: &str,
        below: &str,
        items: &[Item],
        read: &dyn Fn(&str) -> Option<String>,
    ) -> usize {
        let index = self.0.len();
        let mut paths = Paths::default();
        for item in items {
            paths.visit_item(item);
        }
        self.0.push(Module {
            name: name.to_owned(),
            parent,
            file: file.to_owned(),
            children: BTreeMap::new(),
            items: items.iter().flat_map(declared).collect(),
            imports: paths.imports,
            mentions: paths.mentions,
        });
        for item in items {
            let Item::Mod(module) = item else { continue };
            if only_for_tests(&module.attrs) {
                continue;
            }
            let ident = module.ident.to_string();
            let (child, inside) = (format!("{name}::{ident}"), format!("{below}/{ident}"));
            let added = if let Some((_, items)) = &module.content {
                self.add(&child, Some(index), file, &inside, items, read)
            } else {
                let beside = format!("{inside}.rs");
                let file = if read(&beside).is_some() { beside } else { format!("{inside}/mod.rs") };
                self.load_file(&child, Some(index), &file, &inside, read)
            };
            self.0[index].children.insert(ident, added);
        }
        index
    }
}

/// The name that an item declares in its module.
fn declared(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Whether only a test build has what carries these attributes.
pub(crate) fn only_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            list.parse_args::<Meta>().is_ok_and(|predicate| holds_without_tests(&predicate) == Some(false))
        }
        meta => meta.path().segments.last().is_some_and(|last| last.ident == "test"),
    })
}

/// What a `cfg` predicate says in a build without tests; nothing when that depends on something else.
fn holds_without_tests(predicate: &Meta) -> Option<bool> {
    let Meta::List(list) = predicate else { return predicate.path().is_ident("test").then_some(false) };
    let parts = list
        .parse_args_with(syn::punctuated::Punctuated::<Meta, Token![,]>::parse_terminated)
        .map(|parts| parts.iter().map(holds_without_tests).collect::<Vec<_>>())
        .unwrap_or_default();
    if list.path.is_ident("not") {
        return parts.first().copied().flatten().map(|holds| !holds);
    }
    let decisive = list.path.is_ident("any");
    if parts.contains(&Some(decisive)) {
        return Some(decisive);
    }
    parts.iter().all(|part| *part == Some(!decisive)).then_some(!decisive)
}

/// Collects the imports and the mentions of one module, and leaves those of the modules inside to them.
#[derive(Default)]
struct Paths {
    imports: Vec<Import>,
    mentions: Vec<Mention>,
}

impl Paths {
    fn import(&mut self, tree: &UseTree, before: &[String], exported: bool) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        let (path, name, span) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), exported),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before, exported)),
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned().unwrap_or_default(), name.ident.span())
            }
            UseTree::Name(name) => (with(&name.ident), name.ident.to_string(), name.ident.span()),
            UseTree::Rename(rename) => {
                let path = if rename.ident == "self" { before.to_vec() } else { with(&rename.ident) };
                (path, rename.rename.to_string(), rename.ident.span())
            }
            UseTree::Glob(glob) => (before.to_vec(), "*".to_owned(), glob.star_token.spans[0]),
        };
        self.imports.push(Import { path, name, exported, line: span.start().line });
    }

    /// Keeps a path that can name something of ours. A single lower-case word is a local variable, unless it is called.
    fn mention(&mut self, path: Vec<String>, called: bool, line: usize) {
        let single = path.len() == 1 && !path[0].starts_with(char::is_uppercase);
        if !single || called {
            self.mentions.push(Mention { path, line });
        }
    }

    fn mention_path(&mut self, path: &Path, called: bool) {
        if path.leading_colon.is_none() {
            let words = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(words, called, path.segments[0].ident.span().start().line);
        }
    }

    /// The paths in tokens that nobody has parsed: `a::b`, `Name`, and `name` before parentheses or `!`.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let is =
            |at: usize, char: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == char);
        let mut at = 0;
        while at < tokens.len() {
            let first = at;
            at += 1;
            let TokenTree::Ident(ident) = &tokens[first] else {
                match &tokens[first] {
                    TokenTree::Group(group) => self.tokens(group.stream()),
                    TokenTree::Literal(literal) => self.literal(literal),
                    _ => {}
                }
                continue;
            };
            let mut path = vec![ident.to_string()];
            while is(at, ':') && is(at + 1, ':') {
                let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
                path.push(next.to_string());
                at += 3;
            }
            let after = |char| first > 0 && is(first - 1, char);
            let field = after('.') && !(first > 1 && is(first - 2, '.'));
            let rest_of_path = after(':') && first > 1 && is(first - 2, ':');
            let metavariable = after('$') && path[0] != "crate";
            if !field && !rest_of_path && !metavariable {
                let called = is(at, '!') || matches!(tokens.get(at), Some(TokenTree::Group(_)));
                self.mention(path, called, ident.span().start().line);
            }
        }
    }

    /// A string that holds a path, as serde's attributes have them.
    fn literal(&mut self, literal: &proc_macro2::Literal) {
        let text = literal.to_string();
        let text = text.trim_matches('"');
        if ["crate::", "super::", "self::"].iter().any(|start| text.starts_with(start)) {
            let path = text.split("::").map(str::to_owned).collect();
            self.mention(path, false, literal.span().start().line);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        if !only_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !only_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        let attributes: &[Attribute] = match item {
            TraitItem::Const(item) => &item.attrs,
            TraitItem::Fn(item) => &item.attrs,
            TraitItem::Type(item) => &item.attrs,
            TraitItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !only_for_tests(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.import(&item.tree, &[], !matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.mention_path(path, false);
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func
            && function.path.segments.len() == 1
        {
            self.mention_path(&function.path, true);
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_macro(&mut self, invocation: &'ast Macro) {
        self.mention_path(&invocation.path, true);
        self.tokens(invocation.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
