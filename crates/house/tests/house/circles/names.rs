//! Which module declares what a path names: paths are followed through `use` and `pub use` to the declaration.

use super::modules::Modules;

/// What a name is found to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    Module(usize),
    /// An item of this module.
    Item(usize),
}

/// The names being followed, so that two imports of each other end.
type Trail = Vec<(usize, String)>;

impl Modules {
    /// What a path in a module names; nothing when it leads out of the crate. A path that goes on behind an item (a variant, a
    /// method) names the item.
    pub(crate) fn resolve(&self, module: usize, path: &[String]) -> Option<Found> {
        self.follow(module, path, &mut Trail::new())
    }

    fn follow(&self, module: usize, path: &[String], trail: &mut Trail) -> Option<Found> {
        let mut rest = path;
        let mut at = match path.first()?.as_str() {
            "crate" => Some(0),
            "self" => Some(module),
            "super" => Some(self.0[module].parent?),
            _ => None,
        };
        if at.is_some() {
            rest = &rest[1..];
        }
        while let (Some(module), Some("super")) = (at, rest.first().map(String::as_str)) {
            at = Some(self.0[module].parent?);
            rest = &rest[1..];
        }
        let inside = at.is_some();
        let mut at = at.unwrap_or(module);
        for (index, name) in rest.iter().enumerate() {
            let last = index + 1 == rest.len();
            match self.lookup(at, name, last, trail) {
                Some(Found::Module(module)) => at = module,
                Some(Found::Item(module)) => return Some(Found::Item(module)),
                // What a macro declares is not seen: it is its module's.
                None => return (inside || index > 0).then_some(Found::Item(at)),
            }
        }
        Some(Found::Module(at))
    }

    /// What a name is in a module. Where a module and an item share it, a path that goes on means the module.
    fn lookup(&self, module: usize, name: &str, last: bool, trail: &mut Trail) -> Option<Found> {
        let here = &self.0[module];
        let child = here.children.get(name).map(|child| Found::Module(*child));
        let item = here.items.contains(name).then_some(Found::Item(module));
        let (first, second) = if last { (item, child) } else { (child, item) };
        if let Some(found) = first.filter(|_| last || child.is_some()) {
            return Some(found);
        }
        let step = (module, name.to_owned());
        if trail.contains(&step) {
            return second;
        }
        trail.push(step);
        let imported = here.imports.iter().filter(|import| import.name == name).find_map(|import| {
            let found = self.follow(module, &import.path, trail)?;
            (found != Found::Module(module)).then_some(found)
        });
        let globbed = || {
            here.imports.iter().filter(|import| import.name == "*").find_map(|import| {
                match self.follow(module, &import.path, trail)? {
                    Found::Module(from) if from != module => self.lookup(from, name, last, trail),
                    _ => None,
                }
            })
        };
        let found = imported.or(second).or(first).or_else(globbed);
        trail.pop();
        found
    }
}
