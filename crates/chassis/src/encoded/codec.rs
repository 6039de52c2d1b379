//! The codec of messages that are encoded already: tonic reads with it what we do not read ourselves.

use std::marker::PhantomData;

use bytes::{BufMut as _, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// A codec that reads messages of type `M` and writes messages that are encoded already.
#[derive(Debug)]
pub struct Codec<M>(PhantomData<fn() -> M>);

impl<M> Default for Codec<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: Message + Default + Send + 'static> tonic::codec::Codec for Codec<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = Verbatim;
    type Decoder = Decode<M>;

    fn encoder(&mut self) -> Verbatim {
        Verbatim
    }

    fn decoder(&mut self) -> Decode<M> {
        Decode(PhantomData)
    }
}

/// Writes bytes as they are.
#[derive(Clone, Copy, Debug)]
pub struct Verbatim;

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

/// Reads messages of type `M`.
#[derive(Debug)]
pub struct Decode<M>(PhantomData<fn() -> M>);

impl<M: Message + Default> Decoder for Decode<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        // The code that tonic's own codec gives to a message that is no message.
        M::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
