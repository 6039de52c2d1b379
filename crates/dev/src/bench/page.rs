//! A run as one HTML page that needs nothing else: its rows, each with its spread beside its goal, and its curves.

use std::fmt::Write as _;

use anyhow::Result;

use super::report::{Report, Row, figure};

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Rushes: benchmark</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .2em .6em; border-bottom: 1px solid #ddd; vertical-align: top }
td.figure { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
tr.fails td { background: #fdecea }
.bar { position: relative; width: 12em; height: 1em; background: #f2f2f2 }
.bar span { position: absolute; top: 0; bottom: 0 }
.bar .spread { background: #9ecae1 }
.bar .median { width: 2px; background: #08519c }
.bar .goal { width: 2px; background: #d95f02 }
figure { margin: 1.5em 0 }
</style>
<h1>Benchmark</h1>
"#;

/// How many times its goal a bar is long.
const BAR: f64 = 3.0;

/// The page.
pub(super) fn html(report: &Report) -> Result<String> {
    let mut page = HEAD.to_owned();
    for fact in report.facts() {
        let _ = writeln!(page, "<p>{}</p>", escaped(&fact));
    }
    page.push_str(
        "<table>\n<tr><th>row<th>ours<th>beside<th>ratio<th>goal<th>spread of the ratio (blue), its median, \
         and the goal (orange)<th>beside what\n",
    );
    for row in &report.rows {
        push_row(&mut page, row);
    }
    page.push_str("</table>\n");
    for missing in &report.missing {
        let _ = writeln!(page, "<p><strong>{}</strong></p>", escaped(missing));
    }
    for plot in &report.plots {
        let _ = writeln!(page, "<figure>{}</figure>", plot.svg()?);
    }
    page.push_str("</html>\n");
    Ok(page)
}

fn push_row(page: &mut String, row: &Row) {
    let percent = |ratio: f64| (ratio / row.goal / BAR).clamp(0.0, 1.0) * 100.0;
    let [min, max] = row.ratio_spread.map(percent);
    let _ = writeln!(
        page,
        "<tr{}><td>{}<td class=figure>{} {unit}<td class=figure>{} {unit}<td class=figure>{}<td class=figure>{}<td>\
         <div class=bar><span class=spread style=\"left:{min:.1}%;width:{:.1}%\"></span>\
         <span class=median style=\"left:{:.1}%\"></span><span class=goal style=\"left:{:.1}%\"></span></div><td>{}",
        if row.holds { "" } else { " class=fails" },
        escaped(&row.row),
        figure(row.ours),
        figure(row.beside),
        figure(row.ratio),
        figure(row.goal),
        (max - min).max(0.5),
        percent(row.ratio),
        percent(row.goal),
        escaped(&row.beside_what),
        unit = row.unit,
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plot::Plot;

    #[test]
    fn the_page_has_all_rows_and_curves() {
        let mut report = Report::of_facts(vec!["a < b".to_owned()]);
        report.rows.push(Row::figure_goal("memory_one", "MB", 50.0, "the goal", &[25.0, 26.0]));
        report.rows.push(Row::figure_goal("memory_two", "MB", 50.0, "the goal", &[75.0]));
        report.missing.push("Cold could not be measured: why".to_owned());
        report.plots.push(Plot::new("waits", "one of", "ms").with("ours", vec![(1.0, 2.0)]));
        let page = html(&report).unwrap();
        for text in ["a &lt; b", "<td>memory_one", "<tr class=fails><td>memory_two", "could not be measured", "<svg"] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
        assert_eq!(page.matches("class=fails").count(), 1);
    }
}
