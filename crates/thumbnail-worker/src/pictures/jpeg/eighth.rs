//! A baseline JPEG at an eighth of its size, for large photographs: each block of 8 by 8 pixels becomes its mean, which is the
//! first of its coefficients. The other 63 are stepped over without being computed, several with one lookup in a table.
//!
//! Invariant: only what is certain is done here. A file with anything unusual (progressive, several scans, other colours, coded
//! data that ends early or breaks the rules) is left to the general decoder, so that it has one answer at every size.

use super::frame::{Colours, Frame, next_segment};
use super::huffman::{Bits, Broken, Table};
use crate::pictures::pixels::{Layout, Pixels};

/// The parameters that the segments before the scan state.
#[derive(Default)]
struct Parameters<'a> {
    /// The first entry of each quantisation table, by which a mean is multiplied.
    steps: [Option<i32>; 4],
    /// Identifier, sampling factors across and down, quantisation table.
    components: Vec<[u8; 4]>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// Units between two restart markers; 0: there are none.
    restart: usize,
    scan: &'a [u8],
}

/// One component while it is decoded.
struct Plane<'t> {
    across: usize,
    down: usize,
    step: i32,
    dc: &'t Table,
    ac: &'t Table,
    last: i32,
    /// Blocks in a row, padded to whole units.
    width: usize,
    samples: Vec<u8>,
}

/// Decodes `bytes`, or leaves it to the general decoder.
pub(super) fn decode(bytes: &[u8], frame: &Frame) -> Option<Pixels> {
    let usual = matches!(frame.colours, Colours::Grey | Colours::Ycc) && frame.scans.end.is_some() && frame.scans.alone;
    if frame.progressive || !usual {
        return None;
    }
    let mut at = 2;
    let parameters = read_parameters(bytes, &mut at)?;
    let mut planes = allocate_planes(&parameters, frame)?;
    decode_scan(bytes.get(at..)?, &mut planes, &parameters, frame).ok()?;
    Some(to_rgb(&planes, frame))
}

/// Reads the segments up to the scan; nothing when something in them is unusual.
fn read_parameters<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Parameters<'a>> {
    let mut found = Parameters::default();
    loop {
        let (marker, body) = next_segment(bytes, at)?;
        match marker {
            0xC0 | 0xC1 => {
                let parts = body.get(6..)?.chunks_exact(3);
                found.components = parts.map(|part| [part[0], part[1] >> 4, part[1] & 15, part[2]]).collect();
            }
            0xC4 => read_huffman(body, &mut found)?,
            0xDB => read_steps(body, &mut found)?,
            0xDD => found.restart = usize::from(u16::from_be_bytes(body.get(..2)?.try_into().ok()?)),
            0xDA => {
                found.scan = body;
                return Some(found);
            }
            _ => {}
        }
    }
}

fn read_steps(mut body: &[u8], found: &mut Parameters<'_>) -> Option<()> {
    while let Some((head, rest)) = body.split_first() {
        let wide = usize::from(head >> 4 != 0);
        let step = if wide == 1 {
            i32::from(*rest.first()?) << 8 | i32::from(*rest.get(1)?)
        } else {
            i32::from(*rest.first()?)
        };
        *found.steps.get_mut(usize::from(head & 15))? = Some(step);
        body = rest.get(64 << wide..)?;
    }
    Some(())
}

fn read_huffman(mut body: &[u8], found: &mut Parameters<'_>) -> Option<()> {
    while let Some((head, rest)) = body.split_first() {
        let counts: &[u8; 16] = rest.first_chunk()?;
        let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
        let symbols = rest.get(16..16 + total)?;
        let tables = if head >> 4 == 0 { &mut found.dc } else { &mut found.ac };
        *tables.get_mut(usize::from(head & 15))? = Some(Table::new(counts, symbols)?);
        body = &rest[16 + total..];
    }
    Some(())
}

/// The planes of a scan that holds all components at once, in the order of the frame.
fn allocate_planes<'t>(found: &'t Parameters<'_>, frame: &Frame) -> Option<Vec<Plane<'t>>> {
    let count = found.components.len();
    let [stated_count, selectors @ .., first, last, approximation] = found.scan else { return None };
    let whole = (usize::from(*stated_count), *first, *last, *approximation) == (count, 0, 63, 0);
    if !whole || selectors.len() != count * 2 || count != frame.components.len() {
        return None;
    }
    let alone = count == 1;
    let (max_across, max_down) = found.max_sampling(alone);
    let units = (frame.width as usize).div_ceil(8 * max_across);
    let rows = (frame.height as usize).div_ceil(8 * max_down);
    let plane = |(part, selector): (&[u8; 4], &[u8])| {
        let [id, across, down, step] = *part;
        // A component that is alone has one block in a unit, whatever factor it states.
        let (across, down) = if alone { (1, 1) } else { (usize::from(across), usize::from(down)) };
        if selector[0] != id || !(1..=4).contains(&across) || !(1..=4).contains(&down) {
            return None;
        }
        let width = units * across;
        Some(Plane {
            across,
            down,
            step: (*found.steps.get(usize::from(step))?)?,
            dc: found.dc.get(usize::from(selector[1] >> 4))?.as_ref()?,
            ac: found.ac.get(usize::from(selector[1] & 15))?.as_ref()?,
            last: 0,
            width,
            samples: vec![0; width * rows * down],
        })
    };
    found.components.iter().zip(selectors.chunks_exact(2)).map(plane).collect()
}

impl Parameters<'_> {
    /// The largest sampling factors.
    fn max_sampling(&self, alone: bool) -> (usize, usize) {
        let max = |n: usize| {
            if alone { 1 } else { self.components.iter().map(|part| usize::from(part[n])).max().unwrap_or(1) }
        };
        (max(1).max(1), max(2).max(1))
    }
}

/// Reads every block of the scan.
fn decode_scan(
    mut coded: &[u8],
    planes: &mut [Plane<'_>],
    found: &Parameters<'_>,
    frame: &Frame,
) -> Result<(), Broken> {
    let (max_across, max_down) = found.max_sampling(planes.len() == 1);
    let units = (frame.width as usize).div_ceil(8 * max_across);
    let rows = (frame.height as usize).div_ceil(8 * max_down);
    let all = units * rows;
    let every = if found.restart == 0 { all } else { found.restart };
    let (mut done, mut clean, mut restart) = (0, Vec::new(), 0xD0);
    while done < all {
        let marker = unstuff(&mut coded, &mut clean);
        let mut bits = Bits::new(&clean);
        planes.iter_mut().for_each(|plane| plane.last = 0);
        let end = (done + every).min(all);
        for unit in done..end {
            for plane in &mut *planes {
                plane.read_unit(&mut bits, unit % units, unit / units)?;
            }
        }
        done = end;
        if done < all && marker != Some(restart) {
            return Err(Broken::Ended);
        }
        restart = 0xD0 | (restart + 1) & 7;
    }
    Ok(())
}

/// Copies coded data up to the next marker into `clean`, without what was stuffed in; returns the marker and moves behind it.
fn unstuff(coded: &mut &[u8], clean: &mut Vec<u8>) -> Option<u8> {
    clean.clear();
    loop {
        let plain = coded.iter().position(|byte| *byte == 0xFF).unwrap_or(coded.len());
        clean.extend_from_slice(&coded[..plain]);
        let rest = coded.get(plain + 1..).unwrap_or_default();
        let Some((next, after)) = rest.split_first() else {
            *coded = &[];
            return None;
        };
        match next {
            0x00 => {
                clean.push(0xFF);
                *coded = after;
            }
            // Fill bytes before a marker.
            0xFF => *coded = rest,
            marker => {
                *coded = after;
                return Some(*marker);
            }
        }
    }
}

impl Plane<'_> {
    /// Reads this component's blocks of one unit.
    fn read_unit(&mut self, bits: &mut Bits<'_>, column: usize, row: usize) -> Result<(), Broken> {
        for down in 0..self.down {
            for across in 0..self.across {
                self.last = self.last.wrapping_add(self.dc.difference(bits)?);
                self.ac.skip_block(bits)?;
                // The mean of a block is its first coefficient over eight, around 128.
                let mean = (self.last.wrapping_mul(self.step).wrapping_add(4) >> 3).saturating_add(128).clamp(0, 255);
                self.samples[(row * self.down + down) * self.width + column * self.across + across] = mean as u8;
            }
        }
        Ok(())
    }

    /// A row of `count` samples at the size of the result; this plane has `across` samples where the finest has `max.0`, and so on.
    fn upsampled_row(&self, y: usize, max: (usize, usize), count: usize, height: usize) -> Vec<u8> {
        let own = |length: usize, part: usize, max: usize| (length * part).div_ceil(max);
        let (own_width, own_height) = (own(count, self.across, max.0), own(height, self.down, max.1));
        let places = |at: usize, part: usize, max: usize, length: usize| {
            // Centres of samples lie in the middles of what they cover; in 256ths.
            let place = ((2 * at + 1) * part * 128 / max).saturating_sub(128);
            let before = (place / 256).min(length - 1);
            (before, (before + 1).min(length - 1), place % 256)
        };
        let line = |y: usize| &self.samples[y * self.width..][..own_width];
        if (self.across, self.down) == max {
            return line(y).to_vec();
        }
        let (above, below, share) = places(y, self.down, max.1, own_height);
        let mixed: Vec<usize> = line(above)
            .iter()
            .zip(line(below))
            .map(|(a, b)| usize::from(*a) * (256 - share) + usize::from(*b) * share)
            .collect();
        (0..count)
            .map(|x| {
                let (before, after, share) = places(x, self.across, max.0, own_width);
                ((mixed[before] * (256 - share) + mixed[after] * share + (1 << 15)) >> 16) as u8
            })
            .collect()
    }
}

/// The means as RGB: grey as it is, colour by BT.601 in its full range, as JFIF says.
fn to_rgb(planes: &[Plane<'_>], frame: &Frame) -> Pixels {
    let (width, height) = (frame.width.div_ceil(8) as usize, frame.height.div_ceil(8) as usize);
    let max = |n: fn(&Plane<'_>) -> usize| planes.iter().map(n).max().unwrap_or(1);
    let max = (max(|plane| plane.across), max(|plane| plane.down));
    let mut bytes = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        let rows: Vec<Vec<u8>> = planes.iter().map(|plane| plane.upsampled_row(y, max, width, height)).collect();
        match rows.as_slice() {
            [grey] => grey.iter().for_each(|grey| bytes.extend_from_slice(&[*grey; 3])),
            [luma, blue, red] => {
                for ((luma, blue), red) in luma.iter().zip(blue).zip(red) {
                    let luma = (i32::from(*luma) << 16) + 32_768;
                    let (blue, red) = (i32::from(*blue) - 128, i32::from(*red) - 128);
                    let rgb = [luma + 91_881 * red, luma - 22_554 * blue - 46_802 * red, luma + 116_130 * blue];
                    bytes.extend_from_slice(&rgb.map(|value| (value >> 16).clamp(0, 255) as u8));
                }
            }
            _ => {}
        }
    }
    Pixels { width: width as u32, height: height as u32, layout: Layout::Rgb, bytes }
}
