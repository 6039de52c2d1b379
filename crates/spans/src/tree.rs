//! The tree that the spans of one trace make, its orphans, and how it looks on a terminal.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::span::{Kind, Span};

/// The spans of one trace, put under their parents.
#[derive(Debug, Clone)]
pub struct Tree {
    spans: Vec<Span>,
    /// Places in `spans`, each list in order of beginning.
    children: HashMap<String, Vec<usize>>,
    roots: Vec<usize>,
    orphans: Vec<usize>,
    /// Of spans that are drawn as one line the first, with how many they are and how long they took in all.
    grouped: HashMap<usize, (usize, u64)>,
    /// The others of them.
    hidden: HashSet<usize>,
}

impl Tree {
    /// Builds the tree. A root has no parent; an orphan names one that is not among `spans`.
    #[must_use]
    pub fn of(spans: Vec<Span>) -> Self {
        Self::build(spans, None)
    }

    /// Builds the tree of a request whose caller sent the span `caller` (16 hexadecimal digits) as parent and exports
    /// nothing itself: what is directly under it are the roots.
    #[must_use]
    pub fn under(spans: Vec<Span>, caller: &str) -> Self {
        Self::build(spans, Some(caller))
    }

    fn build(mut spans: Vec<Span>, caller: Option<&str>) -> Self {
        spans.sort_by(|a, b| (a.start, &a.id).cmp(&(b.start, &b.id)));
        let ids: HashSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
        let (mut children, mut roots, mut orphans) = (HashMap::<String, Vec<usize>>::new(), Vec::new(), Vec::new());
        for (place, span) in spans.iter().enumerate() {
            match span.parent.as_deref() {
                Some(parent) if ids.contains(parent) => children.entry(parent.to_owned()).or_default().push(place),
                parent if parent.is_none() || parent == caller => roots.push(place),
                _ => orphans.push(place),
            }
        }
        Self { spans, children, roots, orphans, grouped: HashMap::new(), hidden: HashSet::new() }
    }

    /// The same tree, drawn with one line for all those children of a span that are `alike`, with their number and without
    /// what is under them. A span that failed keeps its own line.
    #[must_use]
    pub fn grouping(mut self, alike: impl Fn(&Span) -> bool) -> Self {
        for children in self.children.values() {
            let alike = |place: &&usize| alike(&self.spans[**place]) && self.spans[**place].error.is_none();
            let mut places = children.iter().filter(alike).copied();
            let Some(first) = places.next() else { continue };
            let others: Vec<_> = places.collect();
            if others.is_empty() {
                continue;
            }
            let took = |place: &usize| self.spans[*place].end.saturating_sub(self.spans[*place].start);
            let total = others.iter().map(took).fold(took(&first), u64::saturating_add);
            self.grouped.insert(first, (others.len() + 1, total));
            self.hidden.extend(others);
        }
        self
    }

    /// Whether several spans are drawn as one line.
    #[must_use]
    pub fn is_grouped(&self) -> bool {
        !self.grouped.is_empty()
    }

    /// The spans without a parent, in order of beginning.
    pub fn roots(&self) -> impl Iterator<Item = &Span> {
        self.roots.iter().map(|place| &self.spans[*place])
    }

    /// The spans whose parent is missing, in order of beginning.
    pub fn orphans(&self) -> impl Iterator<Item = &Span> {
        self.orphans.iter().map(|place| &self.spans[*place])
    }

    /// All spans, in order of beginning.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// What is directly under `span`, in order of beginning.
    pub fn children<'a>(&'a self, span: &Span) -> impl Iterator<Item = &'a Span> {
        self.children.get(&span.id).into_iter().flatten().map(|place| &self.spans[*place])
    }

    /// The first span that `wanted` likes.
    pub fn find(&self, wanted: impl Fn(&Span) -> bool) -> Option<&Span> {
        self.spans.iter().find(|span| wanted(span))
    }

    /// The spans from the root down to `span`, both included.
    #[must_use]
    pub fn path<'a>(&'a self, span: &'a Span) -> Vec<&'a Span> {
        let mut path = vec![span];
        // Bounded by their number, in case hostile spans are each other's parents.
        while path.len() <= self.spans.len() {
            let parent = path[path.len() - 1].parent.as_deref();
            let Some(above) = self.spans.iter().find(|span| Some(span.id.as_str()) == parent) else { break };
            path.push(above);
        }
        path.reverse();
        path
    }

    fn draw(
        &self,
        f: &mut fmt::Formatter<'_>,
        place: usize,
        before: &str,
        branch: &str,
        widths: (usize, usize),
    ) -> fmt::Result {
        let span = &self.spans[place];
        let begun = self.spans.first().map_or(0, |first| first.start);
        let offset = milliseconds(span.start.saturating_sub(begun));
        let title = format!("{before}{branch}{}", self.title(place));
        let (wide, services) = widths;
        let padding = " ".repeat(wide.saturating_sub(title.chars().count()));
        let group = self.grouped.get(&place);
        let took = group.map_or(span.end.saturating_sub(span.start), |(_, total)| *total);
        let took = milliseconds(took);
        write!(f, "{title}{padding}  {:services$}  {took:>10} ms  at {offset:>10} ms", span.service)?;
        if let Some(error) = &span.error {
            write!(f, "  failed: {}", if error.is_empty() { "no message" } else { error })?;
        }
        for (trace, id) in &span.links {
            match self.spans.iter().find(|span| span.id == *id) {
                Some(linked) => write!(f, "  linked to {}", linked.name)?,
                None => write!(f, "  linked to trace {trace}")?,
            }
        }
        writeln!(f)?;
        let children = self.drawn_under(place);
        let below = match branch {
            "├─ " => format!("{before}│  "),
            "└─ " => format!("{before}   "),
            _ => before.to_owned(),
        };
        for (at, child) in children.iter().enumerate() {
            let branch = if at + 1 == children.len() { "└─ " } else { "├─ " };
            self.draw(f, *child, &below, branch, widths)?;
        }
        Ok(())
    }

    /// A span's label, with the number of those that its line has.
    fn title(&self, place: usize) -> String {
        let label = label(&self.spans[place]);
        match self.grouped.get(&place) {
            Some((count, _)) => format!("{label} × {count}"),
            None => label,
        }
    }

    /// The children that are drawn under a span.
    fn drawn_under(&self, place: usize) -> Vec<usize> {
        if self.grouped.contains_key(&place) {
            return Vec::new();
        }
        let children = self.children.get(&self.spans[place].id).map(Vec::as_slice).unwrap_or_default();
        children.iter().copied().filter(|child| !self.hidden.contains(child)).collect()
    }

    /// The widest line above the columns: three characters a level, and the name.
    fn widest(&self, place: usize, depth: usize) -> usize {
        let own = depth * 3 + self.title(place).chars().count();
        self.drawn_under(place).iter().map(|child| self.widest(*child, depth + 1)).fold(own, usize::max)
    }
}

/// Prints one line a span: its name under its parent's, its service, how long it took, and when it began. Orphans follow,
/// under a line that says so, unless the trace has no root at all: then the caller that began it does not export.
impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tops = || self.roots.iter().chain(&self.orphans);
        let wide = tops().map(|top| self.widest(*top, 0)).max().unwrap_or(0);
        let services = self.spans.iter().map(|span| span.service.len()).max().unwrap_or(0);
        for top in tops() {
            if self.orphans.first() == Some(top) && !self.roots.is_empty() {
                writeln!(f, "-- the parents of these were not exported, or not yet:")?;
            }
            self.draw(f, *top, "", "", (wide, services))?;
        }
        Ok(())
    }
}

/// A span's name without a protobuf package, and what kind of thing it talks to.
fn label(span: &Span) -> String {
    let name = match span.name.split_once('/') {
        Some((service, method)) => format!("{}/{method}", service.rsplit('.').next().unwrap_or(service)),
        None => span.name.clone(),
    };
    match (span.kind, span.attribute("db.system.name").or_else(|| span.attribute("messaging.system"))) {
        (_, Some(system)) if !name.contains(system) => format!("{name} ({system})"),
        (Kind::Client, None) => format!("{name} (call)"),
        _ => name,
    }
}

/// Nanoseconds as milliseconds with two places.
fn milliseconds(nanoseconds: u64) -> String {
    format!("{}.{:02}", nanoseconds / 1_000_000, nanoseconds % 1_000_000 / 10_000)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn span(id: &str, parent: Option<&str>, start: u64, end: u64) -> Span {
        Span {
            trace: "t".to_owned(),
            id: id.to_owned(),
            parent: parent.map(str::to_owned),
            links: Vec::new(),
            service: "gateway".to_owned(),
            name: format!("span {id}"),
            kind: Kind::Internal,
            start,
            end,
            attributes: BTreeMap::new(),
            error: None,
            events: Vec::new(),
        }
    }

    #[test]
    fn children_stand_under_their_parents_in_order() {
        let spans = vec![
            span("c", Some("a"), 2_000_000, 3_000_000),
            span("a", None, 0, 9_120_000),
            span("b", Some("a"), 1_000_000, 2_000_000),
            span("d", Some("b"), 1_500_000, 1_600_000),
        ];
        let tree = Tree::of(spans);
        assert_eq!(tree.orphans().count(), 0);
        let leaf = tree.find(|span| span.id == "d").unwrap();
        assert_eq!(tree.path(leaf).iter().map(|span| span.id.as_str()).collect::<String>(), "abd");
        let expected = "\
span a        gateway        9.12 ms  at       0.00 ms
├─ span b     gateway        1.00 ms  at       1.00 ms
│  └─ span d  gateway        0.10 ms  at       1.50 ms
└─ span c     gateway        1.00 ms  at       2.00 ms
";
        assert_eq!(tree.to_string(), expected);
    }

    #[test]
    fn spans_that_are_alike_share_a_line_unless_they_failed() {
        let named = |id: &str, parent: &str, start: u64| Span {
            name: "report".to_owned(),
            ..span(id, Some(parent), start, start + 1_000_000)
        };
        let failed = Span { error: Some("lost".to_owned()), ..named("f", "a", 4_000_000) };
        let spans = vec![
            span("a", None, 0, 9_000_000),
            named("b", "a", 1_000_000),
            span("c", Some("b"), 1_100_000, 1_200_000),
            named("d", "a", 2_000_000),
            named("e", "a", 3_000_000),
            failed,
        ];
        let tree = Tree::of(spans.clone()).grouping(|span| span.name == "report");
        let expected = "\
span a         gateway        9.00 ms  at       0.00 ms
├─ report × 3  gateway        3.00 ms  at       1.00 ms
└─ report      gateway        1.00 ms  at       4.00 ms  failed: lost
";
        assert_eq!(tree.to_string(), expected);
        assert!(tree.is_grouped() && !Tree::of(spans.clone()).is_grouped());
        assert_eq!(Tree::of(spans).to_string().lines().count(), 6, "each has its line without grouping");
    }

    #[test]
    fn a_missing_parent_makes_an_orphan_unless_it_is_the_caller() {
        let spans = vec![span("a", Some("caller"), 0, 1), span("b", Some("lost"), 0, 1)];
        let strict = Tree::of(spans.clone());
        assert_eq!((strict.roots().count(), strict.orphans().count()), (0, 2));
        let tree = Tree::under(spans, "caller");
        assert_eq!(tree.roots().map(|span| span.id.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(tree.orphans().map(|span| span.id.as_str()).collect::<Vec<_>>(), ["b"]);
        assert!(tree.to_string().contains("the parents of these were not exported"));
    }
}
