//! The kinds of faults that an order may have, each with its word and its probability.
//!
//! Invariant: a kind's word on the bill is the one that asks for it in a prompt.

use crate::faults::Faults;

/// A kind with its word and its probability.
pub(crate) type Row<T> = (&'static str, f64, T);

/// A kind of fault of which an order has one at most.
pub(crate) trait Kind: Copy + PartialEq + 'static {
    /// All of them, as often as `faults` says.
    fn table(faults: &Faults) -> Vec<Row<Self>>;

    /// The word that asks for it.
    fn word(self) -> &'static str {
        let rows = Self::table(&Faults::default());
        rows.into_iter().find(|row| row.2 == self).map_or("", |row| row.0)
    }
}

/// For how many requests a fault holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Times {
    First(u32),
    Ever,
}

impl Times {
    /// Whether it holds for the request of this number, counted from 1.
    pub(crate) fn include(self, number: u32) -> bool {
        match self {
            Self::First(times) => number <= times,
            Self::Ever => true,
        }
    }
}

/// What becomes of a request for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    CutBefore,
    CutAfter,
    ErrorAfter,
    Late,
    Throttled,
    Refused(u16),
}

impl Kind for Reception {
    fn table(faults: &Faults) -> Vec<Row<Self>> {
        vec![
            ("cut-before", faults.cut_before, Self::CutBefore),
            ("cut-after", faults.cut_after, Self::CutAfter),
            ("error-after", faults.error_after, Self::ErrorAfter),
            ("late", faults.late, Self::Late),
            ("throttled", faults.throttled, Self::Throttled),
            ("refused-401", faults.refused_401, Self::Refused(401)),
            ("refused-402", faults.refused_402, Self::Refused(402)),
            ("refused-403", faults.refused_403, Self::Refused(403)),
            ("refused-404", faults.refused_404, Self::Refused(404)),
            ("refused-503", faults.refused_503, Self::Refused(503)),
        ]
    }
}

/// In which words and shape an order is refused for safety.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    Documented,
    List,
    Object,
    Moderated,
    Bare,
}

impl Kind for Safety {
    fn table(faults: &Faults) -> Vec<Row<Self>> {
        vec![
            ("unsafe", faults.r#unsafe, Self::Documented),
            ("unsafe-list", faults.unsafe_list, Self::List),
            ("unsafe-object", faults.unsafe_object, Self::Object),
            ("unsafe-moderated", faults.unsafe_moderated, Self::Moderated),
            ("unsafe-bare", faults.unsafe_bare, Self::Bare),
        ]
    }
}

/// How polls of an order are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollFault {
    NotFound,
    /// Only one poll, of the number that its times say.
    NotFoundLater,
    Unauthorized,
    Gone,
    /// The answer of an outage; at fal to the result alone, whose status says that there is one.
    Broken,
    Empty,
    Html,
    Long,
}

impl PollFault {
    /// For how many polls it holds by itself; `None` where a draw says so.
    pub(crate) fn nature(self) -> Option<Times> {
        (self == Self::Long).then_some(Times::Ever)
    }
}

impl Kind for PollFault {
    fn table(faults: &Faults) -> Vec<Row<Self>> {
        vec![
            ("poll-404", faults.poll_404, Self::NotFound),
            ("poll-404-later", faults.poll_404_later, Self::NotFoundLater),
            ("poll-401", faults.poll_401, Self::Unauthorized),
            ("poll-410", faults.poll_410, Self::Gone),
            ("poll-503", faults.poll_503, Self::Broken),
            ("poll-empty", faults.poll_empty, Self::Empty),
            ("poll-html", faults.poll_html, Self::Html),
            ("poll-long", faults.poll_long, Self::Long),
        ]
    }
}

/// Where a made video is said to lie, where it is not as usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Object,
    List,
    Data,
    Bare,
    None,
}

impl Kind for Output {
    fn table(faults: &Faults) -> Vec<Row<Self>> {
        vec![
            ("output-object", faults.output_object, Self::Object),
            ("output-list", faults.output_list, Self::List),
            ("output-data", faults.output_data, Self::Data),
            ("output-bare", faults.output_bare, Self::Bare),
            ("output-none", faults.output_none, Self::None),
        ]
    }
}

/// What is wrong with the file of a made video, or unusual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFault {
    Webm,
    Mov,
    Gif,
    Webp,
    Html,
    Empty,
    Huge,
    Truncated,
    Short,
    Cut,
    Moved,
    MovedInward,
    Status(u16),
    Slow,
    Unreachable,
    Unnamed,
    Untrusted,
}

impl FileFault {
    /// For how many fetches it holds by itself; `None` where a draw says so.
    pub(crate) fn nature(self) -> Option<Times> {
        (!matches!(self, Self::Short | Self::Cut | Self::Status(_) | Self::Slow)).then_some(Times::Ever)
    }

    /// Whether a client that does everything right gets the video, however long it holds.
    pub(crate) fn is_harmless(self) -> bool {
        matches!(self, Self::Webm | Self::Mov | Self::Moved)
    }
}

impl Kind for FileFault {
    fn table(faults: &Faults) -> Vec<Row<Self>> {
        vec![
            ("file-webm", faults.file_webm, Self::Webm),
            ("file-mov", faults.file_mov, Self::Mov),
            ("file-gif", faults.file_gif, Self::Gif),
            ("file-webp", faults.file_webp, Self::Webp),
            ("file-html", faults.file_html, Self::Html),
            ("file-empty", faults.file_empty, Self::Empty),
            ("file-huge", faults.file_huge, Self::Huge),
            ("file-truncated", faults.file_truncated, Self::Truncated),
            ("file-short", faults.file_short, Self::Short),
            ("file-cut", faults.file_cut, Self::Cut),
            ("file-moved", faults.file_moved, Self::Moved),
            ("file-moved-inward", faults.file_moved_inward, Self::MovedInward),
            ("file-403", faults.file_403, Self::Status(403)),
            ("file-404", faults.file_404, Self::Status(404)),
            ("file-408", faults.file_408, Self::Status(408)),
            ("file-429", faults.file_429, Self::Status(429)),
            ("file-500", faults.file_500, Self::Status(500)),
            ("file-slow", faults.file_slow, Self::Slow),
            ("file-unreachable", faults.file_unreachable, Self::Unreachable),
            ("file-unnamed", faults.file_unnamed, Self::Unnamed),
            ("file-untrusted", faults.file_untrusted, Self::Untrusted),
        ]
    }
}
