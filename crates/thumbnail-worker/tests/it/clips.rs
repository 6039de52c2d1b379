//! Clips with what makes bad posters (fades, leaders, flashes, blur, dissolves, dark scenes), each with its good frames: never a bad
//! one is chosen, and one of the first third where that has a good one.

use thumbnail_worker::stop::Stop;
use thumbnail_worker::videos::Limits;
use thumbnail_worker::videos::frames::open;

use crate::film::Film;

const WIDTH: usize = 128;
const HEIGHT: usize = 72;

/// A scene of boxes with hard edges on a gradient, one of which moves.
fn scene(number: usize, frame: usize, x: usize, y: usize) -> [f64; 3] {
    let (x, y) = (x as f64, y as f64);
    let moving = (10.0 + frame as f64 * 0.9) % 110.0;
    let inside = |left: f64, top: f64, width: f64, height: f64| {
        (left..left + width).contains(&x) && (top..top + height).contains(&y)
    };
    let mut colour = match number {
        0 => [70.0 + x * 0.6, 90.0 + y * 0.8, 140.0],
        _ => [180.0 - x * 0.7, 110.0, 60.0 + y],
    };
    for n in 0..6 {
        let place = (n * 37 + number * 19) as f64;
        if inside(place % 110.0, (place * 1.7) % 56.0, 14.0, 11.0) {
            colour = [40.0 + 30.0 * n as f64, 200.0 - 25.0 * n as f64, 60.0 + 20.0 * n as f64];
        }
    }
    if inside(moving, 30.0, 16.0, 16.0) {
        colour = [230.0, 220.0, 60.0];
    }
    colour
}

/// The mean of a scene around a place.
fn blurred(number: usize, frame: usize, x: usize, y: usize, radius: f64) -> [f64; 3] {
    if radius < 0.5 {
        return scene(number, frame, x, y);
    }
    let mut sum = [0.0; 3];
    for down in -2..=2 {
        for across in -2..=2 {
            let shift = |at: usize, by: i32, end: usize| {
                (at as f64 + f64::from(by) * radius / 2.0).clamp(0.0, end as f64 - 1.0) as usize
            };
            let part = scene(number, frame, shift(x, across, WIDTH), shift(y, down, HEIGHT));
            (0..3).for_each(|n| sum[n] += part[n] / 25.0);
        }
    }
    sum
}

/// Between two colours: 0 is the first, 1 the second.
fn mix(first: [f64; 3], second: [f64; 3], share: f64) -> [f64; 3] {
    let share = share.clamp(0.0, 1.0);
    std::array::from_fn(|n| first[n] * (1.0 - share) + second[n] * share)
}

/// How far a frame is between two.
fn between(frame: usize, from: usize, to: usize) -> f64 {
    ((frame as f64 - from as f64) / (to as f64 - from as f64)).clamp(0.0, 1.0)
}

const BLACK: [f64; 3] = [0.0; 3];
const WHITE: [f64; 3] = [255.0; 3];

/// What a clip shows at a frame and a place.
type Paint = fn(usize, usize, usize) -> [f64; 3];

/// A clip: what it is, how many frames it has, what they show, and which of them are good.
struct Clip(&'static str, usize, Paint, fn(usize) -> bool);

const CLIPS: [Clip; 22] = [
    Clip("a fade in as long as the third", 72, |n, x, y| mix(BLACK, scene(0, n, x, y), between(n, 0, 24)), |n| n >= 22),
    Clip("a short fade in", 96, |n, x, y| mix(BLACK, scene(0, n, x, y), between(n, 0, 8)), |n| n >= 8),
    Clip("a slow fade in", 240, |n, x, y| mix(BLACK, scene(0, n, x, y), between(n, 0, 60)), |n| n >= 56),
    Clip("a fade in from white", 96, |n, x, y| mix(WHITE, scene(1, n, x, y), between(n, 0, 16)), |n| n >= 15),
    Clip("a black leader", 96, |n, x, y| if n < 24 { BLACK } else { scene(0, n, x, y) }, |n| n >= 24),
    Clip("a white leader", 96, |n, x, y| if n < 24 { WHITE } else { scene(0, n, x, y) }, |n| n >= 24),
    Clip("a grey leader", 96, |n, x, y| if n < 24 { [128.0; 3] } else { scene(1, n, x, y) }, |n| n >= 24),
    Clip(
        "a leader with a title",
        96,
        |n, x, y| match n {
            0..24 if (50..78).contains(&x) && (33..38).contains(&y) => WHITE,
            0..24 => BLACK,
            _ => scene(0, n, x, y),
        },
        |n| n >= 24,
    ),
    Clip(
        "lightning over a dim scene",
        96,
        |n, x, y| scene(0, n, x, y).map(|part| part * if (6..8).contains(&n) { 1.0 } else { 0.4 }),
        |n| !(6..8).contains(&n),
    ),
    Clip(
        "flashes to white that decay",
        96,
        |n, x, y| mix(WHITE, scene(1, n, x, y), between(n % 16, 0, 6)),
        |n| n % 16 >= 6,
    ),
    Clip("a pull of focus", 120, |n, x, y| blurred(0, n, x, y, 9.0 * (1.0 - between(n, 4, 24))), |n| n >= 22),
    Clip(
        "blur in its middle",
        120,
        |n, x, y| blurred(1, n, x, y, if (8..30).contains(&n) { 8.0 } else { 0.0 }),
        |n| !(8..30).contains(&n),
    ),
    Clip("blur for half of the third", 120, |n, x, y| blurred(0, n, x, y, if n < 20 { 8.0 } else { 0.0 }), |n| n >= 20),
    Clip(
        "a dissolve",
        120,
        |n, x, y| mix(scene(0, n, x, y), scene(1, n, x, y), between(n, 10, 34)),
        |n| n <= 10 || n >= 34,
    ),
    Clip(
        "a dissolve from the first frame",
        120,
        |n, x, y| mix(scene(1, n, x, y), scene(0, n, x, y), between(n, 0, 30)),
        |n| n == 0 || n >= 29,
    ),
    Clip(
        "a fade out, and another scene",
        120,
        |n, x, y| if n < 28 { mix(scene(0, n, x, y), BLACK, between(n, 0, 22)) } else { scene(1, n, x, y) },
        |n| n >= 28,
    ),
    Clip(
        "a fade out and in",
        120,
        |n, x, y| {
            let share = if n < 20 { between(n, 4, 16) } else { 1.0 - between(n, 20, 32) };
            mix(if n < 20 { scene(0, n, x, y) } else { scene(1, n, x, y) }, BLACK, share)
        },
        |n| n <= 4 || n >= 32,
    ),
    Clip(
        "a dark scene, and a lit one",
        120,
        |n, x, y| if n < 24 { scene(0, n, x, y).map(|part| part * 0.12) } else { scene(1, n, x, y) },
        |n| n >= 24,
    ),
    Clip(
        "dark throughout, behind a leader",
        96,
        |n, x, y| if n < 12 { BLACK } else { scene(0, n, x, y).map(|part| part * 0.2) },
        |n| n >= 12,
    ),
    Clip(
        "too bright at first",
        120,
        |n, x, y| if n < 20 { scene(0, n, x, y).map(|part| 225.0 + part * 0.12) } else { scene(0, n, x, y) },
        |n| n >= 20,
    ),
    Clip(
        "fog at first",
        120,
        |n, x, y| if n < 20 { scene(0, n, x, y).map(|part| 110.0 + part * 0.15) } else { scene(0, n, x, y) },
        |n| n >= 20,
    ),
    Clip("nothing bad at all", 120, |n, x, y| scene(0, n, x, y), |n| n < 40),
];

#[test]
fn never_a_bad_frame() {
    let mut bad = Vec::new();
    for Clip(what, frames, paint, good) in &CLIPS {
        let film =
            Film::new(WIDTH, HEIGHT).shoot(*frames, |n, x, y| paint(n, x, y).map(|part| part.clamp(0.0, 255.0) as u8));
        let poster = open(&film.file(), &Limits::default()).unwrap().poster(&Stop::default()).unwrap();
        let third = frames / 3;
        let in_third = poster.frame < third || !(0..third.saturating_sub(2)).any(good);
        eprintln!("{what}: frame {} of {frames}", poster.frame);
        if !good(poster.frame) || !in_third {
            bad.push(format!("{what}: frame {}", poster.frame));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_search_that_is_stopped_ends() {
    let film = Film::new(WIDTH, HEIGHT).shoot(24, |_, _, _| [90; 3]);
    let stop = Stop::after(std::time::Duration::ZERO);
    let missing = open(&film.file(), &Limits::default()).unwrap().poster(&stop).unwrap_err();
    assert!(missing.to_string().contains("longer than any may"), "{missing}");
}

#[test]
fn a_long_video_is_searched_by_its_key_frames() {
    // Of 300 frames in the first third, 24 may be decoded: the only good ones begin at the key frame of frame 264.
    let film = Film::new(WIDTH, HEIGHT)
        .shoot(900, |n, x, y| if (264..288).contains(&n) { scene(0, n, x, y).map(|part| part as u8) } else { [3; 3] });
    let limits = Limits { frames: 160, ..Limits::default() };
    let poster = open(&film.file(), &limits).unwrap().poster(&Stop::default()).unwrap();
    assert!(!poster.brightness.is_nearly_black(), "{:?}", poster.brightness);
}
