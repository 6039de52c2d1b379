//! Curves that a run has measured, drawn as SVG. Both axes are logarithmic: what doubles looks the same everywhere.

use std::ops::Range;

use anyhow::{Result, ensure};
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color as _, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement,
    RGBColor, SVGBackend, WHITE,
};
use serde::Serialize;

/// Width and height of a drawing.
const SIZE: (u32, u32) = (720, 400);
/// Of the curves, in their order.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// Some curves over the same axes.
#[derive(Debug, Serialize)]
pub(super) struct Plot {
    title: String,
    /// What the axes are, with their units.
    x: &'static str,
    y: &'static str,
    curves: Vec<Curve>,
}

/// One curve.
#[derive(Debug, Serialize)]
pub(super) struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Plot {
    pub(super) fn new(title: impl Into<String>, x: &'static str, y: &'static str) -> Self {
        Self { title: title.into(), x, y, curves: Vec::new() }
    }

    /// The same with one curve more.
    pub(super) fn with(mut self, name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        self.curves.push(Curve { name: name.into(), points });
        self
    }

    /// The drawing.
    pub(super) fn svg(&self) -> Result<String> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let can_be_drawn = |value: f64| value.is_finite() && value > 0.0;
        ensure!(points().next().is_some(), "{} has no points", self.title);
        ensure!(points().all(|(x, y)| can_be_drawn(*x) && can_be_drawn(*y)), "{} has a point at zero", self.title);
        let (x, y) = (around(points().map(|point| point.0)), around(points().map(|point| point.1)));
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(&self.title, ("sans-serif", 17))
                .margin(12)
                .x_label_area_size(40)
                .y_label_area_size(64)
                .build_cartesian_2d(x.log_scale(), y.log_scale())?;
            chart.configure_mesh().x_desc(self.x).y_desc(self.y).draw()?;
            for (curve, colour) in self.curves.iter().zip(COLOURS.iter().cycle()) {
                let mark = move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(2));
                chart
                    .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?
                    .label(&curve.name)
                    .legend(mark);
                chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            }
            chart.configure_series_labels().background_style(WHITE.mix(0.8)).border_style(BLACK.mix(0.3)).draw()?;
            area.present()?;
        }
        Ok(svg)
    }
}

/// A range with these values a little inside of it.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (min, max) = values.fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(value), max.max(value)));
    min / 1.3..max * 1.3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_in_the_drawing_with_its_name() {
        let plot = Plot::new("waits", "one of", "ms")
            .with("ours", vec![(1.0, 2.0), (100.0, 20.0)])
            .with("theirs", vec![(1.0, 3.0), (100.0, 900.0)]);
        let svg = plot.svg().unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        for text in ["waits", "one of", "ms", "ours", "theirs"] {
            assert!(svg.contains(text), "{text}");
        }
        for colour in ["#0072B2", "#D55E00"] {
            assert!(svg.contains(colour), "{colour} is the colour of no curve");
        }
        assert!(!svg.contains("#009E73"), "there is no third");
    }

    #[test]
    fn what_has_no_place_on_the_axes_is_refused() {
        assert!(Plot::new("waits", "one of", "ms").svg().is_err());
        assert!(Plot::new("waits", "one of", "ms").with("ours", vec![(1.0, 0.0)]).svg().is_err());
    }
}
