//! Writes an MP4 with its index before its samples, so that a player can begin before it has all of it.
//!
//! Invariant: nothing depends on the clock: all times in the file are zero, so equal tracks give equal files. The first track is
//! the one that the movie's own times count by. Several tracks take turns, a second of each.

use std::ops::Range;

/// One encoded frame, of pictures or of sound.
#[derive(Debug)]
pub(super) struct Sample {
    /// Whether playing can begin here.
    pub(super) key: bool,
    /// For H.264, its units, each behind its length in four bytes.
    pub(super) bytes: Vec<u8>,
}

/// One track.
pub(super) struct Track<'a> {
    /// Ticks a second.
    pub(super) scale: u32,
    /// How long it is, in ticks.
    pub(super) length: u32,
    /// How long a sample is, in ticks; the last may be shorter.
    pub(super) step: u32,
    pub(super) samples: &'a [Sample],
    pub(super) media: Media<'a>,
}

/// How a track is coded.
pub(super) enum Media<'a> {
    H264 {
        width: u16,
        height: u16,
        sps: &'a [u8],
        pps: &'a [u8],
    },
    /// One channel of 16 bits.
    Flac {
        /// Its STREAMINFO.
        info: [u8; 34],
    },
}

/// The unity matrix of a track or movie header.
const UPRIGHT: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// The whole file.
pub(super) fn file(tracks: &[Track<'_>]) -> Vec<u8> {
    let mut file = atom(b"ftyp", |body| {
        body.extend_from_slice(b"isom");
        words(body, &[0x200]);
        body.extend_from_slice(b"isomiso2avc1mp41");
    });
    let chunks: Vec<_> = tracks.iter().map(|track| track.chunks(tracks.len() == 1)).collect();
    // The index holds the samples' place, which lies behind it: its length does not depend on what it says.
    let index = movie(tracks, &chunks, 0).len();
    let first = file.len() + index + 8;
    let bytes: usize = tracks.iter().flat_map(|track| track.samples).map(|sample| sample.bytes.len()).sum();
    file.reserve_exact(index + 8 + bytes);
    file.extend(movie(tracks, &chunks, first));
    words(&mut file, &[bytes as u32 + 8]);
    file.extend_from_slice(b"mdat");
    for (track, chunk) in interleaved(&chunks) {
        for sample in &tracks[track].samples[chunk] {
            file.extend_from_slice(&sample.bytes);
        }
    }
    file
}

/// The chunks of all tracks in the order in which they lie in the file, each with the number of its track.
fn interleaved(chunks: &[Vec<Range<usize>>]) -> impl Iterator<Item = (usize, Range<usize>)> {
    let longest = chunks.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(move |n| {
        chunks.iter().enumerate().filter_map(move |(track, chunks)| Some((track, chunks.get(n)?.clone())))
    })
}

fn movie(tracks: &[Track<'_>], chunks: &[Vec<Range<usize>>], first: usize) -> Vec<u8> {
    let mut places = vec![Vec::new(); tracks.len()];
    let mut at = first;
    for (track, chunk) in interleaved(chunks) {
        places[track].push(at as u32);
        at += tracks[track].samples[chunk].iter().map(|sample| sample.bytes.len()).sum::<usize>();
    }
    let (scale, length) = tracks.first().map_or((1, 0), |track| (track.scale, track.length));
    atom(b"moov", |body| {
        body.extend(atom(b"mvhd", |body| {
            words(body, &[0, 0, 0, scale, length, 0x1_0000, 0x0100_0000, 0, 0]);
            words(body, &UPRIGHT);
            words(body, &[0, 0, 0, 0, 0, 0, tracks.len() as u32 + 1]);
        }));
        for (n, track) in tracks.iter().enumerate() {
            body.extend(atom(b"trak", |body| {
                let (volume, size) = match track.media {
                    Media::H264 { width, height, .. } => (0, [u32::from(width) << 16, u32::from(height) << 16]),
                    Media::Flac { .. } => (0x0100_0000, [0, 0]),
                };
                body.extend(atom(b"tkhd", |body| {
                    // Enabled, in the movie, in the preview.
                    words(body, &[7, 0, 0, n as u32 + 1, 0, length, 0, 0, 0, volume]);
                    words(body, &UPRIGHT);
                    words(body, &size);
                }));
                body.extend(track.boxes(&chunks[n], &places[n]));
            }));
        }
    })
}

impl Track<'_> {
    /// The samples that begin in each second; alone in its file, a track is one chunk.
    fn chunks(&self, alone: bool) -> Vec<Range<usize>> {
        if alone {
            return std::iter::once(0..self.samples.len()).collect();
        }
        let mut chunks: Vec<Range<usize>> = Vec::new();
        for sample in 0..self.samples.len() {
            let second = sample * self.step as usize / self.scale as usize;
            match chunks.get_mut(second) {
                Some(chunk) => chunk.end = sample + 1,
                None => chunks.push(sample..sample + 1),
            }
        }
        chunks
    }

    fn boxes(&self, chunks: &[Range<usize>], places: &[u32]) -> Vec<u8> {
        let (handler, header) = match self.media {
            Media::H264 { .. } => (b"vide", atom(b"vmhd", |body| words(body, &[1, 0, 0]))),
            Media::Flac { .. } => (b"soun", atom(b"smhd", |body| words(body, &[0, 0]))),
        };
        atom(b"mdia", |body| {
            // The language is "und".
            body.extend(atom(b"mdhd", |body| words(body, &[0, 0, 0, self.scale, self.length, 0x55C4_0000])));
            body.extend(atom(b"hdlr", |body| {
                words(body, &[0, 0]);
                body.extend_from_slice(handler);
                words(body, &[0, 0, 0]);
                body.extend_from_slice(b"sketch\0");
            }));
            body.extend(atom(b"minf", |body| {
                body.extend(header);
                body.extend(atom(b"dinf", |body| {
                    body.extend(atom(b"dref", |body| {
                        words(body, &[0, 1]);
                        // The samples are in this file.
                        body.extend(atom(b"url ", |body| words(body, &[1])));
                    }));
                }));
                body.extend(self.table(chunks, places));
            }));
        })
    }

    /// Where the samples lie, how long they are and when they come.
    fn table(&self, chunks: &[Range<usize>], places: &[u32]) -> Vec<u8> {
        let count = self.samples.len() as u32;
        atom(b"stbl", |body| {
            body.extend(atom(b"stsd", |body| {
                words(body, &[0, 1]);
                body.extend(self.media.entry(self.scale));
            }));
            body.extend(atom(b"stts", |body| {
                let last = self.length.saturating_sub(count.saturating_sub(1) * self.step);
                if last == self.step {
                    words(body, &[0, 1, count, self.step]);
                } else {
                    words(body, &[0, 2, count - 1, self.step, 1, last]);
                }
            }));
            let keys: Vec<u32> = (1..).zip(self.samples).filter(|(_, sample)| sample.key).map(|(n, _)| n).collect();
            if keys.len() < self.samples.len() {
                body.extend(atom(b"stss", |body| {
                    words(body, &[0, keys.len() as u32]);
                    words(body, &keys);
                }));
            }
            body.extend(atom(b"stsc", |body| {
                let mut runs: Vec<[u32; 3]> = Vec::new();
                for (n, chunk) in (1..).zip(chunks) {
                    if runs.last().is_none_or(|[_, samples, _]| *samples != chunk.len() as u32) {
                        runs.push([n, chunk.len() as u32, 1]);
                    }
                }
                words(body, &[0, runs.len() as u32]);
                runs.iter().for_each(|run| words(body, run));
            }));
            body.extend(atom(b"stsz", |body| {
                words(body, &[0, 0, count]);
                self.samples.iter().for_each(|sample| words(body, &[sample.bytes.len() as u32]));
            }));
            body.extend(atom(b"stco", |body| {
                words(body, &[0, places.len() as u32]);
                words(body, places);
            }));
        })
    }
}

impl Media<'_> {
    /// The sample entry; `scale` is a sound's rate.
    fn entry(&self, scale: u32) -> Vec<u8> {
        match self {
            Self::H264 { width, height, sps, pps } => atom(b"avc1", |body| {
                words(body, &[0, 1, 0, 0, 0, 0]);
                body.extend_from_slice(&width.to_be_bytes());
                body.extend_from_slice(&height.to_be_bytes());
                // 72 dots an inch, one frame a sample.
                words(body, &[0x48_0000, 0x48_0000, 0]);
                body.extend_from_slice(&1_u16.to_be_bytes());
                body.extend_from_slice(&[0; 32]);
                // 24 bits of colour, no palette.
                words(body, &[0x18_FFFF]);
                body.extend(atom(b"avcC", |body| {
                    // Version 1, profile, compatibility, level, lengths of four bytes, one set of each kind.
                    body.extend_from_slice(&[1, sps[1], sps[2], sps[3], 0xFF, 0xE1]);
                    body.extend_from_slice(&(sps.len() as u16).to_be_bytes());
                    body.extend_from_slice(sps);
                    body.push(1);
                    body.extend_from_slice(&(pps.len() as u16).to_be_bytes());
                    body.extend_from_slice(pps);
                }));
                // BT.709, as the frames are.
                body.extend(atom(b"colr", |body| body.extend_from_slice(b"nclx\0\x01\0\x01\0\x01\0")));
            }),
            Self::Flac { info } => atom(b"fLaC", |body| {
                // One channel of 16 bits, and the rate with 16 bits behind the point.
                words(body, &[0, 1, 0, 0, 0x1_0010, 0, scale << 16]);
                body.extend(atom(b"dfLa", |body| {
                    // The last block of metadata, STREAMINFO, with its length.
                    words(body, &[0, 0x8000_0022]);
                    body.extend_from_slice(info);
                }));
            }),
        }
    }
}

fn atom(name: &[u8; 4], fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut whole = vec![0; 4];
    whole.extend_from_slice(name);
    fill(&mut whole);
    let length = whole.len() as u32;
    whole[..4].copy_from_slice(&length.to_be_bytes());
    whole
}

fn words(body: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| body.extend_from_slice(&word.to_be_bytes()));
}
