//! Texts that people read: which of them show anything, which stay on their line, and where one may be cut.
//!
//! Invariants: what is one line here neither breaks where it is shown nor turns what is shown behind it; and a text that is cut ends with a
//! whole character as people see it, however many it is made of, unless that one alone is longer than there is room for.

use unicode_segmentation::UnicodeSegmentation as _;

/// Whether nothing of a text can be seen.
#[must_use]
pub fn is_blank(text: &str) -> bool {
    text.chars().all(is_invisible)
}

/// Whether a text stays on one line, and leaves what follows it as it is: no control characters, no separators of lines, and nothing
/// that changes the direction in which the rest is written.
#[must_use]
pub fn is_one_line(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
    })
}

/// The beginning of a text, of at most `max` characters, that cuts nothing apart which people see as one.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    let Some((end, _)) = text.char_indices().nth(max) else { return text };
    let starts = text.grapheme_indices(true).map(|(at, _)| at);
    let whole = starts.take_while(|at| *at <= end).last().unwrap_or_default();
    // One of more than `max` characters is no letter of any language.
    &text[..if whole == 0 { end } else { whole }]
}

/// Unicode's spaces, controls and default ignorables, and the letters that are drawn as nothing.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_nothing_is_blank() {
        for blank in
            ["", " \t\n", "\u{200b}\u{200d}\u{feff}", "\u{2800}", "\u{3164}", "\u{e0041}", "\u{ad}\u{34f} \u{202e}"]
        {
            assert!(is_blank(blank), "{blank:?}");
        }
        for shown in [".", "\u{200b}a", "é", "می\u{200c}خواهم", "🏳\u{fe0f}\u{200d}🌈"] {
            assert!(!is_blank(shown), "{shown:?}");
        }
    }

    #[test]
    fn a_line_neither_breaks_nor_redirects_what_follows() {
        for broken in
            ["a\nb", "a\u{85}b", "a\u{2028}b", "a\u{2029}", "\u{202e}gpj.exe", "a\u{2066}b", "a\u{206f}", "\u{fff9}a"]
        {
            assert!(!is_one_line(broken), "{broken:?}");
        }
        // Words of other directions, and what joins or parts their letters, are no such thing.
        for line in ["", "Día 7", "שלום\u{200f}!", "می\u{200c}خواهم", "👩\u{200d}👩\u{200d}👧", "ภาษา\u{200b}ไทย"]
        {
            assert!(is_one_line(line), "{line:?}");
        }
    }

    #[test]
    fn a_text_is_cut_between_what_people_see_as_one() {
        for (text, max, expected) in [
            ("día", 5, "día"),
            ("día de sol", 5, "día d"),
            ("e\u{301}e\u{301}", 3, "e\u{301}"),
            ("e\u{301}e\u{301}", 4, "e\u{301}e\u{301}"),
            ("ab👩\u{200d}👩\u{200d}👧c", 4, "ab"),
            ("ab👩\u{200d}👩\u{200d}👧c", 7, "ab👩\u{200d}👩\u{200d}👧"),
            ("🇩🇪🇫🇷", 3, "🇩🇪"),
            ("a\r\nb", 2, "a"),
            ("क्षिक", 4, "क्षि"),
            // Nothing else is left of it.
            ("a\u{301}\u{301}\u{301}", 2, "a\u{301}"),
            ("", 3, ""),
            ("abc", 0, ""),
        ] {
            assert_eq!(cut(text, max), expected, "{text:?} {max}");
        }
    }
}
