//! What a decoder and its parent say to each other, over one socket.
//!
//! Invariant: a message has its length in front, and a longer one than its reader allows ends the connection: a parent believes nothing
//! of a decoder that a stranger's file may have taken over. A file goes along as a descriptor, never as a path.

mod failures;

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use crate::{pictures, videos};

pub use failures::Reason;
pub(crate) use failures::{number_of, type_of};

/// The argument that makes a process of this program a decoder; the memory that it may have follows.
pub(crate) const DECODE: &str = "decode";
/// The argument that makes a process of this program another one, confined: memory, program and its arguments follow.
pub(crate) const BECOME: &str = "become";

/// The longest picture that is decoded once it is stored, in bytes, where fewer are taken now: the limit may have been another then.
pub(crate) const STORED_PICTURE: u64 = 20 << 20;
/// The longest message of a decoder, in bytes: the pictures that stand for a video, each of at most 1,024 pixels a side.
pub(crate) const MAX_ANSWER: usize = 16 << 20;
/// The longest message to a decoder.
pub(crate) const MAX_ORDER: usize = 64 << 10;

/// What a decoder can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Work {
    /// Whether a picture is whole, and what it says of itself.
    CheckPicture = 0,
    /// A thumbnail of a picture.
    RenderPicture = 1,
    /// The pictures that stand for a picture.
    Posters = 2,
    /// Whether a video or a sound is whole, and what it says of itself.
    Probe = 3,
    /// What any file says of itself, whole or not.
    Describe = 4,
    /// A thumbnail of a video.
    RenderVideo = 5,
    /// The pictures that stand for a video.
    VideoPosters = 6,
    /// A thumbnail of a frame that another program has decoded.
    RenderFrame = 7,
    /// The pictures that stand for such a frame.
    FramePosters = 8,
}

/// One piece of work.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Order {
    #[prost(enumeration = "Work", tag = "1")]
    pub(crate) work: i32,
    /// Bytes of the file.
    #[prost(uint64, tag = "2")]
    pub(crate) length: u64,
    /// Whether the file comes as a descriptor; else its bytes follow this message.
    #[prost(bool, tag = "3")]
    pub(crate) is_file: bool,
    /// The file's type, by its first bytes.
    #[prost(uint32, tag = "4")]
    pub(crate) media_type: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "6")]
    pub(crate) height: u32,
    #[prost(uint32, tag = "7")]
    pub(crate) quality: u32,
    /// The size of a frame that comes as RGB.
    #[prost(uint32, tag = "10")]
    pub(crate) frame_width: u32,
    #[prost(uint32, tag = "11")]
    pub(crate) frame_height: u32,
    #[prost(message, required, tag = "8")]
    pub(crate) limits: Limits,
    /// The time after which work that asks ends by itself.
    #[prost(uint64, tag = "9")]
    pub(crate) stop_after_ms: u64,
}

/// The limits of pictures and of the search for a poster.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Limits {
    #[prost(uint64, tag = "1")]
    pub(crate) picture_bytes: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) picture_pixels: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) picture_side: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) frame_pixels: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) frames: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) pixels: u64,
}

impl Limits {
    /// The limits of pictures and videos as messages have them.
    pub(crate) fn new(pictures: &pictures::Limits, videos: &videos::Limits) -> Self {
        Self {
            picture_bytes: pictures.bytes,
            picture_pixels: pictures.pixels,
            picture_side: pictures.side,
            frame_pixels: videos.frame_pixels,
            frames: videos.frames as u64,
            pixels: videos.pixels,
        }
    }

    /// How long a stored picture may be was asked when it came.
    pub(crate) fn of_stored(&self) -> Self {
        Self { picture_bytes: self.picture_bytes.max(STORED_PICTURE), ..*self }
    }

    pub(crate) fn pictures(&self) -> pictures::Limits {
        pictures::Limits { bytes: self.picture_bytes, pixels: self.picture_pixels, side: self.picture_side }
    }

    pub(crate) fn videos(&self) -> videos::Limits {
        let frames = usize::try_from(self.frames).unwrap_or(usize::MAX);
        videos::Limits { frame_pixels: self.frame_pixels, frames, pixels: self.pixels }
    }
}

/// A decoder's messages: [`Hello`] first of all, then for each order perhaps its weight, and its end.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Answer {
    #[prost(oneof = "Said", tags = "1, 2, 3, 4, 5")]
    pub(crate) said: Option<Said>,
}

/// What an answer says.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Said {
    /// It is there and confined.
    #[prost(message, tag = "1")]
    Hello(Hello),
    /// Bytes that the work will hold; it begins when the parent has answered with [`BEGIN`].
    #[prost(uint64, tag = "2")]
    Weighs(u64),
    /// The work is done.
    #[prost(message, tag = "3")]
    Done(Done),
    /// It cannot be done, for a reason in the file.
    #[prost(message, tag = "4")]
    Failed(Failure),
    /// It panicked; the text is for the operator.
    #[prost(string, tag = "5")]
    Panicked(String),
}

/// The byte with which a parent gives room to work that was weighed.
pub(crate) const BEGIN: u8 = 1;

/// A decoder at its start.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    /// Bytes of data and of addresses that it has before any work.
    #[prost(uint64, tag = "1")]
    pub(crate) data: u64,
    #[prost(bool, tag = "2")]
    pub(crate) opens_files: bool,
    #[prost(bool, tag = "3")]
    pub(crate) reaches_network: bool,
    #[prost(bool, tag = "4")]
    pub(crate) starts_programs: bool,
    #[prost(bool, tag = "5")]
    pub(crate) inherited_files: bool,
    #[prost(bool, tag = "6")]
    pub(crate) inherited_environment: bool,
}

/// Work that is done.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Done {
    /// Finished files.
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<Finished>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) thumbhash: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub(crate) facts: Option<Facts>,
}

/// A WebP file, and its size in pixels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Finished {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) webp: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) height: u32,
}

/// What a file says of itself.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Facts {
    #[prost(uint32, tag = "1")]
    pub(crate) media_type: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) height: u32,
    #[prost(uint64, tag = "4")]
    pub(crate) duration_ns: u64,
    #[prost(double, tag = "5")]
    pub(crate) frame_rate: f64,
    #[prost(bool, tag = "6")]
    pub(crate) audio: bool,
    #[prost(bool, tag = "7")]
    pub(crate) c2pa: bool,
}

/// A reason in a file, as numbers and texts; `failures` says which ones.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Failure {
    #[prost(uint32, tag = "1")]
    pub(crate) kind: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) subject: u32,
    #[prost(uint64, repeated, tag = "3")]
    pub(crate) numbers: Vec<u64>,
    #[prost(string, tag = "4")]
    pub(crate) detail: String,
}

/// A message with its length in front.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.encoded_len() + 4);
    bytes.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// Writes a message.
pub(crate) fn write(to: &mut impl Write, message: &impl Message) -> io::Result<()> {
    to.write_all(&framed(message))
}

/// Reads a message of at most `max` bytes; nothing at the end of the stream.
pub(crate) fn read<M: Message + Default>(from: &mut impl Read, max: usize) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > max {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    M::decode(&bytes[..]).map(Some).map_err(io::Error::other)
}

/// Sends a file along with one byte.
pub(crate) fn send_file(socket: impl AsFd, file: impl AsFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Takes the file that comes with the next byte.
pub(crate) fn receive_file(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut [0])], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let files = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
