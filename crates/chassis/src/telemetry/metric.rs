//! Metrics, declared before they are recorded: each has a name, a kind, a unit, labels and a help text, in a table of its crate.
//!
//! Invariant: what is recorded was declared with [`metrics!`](crate::metrics!), so a scrape has a HELP line for every metric, and the
//! number of a metric's labels is known to the compiler.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Key, KeyName, Label, Level, Metadata, Unit, with_recorder};

pub use metrics::SharedString as Value;

/// Declares the metrics of a crate: a static for each, and `ALL`, the table of them. The doc comment is the help text.
///
/// ```
/// chassis::metrics! {
///     /// Time from an order to its delivery.
///     DELIVERY = histogram "shop_delivery_seconds" in "seconds" by ["shelf", "outcome"];
///     /// Customers in the shop.
///     CUSTOMERS = gauge "shop_customers" in "customers" by [];
/// }
/// DELIVERY.with(["left", "ok"]).record(0.2);
/// CUSTOMERS.get().set(3);
/// assert_eq!(ALL[0].labels, ["shelf", "outcome"]);
/// ```
#[macro_export]
macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $static:ident = $kind:ident $name:literal in $unit:literal by [$($label:literal),*];)+) => {
        $(
            $(#[doc = $help])+
            pub(crate) static $static: $crate::metrics!(@type $kind [$($label),*]) =
                $crate::metrics!(@constructor $kind)($name, $unit, &[$($label),*], concat!($($help),+));
        )+
        /// Every metric of this crate.
        pub static ALL: &[&$crate::telemetry::metric::Metric] = &[$($static.metric()),+];
    };
    (@type counter $labels:tt) => { $crate::telemetry::metric::Counter<{ $crate::metrics!(@count $labels) }> };
    (@type gauge $labels:tt) => { $crate::telemetry::metric::Gauge<{ $crate::metrics!(@count $labels) }> };
    (@type histogram $labels:tt) => { $crate::telemetry::metric::Histogram<{ $crate::metrics!(@count $labels) }> };
    (@constructor counter) => { $crate::telemetry::metric::Counter::new };
    (@constructor gauge) => { $crate::telemetry::metric::Gauge::new };
    (@constructor histogram) => { $crate::telemetry::metric::Histogram::new };
    (@count $labels:tt) => {{
        const LABELS: &[&str] = &$labels;
        LABELS.len()
    }};
}

/// Whether the process collects its metrics. Before that a help text would go to nobody, and be lost.
static COLLECTED: AtomicBool = AtomicBool::new(false);

/// Takes note that the process's recorder is installed.
pub(super) fn collected() {
    COLLECTED.store(true, Ordering::Release);
}

/// How the values of a metric add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

/// What is declared of one metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// How its values add up.
    pub kind: Kind,
    /// What is counted or measured, in the plural, such as `seconds` or `calls`.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    help: &'static str,
    described: AtomicBool,
}

impl Metric {
    const fn new(
        name: &'static str,
        kind: Kind,
        unit: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        let counts = ends_with(name, "_total");
        assert!(counts == matches!(kind, Kind::Counter), "the names of counters, and no others, end with _total");
        assert!(
            ends_with(name, "_seconds") || !same(unit, "seconds") || counts,
            "what is in seconds says so in its name"
        );
        assert!(ends_with(name, "_bytes") || !same(unit, "bytes") || counts, "what is in bytes says so in its name");
        Self { name, kind, unit, labels, help, described: AtomicBool::new(false) }
    }

    /// What it tells, in a sentence.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// Gives its help text to the process's recorder, the first time that it is recorded with one.
    fn describe(&self) {
        if !COLLECTED.load(Ordering::Acquire)
            || self.described.load(Ordering::Relaxed)
            || self.described.swap(true, Ordering::Relaxed)
        {
            return;
        }
        let (name, help) = (KeyName::from_const_str(self.name), self.help().into());
        let unit = match self.unit {
            "seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => Unit::Count,
        };
        with_recorder(|recorder| match self.kind {
            Kind::Counter => recorder.describe_counter(name, Some(unit), help),
            Kind::Gauge => recorder.describe_gauge(name, Some(unit), help),
            Kind::Histogram => recorder.describe_histogram(name, Some(unit), help),
        });
    }

    fn key(&self, values: impl IntoIterator<Item = Value>) -> Key {
        let labels = self.labels.iter().zip(values).map(|(label, value)| Label::new(*label, value));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

macro_rules! kind {
    ($kind:ident, $register:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug)]
        pub struct $kind<const LABELS: usize>(Metric);

        impl<const LABELS: usize> $kind<LABELS> {
            #[doc(hidden)]
            #[must_use]
            pub const fn new(
                name: &'static str,
                unit: &'static str,
                labels: &'static [&'static str; LABELS],
                help: &'static str,
            ) -> Self {
                Self(Metric::new(name, Kind::$kind, unit, labels, help))
            }

            /// What is declared of it.
            #[must_use]
            pub const fn metric(&self) -> &Metric {
                &self.0
            }

            /// The series with these values of its labels, in their order. No value may be one that an outsider chooses.
            pub fn with<V: Into<Value>>(&'static self, values: [V; LABELS]) -> metrics::$kind {
                self.0.describe();
                let key = self.0.key(values.into_iter().map(Into::into));
                with_recorder(|recorder| recorder.$register(&key, &METADATA))
            }
        }

        impl $kind<0> {
            /// Its one series.
            pub fn get(&'static self) -> metrics::$kind {
                self.with::<Value>([])
            }
        }
    };
}

kind!(Counter, register_counter, "A counter with so many labels.");
kind!(Gauge, register_gauge, "A gauge with so many labels.");
kind!(Histogram, register_histogram, "A histogram with so many labels.");

const fn ends_with(text: &str, end: &str) -> bool {
    let (text, end) = (text.as_bytes(), end.as_bytes());
    if text.len() < end.len() {
        return false;
    }
    let mut at = 0;
    while at < end.len() {
        if text[text.len() - end.len() + at] != end[at] {
            return false;
        }
        at += 1;
    }
    true
}

const fn same(text: &str, other: &str) -> bool {
    text.len() == other.len() && ends_with(text, other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_compared_whole() {
        assert!(ends_with("a_total", "_total") && same("seconds", "seconds"));
        assert!(!ends_with("_totals", "_total") && !ends_with("al", "_total") && !same("nanoseconds", "seconds"));
    }
}
