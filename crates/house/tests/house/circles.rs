//! No circle of modules inside a crate.

mod graph;
pub(crate) mod modules;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use graph::Graph;
use modules::Modules;
use names::Found;

use crate::sources;

/// Who needs whom, and each place that says so.
pub(crate) type Needs = BTreeMap<(usize, usize), BTreeSet<(usize, String)>>;

/// Which module needs which: by a name that the other declares.
pub(crate) fn needs(modules: &Modules) -> Needs {
    let mut needs = Needs::new();
    for (from, module) in modules.0.iter().enumerate() {
        let mut need = |to: usize, line: usize, path: &[String]| {
            if to != from {
                needs.entry((from, to)).or_default().insert((line, path.join("::")));
            }
        };
        for import in &module.imports {
            match modules.resolve(from, &import.path) {
                Some(Found::Item(to) | Found::Module(to)) if import.exported && modules.inside(to, from) => {}
                Some(Found::Item(to)) => need(to, import.line, &import.path),
                Some(Found::Module(to)) if import.name == "*" => need(to, import.line, &import.path),
                // A module that is brought into scope is needed where a path goes on from it.
                Some(Found::Module(_)) | None => {}
            }
        }
        for mention in &module.mentions {
            if let Some(Found::Item(to) | Found::Module(to)) = modules.resolve(from, &mention.path) {
                need(to, mention.line, &mention.path);
            }
        }
    }
    needs
}

impl Modules {
    /// The part of a module that another belongs to: one of its children, or the module itself for its own code.
    fn part(&self, module: usize, outer: usize) -> Option<usize> {
        let mut at = module;
        if at == outer {
            return Some(outer);
        }
        while let Some(parent) = self.0[at].parent {
            if parent == outer {
                return Some(at);
            }
            at = parent;
        }
        None
    }

    /// Whether a module is inside another, at any depth.
    fn inside(&self, module: usize, outer: usize) -> bool {
        let mut parent = self.0[module].parent;
        while let Some(at) = parent {
            if at == outer {
                return true;
            }
            parent = self.0[at].parent;
        }
        false
    }
}

/// Every circle of a crate, as text.
///
/// A module counts with all that is inside it: for each module, the graph is that of its own code and of its children, so that
/// `a::x` that needs `b::y` and `b::z` that needs `a::w` make a circle of `a` and `b`.
fn circles(modules: &Modules) -> Vec<String> {
    let needs = needs(modules);
    let mut found = Vec::new();
    for outer in 0..modules.0.len() {
        let mut level = Level::new();
        for ((from, to), places) in &needs {
            let (Some(from_part), Some(to_part)) = (modules.part(*from, outer), modules.part(*to, outer)) else {
                continue;
            };
            if from_part != to_part {
                let file = &modules.0[*from].file;
                let lines = places.iter().map(|(line, path)| format!("{file}:{line} {path}"));
                level.entry((from_part, to_part)).or_default().extend(lines);
            }
        }
        let mut graph = Graph::new();
        for (from, to) in level.keys() {
            graph.entry(*from).or_default().insert(*to);
        }
        found.extend(graph::circles(&graph).iter().map(|circle| describe(modules, &level, &graph, circle)));
    }
    found
}

/// Which part of a module needs which, and the lines that say so.
type Level = BTreeMap<(usize, usize), Vec<String>>;

fn describe(modules: &Modules, level: &Level, graph: &Graph, circle: &BTreeSet<usize>) -> String {
    let name = |index: &usize| modules.0[*index].name.as_str();
    let mut way: Vec<_> = graph::shortest(graph, circle).iter().map(name).collect();
    way.push(way[0]);
    let mut text = format!("{} modules in a circle, such as {}", circle.len(), way.join(" -> "));
    for ((from, to), lines) in level {
        if circle.contains(from) && circle.contains(to) {
            text += &format!("\n    {} -> {}", name(from), name(to));
            for line in lines {
                text += &format!("\n        {line}");
            }
        }
    }
    text
}

/// The modules below each root of our crates: libraries, binaries and examples, with the root's file.
pub(crate) static ROOTS: LazyLock<Vec<(String, Modules)>> = LazyLock::new(|| {
    let roots = sources::crates().into_iter().flat_map(|directory| roots(&directory));
    roots.map(|root| (root.clone(), Modules::load(&root, &sources::read))).collect()
});

fn roots(directory: &str) -> Vec<String> {
    sources::below(directory, &[".rs"])
        .into_iter()
        .filter(|path| {
            let parts: Vec<_> = path[directory.len() + 1..].split('/').collect();
            matches!(parts[..], ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["src", "bin", _, "main.rs"])
                || matches!(parts[..], ["examples", _] | ["examples", _, "main.rs"])
        })
        .collect()
}

#[test]
fn no_crate_has_a_circle_of_modules() {
    let of_root = |(root, modules): &(String, Modules)| {
        circles(modules).into_iter().map(|circle| format!("{root}: {circle}")).collect::<Vec<_>>()
    };
    let found: Vec<_> = ROOTS.iter().flat_map(of_root).collect();
    assert!(found.is_empty(), "{} circles of modules:\n{}", found.len(), found.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::circles;
    use super::modules::Modules;

    fn modules(files: &[(&str, &str)]) -> Modules {
        let text = |path: &str| files.iter().find(|(name, _)| path == format!("src/{name}")).map(|(_, text)| *text);
        Modules::load("src/lib.rs", &|path| text(path).map(str::to_owned))
    }

    /// The circles of a crate of these files, each by its shortest way.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let way = |text: &String| text.lines().next()?.split_once("such as ").map(|(_, way)| way.to_owned());
        circles(&modules(files)).iter().filter_map(way).collect()
    }

    #[track_caller]
    fn none(files: &[(&str, &str)]) {
        assert_eq!(found(files), Vec::<String>::new());
    }

    #[track_caller]
    fn one(files: &[(&str, &str)], way: &str) {
        assert_eq!(found(files), [way]);
    }

    const AB: (&str, &str) = ("lib.rs", "mod a; mod b;");
    const A_NEEDS_B: (&str, &str) = ("a.rs", "use crate::b::B; pub struct A(B);");

    #[test]
    fn one_way_is_no_circle() {
        none(&[AB, A_NEEDS_B, ("b.rs", "pub struct B;")]);
    }

    #[test]
    fn a_use_back_is_a_circle() {
        one(&[AB, A_NEEDS_B, ("b.rs", "use crate::a::A; pub struct B(Box<A>);")], "crate::a -> crate::b -> crate::a");
    }

    #[test]
    fn a_path_in_any_place_is_seen() {
        for place in [
            "pub struct B(Box<crate::a::A>);",
            "pub struct B; fn f() { super::a::f(); }",
            "pub struct B; impl crate::a::T for B {}",
            "pub struct B; fn f(x: u8) { match x { crate::a::X => {}, _ => {} } }",
            "pub struct B; fn f() { println!(\"{}\", crate::a::X); }",
            "pub struct B; fn f() { vec![1, { self::super::a::X }]; }",
            "pub struct B; macro_rules! m { () => { $crate::a::X } }",
            "#[derive(crate::a::D)] pub struct B;",
            "#[serde(with = \"crate::a\")] pub struct B;",
            "pub struct B; fn f() { use crate::a; a::f(); }",
            "pub struct B; pub use crate::a::A;",
            "use super::*; pub struct B; fn f() { a::f() }",
        ] {
            one(&[AB, A_NEEDS_B, ("b.rs", place)], "crate::a -> crate::b -> crate::a");
        }
    }

    #[test]
    fn what_only_resembles_a_path_is_none() {
        for place in [
            "pub struct B; fn f() { other::a::f(); ::a::f(); }",
            "pub struct B; fn f(a: u8) { let _ = a; x.a(); println!(\"{}\", x.a); }",
            "pub(in crate::a) struct B;",
            "/// See [`crate::a::A`].\npub struct B;",
            "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }",
            "pub struct B; #[cfg(all(test, unix))] use crate::a::A;",
            "pub struct B; #[test] fn f() { crate::a::f(); }",
            "pub struct B; impl B { #[cfg(test)] fn f() { crate::a::f(); } }",
            "use crate::a; pub struct B;",
        ] {
            none(&[AB, A_NEEDS_B, ("b.rs", place)]);
        }
    }

    #[test]
    fn what_a_build_without_tests_has_is_seen() {
        for place in ["#[cfg(not(test))] use crate::a::A;", "#[cfg(any(test, unix))] use crate::a::A;"] {
            one(&[AB, A_NEEDS_B, ("b.rs", place)], "crate::a -> crate::b -> crate::a");
        }
    }

    #[test]
    fn a_name_is_followed_to_its_declaration() {
        let root = ("lib.rs", "mod a; mod b; pub use a::A as Alpha; pub use b::*;");
        let a = ("a.rs", "pub struct A(crate::B);");
        none(&[root, a, ("b.rs", "pub struct B;")]);
        one(&[root, a, ("b.rs", "pub struct B(Box<crate::Alpha>);")], "crate::a -> crate::b -> crate::a");
    }

    #[test]
    fn a_facade_is_no_need_until_its_own_code_uses_the_name() {
        let child = ("a/x.rs", "pub struct X; fn f() -> super::Shared { todo!() }");
        none(&[("lib.rs", "mod a;"), ("a.rs", "mod x; pub use x::X; pub struct Shared;"), child]);
        one(
            &[("lib.rs", "mod a;"), ("a.rs", "mod x; pub use x::X; pub struct Shared(X);"), child],
            "crate::a -> crate::a::x -> crate::a",
        );
        one(
            &[("lib.rs", "mod a;"), ("a.rs", "mod x; pub struct Shared; fn f() { x::f(); }"), child],
            "crate::a -> crate::a::x -> crate::a",
        );
    }

    #[test]
    fn a_sibling_by_way_of_the_parent_is_no_need_of_the_parent() {
        let parent = ("a.rs", "mod x; mod y; fn f() { x::f(); y::f(); }");
        none(&[("lib.rs", "mod a;"), parent, ("a/x.rs", "use super::y::Y;"), ("a/y.rs", "pub struct Y;")]);
    }

    #[test]
    fn a_module_counts_with_all_that_is_inside() {
        one(
            &[
                ("lib.rs", "mod a; mod b;"),
                ("a.rs", "mod x; mod w;"),
                ("a/x.rs", "use crate::b::Y;"),
                ("a/w.rs", "pub struct W;"),
                ("b.rs", "pub struct Y; mod z { use crate::a::w::W; }"),
            ],
            "crate::a -> crate::b -> crate::a",
        );
    }

    #[test]
    fn a_function_and_the_module_of_its_name_are_distinguished() {
        let root = ("lib.rs", "mod a; mod b; pub use a::a;");
        let b = ("b.rs", "pub fn f() { crate::a(); }");
        none(&[root, ("a.rs", "pub fn a() {}"), b]);
        one(&[root, ("a.rs", "pub fn a() { crate::b::f(); }"), b], "crate::a -> crate::b -> crate::a");
    }

    #[test]
    fn imports_of_each_other_come_to_an_end() {
        let globs =
            [AB, ("a.rs", "pub use crate::b::*; pub struct A;"), ("b.rs", "pub use crate::a::*; fn f() { A::f() }")];
        one(&globs, "crate::a -> crate::b -> crate::a");
        // No program, but nothing to wait for either.
        let _ = found(&[AB, ("a.rs", "pub use crate::b::X;"), ("b.rs", "pub use crate::a::X;")]);
    }

    #[test]
    fn every_place_is_named() {
        let found = circles(&modules(&[AB, A_NEEDS_B, ("b.rs", "\nuse crate::a::A;\n")]));
        let [text] = &found[..] else { panic!("{found:?}") };
        assert!(text.contains("src/a.rs:1 crate::b::B") && text.contains("src/b.rs:2 crate::a::A"), "{text}");
    }
}
