//! The choice of a poster among the frames of a video: brightness, contrast and sharpness of each, and its distance from fades,
//! dissolves and flashes, which only its neighbours show.
//!
//! Invariant: one rule for every decoder. A frame is judged once its neighbours are there; no more full frames are held than that
//! takes, and the best one.

use std::collections::VecDeque;

use super::appearance::Appearance;
use super::brightness::Brightness;

/// Searches for the best frame.
pub(crate) struct Chooser<F> {
    /// How many frames lie between one and the neighbours that it is compared with.
    reach: usize,
    /// What was seen of the frames of the stretch at hand.
    appearances: Vec<Appearance>,
    /// The number of the first of them, in all.
    first: usize,
    /// The frames that are not judged yet, with their places in the stretch.
    pending: VecDeque<(usize, F)>,
    best: Option<Chosen<F>>,
}

/// A frame that was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<F> {
    pub(crate) frame: F,
    /// Which one it is, from 0, of all that were offered.
    pub(super) number: usize,
    pub(super) brightness: Brightness,
    score: f64,
    /// Whether it is a good picture by itself, and not only the best of what there is.
    is_good: bool,
}

/// A later frame must be better by this share: of frames that are alike the first is taken.
const BETTER: f64 = 1.03;
/// From here on a frame is taken for one of a transition, or of a flash.
const PART: f64 = 0.5;

impl<F> Chooser<F> {
    /// A search whose frames are compared with those `reach` before and behind them.
    pub(crate) fn new(reach: usize) -> Self {
        Self { reach, appearances: Vec::new(), first: 0, pending: VecDeque::new(), best: None }
    }

    /// Takes the next frame.
    pub(crate) fn offer(&mut self, appearance: Appearance, frame: F) {
        self.pending.push_back((self.appearances.len(), frame));
        self.appearances.push(appearance);
        while let Some((place, _)) = self.pending.front()
            && place.max(&self.reach) + self.reach < self.appearances.len()
        {
            self.judge_next();
        }
    }

    /// What comes next does not follow on what came before.
    pub(super) fn cut(&mut self) {
        while !self.pending.is_empty() {
            self.judge_next();
        }
        self.first += self.appearances.len();
        self.appearances.clear();
    }

    /// Whether a good frame has been found.
    pub(crate) fn has_good(&self) -> bool {
        self.best.as_ref().is_some_and(|best| best.is_good)
    }

    /// The best frame; nothing when none was offered.
    pub(crate) fn finish(mut self) -> Option<Chosen<F>> {
        self.cut();
        self.best
    }

    fn judge_next(&mut self) {
        let Some((place, frame)) = self.pending.pop_front() else { return };
        let appearance = &self.appearances[place];
        let transition =
            self.triple(place, self.reach).map_or(0.0, |[before, now, after]| transition(before, now, after));
        let flash = [self.reach, self.reach * 3]
            .into_iter()
            .filter_map(|reach| {
                self.triple(place, reach).filter(|_| place >= reach && place + reach < self.appearances.len())
            })
            .map(|[before, now, after]| flash(before, now, after))
            .fold(0.0, f64::max);
        let score = appearance.quality() * (1.0 - 0.9 * transition) * (1.0 - 0.9 * flash);
        let is_good = appearance.is_picture() && transition < PART && flash < PART;
        let better = self.best.as_ref().is_none_or(|best| match (best.is_good, is_good) {
            (true, false) => false,
            (false, true) => true,
            _ => score > best.score * BETTER,
        });
        if better {
            let (number, brightness) = (self.first + place, appearance.brightness);
            self.best = Some(Chosen { frame, number, brightness, score, is_good });
        }
    }

    /// A frame between two neighbours. At the ends of a stretch, where one is missing, the nearest that has both stands for it.
    fn triple(&self, place: usize, reach: usize) -> Option<[&Appearance; 3]> {
        let last = self.appearances.len().checked_sub(1 + reach).filter(|last| *last >= reach)?;
        let middle = place.clamp(reach, last);
        Some([&self.appearances[middle - reach], &self.appearances[middle], &self.appearances[middle + reach]])
    }
}

/// How much a frame is one of a fade or a dissolve, 0 to 1. Those change each point by the same amount from frame to frame, so that
/// it lies in the middle of what it was and will be; what moves does not.
fn transition(before: &Appearance, now: &Appearance, after: &Appearance) -> f64 {
    let (mut changing, mut straight) = (0_u32, 0_u32);
    for ((a, b), c) in before.grid.iter().zip(&now.grid).zip(&after.grid) {
        let [a, b, c] = [*a, *b, *c].map(i32::from);
        let (change, bend) = ((c - a).abs(), (c + a - 2 * b).abs());
        if change > 2 {
            changing += 1;
            // A level is rounding.
            straight += u32::from((bend - 1) * 4 <= change);
        }
    }
    // A still picture, or one of which little moves.
    if changing * 10 < now.grid.len() as u32 * 3 {
        return 0.0;
    }
    f64::from(straight) / f64::from(changing)
}

/// How much a frame stands out from neighbours that are alike, 0 to 1.
fn flash(before: &Appearance, now: &Appearance, after: &Appearance) -> f64 {
    let out = before.distance(now).min(now.distance(after));
    ((out - before.distance(after) - 6.0) / 20.0).clamp(0.0, 1.0)
}
