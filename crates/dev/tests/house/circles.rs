//! No circle of modules inside a crate.

mod graph;
mod modules;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use graph::Graph;
use modules::Modules;
use names::Found;

use crate::sources;

/// Who needs whom, and each place that says so.
type Needs = BTreeMap<(usize, usize), BTreeSet<(usize, String)>>;

/// Which module needs which: by a name that the other declares.
fn needs(modules: &Modules) -> Needs {
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

/// Every circle of the crate with this root, as text.
///
/// A module counts with all that is inside it: for each module, the graph is that of its own code and of its children, so that
/// `a::x` that needs `b::y` and `b::z` that needs `a::w` make a circle of `a` and `b`.
fn circles(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let modules = Modules::load(root, read);
    let needs = needs(&modules);
    let mut found = Vec::new();
    for outer in 0..modules.0.len() {
        let mut level = Level::new();
        for ((from, to), places) in &needs {
            let (Some(from_part), Some(to_part)) = (modules.part(*from, outer), modules.part(*to, outer)) else { continue };
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
        found.extend(graph::circles(&graph).iter().map(|circle| describe(&modules, &level, &graph, circle)));
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

/// The roots of a crate: its library, its binaries and its examples.
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
    let mut found = Vec::new();
    for directory in sources::crates() {
        for root in roots(&directory) {
            found.extend(circles(&root, &sources::read).into_iter().map(|circle| format!("{root}: {circle}")));
        }
    }
    assert!(found.is_empty(), "{} circles of modules:\n{}", found.len(), found.join("\n"));
}
