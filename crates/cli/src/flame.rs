//! Flame graphs: what a profiler saw, from folded stacks.
//!
//! A function is as wide as the part of the time in which it was under way, stands on the one that called it, and has the colour of its crate.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
/// What is narrower is not drawn.
const NARROW: f64 = 0.4;
/// How wide a letter is.
const LETTER: f64 = 7.0;

/// A function under way, with how often it was seen below what called it.
#[derive(Debug, Default)]
struct Call {
    seen: u64,
    calls: BTreeMap<String, Call>,
}

/// What a profiler saw.
#[derive(Debug, Default)]
pub(crate) struct Profile {
    all: Call,
}

/// A function, wherever it was called.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// How often it was what ran.
    pub(crate) own: u64,
    /// How often it, or what it had called, was.
    pub(crate) all: u64,
}

impl Profile {
    /// Reads folded stacks: in each line names from the outermost to the innermost with `;` between them, a space, and a count.
    pub(crate) fn parse(stacks: &str) -> Result<Self> {
        let mut profile = Self::default();
        for line in stacks.lines().filter(|line| !line.is_empty()) {
            let (stack, count) = line.rsplit_once(' ').context("a line without a count")?;
            let count: u64 = count.parse().with_context(|| format!("{count:?} is no count"))?;
            ensure!(count > 0, "a stack that was never seen");
            let mut call = &mut profile.all;
            call.seen += count;
            for name in stack.split(';') {
                call = call.calls.entry(name.to_owned()).or_default();
                call.seen += count;
            }
        }
        Ok(profile)
    }

    /// How many stacks were seen.
    pub(crate) fn seen(&self) -> u64 {
        self.all.seen
    }

    /// All functions, those first that ran most.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = BTreeMap::new();
        // The outermost are the threads.
        for thread in self.all.calls.values() {
            thread.count(&mut Vec::new(), &mut found);
        }
        let function = |(name, (own, all)): (&str, (u64, u64))| Function { name: name.to_owned(), own, all };
        let mut functions: Vec<_> = found.into_iter().map(function).collect();
        functions.sort_by(|a, b| (b.own, b.all, &a.name).cmp(&(a.own, a.all, &b.name)));
        functions
    }

    /// The flame graph, a page by itself.
    pub(crate) fn svg(&self, title: &str) -> String {
        let height = (self.all.depth() as f64 + 2.0) * ROW;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"4\" y=\"13\">{}</text>\n",
            escaped(title)
        );
        if self.all.seen > 0 {
            let scale = WIDTH / self.all.seen as f64;
            self.all.draw_calls(&mut svg, (0.0, height - ROW), scale, self.all.seen);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

impl Call {
    fn depth(&self) -> usize {
        self.calls.values().map(|call| 1 + call.depth()).max().unwrap_or(0)
    }

    /// Adds up what is below this, of which `under_way` is above it: who calls itself counts once.
    fn count<'a>(&'a self, under_way: &mut Vec<&'a str>, found: &mut BTreeMap<&'a str, (u64, u64)>) {
        for (name, call) in &self.calls {
            let below: u64 = call.calls.values().map(|called| called.seen).sum();
            let (own, all) = found.entry(name).or_default();
            *own += call.seen - below;
            if !under_way.contains(&name.as_str()) {
                *all += call.seen;
            }
            under_way.push(name);
            call.count(under_way, found);
            under_way.pop();
        }
    }

    fn draw_calls(&self, svg: &mut String, (mut x, y): (f64, f64), scale: f64, seen: u64) {
        for (name, call) in &self.calls {
            let width = call.seen as f64 * scale;
            if width >= NARROW {
                draw(svg, name, (x, y, width), call.seen as f64 * 100.0 / seen as f64);
                call.draw_calls(svg, (x, y - ROW), scale, seen);
            }
            x += width;
        }
    }
}

fn draw(svg: &mut String, name: &str, (x, y, width): (f64, f64, f64), percent: f64) {
    let whole = escaped(name);
    let shown: String = name.chars().take((width / LETTER) as usize).collect();
    // Writing into a string cannot fail.
    let _ = writeln!(
        svg,
        "<g><title>{whole}: {percent:.1} %</title>\
         <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"hsl({},70%,75%)\" stroke=\"#fff\" stroke-width=\"0.5\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        ROW - 1.0,
        hue(name),
        x + 2.0,
        y + 12.0,
        escaped(&shown)
    );
}

/// The colour of a function's crate.
fn hue(name: &str) -> u32 {
    let path = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let of_crate = path.split("::").next().unwrap_or_default();
    of_crate.bytes().fold(7, |hue: u32, byte| (hue * 31 + u32::from(byte)) % 360)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACKS: &str =
        "worker;main;<a as B>::run;h2::send 30\nworker;main;<a as B>::run;h2::send;h2::send 10\nworker;main 60\n";

    #[test]
    fn functions_are_counted_once_where_they_call_themselves() {
        let profile = Profile::parse(STACKS).unwrap();
        let function = |name: &str, own, all| Function { name: name.to_owned(), own, all };
        assert_eq!(profile.seen(), 100);
        assert_eq!(
            profile.functions(),
            [function("main", 60, 100), function("h2::send", 40, 40), function("<a as B>::run", 0, 40)]
        );
    }

    #[test]
    fn a_flame_graph_has_a_frame_for_each_call_as_wide_as_its_part() {
        let svg = Profile::parse(STACKS).unwrap().svg("gateway & co");
        for text in [
            "gateway &amp; co",
            "<title>main: 100.0 %</title><rect x=\"0.0\" y=\"85.0\" width=\"1200.0\"",
            "<title>&lt;a as B&gt;::run: 40.0 %</title><rect x=\"0.0\" y=\"68.0\" width=\"480.0\"",
            "<title>h2::send: 10.0 %</title><rect x=\"0.0\" y=\"34.0\" width=\"120.0\"",
        ] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert_eq!(hue("h2::send"), hue("<h2::proto::Streams as Drop>::drop"));
        assert!(Profile::default().svg("idle").ends_with("</svg>\n"));
    }

    #[test]
    fn what_is_no_line_of_stacks_is_an_error() {
        for text in ["nothing", "a;b c", "a;b 0", "a -1"] {
            assert!(Profile::parse(text).is_err(), "{text}");
        }
    }
}
