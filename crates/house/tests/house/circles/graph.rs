//! Strongly connected parts of a small graph, and a shortest circle in each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who points at whom.
pub(crate) type Graph = BTreeMap<usize, BTreeSet<usize>>;

/// The sets of more than one node that all reach each other, by Tarjan's algorithm.
pub(crate) fn circles(graph: &Graph) -> Vec<BTreeSet<usize>> {
    let mut search =
        Search { graph, order: BTreeMap::new(), low: BTreeMap::new(), pending: Vec::new(), found: Vec::new() };
    for node in graph.keys() {
        if !search.order.contains_key(node) {
            search.visit(*node);
        }
    }
    search.found.sort_by_key(|part| part.first().copied());
    search.found
}

/// A shortest way from the first node of a circle back to it.
pub(crate) fn shortest(graph: &Graph, circle: &BTreeSet<usize>) -> Vec<usize> {
    let ways = circle.iter().filter_map(|start| round(graph, circle, *start));
    ways.min_by_key(Vec::len).unwrap_or_default()
}

fn round(graph: &Graph, circle: &BTreeSet<usize>, start: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for next in graph.get(&node)?.iter().filter(|next| circle.contains(next)) {
            if *next == start {
                let mut way = vec![node];
                while let Some(earlier) = before.get(&way[way.len() - 1]).copied() {
                    way.push(earlier);
                }
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(next) {
                before.insert(*next, node);
                queue.push_back(*next);
            }
        }
    }
    None
}

struct Search<'a> {
    graph: &'a Graph,
    order: BTreeMap<usize, usize>,
    low: BTreeMap<usize, usize>,
    pending: Vec<usize>,
    found: Vec<BTreeSet<usize>>,
}

impl Search<'_> {
    fn visit(&mut self, node: usize) {
        let number = self.order.len();
        self.order.insert(node, number);
        self.low.insert(node, number);
        self.pending.push(node);
        for next in self.graph.get(&node).into_iter().flatten() {
            if !self.order.contains_key(next) {
                self.visit(*next);
                self.low.insert(node, self.low[&node].min(self.low[next]));
            } else if self.pending.contains(next) {
                self.low.insert(node, self.low[&node].min(self.order[next]));
            }
        }
        if self.low[&node] == number {
            let at = self.pending.iter().position(|waiting| *waiting == node).unwrap_or_default();
            let part: BTreeSet<_> = self.pending.split_off(at).into_iter().collect();
            if part.len() > 1 {
                self.found.push(part);
            }
        }
    }
}
