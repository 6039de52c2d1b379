//! A text as lines of a title.
//!
//! Invariant: no line is longer than there is room for, and a text that was cut says so by three dots.

/// Breaks a text into at most `lines` lines of at most `width` characters, at spaces where there are some.
pub(super) fn wrap(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut wrapped = vec![String::new()];
    let mut cut = false;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let full = wrapped.len();
            let line = &mut wrapped[full - 1];
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + rest.len() <= width || (used == 0 && rest.len() > width) {
                line.extend(std::iter::repeat_n(' ', gap));
                line.extend(rest.drain(..rest.len().min(width)));
            } else if full == lines {
                cut = true;
                break;
            } else {
                wrapped.push(String::new());
            }
        }
        if cut {
            break;
        }
    }
    if let Some(last) = wrapped.last_mut().filter(|_| cut) {
        *last = shorten(last, width, true);
    }
    wrapped
}

/// A text of at most `width` characters; where it is `cut`, or too long, three dots are its end.
pub(super) fn shorten(text: &str, width: usize, cut: bool) -> String {
    if !cut && text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}
