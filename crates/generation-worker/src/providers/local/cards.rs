//! The pictures to go by, as cards that lie in a row under the upper bar and move a little.
//!
//! Invariant: cards are laid out by their number and the frame's size alone, and always fit into the frame.

use super::canvas::{Canvas, Colour, Planes};
use super::size::Size;

/// The highest number of cards.
const CARDS: usize = 4;
/// The frame's own colour.
const PAPER: Colour = [0.93, 0.92, 0.88];

/// A picture to go by.
#[derive(Clone, Debug)]
pub(super) enum Card {
    /// It is here, in the size of [`picture_size`].
    Picture(Planes),
    /// Only its name is known: a colour takes its place.
    Named(Colour),
}

/// The size of a card's picture: at most a quarter of the short edge high, and so wide that four fit.
pub(super) fn picture_size(frame: Size) -> Size {
    let height = even(frame.short() / 4);
    let widest = even((frame.width - 2 * margin(frame)) / CARDS - 4 * border(frame));
    Size { width: even(height * 4 / 3).min(widest), height }
}

/// Paints the cards below a bar of this height, at a time in seconds.
pub(super) fn paint(cards: &[Card], canvas: &mut Canvas, frame: Size, bar: usize, time: f32) {
    let (size, border) = (picture_size(frame), border(frame));
    for (n, card) in cards.iter().enumerate() {
        let sway = (time * 1.7 + n as f32 * 1.3).sin() * frame.short() as f32 / 90.0;
        let x = even(margin(frame) + n * (size.width + 4 * border));
        let y = even((bar + frame.short() / 20).saturating_add_signed(sway as isize));
        let outer = Size { width: size.width + 2 * border, height: size.height + 2 * border };
        canvas.fill(x, y, outer, PAPER);
        match card {
            Card::Picture(planes) => canvas.paste(planes, x + border, y + border),
            Card::Named(colour) => canvas.fill(x + border, y + border, size, *colour),
        }
    }
}

fn margin(frame: Size) -> usize {
    even(frame.short() / 15)
}

/// How wide a card's edge is.
fn border(frame: Size) -> usize {
    even(frame.short() / 120).max(2)
}

const fn even(length: usize) -> usize {
    length / 2 * 2
}
